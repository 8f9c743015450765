/* The vector operations of linear_q_body.h that both AVX-512 sources share. */
#ifndef CPU_LINEAR_Q_AVX512_OPS_H
#define CPU_LINEAR_Q_AVX512_OPS_H

#include <immintrin.h>
#include <stdint.h>

typedef __m512i vint;
typedef __m512 vfloat;

static inline vint load(const void *bytes)
{
    return _mm512_loadu_si512(bytes);
}

static inline vint broadcast_i32(int32_t value)
{
    return _mm512_set1_epi32(value);
}

static inline vint and_bits(vint a, uint32_t mask)
{
    return _mm512_and_si512(a, _mm512_set1_epi32((int32_t)mask));
}

static inline vint or_bits(vint a, vint b)
{
    return _mm512_or_si512(a, b);
}

static inline vint shift_right(vint a, int bits)
{
    return _mm512_srli_epi32(a, (unsigned)bits);
}

static inline vint shift_left(vint a, int bits)
{
    return _mm512_slli_epi32(a, (unsigned)bits);
}

static inline vint shift_right_signed(vint a, int bits)
{
    return _mm512_srai_epi32(a, (unsigned)bits);
}

static inline vint add_i32(vint a, vint b)
{
    return _mm512_add_epi32(a, b);
}

static inline vfloat to_float(vint a)
{
    return _mm512_cvtepi32_ps(a);
}

static inline vfloat multiply_f32(vfloat a, vfloat b)
{
    return _mm512_mul_ps(a, b);
}

static inline vfloat fma_f32(vfloat a, vfloat b, vfloat c)
{
    return _mm512_fmadd_ps(a, b, c);
}

static inline vfloat load_f32(const float *values)
{
    return _mm512_loadu_ps(values);
}

static inline void store_f32(float *values, vfloat a)
{
    _mm512_storeu_ps(values, a);
}

static inline vfloat broadcast_f32(float value)
{
    return _mm512_set1_ps(value);
}

static inline vfloat negate_f32(vfloat a)
{
    return _mm512_xor_ps(a, _mm512_set1_ps(-0.0f));
}

static inline vfloat load_f16(const void *bytes)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)bytes));
}

static inline vfloat load_bf16(const void *bytes)
{
    __m256i halves = _mm256_loadu_si256((const __m256i *)bytes);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
}

static inline vint lookup(const uint8_t table[16], vint indices)
{
    __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)table);
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(bytes), indices);
}

/* The first `count` lanes; the others are zero. Nothing beyond them is touched. */
static inline vfloat load_some(const float *values, unsigned count)
{
    return _mm512_maskz_loadu_ps((__mmask16)((1u << count) - 1), values);
}

static inline void store_some(float *values, vfloat a, unsigned count)
{
    _mm512_mask_storeu_ps(values, (__mmask16)((1u << count) - 1), a);
}

/* Σ of sixteen signed bytes: the unsigned sums of bytes that are each 128 too large. */
static inline int32_t sum_half(const int8_t values[16])
{
    __m128i bytes = _mm_xor_si128(_mm_loadu_si128((const __m128i *)(const void *)values),
                                  _mm_set1_epi8((char)0x80));
    __m128i eights = _mm_sad_epu8(bytes, _mm_setzero_si128());
    return _mm_cvtsi128_si32(_mm_add_epi32(eights, _mm_srli_si128(eights, 8))) - 16 * 128;
}

/* Always inlined: GCC takes a function that only prefetches for one without effect and drops its
 * calls.
 */
static inline __attribute__((always_inline)) void prefetch_near(const void *address)
{
    _mm_prefetch((const char *)address, _MM_HINT_T0);
}

static inline __attribute__((always_inline)) void prefetch_far(const void *address)
{
    _mm_prefetch((const char *)address, _MM_HINT_T1);
}

#endif
