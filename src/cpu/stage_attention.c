/* Owns how the attention of a step is cut into items: (tile of rows, key-value head), and when
 * there are too few of those for the threads — long sequences, few of them — also partitions of
 * 512 positions, merged afterwards. The sums are the same in the same order either way. */
#include "cpu/model.h"

struct stage {
    struct cpu_model *model;
    const struct plan_op *op;
    struct kv_layer layer;
    uint32_t tile_count;
    bool spread; /* partitions are items of their own */
};

static struct attention_call make_call(const struct stage *stage, uint32_t worker,
                                       const struct cpu_attention_tile *tile, uint32_t kv_head)
{
    struct cpu_model *model = stage->model;
    const struct plan_op *op = stage->op;
    const struct cpu_run *run = &model->runs[tile->run];
    uint32_t group = op->attention.head_count / op->attention.kv_head_count;
    uint64_t offset = (uint64_t)kv_head * group * op->attention.head_size;
    struct cpu_rows query = model->buffers[PLAN_BUFFER_QUERY];
    struct cpu_rows out = model->buffers[PLAN_BUFFER_ATTENDED];
    const float *sinks = cpu_vector(model, op->attention.sinks);
    return (struct attention_call){
        .query = cpu_row(query, tile->row_begin) + offset,
        .query_stride = query.stride,
        .out = cpu_row(out, tile->row_begin) + offset,
        .out_stride = out.stride,
        .row_count = tile->row_count,
        .head_count = group,
        .head_size = op->attention.head_size,
        .position = run->position + (tile->row_begin - run->row_begin),
        .block_table =
            model->batch->block_tables + (uint64_t)run->sequence * model->batch->block_table_stride,
        .layer = &stage->layer,
        .kv_head = kv_head,
        .scale = op->attention.scale,
        .soft_cap = op->attention.soft_cap,
        .window = op->attention.window,
        .sinks = sinks ? sinks + (uint64_t)kv_head * group : NULL,
        .scratch = model->workers[worker].attention,
    };
}

static void run_tile(void *context, uint32_t worker, uint64_t item)
{
    const struct stage *stage = context;
    uint32_t kv_heads = stage->op->attention.kv_head_count;
    struct attention_call call = make_call(stage, worker, &stage->model->tiles[item / kv_heads],
                                           (uint32_t)(item % kv_heads));
    attention_run(&call, stage->model->device->ops);
}

/* Floats of one kv head of a tile: all its partitions and pairs. */
static uint64_t tile_floats(const struct stage *stage, const struct cpu_attention_tile *tile)
{
    uint32_t group = stage->op->attention.head_count / stage->op->attention.kv_head_count;
    return (uint64_t)tile->partition_count * tile->row_count * group *
           attention_partial_floats(stage->op->attention.head_size);
}

static void run_partition(void *context, uint32_t worker, uint64_t item)
{
    const struct stage *stage = context;
    const struct cpu_attention_tile *tile = stage->model->tiles;
    const struct cpu_attention_tile *last = tile + stage->tile_count - 1;
    while (tile < last && item >= tile[1].item_begin) {
        tile++;
    }
    uint64_t within = item - tile->item_begin;
    uint32_t kv_head = (uint32_t)(within / tile->partition_count);
    uint32_t partition = (uint32_t)(within % tile->partition_count);
    struct attention_call call = make_call(stage, worker, tile, kv_head);
    uint64_t floats = tile_floats(stage, tile);
    float *partials = stage->model->partials + tile->partial_offset + kv_head * floats +
                      partition * (floats / tile->partition_count);
    stage->model->device->ops->attention_partition(
        &call, attention_partition_begin(&call) + partition, partials);
}

static void combine_tile(void *context, uint32_t worker, uint64_t item)
{
    const struct stage *stage = context;
    uint32_t kv_heads = stage->op->attention.kv_head_count;
    const struct cpu_attention_tile *tile = &stage->model->tiles[item / kv_heads];
    uint32_t kv_head = (uint32_t)(item % kv_heads);
    struct attention_call call = make_call(stage, worker, tile, kv_head);
    attention_combine(&call, stage->model->partials + tile->partial_offset +
                                 kv_head * tile_floats(stage, tile));
}

