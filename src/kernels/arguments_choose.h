/* What `choose` is launched with; see arguments_linear.h for how these structs are shared. */
#ifndef KERNELS_ARGUMENTS_CHOOSE_H
#define KERNELS_ARGUMENTS_CHOOSE_H

#ifndef KERNEL_POINTER
#include <stdint.h>
#define KERNEL_POINTER(type) uint64_t
#endif

#define CHOOSE_SLICES 32u /* blocks that share a row */

/* chosen[i] = where the largest of logits[i] is, or CHOOSE_NONE when one of them is not finite */
#define CHOOSE_NONE 0xFFFFFFFFu

struct choose_arguments {
    KERNEL_POINTER(const uint32_t) count; /* m */
    KERNEL_POINTER(const float) logits;   /* [m, width] */
    KERNEL_POINTER(float) values;         /* [rows, CHOOSE_SLICES] scratch */
    KERNEL_POINTER(uint32_t) indices;     /* likewise */
    KERNEL_POINTER(uint32_t) arrived;     /* [rows] zero between launches */
    KERNEL_POINTER(uint32_t) chosen;      /* [m] */
    uint32_t width;
    uint32_t reserved;
};

#endif
