/* Owns the choice among the tiles of linear_quads.cu, linear_wide.cu and linear_blocks.cu.
 * Invariant: the bits of a result depend on no choice made here, only the time does. One thread.
 * Knows no stages. */
#include <stdio.h>
#include <string.h>

#include "gpu/model.h"
#include "gpu/prelude.h"

/* Tensor cores of bfloat16 and background copies. */
#define CAPABILITY_MIN 80u
#define STAGES_MAX     4u
#define STAGES_MIN     2u
/* Fewer rows are served better by kernels that stream the weights. */
#define PLAIN_ROWS_MIN 33u
#define BLOCK_ROWS_MIN 17u
#define QUAD_ROWS_MIN  17u
/* From here on unpacking all weights, 4.6 bytes a weight of the memory's time, costs less than what
 * the vendor's product gains: 2 · n FLOP a weight at about 600 instead of 350 TFLOP/s on an H200.
 * By calculation, not measured. */
#define BLOCK_ROWS_MAX 512u

/* Of linear_quads.cu: one is worked on, one may still be. Its places begin at a multiple of
 * QUAD_ALIGNMENT; QUAD_COPY_THREADS ask for copies. */
#define QUAD_STAGES_MAX   8u
#define QUAD_STAGES_MIN   4u
#define QUAD_ALIGNMENT    1024u
#define QUAD_COPY_THREADS 128u
/* Larger tiles are not shared. */
#define QUAD_SHARED_TOKENS_MAX 64u
/* What kernels have beside it. */
#define SHARED_STATIC_BYTES 256u

const char *const gpu_wide_files[] = {
    "arguments_linear.h", "device.cuh",      "weight_formats.cuh", "linear_groups.cuh",
    "linear_wide.cu",     "linear_quads.cu", "linear_blocks.cu",   NULL};

const struct gpu_wide_tile gpu_wide_tiles[GPU_WIDE_ALL_TILE_COUNT] = {
    {2, 4, 4, 4},  /* 128 rows of the weight, 128 of x */
    {2, 2, 2, 4},  /* 64, 64 */
    {2, 2, 2, 2},  /* 64, 32 */
    {8, 1, 1, 24}, /* of linear_quads.cu: 128, 192 */
    {8, 1, 1, 16}, /* 128, 128 */
    {8, 1, 1, 8},  /* 128, 64 */
    {4, 1, 1, 8},  /* 64, 64 */
    {4, 1, 1, 4},  /* 64, 32 */
};

static bool is_quad(const struct gpu_wide_tile *tile)
{
    return tile >= gpu_wide_tiles + GPU_WIDE_TILE_COUNT;
}

/* Products of four warps together: VENDOR_WARPGROUPS of the kernels. */
static bool device_has_quads(const struct gpu_device_info *device)
{
    return device->vendor == GPU_EMU ||
           (device->vendor == GPU_CUDA && strcmp(device->arch, "sm_90a") == 0);
}

static uint32_t tile_rows(const struct gpu_wide_tile *tile)
{
    return 16 * tile->row_tiles * tile->warps_rows;
}

static uint32_t tile_tokens(const struct gpu_wide_tile *tile)
{
    return 8 * tile->token_tiles * tile->warps_tokens;
}

/* Bytes of 256 columns; 0 when weights of this type are not quantised. */
static uint32_t quantised_bytes(enum dtype dtype)
{
    const struct dtype_info *info = dtype_info(dtype);
    return info->block_elements > 1 ? 256 / info->block_elements * info->block_bytes : 0;
}

/* Dynamic shared memory: what does not grow with the stages, and that of a stage. */
static uint32_t shared_bytes(const struct gpu_wide_tile *tile, enum dtype dtype, uint32_t stages)
{
    uint32_t bytes = quantised_bytes(dtype);
    if (is_quad(tile)) {
        uint32_t results = tile_rows(tile) * (tile_tokens(tile) > 128 ? tile_tokens(tile) : 128);
        return stages * 128 * (tile_rows(tile) + tile_tokens(tile)) + results + QUAD_ALIGNMENT;
    }
    if (bytes == 0) {
        return stages * (tile_rows(tile) + tile_tokens(tile)) * 128;
    }
    uint32_t units = (bytes + 15 + 14) / 16 / 2 * 2 + 1; /* BLOCK_UNITS */
    return 2 * tile_rows(tile) * 16 * units + 256 * tile_rows(tile) +
           stages * tile_tokens(tile) * 128;
}

