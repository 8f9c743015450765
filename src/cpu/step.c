/* Owns the walk over a plan for one step: an interpreter whose stages are parallel loops over rows
 * of the batch or ranges of weights. Invariants: nothing is allocated; a row's values depend on
 * that row alone; every loop writes ranges that no other item touches. Knows no model's name. */
#include <string.h>

#include "cpu/model.h"
#include "tensor/quant.h"
#include "tensor/reference.h"

/* Rows of the embedding looked up before their pages are given back. Systems bring in from 64 KB to
 * 2 MB around a row that is touched: 64 MB at most. */
#define LOOKUPS_BEFORE_DROP 32u

/* Up to so many rows threads fetch weights while they wait. */
#define FETCH_ROWS_MAX 8u

/* A stage that goes row by row. */
struct row_stage {
    struct cpu_model *model;
    const struct plan_op *op;
    const struct plan_norm *norm;
    const uint32_t *rows; /* which rows of the batch; NULL: all places in order */
    uint32_t row_begin;   /* added to the item's number */
};

static void apply_norm(const struct cpu_model *model, const struct plan_norm *norm, const float *x,
                       float *out)
{
    const struct cpu_ops *ops = model->device->ops;
    const float *weight = cpu_vector(model, norm->weight);
    uint64_t width = model->base.plan->embedding_length;
    if (norm->kind == PLAN_NORM_RMS) {
        ops->norm_rms(x, weight, norm->weight_offset, norm->epsilon, width, out);
    } else {
        ops->norm_layer(x, weight, cpu_vector(model, norm->bias), norm->weight_offset,
                        norm->epsilon, width, out);
    }
}

static void norm_row(void *context, uint32_t worker, uint64_t row)
{
    (void)worker;
    const struct row_stage *stage = context;
    uint64_t from = stage->rows ? stage->model->place_of[stage->rows[row]] : row;
    apply_norm(stage->model, stage->norm,
               cpu_row(stage->model->buffers[PLAN_BUFFER_RESIDUAL], from),
               cpu_row(stage->model->normed, row));
}

void cpu_norm_rows(struct cpu_model *model, const struct plan_norm *norm, const uint32_t *rows,
                   uint32_t row_count)
{
    struct row_stage stage = {.model = model, .norm = norm, .rows = rows};
    uint64_t began = cpu_profile_now(&model->profile);
    pool_run(model->device->pool, row_count, norm_row, &stage);
    /* Squares and their sum, the scale, the weight: four operations an element, six with a mean. */
    uint64_t width = model->base.plan->embedding_length;
    cpu_profile_add(
        &model->profile, CPU_WORK_NORM, DTYPE_F32, began,
        (struct cpu_work_cost){(2ull * row_count + 1) * width * sizeof(float),
                               (norm->kind == PLAN_NORM_RMS ? 4ull : 6ull) * row_count * width});
}

/* --- embed ---------------------------------------------------------------------------------- */

static void embed_row(void *context, uint32_t worker, uint64_t item)
{
    (void)worker;
    const struct row_stage *stage = context;
    uint64_t row = stage->row_begin + item;
    struct cpu_model *model = stage->model;
    const struct plan_weight *weight = &model->base.plan->weights[stage->op->embed.weight];
    float *out = cpu_row(model->buffers[PLAN_BUFFER_RESIDUAL], row);
    plan_weight_row(weight, model->batch->tokens[row], out);
    if (stage->op->embed.scale != 1.0f) {
        for (uint64_t i = 0; i < weight->columns; i++) {
            out[i] *= stage->op->embed.scale;
        }
    }
}

/* Each row that is looked up leaves pages of the mapped file behind. Now and then they are given
 * back, so that a packed weight that is the embedding too does not come to lie in memory twice. */
