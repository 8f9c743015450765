/* Telemetry through NVML, which is loaded when it is first asked for. The device is found by its
 * PCI place, since NVML numbers devices in an order of its own. One thread. */
#include "gpu/cuda_driver.h"

#include <math.h>

static void open_monitor(struct cuda_driver *cuda)
{
    void *device = NULL;
    if (cuda->nvml_tried) {
        return;
    }
    cuda->nvml_tried = true;
    if (!cuda->info.pci_bus_id[0] || nvml_load(cuda->folders, &cuda->nvml, NULL) ||
        cuda->nvml.init()) {
        return;
    }
    if (cuda->nvml.device(cuda->info.pci_bus_id, &device) || !device) {
        cuda->nvml.shutdown();
        return;
    }
    cuda->nvml_device = device;
}

/* A result in units of 1 / scale, NaN when the call failed. */
static double scaled(int result, unsigned value, double scale)
{
    return result ? NAN : (double)value / scale;
}

llcuda_status cuda_telemetry(struct gpu_driver *driver, struct gpu_telemetry *telemetry,
                             struct llcuda_error *error)
{
    struct cuda_driver *cuda = cuda_driver_of(driver);
    struct nvml_utilisation utilisation = {0};
    struct nvml_memory memory = {0};
    unsigned value = 0;
    *telemetry = (struct gpu_telemetry){NAN, NAN, NAN, NAN, NAN, NAN, 0, false};
    open_monitor(cuda);
    void *device = cuda->nvml_device;
    if (device) {
        const struct nvml_api *nvml = &cuda->nvml;
        int result = nvml->utilisation(device, &utilisation);
        telemetry->lost = result == NVML_GPU_IS_LOST;
        telemetry->utilisation = scaled(result, utilisation.gpu_percent, 100);
        result = nvml->temperature(device, NVML_TEMPERATURE_GPU, &value);
        telemetry->temperature_c = scaled(result, value, 1);
        telemetry->lost = telemetry->lost || result == NVML_GPU_IS_LOST;
        result = nvml->power(device, &value);
        telemetry->power_w = scaled(result, value, 1000);
        result = nvml->power_limit(device, &value);
        telemetry->power_limit_w = scaled(result, value, 1000);
        result = nvml->clock(device, NVML_CLOCK_MULTIPROCESSOR, &value);
        telemetry->clock_mhz = scaled(result, value, 1);
        result = nvml->clock(device, NVML_CLOCK_MEMORY, &value);
        telemetry->memory_clock_mhz = scaled(result, value, 1);
    }
    if (device && !cuda->nvml.memory(device, &memory)) {
        telemetry->memory_used_bytes = memory.used;
        return LLCUDA_OK;
    }
    if (telemetry->lost) {
        return LLCUDA_OK;
    }
    if (!cuda->context) {
        return error_set(error, LLCUDA_UNSUPPORTED, "NVML says nothing about %s", cuda->info.name);
    }
    uint64_t free_bytes = 0, total_bytes = 0;
    llcuda_status status = driver->memory_info(driver, &free_bytes, &total_bytes, error);
    telemetry->memory_used_bytes = total_bytes - free_bytes;
    return status;
}

void cuda_telemetry_close(struct cuda_driver *cuda)
{
    if (cuda->nvml_device) {
        cuda->nvml.shutdown();
        cuda->nvml_device = NULL;
    }
}
