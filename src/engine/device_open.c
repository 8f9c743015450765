/* Owns the choice of a backend: a case a kind. A new backend adds its case here and nothing else in
 * the engine. Stateless: any thread. */
#include "engine/device_open.h"

#include <string.h>

#include "cpu/cpu.h"
#include "device/spec.h"
#include "device/split.h"
#include "gpu/gpu.h"
#include "llcuda/llcuda.h"

/* The word after "cpu:", which lowers the instruction set. */
static llcuda_status read_level(struct text_view text, enum cpu_level *level,
                                struct llcuda_error *error)
{
    for (int i = 0; i < CPU_LEVEL_COUNT; i++) {
        if (text_view_is(text, cpu_level_name((enum cpu_level)i))) {
            *level = (enum cpu_level)i;
            return LLCUDA_OK;
        }
    }
    return error_set(
        error, LLCUDA_INVALID_ARGUMENT,
        "device 'cpu:%.*s': the levels are scalar, avx2, avx512, neon, avx512-bf16 and amx",
        TEXT_ARGUMENTS(text));
}

static llcuda_status open_cpu(const struct device_open_options *options, enum cpu_level level_max,
                              struct device **device, struct llcuda_error *error)
{
    const struct cpu_options cpu = {
        .thread_count = options->thread_count,
        .level_max = level_max,
        .log = options->log,
    };
    return cpu_device_open(&cpu, device, error);
}

static llcuda_status open_driver(const struct device_open_options *options, enum device_kind kind,
                                 uint32_t index, struct gpu_driver **driver,
                                 struct llcuda_error *error)
{
    const struct gpu_open_options open = {
        .index = index,
        .library_path = options->library_path,
        .cache = options->kernel_cache,
    };
    if (kind == DEVICE_EMU) {
        return gpu_driver_open_emu(&open, driver, error);
    }
    return kind == DEVICE_HIP ? gpu_driver_open_hip(&open, driver, error)
                              : gpu_driver_open_cuda(&open, driver, error);
}

static llcuda_status open_gpu(const struct device_open_options *options,
                              const struct device_spec *spec, enum device_kind kind,
                              struct device **device, struct llcuda_error *error)
{
    struct gpu_driver *driver;
    if (spec->count > 1) {
        return error_set(error, LLCUDA_UNSUPPORTED,
                         "a model runs on one GPU: name one of them, such as %s:%u",
                         device_kind_name(kind), spec->indices[0]);
    }
    uint32_t index = spec->count ? spec->indices[0] : 0;
    llcuda_status status = open_driver(options, kind, index, &driver, error);
    if (status != LLCUDA_OK) {
        return status;
    }
    const struct gpu_device_options gpu = {
        .log = options->log,
        .cache = options->kernel_cache,
        .pack = options->kernel_pack,
        .memory_limit_bytes = options->device_memory_limit,
        .memory_share = options->device_memory_share,
        .no_graphs = options->no_graphs,
        .deterministic = options->deterministic,
    };
    return gpu_device_open(driver, &gpu, device, error);
}

/* A GPU, with the CPU beside it when the options leave layers to it. */
static llcuda_status open_shared(const struct device_open_options *options,
                                 const struct device_spec *spec, enum device_kind kind,
                                 struct device **device, struct llcuda_error *error)
{
    struct device *gpu;
    struct device *host;
    llcuda_status status = open_gpu(options, spec, kind, &gpu, error);
    if (status != LLCUDA_OK || options->gpu_layers == 0) {
        *device = status == LLCUDA_OK ? gpu : NULL;
        return status;
    }
    status = open_cpu(options, CPU_LEVEL_COUNT, &host, error);
    if (status != LLCUDA_OK) {
        device_close(gpu);
        return status;
    }
    uint32_t layers = options->gpu_layers == LLCUDA_GPU_LAYERS_AUTO ? SPLIT_AUTO
                      : options->gpu_layers == LLCUDA_GPU_LAYERS_NONE
                          ? 0
                          : (uint32_t)options->gpu_layers;
    return split_device_open(host, gpu, layers, options->log, device, error);
}

/* Layers for a GPU that is not there are a mistake that nobody should find out by the speed. */
static llcuda_status open_cpu_alone(const struct device_open_options *options, enum cpu_level level,
                                    struct device **device, struct llcuda_error *error)
{
    if (options->gpu_layers > 0) {
        return error_set(error, LLCUDA_INVALID_ARGUMENT,
                         "%d layers on a GPU go with a GPU: --device cuda:0, not cpu",
                         (int)options->gpu_layers);
    }
    return open_cpu(options, level, device, error);
}

