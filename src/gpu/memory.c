/* Owns the memory of a model on the device: what is needed, whether it fits, and every address.
 * Invariant: each allocation is counted by kind in the model and in the device's total, and given
 * back by gpu_memory_release. One thread. It must not know what the memory is for. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "gpu/model.h"

/* What the driver itself takes while kernels run: left out of what a model may use. */
#define DRIVER_MARGIN_BYTES (64ull << 20)

static const char *const kind_names[DEVICE_MEMORY_KIND_COUNT] = {
    [DEVICE_MEMORY_WEIGHTS] = "weights",
    [DEVICE_MEMORY_CACHE] = "cache",
    [DEVICE_MEMORY_WORKSPACE] = "workspace",
    [DEVICE_MEMORY_STEP] = "step data",
};

llcuda_status gpu_memory_take(struct gpu_model *model, enum device_memory_kind kind, uint64_t bytes,
                              const char *what, uint64_t *address, struct llcuda_error *error)
{
    struct gpu_memory *memory = &model->memory;
    if (memory->count == memory->capacity) {
        uint32_t capacity = memory->capacity ? 2 * memory->capacity : 64;
        uint64_t *grown = realloc(memory->addresses, capacity * sizeof *grown);
        if (!grown) {
            return error_no_memory(error, "a table of allocations", capacity * sizeof *grown);
        }
        memory->addresses = grown;
        memory->capacity = capacity;
    }
    llcuda_status status = model->driver->memory_alloc(model->driver, bytes, address, error);
    if (status != LLCUDA_OK) {
        *address = 0;
        return error_prefix(error, status, "%s (%" PRIu64 " MB)", what, bytes >> 20);
    }
    memory->addresses[memory->count++] = *address;
    memory->bytes[kind] += bytes;
    model->device->used_bytes += bytes;
    return LLCUDA_OK;
}

void gpu_memory_release(struct gpu_model *model)
{
    struct gpu_memory *memory = &model->memory;
    for (uint32_t i = 0; i < memory->count; i++) {
        model->driver->memory_free(model->driver, memory->addresses[i]);
    }
    for (int kind = 0; kind < DEVICE_MEMORY_KIND_COUNT; kind++) {
        model->device->used_bytes -= memory->bytes[kind];
    }
    free(memory->addresses);
    *memory = (struct gpu_memory){0};
}

/* --- what a model needs ---------------------------------------------------------------------- */

const char *gpu_memory_kind_name(enum device_memory_kind kind)
{
    return kind_names[kind];
}

struct need {
    enum device_memory_kind kind;
    const char *what;
    uint64_t count, size;
    uint64_t *address; /* where it goes */
};

#define NEEDS_MAX 22u

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* Everything but the weights. Sizes that no product of 64 bits can hold are refused by the check.
 */
