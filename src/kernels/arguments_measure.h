/* What the measuring kernels are launched with: shared by C and the kernel text, where
 * KERNEL_POINTER is defined before and makes real pointers. */
#ifndef KERNELS_ARGUMENTS_MEASURE_H
#define KERNELS_ARGUMENTS_MEASURE_H

#ifndef KERNEL_POINTER
#include <stdint.h>
#define KERNEL_POINTER(type) uint64_t
#endif

#define MEASURE_THREADS 512
/* Loads of 16 bytes that a thread has in flight. */
#define MEASURE_LOADS 8
/* Accumulators of 16 x 8 that a warp works on in turn: the tensor cores are never waited for. */
#define MEASURE_TILES 8

struct measure_arguments {
    KERNEL_POINTER(const uint8_t) from; /* [bytes], 16-byte aligned */
    KERNEL_POINTER(uint32_t) to;        /* measure_fill: [bytes / 4]; others: one word */
    uint64_t bytes;                     /* multiple of 16 · MEASURE_LOADS · threads of the grid */
    uint32_t rounds;                    /* measure_matrix */
    uint32_t padding;
};

#endif
