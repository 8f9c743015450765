/* The functions of struct cpu_ops in the words of simd_*.h, which must be included first. Included
 * by one .c file an instruction set. Sums run in a fixed order: lane by lane over the row, then
 * across the lanes. */
#ifndef CPU_OPS_SIMD_H
#define CPU_OPS_SIMD_H

#include <math.h>
#include <string.h>

#include "cpu/math_simd.h"
#include "cpu/ops.h"

/* Σ (x[i] − shift)² */
SIMD_INLINE float sum_squares(const float *x, float shift, uint64_t count)
{
    SIMD_VECTOR sums[4] = {simd_zero(), simd_zero(), simd_zero(), simd_zero()};
    SIMD_VECTOR away = simd_set(-shift);
    uint64_t i = 0;
    for (; i + 4 * SIMD_WIDTH <= count; i += 4 * SIMD_WIDTH) {
        for (uint32_t j = 0; j < 4; j++) {
            SIMD_VECTOR v = simd_add(simd_load(x + i + j * SIMD_WIDTH), away);
            sums[j] = simd_multiply_add(v, v, sums[j]);
        }
    }
    for (; i < count; i += SIMD_WIDTH) {
        uint32_t rest = count - i < SIMD_WIDTH ? (uint32_t)(count - i) : SIMD_WIDTH;
        SIMD_VECTOR v = simd_add(simd_load_part(x + i, rest), away);
        v = simd_keep(v, simd_zero(), 0, rest);
        sums[0] = simd_multiply_add(v, v, sums[0]);
    }
    return simd_sum(simd_add(simd_add(sums[0], sums[1]), simd_add(sums[2], sums[3])));
}

SIMD_INLINE float sum_plain(const float *x, uint64_t count)
{
    SIMD_VECTOR sums[4] = {simd_zero(), simd_zero(), simd_zero(), simd_zero()};
    uint64_t i = 0;
    for (; i + 4 * SIMD_WIDTH <= count; i += 4 * SIMD_WIDTH) {
        for (uint32_t j = 0; j < 4; j++) {
            sums[j] = simd_add(sums[j], simd_load(x + i + j * SIMD_WIDTH));
        }
    }
    for (; i < count; i += SIMD_WIDTH) {
        uint32_t rest = count - i < SIMD_WIDTH ? (uint32_t)(count - i) : SIMD_WIDTH;
        sums[0] = simd_add(sums[0], simd_load_part(x + i, rest));
    }
    return simd_sum(simd_add(simd_add(sums[0], sums[1]), simd_add(sums[2], sums[3])));
}

/* Lanes in the vector that begins at i. */
SIMD_INLINE uint32_t lanes_at(uint64_t i, uint64_t count)
{
    return count - i < SIMD_WIDTH ? (uint32_t)(count - i) : SIMD_WIDTH;
}

static void norm_rms(const float *x, const float *weight, float weight_offset, float epsilon,
                     uint64_t count, float *out)
{
    double mean = (double)sum_squares(x, 0, count) / (double)count;
    SIMD_VECTOR scale = simd_set((float)(1.0 / sqrt(mean + (double)epsilon)));
    SIMD_VECTOR offset = simd_set(weight_offset);
    for (uint64_t i = 0; i < count; i += SIMD_WIDTH) {
        uint32_t lanes = lanes_at(i, count);
        SIMD_VECTOR factor = simd_add(offset, simd_load_part(weight + i, lanes));
        SIMD_VECTOR v = simd_multiply(simd_load_part(x + i, lanes), scale);
        simd_store_part(out + i, simd_multiply(v, factor), lanes);
    }
}

static void norm_layer(const float *x, const float *weight, const float *bias, float weight_offset,
                       float epsilon, uint64_t count, float *out)
{
    float mean = (float)((double)sum_plain(x, count) / (double)count);
    double variance = (double)sum_squares(x, mean, count) / (double)count;
    SIMD_VECTOR scale = simd_set((float)(1.0 / sqrt(variance + (double)epsilon)));
    SIMD_VECTOR offset = simd_set(weight_offset);
    SIMD_VECTOR away = simd_set(-mean);
    for (uint64_t i = 0; i < count; i += SIMD_WIDTH) {
        uint32_t lanes = lanes_at(i, count);
        SIMD_VECTOR factor = simd_add(offset, simd_load_part(weight + i, lanes));
        SIMD_VECTOR v = simd_multiply(simd_add(simd_load_part(x + i, lanes), away), scale);
        SIMD_VECTOR addend = bias ? simd_load_part(bias + i, lanes) : simd_zero();
        simd_store_part(out + i, simd_multiply_add(v, factor, addend), lanes);
    }
}