/* As many as fit; 0 when too few do. Tiles of weights that are not quantised share the number. */
static uint32_t stages(const struct gpu_device_info *device, const struct gpu_wide_tile *tile,
                       enum dtype dtype)
{
    if (is_quad(tile) && (quantised_bytes(dtype) || !device_has_quads(device))) {
        return 0;
    }
    tile = quantised_bytes(dtype) || is_quad(tile) ? tile : &gpu_wide_tiles[0];
    uint32_t most = is_quad(tile) ? QUAD_STAGES_MAX : STAGES_MAX;
    uint32_t least = is_quad(tile) ? QUAD_STAGES_MIN : STAGES_MIN;
    for (uint32_t count = most; count >= least; count--) {
        if (shared_bytes(tile, dtype, count) + SHARED_STATIC_BYTES <=
            device->shared_bytes_block_max) {
            return count;
        }
    }
    return 0;
}

void gpu_wide_name(enum dtype dtype, bool is_pair, uint32_t tile, char name[40])
{
    snprintf(name, 40, "linear_wide_%s_%d_%u", dtype_info(dtype)->name, is_pair, tile);
}

void gpu_wide_group_name(enum dtype dtype, bool is_pair, uint32_t tile, char name[40])
{
    snprintf(name, 40, "linear_group_%s_%d_%u", dtype_info(dtype)->name, is_pair, tile);
}

uint32_t gpu_wide_tokens(uint32_t tile)
{
    return tile_tokens(&gpu_wide_tiles[tile]);
}

static bool device_can(const struct gpu_device_info *device)
{
    return device->vendor == GPU_EMU ||
           (device->vendor == GPU_CUDA && device->capability >= CAPABILITY_MIN);
}

/* Appends the kernels of one type: of linear_quads.cu, or the others, for experts or not. */
static uint32_t list_kernels(const struct gpu_device_info *device, enum dtype dtype, bool grouped,
                             bool quads, struct buffer *prelude)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < 2 * GPU_WIDE_ALL_TILE_COUNT; i++) {
        bool is_pair = i >= GPU_WIDE_ALL_TILE_COUNT;
        const struct gpu_wide_tile *tile = &gpu_wide_tiles[i % GPU_WIDE_ALL_TILE_COUNT];
        uint32_t depth = stages(device, tile, dtype);
        const char *pair = is_pair ? "true" : "false";
        char name[40];
        if (depth == 0 || is_quad(tile) != quads) {
            continue;
        }
        (grouped ? gpu_wide_group_name : gpu_wide_name)(dtype, is_pair, i % GPU_WIDE_ALL_TILE_COUNT,
                                                        name);
        buffer_printf(prelude, " X(%s,", name);
        count++;
        if (quads) {
            buffer_printf(prelude, " %u, %u, %s, %u)", tile_tokens(tile), tile_rows(tile) / 64,
                          pair, depth);
            continue;
        }
        if (quantised_bytes(dtype)) {
            buffer_printf(prelude, " %s, %u, %u,", dtype_info(dtype)->name, quantised_bytes(dtype),
                          depth);
        }
        buffer_printf(prelude, " %u, %u, %u, %u, %s, 1)", tile->warps_rows, tile->warps_tokens,
                      tile->row_tiles, tile->token_tiles, pair);
    }
    return count;
}

/* Appends the kernels of all types; returns their number. */
static uint32_t list_all(const struct gpu_device_info *device, enum dtype act,
                         const bool wanted[DTYPE_COUNT], bool grouped, struct buffer *prelude)
{
    uint32_t count = 0;
    const char *ending = grouped ? "GROUPS" : "KERNELS";
    buffer_printf(prelude, "#define LINEAR_WIDE_%s(X)", ending);
    if (wanted[act]) {
        count += list_kernels(device, act, grouped, false, prelude);
    }
    buffer_printf(prelude, "\n#define LINEAR_BLOCK_%s(X)", ending);
    for (int dtype = 0; dtype < DTYPE_COUNT; dtype++) {
        if (wanted[dtype] && quantised_bytes((enum dtype)dtype)) {
            count += list_kernels(device, (enum dtype)dtype, grouped, false, prelude);
        }
    }
    buffer_append_byte(prelude, '\n');
    return count;
}

