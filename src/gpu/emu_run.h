/* Runs a grid of thread blocks of an emulated kernel on the calling thread. */
#ifndef GPU_EMU_RUN_H
#define GPU_EMU_RUN_H

#include "base/error.h"
#include "gpu/driver.h"
#include "gpu/emu_abi.h"

struct emu_runner; /* fibres, stacks and queues; one thread at a time */

struct emu_grid {
    const char *name; /* of the kernel, for messages */
    const struct emu_kernel *kernel;
    const struct emu_module *module;
    char *static_shared; /* to be poisoned before each block; may be NULL */
    uint64_t static_shared_bytes;
    const struct gpu_launch *launch;
    const void *arguments;
};

llcuda_status emu_runner_create(enum gpu_emu_order order, uint64_t seed, struct emu_runner **,
                                struct llcuda_error *);
void emu_runner_destroy(struct emu_runner *);

/* DEVICE with a sentence when a thread broke a rule: its block and thread, and the place. */
llcuda_status emu_run(struct emu_runner *, const struct emu_grid *, struct llcuda_error *);

/* The driver's half of every module. */
extern const struct emu_runtime emu_run_runtime;

#endif
