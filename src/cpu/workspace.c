/* Owns the layout of a model's workspace: everything that a step writes, made once, so that a step
 * allocates nothing. The same walk counts the bytes and later hands out the pointers. */
#include "base/checked.h"
#include "base/limits.h"
#include "cpu/model.h"

/* Memory for partial results when one long sequence is spread over many threads; a step that would
 * need more does not spread partitions. */
#define PARTIALS_BYTES_MAX (16ull << 20)

/* `used` only grows; once something does not fit, `failed` stays. */
struct walk {
    unsigned char *base;
    uint64_t used;
    bool failed;
};

static void *take(struct walk *walk, uint64_t count, uint64_t size)
{
    uint64_t bytes;
    uint64_t begin = walk->used;
    uint64_t end;
    if (walk->failed || !checked_mul_u64(count, size, &bytes) ||
        !checked_add_u64(begin, bytes, &end) || !checked_align_up_u64(end, 64, &walk->used)) {
        walk->failed = true;
        return NULL;
    }
    return walk->base ? walk->base + begin : NULL;
}

static struct cpu_rows take_rows(struct walk *walk, uint64_t rows, uint64_t width)
{
    uint64_t bytes = activation_row_bytes(ACTIVATION_F32, width);
    float *data = take(walk, rows, bytes);
    return (struct cpu_rows){data, bytes / sizeof(float)};
}

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* Widest input of any product, and which formats the kernels want. */
static uint64_t widest_input(const struct cpu_model *model, bool *wanted)
{
    uint64_t widest = 0;
    for (uint32_t i = 0; i < model->base.plan->weight_count; i++) {
        const struct cpu_weight *weight = &model->weights[i];
        if (weight->kernel) {
            wanted[weight->kernel->activation] = true;
            widest = larger(widest, weight->columns);
        }
    }
    return widest;
}

/* Most rows of an input: each row of the step for each of its experts. */
static uint64_t places(const struct cpu_model *model)
{
    return model->base.options.rows_max * larger(model->base.plan->used_count, 1);
}

static void take_experts(struct walk *walk, struct cpu_model *model)
{
    const struct plan *plan = model->base.plan;
    if (plan->expert_count == 0) {
        return;
    }
    uint64_t count = places(model);
    model->router = take_rows(walk, model->base.options.rows_max, plan->expert_count);
    model->expert_input = take_rows(walk, count, plan->embedding_length);
    model->expert_hidden = take_rows(walk, count, plan->expert_width);
    model->expert_up = take_rows(walk, count, plan->expert_width);
    model->expert_ids = take(walk, count, sizeof *model->expert_ids);
    model->expert_weights = take(walk, count, sizeof *model->expert_weights);
    model->expert_places = take(walk, count, sizeof *model->expert_places);
    model->experts = take(walk, plan->expert_count, sizeof *model->experts);
}

static void take_prepared(struct walk *walk, struct cpu_model *model)
{
    bool wanted[ACTIVATION_BF16 + 1] = {false};
    uint64_t widest = widest_input(model, wanted);
    for (int format = ACTIVATION_Q8; format <= ACTIVATION_BF16; format++) {
        if (wanted[format]) {
            model->prepared_stride[format] =
                activation_row_bytes((enum activation_format)format, widest);
            model->prepared[format] = take(walk, places(model), model->prepared_stride[format]);
        }
    }
}

static void take_angles(struct walk *walk, struct cpu_model *model)
{
    const struct plan *plan = model->base.plan;
    uint64_t size = 0;
    for (uint32_t i = 0; i < plan->rotary_table_count; i++) {
        size = larger(size, plan->rotary_tables[i].size);
    }
    uint64_t rows = model->base.options.rows_max;
    model->angles_stride[1] = (size + 15) / 16 * 16;
    model->angles_stride[0] = rows * model->angles_stride[1];
    model->angles = take(walk, plan->rotary_table_count, model->angles_stride[0] * sizeof(float));
}