static void run_embed(struct cpu_model *model, const struct plan_op *op)
{
    const struct plan_weight *weight = &model->base.plan->weights[op->embed.weight];
    uint32_t count = model->batch->row_count;
    uint64_t began = cpu_profile_now(&model->profile);
    for (uint32_t row = 0; row < count; row += LOOKUPS_BEFORE_DROP) {
        uint32_t rows = count - row < LOOKUPS_BEFORE_DROP ? count - row : LOOKUPS_BEFORE_DROP;
        struct row_stage stage = {.model = model, .op = op, .row_begin = row};
        pool_run(model->device->pool, rows, embed_row, &stage);
        model->rows_looked_up += rows;
        if (model->base.plan->weights_mapped && model->rows_looked_up >= LOOKUPS_BEFORE_DROP) {
            file_pages_drop(weight->data, weight->bytes);
            model->rows_looked_up = 0;
        }
    }
    uint64_t elements = count * weight->columns;
    uint64_t weight_bytes = elements / dtype_info(weight->dtype)->block_elements *
                            dtype_info(weight->dtype)->block_bytes;
    cpu_profile_add(&model->profile, CPU_WORK_EMBED, weight->dtype, began,
                    (struct cpu_work_cost){weight_bytes + elements * sizeof(float), elements});
}

/* --- queries, keys and values --------------------------------------------------------------- */

static void add_bias(float *x, const float *bias, uint64_t count)
{
    if (bias) {
        reference_add(bias, count, x);
    }
}

static void turn_heads(const struct row_stage *stage, float *heads, uint32_t head_count,
                       uint32_t norm, uint64_t row)
{
    const struct plan_op *op = stage->op;
    const struct cpu_model *model = stage->model;
    const float *norm_weight = cpu_vector(model, norm);
    uint32_t size = op->qkv.head_size;
    const float *cosines = NULL;
    const float *sines = NULL;
    if (op->qkv.rotary != PLAN_ROTARY_NONE) {
        cosines = model->angles + op->qkv.rotary_table * model->angles_stride[0] +
                  row * model->angles_stride[1];
        sines = cosines + op->qkv.rotary_size / 2;
    }
    for (uint32_t i = 0; i < head_count; i++) {
        float *head = heads + (uint64_t)i * size;
        if (norm_weight) {
            model->device->ops->norm_rms(head, norm_weight, op->qkv.head_norm_weight_offset,
                                         op->qkv.head_norm_epsilon, size, head);
        }
        if (cosines) {
            reference_rotary(head, op->qkv.rotary_size, op->qkv.rotary == PLAN_ROTARY_INTERLEAVED,
                             cosines, sines);
        }
    }
}

static void finish_query(void *context, uint32_t worker, uint64_t place)
{
    (void)worker;
    const struct row_stage *stage = context;
    const struct plan_op *op = stage->op;
    struct cpu_model *model = stage->model;
    float *query = cpu_row(model->buffers[PLAN_BUFFER_QUERY], place);
    add_bias(query, cpu_vector(model, op->qkv.query_bias),
             (uint64_t)op->qkv.head_count * op->qkv.head_size);
    turn_heads(stage, query, op->qkv.head_count, op->qkv.query_norm, model->row_at[place]);
}

static void finish_key_value(void *context, uint32_t worker, uint64_t row)
{
    const struct row_stage *stage = context;
    const struct plan_op *op = stage->op;
    struct cpu_model *model = stage->model;
    const struct step_batch *batch = model->batch;
    uint64_t key_width = (uint64_t)op->qkv.kv_head_count * op->qkv.head_size;
    float *key = cpu_row(model->key, row);
    float *value = cpu_row(model->value, row);
    add_bias(key, cpu_vector(model, op->qkv.key_bias), key_width);
    add_bias(value, cpu_vector(model, op->qkv.value_bias), key_width);
    turn_heads(stage, key, op->qkv.kv_head_count, op->qkv.key_norm, row);
    struct kv_layer layer = model->kv;
    layer.data += op->layer * model->layer_bytes;
    uint32_t position = batch->positions[row];
    uint32_t block =
        batch->block_tables[(uint64_t)batch->sequences[row] * batch->block_table_stride +
                            position / KV_BLOCK_TOKENS];
    kv_write(&layer, model->device->ops, block, position % KV_BLOCK_TOKENS, key, value,
             model->workers[worker].half);
}

