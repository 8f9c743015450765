/* Activations as 8-bit integers, the input of the quantised kernels. In a block of 32 the largest
 * magnitude m gives scale = m / 127, and each value becomes x · (127 / m), rounded to nearest, ties
 * to even; so values lie in −127 … 127. A block whose m is below ACTIVATION_Q8_TINY becomes zeros
 * with scale 0. A block with a NaN or an infinity becomes zeros with a NaN as scale: whatever is
 * multiplied with it is NaN, and nothing traps. */
#ifndef CPU_ACTIVATION_Q8_H
#define CPU_ACTIVATION_Q8_H

#include "cpu/linear.h"

/* Above this, 127 / m and m / 127 are normal floats. */
#define ACTIVATION_Q8_TINY 0x1p-100f

/* Prepares one row of `columns` (a multiple of 32) into columns / 32 blocks. The result is the same
 * bit for bit at every level. */
void activation_prepare_q8(const float *row, uint64_t columns, struct activation_q8_block *blocks,
                           const struct cpu_features *features);

/* One level each, for tests; the vector ones exist on x86-64 only. */
void activation_prepare_q8_scalar(const float *row, uint64_t columns,
                                  struct activation_q8_block *blocks);
void activation_prepare_q8_avx2(const float *row, uint64_t columns,
                                struct activation_q8_block *blocks);
void activation_prepare_q8_avx512(const float *row, uint64_t columns,
                                  struct activation_q8_block *blocks);

#endif
