/* Owns opening and closing the GPU device and its table of functions. */
#include <stdio.h>
#include <stdlib.h>

#include "gpu/measure.h"
#include "gpu/model.h"
#include "gpu/profile.h"

/* Rows of a step for a long prompt: with four times as many as suit a CPU a prompt of 2,048 takes a
 * 1B model a quarter less. Small GPUs have better uses for the memory of their intermediate values.
 */
#define MANY_ROWS            2048u
#define MANY_ROWS_MEMORY_MIN (16ull << 30)

static void close_device(struct device *base)
{
    struct gpu_device *device = (struct gpu_device *)base;
    gpu_jit_destroy(device->jit);
    device->driver->close(device->driver);
    free(device);
}

static void describe(const struct device *base, struct device_info *info)
{
    static const char *const kinds[] = {[GPU_CUDA] = "cuda", [GPU_HIP] = "hip", [GPU_EMU] = "emu"};
    const struct gpu_device *device = (const struct gpu_device *)base;
    struct llcuda_error ignored;
    uint64_t free_bytes = 0;
    uint64_t total_bytes = 0;
    *info = (struct device_info){.thread_count = device->info.multiprocessor_count};
    /* Free memory is a question to the driver, which changes nothing that callers could see. */
    if (device->driver->memory_info(device->driver, &free_bytes, &total_bytes, &ignored) ==
        LLCUDA_OK) {
        info->memory_free_bytes = free_bytes;
    }
    uint64_t limit = device->options.memory_limit_bytes;
    if (limit != 0) {
        uint64_t left = limit > device->used_bytes ? limit - device->used_bytes : 0;
        info->memory_free_bytes = left < info->memory_free_bytes ? left : info->memory_free_bytes;
    }
    info->memory_bytes = device->info.memory_bytes;
    uint64_t most = limit != 0 && limit < info->memory_bytes ? limit : info->memory_bytes;
    info->step_rows = most < MANY_ROWS_MEMORY_MIN ? DEVICE_STEP_ROWS : MANY_ROWS;
    snprintf(info->kind, sizeof info->kind, "%s", kinds[device->info.vendor]);
    snprintf(info->name, sizeof info->name, "%.60s, %u multiprocessors, %s", device->info.name,
             device->info.multiprocessor_count, device->info.arch);
}

static llcuda_status measure(struct device *base, struct device_ceilings *ceilings,
                             struct llcuda_error *error)
{
    struct gpu_device *device = (struct gpu_device *)base;
    struct gpu_ceilings measured;
    llcuda_status status = device->driver->attach(device->driver, error);
    if (status == LLCUDA_OK) {
        status = gpu_measure(device->driver, NULL, &measured, error);
    }
    if (status == LLCUDA_OK) {
        *ceilings = (struct device_ceilings){
            .read_bytes_per_second = measured.read_bytes_per_second,
            .copy_bytes_per_second = measured.copy_bytes_per_second,
            .flop_per_second = measured.matrix_flop_per_second,
        };
    }
    return status;
}

static uint64_t weight_bytes_read(const struct device_model *base)
{
    return ((const struct gpu_model *)base)->weight_bytes_read;
}

static void model_memory(const struct device_model *base, struct device_memory *memory)
{
    const struct gpu_model *model = (const struct gpu_model *)base;
    memcpy(memory->bytes, model->memory.bytes, sizeof memory->bytes);
    memory->limit_bytes = model->device->options.memory_limit_bytes;
}

static uint32_t gpu_layers(const struct device_model *base)
{
    return base->plan->layer_count;
}

static const struct device_interface interface = {
    .close = close_device,
    .describe = describe,
    .model_load = gpu_model_load,
    .model_unload = gpu_model_unload,
    .step = gpu_model_step,
    .copy_blocks = gpu_model_copy_blocks,
    .measure = measure,
    .weight_bytes_read = weight_bytes_read,
    .memory = model_memory,
    .hidden = gpu_model_hidden,
    .chosen = gpu_model_chosen,
    .samples = gpu_model_samples,
    .logprobs = gpu_model_logprobs,
    .step_begin = gpu_model_step_begin,
    .step_end = gpu_model_step_end,
    .profile = gpu_model_profile,
    .profile_kernels = gpu_model_profile_kernels,
    .place = gpu_model_place,
    .gpu_layers = gpu_layers,
};

llcuda_status gpu_device_open(struct gpu_driver *driver, const struct gpu_device_options *options,
                              struct device **out, struct llcuda_error *error)
{
    struct gpu_device *device = calloc(1, sizeof *device);
    if (!device) {
        driver->close(driver);
        return error_no_memory(error, "the GPU device", sizeof *device);
    }
    device->base.interface = &interface;
    device->driver = driver;
    device->options = *options;
    driver->describe(driver, &device->info);
    if (options->memory_share > 0) {
        uint64_t share = (uint64_t)((double)device->info.memory_bytes * options->memory_share);
        uint64_t *limit = &device->options.memory_limit_bytes;
        *limit = *limit == 0 || share < *limit ? share : *limit;
    }
    if (device->info.warp_size != 32) {
        close_device(&device->base);
        return error_set(error, LLCUDA_UNSUPPORTED,
                         "'%s' has warps of %u: the kernels need 32, use --device cpu",
                         device->info.name, device->info.warp_size);
    }
    const struct gpu_jit_options jit = {
        .cache = options->cache,
        .packs = &options->pack,
        .pack_count = options->pack != NULL,
        .log = options->log,
    };
    llcuda_status status = gpu_jit_create(driver, &jit, &device->jit, error);
    if (status != LLCUDA_OK) {
        close_device(&device->base);
        return status;
    }
    *out = &device->base;
    return LLCUDA_OK;
}
