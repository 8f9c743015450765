/* The CPU device: opening it. Everything else goes through device/device.h. */
#ifndef CPU_CPU_H
#define CPU_CPU_H

#include "device/device.h"

/* Instruction-set levels, each including those before it. Which extensions beside them are used
 * (VNNI, BF16) is decided by CPU flags below the chosen level. */
enum cpu_level { CPU_SCALAR, CPU_AVX2, CPU_AVX512, CPU_NEON, CPU_LEVEL_COUNT };

struct cpu_options {
    uint32_t thread_count;    /* 0: one a physical core that this process may use */
    enum cpu_level level_max; /* a mask that lowers the level; CPU_LEVEL_COUNT: no mask */
    bool no_extensions;       /* without VNNI, BF16 and the like */
    const struct log_sink *log;
};

/* Opens the device: probes CPU flags, starts the worker pool. Errors: OUT_OF_MEMORY, LIMIT. */
llcuda_status cpu_device_open(const struct cpu_options *options, struct device **device,
                              struct llcuda_error *error);

/* The best level of this machine. */
enum cpu_level cpu_level_detect(void);
const char *cpu_level_name(enum cpu_level level); /* "scalar", "avx2", "avx512", "neon" */

#endif
