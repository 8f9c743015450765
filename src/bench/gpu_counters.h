/* Counters of an NVIDIA GPU while it does some work: how full its multiprocessors really were, how
 * busy their tensor cores, how well requests for memory were joined. Through CUPTI, which is loaded
 * when it is asked for; many drivers give counters to administrators only, or not at all. */
#ifndef BENCH_GPU_COUNTERS_H
#define BENCH_GPU_COUNTERS_H

#include "base/error.h"

struct gpu_counters {
    double occupancy;    /* resident warps / the most that there can be, while any is */
    double tensor_share; /* cycles in which the tensor pipe worked / cycles, while any warp is */
    double sectors_per_request; /* 32-byte sectors of global memory that a request touched */
    uint32_t passes;            /* how often the work was done: counters do not all fit at once */
};

/* Does `work` as often as the counters need and waits for the device each time; the same work every
 * time is the caller's promise. Fields that this GPU does not know are NaN. Errors: UNSUPPORTED
 * with the reason in words (no CUPTI, no permission, a virtual device), or those of `work`. One at
 * a time in a process; the calling thread must be able to use the device's primary context. */
llcuda_status gpu_counters_measure(int device, llcuda_status (*work)(void *, struct llcuda_error *),
                                   void *user, struct gpu_counters *out,
                                   struct llcuda_error *error);

#endif
