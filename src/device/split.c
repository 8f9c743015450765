/* Owns the two halves of a model that two devices share: the parts of its plan, the models made of
 * them, and the way of a step through both. Invariants: a failure of either leaves nothing behind;
 * blocks are copied on both sides or the step fails. The host computes in the calling thread before
 * the GPU begins, so that a step that runs is the GPU's alone. One thread. Knows no backend. */
#include "device/split.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct split_device {
    struct device base;
    struct device *host, *gpu;
    const struct log_sink *log;
    uint32_t layers; /* on the GPU, or SPLIT_AUTO */
};

struct split_model {
    struct device_model base;
    struct plan *parts[2];
    struct device_model *host, *gpu;
};

/* --- the device ------------------------------------------------------------------------------ */

static void close_device(struct device *base)
{
    struct split_device *device = (struct split_device *)base;
    device_close(device->host);
    device_close(device->gpu);
    free(device);
}

static void describe(const struct device *base, struct device_info *info)
{
    const struct split_device *device = (const struct split_device *)base;
    struct device_info host;
    struct device_info gpu;
    device_describe(device->host, &host);
    device_describe(device->gpu, &gpu);
    *info = (struct device_info){
        .thread_count = host.thread_count,
        .step_rows = host.step_rows, /* the GPU's memory is short */
        .memory_bytes = host.memory_bytes + gpu.memory_bytes,
        .memory_free_bytes = host.memory_free_bytes + gpu.memory_free_bytes,
    };
    memcpy(info->kind, gpu.kind, sizeof info->kind);
    snprintf(info->name, sizeof info->name, "%.50s + %.40s", gpu.name, host.name);
}

static llcuda_status measure(struct device *base, struct device_ceilings *ceilings,
                             struct llcuda_error *error)
{
    return device_measure(((struct split_device *)base)->gpu, ceilings, error);
}

/* --- how many layers ------------------------------------------------------------------------- */

/* Options of the host's part, which gives no logits. */
static struct device_model_options host_options(const struct device_model_options *options)
{
    struct device_model_options host = *options;
    host.logits_rows_max = 1;
    return host;
}

/* What the last `layers` of the plan take of the GPU; all of them: the plan itself. */
static llcuda_status place_last(struct device *gpu, const struct plan *plan, uint32_t layers,
                                const struct device_model_options *options,
                                struct device_part *part, struct llcuda_error *error)
{
    struct device_part parts[DEVICE_PARTS_MAX];
    struct plan *halves[2] = {NULL, NULL};
    uint32_t count;
    llcuda_status status = LLCUDA_OK;
    if (layers < plan->layer_count) {
        status = plan_cut(plan, plan->layer_count - layers, &halves[0], &halves[1], error);
    }
    if (status == LLCUDA_OK) {
        status = device_place(gpu, halves[1] ? halves[1] : plan, options, parts, &count, error);
    }
    plan_destroy(halves[0]);
    plan_destroy(halves[1]);
    if (status == LLCUDA_OK) {
        *part = parts[0];
        part->layer_begin = plan->layer_count - layers;
        part->layer_end = plan->layer_count;
    }
    return status;
}

/* A layer more never takes less, so that halving finds the most. */
llcuda_status split_layers_fit(struct device *gpu, const struct plan *plan,
                               const struct device_model_options *options, uint32_t *layers,
                               struct llcuda_error *error)
{
    uint32_t fits = 0;
    uint32_t exceeds = plan->layer_count + 1;
    while (exceeds - fits > 1) {
        uint32_t middle =
            exceeds == plan->layer_count + 1 ? plan->layer_count : fits + (exceeds - fits) / 2;
        struct device_part part;
        llcuda_status status = place_last(gpu, plan, middle, options, &part, error);
        if (status != LLCUDA_OK) {
            return status;
        }
        *(device_part_exceeds(&part) ? &exceeds : &fits) = middle;
    }
    *layers = fits;
    return LLCUDA_OK;
}

static llcuda_status choose_layers(struct split_device *device, const struct plan *plan,
                                   const struct device_model_options *options, uint32_t *layers,
                                   struct llcuda_error *error)
{
    if (device->layers == SPLIT_AUTO) {
        return split_layers_fit(device->gpu, plan, options, layers, error);
    }
    *layers = device->layers < plan->layer_count ? device->layers : plan->layer_count;
    return LLCUDA_OK;
}

