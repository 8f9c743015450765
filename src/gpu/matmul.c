/* Owns the vendor's matrix products of a model: which shapes were prepared, and whether one serves
 * a linear layer. They are chosen for many rows; their sums depend on the number of rows, so that a
 * deterministic device does without. Invariant: an entry lives until its place is needed or the
 * model goes; a captured graph does not need it any more. One thread. Knows no stages. */
#include <string.h>

#include "gpu/model.h"

/* Fewer rows are served better by kernels that stream the weights. */
#define MATMUL_ROWS_MIN 17u
/* What the vendor's fast kernels want addresses and rows to be multiples of, in bytes. */
#define MATMUL_ALIGNMENT 16u
/* Packed ones must be unpacked for it first, all of them for one step. */
#define MATMUL_ROWS_MIN_PACKED 33u
#define UNPACK_THREADS         256u   /* as in dequantize.cu */
#define PACKED_COLUMNS         512u   /* of a block of dequantize.cu */
#define UNPACK_ROWS_MAX        32768u /* of one launch */

static bool is_aligned(uint64_t bytes)
{
    return bytes % MATMUL_ALIGNMENT == 0;
}

static bool is_plain(const struct gpu_model *model, uint32_t weight)
{
    return model->weights[weight].dtype == model->activation;
}

/* Rows of all parts of a layer, 0 when they do not lie one after another as they are multiplied. */
static uint64_t rows_together(const struct gpu_model *model, const struct gpu_linear *linear)
{
    uint64_t rows = 0;
    uint64_t next = model->weights[linear->weights[0]].address;
    for (uint32_t i = 0; i < linear->part_count; i++) {
        const struct gpu_weight *weight = &model->weights[linear->weights[i]];
        if (weight->address != next ||
            (linear->part_count > 1 && !is_plain(model, linear->weights[i]))) {
            return 0;
        }
        next += weight->bytes;
        rows += model->base.plan->weights[linear->weights[i]].rows;
    }
    return rows;
}

bool gpu_matmul_unpacks(const struct gpu_model *model)
{
    if (!model->driver->matmul_create || model->activation == DTYPE_F32) {
        return false;
    }
    for (uint32_t i = 0; i < model->base.plan->weight_count; i++) {
        if (model->weights[i].is_matrix && !is_plain(model, i)) {
            return true;
        }
    }
    return false;
}

bool gpu_matmul_serves(const struct gpu_model *model, const struct gpu_linear *linear)
{
    const struct gpu_device_options *options = &model->device->options;
    const struct gpu_weight *weight = &model->weights[linear->weights[0]];
    const struct plan_weight *source = &model->base.plan->weights[linear->weights[0]];
    return model->driver->matmul_create && !options->deterministic &&
           options->linear == GPU_LINEAR_FAST &&
           linear->rows >= (weight->is_packed ? MATMUL_ROWS_MIN_PACKED : MATMUL_ROWS_MIN) &&
           !gpu_linear_goes_twice(model, linear) &&
           (is_plain(model, linear->weights[0]) || !gpu_wide_serves(model, linear)) &&
           model->activation != DTYPE_F32 && rows_together(model, linear) != 0 &&
           is_aligned(source->columns * 2) && is_aligned(linear->output_stride * 4ull) &&
           is_aligned(linear->output) && is_aligned(linear->input) &&
           (is_aligned(weight->address) || !is_plain(model, linear->weights[0]));
}

static struct gpu_matmul_entry *find(struct gpu_model *model, const struct gpu_matmul_shape *shape)
{
    for (uint32_t i = 0; i < model->matmul_count; i++) {
        if (memcmp(&model->matmuls[i].shape, shape, sizeof *shape) == 0) {
            return &model->matmuls[i];
        }
    }
    return NULL;
}

/* A new entry, in the place of the oldest when all are taken. */
static llcuda_status add(struct gpu_model *model, const struct gpu_matmul_shape *shape,
                         struct gpu_matmul_entry **entry, struct llcuda_error *error)
{
    struct gpu_matmul *matmul = NULL;
    llcuda_status status = model->driver->matmul_create(model->driver, shape, &matmul, error);
    if (status != LLCUDA_OK) {
        return status;
    }
    if (model->matmul_count < GPU_MATMULS_MAX) {
        *entry = &model->matmuls[model->matmul_count++];
    } else {
        *entry = &model->matmuls[model->matmul_next++ % GPU_MATMULS_MAX];
        model->driver->matmul_destroy(model->driver, (*entry)->matmul);
    }
    **entry = (struct gpu_matmul_entry){.shape = *shape, .matmul = matmul};
    return LLCUDA_OK;
}

