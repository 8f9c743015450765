/* The GPUs in `llcuda devices`: what the driver table and the monitor say, and the ceilings. Owns a
 * driver only while it looks at its device. Main thread. */
#include "cli/gpu_devices.h"

#include "cli/patience.h"
#include "gpu/place.h"

#include <math.h>
#include <stdio.h>

struct gpu_row {
    enum device_kind kind;
    uint32_t index;
    struct gpu_device_info info;
    struct gpu_telemetry telemetry;
    struct gpu_surroundings around;
    struct gpu_ceilings ceilings;
    bool measured;
    uint64_t memory_free_bytes;
    int numa_node;
};

struct gpu_open_options gpu_options_of(const struct options *options, uint32_t index)
{
    return (struct gpu_open_options){.index = index,
                                     .library_path = option_text(options, OPTION_CUDA_PATH)};
}

llcuda_status gpu_devices_count(const struct options *options, enum device_kind kind,
                                uint32_t *count, struct llcuda_error *error)
{
    const struct gpu_open_options open = gpu_options_of(options, 0);
    if (kind == DEVICE_EMU) {
        *count = 1;
        return LLCUDA_OK;
    }
    patience_expect(device_kind_name(kind), "initialise", PATIENCE_START_MS);
    llcuda_status status = kind == DEVICE_HIP ? gpu_driver_probe_hip(&open, count, error)
                                              : gpu_driver_probe_cuda(&open, count, error);
    patience_expect(NULL, NULL, 0);
    return status;
}

llcuda_status gpu_device_open_kind(const struct options *options, enum device_kind kind,
                                   uint32_t index, struct gpu_driver **driver,
                                   struct llcuda_error *error)
{
    const struct gpu_open_options open = gpu_options_of(options, index);
    if (kind == DEVICE_EMU) {
        return gpu_driver_open_emu(&open, driver, error);
    }
    return kind == DEVICE_HIP ? gpu_driver_open_hip(&open, driver, error)
                              : gpu_driver_open_cuda(&open, driver, error);
}

static llcuda_status read_row(const struct options *options, struct gpu_row *row,
                              struct llcuda_error *error)
{
    struct gpu_driver *driver = NULL;
    uint64_t total_bytes = 0;
    char name[32];
    snprintf(name, sizeof name, "%s:%u", device_kind_name(row->kind), row->index);
    patience_expect(name, "open", PATIENCE_ASK_MS);
    llcuda_status status = gpu_device_open_kind(options, row->kind, row->index, &driver, error);
    if (status) {
        patience_expect(NULL, NULL, 0);
        return status;
    }
    driver->describe(driver, &row->info);
    row->numa_node = gpu_place_numa_node(row->info.pci_bus_id);
    patience_expect(name, "memory_info", PATIENCE_ASK_MS);
    status = driver->memory_info(driver, &row->memory_free_bytes, &total_bytes, error);
    if (!status) {
        patience_expect(name, "telemetry", PATIENCE_ASK_MS);
        status = driver->telemetry(driver, &row->telemetry, error);
    }
    row->around = (struct gpu_surroundings){.link_bytes_per_second = NAN};
    if (driver->surroundings) {
        patience_expect(name, "surroundings", PATIENCE_ASK_MS);
        driver->surroundings(driver, &row->around);
    }
    if (!status && row->measured) {
        patience_expect(name, "measure", PATIENCE_MEASURE_MS);
        status = gpu_measure(driver, NULL, &row->ceilings, error);
    }
    patience_expect(name, "close", PATIENCE_ASK_MS);
    driver->close(driver);
    patience_expect(NULL, NULL, 0);
    return status;
}

static void write_number(struct json_writer *json, const char *key, double value)
{
    json_key(json, key);
    if (isnan(value)) {
        json_write_null(json);
    } else {
        json_write_number(json, value);
    }
}

static void write_unsigned(struct json_writer *json, const char *key, uint64_t value)
{
    json_key(json, key);
    json_write_unsigned(json, value);
}

static void write_text(struct json_writer *json, const char *key, const char *value)
{
    json_key(json, key);
    json_write_string(json, value);
}

/* "ok", or what is wrong with a device that can be opened all the same. */
static const char *health_of(const struct gpu_row *row)
{
    return row->telemetry.lost                  ? "lost"
           : row->around.uncorrected_errors > 0 ? "memory_errors"
                                                : "ok";
}

static void write_links(struct json_writer *json, const struct gpu_surroundings *around)
{
    json_key(json, "links");
    json_begin_object(json);
    write_unsigned(json, "pcie_generation", around->pcie_generation);
    write_unsigned(json, "pcie_lanes", around->pcie_lanes);
    write_unsigned(json, "nvlinks", around->link_count);
    write_number(json, "nvlink_bytes_per_second", around->link_bytes_per_second);
    json_key(json, "peers");
    json_begin_array(json);
    for (uint32_t i = 0; i < around->peer_count; i++) {
        const struct gpu_link_peer *peer = &around->peers[i];
        json_begin_object(json);
        write_text(json, "pci_bus_id", peer->pci_bus_id);
        write_text(json, "kind", peer->is_switch ? "switch" : "gpu");
        write_unsigned(json, "nvlinks", peer->link_count);
        json_end_object(json);
    }
    json_end_array(json);
    json_end_object(json);
}

