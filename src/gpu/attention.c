/* Owns the choices that the kernels of attention leave to the host: how many warps and positions a
 * block takes, how a row's past and a step's rows are cut, and the grids. The numbers here and the
 * constants that the kernels derive from the prelude are the same arithmetic; the kernels assert it
 * where they can. Must not know plans, memory pools or vendors. */
#include "gpu/attention.h"

#include <assert.h>

#include "base/limits.h"
#include "gpu/prelude.h"

/* Of one head, all heads of a block, so that the counts below stay in 32 bits. */
#define HEADS_A_BLOCK_MAX 16u
/* Blocks to spread one row over: about two a multiprocessor of the largest devices. */
#define SPREAD_BLOCKS 256u
/* So many partitions of a row are done by one block: see attention_decode.cu. */
#define ALONE_PARTITIONS 2u
/* Of a device's blocks, for each of which a group may have one partition more; not measured beyond
 * eight, where rows of different lengths would share the device badly. */
#define BLOCKS_A_PARTITION   16u
#define PARTITIONS_LEAST_MAX 8u
#define MERGE_GROUPS         32u
#define QKV_THREADS          256u
#define COPY_BLOCK_BYTES     4096u
/* Partial sums, a row, group and head tile each, that the workspace has room for at once when sums
 * are exact and groups therefore as many as a long past needs; more take turns. */
#define EXACT_PARTIALS_MAX (64u << 10)
/* Rows that a launch may decode: for this many the workspace has counters. */
#define DECODE_ROWS_MAX 16384u
#define PREFILL_THREADS 128u
/* Sums of 16 rows of a larger head do not fit in registers. */
#define PREFILL_HEAD_MAX 256u
/* A run of fewer rows decodes: prefill would walk its past with one block a head. */
#define PREFILL_ROWS_MIN 9u

const char *const gpu_attention_files[] = {
    "arguments_attention.h", "attention_common.cuh", "attention_qkv.cu",  "attention_decode.cu",
    "attention_prefill.cu",  "attention_exact.cu",   "attention_copy.cu", NULL,
};

static bool is_type_known(enum dtype type)
{
    return type == DTYPE_F32 || type == DTYPE_F16 || type == DTYPE_BF16;
}

/* Caches of bytes: KV_STORE_* of the kernels. */
static bool is_bytes(enum dtype kv)
{
    return kv == DTYPE_F8_E4M3 || kv == DTYPE_Q8_0;
}

/* Of what keys and values are when they are multiplied; bytes become halves. */
static uint32_t value_bytes(enum dtype kv)
{
    return kv == DTYPE_F32 ? 4 : 2;
}

static uint32_t stored_bytes(enum dtype kv)
{
    return is_bytes(kv) ? 1 : value_bytes(kv);
}

/* Whether the tensor cores can be used: ATTENTION_MATRIX of the kernels. */
static bool has_matrix(const struct gpu_attention_shape *shape)
{
    return shape->kv != DTYPE_F32 && shape->head_size % 8 == 0;
}

/* Whether partitions are worked on as attention_exact.cu does: EXACT_MATRIX of the kernels. */
static bool is_exact(const struct gpu_attention_shape *shape)
{
    return shape->exact && has_matrix(shape) && !is_bytes(shape->kv);
}

/* sizeof(struct decode_shared). */
static uint32_t decode_shared_bytes(const struct gpu_attention_config *config)
{
    const struct gpu_attention_shape *shape = &config->shape;
    uint32_t heads = config->tile_heads;
    uint32_t size = shape->head_size;
    uint32_t size_tiled = (size + 31) / 32 * 32;
    uint32_t summing = has_matrix(shape) ? config->decode_warps : 1;
    uint32_t queries = (heads + 7) / 8 * 8;
    uint32_t words = size                                   /* rotary table */
                     + 14                                   /* place */
                     + 2 * MERGE_GROUPS * heads + 2 * heads /* merge */
                     + 6;
    uint32_t vectors = queries * value_bytes(shape->kv) + 2 * stored_bytes(shape->kv);
    uint32_t bytes = vectors * size_tiled;
    if (is_exact(shape)) {
        bytes += 2 * config->partition * ((size + 15) / 16 * 16 + 8); /* values */
        bytes += 2 * queries * (config->partition + 8);               /* weights */
        words += config->decode_warps * heads * 5;                    /* totals, largest */
    } else {
        words += summing * heads * (size + 2) + heads; /* sums, totals, largest */
    }
    return (bytes + words * 4 + 7) / 8 * 8;
}