bool gpu_wide_prelude(const struct gpu_device_info *device, enum dtype act,
                      const bool wanted[DTYPE_COUNT], struct buffer *prelude)
{
    uint32_t count = 0;
    uint32_t depth = stages(device, &gpu_wide_tiles[0], act);
    if (!device_can(device) || act == DTYPE_F32) {
        return false;
    }
    prelude_integer(prelude, "WIDE_STAGES", depth ? depth : STAGES_MIN);
    count = list_all(device, act, wanted, false, prelude);
    buffer_append_text(prelude, "#define LINEAR_QUAD_KERNELS(X)");
    if (wanted[act]) {
        count += list_kernels(device, act, false, true, prelude);
    }
    buffer_append_byte(prelude, '\n');
    return count != 0;
}

void gpu_wide_group_prelude(const struct gpu_device_info *device, enum dtype act,
                            const bool wanted[DTYPE_COUNT], struct buffer *prelude)
{
    if (device_can(device) && act != DTYPE_F32) {
        list_all(device, act, wanted, true, prelude);
    }
}

static bool is_served(const struct gpu_model *model, uint32_t weight)
{
    return model->weights[weight].is_matrix &&
           (gpu_weight_streams(model, weight) || gpu_weight_has_blocks(model, weight));
}

/* Packed experts are read unpacked. */
static enum dtype type_read(const struct gpu_model *model, uint32_t weight)
{
    const struct gpu_weight *of = &model->weights[weight];
    return of->is_expert && of->is_packed ? model->activation : of->dtype;
}

bool gpu_wide_choose(const struct gpu_model *model, struct buffer *prelude)
{
    bool wanted[2][DTYPE_COUNT] = {{false}};
    bool has_groups = false;
    for (uint32_t i = 0; i < model->base.plan->weight_count; i++) {
        if (is_served(model, i)) {
            bool is_expert = model->weights[i].is_expert;
            wanted[is_expert][type_read(model, i)] = true;
            has_groups = has_groups || is_expert;
        }
    }
    bool any = gpu_wide_prelude(&model->device->info, model->activation, wanted[0], prelude);
    has_groups = has_groups && device_can(&model->device->info);
    if (has_groups) {
        gpu_wide_group_prelude(&model->device->info, model->activation, wanted[1], prelude);
    }
    return any || has_groups;
}

uint64_t gpu_wide_partial_bytes(const struct gpu_model *model)
{
    const struct gpu_device_options *options = &model->device->options;
    bool has_vendor = model->driver->matmul_create && !options->deterministic &&
                      options->linear == GPU_LINEAR_FAST;
    return has_vendor || !device_has_quads(&model->device->info) || model->activation == DTYPE_F32
               ? 0
               : GPU_WIDE_PARTIAL_BYTES;
}

static llcuda_status load_type(struct gpu_model *model, struct gpu_module *module, enum dtype dtype,
                               bool grouped, struct llcuda_error *error)
{
    struct gpu_driver *driver = model->driver;
    const struct gpu_device_info *device = &model->device->info;
    llcuda_status status = LLCUDA_OK;
    for (uint32_t i = 0; i < 2 * GPU_WIDE_ALL_TILE_COUNT && status == LLCUDA_OK; i++) {
        bool is_pair = i >= GPU_WIDE_ALL_TILE_COUNT;
        uint32_t at = i % GPU_WIDE_ALL_TILE_COUNT;
        const struct gpu_wide_tile *tile = &gpu_wide_tiles[at];
        struct gpu_function **function = NULL;
        uint32_t depth = stages(device, tile, dtype);
        char name[40];
        if (depth == 0 || (grouped && is_quad(tile))) {
            continue;
        }
        (grouped ? gpu_wide_group_name : gpu_wide_name)(dtype, is_pair, at, name);
        function = grouped ? &model->program.group[dtype][is_pair][at]
                           : &model->program.wide[dtype][is_pair][at];
        status = driver->function_get(driver, module, name, function, error);
        if (status == LLCUDA_OK) {
            status = driver->function_shared_limit(driver, *function,
                                                   shared_bytes(tile, dtype, depth), error);
        }
    }
    return status;
}

llcuda_status gpu_wide_load(struct gpu_model *model, struct gpu_module *module,
                            struct llcuda_error *error)
{
    bool loaded[2][DTYPE_COUNT] = {{false}};
    llcuda_status status = LLCUDA_OK;
    for (uint32_t i = 0; i < model->base.plan->weight_count && status == LLCUDA_OK; i++) {
        enum dtype dtype = type_read(model, i);
        bool is_expert = model->weights[i].is_expert;
        if (is_served(model, i) && !loaded[is_expert][dtype]) {
            loaded[is_expert][dtype] = true;
            status = load_type(model, module, dtype, is_expert, error);
        }
    }
    return status;
}

