/* The driver table over AMD's HIP. Not filled yet: every entry point says so. */
#include "gpu/driver.h"

llcuda_status gpu_driver_probe_hip(const struct gpu_open_options *options, uint32_t *count,
                                   struct llcuda_error *error)
{
    (void)options;
    *count = 0;
    return error_set(error, LLCUDA_UNSUPPORTED, "AMD GPUs are not supported by this build");
}

uint32_t gpu_driver_count_hip(void)
{
    return 0;
}

llcuda_status gpu_driver_open_hip(const struct gpu_open_options *options,
                                  struct gpu_driver **driver, struct llcuda_error *error)
{
    uint32_t count = 0;
    *driver = NULL;
    return gpu_driver_probe_hip(options, &count, error);
}