static void choose_decode(struct gpu_attention_config *config)
{
    const struct gpu_attention_shape *shape = &config->shape;
    uint32_t group = shape->head_count / shape->kv_head_count;
    config->tile_heads = group < HEADS_A_BLOCK_MAX ? group : HEADS_A_BLOCK_MAX;
    config->head_tiles =
        shape->kv_head_count * ((group + config->tile_heads - 1) / config->tile_heads);
    /* A warp holds a cache block and its sums in registers: the larger the head, the fewer warps.
     */
    config->decode_warps = 4;
    if (!is_exact(shape) && config->tile_heads <= 8 && shape->head_size <= 128) {
        config->decode_warps = 8;
    }
    config->partition = KV_BLOCK_TOKENS * config->decode_warps;
    uint32_t groups = SPREAD_BLOCKS / config->head_tiles;
    config->groups_max = groups < 4 ? 4 : groups > 64 ? 64 : groups;
    config->alone = ALONE_PARTITIONS;
    config->partials_max = UINT32_MAX;
    if (shape->exact) {
        config->groups_max = LIMIT_CONTEXT_LENGTH;
        config->alone = 1;
        config->partials_max = EXACT_PARTIALS_MAX;
    }
    config->decode_shared_bytes = decode_shared_bytes(config);
}

/* sizeof(struct prefill_shared): queries, and two stages of keys and values. */
static uint32_t prefill_shared_bytes(const struct gpu_attention_shape *shape, uint32_t rows,
                                     uint32_t positions)
{
    if (is_exact(shape)) {
        uint32_t tiled = (shape->head_size + 31) / 32 * 32;
        return ((rows + 2 * positions) * tiled +
                2 * positions * ((shape->head_size + 15) / 16 * 16 + 8)) *
               2;
    }
    uint32_t scales = shape->kv == DTYPE_Q8_0 ? 4 * positions * 4 : 0;
    return (rows + 4 * positions) * ((shape->head_size + 15) / 16 * 16 + 8) * 2 + scales;
}

/* Rows of a tile whose sums fit in registers: a fragment of keys that serves two rows of them is
 * read half as often, but with heads of 64 four blocks of half as many rows hide more of each
 * other's waits, as two do with exact sums. */
static uint32_t prefill_rows(const struct gpu_attention_shape *shape)
{
    bool few = shape->head_size <= 64 || shape->head_size > 128 || is_exact(shape);
    return few ? 64 : 128;
}

/* Of a multiprocessor, which has shared memory for `fit` of them. */
static uint32_t prefill_blocks(const struct gpu_attention_shape *shape, uint32_t fit)
{
    return shape->head_size > 64 || fit < 2 ? 2 : fit < 4 ? fit : 4;
}

/* The largest tile whose keys and values fit in shared memory. */
static void choose_prefill(struct gpu_attention_config *config, uint32_t shared_bytes_max)
{
    const struct gpu_attention_shape *shape = &config->shape;
    if (!has_matrix(shape) || shape->head_size > PREFILL_HEAD_MAX ||
        (shape->exact && !is_exact(shape))) {
        return;
    }
    /* Exact sums are of whole partitions. */
    uint32_t positions_min = shape->exact ? config->partition : 16;
    for (uint32_t positions = 64; positions >= positions_min; positions /= 2) {
        for (uint32_t rows = prefill_rows(shape); rows >= 64; rows /= 2) {
            uint32_t bytes = prefill_shared_bytes(shape, rows, positions);
            if (bytes <= shared_bytes_max) {
                config->tile_rows = rows;
                config->prefill_positions = positions;
                config->prefill_shared_bytes = bytes;
                config->prefill_blocks = prefill_blocks(shape, shared_bytes_max / bytes);
                return;
            }
        }
    }
}

