/* The compiled kernels of a model. */
#ifndef GPU_PROGRAM_H
#define GPU_PROGRAM_H

#include "gpu/attention.h"
#include "gpu/driver.h"

struct gpu_model;

enum gpu_kernel {
    GPU_KERNEL_NORM_ROWS,
    GPU_KERNEL_NORM_FLOATS,
    GPU_KERNEL_PROJECT_FINISH,
    GPU_KERNEL_ACTIVATE,
    GPU_KERNEL_LOGITS_FINISH,
    GPU_KERNEL_EMBED,                                         /* + type of the embedding */
    GPU_KERNEL_LINEAR_PLAIN = GPU_KERNEL_EMBED + DTYPE_COUNT, /* + type of the weight */
    GPU_KERNEL_COUNT = GPU_KERNEL_LINEAR_PLAIN + DTYPE_COUNT
};

#define GPU_PROGRAM_MODULES_MAX 4u

struct texts;
struct gpu_jit_batch;

struct gpu_program {
    struct gpu_jit_batch *batch; /* while compiling */
    struct texts *texts;         /* while compiling */
    struct gpu_module *modules[GPU_PROGRAM_MODULES_MAX];
    uint32_t module_count;
    struct gpu_function *functions[GPU_KERNEL_COUNT]; /* NULL: this model does not need it */
    struct gpu_attention_kernels attention;
};

/* Starts compiling, or finding in the cache, what the model's plan needs, on threads of its own;
 * types of weights are decided. */
llcuda_status gpu_program_start(struct gpu_model *model, struct llcuda_error *error);
/* Waits for it and loads. */
llcuda_status gpu_program_finish(struct gpu_model *model, struct llcuda_error *error);
/* Compiles it all into one file, for machines that cannot compile. */
llcuda_status gpu_program_pack(struct gpu_model *model, const char *path,
                               struct llcuda_error *error);
/* At any time. */
void gpu_program_release(struct gpu_model *model);

/* Threads of a block of this kernel. */
uint32_t gpu_kernel_threads(enum gpu_kernel kernel);

#endif
