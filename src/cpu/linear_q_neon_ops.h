/* The vector operations of linear_q_body.h that both NEON sources share. */
#ifndef CPU_LINEAR_Q_NEON_OPS_H
#define CPU_LINEAR_Q_NEON_OPS_H

#include <arm_neon.h>
#include <stdint.h>
#include <string.h>

typedef int32x4_t vint;
typedef float32x4_t vfloat;

static inline vint load(const void *bytes)
{
    return vreinterpretq_s32_u8(vld1q_u8(bytes));
}

static inline vint broadcast_i32(int32_t value)
{
    return vdupq_n_s32(value);
}

static inline vint and_bits(vint a, uint32_t mask)
{
    return vandq_s32(a, vdupq_n_s32((int32_t)mask));
}

static inline vint or_bits(vint a, vint b)
{
    return vorrq_s32(a, b);
}

static inline vint shift_right(vint a, int bits)
{
    return vreinterpretq_s32_u32(vshlq_u32(vreinterpretq_u32_s32(a), vdupq_n_s32(-bits)));
}

static inline vint shift_left(vint a, int bits)
{
    return vshlq_s32(a, vdupq_n_s32(bits));
}

static inline vint shift_right_signed(vint a, int bits)
{
    return vshlq_s32(a, vdupq_n_s32(-bits));
}

static inline vint add_i32(vint a, vint b)
{
    return vaddq_s32(a, b);
}

static inline vint widen(vint part)
{
    return part;
}

static inline vfloat to_float(vint a)
{
    return vcvtq_f32_s32(a);
}

static inline vfloat multiply_f32(vfloat a, vfloat b)
{
    return vmulq_f32(a, b);
}

static inline vfloat fma_f32(vfloat a, vfloat b, vfloat c)
{
    return vfmaq_f32(c, a, b);
}

static inline vfloat load_f32(const float *values)
{
    return vld1q_f32(values);
}

static inline void store_f32(float *values, vfloat a)
{
    vst1q_f32(values, a);
}

static inline vfloat broadcast_f32(float value)
{
    return vdupq_n_f32(value);
}

static inline vfloat negate_f32(vfloat a)
{
    return vnegq_f32(a);
}

static inline vfloat load_f16(const void *bytes)
{
    return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(bytes)));
}

static inline vfloat load_bf16(const void *bytes)
{
    return vreinterpretq_f32_u32(vshll_n_u16(vreinterpret_u16_u8(vld1_u8(bytes)), 16));
}

static inline vint lookup(const uint8_t table[16], vint indices)
{
    return vreinterpretq_s32_u8(vqtbl1q_u8(vld1q_u8(table), vreinterpretq_u8_s32(indices)));
}

/* The first `count` lanes; the others are zero. Nothing beyond them is touched. */
static inline vfloat load_some(const float *values, unsigned count)
{
    float lanes[4] = {0};
    memcpy(lanes, values, count * sizeof *values);
    return vld1q_f32(lanes);
}

static inline void store_some(float *values, vfloat a, unsigned count)
{
    float lanes[4];
    vst1q_f32(lanes, a);
    memcpy(values, lanes, count * sizeof *values);
}

/* Σ of sixteen signed bytes. */
static inline int32_t sum_half(const int8_t values[16])
{
    return vaddlvq_s8(vld1q_s8(values));
}

/* Always inlined: GCC takes a function that only prefetches for one without effect and drops its
 * calls.
 */
static inline __attribute__((always_inline)) void prefetch_near(const void *address)
{
    __builtin_prefetch(address, 0, 3);
}

static inline __attribute__((always_inline)) void prefetch_far(const void *address)
{
    __builtin_prefetch(address, 0, 2);
}

#endif
