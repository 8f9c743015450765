/* Checks a plan once, so that no device has to: indices, shapes, types, numbers, and the order in
 * which buffers are written and read. Invariant: a plan that passes can be run for any valid step
 * without a division by zero or a read outside a weight. Plans come from outside files, so that
 * nothing here is an assertion. Derives the plan's dimensions on the way. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/checked.h"
#include "base/limits.h"
#include "plan/plan.h"

struct check {
    struct plan *plan;
    const struct plan_op *op;
    uint32_t index;
    struct llcuda_error *error;
    uint32_t layers_written; /* cache layers 0 … layers_written − 1 have their keys and values */
    uint32_t ready[PLAN_BUFFER_COUNT]; /* width of what the buffer holds now; 0: nothing */
};

BASE_PRINTF(2, 3) static llcuda_status bad(struct check *check, const char *format, ...)
{
    char text[LLCUDA_ERROR_MESSAGE_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return error_set(check->error, LLCUDA_BAD_FORMAT, "plan stage %u (%s, layer %u): %s",
                     check->index, plan_op_name(check->op->kind), check->op->layer, text);
}

/* The weight must be there, with exactly this shape; `rows` 0 accepts any number of rows. */
static llcuda_status check_matrix(struct check *check, const char *role, uint32_t index,
                                  uint64_t rows, uint64_t columns)
{
    if (index >= check->plan->weight_count) {
        return bad(check, "it has no %s weight", role);
    }
    const struct plan_weight *weight = &check->plan->weights[index];
    if ((rows && weight->rows != rows) || weight->rows == 0 || weight->columns != columns) {
        char wanted[24] = "any";
        if (rows) {
            snprintf(wanted, sizeof wanted, "%llu", (unsigned long long)rows);
        }
        return bad(check, "the %s weight '%.*s' is [%llu, %llu], wanted is [%s, %llu]", role,
                   TEXT_ARGUMENTS(weight->name), (unsigned long long)weight->rows,
                   (unsigned long long)weight->columns, wanted, (unsigned long long)columns);
    }
    return LLCUDA_OK;
}

static bool is_float(const struct plan_weight *weight)
{
    return dtype_info(weight->dtype)->block_elements == 1;
}

static uint32_t larger(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

static llcuda_status check_vector(struct check *check, const char *role, uint32_t index,
                                  uint64_t elements, bool required)
{
    if (index == PLAN_NONE && !required) {
        return LLCUDA_OK;
    }
    llcuda_status status = check_matrix(check, role, index, 1, elements);
    if (status != LLCUDA_OK) {
        return status;
    }
    const struct plan_weight *weight = &check->plan->weights[index];
    if (!is_float(weight)) {
        return bad(check, "the %s weight '%.*s' is a vector of type %s, wanted is f32, f16 or bf16",
                   role, TEXT_ARGUMENTS(weight->name), dtype_info(weight->dtype)->name);
    }
    return LLCUDA_OK;
}

static llcuda_status check_number(struct check *check, const char *what, float value,
                                  bool zero_allowed)
{
    if (!isfinite(value) || (value == 0 && !zero_allowed)) {
        return bad(check, "%s is %g", what, (double)value);
    }
    return LLCUDA_OK;
}

static llcuda_status check_epsilon(struct check *check, float epsilon)
{
    if (!(epsilon > 0 && epsilon < 1)) {
        return bad(check, "the epsilon of a norm is %g, wanted is a number between 0 and 1",
                   (double)epsilon);
    }
    return LLCUDA_OK;
}

static llcuda_status check_norm(struct check *check, const struct plan_norm *norm)
{
    uint64_t width = check->plan->embedding_length;
    llcuda_status status = check_vector(check, "norm", norm->weight, width, true);
    if (status == LLCUDA_OK) {
        status = check_vector(check, "norm bias", norm->bias, width, false);
    }
    if (status == LLCUDA_OK && norm->kind != PLAN_NORM_RMS && norm->kind != PLAN_NORM_LAYER) {
        status = bad(check, "it has a norm of unknown kind %d", (int)norm->kind);
    }
    if (status == LLCUDA_OK && norm->kind == PLAN_NORM_RMS && norm->bias != PLAN_NONE) {
        status = bad(check, "an RMS norm has no bias");
    }
    if (status == LLCUDA_OK) {
        status = check_number(check, "the weight offset of a norm", norm->weight_offset, true);
    }
    return status == LLCUDA_OK ? check_epsilon(check, norm->epsilon) : status;
}

static llcuda_status check_heads(struct check *check, uint32_t head_count, uint32_t kv_head_count,
                                 uint32_t head_size)
{
    if (head_count < 1 || head_count > LIMIT_HEAD_COUNT || kv_head_count < 1 ||
        head_count % kv_head_count != 0) {
        return bad(check, "%u query heads do not share %u key-value heads evenly", head_count,
                   kv_head_count);
    }
    if (head_size < 1 || head_size > LIMIT_HEAD_SIZE) {
        return bad(check, "the head size %u is outside 1 … %u", head_size, LIMIT_HEAD_SIZE);
    }
    struct plan *plan = check->plan;
    if (plan->kv_head_count == 0) {
        plan->kv_head_count = kv_head_count;
        plan->head_size = head_size;
    }
    if (plan->kv_head_count != kv_head_count || plan->head_size != head_size) {
        return bad(check, "%u key-value heads of size %u; earlier layers have %u of size %u",
                   kv_head_count, head_size, plan->kv_head_count, plan->head_size);
    }
    return LLCUDA_OK;
}

static llcuda_status check_embed(struct check *check)
{
    struct plan *plan = check->plan;
    uint32_t index = check->op->embed.weight;
    if (check->index != 0 || plan->takes_residual) {
        return bad(check, "only the first stage may embed");
    }
    if (index >= plan->weight_count) {
        return bad(check, "it has no embedding weight");
    }
    const struct plan_weight *weight = &plan->weights[index];
    if (weight->columns < 1 || weight->columns > LIMIT_EMBEDDING_LENGTH || weight->rows < 1 ||
        weight->rows > LIMIT_VOCABULARY_TOKENS) {
        return bad(check, "the embedding '%.*s' is [%llu, %llu], at most [%u, %u] is possible",
                   TEXT_ARGUMENTS(weight->name), (unsigned long long)weight->rows,
                   (unsigned long long)weight->columns, LIMIT_VOCABULARY_TOKENS,
                   LIMIT_EMBEDDING_LENGTH);
    }
    plan->embedding_length = (uint32_t)weight->columns;
    plan->vocabulary_size = (uint32_t)weight->rows;
    check->ready[PLAN_BUFFER_RESIDUAL] = plan->embedding_length;
    return check_number(check, "the scale", check->op->embed.scale, false);
}

static llcuda_status check_rotary(struct check *check)
{
    const struct plan_op *op = check->op;
    if (op->qkv.rotary == PLAN_ROTARY_NONE) {
        return LLCUDA_OK;
    }
    if (op->qkv.rotary != PLAN_ROTARY_INTERLEAVED && op->qkv.rotary != PLAN_ROTARY_HALF) {
        return bad(check, "it has a rotary layout of unknown kind %d", (int)op->qkv.rotary);
    }
    uint32_t size = op->qkv.rotary_size;
    if (size < 2 || size % 2 != 0 || size > op->qkv.head_size) {
        return bad(check, "the rotary size %u is not even, or not between 2 and the head size %u",
                   size, op->qkv.head_size);
    }
    if (op->qkv.rotary_table >= check->plan->rotary_table_count) {
        return bad(check, "it has no rotary table");
    }
    const struct plan_rotary_table *table = &check->plan->rotary_tables[op->qkv.rotary_table];
    if (table->size != size) {
        return bad(check, "its rotary table is for size %u, wanted is %u", table->size, size);
    }
    for (uint32_t i = 0; i < size / 2; i++) {
        if (!isfinite(table->frequencies[i])) {
            return bad(check, "rotary frequency %u is not finite", i);
        }
    }
    return check_number(check, "the rotary magnitude", table->magnitude, false);
}

static llcuda_status check_qkv(struct check *check)
{
    const struct plan_op *op = check->op;
    llcuda_status status =
        check_heads(check, op->qkv.head_count, op->qkv.kv_head_count, op->qkv.head_size);
    if (status != LLCUDA_OK) {
        return status;
    }
    if (op->layer != check->layers_written) {
        return bad(check, "it writes the cache of layer %u, wanted is layer %u", op->layer,
                   check->layers_written);
    }
    uint64_t width = check->plan->embedding_length;
    uint64_t query_width = (uint64_t)op->qkv.head_count * op->qkv.head_size;
    uint64_t key_width = (uint64_t)op->qkv.kv_head_count * op->qkv.head_size;
    const struct {
        const char *role;
        uint32_t weight;
        uint64_t rows, columns;
    } matrices[] = {{"query", op->qkv.query, query_width, width},
                    {"key", op->qkv.key, key_width, width},
                    {"value", op->qkv.value, key_width, width}},
      vectors[] = {{"query bias", op->qkv.query_bias, 1, query_width},
                   {"key bias", op->qkv.key_bias, 1, key_width},
                   {"value bias", op->qkv.value_bias, 1, key_width},
                   {"query norm", op->qkv.query_norm, 1, op->qkv.head_size},
                   {"key norm", op->qkv.key_norm, 1, op->qkv.head_size}};
    status = check_norm(check, &op->qkv.norm);
    for (size_t i = 0; status == LLCUDA_OK && i < sizeof matrices / sizeof *matrices; i++) {
        status = check_matrix(check, matrices[i].role, matrices[i].weight, matrices[i].rows,
                              matrices[i].columns);
    }
    for (size_t i = 0; status == LLCUDA_OK && i < sizeof vectors / sizeof *vectors; i++) {
        status = check_vector(check, vectors[i].role, vectors[i].weight, vectors[i].columns, false);
    }
    if (status == LLCUDA_OK && (op->qkv.query_norm != PLAN_NONE || op->qkv.key_norm != PLAN_NONE)) {
        status = check_epsilon(check, op->qkv.head_norm_epsilon);
        if (status == LLCUDA_OK) {
            status = check_number(check, "the weight offset of the head norms",
                                  op->qkv.head_norm_weight_offset, true);
        }
    }
    check->layers_written++;
    check->ready[PLAN_BUFFER_QUERY] = (uint32_t)query_width;
    return status == LLCUDA_OK ? check_rotary(check) : status;
}

static llcuda_status check_attention(struct check *check)
{
    const struct plan_op *op = check->op;
    llcuda_status status = check_heads(check, op->attention.head_count, op->attention.kv_head_count,
                                       op->attention.head_size);
    if (status != LLCUDA_OK) {
        return status;
    }
    uint64_t query_width = (uint64_t)op->attention.head_count * op->attention.head_size;
    if (check->ready[PLAN_BUFFER_QUERY] != query_width) {
        return bad(check, "it reads queries of width %llu; there are queries of width %u",
                   (unsigned long long)query_width, check->ready[PLAN_BUFFER_QUERY]);
    }
    if (op->layer >= check->layers_written) {
        return bad(check, "no stage before it writes the cache of layer %u", op->layer);
    }
    status = check_number(check, "the scale", op->attention.scale, false);
    if (status == LLCUDA_OK && !(op->attention.soft_cap >= 0 && op->attention.soft_cap < 1e9f)) {
        status = bad(check, "the soft cap is %g", (double)op->attention.soft_cap);
    }
    if (status == LLCUDA_OK) {
        status = check_vector(check, "sinks", op->attention.sinks, op->attention.head_count, false);
    }
    check->ready[PLAN_BUFFER_QUERY] = 0;
    check->ready[PLAN_BUFFER_ATTENDED] = (uint32_t)query_width;
    return status;
}

static llcuda_status check_project(struct check *check)
{
    const struct plan_op *op = check->op;
    enum plan_buffer input = op->project.input;
    if (input != PLAN_BUFFER_ATTENDED && input != PLAN_BUFFER_HIDDEN) {
        return bad(check, "it reads buffer %d, which cannot be projected", (int)input);
    }
    if (check->ready[input] == 0) {
        return bad(check, "nothing before it has filled the buffer that it reads");
    }
    uint64_t width = check->plan->embedding_length;
    llcuda_status status =
        check_matrix(check, "projection", op->project.weight, width, check->ready[input]);
    if (status == LLCUDA_OK) {
        status = check_vector(check, "bias", op->project.bias, width, false);
    }
    if (status == LLCUDA_OK && op->project.norm.weight != PLAN_NONE) {
        status = check_norm(check, &op->project.norm);
    }
    check->ready[input] = 0;
    return status;
}

static llcuda_status check_feed_forward(struct check *check)
{
    const struct plan_op *op = check->op;
    uint64_t width = check->plan->embedding_length;
    llcuda_status status = check_norm(check, &op->feed_forward.norm);
    if (status == LLCUDA_OK) {
        status = check_matrix(check, "up", op->feed_forward.up, 0, width);
    }
    if (status != LLCUDA_OK) {
        return status;
    }
    const struct plan_weight *up = &check->plan->weights[op->feed_forward.up];
    if (up->rows > LIMIT_FEED_FORWARD_LENGTH) {
        return bad(check, "the up weight '%.*s' has %llu rows, at most %u are possible",
                   TEXT_ARGUMENTS(up->name), (unsigned long long)up->rows,
                   LIMIT_FEED_FORWARD_LENGTH);
    }
    bool gated = op->feed_forward.gate != PLAN_NONE;
    if (gated) {
        status = check_matrix(check, "gate", op->feed_forward.gate, up->rows, width);
    } else if (op->feed_forward.gate_bias != PLAN_NONE) {
        status = bad(check, "it has a gate bias and no gate");
    }
    if (status == LLCUDA_OK) {
        status = check_vector(check, "gate bias", op->feed_forward.gate_bias, up->rows, false);
    }
    if (status == LLCUDA_OK) {
        status = check_vector(check, "up bias", op->feed_forward.up_bias, up->rows, false);
    }
    if (status == LLCUDA_OK && (unsigned)op->feed_forward.activation > PLAN_GELU_ERF) {
        status =
            bad(check, "it has an activation of unknown kind %d", (int)op->feed_forward.activation);
    }
    check->ready[PLAN_BUFFER_HIDDEN] = (uint32_t)up->rows;
    return status;
}

static llcuda_status check_table(struct check *check, const char *role, uint32_t index,
                                 uint64_t rows, uint64_t columns)
{
    if (index == PLAN_NONE) {
        return LLCUDA_OK;
    }
    llcuda_status status = check_matrix(check, role, index, rows, columns);
    if (status == LLCUDA_OK && !is_float(&check->plan->weights[index])) {
        status = bad(check, "the %s '%.*s' are of type %s, wanted is f32, f16 or bf16", role,
                     TEXT_ARGUMENTS(check->plan->weights[index].name),
                     dtype_info(check->plan->weights[index].dtype)->name);
    }
    return status;
}

/* One matrix an expert: all of one shape and type, so that a device finds them by their numbers. */
static llcuda_status check_expert_matrices(struct check *check, const char *role, uint32_t first,
                                           uint64_t rows, uint64_t columns)
{
    const struct plan *plan = check->plan;
    uint32_t count = check->op->experts.expert_count;
    if (first >= plan->weight_count || plan->weight_count - first < count) {
        return bad(check, "it has no %s weights of %u experts", role, count);
    }
    for (uint32_t i = 0; i < count; i++) {
        llcuda_status status = check_matrix(check, role, first + i, rows, columns);
        if (status != LLCUDA_OK) {
            return status;
        }
        const struct plan_weight *weight = &plan->weights[first + i];
        if (weight->dtype != plan->weights[first].dtype) {
            return bad(check, "the %s weight '%.*s' is of type %s, that of the first expert of %s",
                       role, TEXT_ARGUMENTS(weight->name), dtype_info(weight->dtype)->name,
                       dtype_info(plan->weights[first].dtype)->name);
        }
    }
    return LLCUDA_OK;
}

static llcuda_status check_shared(struct check *check)
{
    const struct plan_op *op = check->op;
    uint64_t width = check->plan->embedding_length;
    bool has_shared = op->experts.shared_up != PLAN_NONE;
    if (!has_shared && (op->experts.shared_gate & op->experts.shared_down &
                        op->experts.shared_router) != PLAN_NONE) {
        return bad(check, "it has parts of a shared expert and no up weight");
    }
    if (!has_shared) {
        return LLCUDA_OK;
    }
    llcuda_status status = check_matrix(check, "shared up", op->experts.shared_up, 0, width);
    if (status != LLCUDA_OK) {
        return status;
    }
    uint64_t rows = check->plan->weights[op->experts.shared_up].rows;
    if (rows > LIMIT_FEED_FORWARD_LENGTH) {
        return bad(check, "the shared expert is %llu wide, at most %u is possible",
                   (unsigned long long)rows, LIMIT_FEED_FORWARD_LENGTH);
    }
    status = check_matrix(check, "shared gate", op->experts.shared_gate, rows, width);
    if (status == LLCUDA_OK) {
        status = check_matrix(check, "shared down", op->experts.shared_down, width, rows);
    }
    if (status == LLCUDA_OK) {
        status = check_vector(check, "shared router", op->experts.shared_router, width, false);
    }
    check->plan->shared_width = larger(check->plan->shared_width, (uint32_t)rows);
    return status;
}

static llcuda_status check_routing(struct check *check)
{
    const struct plan_op *op = check->op;
    uint32_t count = op->experts.expert_count;
    uint32_t used = op->experts.used_count;
    if (count < 1 || count > LIMIT_EXPERT_COUNT || used < 1 || used > count ||
        used > LIMIT_EXPERTS_USED) {
        return bad(check, "%u of %u experts: at most %u of %u are possible", used, count,
                   LIMIT_EXPERTS_USED, LIMIT_EXPERT_COUNT);
    }
    if (op->experts.scoring != PLAN_SCORING_SOFTMAX &&
        op->experts.scoring != PLAN_SCORING_SIGMOID) {
        return bad(check, "it has a scoring of unknown kind %d", (int)op->experts.scoring);
    }
    llcuda_status status =
        check_matrix(check, "router", op->experts.router, count, check->plan->embedding_length);
    if (status == LLCUDA_OK) {
        status = check_vector(check, "router bias", op->experts.router_bias, count, false);
    }
    if (status == LLCUDA_OK) {
        status = check_vector(check, "choice bias", op->experts.selection_bias, count, false);
    }
    check->plan->expert_count = larger(check->plan->expert_count, count);
    check->plan->used_count = larger(check->plan->used_count, used);
    return status == LLCUDA_OK
               ? check_number(check, "the scale of the experts", op->experts.scale, false)
               : status;
}

static llcuda_status check_experts(struct check *check)
{
    const struct plan_op *op = check->op;
    uint64_t width = check->plan->embedding_length;
    uint32_t count = op->experts.expert_count;
    llcuda_status status = check_norm(check, &op->experts.norm);
    if (status == LLCUDA_OK) {
        status = check_routing(check);
    }
    if (status == LLCUDA_OK) {
        status = check_expert_matrices(check, "up", op->experts.up, 0, width);
    }
    if (status != LLCUDA_OK) {
        return status;
    }
    uint64_t rows = check->plan->weights[op->experts.up].rows;
    if (rows > LIMIT_FEED_FORWARD_LENGTH) {
        return bad(check, "the experts are %llu wide, at most %u is possible",
                   (unsigned long long)rows, LIMIT_FEED_FORWARD_LENGTH);
    }
    check->plan->expert_width = larger(check->plan->expert_width, (uint32_t)rows);
    status = check_expert_matrices(check, "up", op->experts.up, rows, width);
    if (status == LLCUDA_OK) {
        status = check_expert_matrices(check, "gate", op->experts.gate, rows, width);
    }
    if (status == LLCUDA_OK) {
        status = check_expert_matrices(check, "down", op->experts.down, width, rows);
    }
    if (status == LLCUDA_OK) {
        status = check_table(check, "gate biases", op->experts.gate_bias, count, rows);
    }
    if (status == LLCUDA_OK) {
        status = check_table(check, "up biases", op->experts.up_bias, count, rows);
    }
    if (status == LLCUDA_OK) {
        status = check_table(check, "down biases", op->experts.down_bias, count, width);
    }
    if (status == LLCUDA_OK && (unsigned)op->experts.activation > PLAN_SWIGLU_CLAMPED) {
        status = bad(check, "it has an activation of unknown kind %d", (int)op->experts.activation);
    }
    return status == LLCUDA_OK ? check_shared(check) : status;
}

static llcuda_status check_logits(struct check *check)
{
    const struct plan_op *op = check->op;
    const struct plan *plan = check->plan;
    if (check->index + 1 != plan->op_count || plan->gives_residual) {
        return bad(check, "only the last stage may give logits");
    }
    llcuda_status status = check_norm(check, &op->logits.norm);
    if (status == LLCUDA_OK) {
        status = check_matrix(check, "output", op->logits.weight, plan->vocabulary_size,
                              plan->embedding_length);
    }
    if (status == LLCUDA_OK) {
        status = check_vector(check, "bias", op->logits.bias, plan->vocabulary_size, false);
    }
    if (status == LLCUDA_OK) {
        status = check_number(check, "the scale", op->logits.scale, false);
    }
    if (status == LLCUDA_OK && !(op->logits.soft_cap >= 0 && op->logits.soft_cap < 1e9f)) {
        status = bad(check, "the soft cap is %g", (double)op->logits.soft_cap);
    }
    check->ready[PLAN_BUFFER_LOGITS] = plan->vocabulary_size;
    return status;
}

static llcuda_status check_op(struct check *check)
{
    if (check->op->kind != PLAN_EMBED && check->ready[PLAN_BUFFER_RESIDUAL] == 0) {
        return bad(check, "the first stage must embed");
    }
    switch (check->op->kind) {
    case PLAN_EMBED:
        return check_embed(check);
    case PLAN_QKV:
        return check_qkv(check);
    case PLAN_ATTENTION:
        return check_attention(check);
    case PLAN_PROJECT:
        return check_project(check);
    case PLAN_FEED_FORWARD:
        return check_feed_forward(check);
    case PLAN_EXPERTS:
        return check_experts(check);
    case PLAN_LOGITS:
        return check_logits(check);
    case PLAN_OP_KIND_COUNT:
        break;
    }
    return bad(check, "its kind %d is unknown", (int)check->op->kind);
}

/* Each weight's own arithmetic, before any stage looks at it. */
static llcuda_status check_weights(struct plan *plan, struct llcuda_error *error)
{
    uint64_t parameters = 0;
    for (uint32_t i = 0; i < plan->weight_count; i++) {
        const struct plan_weight *weight = &plan->weights[i];
        uint64_t row_bytes;
        uint64_t bytes;
        uint64_t elements;
        if ((unsigned)weight->dtype >= DTYPE_COUNT ||
            !dtype_row_bytes(weight->dtype, weight->columns, &row_bytes) ||
            !checked_mul_u64(row_bytes, weight->rows, &bytes) || bytes != weight->bytes ||
            !checked_mul_u64(weight->rows, weight->columns, &elements) ||
            !checked_add_u64(parameters, elements, &parameters)) {
            return error_set(
                error, LLCUDA_BAD_FORMAT, "weight '%.*s' [%llu, %llu] does not fit its %llu bytes",
                TEXT_ARGUMENTS(weight->name), (unsigned long long)weight->rows,
                (unsigned long long)weight->columns, (unsigned long long)weight->bytes);
        }
    }
    plan->parameter_count = parameters;
    return LLCUDA_OK;
}

static llcuda_status check_whole(struct check *check)
{
    struct plan *plan = check->plan;
    if (plan->op_count == 0 ||
        (!plan->gives_residual && plan->ops[plan->op_count - 1].kind != PLAN_LOGITS)) {
        return error_set(check->error, LLCUDA_BAD_FORMAT,
                         "a plan must begin with an embed stage and end with a logits stage");
    }
    if (plan->layer_count < 1 || plan->layer_count > LIMIT_LAYER_COUNT) {
        return error_set(check->error, LLCUDA_BAD_FORMAT, "%u layers, wanted are 1 … %u",
                         plan->layer_count, LIMIT_LAYER_COUNT);
    }
    if (plan->context_length < 1 || plan->context_length > LIMIT_CONTEXT_LENGTH) {
        return error_set(check->error, LLCUDA_BAD_FORMAT, "the context length %u is outside 1 … %u",
                         plan->context_length, LIMIT_CONTEXT_LENGTH);
    }
    return LLCUDA_OK;
}

static uint32_t last_cache_op(const struct plan *plan)
{
    uint32_t last = PLAN_NONE;
    for (uint32_t i = 0; i < plan->op_count && !plan->gives_residual; i++) {
        last = plan->ops[i].kind == PLAN_QKV ? i : last;
    }
    return last;
}

llcuda_status plan_finish(struct plan *plan, struct llcuda_error *error)
{
    if (plan->out_of_memory) {
        return error_set(error, LLCUDA_OUT_OF_MEMORY, "not enough memory for the plan of a model");
    }
    llcuda_status status = check_weights(plan, error);
    if (status != LLCUDA_OK) {
        return status;
    }
    plan->kv_head_count = 0;
    plan->head_size = 0;
    plan->expert_count = plan->used_count = plan->expert_width = plan->shared_width = 0;
    memset(plan->width, 0, sizeof plan->width);
    struct check check = {.plan = plan, .error = error};
    check.ready[PLAN_BUFFER_RESIDUAL] = plan->takes_residual ? plan->embedding_length : 0;
    for (uint32_t i = 0; i < plan->op_count; i++) {
        check.op = &plan->ops[i];
        check.index = i;
        status = check_op(&check);
        if (status != LLCUDA_OK) {
            return status;
        }
        for (int b = 0; b < PLAN_BUFFER_COUNT; b++) {
            plan->width[b] = check.ready[b] > plan->width[b] ? check.ready[b] : plan->width[b];
        }
    }
    plan->layer_count = check.layers_written;
    plan->last_cache_op = last_cache_op(plan);
    return check_whole(&check);
}
