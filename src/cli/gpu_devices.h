/* The GPUs of the machine as `llcuda devices` and `llcuda doctor` look at them. */
#ifndef CLI_GPU_DEVICES_H
#define CLI_GPU_DEVICES_H

#include "base/json.h"
#include "cli/console.h"
#include "device/spec.h"
#include "gpu/driver.h"
#include "gpu/measure.h"

/* What the options say about opening a GPU. */
struct gpu_open_options gpu_options_of(const struct options *options, uint32_t index);

/* Devices of a kind (DEVICE_CUDA, DEVICE_HIP), and why there is none. */
llcuda_status gpu_devices_count(const struct options *options, enum device_kind kind,
                                uint32_t *count, struct llcuda_error *error);
llcuda_status gpu_device_open_kind(const struct options *options, enum device_kind kind,
                                   uint32_t index, struct gpu_driver **driver,
                                   struct llcuda_error *error);

/* Appends the GPUs that `spec` names to the list, as text, or as objects when `json` is not NULL.
 * With `auto` a GPU that cannot be used is a line that says why; a GPU that was named and cannot be
 * used is an error. */
llcuda_status gpu_devices_list(const struct options *options, const struct device_spec *spec,
                               bool measured, struct json_writer *json, struct buffer *out,
                               struct llcuda_error *error);

#endif