/* Tiles of the weight's rows, each of one part; gate and up share theirs. */
static uint32_t count_tiles(const struct gpu_wide_tile *tile, bool is_pair, const uint32_t *rows,
                            uint32_t part_count)
{
    uint32_t each = tile_rows(tile);
    uint32_t tiles = 0;
    if (is_pair) {
        return (rows[0] + each / 2 - 1) / (each / 2);
    }
    for (uint32_t i = 0; i < part_count; i++) {
        tiles += (rows[i] + each - 1) / each;
    }
    return tiles;
}

bool gpu_wide_serves(const struct gpu_model *model, const struct gpu_linear *linear)
{
    const struct gpu_device_options *options = &model->device->options;
    enum dtype dtype = model->weights[linear->weights[0]].dtype;
    bool quantised = quantised_bytes(dtype) != 0;
    bool has_vendor = model->driver->matmul_create && !options->deterministic &&
                      options->linear == GPU_LINEAR_FAST;
    uint32_t rows_min = !quantised ? PLAIN_ROWS_MIN : options->deterministic ? 1 : BLOCK_ROWS_MIN;
    if (!quantised && model->program.wide[dtype][linear->is_pair][GPU_WIDE_TILE_COUNT]) {
        rows_min = QUAD_ROWS_MIN;
    }
    if (model->weights[linear->weights[0]].is_packed || linear->rows < rows_min ||
        (quantised && has_vendor && linear->rows > BLOCK_ROWS_MAX) ||
        !model->program.wide[dtype][linear->is_pair][GPU_WIDE_TILE_COUNT - 1] ||
        gpu_linear_goes_twice(model, linear)) {
        return false;
    }
    for (uint32_t i = 0; i < linear->part_count; i++) {
        uint32_t weight = linear->weights[i];
        if (model->weights[weight].dtype != dtype || model->weights[weight].is_packed ||
            model->base.plan->weights[weight].columns % 32 != 0) {
            return false;
        }
    }
    return true;
}

bool gpu_wide_launch(const struct gpu_device_info *device, enum dtype dtype, uint32_t index,
                     bool is_pair, const uint32_t *rows, uint32_t part_count, uint32_t n,
                     struct gpu_launch *launch)
{
    const struct gpu_wide_tile *tile = &gpu_wide_tiles[index];
    uint32_t tokens = tile_tokens(tile);
    uint32_t depth = stages(device, tile, dtype);
    *launch = (struct gpu_launch){
        .grid = {(n + tokens - 1) / tokens, count_tiles(tile, is_pair, rows, part_count), 1},
        .block = {32 * tile->warps_rows * tile->warps_tokens, 1, 1},
        .shared_bytes = shared_bytes(tile, dtype, depth),
    };
    launch->block[0] += is_quad(tile) ? QUAD_COPY_THREADS : 0;
    return depth != 0;
}

bool gpu_wide_is_quad(uint32_t tile)
{
    return is_quad(&gpu_wide_tiles[tile]);
}

/* Boxes of `box_rows` rows. */
static struct gpu_tensor_shape matrix_shape(enum dtype act, uint64_t address, uint32_t rows,
                                            uint32_t columns, uint32_t box_rows)
{
    return (struct gpu_tensor_shape){.address = address,
                                     .type = act,
                                     .columns = columns,
                                     .rows = {rows, 1, 1},
                                     .row_strides = {2ull * columns},
                                     .box_rows = {box_rows, 1, 1},
                                     .dimensions = 2};
}

/* Eight rows of the one matrix and eight of the other in turn, as one matrix: the way from one to
 * the other is a stride, which cannot be negative. */
static struct gpu_tensor_shape pair_shape(enum dtype act,
                                          const struct linear_wide_arguments *linear,
                                          uint32_t box_rows, uint32_t *is_swapped)
{
    uint64_t gate = linear->weights[0];
    uint64_t up = linear->weights[1];
    *is_swapped = up < gate;
    return (struct gpu_tensor_shape){
        .address = *is_swapped ? up : gate,
        .type = act,
        .columns = linear->columns,
        .rows = {8, 2, (linear->rows[0] + 7) / 8}, /* stored are sixteens */
        .row_strides = {2ull * linear->columns, *is_swapped ? gate - up : up - gate,
                        16ull * linear->columns},
        .box_rows = {8, 2, box_rows / 16},
        .dimensions = 4};
}

