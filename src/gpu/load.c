/* Owns a model's life on the GPU device: in which order its parts are made, and that all of them
 * are given back. One thread. Knows no model's name. */
#include <stdlib.h>
#include <string.h>

#include "gpu/model.h"
#include "gpu/profile.h"

/* Positions are counted in 32 bits, with room to add a partition. */
#define KV_BLOCKS_MAX (1u << 27)

static llcuda_status check_options(const struct plan *plan,
                                   const struct device_model_options *options,
                                   struct llcuda_error *error)
{
    enum dtype kv = options->kv_dtype;
    if (kv != DTYPE_F16 && kv != DTYPE_F32 && kv != DTYPE_BF16 && kv != DTYPE_F8_E4M3 &&
        kv != DTYPE_Q8_0) {
        return error_set(error, LLCUDA_UNSUPPORTED,
                         "a cache of type %s is not supported: use f16, bf16, f32, fp8 or q8_0",
                         (unsigned)kv < DTYPE_COUNT ? dtype_info(kv)->name : "unknown");
    }
    if (options->rows_max == 0 || options->logits_rows_max == 0 || options->kv_block_count == 0) {
        return error_set(error, LLCUDA_INVALID_ARGUMENT,
                         "a model needs at least one row, one row of logits and one cache block");
    }
    if (options->kv_block_count > KV_BLOCKS_MAX) {
        return error_set(error, LLCUDA_LIMIT, "%u cache blocks; at most %u are possible",
                         options->kv_block_count, KV_BLOCKS_MAX);
    }
    if (plan->gives_residual) {
        return error_set(error, LLCUDA_UNSUPPORTED,
                         "a GPU computes the last layers of a model, not the first alone");
    }
    if (plan->op_count == 0 || plan->head_size == 0) {
        return error_set(error, LLCUDA_INVALID_ARGUMENT, "the plan is not finished");
    }
    return LLCUDA_OK;
}

static llcuda_status make_attention(struct gpu_model *model, struct llcuda_error *error)
{
    const struct plan *plan = model->base.plan;
    const struct gpu_attention_shape shape = {
        .head_count = plan->width[PLAN_BUFFER_QUERY] / plan->head_size,
        .kv_head_count = plan->kv_head_count,
        .head_size = plan->head_size,
        .kv = model->base.options.kv_dtype,
        .act = model->activation,
        .exact = model->device->options.deterministic,
    };
    llcuda_status status =
        gpu_attention_configure(&shape, &model->device->info, &model->attention, error);
    if (status == LLCUDA_OK) {
        model->block_bytes = gpu_attention_block_bytes(&model->attention);
        model->layer_bytes = model->block_bytes * model->base.options.kv_block_count;
    }
    return status;
}

static llcuda_status make_host_memory(struct gpu_model *model, struct llcuda_error *error)
{
    struct gpu_driver *driver = model->driver;
    const struct device_model_options *options = &model->base.options;
    uint64_t bytes = (uint64_t)options->logits_rows_max * model->base.plan->vocabulary_size * 4;
    void *memory = NULL;
    llcuda_status status = driver->host_alloc(driver, bytes, &memory, error);
    model->logits = memory;
    if (status == LLCUDA_OK) {
        memory = NULL;
        status =
            driver->host_alloc(driver, options->logits_rows_max * sizeof(uint32_t), &memory, error);
        model->chosen = memory;
    }
    if (status == LLCUDA_OK) {
        memory = NULL;
        status = driver->host_alloc(driver, model->step_bytes, &memory, error);
        model->staging = memory;
    }
    if (status == LLCUDA_OK && model->base.plan->takes_residual) {
        memory = NULL;
        status = driver->host_alloc(
            driver, (uint64_t)options->rows_max * model->base.plan->embedding_length * 4, &memory,
            error);
        model->residual = memory;
    }
    return status;
}