static llcuda_status place(struct device *base, const struct plan *plan,
                           const struct device_model_options *options,
                           struct device_part parts[DEVICE_PARTS_MAX], uint32_t *count,
                           struct llcuda_error *error)
{
    struct split_device *device = (struct split_device *)base;
    const struct device_model_options host = host_options(options);
    struct plan *halves[2] = {NULL, NULL};
    uint32_t layers;
    llcuda_status status = choose_layers(device, plan, options, &layers, error);
    if (status != LLCUDA_OK) {
        return status;
    }
    if (layers == 0) {
        return device_place(device->host, plan, options, parts, count, error);
    }
    if (layers == plan->layer_count) {
        return device_place(device->gpu, plan, options, parts, count, error);
    }
    status = plan_cut(plan, plan->layer_count - layers, &halves[0], &halves[1], error);
    if (status == LLCUDA_OK) {
        status = device_place(device->host, halves[0], &host, parts, count, error);
    }
    if (status == LLCUDA_OK) {
        status = place_last(device->gpu, plan, layers, options, &parts[1], error);
        *count = 2;
    }
    plan_destroy(halves[0]);
    plan_destroy(halves[1]);
    return status;
}

/* --- models ---------------------------------------------------------------------------------- */

/* The two parts load one after the other and count their bytes by themselves: together they are
 * about the bytes of all weights. */
struct progress {
    const struct device_progress *outer;
    uint64_t before_bytes, whole_bytes;
    uint64_t total_bytes; /* of the part that loads */
};

static bool report(void *user, uint64_t done_bytes, uint64_t total_bytes)
{
    struct progress *progress = user;
    uint64_t total = progress->before_bytes + total_bytes;
    progress->total_bytes = total_bytes;
    if (progress->before_bytes == 0 && total < progress->whole_bytes) {
        total = progress->whole_bytes;
    }
    return progress->outer->report(progress->outer->user, progress->before_bytes + done_bytes,
                                   total);
}

static llcuda_status load_parts(struct split_device *device, struct split_model *model,
                                const struct device_progress *outer, struct llcuda_error *error)
{
    const struct plan *plan = model->base.plan;
    const struct device_model_options host = host_options(&model->base.options);
    struct progress progress = {.outer = outer};
    for (uint32_t i = 0; i < plan->weight_count; i++) {
        progress.whole_bytes += plan->weights[i].bytes;
    }
    const struct device_progress inner = {report, &progress};
    const struct device_progress *given = outer && outer->report ? &inner : NULL;
    llcuda_status status =
        device_model_load(device->host, model->parts[0], &host, given, &model->host, error);
    progress.before_bytes = progress.total_bytes;
    return status == LLCUDA_OK ? device_model_load(device->gpu, model->parts[1],
                                                   &model->base.options, given, &model->gpu, error)
                               : status;
}

static void model_unload(struct device_model *base)
{
    struct split_model *model = (struct split_model *)base;
    device_model_unload(model->gpu);
    device_model_unload(model->host);
    plan_destroy(model->parts[0]);
    plan_destroy(model->parts[1]);
    free(model);
}

static llcuda_status load_split(struct split_device *device, const struct plan *plan,
                                const struct device_model_options *options, uint32_t layers,
                                const struct device_progress *progress, struct device_model **out,
                                struct llcuda_error *error)
{
    struct split_model *model = calloc(1, sizeof *model);
    if (!model) {
        return error_no_memory(error, "a model on two devices", sizeof *model);
    }
    model->base = (struct device_model){
        .interface = device->base.interface, .plan = plan, .options = *options};
    llcuda_status status =
        plan_cut(plan, plan->layer_count - layers, &model->parts[0], &model->parts[1], error);
    if (status == LLCUDA_OK) {
        status = load_parts(device, model, progress, error);
    }
    if (status != LLCUDA_OK) {
        model_unload(&model->base);
        return status;
    }
    *out = &model->base;
    return LLCUDA_OK;
}

/* A model that one side computes alone is that side's: nothing of this file is between. */
static llcuda_status model_load(struct device *base, const struct plan *plan,
                                const struct device_model_options *options,
                                const struct device_progress *progress, struct device_model **model,
                                struct llcuda_error *error)
{
    struct split_device *device = (struct split_device *)base;
    uint32_t layers;
    llcuda_status status = choose_layers(device, plan, options, &layers, error);
    if (status != LLCUDA_OK) {
        return status;
    }
    uint32_t rest = plan->layer_count - layers;
    /* A choice that nobody made by name is told at the level that is shown. */
    log_message(device->log, device->layers == SPLIT_AUTO ? LOG_WARN : LOG_INFO,
                "the GPU computes %u of %u layers%s, the CPU %u%s", layers, plan->layer_count,
                layers ? " and the logits" : "", rest, layers ? "" : " and the logits");
    if (layers == 0) {
        return device_model_load(device->host, plan, options, progress, model, error);
    }
    if (rest == 0) {
        return device_model_load(device->gpu, plan, options, progress, model, error);
    }
    return load_split(device, plan, options, layers, progress, model, error);
}

