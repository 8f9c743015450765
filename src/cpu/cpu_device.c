/* Owns opening and closing the CPU device and its table of functions. */
#include <stdio.h>
#include <stdlib.h>

#include "cpu/features.h"
#include "cpu/model.h"
#include "cpu/topology.h"

static void close_device(struct device *base)
{
    struct cpu_device *device = (struct cpu_device *)base;
    pool_destroy(device->pool);
    free(device);
}

static void describe(const struct device *base, struct device_info *info)
{
    const struct cpu_device *device = (const struct cpu_device *)base;
    char model_name[64];
    *info = (struct device_info){
        .thread_count = pool_thread_count(device->pool),
        .step_rows = DEVICE_STEP_ROWS,
        .memory_bytes = memory_total_bytes(),
        .memory_free_bytes = memory_free_bytes(),
    };
    cpu_model_name(model_name, sizeof model_name);
    bool has_vnni = device->features.avx512_vnni || device->features.avx_vnni;
    snprintf(info->kind, sizeof info->kind, "cpu");
    bool has_tiles = device->features.amx_bf16 || device->features.amx_int8;
    snprintf(info->name, sizeof info->name, "%s, %u thread%s, %s%s%s", model_name,
             info->thread_count, info->thread_count == 1 ? "" : "s", cpu_level_name(device->level),
             has_vnni ? "+vnni" : "", has_tiles ? "+amx" : "");
}

static void run_parallel(struct device_model *base, uint64_t item_count,
                         void (*task)(void *context, uint32_t worker, uint64_t item), void *context)
{
    pool_run(((struct cpu_model *)base)->device->pool, item_count, task, context);
}

static const struct device_interface interface = {
    .close = close_device,
    .describe = describe,
    .model_load = cpu_model_load,
    .model_unload = cpu_model_unload,
    .step = cpu_model_step,
    .copy_blocks = cpu_model_copy_blocks,
    .measure = cpu_device_measure,
    .weight_bytes_read = cpu_model_weight_bytes_read,
    .memory = cpu_model_memory,
    .hidden = cpu_model_hidden,
    .parallel = run_parallel,
    .residual = cpu_model_residual,
    .place = cpu_model_place,
    .profile = cpu_model_profile,
};

llcuda_status cpu_device_open(const struct cpu_options *options, struct device **out,
                              struct llcuda_error *error)
{
    struct topology topology;
    topology_read(&topology);
    uint32_t threads = options->thread_count;
    if (threads == 0) {
        threads = topology_thread_count(&topology);
    }
    struct cpu_device *device = calloc(1, sizeof *device);
    if (!device) {
        return error_no_memory(error, "the CPU device", sizeof *device);
    }
    device->base.interface = &interface;
    device->log = options->log;
    cpu_features_detect(&device->features);
    cpu_features_mask(&device->features, options->level_max, options->no_extensions);
    device->level = cpu_features_level(&device->features);
    device->ops = cpu_ops_of(&device->features);
    llcuda_status status =
        pool_create(threads, topology.cpus, topology.cpu_count, &device->pool, error);
    if (status != LLCUDA_OK) {
        free(device);
        return status;
    }
    log_message(
        device->log, LOG_DEBUG,
        "cpu: %u threads of %u cores, %u of the fastest kind, on %u nodes (%u CPUs allowed, "
        "quota %u), level %s",
        threads, topology.core_count, topology.fast_core_count, topology.node_count,
        topology.cpu_count, topology.quota, cpu_level_name(device->level));
    *out = &device->base;
    return LLCUDA_OK;
}