/* Counters of attention start at zero, and so does the cache: what was never written is finite. */
static llcuda_status clear(struct gpu_model *model, struct llcuda_error *error)
{
    struct gpu_driver *driver = model->driver;
    uint64_t attention = gpu_attention_workspace_bytes(
        &model->attention, model->base.options.rows_max, gpu_step_groups_max(model));
    llcuda_status status = LLCUDA_OK;
    if (attention != 0) {
        status = driver->fill(driver, model->stream, model->buffers.attention, 0, attention, error);
    }
    if (status == LLCUDA_OK && model->buffers.partials) {
        status = driver->fill(driver, model->stream, model->buffers.partials, 0,
                              GPU_WIDE_COUNTERS * sizeof(uint32_t), error);
    }
    if (status == LLCUDA_OK && model->buffers.routes != 0) {
        status = driver->fill(driver, model->stream, model->buffers.routes, 0,
                              gpu_experts_route_bytes(model), error);
    }
    if (status == LLCUDA_OK) {
        status = driver->fill(driver, model->stream, model->buffers.choices, 0,
                              gpu_choices_bytes(model->base.options.logits_rows_max), error);
    }
    if (status == LLCUDA_OK) {
        status = driver->fill(driver, model->stream, model->cache, 0,
                              model->layer_bytes * model->base.plan->layer_count, error);
    }
    return status;
}

static llcuda_status make_parts(struct gpu_model *model, const struct device_progress *progress,
                                struct llcuda_error *error)
{
    struct gpu_driver *driver = model->driver;
    llcuda_status status = driver->attach(driver, error);
    if (status == LLCUDA_OK) {
        status = gpu_weights_choose(model, error);
    }
    if (status == LLCUDA_OK) {
        status = make_attention(model, error);
    }
    if (status == LLCUDA_OK) {
        model->step_bytes = gpu_step_bytes(model, 0);
        status = gpu_memory_check(model, error);
    }
    if (status == LLCUDA_OK) {
        status = gpu_program_start(model, error);
    }
    if (status == LLCUDA_OK) {
        status = driver->stream_create(driver, &model->stream, error);
    }
    if (status == LLCUDA_OK) {
        status = driver->event_create(driver, false, &model->done, error);
    }
    if (status == LLCUDA_OK) {
        status = gpu_memory_make(model, error);
    }
    if (status == LLCUDA_OK) {
        status = make_host_memory(model, error);
    }
    if (status == LLCUDA_OK) {
        status = clear(model, error);
    }
    if (status == LLCUDA_OK) {
        status = gpu_weights_upload(model, progress, error);
    }
    if (status == LLCUDA_OK) {
        status = gpu_program_finish(model, error);
    }
    if (status == LLCUDA_OK) {
        gpu_memory_warn(model->device);
    }
    return status;
}

llcuda_status gpu_model_load(struct device *base, const struct plan *plan,
                             const struct device_model_options *options,
                             const struct device_progress *progress, struct device_model **out,
                             struct llcuda_error *error)
{
    struct gpu_device *device = (struct gpu_device *)base;
    llcuda_status status = check_options(plan, options, error);
    if (status != LLCUDA_OK) {
        return status;
    }
    if (device->lost) {
        return error_set(error, LLCUDA_DEVICE, "the device stopped answering before");
    }
    struct gpu_model *model = calloc(1, sizeof *model);
    if (!model) {
        return error_no_memory(error, "a model", sizeof *model);
    }
    model->base =
        (struct device_model){.interface = base->interface, .plan = plan, .options = *options};
    model->device = device;
    model->driver = device->driver;
    model->weights = calloc(plan->weight_count + 1u, sizeof *model->weights);
    model->frequencies = calloc(plan->rotary_table_count + 1u, sizeof *model->frequencies);
    if (model->weights && model->frequencies) {
        status = make_parts(model, progress, error);
    } else {
        status = error_no_memory(error, "the weights' table",
                                 plan->weight_count * sizeof *model->weights);
    }
    if (status != LLCUDA_OK) {
        gpu_model_unload(&model->base);
        return status;
    }
    *out = &model->base;
    return LLCUDA_OK;
}

