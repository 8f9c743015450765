/* The vocabulary of vector code, for AVX2 with FMA and F16C: eight floats at a time. See
 * simd_avx512.h for what the words mean. */
#ifndef CPU_SIMD_AVX2_H
#define CPU_SIMD_AVX2_H

#include <immintrin.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "tensor/dtype.h"

#define SIMD_WIDTH  8u
#define SIMD_VECTOR __m256
#define SIMD_INLINE static inline __attribute__((always_inline))

SIMD_INLINE SIMD_VECTOR simd_zero(void)
{
    return _mm256_setzero_ps();
}

SIMD_INLINE SIMD_VECTOR simd_set(float value)
{
    return _mm256_set1_ps(value);
}

SIMD_INLINE SIMD_VECTOR simd_load(const float *from)
{
    return _mm256_loadu_ps(from);
}

SIMD_INLINE void simd_store(float *to, SIMD_VECTOR v)
{
    _mm256_storeu_ps(to, v);
}

SIMD_INLINE __m256i simd_lanes(void)
{
    return _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
}

/* All ones in the first `count` lanes. */
SIMD_INLINE __m256i simd_first(uint32_t count)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)count), simd_lanes());
}

SIMD_INLINE SIMD_VECTOR simd_load_part(const float *from, uint32_t count)
{
    return _mm256_maskload_ps(from, simd_first(count));
}

SIMD_INLINE void simd_store_part(float *to, SIMD_VECTOR v, uint32_t count)
{
    _mm256_maskstore_ps(to, simd_first(count), v);
}

SIMD_INLINE SIMD_VECTOR simd_load_half(enum dtype dtype, __m128i bits)
{
    return dtype == DTYPE_F16
               ? _mm256_cvtph_ps(bits)
               : _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
}

SIMD_INLINE SIMD_VECTOR simd_load_plain(enum dtype dtype, const void *from, uint64_t index)
{
    if (dtype == DTYPE_F32) {
        return _mm256_loadu_ps((const float *)from + index);
    }
    return simd_load_half(
        dtype, _mm_loadu_si128((const __m128i *)(const void *)((const uint16_t *)from + index)));
}

SIMD_INLINE SIMD_VECTOR simd_load_plain_part(enum dtype dtype, const void *from, uint64_t index,
                                             uint32_t count)
{
    if (dtype == DTYPE_F32) {
        return simd_load_part((const float *)from + index, count);
    }
    uint16_t values[8] = {0};
    memcpy(values, (const uint16_t *)from + index, count * sizeof *values);
    return simd_load_half(dtype, _mm_loadu_si128((const __m128i *)(const void *)values));
}

SIMD_INLINE SIMD_VECTOR simd_load_codes(const unsigned char *from, uint32_t which, bool is_signed,
                                        uint32_t count)
{
    const __m256i lanes = _mm256_broadcastsi128_si256(
        _mm_setr_epi32((int)0x80808000u, (int)0x80808004u, (int)0x80808008u, (int)0x8080800cu));
    __m256i fours = count == SIMD_WIDTH
                        ? _mm256_loadu_si256((const __m256i *)(const void *)from)
                        : _mm256_maskload_epi32((const int *)(const void *)from, simd_first(count));
    fours = _mm256_shuffle_epi8(fours, _mm256_add_epi32(lanes, _mm256_set1_epi32((int)which)));
    fours = _mm256_xor_si256(fours, _mm256_set1_epi32(is_signed ? 0x4B000080 : 0x4B000000));
    return _mm256_sub_ps(_mm256_castsi256_ps(fours), _mm256_set1_ps(0x1p23f + 128));
}

SIMD_INLINE void simd_store_f16(uint16_t *to, SIMD_VECTOR v)
{
    _mm_storeu_si128((__m128i *)(void *)to, _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}

SIMD_INLINE SIMD_VECTOR simd_add(SIMD_VECTOR a, SIMD_VECTOR b)
{
    return _mm256_add_ps(a, b);
}

SIMD_INLINE SIMD_VECTOR simd_subtract(SIMD_VECTOR a, SIMD_VECTOR b)
{
    return _mm256_sub_ps(a, b);
}

SIMD_INLINE SIMD_VECTOR simd_multiply(SIMD_VECTOR a, SIMD_VECTOR b)
{
    return _mm256_mul_ps(a, b);
}

SIMD_INLINE SIMD_VECTOR simd_divide(SIMD_VECTOR a, SIMD_VECTOR b)
{
    return _mm256_div_ps(a, b);
}

SIMD_INLINE SIMD_VECTOR simd_multiply_add(SIMD_VECTOR a, SIMD_VECTOR b, SIMD_VECTOR c)
{
    return _mm256_fmadd_ps(a, b, c);
}

SIMD_INLINE SIMD_VECTOR simd_at_most(SIMD_VECTOR v, SIMD_VECTOR limit)
{
    return _mm256_min_ps(limit, v);
}

SIMD_INLINE SIMD_VECTOR simd_at_least(SIMD_VECTOR v, SIMD_VECTOR limit)
{
    return _mm256_max_ps(limit, v);
}

SIMD_INLINE SIMD_VECTOR simd_times_power_of_two(SIMD_VECTOR v, SIMD_VECTOR exponent)
{
    __m256i biased = _mm256_add_epi32(_mm256_cvtps_epi32(exponent), _mm256_set1_epi32(127));
    return _mm256_mul_ps(v, _mm256_castsi256_ps(_mm256_slli_epi32(biased, 23)));
}

SIMD_INLINE SIMD_VECTOR simd_copy_sign(SIMD_VECTOR v, SIMD_VECTOR sign)
{
    const __m256 bit = _mm256_set1_ps(-0.0f);
    return _mm256_or_ps(_mm256_and_ps(bit, sign), _mm256_andnot_ps(bit, v));
}

SIMD_INLINE SIMD_VECTOR simd_keep(SIMD_VECTOR v, SIMD_VECTOR other, uint32_t begin, uint32_t end)
{
    __m256i kept = _mm256_andnot_si256(simd_first(begin), simd_first(end));
    return _mm256_blendv_ps(other, v, _mm256_castsi256_ps(kept));
}

SIMD_INLINE float simd_sum(SIMD_VECTOR v)
{
    __m128 half = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    half = _mm_add_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
}

SIMD_INLINE float simd_largest(SIMD_VECTOR v)
{
    __m128 half = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    half = _mm_max_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_max_ss(half, _mm_movehdup_ps(half)));
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