SIMD_INLINE SIMD_VECTOR gelu_tanh(SIMD_VECTOR x)
{
    /* x/2 · (1 + tanh(u)) = x / (1 + exp(−2u)) */
    SIMD_VECTOR cube = simd_multiply(simd_multiply(x, x), x);
    SIMD_VECTOR u = simd_multiply_add(cube, simd_set(0.044715f), x);
    return simd_sigmoid_times(x, simd_multiply(u, simd_set(1.59576912160573072f)));
}

SIMD_INLINE SIMD_VECTOR gelu_erf(SIMD_VECTOR x)
{
    SIMD_VECTOR e = simd_erf(simd_multiply(x, simd_set(0.70710678118654752f)));
    SIMD_VECTOR half = simd_multiply(x, simd_set(0.5f));
    return simd_multiply_add(half, e, half);
}

SIMD_INLINE void activate_as(enum plan_activation activation, float *gate, const float *up,
                             uint64_t count)
{
    for (uint64_t i = 0; i < count; i += SIMD_WIDTH) {
        uint32_t lanes = lanes_at(i, count);
        SIMD_VECTOR x = simd_load_part(gate + i, lanes);
        if (activation == PLAN_SILU) {
            x = simd_sigmoid_times(x, x);
        } else if (activation == PLAN_GELU_TANH) {
            x = gelu_tanh(x);
        } else {
            x = gelu_erf(x);
        }
        if (up) {
            x = simd_multiply(x, simd_load_part(up + i, lanes));
        }
        simd_store_part(gate + i, x, lanes);
    }
}

static void activate_clamped(float *gate, const float *up, uint64_t count)
{
    const SIMD_VECTOR limit = simd_set(7.0f);
    const SIMD_VECTOR lowest = simd_set(-7.0f);
    for (uint64_t i = 0; i < count; i += SIMD_WIDTH) {
        uint32_t lanes = lanes_at(i, count);
        SIMD_VECTOR g = simd_at_most(simd_load_part(gate + i, lanes), limit);
        SIMD_VECTOR u = simd_at_least(simd_at_most(simd_load_part(up + i, lanes), limit), lowest);
        g = simd_sigmoid_times(g, simd_multiply(g, simd_set(1.702f)));
        simd_store_part(gate + i, simd_multiply(g, simd_add(u, simd_set(1.0f))), lanes);
    }
}

static void activate(enum plan_activation activation, float *gate, const float *up, uint64_t count)
{
    switch (activation) {
    case PLAN_SILU:
        activate_as(PLAN_SILU, gate, up, count);
        break;
    case PLAN_GELU_TANH:
        activate_as(PLAN_GELU_TANH, gate, up, count);
        break;
    case PLAN_GELU_ERF:
        activate_as(PLAN_GELU_ERF, gate, up, count);
        break;
    case PLAN_SWIGLU_CLAMPED:
        activate_clamped(gate, up, count);
        break;
    }
}

static void soft_cap(float *x, float cap, uint64_t count)
{
    SIMD_VECTOR factor = simd_set(1.0f / cap);
    for (uint64_t i = 0; i < count; i += SIMD_WIDTH) {
        uint32_t lanes = lanes_at(i, count);
        SIMD_VECTOR v = simd_tanh(simd_multiply(simd_load_part(x + i, lanes), factor));
        simd_store_part(x + i, simd_multiply(v, simd_set(cap)), lanes);
    }
}

static void to_f16(const float *x, uint16_t *out, uint64_t count)
{
    uint64_t i = 0;
    for (; i + SIMD_WIDTH <= count; i += SIMD_WIDTH) {
        simd_store_f16(out + i, simd_load(x + i));
    }
    for (; i < count; i++) {
        out[i] = float_to_f16(x[i]);
    }
}

SIMD_INLINE void to_floats_as(enum dtype dtype, const void *from, float *out, uint64_t count)
{
    uint64_t i = 0;
    for (; i + SIMD_WIDTH <= count; i += SIMD_WIDTH) {
        simd_store(out + i, simd_load_plain(dtype, from, i));
    }
    if (i < count) {
        uint32_t lanes = lanes_at(i, count);
        simd_store_part(out + i, simd_load_plain_part(dtype, from, i, lanes), lanes);
    }
}

static void to_floats(enum dtype dtype, const void *from, float *out, uint64_t count)
{
    switch (dtype) {
    case DTYPE_F16:
        to_floats_as(DTYPE_F16, from, out, count);
        break;
    case DTYPE_BF16:
        to_floats_as(DTYPE_BF16, from, out, count);
        break;
    default:
        memcpy(out, from, count * sizeof *out);
    }
}

#endif
