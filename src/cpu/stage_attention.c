/* Owns how the attention of a step is cut into items: (tile of rows, key-value head), and when
 * there are too few of those for the threads — long sequences, few of them — (tile, partition of
 * 512 positions, key-value head), merged afterwards. The sums are the same in the same order either
 * way. Neighbouring heads of a range of items are computed together, as many as there is scratch
 * for: they are then read in the order in which they lie in memory. */
#include "cpu/model.h"

/* Tiles are made small enough for so many items a thread. */
#define ITEMS_PER_THREAD 4u

struct stage {
    struct cpu_model *model;
    const struct plan_op *op;
    struct kv_layer layer;
    uint32_t tile_count;
    bool spread; /* partitions are items of their own */
};

static struct attention_call make_call(const struct stage *stage, uint32_t worker,
                                       const struct cpu_attention_tile *tile, uint32_t kv_head,
                                       uint32_t kv_heads)
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
        .kv_heads = kv_heads,
        .scale = op->attention.scale,
        .soft_cap = op->attention.soft_cap,
        .window = op->attention.window,
        .sinks = sinks ? sinks + (uint64_t)kv_head * group : NULL,
        .scratch = model->workers[worker].attention,
    };
}

/* The tile that an item belongs to. */
static const struct cpu_attention_tile *tile_of(const struct stage *stage, uint64_t item)
{
    const struct cpu_attention_tile *tiles = stage->model->tiles;
    uint32_t low = 0;
    uint32_t high = stage->tile_count;
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (tiles[middle].item_begin <= item) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return &tiles[low];
}

/* Runs `part` for the items [begin, end), neighbouring heads together. */
static void run_heads(const struct stage *stage, uint32_t worker, uint64_t begin, uint64_t end,
                      void (*part)(const struct stage *stage, const struct cpu_attention_tile *tile,
                                   uint64_t partition, const struct attention_call *call))
{
    uint32_t kv_heads = stage->op->attention.kv_head_count;
    while (begin < end) {
        const struct cpu_attention_tile *tile = tile_of(stage, begin);
        uint64_t partition = (begin - tile->item_begin) / kv_heads;
        uint32_t head = (uint32_t)((begin - tile->item_begin) % kv_heads);
        uint32_t count = kv_heads - head < tile->together ? kv_heads - head : tile->together;
        count = end - begin < count ? (uint32_t)(end - begin) : count;
        struct attention_call call = make_call(stage, worker, tile, head, count);
        part(stage, tile, partition, &call);
        begin += count;
    }
}

static void run_whole(const struct stage *stage, const struct cpu_attention_tile *tile,
                      uint64_t partition, const struct attention_call *call)
{
    (void)tile;
    (void)partition;
    attention_run(call, stage->model->device->ops);
}

static void run_tiles(void *context, uint32_t worker, uint64_t begin, uint64_t end)
{
    run_heads(context, worker, begin, end, run_whole);
}

/* Floats of a tile's partials in one partition, by kv head. */
static uint64_t head_floats(const struct stage *stage, const struct cpu_attention_tile *tile)
{
    uint32_t group = stage->op->attention.head_count / stage->op->attention.kv_head_count;
    return (uint64_t)tile->row_count * group *
           attention_partial_floats(stage->op->attention.head_size);
}

static void run_partition(const struct stage *stage, const struct cpu_attention_tile *tile,
                          uint64_t partition, const struct attention_call *call)
{
    uint64_t heads = partition * stage->op->attention.kv_head_count + call->kv_head;
    float *partials =
        stage->model->partials + tile->partial_offset + heads * head_floats(stage, tile);
    stage->model->device->ops->attention_partition(
        call, attention_partition_begin(call) + (uint32_t)partition, partials);
}

static void run_partitions(void *context, uint32_t worker, uint64_t begin, uint64_t end)
{
    run_heads(context, worker, begin, end, run_partition);
}