static void cut_run(struct stage *stage, uint32_t run_index, uint32_t tile_rows)
{
    struct cpu_model *model = stage->model;
    const struct cpu_run *run = &model->runs[run_index];
    for (uint32_t row = 0; row < run->row_count; row += tile_rows) {
        struct cpu_attention_tile *tile = &model->tiles[stage->tile_count++];
        uint32_t rest = run->row_count - row;
        *tile = (struct cpu_attention_tile){
            .run = run_index,
            .row_begin = run->row_begin + row,
            .row_count = rest < tile_rows ? rest : tile_rows,
        };
        struct attention_call call = make_call(stage, 0, tile, 0);
        tile->partition_count = attention_partition_end(&call) - attention_partition_begin(&call);
    }
}

/* Decides whether to spread partitions over threads and gives each tile its place; returns the
 * number of items then. */
static uint64_t place_partials(struct stage *stage)
{
    struct cpu_model *model = stage->model;
    uint64_t kv_heads = stage->op->attention.kv_head_count;
    uint64_t wanted = 2ull * pool_thread_count(model->device->pool);
    uint64_t floats = 0;
    uint64_t items = 0;
    if (model->partial_floats == 0 || stage->tile_count * kv_heads >= wanted) {
        return 0;
    }
    for (uint32_t i = 0; i < stage->tile_count; i++) {
        struct cpu_attention_tile *tile = &model->tiles[i];
        tile->partial_offset = floats;
        tile->item_begin = items;
        floats += kv_heads * tile_floats(stage, tile);
        items += kv_heads * tile->partition_count;
    }
    stage->spread = floats <= model->partial_floats && items > stage->tile_count * kv_heads;
    return items;
}

/* Cache bytes are counted once a tile of rows, products for every position that a row sees. */
static void profile_attention(const struct stage *stage, uint64_t taken_ns)
{
    struct cpu_model *model = stage->model;
    const struct plan_op *op = stage->op;
    struct device_profile_row *row =
        cpu_profile_row(&model->profile, CPU_WORK_ATTENTION, stage->layer.dtype);
    row->count++;
    row->ns += taken_ns;
    for (uint32_t i = 0; i < stage->tile_count; i++) {
        const struct cpu_attention_tile *tile = &model->tiles[i];
        struct attention_call call = make_call(stage, 0, tile, 0);
        struct attention_span last = attention_span(&call, tile->row_count - 1);
        uint64_t blocks = (last.end + KV_BLOCK_TOKENS - 1) / KV_BLOCK_TOKENS -
                          attention_span(&call, 0).begin / KV_BLOCK_TOKENS;
        row->bytes += blocks * stage->layer.block_bytes;
        for (uint32_t r = 0; r < tile->row_count; r++) {
            struct attention_span span = attention_span(&call, r);
            row->operations +=
                4ull * op->attention.head_count * op->attention.head_size * (span.end - span.begin);
        }
    }
}

void attention_stage_run(struct cpu_model *model, const struct plan_op *op)
{
    struct stage stage = {.model = model, .op = op, .layer = model->kv};
    stage.layer.data += op->layer * model->layer_bytes;
    uint64_t began = cpu_profile_now(&model->profile);
    uint32_t group = op->attention.head_count / op->attention.kv_head_count;
    uint32_t tile_rows = group < ATTENTION_PAIRS ? ATTENTION_PAIRS / group : 1;
    for (uint32_t i = 0; i < model->run_count; i++) {
        cut_run(&stage, i, tile_rows);
    }
    struct pool *pool = model->device->pool;
    uint64_t tiles = (uint64_t)stage.tile_count * op->attention.kv_head_count;
    uint64_t items = place_partials(&stage);
    if (stage.spread) {
        pool_run(pool, items, run_partition, &stage);
        pool_run(pool, tiles, combine_tile, &stage);
    } else {
        pool_run(pool, tiles, run_tile, &stage);
    }
    if (model->profile.on) {
        profile_attention(&stage, clock_now_ns() - began);
    }
}
