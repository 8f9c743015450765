/* Owns the choice among the tiles of linear_wide.cu. Invariant: the bits of a result depend on no
 * choice made here, only the time does. One thread. Knows no stages. */
#include <stdio.h>

#include "gpu/model.h"
#include "gpu/prelude.h"

/* Tensor cores of bfloat16 and background copies. */
#define CAPABILITY_MIN 80u
#define STAGES_MAX     4u
#define STAGES_MIN     2u
/* Fewer rows are served better by kernels that stream the weights. */
#define ROWS_MIN 33u

const char *const gpu_wide_files[] = {"arguments_linear.h", "device.cuh", "linear_wide.cu", NULL};

const struct gpu_wide_tile gpu_wide_tiles[GPU_WIDE_TILE_COUNT] = {
    {2, 4, 4, 4}, /* 128 rows of the weight, 128 of x */
    {2, 2, 2, 4}, /* 64, 64 */
    {2, 2, 2, 2}, /* 64, 32 */
};

static uint32_t tile_rows(const struct gpu_wide_tile *tile)
{
    return 16 * tile->row_tiles * tile->warps_rows;
}

static uint32_t tile_tokens(const struct gpu_wide_tile *tile)
{
    return 8 * tile->token_tiles * tile->warps_tokens;
}

static uint32_t stage_bytes(const struct gpu_wide_tile *tile)
{
    return (tile_rows(tile) + tile_tokens(tile)) * 128;
}

/* As many stages as fit for the largest tile; the others take as many. */
static uint32_t stages(const struct gpu_device_info *device)
{
    uint32_t fit = device->shared_bytes_block_max / stage_bytes(&gpu_wide_tiles[0]);
    return fit > STAGES_MAX ? STAGES_MAX : fit;
}

bool gpu_wide_prelude(const struct gpu_device_info *device, struct buffer *prelude)
{
    if (stages(device) < STAGES_MIN ||
        (device->vendor == GPU_CUDA && device->capability < CAPABILITY_MIN) ||
        device->vendor == GPU_HIP) {
        return false;
    }
    prelude_integer(prelude, "WIDE_STAGES", stages(device));
    buffer_append_text(prelude, "#define LINEAR_WIDE_KERNELS(X)");
    for (uint32_t pair = 0; pair < 2; pair++) {
        for (uint32_t i = 0; i < GPU_WIDE_TILE_COUNT; i++) {
            const struct gpu_wide_tile *tile = &gpu_wide_tiles[i];
            buffer_printf(prelude, " X(linear_wide_%u_%u, %u, %u, %u, %u, %s, 1)", pair, i,
                          tile->warps_rows, tile->warps_tokens, tile->row_tiles, tile->token_tiles,
                          pair ? "true" : "false");
        }
    }
    buffer_append_byte(prelude, '\n');
    return !prelude->failed;
}

bool gpu_wide_wanted(const struct gpu_model *model)
{
    struct buffer ignored = {0};
    bool wanted = false;
    for (uint32_t i = 0; i < model->base.plan->weight_count && !wanted; i++) {
        wanted = model->weights[i].is_matrix && gpu_weight_streams(model, i);
    }
    wanted = wanted && gpu_wide_prelude(&model->device->info, &ignored);
    buffer_deinit(&ignored);
    return wanted;
}

llcuda_status gpu_wide_load(struct gpu_model *model, struct gpu_module *module,
                            struct llcuda_error *error)
{
    struct gpu_driver *driver = model->driver;
    llcuda_status status = LLCUDA_OK;
    for (uint32_t i = 0; i < 2 * GPU_WIDE_TILE_COUNT && status == LLCUDA_OK; i++) {
        uint32_t pair = i / GPU_WIDE_TILE_COUNT;
        uint32_t tile = i % GPU_WIDE_TILE_COUNT;
        struct gpu_function **function = &model->program.wide[pair][tile];
        char name[32];
        snprintf(name, sizeof name, "linear_wide_%u_%u", pair, tile);
        status = driver->function_get(driver, module, name, function, error);
        if (status == LLCUDA_OK) {
            status = driver->function_shared_limit(
                driver, *function,
                stages(&model->device->info) * stage_bytes(&gpu_wide_tiles[tile]), error);
        }
    }
    return status;
}

bool gpu_wide_serves(const struct gpu_model *model, const struct gpu_linear *linear)
{
    if (!model->program.has_wide || linear->rows < ROWS_MIN) {
        return false;
    }
    for (uint32_t i = 0; i < linear->part_count; i++) {
        if (!gpu_weight_streams(model, linear->weights[i])) {
            return false;
        }
    }
    return true;
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

void gpu_wide_launch(const struct gpu_device_info *device, uint32_t index, bool is_pair,
                     const uint32_t *rows, uint32_t part_count, uint32_t n,
                     struct gpu_launch *launch)
{
    const struct gpu_wide_tile *tile = &gpu_wide_tiles[index];
    uint32_t tokens = tile_tokens(tile);
    *launch = (struct gpu_launch){
        .grid = {(n + tokens - 1) / tokens, count_tiles(tile, is_pair, rows, part_count), 1},
        .block = {32 * tile->warps_rows * tile->warps_tokens, 1, 1},
        .shared_bytes = stages(device) * stage_bytes(tile),
    };
}

/* Larger tiles read less a product, but must be many enough for all multiprocessors. */
static uint32_t choose_tile(const struct gpu_device_info *device, const struct gpu_linear *linear,
                            const uint32_t *rows)
{
    uint32_t tile = 0;
    for (; tile + 1 < GPU_WIDE_TILE_COUNT; tile++) {
        uint32_t tokens = tile_tokens(&gpu_wide_tiles[tile]);
        uint64_t blocks =
            (uint64_t)((linear->rows + tokens - 1) / tokens) *
            count_tiles(&gpu_wide_tiles[tile], linear->is_pair, rows, linear->part_count);
        bool wasteful = linear->rows <= tokens / 2;
        if (!wasteful && 4 * blocks >= 3ull * device->multiprocessor_count) {
            break;
        }
    }
    return tile;
}

llcuda_status gpu_wide_run(struct gpu_model *model, const struct gpu_linear *linear,
                           struct llcuda_error *error)
{
    const struct gpu_device_info *device = &model->device->info;
    const struct plan_weight *weights = model->base.plan->weights;
    struct linear_wide_arguments arguments = {
        .count = linear->count,
        .input = linear->input,
        .output = linear->output,
        .columns = (uint32_t)weights[linear->weights[0]].columns,
        .output_stride = linear->output_stride,
        .kind = linear->is_pair ? linear->activation : linear->mode,
    };
    for (uint32_t i = 0; i < linear->part_count; i++) {
        arguments.weights[i] = model->weights[linear->weights[i]].address;
        arguments.rows[i] = (uint32_t)weights[linear->weights[i]].rows;
    }
    uint32_t tile = choose_tile(device, linear, arguments.rows);
    struct gpu_launch launch;
    gpu_wide_launch(device, tile, linear->is_pair, arguments.rows, linear->part_count, linear->rows,
                    &launch);
    launch.overlap = !model->device->options.no_overlap;
    return model->driver->launch(model->driver, model->stream,
                                 model->program.wide[linear->is_pair][tile], &launch, &arguments,
                                 sizeof arguments, error);
}