llcuda_status gpu_wide_quad_run(struct gpu_driver *driver, struct gpu_stream *stream,
                                struct gpu_function *function, const struct gpu_wide_quad *quad,
                                const struct linear_wide_arguments *linear,
                                struct llcuda_error *error)
{
    const struct gpu_wide_tile *tile = &gpu_wide_tiles[quad->tile];
    struct gpu_launch launch = quad->launch;
    struct linear_quad_arguments arguments;
    memset(&arguments, 0, sizeof arguments);
    arguments.linear = *linear;
    arguments.arrivals = quad->partials;
    arguments.partials = quad->partials + GPU_WIDE_COUNTERS * sizeof(uint32_t);
    arguments.splits = launch.grid[2];
    struct gpu_tensor_shape shape =
        matrix_shape(quad->act, linear->input, quad->n, linear->columns, tile_tokens(tile));
    llcuda_status status = driver->tensor_map(driver, &shape, arguments.input.words, error);
    for (uint32_t i = 0; i < (quad->is_pair ? 1 : DECODE_PARTS_MAX) && status == LLCUDA_OK; i++) {
        if (linear->rows[i] == 0) {
            continue;
        }
        shape = quad->is_pair
                    ? pair_shape(quad->act, linear, tile_rows(tile), &arguments.is_swapped)
                    : matrix_shape(quad->act, linear->weights[i], linear->rows[i], linear->columns,
                                   tile_rows(tile));
        status = driver->tensor_map(driver, &shape, arguments.weights[i].words, error);
    }
    if (status != LLCUDA_OK) {
        return status;
    }
    /* Blocks take one item after another; those that share a tile wait for each other, and should
     * run at the same time. */
    uint64_t tiles = (uint64_t)launch.grid[0] * launch.grid[1];
    while (arguments.splits > 1 && tiles * arguments.splits > quad->multiprocessors) {
        arguments.splits /= 2;
    }
    uint64_t items = tiles * arguments.splits;
    launch.grid[0] = items < quad->multiprocessors ? (uint32_t)items : quad->multiprocessors;
    launch.grid[1] = launch.grid[2] = 1;
    return driver->launch(driver, stream, function, &launch, &arguments, sizeof arguments, error);
}

bool gpu_wide_can_split(uint32_t tile, const struct gpu_launch *launch)
{
    const struct gpu_wide_tile *shape = &gpu_wide_tiles[tile];
    uint64_t tiles = (uint64_t)launch->grid[0] * launch->grid[1];
    uint64_t bytes = tiles * GPU_WIDE_SPLITS_MAX * tile_rows(shape) * tile_tokens(shape) * 4;
    return is_quad(shape) && tile_tokens(shape) <= QUAD_SHARED_TOKENS_MAX &&
           tiles <= GPU_WIDE_COUNTERS &&
           bytes + GPU_WIDE_COUNTERS * sizeof(uint32_t) <= GPU_WIDE_PARTIAL_BYTES;
}

/* Nanoseconds that a launch of linear_quads.cu takes beyond its start, as measured on an H200: a
 * multiprocessor takes 75 bytes a nanosecond and 3,000 products and leaves 60 bytes of sums; memory
 * gives 4,400 bytes, once each weight. Who shares a tile waits for the others, and writes and reads
 * the sums of its ranges. */
static uint64_t quad_cost(const struct gpu_model *model, uint32_t tile, uint64_t columns,
                          uint64_t weight_rows, const struct gpu_launch *launch)
{
    const struct gpu_wide_tile *shape = &gpu_wide_tiles[tile];
    uint64_t multiprocessors = model->device->info.multiprocessor_count;
    uint64_t items = (uint64_t)launch->grid[0] * launch->grid[1] * launch->grid[2];
    uint64_t turns = (items + multiprocessors - 1) / multiprocessors;
    uint64_t rows = tile_rows(shape);
    uint64_t tokens = tile_tokens(shape);
    uint64_t columns_item = columns / launch->grid[2];
    uint64_t bytes = (rows + tokens) * columns_item * 2 / 75;
    uint64_t products = rows * tokens * columns_item / 3000;
    uint64_t sums = rows * tokens * 4;
    uint64_t cost = turns * ((bytes > products ? bytes : products) + sums / 60);
    uint64_t weights = weight_rows * columns * 2 / 4400;
    cost = cost > weights ? cost : weights;
    return launch->grid[2] == 1 ? cost : cost + 5500 + 2 * 16 * sums / launch->grid[2] / 100;
}

/* The fastest tile of linear_quads.cu and how many blocks share one, as a launch. Returns 0
 * when there is none. */
