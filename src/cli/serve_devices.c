/* Owns the monitors of the GPUs that are served from: drivers that watch and take no context.
 *
 * Threads: readings are asked for by the network threads and by the health thread, so a lock is
 * held while the monitors are read, and what was read is kept for a moment. It must not know how
 * models are computed. */
#include "cli/serve_devices.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/level_alarm.h"
#include "device/spec.h"
#include "gpu/driver.h"

#define DEVICES_MAX 16u
#define KEEP_NS     500000000u

struct watched_gpu {
    struct gpu_driver *driver;
    uint32_t index;
    struct device_reading reading;
    struct level_alarm memory_alarm;
};

struct serve_devices {
    pthread_mutex_t mutex;
    struct watched_gpu gpus[DEVICES_MAX];
    uint32_t count;
    const struct log_sink *log;
    uint64_t read_ns; /* 0: not yet */
};

/* Watches one GPU more, once. */
static void watch(struct serve_devices *devices, const char *library_path, uint32_t index)
{
    const struct gpu_open_options options = {.index = index, .library_path = library_path};
    struct watched_gpu *gpu = &devices->gpus[devices->count];
    struct gpu_device_info info;
    for (uint32_t i = 0; i < devices->count; i++) {
        if (devices->gpus[i].index == index) {
            return;
        }
    }
    if (devices->count < DEVICES_MAX &&
        gpu_driver_watch_cuda(&options, &gpu->driver, NULL) == LLCUDA_OK) {
        gpu->driver->describe(gpu->driver, &info);
        gpu->index = index;
        snprintf(gpu->reading.name, sizeof gpu->reading.name, "%.63s", info.name);
        gpu->reading.memory_bytes = (double)info.memory_bytes;
        devices->count++;
    }
}

struct serve_devices *serve_devices_open(const struct model_config *models, uint32_t count,
                                         const struct log_sink *log)
{
    struct serve_devices *devices = calloc(1, sizeof *devices);
    for (uint32_t i = 0; devices && i < count; i++) {
        const llcuda_engine_options *engine = &models[i].engine;
        struct device_spec spec;
        struct text_view name = text_view_of(engine->device ? engine->device : "");
        bool known = device_spec_parse(name, &spec, NULL) == LLCUDA_OK;
        if (known && (spec.kind == DEVICE_CUDA || spec.kind == DEVICE_AUTO)) {
            watch(devices, engine->gpu_library_path, spec.count ? spec.indices[0] : 0);
        }
    }
    if (devices && devices->count == 0) {
        free(devices);
        return NULL;
    }
    if (devices) {
        devices->log = log;
        pthread_mutex_init(&devices->mutex, NULL);
    }
    return devices;
}

void serve_devices_close(struct serve_devices *devices)
{
    if (!devices) {
        return;
    }
    for (uint32_t i = 0; i < devices->count; i++) {
        devices->gpus[i].driver->close(devices->gpus[i].driver);
    }
    pthread_mutex_destroy(&devices->mutex);
    free(devices);
}

/* Somebody should know before the next model or process finds no room. */
static void warn(const struct serve_devices *devices, struct watched_gpu *gpu)
{
    const struct device_reading *reading = &gpu->reading;
    uint32_t percent =
        level_alarm_look(&gpu->memory_alarm, reading->memory_used_bytes / reading->memory_bytes);
    if (percent != 0) {
        log_message(devices->log, LOG_WARN,
                    "more than %u %% of the memory of cuda:%u is in use, %.0f of %.0f MiB by all "
                    "processes: a smaller --gpu-memory-limit, --ctx or --gpu-layers leaves more",
                    percent, gpu->index, reading->memory_used_bytes / 0x1p20,
                    reading->memory_bytes / 0x1p20);
    }
}

static void look(struct watched_gpu *gpu)
{
    struct gpu_telemetry telemetry = {0};
    bool known = gpu->driver->telemetry(gpu->driver, &telemetry, NULL) == LLCUDA_OK;
    gpu->reading.failed = known && telemetry.lost;
    known = known && !telemetry.lost;
    gpu->reading.utilization_ratio = known ? telemetry.utilisation : NAN;
    gpu->reading.temperature_celsius = known ? telemetry.temperature_c : NAN;
    gpu->reading.power_watts = known ? telemetry.power_w : NAN;
    gpu->reading.memory_used_bytes = known ? (double)telemetry.memory_used_bytes : NAN;
}

uint32_t serve_devices_read(void *user, struct device_reading *readings, uint32_t count)
{
    struct serve_devices *devices = user;
    pthread_mutex_lock(&devices->mutex);
    uint64_t now_ns = clock_now_ns();
    bool old = devices->read_ns == 0 || now_ns - devices->read_ns > KEEP_NS;
    devices->read_ns = old ? now_ns : devices->read_ns;
    for (uint32_t i = 0; i < devices->count; i++) {
        if (old) {
            look(&devices->gpus[i]);
            warn(devices, &devices->gpus[i]);
        }
        if (i < count) {
            readings[i] = devices->gpus[i].reading;
        }
    }
    pthread_mutex_unlock(&devices->mutex);
    return devices->count < count ? devices->count : count;
}
