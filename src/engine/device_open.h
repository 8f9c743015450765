/* The one place that knows which devices this build has: from the words of a person to an open
 * device. */
#ifndef ENGINE_DEVICE_OPEN_H
#define ENGINE_DEVICE_OPEN_H

#include "device/device.h"

struct device_open_options {
    /* Of device/spec.h, and "cpu:avx2" and the like; NULL: "auto", and not a word in the log when
     * there is no GPU. */
    const char *name;
    uint32_t thread_count;      /* of a device that computes on the CPU; 0: it chooses */
    const struct log_sink *log; /* outlives the device; may be NULL */
    /* Of GPUs. */
    const char *library_path;     /* folders of the vendor's libraries, looked into first */
    const char *kernel_cache;     /* folder of compiled kernels; NULL: none is kept */
    const char *kernel_pack;      /* file of compiled kernels, looked into first; or NULL */
    uint64_t device_memory_limit; /* bytes; 0: what is free */
    double device_memory_share;   /* of what the device has, 0 … 1; 0: what is free */
    bool no_graphs;               /* kernels launched one by one */
    bool deterministic;           /* rows do not depend on their number */
    int32_t gpu_layers;           /* as in llcuda_engine_options */
};

/* Errors: INVALID_ARGUMENT (no such words), UNSUPPORTED (no such device in this build), and those
 * of the device. On success *device is the caller's (device_close). */
llcuda_status device_open(const struct device_open_options *options, struct device **device,
                          struct llcuda_error *error);

/* Whether `name` (NULL: "auto") is a name of a device, existing or not: INVALID_ARGUMENT. */
llcuda_status device_name_check(const char *name, struct llcuda_error *error);

/* After a model could not be loaded: when the GPU was the program's own choice, and the reason may
 * be the GPU, closes it and opens the CPU instead, with a warning that says why. True when it did:
 * *device is another one. */
bool device_fall_back(const struct device_open_options *options, const struct llcuda_error *reason,
                      struct device **device);

#endif
