/* Owns the direct way from a model file to logits. One thread. */
#include "cli/evaluator.h"

#include <stdlib.h>

#include "engine/device_open.h"

/* Rows of a step, and how many of them give logits at once: V floats each. */
#define EVALUATOR_ROWS 64u

llcuda_status evaluator_open_device(struct options *options, struct device **device,
                                    struct llcuda_error *error)
{
    return evaluator_open_device_sharing(options, NULL, device, error);
}

llcuda_status evaluator_open_device_sharing(struct options *options, const int32_t *gpu_layers,
                                            struct device **device, struct llcuda_error *error)
{
    struct log_sink *log = arena_alloc(&options->arena, 1, sizeof *log);
    struct device_open_options wanted = {
        .log = log, /* as long as the options live */
        .thread_count = (uint32_t)option_integer(options, OPTION_THREADS, 0),
    };
    llcuda_engine_options gpu;
    llcuda_engine_options_init(&gpu, sizeof gpu);
    if (!log || !console_log_sink(options, log) || open_gpu_options(options, &gpu)) {
        return error_set(error, LLCUDA_INVALID_ARGUMENT, "the options of GPUs are not valid");
    }
    wanted.library_path = gpu.gpu_library_path;
    wanted.kernel_cache = gpu.gpu_kernel_cache;
    wanted.kernel_pack = gpu.gpu_kernel_pack;
    wanted.device_memory_limit = gpu.gpu_memory_limit_bytes;
    wanted.device_memory_share = gpu.gpu_memory_share;
    wanted.no_graphs = gpu.gpu_no_graphs;
    wanted.deterministic = gpu.deterministic;
    wanted.gpu_layers = gpu_layers ? *gpu_layers : gpu.gpu_layers;
    llcuda_status status = open_device_name(options, &wanted.name, error);
    return status == LLCUDA_OK ? device_open(&wanted, device, error) : status;
}

static llcuda_status open_source(struct evaluator *evaluator, const struct options *options,
                                 struct llcuda_error *error)
{
    const char *path = evaluator->path ? evaluator->path : option_text(options, OPTION_MODEL);
    if (path) {
        return model_source_open(path, false, &evaluator->source, error);
    }
    return model_source_open_memory(builtin_model_data(), builtin_model_bytes(), &evaluator->source,
                                    error);
}

static llcuda_status open_device(struct evaluator *evaluator, struct options *options,
                                 struct llcuda_error *error)
{
    struct console_progress progress;
    const char *cache = option_text(options, OPTION_CACHE_TYPE);
    struct device_model_options model_options = {
        .kv_block_count = (evaluator->context_length + KV_BLOCK_TOKENS - 1) / KV_BLOCK_TOKENS,
        .rows_max = evaluator->rows_max ? evaluator->rows_max : EVALUATOR_ROWS,
        .logits_rows_max = evaluator->logits_rows_max ? evaluator->logits_rows_max : EVALUATOR_ROWS,
    };
    if (!cache_type_find(cache, NULL, &model_options.kv_dtype)) {
        return error_set(error, LLCUDA_INVALID_ARGUMENT,
                         "--cache-type is f16, bf16, f32, q8_0 or fp8, not '%s'", cache);
    }
    evaluator->blocks = calloc(model_options.kv_block_count, sizeof *evaluator->blocks);
    if (!evaluator->blocks) {
        return error_no_memory(error, "a block table", model_options.kv_block_count);
    }
    for (uint32_t i = 0; i < model_options.kv_block_count; i++) {
        evaluator->blocks[i] = i;
    }
    llcuda_status status = evaluator_open_device(options, &evaluator->device, error);
    if (status) {
        return status;
    }
    if (evaluator->steps_as_served) {
        struct device_info info;
        device_describe(evaluator->device, &info);
        model_options.rows_max = evaluator->rows_max = info.step_rows;
    }
    console_progress_begin(&progress, "loading the model");
    struct device_progress report = {console_progress_report, &progress};
    status = device_model_load(evaluator->device, evaluator->plan, &model_options, &report,
                               &evaluator->model, error);
    console_progress_end(&progress);
    return status;
}

llcuda_status evaluator_open(struct evaluator *evaluator, struct options *options,
                             uint32_t context_default, struct llcuda_error *error)
{
    llcuda_status status = open_source(evaluator, options, error);
    if (!status) {
        status = model_plan_build(evaluator->source, &evaluator->plan, &evaluator->info, error);
    }
    if (status) {
        return status;
    }
    uint32_t natural = evaluator->plan->context_length < context_default
                           ? evaluator->plan->context_length
                           : context_default;
    evaluator->context_length = (uint32_t)option_integer(options, OPTION_CONTEXT, natural);
    return open_device(evaluator, options, error);
}

void evaluator_close(struct evaluator *evaluator)
{
    device_model_unload(evaluator->model);
    device_close(evaluator->device);
    plan_destroy(evaluator->plan);
    model_source_close(evaluator->source);
    free(evaluator->blocks);
    *evaluator = (struct evaluator){0};
}

static llcuda_status check_run(const struct evaluator *evaluator, const uint32_t *tokens,
                               uint32_t count, struct llcuda_error *error)
{
    if (count > evaluator->context_length) {
        return error_set(error, LLCUDA_CONTEXT_FULL,
                         "%u tokens do not fit the context of %u positions (--ctx sets it)", count,
                         evaluator->context_length);
    }
    for (uint32_t i = 0; i < count; i++) {
        if (tokens[i] >= evaluator->plan->vocabulary_size) {
            return error_set(error, LLCUDA_INVALID_ARGUMENT,
                             "token id %u is outside the vocabulary of %u", tokens[i],
                             evaluator->plan->vocabulary_size);
        }
    }
    return LLCUDA_OK;
}

llcuda_status evaluator_run(struct evaluator *evaluator, const uint32_t *tokens, uint32_t count,
                            bool (*each)(void *user, uint32_t position, const float *logits),
                            void *user, struct llcuda_error *error)
{
    uint32_t positions[EVALUATOR_ROWS];
    uint32_t rows[EVALUATOR_ROWS];
    uint32_t sequences[EVALUATOR_ROWS] = {0};
    llcuda_status status = check_run(evaluator, tokens, count, error);
    for (uint32_t begin = 0; !status && begin < count; begin += EVALUATOR_ROWS) {
        uint32_t n = count - begin < EVALUATOR_ROWS ? count - begin : EVALUATOR_ROWS;
        for (uint32_t i = 0; i < n; i++) {
            positions[i] = begin + i;
            rows[i] = i;
        }
        struct step_batch batch = {
            .row_count = n,
            .tokens = tokens + begin,
            .positions = positions,
            .sequences = sequences,
            .sequence_count = 1,
            .block_tables = evaluator->blocks,
            .block_table_stride = evaluator->model->options.kv_block_count,
            .logits_count = n,
            .logits_rows = rows,
        };
        const float *logits;
        status = device_step(evaluator->model, &batch, &logits, error);
        if (!status && model_source_damaged(evaluator->source)) {
            status = error_set(error, LLCUDA_IO, "the model file shrank while it was in use");
        }
        for (uint32_t i = 0; !status && i < n; i++) {
            const float *row = logits + (uint64_t)i * evaluator->plan->vocabulary_size;
            if (!each(user, begin + i, row) || console_interrupted()) {
                status = error_set(error, LLCUDA_CANCELLED, "interrupted");
            }
        }
    }
    return status;
}