static void finish_qkv(void *context, uint32_t worker, uint64_t row)
{
    finish_query(context, worker, row);
    finish_key_value(context, worker, row);
}

/* Queries and keys are turned in place (three operations an element), keys and values are read and
 * go to the cache. */
static struct cpu_work_cost finish_cost(const struct cpu_model *model, const struct plan_op *op,
                                        uint64_t query_rows, uint64_t key_rows)
{
    uint64_t turned = op->qkv.rotary == PLAN_ROTARY_NONE ? 0 : op->qkv.rotary_size;
    uint64_t heads = query_rows * op->qkv.head_count + key_rows * op->qkv.kv_head_count;
    uint64_t values = key_rows * op->qkv.kv_head_count;
    return (struct cpu_work_cost){
        (2 * heads + values) * op->qkv.head_size * sizeof(float) +
            key_rows * (model->kv.block_bytes / KV_BLOCK_TOKENS),
        3 * heads * turned,
    };
}

/* The products of the normed rows, the queries' apart from the others or not. */
static void multiply_qkv(struct cpu_model *model, const struct plan_op *op, bool queries, bool keys)
{
    struct linear_stage linear = {
        .model = model,
        .input = model->normed,
        .columns = model->base.plan->embedding_length,
        .token_count = model->row_count,
        .work = CPU_WORK_QKV,
    };
    if (queries) {
        linear.parts[linear.part_count++] =
            (struct linear_part){op->qkv.query, model->buffers[PLAN_BUFFER_QUERY]};
    }
    if (keys) {
        linear.parts[linear.part_count++] = (struct linear_part){op->qkv.key, model->key};
        linear.parts[linear.part_count++] = (struct linear_part){op->qkv.value, model->value};
    }
    linear_stage_run(&linear);
}

static void run_qkv(struct cpu_model *model, const struct plan_op *op)
{
    struct pool *pool = model->device->pool;
    struct row_stage rows = {.model = model, .op = op};
    uint32_t count = model->row_count;
    cpu_norm_rows(model, &op->qkv.norm, NULL, count);
    if (!cpu_rows_can_narrow(model, op)) {
        multiply_qkv(model, op, true, true);
        uint64_t began = cpu_profile_now(&model->profile);
        pool_run(pool, count, finish_qkv, &rows);
        cpu_profile_add(&model->profile, CPU_WORK_ROTARY, model->kv.dtype, began,
                        finish_cost(model, op, count, count));
        return;
    }
    multiply_qkv(model, op, false, true);
    uint64_t began = cpu_profile_now(&model->profile);
    pool_run(pool, count, finish_key_value, &rows);
    cpu_profile_add(&model->profile, CPU_WORK_ROTARY, model->kv.dtype, began,
                    finish_cost(model, op, 0, count));
    cpu_rows_narrow(model);
    if (model->row_count == 0) {
        return;
    }
    multiply_qkv(model, op, true, false);
    began = cpu_profile_now(&model->profile);
    pool_run(pool, model->row_count, finish_query, &rows);
    cpu_profile_add(&model->profile, CPU_WORK_ROTARY, model->kv.dtype, began,
                    finish_cost(model, op, model->row_count, 0));
}

/* --- projections ---------------------------------------------------------------------------- */

