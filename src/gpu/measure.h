/* The ceilings of a GPU, measured now through the driver table: the yardstick of every speed. */
#ifndef GPU_MEASURE_H
#define GPU_MEASURE_H

#include "gpu/driver.h"

struct gpu_ceilings {
    double read_bytes_per_second;        /* all multiprocessors, far more than the caches hold */
    double copy_bytes_per_second;        /* within the device, read + written */
    double to_device_bytes_per_second;   /* from pinned host memory */
    double from_device_bytes_per_second; /* to pinned host memory */
    double matrix_flop_per_second;       /* bf16 in, float sums, a multiply-add counted as two */
    bool matrix_vendor;                  /* by the vendor's library; otherwise by our mma kernel */
};

struct gpu_measure_options {
    uint64_t bytes;       /* of device memory to read; 0: 2 GiB, or a quarter of what is free */
    uint32_t matrix_size; /* n = rows = columns of the product; 0: 8,192 */
    uint32_t repetitions; /* the best counts; 0: 5 */
};

/* Takes a second or two. The thread is attached to the driver. `options` may be NULL. */
llcuda_status gpu_measure(struct gpu_driver *driver, const struct gpu_measure_options *options,
                          struct gpu_ceilings *ceilings, struct llcuda_error *error);

#endif