static uint32_t list_needs(struct gpu_model *model, struct need needs[NEEDS_MAX])
{
    const struct plan *plan = model->base.plan;
    const struct device_model_options *options = &model->base.options;
    struct gpu_buffers *buffers = &model->buffers;
    uint64_t activation = dtype_info(model->activation)->block_bytes;
    uint64_t query_element = options->kv_dtype == DTYPE_F32 ? 4 : 2;
    uint64_t rows = options->rows_max;
    uint64_t query = plan->width[PLAN_BUFFER_QUERY];
    uint64_t raw = query + 2ull * plan->kv_head_count * plan->head_size;
    uint64_t embedding = plan->embedding_length;
    uint64_t hidden = larger(plan->width[PLAN_BUFFER_HIDDEN], plan->shared_width);
    uint64_t places = rows * plan->used_count;
    uint64_t wanted = gpu_rows_wanted_max(model);
    raw = larger(larger(raw, 2 * hidden), embedding);
    uint64_t normed_rows = larger(rows, options->logits_rows_max);
    uint64_t attention = gpu_attention_workspace_bytes(&model->attention, options->rows_max,
                                                       gpu_step_groups_max(model));
    bool has_matmul = model->driver->matmul_create != NULL && model->activation != DTYPE_F32;
    const struct need all[] = {
        {DEVICE_MEMORY_CACHE, "the key-value cache", plan->layer_count, model->layer_bytes,
         &model->cache},
        {DEVICE_MEMORY_WORKSPACE, "the residual stream", rows * embedding, 4, &buffers->residual},
        {DEVICE_MEMORY_WORKSPACE, "normed rows", normed_rows * embedding, activation,
         &buffers->normed},
        {DEVICE_MEMORY_WORKSPACE, "raw projections", rows * raw, 4, &buffers->raw},
        {DEVICE_MEMORY_WORKSPACE, "queries", rows * query, query_element, &buffers->query},
        {DEVICE_MEMORY_WORKSPACE, "attended rows", rows * query, activation, &buffers->attended},
        {DEVICE_MEMORY_WORKSPACE, "hidden rows", rows * hidden, activation, &buffers->hidden},
        {DEVICE_MEMORY_WORKSPACE, "logits of routers", rows * plan->expert_count, 4,
         &buffers->router},
        {DEVICE_MEMORY_WORKSPACE, "rows of experts", gpu_experts_route_bytes(model), 1,
         &buffers->routes},
        {DEVICE_MEMORY_WORKSPACE, "hidden rows of experts", places * plan->expert_width, activation,
         &buffers->expert_hidden},
        {DEVICE_MEMORY_WORKSPACE, "products of experts", places * gpu_experts_raw_floats(model), 4,
         &buffers->expert_raw},
        {DEVICE_MEMORY_WORKSPACE, "products", rows * embedding, 4, &buffers->product},
        {DEVICE_MEMORY_WORKSPACE, "partial sums of attention", attention, 1, &buffers->attention},
        {DEVICE_MEMORY_WORKSPACE, "workspace of matrix products",
         has_matmul ? GPU_MATMUL_WORKSPACE_BYTES : 0, 1, &buffers->matmul},
        {DEVICE_MEMORY_WORKSPACE, "partial sums of products", gpu_wide_partial_bytes(model), 1,
         &buffers->partials},
        {DEVICE_MEMORY_WORKSPACE, "dequantised weights",
         larger(gpu_matmul_unpacks(model) ? GPU_UNPACKED_BYTES : 0,
                gpu_experts_unpacked_bytes(model)),
         1, &buffers->unpacked},
        {DEVICE_MEMORY_WORKSPACE, "wanted rows", wanted * embedding, 4, &buffers->wanted_residual},
        {DEVICE_MEMORY_WORKSPACE, "attended rows that are wanted", wanted * query, activation,
         &buffers->wanted_attended},
        {DEVICE_MEMORY_STEP, "logits", options->logits_rows_max, plan->vocabulary_size * 4ull,
         &buffers->logits},
        {DEVICE_MEMORY_STEP, "choices", gpu_choices_bytes(options->logits_rows_max), 1,
         &buffers->choices},
        {DEVICE_MEMORY_STEP, "sampling", gpu_sample_scratch_bytes(plan, options->logits_rows_max),
         1, &buffers->sampling},
        {DEVICE_MEMORY_STEP, "step data", model->step_bytes, 1, &buffers->step},
    };
    memcpy(needs, all, sizeof all);
    return sizeof all / sizeof *all;
}

/* Sums by kind; false when they do not fit 64 bits. */
static bool count_needs(struct gpu_model *model, uint64_t bytes[DEVICE_MEMORY_KIND_COUNT],
                        uint64_t *total)
{
    struct need needs[NEEDS_MAX];
    uint32_t count = list_needs(model, needs);
    memset(bytes, 0, DEVICE_MEMORY_KIND_COUNT * sizeof *bytes);
    for (uint32_t i = 0; i < model->base.plan->weight_count; i++) {
        bytes[DEVICE_MEMORY_WEIGHTS] += gpu_weight_stored_bytes(model, i);
    }
    *total = bytes[DEVICE_MEMORY_WEIGHTS];
    for (uint32_t i = 0; i < count; i++) {
        uint64_t size;
        if (!checked_mul_u64(needs[i].count, needs[i].size, &size) ||
            !checked_add_u64(*total, size, total)) {
            return false;
        }
        bytes[needs[i].kind] += size;
    }
    return true;
}