/* residual += product + bias for a range of columns of the residual. */
static void finish_project(const struct linear_stage *stage, const struct linear_rows *rows,
                           uint64_t begin, uint64_t end)
{
    (void)rows;
    struct cpu_model *model = stage->model;
    const float *bias = cpu_vector(model, stage->op->project.bias);
    for (uint32_t token = 0; token < stage->token_count; token++) {
        float *product = cpu_row(model->product, token) + begin;
        add_bias(product, bias ? bias + begin : NULL, end - begin);
        reference_add(product, end - begin,
                      cpu_row(model->buffers[PLAN_BUFFER_RESIDUAL], token) + begin);
    }
}

/* The same when the product is normed first, which needs whole rows. */
static void finish_project_row(void *context, uint32_t worker, uint64_t row)
{
    (void)worker;
    const struct row_stage *stage = context;
    struct cpu_model *model = stage->model;
    uint64_t width = model->base.plan->embedding_length;
    float *product = cpu_row(model->product, row);
    add_bias(product, cpu_vector(model, stage->op->project.bias), width);
    apply_norm(model, &stage->op->project.norm, product, product);
    reference_add(product, width, cpu_row(model->buffers[PLAN_BUFFER_RESIDUAL], row));
}

static void run_project(struct cpu_model *model, const struct plan_op *op)
{
    bool normed = op->project.norm.weight != PLAN_NONE;
    struct linear_stage linear = {
        .model = model,
        .input = model->buffers[op->project.input],
        .columns = model->weights[op->project.weight].columns,
        .token_count = model->row_count,
        .part_count = 1,
        .parts = {{op->project.weight, model->product}},
        .finish = normed ? NULL : finish_project,
        .op = op,
        .work = op->project.input == PLAN_BUFFER_HIDDEN ? CPU_WORK_DOWN : CPU_WORK_PROJECT,
    };
    linear_stage_run(&linear);
    if (normed) {
        struct row_stage rows = {.model = model, .op = op};
        pool_run(model->device->pool, model->row_count, finish_project_row, &rows);
    }
}

/* --- feed-forward --------------------------------------------------------------------------- */

static void finish_feed_forward(const struct linear_stage *stage, const struct linear_rows *rows,
                                uint64_t begin, uint64_t end)
{
    (void)rows;
    struct cpu_model *model = stage->model;
    const struct plan_op *op = stage->op;
    bool gated = op->feed_forward.gate != PLAN_NONE;
    const float *gate_bias = cpu_vector(model, op->feed_forward.gate_bias);
    const float *up_bias = cpu_vector(model, op->feed_forward.up_bias);
    for (uint32_t token = 0; token < stage->token_count; token++) {
        float *hidden = cpu_row(model->buffers[PLAN_BUFFER_HIDDEN], token) + begin;
        float *up = gated ? cpu_row(model->up, token) + begin : hidden;
        add_bias(up, up_bias ? up_bias + begin : NULL, end - begin);
        if (gated) {
            add_bias(hidden, gate_bias ? gate_bias + begin : NULL, end - begin);
        }
        model->device->ops->activate(op->feed_forward.activation, hidden, gated ? up : NULL,
                                     end - begin);
    }
}

static void run_feed_forward(struct cpu_model *model, const struct plan_op *op)
{
    uint32_t count = model->row_count;
    bool gated = op->feed_forward.gate != PLAN_NONE;
    cpu_norm_rows(model, &op->feed_forward.norm, NULL, count);
    struct linear_stage linear = {
        .model = model,
        .input = model->normed,
        .columns = model->base.plan->embedding_length,
        .token_count = count,
        .part_count = gated ? 2 : 1,
        .side_by_side = true,
        .finish = finish_feed_forward,
        .op = op,
        .work = CPU_WORK_GATE_UP,
    };
    linear.parts[0] = (struct linear_part){gated ? op->feed_forward.gate : op->feed_forward.up,
                                           model->buffers[PLAN_BUFFER_HIDDEN]};
    linear.parts[1] = (struct linear_part){op->feed_forward.up, model->up};
    linear_stage_run(&linear);
}

/* --- logits --------------------------------------------------------------------------------- */

