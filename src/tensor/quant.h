/* Quantised blocks, laid out exactly as GGUF publishes them, and the two directions of conversion.
 * The scalar code here is the numeric specification that every kernel is tested against. */
#ifndef TENSOR_QUANT_H
#define TENSOR_QUANT_H

#include "tensor/dtype.h"

/* Float values of `elements` weights (whole blocks of `dtype`, any type of the list). */
void dequantize_row(enum dtype dtype, const void *blocks, float *out, uint64_t elements);

/* The other direction. `importance` (per column, from an importance matrix) may be NULL. Not every
 * type can be written: false then, and nothing is touched. NaN and infinities in `row` give blocks
 * of finite values; a caller that must know checks first. */
bool quantize_row(enum dtype dtype, const float *row, const float *importance, void *blocks,
                  uint64_t elements);

/* Σ dequantised weight · x in double precision over the columns in order: the reference for the
 * linear kernels. */
double reference_dot(enum dtype dtype, const void *blocks, const float *x, uint64_t elements);

#endif