/* output = input · Wᵀ for `rows` rows of W at `weight`. */
static llcuda_status multiply(struct gpu_model *model, const struct gpu_linear *linear,
                              uint64_t weight, uint64_t rows, uint64_t output,
                              struct llcuda_error *error)
{
    struct gpu_matmul_shape shape;
    memset(&shape, 0, sizeof shape); /* compared as bytes */
    shape.weight = model->activation;
    shape.output = DTYPE_F32;
    shape.n = linear->rows;
    shape.rows = (uint32_t)rows;
    shape.columns = (uint32_t)model->base.plan->weights[linear->weights[0]].columns;
    shape.output_stride = linear->output_stride;
    shape.accumulate = linear->mode == LINEAR_ADD;
    struct gpu_matmul_entry *entry = find(model, &shape);
    llcuda_status status = entry ? LLCUDA_OK : add(model, &shape, &entry, error);
    if (status != LLCUDA_OK) {
        return status;
    }
    return model->driver->matmul_run(model->driver, model->stream, entry->matmul, output,
                                     linear->input, weight, model->buffers.matmul, error);
}

llcuda_status gpu_unpack_tiles(struct gpu_model *model, uint32_t weight, uint64_t address,
                               uint32_t tiles, uint64_t output, struct llcuda_error *error)
{
    uint32_t columns = (uint32_t)model->base.plan->weights[weight].columns;
    const struct dequantize_arguments arguments = {
        .weight = address,
        .output = output,
        .row_bytes = model->weights[weight].row_bytes,
        .columns = columns,
    };
    const uint32_t grid[3] = {(columns + PACKED_COLUMNS - 1) / PACKED_COLUMNS, tiles, 1};
    return gpu_launch(model, GPU_KERNEL_PACKED_DEQUANTIZE + model->weights[weight].dtype, grid,
                      &arguments, sizeof arguments, error);
}

/* Rows [begin, begin + count) of a quantised weight to buffers.unpacked. */
static llcuda_status unpack(struct gpu_model *model, uint32_t index, uint64_t begin, uint64_t count,
                            struct llcuda_error *error)
{
    const struct gpu_weight *weight = &model->weights[index];
    uint32_t columns = (uint32_t)model->base.plan->weights[index].columns;
    uint64_t address = weight->address + begin * weight->row_bytes;
    if (weight->is_packed) { /* also what pads the last tile, for which there is room */
        return gpu_unpack_tiles(model, index, address, (uint32_t)((count + 15) / 16),
                                model->buffers.unpacked, error);
    }
    const struct dequantize_arguments arguments = {
        .weight = address,
        .output = model->buffers.unpacked,
        .row_bytes = weight->row_bytes,
        .columns = columns,
    };
    const uint32_t grid[3] = {(columns + 8 * UNPACK_THREADS - 1) / (8 * UNPACK_THREADS),
                              (uint32_t)count, 1};
    return gpu_launch(model, GPU_KERNEL_DEQUANTIZE + weight->dtype, grid, &arguments,
                      sizeof arguments, error);
}

llcuda_status gpu_matmul_run(struct gpu_model *model, const struct gpu_linear *linear,
                             struct llcuda_error *error)
{
    uint32_t index = linear->weights[0];
    uint64_t rows = rows_together(model, linear);
    if (is_plain(model, index)) {
        return multiply(model, linear, model->weights[index].address, rows, linear->output, error);
    }
    uint64_t columns = model->base.plan->weights[index].columns;
    uint64_t most = GPU_UNPACKED_BYTES / (2 * columns) / 64 * 64;
    most = most > UNPACK_ROWS_MAX ? UNPACK_ROWS_MAX : most;
    llcuda_status status = LLCUDA_OK;
    for (uint64_t begin = 0; begin < rows && status == LLCUDA_OK; begin += most) {
        uint64_t count = rows - begin < most ? rows - begin : most;
        status = unpack(model, index, begin, count, error);
        if (status == LLCUDA_OK) {
            status = multiply(model, linear, model->buffers.unpacked, count,
                              linear->output + begin * sizeof(float), error);
        }
    }
    return status;
}

void gpu_matmuls_release(struct gpu_model *model)
{
    for (uint32_t i = 0; i < model->matmul_count; i++) {
        model->driver->matmul_destroy(model->driver, model->matmuls[i].matmul);
    }
    model->matmul_count = 0;
}
