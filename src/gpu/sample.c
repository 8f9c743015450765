/* Owns sampling on the device: settings of requests become data of the step, four launches draw the
 * tokens (src/kernels/sample.cu), and what the rows want is copied back. Invariant: what is
 * launched depends on the step's shape alone. One thread. Knows no requests. */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "gpu/model.h"

static_assert(sizeof(struct sample_edit) == sizeof(struct step_edit), "copied as they are");
static_assert(offsetof(struct sample_edit, amount) == offsetof(struct step_edit, amount), "");
static_assert((int)SAMPLE_EDIT_PENALISE == (int)STEP_EDIT_PENALISE &&
                  (int)SAMPLE_EDIT_LOWER == (int)STEP_EDIT_LOWER &&
                  (int)SAMPLE_EDIT_ADD == (int)STEP_EDIT_ADD &&
                  (int)SAMPLE_EDIT_FORBID == (int)STEP_EDIT_FORBID &&
                  (int)SAMPLE_EDIT_KINDS == (int)STEP_EDIT_KIND_COUNT,
              "kinds have the same numbers");
static_assert(sizeof(struct sample_logprob) == sizeof(struct device_logprob) &&
                  offsetof(struct sample_logprob, top) == offsetof(struct device_logprob, top) &&
                  offsetof(struct sample_logprob, rank) == offsetof(struct device_logprob, rank),
              "handed on as they are");
static_assert(DEVICE_NOT_FINITE == SAMPLE_NONE && DEVICE_REFUSED == SAMPLE_REFUSED, "");

/* Lower temperatures have a reciprocal that is no float: nothing but the best token has a chance.
 */
#define TEMPERATURE_MIN 1e-30

static uint32_t block_count(const struct plan *plan)
{
    return (plan->vocabulary_size + SAMPLE_BLOCK - 1) / SAMPLE_BLOCK;
}

/* --- memory: results, largest and sums of blocks, largest of slices ----------------------------
 */

static uint64_t results_bytes(uint32_t rows)
{
    return rows * sizeof(struct sample_logprob);
}

uint64_t gpu_sample_scratch_bytes(const struct plan *plan, uint32_t rows)
{
    return results_bytes(rows) +
           (uint64_t)rows * (2ull * block_count(plan) + SAMPLE_SLICES) * sizeof(float);
}

static uint64_t mask_bytes(const struct plan *plan)
{
    return (plan->vocabulary_size + 31u) / 32u * sizeof(uint32_t);
}

static uint32_t edit_count(const struct step_sampling *sampling)
{
    uint32_t count = 0;
    for (int kind = 0; kind < STEP_EDIT_KIND_COUNT; kind++) {
        count += sampling->edit_counts[kind];
    }
    return count;
}

uint64_t gpu_sample_step_bytes(const struct gpu_model *model, const struct step_batch *batch)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; batch->sampling && i < batch->logits_count; i++) {
        const struct step_sampling *sampling = &batch->sampling[i];
        if (!sampling->on_host) {
            bytes += 32 + (uint64_t)edit_count(sampling) * sizeof(struct sample_edit) +
                     (sampling->mask ? mask_bytes(model->base.plan) : 0);
        }
    }
    return bytes;
}

/* --- settings -------------------------------------------------------------------------------- */

static uint64_t append(struct gpu_model *model, uint64_t *end, const void *from, uint64_t bytes)
{
    uint64_t at = (*end + 15) / 16 * 16;
    memcpy(model->staging + at, from, bytes);
    *end = at + bytes;
    return at;
}

/* Neutral settings get the values by which the kernel knows them. */
static struct sample_row row_of(const struct step_sampling *sampling, uint32_t vocabulary)
{
    bool greedy = sampling->temperature < TEMPERATURE_MIN;
    bool top_k = sampling->top_k > 0 && sampling->top_k < vocabulary;
    bool whole =
        !top_k && sampling->typical_p >= 1 && (sampling->top_p < 1 || sampling->min_p <= 0);
    return (struct sample_row){
        .seed = sampling->seed,
        .repetition = sampling->repetition_penalty,
        .top_p = sampling->top_p,
        .typical_p = sampling->typical_p,
        .min_p = sampling->min_p,
        .min_p_depth =
            sampling->min_p > 0 ? sampling->temperature * (log(sampling->min_p) - 1e-3) : -INFINITY,
        .inverse = greedy ? 0.0f : (float)(1.0 / sampling->temperature),
        .position = sampling->position,
        .top_k = top_k ? sampling->top_k : 0,
        .flags = (sampling->logprobs ? SAMPLE_LOGPROBS : 0) | (!greedy && whole ? SAMPLE_WEIGH : 0),
        .top_count = sampling->top_logprobs < vocabulary ? sampling->top_logprobs : vocabulary,
    };
}

