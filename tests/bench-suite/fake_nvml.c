/* A library with NVML's interface and GPUs that say what a test tells them. Every opening is
 * counted; after `fake_nvml_fail` all questions fail, as when a GPU has fallen off the bus. A test
 * that runs the whole program writes the temperature into the file that FAKE_NVML_HEAT names. */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct utilization {
    unsigned gpu, memory;
};

struct memory {
    unsigned long long total, free, used;
};

#define EXPORT __attribute__((visibility("default")))

EXPORT _Atomic unsigned fake_nvml_heat = 55;
EXPORT _Atomic unsigned long long fake_nvml_reasons;
EXPORT atomic_int fake_nvml_fail;
EXPORT atomic_int fake_nvml_count = 1;
EXPORT atomic_int fake_nvml_open; /* initialised and not shut down */

EXPORT int nvmlInit_v2(void);
EXPORT int nvmlShutdown(void);
EXPORT int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device);
EXPORT int nvmlDeviceGetUtilizationRates(void *device, struct utilization *out);
EXPORT int nvmlDeviceGetMemoryInfo(void *device, struct memory *out);
EXPORT int nvmlDeviceGetPowerUsage(void *device, unsigned *milliwatts);
EXPORT int nvmlDeviceGetEnforcedPowerLimit(void *device, unsigned *milliwatts);
EXPORT int nvmlDeviceGetTemperature(void *device, unsigned sensor, unsigned *out);
EXPORT int nvmlDeviceGetClockInfo(void *device, unsigned which, unsigned *mhz);
EXPORT int nvmlDeviceGetMaxClockInfo(void *device, unsigned which, unsigned *mhz);
EXPORT int nvmlDeviceGetCurrentClocksThrottleReasons(void *device, unsigned long long *out);
EXPORT int nvmlDeviceGetName(void *device, char *out, unsigned bytes);
EXPORT int nvmlSystemGetDriverVersion(char *out, unsigned bytes);

static char devices[8];

static int answer(const char *device)
{
    return device >= devices && device < devices + fake_nvml_count && !fake_nvml_fail ? 0 : 999;
}

int nvmlInit_v2(void)
{
    fake_nvml_open++;
    return 0;
}

int nvmlShutdown(void)
{
    fake_nvml_open--;
    return 0;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device)
{
    *device = &devices[index < 8 ? index : 0];
    return (int)index < fake_nvml_count ? 0 : 2;
}

int nvmlDeviceGetUtilizationRates(void *device, struct utilization *out)
{
    *out = (struct utilization){75, 40};
    return answer(device);
}

int nvmlDeviceGetMemoryInfo(void *device, struct memory *out)
{
    *out = (struct memory){143000000000ull, 100000000000ull, 43000000000ull};
    return answer(device);
}

int nvmlDeviceGetPowerUsage(void *device, unsigned *milliwatts)
{
    *milliwatts = 412500;
    return answer(device);
}

int nvmlDeviceGetEnforcedPowerLimit(void *device, unsigned *milliwatts)
{
    *milliwatts = 700000;
    return answer(device);
}

int nvmlDeviceGetTemperature(void *device, unsigned sensor, unsigned *out)
{
    const char *path = getenv("FAKE_NVML_HEAT");
    FILE *file = path ? fopen(path, "re") : NULL;
    *out = fake_nvml_heat + (device == &devices[1] ? 3 : 0);
    if (file) {
        if (fscanf(file, "%u", out) != 1) {
            *out = 0;
        }
        fclose(file);
    }
    return sensor == 0 ? answer(device) : 3;
}

int nvmlDeviceGetClockInfo(void *device, unsigned which, unsigned *mhz)
{
    *mhz = which == 1 ? 1755 : 3201;
    return answer(device);
}

int nvmlDeviceGetMaxClockInfo(void *device, unsigned which, unsigned *mhz)
{
    *mhz = which == 1 ? 1980 : 3201;
    return answer(device);
}

int nvmlDeviceGetCurrentClocksThrottleReasons(void *device, unsigned long long *out)
{
    *out = fake_nvml_reasons;
    return answer(device);
}

int nvmlDeviceGetName(void *device, char *out, unsigned bytes)
{
    strncpy(out, "NVIDIA Test 100", bytes);
    return answer(device);
}

int nvmlSystemGetDriverVersion(char *out, unsigned bytes)
{
    strncpy(out, "580.1", bytes);
    return 0;
}