llcuda_status gpu_attention_configure(const struct gpu_attention_shape *shape,
                                      const struct gpu_device_info *device,
                                      struct gpu_attention_config *config,
                                      struct llcuda_error *error)
{
    if (shape->kv_head_count == 0 || shape->head_count % shape->kv_head_count != 0 ||
        shape->head_count > LIMIT_HEAD_COUNT) {
        return error_set(error, LLCUDA_UNSUPPORTED,
                         "attention: %u query heads cannot share %u key-value heads",
                         shape->head_count, shape->kv_head_count);
    }
    if (shape->head_size == 0 || shape->head_size % 2 != 0 || shape->head_size > LIMIT_HEAD_SIZE) {
        return error_set(error, LLCUDA_UNSUPPORTED,
                         "attention: a head of %u elements is not supported on a GPU",
                         shape->head_size);
    }
    if (is_bytes(shape->kv) && shape->head_size % 16 != 0) {
        return error_set(error, LLCUDA_UNSUPPORTED,
                         "attention: a cache of %s needs heads of a multiple of 16 elements on a "
                         "GPU, not %u: use f16",
                         dtype_info(shape->kv)->name, shape->head_size);
    }
    if ((!is_type_known(shape->kv) && !is_bytes(shape->kv)) || !is_type_known(shape->act)) {
        return error_set(error, LLCUDA_UNSUPPORTED,
                         "attention: a cache of %s with activations of %s is not supported",
                         dtype_info(shape->kv)->name, dtype_info(shape->act)->name);
    }
    *config = (struct gpu_attention_config){.shape = *shape};
    choose_decode(config);
    choose_prefill(config, device->shared_bytes_block_max);
    if (config->decode_shared_bytes > device->shared_bytes_block_max) {
        return error_set(error, LLCUDA_UNSUPPORTED,
                         "attention: heads of %u elements need %u bytes of shared memory, the "
                         "device has %u",
                         shape->head_size, config->decode_shared_bytes,
                         device->shared_bytes_block_max);
    }
    return LLCUDA_OK;
}

static uint32_t type_number(enum dtype type)
{
    return type == DTYPE_F32 ? 0 : type == DTYPE_BF16 ? 2 : 1;
}

static uint32_t store_number(enum dtype kv)
{
    return kv == DTYPE_F8_E4M3 ? 1 : kv == DTYPE_Q8_0 ? 2 : 0;
}

bool gpu_attention_prelude(const struct gpu_attention_config *config, struct buffer *out)
{
    const struct gpu_attention_shape *shape = &config->shape;
    const struct {
        const char *name;
        uint32_t value;
    } constants[] = {
        {"HEADS", shape->head_count},
        {"KV_HEADS", shape->kv_head_count},
        {"HEAD_SIZE", shape->head_size},
        {"KV_TYPE", type_number(shape->kv)},
        {"KV_STORE", store_number(shape->kv)},
        {"ACT_TYPE", type_number(shape->act)},
        {"DECODE_WARPS", config->decode_warps},
        {"DECODE_GROUPS_MAX", config->groups_max},
        {"DECODE_ALONE", config->alone},
        {"DECODE_SHARED_BYTES", config->decode_shared_bytes},
        {"ATTENTION_EXACT", is_exact(shape)},
    };
    for (size_t i = 0; i < sizeof constants / sizeof constants[0]; i++) {
        prelude_integer(out, constants[i].name, constants[i].value);
    }
    if (config->tile_rows != 0) {
        /* Blocks a multiprocessor should hold: what registers are limited to follows. */
        prelude_integer(out, "PREFILL_ROW_TILES", config->tile_rows / 64);
        prelude_integer(out, "PREFILL_POSITIONS", config->prefill_positions);
        prelude_integer(out, "PREFILL_SHARED_BYTES", config->prefill_shared_bytes);
        prelude_integer(out, "PREFILL_BLOCKS", config->prefill_blocks);
    }
    return !out->failed;
}

/* Partitions that a group of a row with several has at least. The fewer rows decode, the more a row
 * is spread; many fill the device, and joining groups would take longer than their work. */
static uint32_t partitions_least(const struct gpu_attention_config *config, uint32_t rows)
{
    uint64_t least = (uint64_t)rows * config->head_tiles / BLOCKS_A_PARTITION;
    if (config->shape.exact || least < 1) {
        return 1;
    }
    return least < PARTITIONS_LEAST_MAX ? (uint32_t)least : PARTITIONS_LEAST_MAX;
}

/* The same of a row with so many partitions. */
static uint32_t group_least(const struct gpu_attention_config *config, uint32_t partitions,
                            uint32_t rows)
{
    return partitions <= config->alone ? config->alone : partitions_least(config, rows);
}