static void finish_logits(const struct linear_stage *stage, const struct linear_rows *rows,
                          uint64_t begin, uint64_t end)
{
    (void)rows;
    struct cpu_model *model = stage->model;
    const struct plan_op *op = stage->op;
    const float *bias = cpu_vector(model, op->logits.bias);
    for (uint32_t token = 0; token < stage->token_count; token++) {
        float *logits = cpu_row(model->buffers[PLAN_BUFFER_LOGITS], token) + begin;
        add_bias(logits, bias ? bias + begin : NULL, end - begin);
        if (op->logits.scale != 1.0f) {
            for (uint64_t i = 0; i < end - begin; i++) {
                logits[i] *= op->logits.scale;
            }
        }
        if (op->logits.soft_cap != 0) {
            model->device->ops->soft_cap(logits, op->logits.soft_cap, end - begin);
        }
    }
}

static void run_logits(struct cpu_model *model, const struct plan_op *op)
{
    uint32_t count = model->batch->logits_count;
    if (count == 0) {
        return;
    }
    cpu_norm_rows(model, &op->logits.norm, model->batch->logits_rows, count);
    struct linear_stage linear = {
        .model = model,
        .input = model->normed,
        .columns = model->base.plan->embedding_length,
        .token_count = count,
        .part_count = 1,
        .parts = {{op->logits.weight, model->buffers[PLAN_BUFFER_LOGITS]}},
        .finish = finish_logits,
        .op = op,
        .work = CPU_WORK_LOGITS,
    };
    linear_stage_run(&linear);
}

/* The normed rows stay where they are until the next step: nothing follows this stage. */
static void run_hidden(struct cpu_model *model, const struct plan_op *op)
{
    if (model->batch->hidden_count > 0) {
        cpu_norm_rows(model, &op->logits.norm, model->batch->hidden_rows,
                      model->batch->hidden_count);
    }
}

const float *cpu_model_hidden(const struct device_model *base, uint64_t *stride)
{
    const struct cpu_model *model = (const struct cpu_model *)base;
    *stride = model->normed.stride;
    return model->normed.data;
}

/* --- the step ------------------------------------------------------------------------------- */

static void angles_row(void *context, uint32_t worker, uint64_t row)
{
    (void)worker;
    struct cpu_model *model = context;
    const struct plan *plan = model->base.plan;
    for (uint32_t i = 0; i < plan->rotary_table_count; i++) {
        const struct plan_rotary_table *table = &plan->rotary_tables[i];
        float *cosines =
            model->angles + i * model->angles_stride[0] + row * model->angles_stride[1];
        reference_rotary_angles(model->batch->positions[row], table->frequencies, table->size,
                                table->magnitude, cosines, cosines + table->size / 2);
    }
}

/* While threads wait for one another during operation `index` they fetch weights of the next
 * product, of the next step's first after the last. Many rows need the cache for themselves, and
 * which experts come next is not known. */
static void fetch_next(struct cpu_model *model, uint32_t index)
{
    const struct plan *plan = model->base.plan;
    const struct plan_op *op = &plan->ops[index];
    for (uint32_t i = 1; i <= plan->op_count; i++) {
        op = &plan->ops[(index + i) % plan->op_count];
        if (op->kind != PLAN_EMBED && op->kind != PLAN_ATTENTION) {
            break;
        }
    }
    struct linear_stage next = {
        .model = model,
        .token_count = model->batch->row_count,
        .side_by_side = op->kind == PLAN_FEED_FORWARD,
    };
    struct plan_op_weight used[PLAN_OP_WEIGHTS_MAX];
    uint32_t count = plan_op_weights(op, used);
    bool fetches = model->batch->row_count <= FETCH_ROWS_MAX && op->kind != PLAN_EXPERTS &&
                   op->kind != PLAN_EMBED && op->kind != PLAN_ATTENTION;
    for (uint32_t i = 0; fetches && i < count; i++) {
        if (used[i].is_matrix) {
            next.parts[next.part_count++].weight = used[i].weight;
        }
    }
    linear_stage_fetch(&next);
}

