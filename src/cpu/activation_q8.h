/* Activations as 8-bit integers, the input of the quantised kernels. */
#ifndef CPU_ACTIVATION_Q8_H
#define CPU_ACTIVATION_Q8_H

#include "cpu/linear.h"

/* Prepares one row of `columns` (a multiple of 32) into columns / 32 blocks. Values that are not
 * finite must not trap or overrun. The result is the same bit for bit at every level. */
void activation_prepare_q8(const float *row, uint64_t columns, struct activation_q8_block *blocks,
                           const struct cpu_features *features);

#endif