struct gpu_attention_span gpu_attention_span(const struct gpu_attention_config *config,
                                             uint32_t position, uint32_t window, uint32_t rows)
{
    struct gpu_attention_span span = {.end = position + 1};
    span.begin = window && window < span.end ? span.end - window : 0;
    span.first_partition = span.begin / config->partition;
    uint32_t partitions = position / config->partition - span.first_partition + 1;
    span.group_partitions = (partitions + config->groups_max - 1) / config->groups_max;
    uint32_t least = group_least(config, partitions, rows);
    span.group_partitions = span.group_partitions < least ? least : span.group_partitions;
    span.group_count = (partitions + span.group_partitions - 1) / span.group_partitions;
    return span;
}

uint32_t gpu_attention_groups(const struct gpu_attention_config *config, uint32_t position_max,
                              uint32_t rows)
{
    uint32_t partitions = position_max / config->partition + 1;
    uint32_t least = group_least(config, partitions, rows);
    partitions = (partitions + least - 1) / least;
    uint32_t wanted = partitions < config->groups_max ? partitions : config->groups_max;
    uint32_t groups = 1;
    while (groups < wanted) {
        groups *= 2;
    }
    return groups < config->groups_max ? groups : config->groups_max;
}

uint64_t gpu_attention_counter_bytes(const struct gpu_attention_config *config)
{
    return (uint64_t)DECODE_ROWS_MAX * config->head_tiles * 4;
}

/* Rows of a launch: all, or as many as have partial sums at once. */
static uint32_t rows_at_once(const struct gpu_attention_config *config, uint32_t rows,
                             uint32_t groups)
{
    uint64_t most = config->partials_max / ((uint64_t)config->head_tiles * (groups ? groups : 1));
    return most >= rows ? rows : most ? (uint32_t)most : 1;
}

uint64_t gpu_attention_workspace_bytes(const struct gpu_attention_config *config, uint32_t rows,
                                       uint32_t groups)
{
    uint64_t partial = (uint64_t)config->tile_heads * (config->shape.head_size + 2) * 4;
    uint64_t of_row = (uint64_t)config->head_tiles * groups;
    /* Not only for rows_at_once: fewer groups may leave room for more. */
    uint64_t most = of_row > config->partials_max ? of_row : config->partials_max;
    uint64_t partials = rows * of_row < most ? rows * of_row : most;
    return gpu_attention_counter_bytes(config) + partials * partial;
}

/* Tiles of rows [row, next), the last one first: it has the longest past. */
static void add_tiles(const struct gpu_attention_config *config, const struct step_batch *batch,
                      uint32_t row, uint32_t next, struct attention_tile *tiles,
                      struct gpu_attention_cut *cut)
{
    uint32_t count = (next - row + config->tile_rows - 1) / config->tile_rows;
    while (count-- > 0) {
        uint32_t begin = row + count * config->tile_rows;
        uint32_t rest = next - begin;
        tiles[cut->tile_count++] = (struct attention_tile){
            .row_begin = begin,
            .row_count = rest < config->tile_rows ? rest : config->tile_rows,
            .position = batch->positions[begin],
            .sequence = batch->sequences[begin],
        };
    }
}

/* Rows [row, next), consecutive and of one sequence. */
static void add_run(const struct gpu_attention_config *config, const struct step_batch *batch,
                    uint32_t row, uint32_t next, struct attention_tile *tiles,
                    uint32_t *decode_rows, struct gpu_attention_cut *cut)
{
    if (config->tile_rows != 0 && next - row >= PREFILL_ROWS_MIN) {
        add_tiles(config, batch, row, next, tiles, cut);
        return;
    }
    for (uint32_t i = row; i < next; i++) {
        decode_rows[cut->decode_count++] = i;
    }
    uint32_t last = batch->positions[next - 1];
    cut->position_max = last > cut->position_max ? last : cut->position_max;
}

void gpu_attention_cut(const struct gpu_attention_config *config, const struct step_batch *batch,
                       struct attention_tile *tiles, uint32_t *decode_rows,
                       struct gpu_attention_cut *cut)
{
    *cut = (struct gpu_attention_cut){.decode = true};
    uint32_t next = 0;
    for (uint32_t row = 0; row < batch->row_count; row = next) {
        uint32_t sequence = batch->sequences[row];
        for (next = row + 1; next < batch->row_count && batch->sequences[next] == sequence;) {
            next++;
        }
        cut->decode = cut->decode && next - row == 1;
        add_run(config, batch, row, next, tiles, decode_rows, cut);
    }
    if (cut->decode) {
        cut->decode_count = 0;
    }
}