static void tell_fallback(const struct device_open_options *options, const char *reason)
{
    log_message(options->log, LOG_WARN, "the GPU cannot be used, the CPU computes: %s", reason);
}

/* The first NVIDIA GPU that can be used, or the CPU with a word why; without one when nobody asked
 * for a GPU, by name or by an option of GPUs, and there is nothing of it on the machine. */
static llcuda_status open_best(const struct device_open_options *options,
                               const struct device_spec *spec, struct device **device,
                               struct llcuda_error *error)
{
    struct llcuda_error reason = {0};
    const struct gpu_open_options probe = {.library_path = options->library_path};
    uint32_t count = 0;
    llcuda_status status = gpu_driver_probe_cuda(&probe, &count, &reason);
    if (status == LLCUDA_OK) {
        status = open_shared(options, spec, DEVICE_CUDA, device, &reason);
        if (status == LLCUDA_OK) {
            return status;
        }
    }
    bool asked = options->name || options->kernel_pack || options->device_memory_limit > 0 ||
                 options->device_memory_share > 0 ||
                 (options->gpu_layers != 0 && options->gpu_layers != LLCUDA_GPU_LAYERS_NONE);
    if (asked || gpu_driver_present_cuda(&probe)) {
        tell_fallback(options, reason.message);
    }
    return open_cpu(options, CPU_LEVEL_COUNT, device, error);
}

bool device_fall_back(const struct device_open_options *options, const struct llcuda_error *reason,
                      struct device **device)
{
    struct device_spec spec;
    struct device_info info;
    struct device *cpu;
    bool is_automatic = !options->name ||
                        (device_spec_parse(text_view_of(options->name), &spec, NULL) == LLCUDA_OK &&
                         spec.kind == DEVICE_AUTO);
    bool is_gpus = reason->status == LLCUDA_UNSUPPORTED || reason->status == LLCUDA_LIMIT ||
                   reason->status == LLCUDA_OUT_OF_MEMORY || reason->status == LLCUDA_DEVICE;
    device_describe(*device, &info);
    if (!is_automatic || !is_gpus || strcmp(info.kind, "cpu") == 0 ||
        open_cpu(options, CPU_LEVEL_COUNT, &cpu, NULL) != LLCUDA_OK) {
        return false;
    }
    tell_fallback(options, reason->message);
    device_close(*device);
    *device = cpu;
    return true;
}

/* A device's name, NULL as "auto"; *level is CPU_LEVEL_COUNT when it says none. */
static llcuda_status read_name(const char *text, struct device_spec *spec, enum cpu_level *level,
                               struct llcuda_error *error)
{
    static const char level_prefix[] = "cpu:";
    struct text_view name = text_view_of(text ? text : "auto");
    size_t prefix = sizeof level_prefix - 1;
    *level = CPU_LEVEL_COUNT;
    if (name.length > prefix && memcmp(name.data, level_prefix, prefix) == 0) {
        *spec = (struct device_spec){.kind = DEVICE_CPU};
        return read_level(text_view_make(name.data + prefix, name.length - prefix), level, error);
    }
    return device_spec_parse(name, spec, error);
}

llcuda_status device_name_check(const char *name, struct llcuda_error *error)
{
    struct device_spec spec;
    enum cpu_level level;
    return read_name(name, &spec, &level, error);
}

llcuda_status device_open(const struct device_open_options *options, struct device **device,
                          struct llcuda_error *error)
{
    struct device_spec spec;
    enum cpu_level level;
    llcuda_status status = read_name(options->name, &spec, &level, error);
    if (status != LLCUDA_OK) {
        return status;
    }
    switch (spec.kind) {
    case DEVICE_AUTO:
        return open_best(options, &spec, device, error);
    case DEVICE_CPU:
        return open_cpu_alone(options, level, device, error);
    case DEVICE_CUDA:
    case DEVICE_HIP:
    case DEVICE_EMU:
        return open_shared(options, &spec, spec.kind, device, error);
    }
    return error_set(error, LLCUDA_UNSUPPORTED, "this build has no %s device",
                     device_kind_name(spec.kind));
}
