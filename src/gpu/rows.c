/* Owns which rows of a step its stages still compute. All of them, until the last layer has written
 * its keys and values: nobody reads the other rows after that, so only rows whose logits or hidden
 * state are wanted attend there, and are then moved together for the stages that follow. A prompt's
 * last layer costs its projections and a layer of few rows. Invariants: places keep the order of
 * the batch; what is launched depends on the shape alone; the sums of a row do not depend on its
 * company, as far as the kernels promise it. One thread. Knows no kernels but its own. */
#include "gpu/model.h"

/* Steps of fewer rows take as long with all of them. */
#define NARROW_ROWS_MIN 9u

static bool can_narrow(const struct gpu_model *model)
{
    return !model->device->options.all_rows && model->base.plan->last_cache_op != PLAN_NONE;
}

uint32_t gpu_rows_wanted_max(const struct gpu_model *model)
{
    const struct device_model_options *options = &model->base.options;
    uint32_t half = options->rows_max / 2;
    return !can_narrow(model)                ? 0
           : half < options->logits_rows_max ? half
                                             : options->logits_rows_max;
}

bool gpu_rows_cut(const struct gpu_model *model, const struct step_batch *batch,
                  const struct gpu_step_layout *layout, struct gpu_rows_cut *cut)
{
    unsigned char *staging = model->staging;
    uint32_t *rows = (uint32_t *)(void *)(staging + layout->wanted_rows);
    *cut = (struct gpu_rows_cut){0};
    cut->row_count = step_batch_wanted(batch, NULL);
    if (!can_narrow(model) || batch->row_count < NARROW_ROWS_MIN ||
        cut->row_count > gpu_rows_wanted_max(model) || 2 * cut->row_count > batch->row_count) {
        return false;
    }
    step_batch_wanted(batch, rows);
    gpu_attention_cut_rows(&model->attention, batch, rows, cut->row_count,
                           (struct attention_tile *)(void *)(staging + layout->wanted_tiles),
                           (uint32_t *)(void *)(staging + layout->wanted_decode_rows),
                           &cut->attention);
    return true;
}

void gpu_rows_find_places(const uint32_t *wanted, const uint32_t *rows, uint32_t count,
                          uint32_t *places)
{
    uint32_t place = 0;
    for (uint32_t i = 0; i < count; i++) {
        while (wanted[place] != rows[i]) {
            place++;
        }
        places[i] = place;
    }
}

static uint64_t count_at(const struct gpu_model *model, uint64_t state)
{
    return gpu_step_address(model, state + offsetof(struct step_state, row_count));
}

void gpu_rows_all(struct gpu_model *model)
{
    model->live = (struct gpu_live){
        .rows = model->shape.rows,
        .count = count_at(model, model->layout.state),
        .residual = model->buffers.residual,
        .attended = model->buffers.attended,
    };
}

bool gpu_rows_leave_after(const struct gpu_model *model, const struct plan_op *op)
{
    return model->shape.narrows && op - model->base.plan->ops > model->base.plan->last_cache_op;
}

llcuda_status gpu_rows_leave(struct gpu_model *model, struct llcuda_error *error)
{
    const struct plan *plan = model->base.plan;
    const uint32_t activation_bytes = dtype_info(model->activation)->block_bytes;
    const struct gather_arguments arguments = {
        .count = count_at(model, model->layout.wanted_state),
        .rows = gpu_step_address(model, model->layout.wanted_rows),
        .residual = model->buffers.residual,
        .attended = model->buffers.attended,
        .residual_to = model->buffers.wanted_residual,
        .attended_to = model->buffers.wanted_attended,
        .residual_words = plan->embedding_length,
        /* Of an even number of elements: heads have one. */
        .attended_words = plan->width[PLAN_BUFFER_QUERY] * activation_bytes / 4,
    };
    const uint32_t grid[3] = {model->shape.wanted_rows, 1, 1};
    model->live = (struct gpu_live){
        .rows = model->shape.wanted_rows,
        .count = arguments.count,
        .residual = arguments.residual_to,
        .attended = arguments.attended_to,
    };
    return model->shape.wanted_rows == 0 ? LLCUDA_OK
                                         : gpu_launch(model, GPU_KERNEL_GATHER_ROWS, grid,
                                                      &arguments, sizeof arguments, error);
}