void gpu_attention_cut_rows(const struct gpu_attention_config *config,
                            const struct step_batch *batch, const uint32_t *rows, uint32_t count,
                            struct attention_tile *tiles, uint32_t *decode_rows,
                            struct gpu_attention_cut *cut)
{
    *cut = (struct gpu_attention_cut){0};
    uint32_t next = 0;
    for (uint32_t i = 0; i < count; i = next) {
        uint32_t sequence = batch->sequences[rows[i]];
        for (next = i + 1; next < count && rows[next] == rows[next - 1] + 1 &&
                           batch->sequences[rows[next]] == sequence;) {
            next++;
        }
        add_run(config, batch, rows[i], rows[next - 1] + 1, tiles, decode_rows, cut);
    }
}

llcuda_status gpu_attention_load(struct gpu_driver *driver, struct gpu_module *module,
                                 const struct gpu_attention_config *config,
                                 struct gpu_attention_kernels *kernels, struct llcuda_error *error)
{
    *kernels = (struct gpu_attention_kernels){0};
    const struct {
        const char *name;
        struct gpu_function **function;
        uint32_t shared_bytes;
    } wanted[] = {
        {"qkv_finish", &kernels->qkv_finish, 0},
        {"copy_blocks", &kernels->copy_blocks, 0},
        {"attention_decode", &kernels->decode, config->decode_shared_bytes},
        {"attention_decode_fused", &kernels->decode_fused, config->decode_shared_bytes},
        {"attention_prefill", &kernels->prefill, config->prefill_shared_bytes},
    };
    size_t count = sizeof wanted / sizeof wanted[0] - (config->tile_rows == 0);
    llcuda_status status = LLCUDA_OK;
    for (size_t i = 0; i < count && status == LLCUDA_OK; i++) {
        status = driver->function_get(driver, module, wanted[i].name, wanted[i].function, error);
        if (status == LLCUDA_OK && wanted[i].shared_bytes != 0) {
            status = driver->function_shared_limit(driver, *wanted[i].function,
                                                   wanted[i].shared_bytes, error);
        }
    }
    return status;
}

static struct attention_score score_of(const struct gpu_attention_call *call)
{
    const float log2_e = 1.44269504088896340736f;
    return (struct attention_score){
        .factor = call->scale * log2_e,
        .cap = call->soft_cap * log2_e,
        .cap_factor = call->soft_cap != 0 ? call->scale * 2 * log2_e / call->soft_cap : 0,
    };
}

static struct attention_step attending_step(const struct gpu_attention_call *call)
{
    struct attention_step step = call->step;
    step.state = call->attending ? call->attending : step.state;
    return step;
}

static llcuda_status launch_decode(struct gpu_driver *driver, struct gpu_stream *stream,
                                   const struct gpu_attention_config *config,
                                   const struct gpu_attention_kernels *kernels,
                                   const struct gpu_attention_call *call,
                                   struct llcuda_error *error)
{
    uint32_t rows = call->decode ? call->rows : call->decode_rows_max;
    if (rows > DECODE_ROWS_MAX) {
        return error_set(error, LLCUDA_UNSUPPORTED, "attention: %u rows decode, at most %u can",
                         rows, DECODE_ROWS_MAX);
    }
    struct attention_decode_arguments arguments = {
        .step = attending_step(call),
        .projection = call->projection,
        .decode_rows = call->decode ? 0 : call->decode_rows,
        .query = call->query,
        .cache = call->cache,
        .attended = call->attended,
        .sinks = call->sinks,
        .partials = call->workspace + gpu_attention_counter_bytes(config),
        .arrivals = call->workspace,
        .score = score_of(call),
        .window = call->window,
        .group_stride = call->groups,
        .partitions_least = partitions_least(config, rows),
    };
    const uint32_t each = rows_at_once(config, rows, call->groups);
    struct gpu_launch launch = {
        .grid = {call->groups, config->head_tiles, each},
        .block = {32 * config->decode_warps, 1, 1},
        .shared_bytes = config->decode_shared_bytes,
        .overlap = call->overlap,
    };
    llcuda_status status = LLCUDA_OK;
    for (; arguments.index_first < rows && status == LLCUDA_OK; arguments.index_first += each) {
        uint32_t rest = rows - arguments.index_first;
        launch.grid[2] = rest < each ? rest : each;
        status =
            driver->launch(driver, stream, call->decode ? kernels->decode_fused : kernels->decode,
                           &launch, &arguments, sizeof arguments, error);
    }
    return status;
}