llcuda_status gpu_memory_count(struct gpu_model *model, struct device_part *part,
                               struct llcuda_error *error)
{
    const struct gpu_device *device = model->device;
    uint64_t need;
    uint64_t free_bytes;
    uint64_t total_bytes;
    if (!count_needs(model, part->bytes, &need)) {
        return error_set(error, LLCUDA_OUT_OF_MEMORY,
                         "the cache and workspace asked for exceed any memory: use a smaller "
                         "--ctx or --batch");
    }
    llcuda_status status =
        model->driver->memory_info(model->driver, &free_bytes, &total_bytes, error);
    if (status != LLCUDA_OK) {
        return status;
    }
    uint64_t limit = device->options.memory_limit_bytes;
    uint64_t left = limit > device->used_bytes ? limit - device->used_bytes : 0;
    part->reserve_bytes = DRIVER_MARGIN_BYTES;
    part->available_bytes = free_bytes > DRIVER_MARGIN_BYTES ? free_bytes - DRIVER_MARGIN_BYTES : 0;
    part->is_limited = limit != 0 && left < part->available_bytes;
    part->available_bytes = part->is_limited ? left : part->available_bytes;
    return LLCUDA_OK;
}

llcuda_status gpu_memory_check(struct gpu_model *model, struct llcuda_error *error)
{
    struct device_part part = {0};
    llcuda_status status = gpu_memory_count(model, &part, error);
    uint64_t need = device_part_bytes(&part);
    if (status != LLCUDA_OK || need <= part.available_bytes) {
        return status;
    }
    return error_set(error, LLCUDA_OUT_OF_MEMORY,
                     "the model needs %" PRIu64 " MB on the GPU (%s %" PRIu64 ", %s %" PRIu64
                     ", %s %" PRIu64 ", %s %" PRIu64 ") and %" PRIu64
                     " MB %s: use a smaller --ctx or --batch, a model quantised further, "
                     "--gpu-layers auto, which leaves layers to the CPU, or --device cpu",
                     need >> 20, kind_names[0], part.bytes[0] >> 20, kind_names[1],
                     part.bytes[1] >> 20, kind_names[2], part.bytes[2] >> 20, kind_names[3],
                     part.bytes[3] >> 20, part.available_bytes >> 20,
                     part.is_limited ? "are left of the limit" : "are free");
}

void gpu_memory_warn(struct gpu_device *device)
{
    uint64_t free_bytes = 0;
    uint64_t total_bytes = 0;
    uint64_t limit = device->options.memory_limit_bytes;
    uint64_t used = device->used_bytes;
    if (limit == 0 &&
        device->driver->memory_info(device->driver, &free_bytes, &total_bytes, NULL) == LLCUDA_OK) {
        limit = total_bytes;
        used = total_bytes - free_bytes;
    }
    uint32_t percent =
        limit ? level_alarm_look(&device->memory_alarm, (double)used / (double)limit) : 0;
    if (percent != 0) {
        log_message(device->options.log, LOG_WARN,
                    "more than %u %% of the GPU's memory%s is in use (%" PRIu64 " of %" PRIu64
                    " MB): a smaller --ctx or --batch leaves room",
                    percent, device->options.memory_limit_bytes ? " that may be used" : "",
                    used >> 20, limit >> 20);
    }
}

llcuda_status gpu_memory_make(struct gpu_model *model, struct llcuda_error *error)
{
    struct need needs[NEEDS_MAX];
    uint32_t count = list_needs(model, needs);
    llcuda_status status = LLCUDA_OK;
    for (uint32_t i = 0; i < count && status == LLCUDA_OK; i++) {
        uint64_t bytes = needs[i].count * needs[i].size; /* checked before */
        *needs[i].address = 0;
        if (bytes != 0) {
            status = gpu_memory_take(model, needs[i].kind, bytes, needs[i].what, needs[i].address,
                                     error);
        }
    }
    return status;
}
