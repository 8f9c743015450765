/* Watches the machine and one process group from a thread of its own, at a fixed rate: memory,
 * processor time, energy, temperature, and an NVIDIA GPU where its library is there. */
#ifndef BENCH_MONITOR_H
#define BENCH_MONITOR_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/error.h"

/* NaN: this machine does not say. */
struct monitor_sample {
    double seconds;         /* since the monitor began */
    double memory_bytes;    /* resident, of the group */
    double processor_share; /* of all processors of the machine that were busy, 0 … 1 */
    double temperature_c;   /* the hottest sensor */
    /* Of several GPUs: the mean of shares and clocks, the sum of bytes and watts, the hottest. */
    double gpu_share, gpu_memory_bytes, gpu_power_w, gpu_temperature_c, gpu_clock_mhz;
    double gpu_throttled; /* 1: clocks of one are held down by heat or power */
};

#define MONITOR_GPUS_MAX 16u

struct monitor_options {
    pid_t group;           /* to watch; 0: only the machine */
    pid_t more_groups[15]; /* watched with it */
    uint32_t more_group_count;
    double rate_hz;
    double thermal_limit_c;          /* 0: none */
    double memory_limit_bytes;       /* of the group; 0: none */
    uint32_t gpus[MONITOR_GPUS_MAX]; /* to watch, by NVML's numbers; those that are not there */
    uint32_t gpu_count;              /* … are left out */
    bool gpu_memory_limited;         /* the limit holds for their memory too */
    const char *energy_folder;       /* of energy_open; NULL: the system's */
    const char *processors_file;     /* NULL: /proc/stat */
    bool stolen_since_start; /* stolen_share counts from monitor_start, whatever the marks: for
                                an engine that measures before it is asked, and replays */
};

struct monitor;

/* Starts the thread. Errors: OUT_OF_MEMORY. */
llcuda_status monitor_start(const struct monitor_options *options, struct monitor **monitor,
                            struct llcuda_error *error);
/* Stops the thread and frees all. NULL is fine. */
void monitor_stop(struct monitor *monitor);

/* Why the run must end, or NULL. Static for the monitor's life. Any thread. */
const char *monitor_alarm(struct monitor *monitor);
/* Whether that is heat, which says nothing against what was measured: later it may be cool enough.
 */
bool monitor_is_hot(struct monitor *monitor);

/* Totals so far. Any thread. */
struct monitor_totals {
    double memory_peak_bytes, memory_mean_bytes; /* since monitor_mark; NaN before a sample */
    double processor_mean, gpu_mean, gpu_power_mean_w, gpu_memory_peak_bytes, gpu_throttled_share;
    double temperature_peak_c;
    double cpu_energy_j;      /* of all packages and their memory since monitor_mark; NaN */
    double group_cpu_seconds; /* processor time of the group since monitor_mark */
    double own_cpu_seconds;   /* of this process: what the harness itself took */
    double stolen_share;      /* of all processors' time since monitor_mark (stolen_since_start:
                                 since the start): what the host of a virtual machine gave to
                                 others; NaN */
    double seconds;           /* since monitor_mark */
};
void monitor_mark(struct monitor *monitor);
void monitor_get_totals(struct monitor *monitor, struct monitor_totals *totals);

/* Samples so far, at most 4,096: when full, every second one is dropped and the rate of keeping
 * halves. Copies up to `capacity` and returns how many. Any thread. */
size_t monitor_copy(struct monitor *monitor, struct monitor_sample *out, size_t capacity);

#endif
