/* Owns which rows of a step its stages still compute. All of them, until the last layer has written
 * its keys and values: nobody reads the other rows after that, so the stages from there on
 * (queries, attention, feed-forward, logits) see the wanted rows only, moved together. A prompt's
 * last layer costs its keys and values and one row. Invariants: places keep the order of the batch;
 * since a row's bits do not depend on its company, leaving rows out changes nothing but time. */
#include <string.h>

#include "cpu/model.h"

/* Runs of the rows that are there: of one sequence, positions ascending by one. */
static void find_runs(struct cpu_model *model)
{
    const struct step_batch *batch = model->batch;
    model->run_count = 0;
    for (uint32_t place = 0; place < model->row_count; place++) {
        uint32_t row = model->row_at[place];
        /* Rows of one sequence follow one another, so that neighbours are neighbours in both. */
        if (place > 0 && model->row_at[place - 1] + 1 == row &&
            batch->sequences[row] == batch->sequences[row - 1]) {
            model->runs[model->run_count - 1].row_count++;
        } else {
            model->runs[model->run_count++] = (struct cpu_run){
                .row_begin = place,
                .row_count = 1,
                .position = batch->positions[row],
                .sequence = batch->sequences[row],
            };
        }
    }
}

void cpu_rows_all(struct cpu_model *model)
{
    model->row_count = model->batch->row_count;
    for (uint32_t row = 0; row < model->row_count; row++) {
        model->row_at[row] = row;
        model->place_of[row] = row;
    }
    find_runs(model);
}

bool cpu_rows_can_narrow(const struct cpu_model *model, const struct plan_op *op)
{
    return op - model->base.plan->ops == model->base.plan->last_cache_op && !model->base.observer &&
           step_batch_wanted(model->batch, NULL) < model->row_count;
}

void cpu_rows_narrow(struct cpu_model *model)
{
    uint64_t bytes = model->base.plan->embedding_length * sizeof(float);
    struct cpu_rows residual = model->buffers[PLAN_BUFFER_RESIDUAL];
    model->row_count = step_batch_wanted(model->batch, model->row_at);
    for (uint32_t place = 0; place < model->row_count; place++) {
        uint32_t row = model->row_at[place];
        model->place_of[row] = place;
        if (row != place) {
            memcpy(cpu_row(residual, place), cpu_row(residual, row), bytes);
            memcpy(cpu_row(model->normed, place), cpu_row(model->normed, row), bytes);
        }
    }
    find_runs(model);
}
