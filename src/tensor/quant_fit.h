/* The search behind quantize_row: the scales (and minima) that lose least, weighted by importance.
 * Inputs are finite; weights are finite, not negative, and not all zero. */
#ifndef TENSOR_QUANT_FIT_H
#define TENSOR_QUANT_FIT_H

#include <stdbool.h>
#include <stdint.h>

/* The scale s (either sign) for which s · code with code in [code_min, code_max] comes closest to
 * x[0 … count) in weighted squares. Zero when all of x is zero. */
float quant_fit_scale(const float *x, const float *weights, unsigned count, int code_min,
                      int code_max);

/* The same for s · code + m with code in [0, levels], s ≥ 0. With `minimum_below_zero`, m ≤ 0. */
void quant_fit_affine(const float *x, const float *weights, unsigned count, int levels,
                      bool minimum_below_zero, float *scale, float *minimum);

/* The same for s · values[code], `values` [16] in any order; *gain (may be NULL) is by how much the
 * weighted error is lower than that of all zeros. */
float quant_fit_table(const float *x, const float *weights, unsigned count, const int8_t values[16],
                      double *gain);

/* Codes of the values nearest to x / scale; all those of 0 (or nearest to it) when scale is 0. */
void quant_assign_table(const float *x, unsigned count, const int8_t values[16], float scale,
                        uint8_t *codes);

/* The same for s · code with code in −1 … 1: the best of scales from a fifth of the largest
 * magnitude up, since most of such a block's weights lie far below it. */
float quant_fit_ternary(const float *x, const float *weights, unsigned count);

/* The nearest integer in [low, high], ties to even; low for NaN. */
int quant_round(float value, int low, int high);

/* The largest f16 that is not infinite, with the sign of value, when value does not fit. */
uint16_t quant_f16_finite(float value);

/* What a super-block of 256 is cut into. */
struct quant_super_shape {
    unsigned sub_elements;    /* 16 or 32 */
    int code_min, code_max;   /* symmetric types: signed codes; affine: 0 … levels */
    int scale_min, scale_max; /* integers of the sub-block scales; affine: minima have the same */
};

/* A super-block after the search: value = d · scales[j] · codes[i] − dmin · minima[j]. */
struct quant_super {
    uint16_t d, dmin;   /* f16 bits */
    int8_t scales[16];  /* those of sub-blocks that do not exist are not set */
    uint8_t minima[16]; /* of the affine types */
    int8_t codes[256];
};

void quant_fit_super_symmetric(const struct quant_super_shape *shape, const float x[256],
                               const float weights[256], struct quant_super *out);
void quant_fit_super_affine(const struct quant_super_shape *shape, const float x[256],
                            const float weights[256], struct quant_super *out);

#endif
