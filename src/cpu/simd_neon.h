/* The vocabulary of vector code, for NEON of 64-bit ARM: four floats at a time. See simd_avx512.h
 * for what the words mean. */
#ifndef CPU_SIMD_NEON_H
#define CPU_SIMD_NEON_H

#include <arm_neon.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "tensor/dtype.h"

#define SIMD_WIDTH  4u
#define SIMD_VECTOR float32x4_t
#define SIMD_INLINE static inline __attribute__((always_inline))

SIMD_INLINE SIMD_VECTOR simd_zero(void)
{
    return vdupq_n_f32(0);
}

SIMD_INLINE SIMD_VECTOR simd_set(float value)
{
    return vdupq_n_f32(value);
}

SIMD_INLINE SIMD_VECTOR simd_load(const float *from)
{
    return vld1q_f32(from);
}

SIMD_INLINE void simd_store(float *to, SIMD_VECTOR v)
{
    vst1q_f32(to, v);
}

SIMD_INLINE SIMD_VECTOR simd_load_part(const float *from, uint32_t count)
{
    float lanes[4] = {0};
    memcpy(lanes, from, count * sizeof *from);
    return vld1q_f32(lanes);
}

SIMD_INLINE void simd_store_part(float *to, SIMD_VECTOR v, uint32_t count)
{
    float lanes[4];
    vst1q_f32(lanes, v);
    memcpy(to, lanes, count * sizeof *to);
}

SIMD_INLINE SIMD_VECTOR simd_load_half(enum dtype dtype, uint16x4_t bits)
{
    return dtype == DTYPE_F16 ? vcvt_f32_f16(vreinterpret_f16_u16(bits))
                              : vreinterpretq_f32_u32(vshll_n_u16(bits, 16));
}

SIMD_INLINE SIMD_VECTOR simd_load_plain(enum dtype dtype, const void *from, uint64_t index)
{
    if (dtype == DTYPE_F32) {
        return vld1q_f32((const float *)from + index);
    }
    return simd_load_half(dtype, vld1_u16((const uint16_t *)from + index));
}

SIMD_INLINE SIMD_VECTOR simd_load_plain_part(enum dtype dtype, const void *from, uint64_t index,
                                             uint32_t count)
{
    uint16_t lanes[4] = {0};
    if (dtype == DTYPE_F32) {
        return simd_load_part((const float *)from + index, count);
    }
    memcpy(lanes, (const uint16_t *)from + index, count * sizeof *lanes);
    return simd_load_half(dtype, vld1_u16(lanes));
}

SIMD_INLINE SIMD_VECTOR simd_load_codes(const unsigned char *from, uint32_t which, bool is_signed,
                                        uint32_t count)
{
    uint32_t lanes[4] = {0};
    memcpy(lanes, from, count * sizeof *lanes);
    uint32x4_t fours = vshlq_u32(vld1q_u32(lanes), vdupq_n_s32(-8 * (int32_t)which));
    fours = vandq_u32(fours, vdupq_n_u32(0xff));
    fours = veorq_u32(fours, vdupq_n_u32(is_signed ? 0x80 : 0));
    return vsubq_f32(vcvtq_f32_u32(fours), vdupq_n_f32(128));
}

SIMD_INLINE void simd_store_f16(uint16_t *to, SIMD_VECTOR v)
{
    vst1_u16(to, vreinterpret_u16_f16(vcvt_f16_f32(v)));
}

SIMD_INLINE SIMD_VECTOR simd_add(SIMD_VECTOR a, SIMD_VECTOR b)
{
    return vaddq_f32(a, b);
}

SIMD_INLINE SIMD_VECTOR simd_subtract(SIMD_VECTOR a, SIMD_VECTOR b)
{
    return vsubq_f32(a, b);
}

SIMD_INLINE SIMD_VECTOR simd_multiply(SIMD_VECTOR a, SIMD_VECTOR b)
{
    return vmulq_f32(a, b);
}

SIMD_INLINE SIMD_VECTOR simd_divide(SIMD_VECTOR a, SIMD_VECTOR b)
{
    return vdivq_f32(a, b);
}

SIMD_INLINE SIMD_VECTOR simd_multiply_add(SIMD_VECTOR a, SIMD_VECTOR b, SIMD_VECTOR c)
{
    return vfmaq_f32(c, a, b);
}

SIMD_INLINE SIMD_VECTOR simd_at_most(SIMD_VECTOR v, SIMD_VECTOR limit)
{
    return vminq_f32(v, limit);
}

SIMD_INLINE SIMD_VECTOR simd_at_least(SIMD_VECTOR v, SIMD_VECTOR limit)
{
    return vmaxq_f32(v, limit);
}

SIMD_INLINE SIMD_VECTOR simd_times_power_of_two(SIMD_VECTOR v, SIMD_VECTOR exponent)
{
    int32x4_t biased = vaddq_s32(vcvtq_s32_f32(exponent), vdupq_n_s32(127));
    return vmulq_f32(v, vreinterpretq_f32_s32(vshlq_n_s32(biased, 23)));
}

SIMD_INLINE SIMD_VECTOR simd_copy_sign(SIMD_VECTOR v, SIMD_VECTOR sign)
{
    return vbslq_f32(vdupq_n_u32(0x80000000u), sign, v);
}

SIMD_INLINE SIMD_VECTOR simd_keep(SIMD_VECTOR v, SIMD_VECTOR other, uint32_t begin, uint32_t end)
{
    static const uint32_t numbers[4] = {0, 1, 2, 3};
    uint32x4_t lanes = vld1q_u32(numbers);
    uint32x4_t inside =
        vandq_u32(vcgeq_u32(lanes, vdupq_n_u32(begin)), vcltq_u32(lanes, vdupq_n_u32(end)));
    return vbslq_f32(inside, v, other);
}

SIMD_INLINE float simd_sum(SIMD_VECTOR v)
{
    return vaddvq_f32(v);
}

SIMD_INLINE float simd_largest(SIMD_VECTOR v)
{
    return vmaxvq_f32(v);
}

SIMD_INLINE void simd_prefetch(const void *address)
{
    __builtin_prefetch(address, 0, 3);
}

SIMD_INLINE void simd_prefetch_far(const void *address)
{
    __builtin_prefetch(address, 0, 2);
}

#endif
