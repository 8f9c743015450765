/* Owns the choice of a kernel for a linear layer, by the weight's type and the number of rows. One
 * thread. Knows no stages. */
#include "gpu/model.h"

#define PLAIN_ROWS   8u /* of the weight, a block: as in linear_plain.cu */
#define PLAIN_TOKENS 8u

static llcuda_status run_plain(struct gpu_model *model, const struct gpu_linear *linear,
                               struct llcuda_error *error)
{
    const struct plan_weight *source = &model->base.plan->weights[linear->weight];
    const struct gpu_weight *weight = &model->weights[linear->weight];
    const struct linear_plain_arguments arguments = {
        .count = linear->count,
        .weight = weight->address,
        .input = linear->input,
        .output = linear->output,
        .bias = linear->bias,
        .row_bytes = weight->row_bytes,
        .rows = (uint32_t)source->rows,
        .columns = (uint32_t)source->columns,
        .output_stride = linear->output_stride,
        .mode = linear->mode,
        .scale = 1.0f,
    };
    const uint32_t grid[3] = {
        (uint32_t)((source->rows + PLAIN_ROWS - 1) / PLAIN_ROWS),
        (linear->rows + PLAIN_TOKENS - 1) / PLAIN_TOKENS,
        1,
    };
    return gpu_launch(model, GPU_KERNEL_LINEAR_PLAIN + weight->dtype, grid, &arguments,
                      sizeof arguments, error);
}

llcuda_status gpu_linear_run(struct gpu_model *model, const struct gpu_linear *linear,
                             struct llcuda_error *error)
{
    if (gpu_matmul_serves(model, linear)) {
        return gpu_matmul_run(model, linear, error);
    }
    return run_plain(model, linear, error);
}
