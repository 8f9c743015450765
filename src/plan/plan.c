/* Owns the life of a plan and what is added to it. Invariants: arrays grow by doubling inside the
 * plan's arena, so that everything goes at once; the first failed add is remembered and reported by
 * plan_finish. One owner, one thread while building; a finished plan is read-only and may be read
 * from any thread. Knows no model and no file. */
#include "plan/plan.h"
#include "tensor/quant.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#define CAPACITY_FIRST 32u

struct plan *plan_create(void)
{
    struct plan *plan = calloc(1, sizeof *plan);
    if (plan) {
        arena_init(&plan->arena, 0);
    }
    return plan;
}

void plan_destroy(struct plan *plan)
{
    if (plan) {
        arena_deinit(&plan->arena);
        free(plan);
    }
}

/* Room for one item more: returns the array, moved when it was full, or NULL. */
static void *reserve(struct plan *plan, void *items, uint32_t count, uint32_t *capacity,
                     size_t item_bytes)
{
    if (count < *capacity) {
        return items;
    }
    if (count >= PLAN_NONE / 2) {
        plan->out_of_memory = true;
        return NULL;
    }
    uint32_t larger = count ? count * 2 : CAPACITY_FIRST;
    void *moved = arena_alloc(&plan->arena, larger, item_bytes);
    if (!moved) {
        plan->out_of_memory = true;
        return NULL;
    }
    if (count) {
        memcpy(moved, items, count * item_bytes);
    }
    *capacity = larger;
    return moved;
}

static struct text_view copy_name(struct plan *plan, const struct tensor *tensor,
                                  uint64_t row_begin, uint64_t rows, bool whole)
{
    if (whole) {
        return arena_copy_text(&plan->arena, tensor->name);
    }
    char text[256];
    snprintf(text, sizeof text, "%.*s[%llu:%llu]", TEXT_ARGUMENTS(tensor->name),
             (unsigned long long)row_begin, (unsigned long long)(row_begin + rows));
    return arena_copy_text(&plan->arena, text_view_of(text));
}

uint32_t plan_add_weight(struct plan *plan, const struct tensor *tensor, uint64_t row_begin,
                         uint64_t rows)
{
    assert(tensor->rank == 1 || tensor->rank == 2);
    uint64_t row_count = tensor->shape[0];
    assert(row_begin <= row_count && rows <= row_count - row_begin);
    bool whole = rows == row_count;
    struct plan_weight weight = {.dtype = tensor->dtype};
    uint64_t skipped_bytes = 0;
    if (tensor->rank == 1) {
        assert(whole || dtype_info(tensor->dtype)->block_elements == 1);
        weight.rows = 1;
        weight.columns = rows;
        weight.bytes = whole ? tensor->bytes : rows * dtype_info(tensor->dtype)->block_bytes;
        skipped_bytes = row_begin * dtype_info(tensor->dtype)->block_bytes;
    } else {
        uint64_t row_bytes = row_count ? tensor->bytes / row_count : 0;
        weight.rows = rows;
        weight.columns = tensor->shape[1];
        weight.bytes = rows * row_bytes;
        skipped_bytes = row_begin * row_bytes;
    }
    if (tensor->data) {
        weight.data = (const unsigned char *)tensor->data + skipped_bytes;
    }
    weight.name = copy_name(plan, tensor, row_begin, rows, whole);
    struct plan_weight *weights =
        reserve(plan, plan->weights, plan->weight_count, &plan->weight_capacity, sizeof *weights);
    if (!weights || !weight.name.data) {
        plan->out_of_memory = true;
        return PLAN_NONE;
    }
    plan->weights = weights;
    weights[plan->weight_count] = weight;
    return plan->weight_count++;
}

llcuda_status plan_set_scales(struct plan *plan, uint32_t index, const struct tensor *scales,
                              const uint64_t block[2], struct llcuda_error *error)
{
    struct plan_weight *weight = &plan->weights[index];
    uint64_t count = tensor_elements(scales);
    uint64_t blocks[2] = {0, 0};
    if (block[0] != 0 && block[1] != 0) {
        blocks[0] = (weight->rows - 1) / block[0] + 1;
        blocks[1] = (weight->columns - 1) / block[1] + 1;
    }
    bool is_float =
        dtype_info(scales->dtype)->block_elements == 1 && scales->dtype != DTYPE_F8_E4M3;
    struct plan_scales found = {.data = scales->data, .dtype = scales->dtype, .columns = 1};
    if (is_float && count == 1) {
        found.rows_each = weight->rows;
        found.columns_each = weight->columns;
    } else if (is_float && count == weight->rows && scales->shape[0] == weight->rows) {
        found.rows_each = 1;
        found.columns_each = weight->columns;
    } else if (is_float && scales->rank == 2 && blocks[0] != 0 && scales->shape[0] == blocks[0] &&
               scales->shape[1] == blocks[1]) {
        found.rows_each = block[0];
        found.columns_each = block[1];
        found.columns = blocks[1];
    } else {
        return error_set(error, LLCUDA_BAD_FORMAT,
                         "the scales '%.*s' of type %s do not fit the weight '%.*s' [%llu, %llu]",
                         TEXT_ARGUMENTS(scales->name), dtype_info(scales->dtype)->name,
                         TEXT_ARGUMENTS(weight->name), (unsigned long long)weight->rows,
                         (unsigned long long)weight->columns);
    }
    weight->scales = found;
    return LLCUDA_OK;
}

