/* An NVIDIA GPU's counters through NVML, loaded at run time. One thread. */
#ifndef BENCH_MONITOR_GPU_H
#define BENCH_MONITOR_GPU_H

#include "bench/monitor.h"

struct monitor_gpu;

/* NULL when the library or the device is not there. */
struct monitor_gpu *monitor_gpu_open(int index);
void monitor_gpu_close(struct monitor_gpu *gpu);
/* Fills in the gpu_ fields. */
void monitor_gpu_read(struct monitor_gpu *gpu, struct monitor_sample *sample);
/* "NVIDIA H200, driver 550.54, power limit 700 W, clocks up to 1980 MHz" into `out`. */
void monitor_gpu_describe(struct monitor_gpu *gpu, char *out, size_t bytes);

#endif