static llcuda_status launch_qkv_finish(struct gpu_driver *driver, struct gpu_stream *stream,
                                       const struct gpu_attention_kernels *kernels,
                                       const struct gpu_attention_call *call,
                                       struct llcuda_error *error)
{
    struct qkv_finish_arguments arguments = {
        .step = call->step,
        .projection = call->projection,
        .query = call->query,
        .cache = call->cache,
    };
    struct gpu_launch launch = {
        .grid = {call->rows, 1, 1},
        .block = {QKV_THREADS, 1, 1},
        .overlap = call->overlap,
    };
    return driver->launch(driver, stream, kernels->qkv_finish, &launch, &arguments,
                          sizeof arguments, error);
}

static llcuda_status launch_prefill(struct gpu_driver *driver, struct gpu_stream *stream,
                                    const struct gpu_attention_config *config,
                                    const struct gpu_attention_kernels *kernels,
                                    const struct gpu_attention_call *call,
                                    struct llcuda_error *error)
{
    struct attention_prefill_arguments arguments = {
        .step = attending_step(call),
        .tiles = call->tiles,
        .query = call->query,
        .cache = call->cache,
        .attended = call->attended,
        .sinks = call->sinks,
        .score = score_of(call),
        .window = call->window,
    };
    struct gpu_launch launch = {
        .grid = {config->shape.head_count, call->tiles_max, 1},
        .block = {PREFILL_THREADS, 1, 1},
        .shared_bytes = config->prefill_shared_bytes,
        .overlap = call->overlap,
    };
    return driver->launch(driver, stream, kernels->prefill, &launch, &arguments, sizeof arguments,
                          error);
}

llcuda_status gpu_attention_launch(struct gpu_driver *driver, struct gpu_stream *stream,
                                   const struct gpu_attention_config *config,
                                   const struct gpu_attention_kernels *kernels,
                                   const struct gpu_attention_call *call,
                                   struct llcuda_error *error)
{
    llcuda_status status = LLCUDA_OK;
    if (!call->decode) {
        status = launch_qkv_finish(driver, stream, kernels, call, error);
    }
    if (status == LLCUDA_OK && !call->decode && config->tile_rows != 0 && call->tiles_max != 0) {
        status = launch_prefill(driver, stream, config, kernels, call, error);
    }
    if (status == LLCUDA_OK && (call->decode || call->decode_rows_max != 0)) {
        status = launch_decode(driver, stream, config, kernels, call, error);
    }
    return status;
}

uint64_t gpu_attention_block_bytes(const struct gpu_attention_config *config)
{
    const struct gpu_attention_shape *shape = &config->shape;
    uint64_t vector = (uint64_t)shape->head_size * stored_bytes(shape->kv) +
                      (shape->kv == DTYPE_Q8_0 ? sizeof(float) : 0);
    return 2ull * KV_BLOCK_TOKENS * shape->kv_head_count * vector;
}

llcuda_status gpu_attention_copy_blocks(struct gpu_driver *driver, struct gpu_stream *stream,
                                        const struct gpu_attention_config *config,
                                        const struct gpu_attention_kernels *kernels,
                                        const struct gpu_copy_blocks_call *call,
                                        struct llcuda_error *error)
{
    uint64_t block_bytes = gpu_attention_block_bytes(config);
    struct copy_blocks_arguments arguments = {
        .cache = call->cache,
        .from = call->from,
        .to = call->to,
        .layer_bytes = call->layer_bytes,
        .block_bytes = block_bytes,
    };
    struct gpu_launch launch = {
        .grid = {(uint32_t)((block_bytes + COPY_BLOCK_BYTES - 1) / COPY_BLOCK_BYTES),
                 call->layer_count, call->count},
        .block = {COPY_BLOCK_BYTES / 16, 1, 1},
    };
    return driver->launch(driver, stream, kernels->copy_blocks, &launch, &arguments,
                          sizeof arguments, error);
}
