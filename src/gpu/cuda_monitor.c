/* Telemetry through NVML, which is loaded when it is first asked for. The device is found by its
 * PCI place, since NVML numbers devices in an order of its own. One thread. */
#include "gpu/cuda_driver.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

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

/* Counts a link for the device at its end. */
static void add_peer(const struct nvml_api *nvml, void *device, unsigned link,
                     struct gpu_surroundings *around)
{
    struct nvml_place place = {{0}, 0, 0, 0, 0, 0, {0}};
    struct gpu_link_peer *peer = around->peers;
    int type = 0;
    if (nvml->link_place(device, link, &place)) {
        return;
    }
    char id[sizeof peer->pci_bus_id];
    snprintf(id, sizeof id, "%04x:%02x:%02x.0", place.domain & 0xffff, place.bus & 0xff,
             place.device & 0xff);
    while (peer < around->peers + around->peer_count && strcmp(peer->pci_bus_id, id) != 0) {
        peer++;
    }
    if (peer == around->peers + around->peer_count) {
        around->peer_count++; /* at most one a link */
        memcpy(peer->pci_bus_id, id, sizeof id);
        peer->is_switch = !nvml->link_type(device, link, &type) && type == NVML_LINK_TO_SWITCH;
    }
    peer->link_count++;
}

void cuda_surroundings(struct gpu_driver *driver, struct gpu_surroundings *around)
{
    struct cuda_driver *cuda = cuda_driver_of(driver);
    const struct nvml_api *nvml = &cuda->nvml;
    struct nvml_field speed = {.id = NVML_FIELD_LINK_SPEED};
    unsigned long long errors = 0;
    unsigned value = 0;
    *around = (struct gpu_surroundings){.link_bytes_per_second = NAN};
    open_monitor(cuda);
    void *device = cuda->nvml_device;
    if (!device) {
        return;
    }
    if (nvml->driver_name(around->driver_name, sizeof around->driver_name)) {
        around->driver_name[0] = 0;
    }
    around->pcie_generation = nvml->pcie_generation(device, &value) ? 0 : value;
    around->pcie_lanes = nvml->pcie_lanes(device, &value) ? 0 : value;
    around->errors_known =
        !nvml->errors(device, NVML_ERRORS_UNCORRECTED, NVML_ERRORS_SINCE_LOADED, &errors);
    around->uncorrected_errors = around->errors_known ? errors : 0;
    for (unsigned link = 0; link < GPU_LINKS_MAX; link++) {
        int is_up = 0;
        if (!nvml->link_state(device, link, &is_up) && is_up) {
            around->link_count++;
            add_peer(nvml, device, link, around);
        }
    }
    if (around->link_count && !nvml->fields(device, 1, &speed) && !speed.result) {
        around->link_bytes_per_second = speed.value.narrow * 1e6;
    }
}

void cuda_telemetry_close(struct cuda_driver *cuda)
{
    if (cuda->nvml_device) {
        cuda->nvml.shutdown();
        cuda->nvml_device = NULL;
    }
}