uint64_t gpu_sample_fill(struct gpu_model *model, const struct step_batch *batch, uint64_t end)
{
    const struct plan *plan = model->base.plan;
    struct sample_row *rows = (struct sample_row *)(void *)(model->staging + model->layout.samples);
    for (uint32_t i = 0; i < batch->logits_count; i++) {
        const struct step_sampling *sampling = &batch->sampling[i];
        if (sampling->on_host) {
            rows[i] = (struct sample_row){.flags = SAMPLE_ON_HOST};
            continue;
        }
        struct sample_row row = row_of(sampling, plan->vocabulary_size);
        uint32_t edits = 0;
        for (int kind = 0; kind < STEP_EDIT_KIND_COUNT; kind++) {
            edits += sampling->edit_counts[kind];
            row.edit_ends[kind] = edits;
        }
        if (edits > 0) {
            row.edits = append(model, &end, sampling->edits, edits * sizeof *sampling->edits);
        }
        if (sampling->mask) {
            row.mask = append(model, &end, sampling->mask, mask_bytes(plan));
        }
        rows[i] = row;
    }
    return end;
}

/* --- launches and results -------------------------------------------------------------------- */

llcuda_status gpu_sample_launch(struct gpu_model *model, struct llcuda_error *error)
{
    const struct plan *plan = model->base.plan;
    uint32_t rows_max = model->base.options.logits_rows_max;
    uint32_t blocks = block_count(plan);
    uint64_t floats = model->buffers.sampling + results_bytes(rows_max);
    uint64_t blocks_bytes = (uint64_t)rows_max * blocks * sizeof(float);
    const struct sample_arguments arguments = {
        .count = gpu_logits_count(model),
        .step = model->buffers.step,
        .rows = gpu_step_address(model, model->layout.samples),
        .logits = model->buffers.logits,
        .block_max = floats,
        .block_sum = floats + blocks_bytes,
        .slices = floats + 2 * blocks_bytes,
        .chosen = gpu_choices_chosen(model),
        .results = model->buffers.sampling,
        .width = plan->vocabulary_size,
        .blocks = blocks,
    };
    const uint32_t rows = model->shape.logits_rows;
    const struct {
        enum gpu_kernel kernel;
        uint32_t grid[3];
    } launches[] = {
        {GPU_KERNEL_SAMPLE_EDIT, {rows, 1, 1}},
        {GPU_KERNEL_SAMPLE_SCAN, {SAMPLE_SLICES, rows, 1}},
        {GPU_KERNEL_SAMPLE_DRAW, {rows, 1, 1}},
        {GPU_KERNEL_SAMPLE_LOGPROBS, {rows, 1, 1}},
    };
    llcuda_status status = LLCUDA_OK;
    for (size_t i = 0; i < sizeof launches / sizeof *launches && status == LLCUDA_OK; i++) {
        status = gpu_launch(model, launches[i].kernel, launches[i].grid, &arguments,
                            sizeof arguments, error);
    }
    return status;
}

/* Log-probabilities come back through memory of their own, made when they are first wanted. */
static llcuda_status copy_logprobs(struct gpu_model *model, uint32_t rows,
                                   struct llcuda_error *error)
{
    struct gpu_driver *driver = model->driver;
    llcuda_status status = LLCUDA_OK;
    if (!model->logprobs) {
        void *memory = NULL;
        status = driver->host_alloc(driver, results_bytes(model->base.options.logits_rows_max),
                                    &memory, error);
        model->logprobs = memory;
    }
    return status == LLCUDA_OK
               ? driver->copy_out(driver, model->stream, model->logprobs, model->buffers.sampling,
                                  results_bytes(rows), error)
               : status;
}

llcuda_status gpu_sample_copy(struct gpu_model *model, const struct step_batch *batch,
                              struct llcuda_error *error)
{
    struct gpu_driver *driver = model->driver;
    uint64_t width = model->base.plan->vocabulary_size;
    bool logprobs = false;
    llcuda_status status =
        driver->copy_out(driver, model->stream, model->chosen, gpu_choices_chosen(model),
                         batch->logits_count * sizeof(uint32_t), error);
    for (uint32_t i = 0; i < batch->logits_count && status == LLCUDA_OK; i++) {
        if (batch->sampling[i].on_host) {
            status = driver->copy_out(driver, model->stream, model->logits + i * width,
                                      model->buffers.logits + i * width * sizeof(float),
                                      width * sizeof(float), error);
        } else {
            logprobs = logprobs || batch->sampling[i].logprobs;
        }
    }
    return status == LLCUDA_OK && logprobs ? copy_logprobs(model, batch->logits_count, error)
                                           : status;
}

bool gpu_model_samples(const struct device_model *model)
{
    return block_count(model->plan) <= SAMPLE_BLOCKS_MAX;
}

const struct device_logprob *gpu_model_logprobs(const struct device_model *base)
{
    const struct gpu_model *model = (const struct gpu_model *)base;
    return (const struct device_logprob *)(const void *)model->logprobs;
}