/* --- steps ----------------------------------------------------------------------------------- */

static llcuda_status step_begin(struct device_model *base, const struct step_batch *batch,
                                struct llcuda_error *error)
{
    struct split_model *model = (struct split_model *)base;
    const float *ignored;
    struct step_batch part = *batch;
    llcuda_status status = step_batch_check(batch, base, error);
    if (status != LLCUDA_OK) {
        return status;
    }
    part.logits_count = 0;
    part.hidden_count = 0;
    part.sampling = NULL;
    part.choose = false;
    status = device_step(model->host, &part, &ignored, error);
    if (status == LLCUDA_OK) {
        part = *batch;
        part.residual = device_residual(model->host, &part.residual_stride);
        status = device_step_begin(model->gpu, &part, error);
    }
    return status;
}

static llcuda_status step_end(struct device_model *base, const float **logits,
                              struct llcuda_error *error)
{
    return device_step_end(((struct split_model *)base)->gpu, logits, error);
}

static llcuda_status step(struct device_model *base, const struct step_batch *batch,
                          const float **logits, struct llcuda_error *error)
{
    llcuda_status status = step_begin(base, batch, error);
    return status == LLCUDA_OK ? step_end(base, logits, error) : status;
}

static llcuda_status copy_blocks(struct device_model *base, const uint32_t *from,
                                 const uint32_t *to, uint32_t count, struct llcuda_error *error)
{
    struct split_model *model = (struct split_model *)base;
    llcuda_status status = device_copy_blocks(model->host, from, to, count, error);
    return status == LLCUDA_OK ? device_copy_blocks(model->gpu, from, to, count, error) : status;
}

static uint64_t weight_bytes_read(const struct device_model *base)
{
    const struct split_model *model = (const struct split_model *)base;
    return device_weight_bytes_read(model->host) + device_weight_bytes_read(model->gpu);
}

static void model_memory(const struct device_model *base, struct device_memory *memory)
{
    const struct split_model *model = (const struct split_model *)base;
    struct device_memory host;
    device_model_memory(model->host, &host);
    device_model_memory(model->gpu, memory);
    for (int kind = 0; kind < DEVICE_MEMORY_KIND_COUNT; kind++) {
        memory->bytes[kind] += host.bytes[kind];
    }
}

static const float *hidden(const struct device_model *base, uint64_t *stride)
{
    return device_hidden(((const struct split_model *)base)->gpu, stride);
}

static const uint32_t *chosen(const struct device_model *base)
{
    return device_chosen(((const struct split_model *)base)->gpu);
}

static bool samples(const struct device_model *base)
{
    return device_samples(((const struct split_model *)base)->gpu);
}

static const struct device_logprob *logprobs(const struct device_model *base)
{
    return device_logprobs(((const struct split_model *)base)->gpu);
}

static void parallel(struct device_model *base, uint64_t item_count,
                     void (*task)(void *context, uint32_t worker, uint64_t item), void *context)
{
    device_parallel(((struct split_model *)base)->host, item_count, task, context);
}

static uint32_t gpu_layers(const struct device_model *base)
{
    return device_gpu_layers(((const struct split_model *)base)->gpu);
}

/* The host's part of the step: the slower one. */
static uint32_t profile(struct device_model *base, struct device_profile_row *rows,
                        uint32_t capacity)
{
    return device_profile(((struct split_model *)base)->host, rows, capacity);
}

static const struct device_interface interface = {
    .close = close_device,
    .describe = describe,
    .model_load = model_load,
    .model_unload = model_unload,
    .step = step,
    .copy_blocks = copy_blocks,
    .measure = measure,
    .weight_bytes_read = weight_bytes_read,
    .memory = model_memory,
    .hidden = hidden,
    .chosen = chosen,
    .samples = samples,
    .logprobs = logprobs,
    .step_begin = step_begin,
    .step_end = step_end,
    .parallel = parallel,
    .place = place,
    .gpu_layers = gpu_layers,
    .profile = profile,
};

llcuda_status split_device_open(struct device *host, struct device *gpu, uint32_t layers,
                                const struct log_sink *log, struct device **out,
                                struct llcuda_error *error)
{
    struct split_device *device = calloc(1, sizeof *device);
    if (!device) {
        device_close(host);
        device_close(gpu);
        return error_no_memory(error, "a device out of two", sizeof *device);
    }
    *device = (struct split_device){
        .base = {.interface = &interface}, .host = host, .gpu = gpu, .log = log, .layers = layers};
    *out = &device->base;
    return LLCUDA_OK;
}
