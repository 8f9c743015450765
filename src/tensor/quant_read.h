/* One common form of every quantised type: 32 columns at a time as small integers with float
 * scales. Dequantising, the scalar integer kernels and the packing of the vector kernels all read
 * blocks through this, so that a type's layout is written down once. */
#ifndef TENSOR_QUANT_READ_H
#define TENSOR_QUANT_READ_H

#include "tensor/dtype.h"

#define QUANT_STEP 32 /* columns */

/* value i = scale[i / 16] · codes[i] + minimum[i / 16], in this order and in float; the addition
 * is left out for types without minima. Types with one scale a step have it twice. */
struct quant_step {
    float scale[2];
    float minimum[2];
    int8_t codes[QUANT_STEP]; /* signed; offsets are taken off already */
};

/* Reads columns [32·step, 32·step + 32) of a row. */
typedef void quant_read_function(const void *row, uint64_t step, struct quant_step *out);

/* NULL for the plain types. Any thread. */
quant_read_function *quant_reader(enum dtype dtype);

/* Whether the type has minima. */
bool quant_has_minimum(enum dtype dtype);

/* The 6-bit scale and minimum of sub-block `index` (0…7) of q4_k and q5_k. */
void quant_scale_min_k4(const uint8_t scales[12], unsigned index, uint8_t *scale, uint8_t *minimum);

/* The 6-bit scale (0…63, standing for −32…31) of sub-block `index` (0…15) of q3_k. */
uint8_t quant_scale_k3(const uint8_t scales[12], unsigned index);

#endif