static void write_json(struct json_writer *json, const struct gpu_row *row)
{
    const struct gpu_device_info *info = &row->info;
    json_begin_object(json);
    write_text(json, "kind", device_kind_name(row->kind));
    write_unsigned(json, "index", row->index);
    write_text(json, "name", info->name);
    write_text(json, "arch", info->arch);
    write_unsigned(json, "capability", info->capability);
    write_unsigned(json, "multiprocessors", info->multiprocessor_count);
    write_unsigned(json, "memory_bytes", info->memory_bytes);
    write_unsigned(json, "memory_free_bytes", row->memory_free_bytes);
    write_unsigned(json, "l2_bytes", info->l2_bytes);
    write_unsigned(json, "driver_version", info->driver_version);
    write_unsigned(json, "compiler_version", info->compiler_version);
    write_text(json, "pci_bus_id", info->pci_bus_id);
    write_number(json, "numa_node", row->numa_node < 0 ? (double)NAN : (double)row->numa_node);
    write_number(json, "utilisation", row->telemetry.utilisation);
    write_number(json, "temperature_c", row->telemetry.temperature_c);
    write_number(json, "power_w", row->telemetry.power_w);
    write_number(json, "power_limit_w", row->telemetry.power_limit_w);
    write_number(json, "clock_mhz", row->telemetry.clock_mhz);
    write_number(json, "memory_clock_mhz", row->telemetry.memory_clock_mhz);
    write_text(json, "driver", row->around.driver_name);
    write_text(json, "health", health_of(row));
    write_number(json, "memory_errors",
                 row->around.errors_known ? (double)row->around.uncorrected_errors : (double)NAN);
    write_links(json, &row->around);
    if (row->measured) {
        const struct gpu_ceilings *ceilings = &row->ceilings;
        write_number(json, "read_bytes_per_second", ceilings->read_bytes_per_second);
        write_number(json, "copy_bytes_per_second", ceilings->copy_bytes_per_second);
        write_number(json, "to_device_bytes_per_second", ceilings->to_device_bytes_per_second);
        write_number(json, "from_device_bytes_per_second", ceilings->from_device_bytes_per_second);
        write_number(json, "matrix_flop_per_second", ceilings->matrix_flop_per_second);
        write_text(json, "matrix_by", ceilings->matrix_vendor ? "vendor" : "llcuda");
    }
    json_end_object(json);
}

/* ", 54 °C", and nothing for what the vendor does not say. */
static void print_reading(struct buffer *out, double value, const char *unit)
{
    if (!isnan(value)) {
        buffer_printf(out, ", %.0f%s", value, unit);
    }
}

static void print_version(struct buffer *out, const char *what, uint32_t version)
{
    buffer_printf(out, ", %s %u.%u", what, version / 1000, version % 1000 / 10);
}

static void print_links(struct buffer *out, const struct gpu_surroundings *around)
{
    if (around->pcie_lanes == 0 && around->link_count == 0) {
        return;
    }
    buffer_append_text(out, "        links   ");
    if (around->pcie_lanes) {
        buffer_printf(out, "PCIe %u x%u", around->pcie_generation, around->pcie_lanes);
    }
    if (around->link_count) {
        buffer_printf(out, "%s%u NVLinks", around->pcie_lanes ? ", " : "", around->link_count);
    }
    if (around->link_count && !isnan(around->link_bytes_per_second)) {
        buffer_printf(out, " of %.1f GB/s each way", around->link_bytes_per_second / 1e9);
    }
    for (uint32_t i = 0; i < around->peer_count; i++) {
        const struct gpu_link_peer *peer = &around->peers[i];
        buffer_printf(out, "%s %u to %s %s", i ? "," : ":", peer->link_count,
                      peer->is_switch ? "the switch" : "the GPU", peer->pci_bus_id);
    }
    buffer_append_byte(out, '\n');
}

static void print_health(struct buffer *out, const struct gpu_row *row)
{
    if (row->telemetry.lost) {
        buffer_append_text(out, "        health  lost: the driver says that it is no longer there; "
                                "restart the machine\n");
    } else if (row->around.uncorrected_errors > 0) {
        buffer_printf(out,
                      "        health  %llu uncorrected memory errors since the driver was loaded: "
                      "reset the GPU, and replace it when they come back\n",
                      (unsigned long long)row->around.uncorrected_errors);
    } else {
        buffer_printf(out, "        health  it answers%s\n",
                      row->around.errors_known ? ", no uncorrected memory errors" : "");
    }
}