/* One pair of a tile. */
static void combine_pair(void *context, uint32_t worker, uint64_t item)
{
    const struct stage *stage = context;
    uint32_t kv_heads = stage->op->attention.kv_head_count;
    uint32_t group = stage->op->attention.head_count / kv_heads;
    const struct cpu_attention_tile *tile = stage->model->tiles;
    while (item >= (uint64_t)tile->row_count * group * kv_heads) {
        item -= (uint64_t)tile++->row_count * group * kv_heads;
    }
    struct attention_call call = make_call(stage, worker, tile, 0, kv_heads);
    attention_combine(&call, (uint32_t)item, stage->model->partials + tile->partial_offset,
                      kv_heads * head_floats(stage, tile));
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
        struct attention_call call = make_call(stage, 0, tile, 0, 1);
        tile->partition_count = attention_partition_end(&call) - attention_partition_begin(&call);
    }
}

/* Gives each tile its items; returns their number. */
static uint64_t place_items(struct stage *stage)
{
    uint32_t kv_heads = stage->op->attention.kv_head_count;
    uint32_t group = stage->op->attention.head_count / kv_heads;
    uint64_t items = 0;
    for (uint32_t i = 0; i < stage->tile_count; i++) {
        struct cpu_attention_tile *tile = &stage->model->tiles[i];
        uint32_t together = ATTENTION_PAIRS / (tile->row_count * group);
        tile->together = together ? together : 1;
        tile->item_begin = items;
        items += (uint64_t)kv_heads * (stage->spread ? tile->partition_count : 1);
    }
    return items;
}

/* Decides whether to spread partitions over threads and gives each tile its place; returns the
 * number of items. */
static uint64_t place_tiles(struct stage *stage)
{
    struct cpu_model *model = stage->model;
    uint64_t kv_heads = stage->op->attention.kv_head_count;
    uint64_t threads = pool_thread_count(model->device->pool);
    if (model->partial_floats != 0 && stage->tile_count < 2 * threads) {
        uint64_t floats = 0;
        uint64_t partitions = 0;
        for (uint32_t i = 0; i < stage->tile_count; i++) {
            struct cpu_attention_tile *tile = &model->tiles[i];
            tile->partial_offset = floats;
            floats += kv_heads * tile->partition_count * head_floats(stage, tile);
            partitions += tile->partition_count;
        }
        stage->spread = floats <= model->partial_floats && partitions > stage->tile_count;
    }
    return place_items(stage);
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
        struct attention_call call = make_call(stage, 0, tile, 0, 1);
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

/* Rows of a tile: as many pairs as allowed, since they share the conversion of what they read, and
 * fewer when threads would be left without items. */
static uint32_t choose_tile_rows(const struct stage *stage, uint32_t group)
{
    const struct cpu_model *model = stage->model;
    uint64_t wanted = (uint64_t)ITEMS_PER_THREAD * pool_thread_count(model->device->pool);
    uint64_t pairs = (uint64_t)model->row_count * group * stage->op->attention.kv_head_count;
    uint32_t most = ATTENTION_PAIRS_MAX;
    while (most > ATTENTION_PAIRS && pairs / most < wanted) {
        most /= 2;
    }
    return group < most ? most / group : 1;
}

void attention_stage_run(struct cpu_model *model, const struct plan_op *op)
{
    struct stage stage = {.model = model, .op = op, .layer = model->kv};
    stage.layer.data += op->layer * model->layer_bytes;
    uint64_t began = cpu_profile_now(&model->profile);
    uint32_t group = op->attention.head_count / op->attention.kv_head_count;
    uint32_t tile_rows = choose_tile_rows(&stage, group);
    for (uint32_t i = 0; i < model->run_count; i++) {
        cut_run(&stage, i, tile_rows);
    }
    struct pool *pool = model->device->pool;
    uint64_t items = place_tiles(&stage);
    uint32_t kv_heads = op->attention.kv_head_count;
    if (stage.spread) {
        uint64_t pairs = 0;
        for (uint32_t i = 0; i < stage.tile_count; i++) {
            pairs += (uint64_t)model->tiles[i].row_count * op->attention.head_count;
        }
        pool_run_ranges(pool, items, kv_heads, run_partitions, &stage);
        pool_run(pool, pairs, combine_pair, &stage);
    } else {
        pool_run_ranges(pool, items, kv_heads, run_tiles, &stage);
    }
    if (model->profile.on) {
        profile_attention(&stage, clock_now_ns() - began);
    }
}
