/* Owns steps that are run for their profile alone: the arrays of a batch, the choice of tokens, and
 * which of several repeats counts. One thread. It must not know what the profile is for. */
#include "bench/local_profile.h"

#include <stdlib.h>

#include "base/clock.h"
#include "bench/local_measure.h"

llcuda_status local_steps_init(struct local_steps *steps, struct device_model *model,
                               const uint32_t *blocks, const struct local_options *options,
                               struct llcuda_error *error)
{
    uint64_t rows = model->options.rows_max;
    uint32_t *arrays = calloc(rows, 3 * sizeof *arrays);
    *steps = (struct local_steps){.model = model, .blocks = blocks, .options = options};
    if (!arrays) {
        return error_no_memory(error, "a step", rows * 3 * sizeof *arrays);
    }
    steps->tokens = arrays;
    steps->positions = arrays + rows;
    steps->sequences = arrays + 2 * rows;
    return LLCUDA_OK;
}

void local_steps_deinit(struct local_steps *steps)
{
    free(steps->tokens);
    *steps = (struct local_steps){0};
}

/* Chooses a token as an engine would, and keeps what that took: logits are read, and the weight of
 * each is an exponential and a sum. A device that has chosen has that in its own profile. */
static llcuda_status choose_token(struct local_steps *steps, const float *logits,
                                  struct llcuda_error *error)
{
    uint64_t vocabulary = steps->model->plan->vocabulary_size;
    if (device_chosen(steps->model)) {
        return LLCUDA_OK;
    }
    uint64_t began = clock_now_ns();
    llcuda_status status = steps->options->choose(steps->options->chooser, logits, error);
    steps->sampling.ns += clock_now_ns() - began;
    steps->sampling.count++;
    steps->sampling.bytes += vocabulary * sizeof *logits;
    steps->sampling.operations += 2 * vocabulary;
    return status;
}

llcuda_status local_steps_run(struct local_steps *steps, uint32_t position, uint32_t count,
                              uint32_t rows, struct llcuda_error *error)
{
    const struct device_model *model = steps->model;
    for (uint32_t begin = 0; begin < count; begin += rows) {
        uint32_t n = count - begin < rows ? count - begin : rows;
        local_random_tokens(steps->tokens, n, model->plan->vocabulary_size, position + begin);
        for (uint32_t i = 0; i < n; i++) {
            steps->positions[i] = position + begin + i;
        }
        const uint32_t last = n - 1;
        struct step_batch batch = {
            .row_count = n,
            .tokens = steps->tokens,
            .positions = steps->positions,
            .sequences = steps->sequences,
            .sequence_count = 1,
            .block_tables = steps->blocks,
            .block_table_stride = model->options.kv_block_count,
            .logits_count = rows == 1 || begin + n == count,
            .logits_rows = &last,
            .choose = steps->options->greedy,
        };
        const float *logits;
        llcuda_status status = device_step(steps->model, &batch, &logits, error);
        if (!status && steps->options->choose && batch.logits_count > 0) {
            status = choose_token(steps, logits, error);
        }
        if (status) {
            return status;
        }
    }
    return LLCUDA_OK;
}

uint64_t local_profile_total_ns(const struct local_profile *profile)
{
    uint64_t total = 0;
    for (uint32_t i = 0; i < profile->count; i++) {
        total += profile->rows[i].ns;
    }
    return total;
}

/* One run, from a profile that begins anew. */
static llcuda_status profile_once(struct local_steps *steps, uint32_t rows,
                                  struct local_profile *profile, struct llcuda_error *error)
{
    struct local_launches *launches = &profile->launches;
    device_profile(steps->model, profile->rows, 0);
    steps->sampling =
        (struct device_profile_row){.operation = "sampling", .dtype = DTYPE_F32, .has_dtype = true};
    uint64_t began = clock_now_ns();
    llcuda_status status = local_steps_run(steps, profile->depth, profile->tokens, rows, error);
    profile->wall_ns = clock_now_ns() - began;
    launches->count = device_profile_kernels(steps->model, &launches->steps, launches->kernels,
                                             LAUNCH_KERNELS_MAX);
    profile->count = device_profile(steps->model, profile->rows, PROFILE_ROWS_MAX - 1);
    if (!status && profile->count == 0) {
        status = error_set(error, LLCUDA_UNSUPPORTED, "this device keeps no profile");
    }
    if (steps->sampling.count) {
        profile->rows[profile->count++] = steps->sampling;
    }
    return status;
}

llcuda_status local_profile_run(struct local_steps *steps, uint32_t rows,
                                struct local_profile *best, struct llcuda_error *error)
{
    const struct local_options *options = steps->options;
    struct local_profile *profile = malloc(sizeof *profile);
    if (!profile) {
        return error_no_memory(error, "a profile", sizeof *profile);
    }
    *profile = *best;
    best->count = 0;
    llcuda_status status =
        local_steps_run(steps, 0, best->depth, steps->model->options.rows_max, error);
    for (uint32_t i = 0; !status && i <= options->repeats; i++) {
        status = profile_once(steps, rows, profile, error);
        if (!status &&
            (best->count == 0 || local_profile_total_ns(profile) < local_profile_total_ns(best))) {
            *best = *profile;
        }
        if (!status && options->proceed &&
            !options->proceed(options->user, i, options->repeats + 1)) {
            status = error_set(error, LLCUDA_CANCELLED, "interrupted");
        }
    }
    free(profile);
    return status;
}