static void write_lines(struct buffer *out, const struct gpu_row *row)
{
    const struct gpu_device_info *info = &row->info;
    const struct gpu_telemetry *telemetry = &row->telemetry;
    buffer_printf(out, "%s:%u  %s, %s, %u multiprocessors\n", device_kind_name(row->kind),
                  row->index, info->name, info->arch, info->multiprocessor_count);
    buffer_printf(out, "        memory  %.1f GiB, %.1f GiB free; %.0f MiB second-level cache\n",
                  (double)info->memory_bytes / 0x1p30, (double)row->memory_free_bytes / 0x1p30,
                  (double)info->l2_bytes / 0x1p20);
    buffer_printf(out, "        place   PCI %s", *info->pci_bus_id ? info->pci_bus_id : "unknown");
    if (row->numa_node >= 0) {
        buffer_printf(out, ", NUMA node %d", row->numa_node);
    }
    char driver[64];
    snprintf(driver, sizeof driver, "driver %s%sfor", row->around.driver_name,
             row->around.driver_name[0] ? " " : "");
    print_version(out, driver, info->driver_version);
    if (info->compiler_version) {
        print_version(out, "compiler", info->compiler_version);
    } else {
        buffer_append_text(out, ", no compiler (see llcuda doctor)");
    }
    buffer_append_text(out, "\n        now     in use ");
    buffer_printf(out, "%.1f GiB", (double)telemetry->memory_used_bytes / 0x1p30);
    print_reading(out, telemetry->utilisation * 100, " % busy");
    print_reading(out, telemetry->temperature_c, " °C");
    print_reading(out, telemetry->power_w, " W");
    print_reading(out, telemetry->power_limit_w, " W at most");
    print_reading(out, telemetry->clock_mhz, " MHz");
    print_reading(out, telemetry->memory_clock_mhz, " MHz memory");
    buffer_append_byte(out, '\n');
    print_links(out, &row->around);
    print_health(out, row);
    if (row->measured) {
        const struct gpu_ceilings *ceilings = &row->ceilings;
        buffer_printf(out, "        read    %.0f GB/s\n", ceilings->read_bytes_per_second / 1e9);
        buffer_printf(out, "        copy    %.0f GB/s (read + written)\n",
                      ceilings->copy_bytes_per_second / 1e9);
        buffer_printf(out, "        host    %.1f GB/s to the device, %.1f GB/s from it\n",
                      ceilings->to_device_bytes_per_second / 1e9,
                      ceilings->from_device_bytes_per_second / 1e9);
        buffer_printf(out, "        bf16    %.0f TFLOP/s (%s)\n",
                      ceilings->matrix_flop_per_second / 1e12,
                      ceilings->matrix_vendor ? "the vendor's library" : "our mma kernel");
    }
}

/* With `auto`: says why, and goes on. */
static void write_trouble(const struct gpu_row *row, const struct llcuda_error *trouble,
                          struct json_writer *json, struct buffer *out)
{
    if (!json) {
        buffer_printf(out, "%s:%u  cannot be used: %s\n", device_kind_name(row->kind), row->index,
                      trouble->message);
        return;
    }
    json_begin_object(json);
    write_text(json, "kind", device_kind_name(row->kind));
    write_unsigned(json, "index", row->index);
    write_text(json, "error", trouble->message);
    json_end_object(json);
}

static llcuda_status list_kind(const struct options *options, const struct device_spec *spec,
                               enum device_kind kind, bool measured, struct json_writer *json,
                               struct buffer *out, struct llcuda_error *error)
{
    uint32_t count = 0;
    struct llcuda_error trouble = {0};
    llcuda_status status = gpu_devices_count(options, kind, &count, error);
    if (status) {
        return spec->kind == DEVICE_AUTO ? LLCUDA_OK : status;
    }
    count = spec->count ? spec->count : count;
    for (uint32_t i = 0; i < count; i++) {
        struct gpu_row row = {
            .kind = kind, .index = spec->count ? spec->indices[i] : i, .measured = measured};
        status = read_row(options, &row, &trouble);
        if (status && spec->kind != DEVICE_AUTO) {
            if (error) {
                *error = trouble;
            }
            return status;
        }
        if (status) {
            write_trouble(&row, &trouble, json, out);
        } else if (json) {
            write_json(json, &row);
        } else {
            write_lines(out, &row);
        }
    }
    return LLCUDA_OK;
}

llcuda_status gpu_devices_list(const struct options *options, const struct device_spec *spec,
                               bool measured, struct json_writer *json, struct buffer *out,
                               struct llcuda_error *error)
{
    static const enum device_kind kinds[] = {DEVICE_CUDA, DEVICE_HIP, DEVICE_EMU};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        /* The emulated one is no device of the machine: it is shown to who asks for it. */
        if (spec->kind != kinds[i] && (spec->kind != DEVICE_AUTO || kinds[i] == DEVICE_EMU)) {
            continue;
        }
        llcuda_status status = list_kind(options, spec, kinds[i], measured, json, out, error);
        if (status) {
            return status;
        }
    }
    return LLCUDA_OK;
}