static uint32_t group_size_max(const struct plan *plan)
{
    uint32_t most = 1;
    for (uint32_t i = 0; i < plan->op_count; i++) {
        const struct plan_op *op = &plan->ops[i];
        if (op->kind == PLAN_ATTENTION) {
            uint32_t group = op->attention.head_count / op->attention.kv_head_count;
            most = group > most ? group : most;
        }
    }
    return most;
}

static void take_attention(struct walk *walk, struct cpu_model *model)
{
    const struct plan *plan = model->base.plan;
    uint64_t positions = (uint64_t)model->base.options.kv_block_count * KV_BLOCK_TOKENS;
    uint32_t threads = pool_thread_count(model->device->pool);
    uint32_t pairs = (uint32_t)larger(ATTENTION_PAIRS, group_size_max(plan));
    uint64_t scratch = attention_scratch_floats(pairs, plan->head_size, positions);
    uint64_t widest =
        larger(plan->embedding_length, (uint64_t)plan->kv_head_count * plan->head_size);
    model->workers = take(walk, threads, sizeof *model->workers);
    for (uint32_t i = 0; i < threads; i++) {
        float *attention = take(walk, scratch, sizeof(float));
        float *row = take(walk, widest, sizeof(float));
        uint16_t *half = take(walk, widest, sizeof(uint16_t));
        if (walk->base) {
            model->workers[i] =
                (struct cpu_worker){.attention = attention, .row = row, .half = half};
        }
    }
    uint64_t rows = model->base.options.rows_max;
    model->row_at = take(walk, rows, sizeof *model->row_at);
    model->place_of = take(walk, rows, sizeof *model->place_of);
    model->runs = take(walk, rows, sizeof *model->runs);
    model->tiles = take(walk, rows, sizeof *model->tiles);
    uint64_t partitions = positions / ATTENTION_PARTITION_TOKENS + 1;
    uint64_t most = partitions * plan->width[PLAN_BUFFER_QUERY] / plan->head_size *
                    attention_partial_floats(plan->head_size) * 4;
    uint64_t bytes = most * sizeof(float);
    bytes = bytes < PARTIALS_BYTES_MAX ? bytes : PARTIALS_BYTES_MAX;
    bool spread = threads > 1 && partitions > 1 && model->device->ops->attention_partition;
    model->partial_floats = spread ? bytes / sizeof(float) : 0;
    model->partials = take(walk, model->partial_floats, sizeof(float));
}

bool cpu_workspace_plan(struct cpu_model *model, unsigned char *base, uint64_t *bytes)
{
    const struct plan *plan = model->base.plan;
    uint64_t rows = model->base.options.rows_max;
    uint64_t hidden = larger(plan->width[PLAN_BUFFER_HIDDEN], plan->shared_width);
    struct walk walk = {.base = base};
    for (int i = 0; i < PLAN_BUFFER_COUNT; i++) {
        if (i != PLAN_BUFFER_LOGITS) {
            uint64_t width = i == PLAN_BUFFER_HIDDEN ? hidden : plan->width[i];
            model->buffers[i] = take_rows(&walk, rows, width);
        }
    }
    /* Logits leave the device row after row without gaps. */
    uint64_t logits_rows = model->base.options.logits_rows_max;
    model->buffers[PLAN_BUFFER_LOGITS] = (struct cpu_rows){
        take(&walk, logits_rows, plan->vocabulary_size * sizeof(float)), plan->vocabulary_size};
    uint64_t kv_width = (uint64_t)plan->kv_head_count * plan->head_size;
    model->normed = take_rows(&walk, rows, plan->embedding_length);
    model->product = take_rows(&walk, rows, plan->embedding_length);
    model->key = take_rows(&walk, rows, kv_width);
    model->value = take_rows(&walk, rows, kv_width);
    model->up = take_rows(&walk, rows, hidden);
    take_experts(&walk, model);
    take_prepared(&walk, model);
    take_angles(&walk, model);
    take_attention(&walk, model);
    *bytes = walk.used;
    return !walk.failed;
}
