/* The GPU device, one for all vendors: it runs plans through a driver's table (gpu/driver.h). */
#ifndef GPU_GPU_H
#define GPU_GPU_H

#include "device/device.h"
#include "gpu/driver.h"

/* Which kernels do the linear layers. */
enum gpu_linear_choice {
    GPU_LINEAR_FAST,  /* the fastest for the type and the number of rows */
    GPU_LINEAR_PLAIN, /* the reference: plain multiply-adds */
    GPU_LINEAR_OWN,   /* the fastest without the vendor's matrix products */
};

struct gpu_device_options {
    const struct log_sink *log;  /* outlives the device; may be NULL */
    const char *cache;           /* folder of compiled kernels; NULL: compiled anew every time */
    const char *pack;            /* file of compiled kernels, looked into first; or NULL */
    uint64_t memory_limit_bytes; /* of all models on this device; 0: what is free */
    double memory_share;         /* the same as a share of its memory, the lesser counts; 0: none */
    uint32_t timeout_ms;         /* of a step, after which the device counts as lost; 0: 4,500 */
    bool no_graphs;              /* launches one by one: the reference of step graphs */
    bool no_overlap;             /* a kernel waits for the one before it to end */
    bool all_rows;               /* all rows go through the whole last layer: the reference */
    bool deterministic;          /* only kernels whose sums do not depend on the number of rows */
    enum gpu_linear_choice linear;
    uint64_t unpacked_bytes_max; /* of experts that are unpacked together; 0: a usual number */
};

/* Opens the device behind `driver`, which it owns from then on, also when it fails. Reads no file
 * and compiles nothing before a model is loaded. */
llcuda_status gpu_device_open(struct gpu_driver *driver, const struct gpu_device_options *options,
                              struct device **device, struct llcuda_error *error);

/* Compiles what a model of this plan needs into one file, for devices of the same architecture on
 * machines that cannot compile. The device may have been opened on a compiler alone
 * (gpu_compiler_open_cuda). Of the options kv_dtype counts. */
llcuda_status gpu_device_pack(struct device *device, const struct plan *plan,
                              const struct device_model_options *options, const char *path,
                              struct llcuda_error *error);

#endif