static uint32_t choose_quad(const struct gpu_model *model, const struct gpu_linear *linear,
                            enum dtype dtype, const uint32_t *rows, struct gpu_launch *launch)
{
    uint32_t best = 0;
    uint64_t least = UINT64_MAX;
    uint64_t columns = model->base.plan->weights[linear->weights[0]].columns;
    uint64_t weight_rows = (uint64_t)rows[0] + rows[1] + rows[2]; /* none where no part is */
    for (uint32_t tile = GPU_WIDE_TILE_COUNT; tile < GPU_WIDE_ALL_TILE_COUNT; tile++) {
        struct gpu_launch tried;
        if (!model->program.wide[dtype][linear->is_pair][tile] ||
            !gpu_wide_launch(&model->device->info, dtype, tile, linear->is_pair, rows,
                             linear->part_count, linear->rows, &tried)) {
            continue;
        }
        uint32_t most =
            gpu_wide_can_split(tile, &tried) && model->buffers.partials ? GPU_WIDE_SPLITS_MAX : 1;
        uint64_t room =
            model->device->info.multiprocessor_count / ((uint64_t)tried.grid[0] * tried.grid[1]);
        most = room < most ? (uint32_t)room : most;
        for (tried.grid[2] = 1; tried.grid[2] == 1 || tried.grid[2] <= most; tried.grid[2] *= 2) {
            uint64_t cost = quad_cost(model, tile, columns, weight_rows, &tried);
            if (cost < least) {
                least = cost;
                best = tile;
                *launch = tried;
            }
        }
    }
    return best;
}

/* Of the others. Larger tiles read less a product, but must be many enough for all
 * multiprocessors. */
static uint32_t choose_tile(const struct gpu_model *model, const struct gpu_linear *linear,
                            enum dtype dtype, const uint32_t *rows)
{
    uint32_t tile = 0;
    for (; tile + 1 < GPU_WIDE_TILE_COUNT; tile++) {
        uint32_t tokens = tile_tokens(&gpu_wide_tiles[tile]);
        uint64_t blocks =
            (uint64_t)((linear->rows + tokens - 1) / tokens) *
            count_tiles(&gpu_wide_tiles[tile], linear->is_pair, rows, linear->part_count);
        bool wasteful = linear->rows <= tokens / 2;
        if (!wasteful && model->program.wide[dtype][linear->is_pair][tile] &&
            4 * blocks >= 3ull * model->device->info.multiprocessor_count) {
            break;
        }
    }
    return tile;
}

llcuda_status gpu_wide_run(struct gpu_model *model, const struct gpu_linear *linear,
                           struct llcuda_error *error)
{
    const struct plan_weight *weights = model->base.plan->weights;
    const struct gpu_weight *first = &model->weights[linear->weights[0]];
    struct linear_wide_arguments arguments = {
        .count = linear->count,
        .input = linear->input,
        .output = linear->output,
        .row_bytes = first->row_bytes,
        .columns = (uint32_t)weights[linear->weights[0]].columns,
        .output_stride = linear->output_stride,
        .kind = linear->is_pair ? linear->activation : linear->mode,
    };
    for (uint32_t i = 0; i < linear->part_count; i++) {
        arguments.weights[i] = model->weights[linear->weights[i]].address;
        arguments.rows[i] = (uint32_t)weights[linear->weights[i]].rows;
    }
    struct gpu_launch launch;
    uint32_t tile = choose_quad(model, linear, first->dtype, arguments.rows, &launch);
    if (tile == 0) {
        tile = choose_tile(model, linear, first->dtype, arguments.rows);
        gpu_wide_launch(&model->device->info, first->dtype, tile, linear->is_pair, arguments.rows,
                        linear->part_count, linear->rows, &launch);
    }
    launch.overlap = !model->device->options.no_overlap;
    if (gpu_wide_is_quad(tile)) {
        const struct gpu_wide_quad quad = {
            .tile = tile,
            .act = model->activation,
            .is_pair = linear->is_pair,
            .n = linear->rows,
            .multiprocessors = model->device->info.multiprocessor_count,
            .partials = model->buffers.partials,
            .launch = launch,
        };
        return gpu_wide_quad_run(model->driver, model->stream,
                                 model->program.wide[first->dtype][linear->is_pair][tile], &quad,
                                 &arguments, error);
    }
    return model->driver->launch(model->driver, model->stream,
                                 model->program.wide[first->dtype][linear->is_pair][tile], &launch,
                                 &arguments, sizeof arguments, error);
}
