/* Owns the choice of a backend: a case a kind. A new backend adds its case here and nothing else in
 * the engine. Stateless: any thread. */
#include "engine/device_open.h"

#include "cpu/cpu.h"
#include "device/spec.h"

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
    return error_set(error, LLCUDA_INVALID_ARGUMENT,
                     "device 'cpu:%.*s': the levels are scalar, avx2, avx512 and neon",
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

llcuda_status device_open(const struct device_open_options *options, struct device **device,
                          struct llcuda_error *error)
{
    static const char level_prefix[] = "cpu:";
    struct text_view name = text_view_of(options->name ? options->name : "auto");
    size_t prefix = sizeof level_prefix - 1;
    if (name.length > prefix && memcmp(name.data, level_prefix, prefix) == 0) {
        enum cpu_level level = CPU_LEVEL_COUNT;
        llcuda_status status =
            read_level(text_view_make(name.data + prefix, name.length - prefix), &level, error);
        return status == LLCUDA_OK ? open_cpu(options, level, device, error) : status;
    }
    struct device_spec spec;
    llcuda_status status = device_spec_parse(name, &spec, error);
    if (status != LLCUDA_OK) {
        return status;
    }
    switch (spec.kind) {
    case DEVICE_AUTO:
    case DEVICE_CPU:
        return open_cpu(options, CPU_LEVEL_COUNT, device, error);
    case DEVICE_CUDA:
    case DEVICE_HIP:
    case DEVICE_EMU:
        break;
    }
    return error_set(error, LLCUDA_UNSUPPORTED, "this build has no %s device",
                     device_kind_name(spec.kind));
}