/* Without a word in the log: what is chosen for a weight is told when it is loaded. */
llcuda_status gpu_model_place(struct device *base, const struct plan *plan,
                              const struct device_model_options *options,
                              struct device_part parts[DEVICE_PARTS_MAX], uint32_t *count,
                              struct llcuda_error *error)
{
    struct gpu_device quiet = *(struct gpu_device *)base;
    struct gpu_model model = {
        .base = {.interface = base->interface, .plan = plan, .options = *options},
        .device = &quiet,
        .driver = quiet.driver,
    };
    struct device_info info;
    quiet.options.log = NULL;
    llcuda_status status = check_options(plan, options, error);
    if (status == LLCUDA_OK) {
        status = quiet.driver->attach(quiet.driver, error);
    }
    if (status != LLCUDA_OK) {
        return status;
    }
    device_describe(base, &info);
    parts[0] = (struct device_part){
        .layer_end = plan->layer_count, .embeds = !plan->takes_residual, .gives_logits = true};
    memcpy(parts[0].kind, info.kind, sizeof info.kind);
    memcpy(parts[0].name, info.name, sizeof info.name);
    *count = 1;
    model.weights = calloc(plan->weight_count + 1u, sizeof *model.weights);
    status = model.weights ? gpu_weights_choose(&model, error)
                           : error_no_memory(error, "the weights' table",
                                             plan->weight_count * sizeof *model.weights);
    if (status == LLCUDA_OK) {
        status = make_attention(&model, error);
    }
    if (status == LLCUDA_OK) {
        model.step_bytes = gpu_step_bytes(&model, 0);
        status = gpu_memory_count(&model, &parts[0], error);
    }
    free(model.weights);
    return status;
}

llcuda_status gpu_device_pack(struct device *base, const struct plan *plan,
                              const struct device_model_options *options, const char *path,
                              struct llcuda_error *error)
{
    struct gpu_device *device = (struct gpu_device *)base;
    struct gpu_model model = {
        .base = {.interface = base->interface, .plan = plan, .options = *options},
        .device = device,
        .driver = device->driver,
    };
    llcuda_status status = check_options(plan, options, error);
    if (status != LLCUDA_OK) {
        return status;
    }
    model.weights = calloc(plan->weight_count + 1u, sizeof *model.weights);
    status = model.weights ? gpu_weights_choose(&model, error)
                           : error_no_memory(error, "the weights' table",
                                             plan->weight_count * sizeof *model.weights);
    if (status == LLCUDA_OK) {
        status = make_attention(&model, error);
    }
    if (status == LLCUDA_OK) {
        status = gpu_program_pack(&model, path, error);
    }
    gpu_program_release(&model);
    free(model.weights);
    return status;
}

void gpu_model_unload(struct device_model *base)
{
    struct gpu_model *model = (struct gpu_model *)base;
    struct gpu_driver *driver = model->driver;
    if (model->stream && !model->device->lost) {
        struct llcuda_error ignored;
        (void)driver->stream_wait(driver, model->stream, model->device->options.timeout_ms,
                                  &ignored);
    }
    gpu_profile_destroy(model);
    gpu_graphs_release(model);
    gpu_matmuls_release(model);
    gpu_program_release(model);
    driver->host_free(driver, model->staging);
    driver->host_free(driver, model->logits);
    driver->host_free(driver, model->chosen);
    driver->host_free(driver, model->hidden);
    driver->host_free(driver, model->residual);
    driver->host_free(driver, model->logprobs);
    gpu_memory_release(model);
    gpu_memory_warn(model->device); /* it has fallen */
    driver->event_destroy(driver, model->done);
    driver->stream_destroy(driver, model->stream);
    free(model->frequencies);
    free(model->weights);
    free(model);
}