float plan_weight_scale(const struct plan_weight *weight, uint64_t row, uint64_t column)
{
    const struct plan_scales *scales = &weight->scales;
    float scale = 1;
    if (scales->data) {
        uint64_t at = row / scales->rows_each * scales->columns + column / scales->columns_each;
        dequantize_row(scales->dtype,
                       (const unsigned char *)scales->data +
                           at * dtype_info(scales->dtype)->block_bytes,
                       &scale, 1);
    }
    return scale;
}

void plan_weight_row(const struct plan_weight *weight, uint64_t row, float *out)
{
    uint64_t row_bytes = weight->bytes / weight->rows;
    dequantize_row(weight->dtype, (const unsigned char *)weight->data + row * row_bytes, out,
                   weight->columns);
    if (!weight->scales.data) {
        return;
    }
    for (uint64_t begin = 0; begin < weight->columns; begin += weight->scales.columns_each) {
        float scale = plan_weight_scale(weight, row, begin);
        uint64_t rest = weight->columns - begin;
        uint64_t count = rest < weight->scales.columns_each ? rest : weight->scales.columns_each;
        for (uint64_t i = 0; i < count; i++) {
            out[begin + i] *= scale;
        }
    }
}

uint32_t plan_add_rotary_table(struct plan *plan, const float *frequencies, uint32_t size,
                               float magnitude)
{
    struct plan_rotary_table *tables = reserve(plan, plan->rotary_tables, plan->rotary_table_count,
                                               &plan->rotary_table_capacity, sizeof *tables);
    float *copy = arena_alloc(&plan->arena, size / 2, sizeof *copy);
    if (!tables || !copy) {
        plan->out_of_memory = true;
        return PLAN_NONE;
    }
    memcpy(copy, frequencies, size / 2 * sizeof *copy);
    plan->rotary_tables = tables;
    tables[plan->rotary_table_count] = (struct plan_rotary_table){copy, size, magnitude};
    return plan->rotary_table_count++;
}

static const struct plan_norm no_norm = {.weight = PLAN_NONE, .bias = PLAN_NONE};

static void clear_weights(struct plan_op *op)
{
    switch (op->kind) {
    case PLAN_EMBED:
        op->embed.weight = PLAN_NONE;
        break;
    case PLAN_QKV:
        op->qkv.norm = no_norm;
        op->qkv.query = op->qkv.key = op->qkv.value = PLAN_NONE;
        op->qkv.query_bias = op->qkv.key_bias = op->qkv.value_bias = PLAN_NONE;
        op->qkv.query_norm = op->qkv.key_norm = PLAN_NONE;
        op->qkv.rotary_table = PLAN_NONE;
        break;
    case PLAN_ATTENTION:
        op->attention.sinks = PLAN_NONE;
        break;
    case PLAN_PROJECT:
        op->project.weight = op->project.bias = PLAN_NONE;
        op->project.norm = no_norm;
        break;
    case PLAN_FEED_FORWARD:
        op->feed_forward.norm = no_norm;
        op->feed_forward.gate = op->feed_forward.up = PLAN_NONE;
        op->feed_forward.gate_bias = op->feed_forward.up_bias = PLAN_NONE;
        break;
    case PLAN_EXPERTS:
        op->experts.norm = no_norm;
        op->experts.router = op->experts.router_bias = op->experts.selection_bias = PLAN_NONE;
        op->experts.gate = op->experts.up = op->experts.down = PLAN_NONE;
        op->experts.gate_bias = op->experts.up_bias = op->experts.down_bias = PLAN_NONE;
        op->experts.shared_gate = op->experts.shared_up = op->experts.shared_down = PLAN_NONE;
        op->experts.shared_router = PLAN_NONE;
        break;
    case PLAN_LOGITS:
        op->logits.norm = no_norm;
        op->logits.weight = op->logits.bias = PLAN_NONE;
        break;
    case PLAN_OP_KIND_COUNT:
        break;
    }
}

struct plan_op *plan_add_op(struct plan *plan, enum plan_op_kind kind, uint32_t layer)
{
    struct plan_op *ops = reserve(plan, plan->ops, plan->op_count, &plan->op_capacity, sizeof *ops);
    if (!ops) {
        return NULL;
    }
    plan->ops = ops;
    struct plan_op *op = &ops[plan->op_count++];
    *op = (struct plan_op){.kind = kind, .layer = layer};
    clear_weights(op);
    return op;
}