static void run_op(struct cpu_model *model, const struct plan_op *op)
{
    switch (op->kind) {
    case PLAN_EMBED:
        run_embed(model, op);
        break;
    case PLAN_QKV:
        run_qkv(model, op);
        break;
    case PLAN_ATTENTION:
        attention_stage_run(model, op);
        break;
    case PLAN_PROJECT:
        run_project(model, op);
        break;
    case PLAN_FEED_FORWARD:
        run_feed_forward(model, op);
        break;
    case PLAN_EXPERTS:
        experts_stage_run(model, op);
        break;
    case PLAN_LOGITS:
        run_logits(model, op);
        run_hidden(model, op);
        break;
    case PLAN_OP_KIND_COUNT:
        break;
    }
}

static void take_residual(struct cpu_model *model)
{
    const struct step_batch *batch = model->batch;
    for (uint32_t row = 0; row < batch->row_count; row++) {
        memcpy(cpu_row(model->buffers[PLAN_BUFFER_RESIDUAL], row),
               batch->residual + row * batch->residual_stride,
               model->base.plan->embedding_length * sizeof(float));
    }
}

const float *cpu_model_residual(const struct device_model *base, uint64_t *stride)
{
    const struct cpu_model *model = (const struct cpu_model *)base;
    *stride = model->buffers[PLAN_BUFFER_RESIDUAL].stride;
    return model->buffers[PLAN_BUFFER_RESIDUAL].data;
}

llcuda_status cpu_model_step(struct device_model *base, const struct step_batch *batch,
                             const float **logits, struct llcuda_error *error)
{
    struct cpu_model *model = (struct cpu_model *)base;
    llcuda_status status = step_batch_check(batch, base, error);
    if (status != LLCUDA_OK) {
        return status;
    }
    model->batch = batch;
    cpu_rows_all(model);
    uint64_t began = cpu_profile_now(&model->profile);
    pool_run(model->device->pool, batch->row_count, angles_row, model);
    uint64_t angles = 0;
    for (uint32_t i = 0; i < base->plan->rotary_table_count; i++) {
        angles += base->plan->rotary_tables[i].size;
    }
    /* A cosine or a sine each. */
    angles *= batch->row_count;
    cpu_profile_add(&model->profile, CPU_WORK_ANGLES, DTYPE_F32, began,
                    (struct cpu_work_cost){angles * sizeof(float), angles});
    if (base->plan->takes_residual) {
        take_residual(model);
    }
    for (uint32_t i = 0; i < base->plan->op_count && model->row_count > 0; i++) {
        fetch_next(model, i);
        run_op(model, &base->plan->ops[i]);
    }
    model->batch = NULL;
    *logits = model->buffers[PLAN_BUFFER_LOGITS].data;
    return LLCUDA_OK;
}

llcuda_status cpu_model_copy_blocks(struct device_model *base, const uint32_t *from,
                                    const uint32_t *to, uint32_t count, struct llcuda_error *error)
{
    struct cpu_model *model = (struct cpu_model *)base;
    for (uint32_t i = 0; i < count; i++) {
        if (from[i] >= base->options.kv_block_count || to[i] >= base->options.kv_block_count) {
            return error_set(error, LLCUDA_INVALID_ARGUMENT,
                             "copy of cache block %u to %u: there are %u blocks", from[i], to[i],
                             base->options.kv_block_count);
        }
    }
    for (uint32_t layer = 0; layer < base->plan->layer_count; layer++) {
        unsigned char *data = model->kv.data + layer * model->layer_bytes;
        for (uint32_t i = 0; i < count; i++) {
            memmove(data + to[i] * model->kv.block_bytes, data + from[i] * model->kv.block_bytes,
                    model->kv.block_bytes);
        }
    }
    return LLCUDA_OK;
}
