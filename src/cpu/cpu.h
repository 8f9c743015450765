/* The CPU device: opening it. Everything else goes through device/device.h. */
#ifndef CPU_CPU_H
#define CPU_CPU_H

#include "device/device.h"

/* Instruction-set levels. The first three include those before them, and use what is beside them
 * (VNNI) as CPU flags say; without a mask so do AMX's products of BF16. The others are used only
 * when they are asked for by name: NEON because it has not been run on silicon, AVX512_BF16 because
 * it is slower on the CPUs that it was measured on, AMX, which adds its products of integers,
 * because those are no faster (docs/internals/cpu-device.md). AVX512_BF16 and AMX are AVX-512 with
 * other matrix kernels, and like it where the CPU lacks them. */
enum cpu_level {
    CPU_SCALAR,
    CPU_AVX2,
    CPU_AVX512,
    CPU_NEON,
    CPU_AVX512_BF16,
    CPU_AMX,
    CPU_LEVEL_COUNT
};

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
const char *cpu_level_name(enum cpu_level level); /* "scalar", "avx2", … */

#endif