const char *plan_op_name(enum plan_op_kind kind)
{
    static const char *const names[PLAN_OP_KIND_COUNT] = {
        [PLAN_EMBED] = "embed",
        [PLAN_QKV] = "qkv",
        [PLAN_ATTENTION] = "attention",
        [PLAN_PROJECT] = "project",
        [PLAN_FEED_FORWARD] = "feed_forward",
        [PLAN_EXPERTS] = "experts",
        [PLAN_LOGITS] = "logits",
    };
    return (unsigned)kind < PLAN_OP_KIND_COUNT ? names[kind] : "unknown";
}

/* A growing list of a stage's weights. */
struct slots {
    struct plan_op_weight *out;
    uint32_t count;
};

static void slot_add(struct slots *slots, const char *role, uint32_t weight, bool is_matrix)
{
    if (weight != PLAN_NONE) {
        slots->out[slots->count++] = (struct plan_op_weight){role, weight, 1, is_matrix, false};
    }
}

/* A matrix of each expert. */
static void slot_add_experts(struct slots *slots, const char *role, uint32_t first, uint32_t count)
{
    slot_add(slots, role, first, true);
    if (first != PLAN_NONE) {
        slots->out[slots->count - 1].count = count;
        slots->out[slots->count - 1].is_experts = true;
    }
}

static void slot_add_norm(struct slots *slots, const struct plan_norm *norm)
{
    slot_add(slots, "norm", norm->weight, false);
    slot_add(slots, "norm bias", norm->bias, false);
}

static void slot_add_mixture(struct slots *slots, const struct plan_op *op)
{
    slot_add_norm(slots, &op->experts.norm);
    slot_add(slots, "router", op->experts.router, true);
    slot_add(slots, "router bias", op->experts.router_bias, false);
    slot_add(slots, "choice bias", op->experts.selection_bias, false);
    slot_add_experts(slots, "gates", op->experts.gate, op->experts.expert_count);
    slot_add_experts(slots, "ups", op->experts.up, op->experts.expert_count);
    slot_add_experts(slots, "downs", op->experts.down, op->experts.expert_count);
    slot_add(slots, "gate biases", op->experts.gate_bias, false);
    slot_add(slots, "up biases", op->experts.up_bias, false);
    slot_add(slots, "down biases", op->experts.down_bias, false);
    slot_add(slots, "shared gate", op->experts.shared_gate, true);
    slot_add(slots, "shared up", op->experts.shared_up, true);
    slot_add(slots, "shared down", op->experts.shared_down, true);
    slot_add(slots, "shared rout.", op->experts.shared_router, false);
}

uint32_t plan_op_weights(const struct plan_op *op, struct plan_op_weight *out)
{
    struct slots slots = {out, 0};
    switch (op->kind) {
    case PLAN_EMBED:
        slot_add(&slots, "embedding", op->embed.weight, true);
        break;
    case PLAN_QKV:
        slot_add_norm(&slots, &op->qkv.norm);
        slot_add(&slots, "query", op->qkv.query, true);
        slot_add(&slots, "key", op->qkv.key, true);
        slot_add(&slots, "value", op->qkv.value, true);
        slot_add(&slots, "query bias", op->qkv.query_bias, false);
        slot_add(&slots, "key bias", op->qkv.key_bias, false);
        slot_add(&slots, "value bias", op->qkv.value_bias, false);
        slot_add(&slots, "query norm", op->qkv.query_norm, false);
        slot_add(&slots, "key norm", op->qkv.key_norm, false);
        break;
    case PLAN_ATTENTION:
        slot_add(&slots, "sinks", op->attention.sinks, false);
        break;
    case PLAN_PROJECT:
        slot_add(&slots, "projection", op->project.weight, true);
        slot_add(&slots, "bias", op->project.bias, false);
        slot_add_norm(&slots, &op->project.norm);
        break;
    case PLAN_FEED_FORWARD:
        slot_add_norm(&slots, &op->feed_forward.norm);
        slot_add(&slots, "gate", op->feed_forward.gate, true);
        slot_add(&slots, "up", op->feed_forward.up, true);
        slot_add(&slots, "gate bias", op->feed_forward.gate_bias, false);
        slot_add(&slots, "up bias", op->feed_forward.up_bias, false);
        break;
    case PLAN_EXPERTS:
        slot_add_mixture(&slots, op);
        break;
    case PLAN_LOGITS:
        slot_add_norm(&slots, &op->logits.norm);
        slot_add(&slots, "output", op->logits.weight, true);
        slot_add(&slots, "bias", op->logits.bias, false);
        break;
    case PLAN_OP_KIND_COUNT:
        break;
    }
    return slots.count;
}
