/* Yardsticks for AVX2 with FMA. */
#include <immintrin.h>

#include "cpu/measure.h"

static uint64_t read_all(const void *data, uint64_t bytes)
{
    const __m256i *words = data;
    __m256i sums[8];
    for (int j = 0; j < 8; j++) {
        sums[j] = _mm256_setzero_si256();
    }
    for (uint64_t i = 0; i < bytes / 32; i += 8) {
        for (int j = 0; j < 8; j++) {
            sums[j] = _mm256_xor_si256(sums[j], _mm256_load_si256(words + i + (uint64_t)j));
        }
    }
    for (int j = 1; j < 8; j++) {
        sums[0] = _mm256_xor_si256(sums[0], sums[j]);
    }
    return (uint64_t)_mm256_extract_epi64(sums[0], 0) ^ (uint64_t)_mm256_extract_epi64(sums[0], 1) ^
           (uint64_t)_mm256_extract_epi64(sums[0], 2) ^ (uint64_t)_mm256_extract_epi64(sums[0], 3);
}

static void copy_all(void *to, const void *from, uint64_t bytes)
{
    const __m256i *source = from;
    __m256i *target = to;
    for (uint64_t i = 0; i < bytes / 32; i++) {
        _mm256_stream_si256(target + i, _mm256_load_si256(source + i));
    }
    _mm_sfence();
}

static uint64_t multiply_add(uint64_t rounds, float *sink)
{
    __m256 sums[12];
    __m256 factor = _mm256_set1_ps(*sink);
    for (int j = 0; j < 12; j++) {
        sums[j] = factor;
    }
    for (uint64_t i = 0; i < rounds; i++) {
        for (int j = 0; j < 12; j++) {
            sums[j] = _mm256_fmadd_ps(sums[j], factor, factor);
        }
    }
    for (int j = 1; j < 12; j++) {
        sums[0] = _mm256_add_ps(sums[0], sums[j]);
    }
    *sink = _mm256_cvtss_f32(sums[0]);
    return rounds * 12 * 16;
}

/* The AVX2 way of 8-bit products: pairs to 16 bits, pairs of those to 32, added. */
static uint64_t integer(uint64_t rounds, int32_t *sink)
{
    __m256i sums[12];
    __m256i factor = _mm256_set1_epi8((char)*sink);
    const __m256i ones = _mm256_set1_epi16(1);
    for (int j = 0; j < 12; j++) {
        sums[j] = factor;
    }
    for (uint64_t i = 0; i < rounds; i++) {
        for (int j = 0; j < 12; j++) {
            __m256i products = _mm256_maddubs_epi16(factor, sums[j]);
            sums[j] = _mm256_add_epi32(sums[j], _mm256_madd_epi16(products, ones));
        }
    }
    for (int j = 1; j < 12; j++) {
        sums[0] = _mm256_add_epi32(sums[0], sums[j]);
    }
    *sink = _mm256_extract_epi32(sums[0], 0);
    return rounds * 12 * 64;
}

const struct measure_kernels measure_avx2 = {read_all, copy_all, multiply_add, integer};
