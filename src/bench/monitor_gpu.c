/* Owns the table of NVML functions. Names and constants are those of NVIDIA's published interface;
 * only functions that every driver since 2018 has are needed, the others may be missing. */
#include "bench/monitor_gpu.h"

#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CLOCK_SM   1u
#define SENSOR_GPU 0u
#define THROTTLE_LIMITS \
    0x000000ECull /* power cap, slowdown by heat or power brake, sync boost out */

struct utilization {
    unsigned gpu, memory;
};

struct memory {
    unsigned long long total, free, used;
};

struct monitor_gpu {
    void *library;
    void *device;
    int (*shutdown)(void);
    int (*name)(void *, char *, unsigned);
    int (*driver_version)(char *, unsigned);
    int (*utilization)(void *, struct utilization *);
    int (*memory)(void *, struct memory *);
    int (*power)(void *, unsigned *);
    int (*power_limit)(void *, unsigned *);
    int (*temperature)(void *, unsigned, unsigned *);
    int (*clock)(void *, unsigned, unsigned *);
    int (*clock_max)(void *, unsigned, unsigned *);
    int (*throttle)(void *, unsigned long long *);
};

static bool load(struct monitor_gpu *gpu, void *slot, const char *name)
{
    void *symbol = dlsym(gpu->library, name);
    memcpy(slot, &symbol, sizeof symbol); /* ISO C has no cast from object to function pointers */
    return symbol != NULL;
}

struct monitor_gpu *monitor_gpu_open(int index)
{
    int (*init)(void) = NULL;
    int (*handle)(unsigned, void **) = NULL;
    struct monitor_gpu *gpu = index >= 0 ? calloc(1, sizeof *gpu) : NULL;
    if (!gpu) {
        return NULL;
    }
    gpu->library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
    bool whole = gpu->library && load(gpu, &init, "nvmlInit_v2") &&
                 load(gpu, &handle, "nvmlDeviceGetHandleByIndex_v2") &&
                 load(gpu, &gpu->shutdown, "nvmlShutdown") &&
                 load(gpu, &gpu->utilization, "nvmlDeviceGetUtilizationRates") &&
                 load(gpu, &gpu->memory, "nvmlDeviceGetMemoryInfo") &&
                 load(gpu, &gpu->power, "nvmlDeviceGetPowerUsage") &&
                 load(gpu, &gpu->temperature, "nvmlDeviceGetTemperature") &&
                 load(gpu, &gpu->clock, "nvmlDeviceGetClockInfo");
    if (whole) {
        load(gpu, &gpu->name, "nvmlDeviceGetName");
        load(gpu, &gpu->driver_version, "nvmlSystemGetDriverVersion");
        load(gpu, &gpu->power_limit, "nvmlDeviceGetEnforcedPowerLimit");
        load(gpu, &gpu->clock_max, "nvmlDeviceGetMaxClockInfo");
        load(gpu, &gpu->throttle, "nvmlDeviceGetCurrentClocksThrottleReasons");
        whole = init() == 0;
        if (whole && handle((unsigned)index, &gpu->device) != 0) {
            gpu->shutdown();
            whole = false;
        }
    }
    if (!whole) {
        if (gpu->library) {
            dlclose(gpu->library);
        }
        free(gpu);
        return NULL;
    }
    return gpu;
}

void monitor_gpu_close(struct monitor_gpu *gpu)
{
    if (gpu) {
        gpu->shutdown();
        dlclose(gpu->library);
        free(gpu);
    }
}

void monitor_gpu_read(struct monitor_gpu *gpu, struct monitor_sample *sample)
{
    struct utilization utilization;
    struct memory memory;
    unsigned number;
    unsigned long long reasons;
    sample->gpu_share =
        gpu->utilization(gpu->device, &utilization) == 0 ? utilization.gpu / 100.0 : NAN;
    sample->gpu_memory_bytes = gpu->memory(gpu->device, &memory) == 0 ? (double)memory.used : NAN;
    sample->gpu_power_w = gpu->power(gpu->device, &number) == 0 ? number / 1000.0 : NAN;
    sample->gpu_temperature_c =
        gpu->temperature(gpu->device, SENSOR_GPU, &number) == 0 ? (double)number : NAN;
    sample->gpu_clock_mhz = gpu->clock(gpu->device, CLOCK_SM, &number) == 0 ? (double)number : NAN;
    sample->gpu_throttled = gpu->throttle && gpu->throttle(gpu->device, &reasons) == 0
                                ? (reasons & THROTTLE_LIMITS) != 0
                                : NAN;
}

void monitor_gpu_describe(struct monitor_gpu *gpu, char *out, size_t bytes)
{
    char name[96] = "NVIDIA GPU";
    char driver[96] = "?";
    unsigned limit = 0;
    unsigned clock = 0;
    if (gpu->name) {
        gpu->name(gpu->device, name, sizeof name);
    }
    if (gpu->driver_version) {
        gpu->driver_version(driver, sizeof driver);
    }
    if (gpu->power_limit) {
        gpu->power_limit(gpu->device, &limit);
    }
    if (gpu->clock_max) {
        gpu->clock_max(gpu->device, CLOCK_SM, &clock);
    }
    snprintf(out, bytes, "%s, driver %s, power limit %u W, clocks up to %u MHz", name, driver,
             limit / 1000, clock);
}
