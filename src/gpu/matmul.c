/* Owns the vendor's matrix products of a model: which shapes were prepared, and whether one serves a
 * linear layer. They are chosen for many rows; their sums depend on the number of rows, so that a
 * deterministic device does without. Invariant: an entry lives until its place is needed or the
 * model goes; a captured graph does not need it any more. One thread. Knows no stages. */
#include <string.h>

#include "gpu/model.h"

/* Fewer rows are served better by kernels that stream the weights. */
#define MATMUL_ROWS_MIN 17u
/* What the vendor's fast kernels want addresses and rows to be multiples of, in bytes. */
#define MATMUL_ALIGNMENT 16u

static bool is_aligned(uint64_t bytes)
{
    return bytes % MATMUL_ALIGNMENT == 0;
}

bool gpu_matmul_serves(const struct gpu_model *model, const struct gpu_linear *linear)
{
    const struct gpu_device_options *options = &model->device->options;
    const struct gpu_weight *weight = &model->weights[linear->weight];
    const struct plan_weight *source = &model->base.plan->weights[linear->weight];
    return model->driver->matmul_create && !options->deterministic &&
           options->linear == GPU_LINEAR_FAST && linear->rows >= MATMUL_ROWS_MIN &&
           linear->bias == 0 && weight->dtype == model->activation &&
           (weight->dtype == DTYPE_F16 || weight->dtype == DTYPE_BF16) &&
           is_aligned(source->columns * 2) && is_aligned(linear->output_stride * 4ull) &&
           is_aligned(linear->output) && is_aligned(linear->input) && is_aligned(weight->address);
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

llcuda_status gpu_matmul_run(struct gpu_model *model, const struct gpu_linear *linear,
                             struct llcuda_error *error)
{
    const struct plan_weight *source = &model->base.plan->weights[linear->weight];
    struct gpu_matmul_shape shape;
    memset(&shape, 0, sizeof shape); /* compared as bytes */
    shape.weight = model->activation;
    shape.output = DTYPE_F32;
    shape.n = linear->rows;
    shape.rows = (uint32_t)source->rows;
    shape.columns = (uint32_t)source->columns;
    shape.output_stride = linear->output_stride;
    shape.accumulate = linear->mode == LINEAR_ADD;
    struct gpu_matmul_entry *entry = find(model, &shape);
    llcuda_status status = entry ? LLCUDA_OK : add(model, &shape, &entry, error);
    if (status != LLCUDA_OK) {
        return status;
    }
    return model->driver->matmul_run(model->driver, model->stream, entry->matmul, linear->output,
                                     linear->input, model->weights[linear->weight].address,
                                     model->buffers.matmul, error);
}

void gpu_matmuls_release(struct gpu_model *model)
{
    for (uint32_t i = 0; i < model->matmul_count; i++) {
        model->driver->matmul_destroy(model->driver, model->matmuls[i].matmul);
    }
    model->matmul_count = 0;
}
