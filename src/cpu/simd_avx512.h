/* The vocabulary of vector code, for AVX-512: sixteen floats at a time. The files *_simd.h are
 * written in these words and compiled once an instruction set; simd_avx2.h has the same words.
 * SIMD_VECTOR is the register type. */
#ifndef CPU_SIMD_AVX512_H
#define CPU_SIMD_AVX512_H

#include <immintrin.h>
#include <stdbool.h>
#include <stdint.h>

#include "tensor/dtype.h"

#define SIMD_WIDTH  16u
#define SIMD_VECTOR __m512

/* Constant arguments select among loops at compile time, so that inlining is not a matter of taste.
 */
#define SIMD_INLINE static inline __attribute__((always_inline))

SIMD_INLINE SIMD_VECTOR simd_zero(void)
{
    return _mm512_setzero_ps();
}

SIMD_INLINE SIMD_VECTOR simd_set(float value)
{
    return _mm512_set1_ps(value);
}

/* No alignment is needed anywhere. */
SIMD_INLINE SIMD_VECTOR simd_load(const float *from)
{
    return _mm512_loadu_ps(from);
}

SIMD_INLINE void simd_store(float *to, SIMD_VECTOR v)
{
    _mm512_storeu_ps(to, v);
}

/* The first `count` lanes; the others are zero, and nothing beyond is touched. */
SIMD_INLINE SIMD_VECTOR simd_load_part(const float *from, uint32_t count)
{
    return _mm512_maskz_loadu_ps((__mmask16)((1u << count) - 1), from);
}

SIMD_INLINE void simd_store_part(float *to, SIMD_VECTOR v, uint32_t count)
{
    _mm512_mask_storeu_ps(to, (__mmask16)((1u << count) - 1), v);
}

SIMD_INLINE SIMD_VECTOR simd_load_half(enum dtype dtype, __m256i bits)
{
    return dtype == DTYPE_F16
               ? _mm512_cvtph_ps(bits)
               : _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}

/* Values of a plain type as floats; `index` counts elements. */
SIMD_INLINE SIMD_VECTOR simd_load_plain(enum dtype dtype, const void *from, uint64_t index)
{
    if (dtype == DTYPE_F32) {
        return _mm512_loadu_ps((const float *)from + index);
    }
    return simd_load_half(
        dtype, _mm256_loadu_si256((const __m256i *)(const void *)((const uint16_t *)from + index)));
}

SIMD_INLINE SIMD_VECTOR simd_load_plain_part(enum dtype dtype, const void *from, uint64_t index,
                                             uint32_t count)
{
    __mmask16 mask = (__mmask16)((1u << count) - 1);
    if (dtype == DTYPE_F32) {
        return _mm512_maskz_loadu_ps(mask, (const float *)from + index);
    }
    return simd_load_half(dtype, _mm256_maskz_loadu_epi16(mask, (const uint16_t *)from + index));
}

/* Byte `which` of each of the first `count` fours at `from` as a float: signed, or unsigned with
 * 128 taken off. Added to the bits of 2²³, a byte is added to its value. */
SIMD_INLINE SIMD_VECTOR simd_load_codes(const unsigned char *from, uint32_t which, bool is_signed,
                                        uint32_t count)
{
    const __m512i lanes = _mm512_broadcast_i32x4(
        _mm_setr_epi32((int)0x80808000u, (int)0x80808004u, (int)0x80808008u, (int)0x8080800cu));
    __m512i fours = count == SIMD_WIDTH
                        ? _mm512_loadu_si512(from)
                        : _mm512_maskz_loadu_epi32((__mmask16)((1u << count) - 1), from);
    fours = _mm512_shuffle_epi8(fours, _mm512_add_epi32(lanes, _mm512_set1_epi32((int)which)));
    fours = _mm512_xor_si512(fours, _mm512_set1_epi32(is_signed ? 0x4B000080 : 0x4B000000));
    return _mm512_sub_ps(_mm512_castsi512_ps(fours), _mm512_set1_ps(0x1p23f + 128));
}

SIMD_INLINE void simd_store_f16(uint16_t *to, SIMD_VECTOR v)
{
    _mm256_storeu_si256((__m256i *)(void *)to,
                        _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

SIMD_INLINE SIMD_VECTOR simd_add(SIMD_VECTOR a, SIMD_VECTOR b)
{
    return _mm512_add_ps(a, b);
}

SIMD_INLINE SIMD_VECTOR simd_subtract(SIMD_VECTOR a, SIMD_VECTOR b)
{
    return _mm512_sub_ps(a, b);
}

SIMD_INLINE SIMD_VECTOR simd_multiply(SIMD_VECTOR a, SIMD_VECTOR b)
{
    return _mm512_mul_ps(a, b);
}

SIMD_INLINE SIMD_VECTOR simd_divide(SIMD_VECTOR a, SIMD_VECTOR b)
{
    return _mm512_div_ps(a, b);
}

/* a · b + c, rounded once. */
SIMD_INLINE SIMD_VECTOR simd_multiply_add(SIMD_VECTOR a, SIMD_VECTOR b, SIMD_VECTOR c)
{
    return _mm512_fmadd_ps(a, b, c);
}

/* A NaN in `v` stays; one in `limit` does not. */
SIMD_INLINE SIMD_VECTOR simd_at_most(SIMD_VECTOR v, SIMD_VECTOR limit)
{
    return _mm512_min_ps(limit, v);
}

SIMD_INLINE SIMD_VECTOR simd_at_least(SIMD_VECTOR v, SIMD_VECTOR limit)
{
    return _mm512_max_ps(limit, v);
}

/* v · 2 to the power of whole numbers from −126 to 127. */
SIMD_INLINE SIMD_VECTOR simd_times_power_of_two(SIMD_VECTOR v, SIMD_VECTOR exponent)
{
    return _mm512_scalef_ps(v, exponent);
}

/* Magnitude of `v` with the sign of `sign`. */
SIMD_INLINE SIMD_VECTOR simd_copy_sign(SIMD_VECTOR v, SIMD_VECTOR sign)
{
    const __m512i bit = _mm512_set1_epi32((int)0x80000000u);
    return _mm512_castsi512_ps(
        _mm512_ternarylogic_epi32(bit, _mm512_castps_si512(sign), _mm512_castps_si512(v), 0xCA));
}

/* Lanes [begin, end) of `v`, the others of `other`. */
SIMD_INLINE SIMD_VECTOR simd_keep(SIMD_VECTOR v, SIMD_VECTOR other, uint32_t begin, uint32_t end)
{
    return _mm512_mask_blend_ps((__mmask16)(((1u << end) - 1) & ~((1u << begin) - 1)), other, v);
}

SIMD_INLINE float simd_sum(SIMD_VECTOR v)
{
    return _mm512_reduce_add_ps(v);
}

SIMD_INLINE float simd_largest(SIMD_VECTOR v)
{
    return _mm512_reduce_max_ps(v);
}

/* Brings a cache line nearer; any address will do. */
SIMD_INLINE void simd_prefetch(const void *address)
{
    _mm_prefetch(address, _MM_HINT_T0);
}

/* The same, but only into the second-level cache. */
SIMD_INLINE void simd_prefetch_far(const void *address)
{
    _mm_prefetch(address, _MM_HINT_T1);
}

#endif
