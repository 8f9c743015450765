/* The yardstick of 8-bit products with AVX-512 VNNI. */
#include <immintrin.h>

#include "cpu/measure.h"

/* As in measure_avx512.c. */
#define SUMS 12

uint64_t measure_integer_avx512vnni(uint64_t rounds, int32_t *sink)
{
    __m512i sums[SUMS];
    __m512i factor = _mm512_set1_epi8((char)*sink);
    for (int j = 0; j < SUMS; j++) {
        sums[j] = factor;
    }
    for (uint64_t i = 0; i < rounds; i++) {
        for (int j = 0; j < SUMS; j++) {
            sums[j] = _mm512_dpbusd_epi32(sums[j], factor, factor);
        }
    }
    for (int j = 1; j < SUMS; j++) {
        sums[0] = _mm512_add_epi32(sums[0], sums[j]);
    }
    *sink = _mm_cvtsi128_si32(_mm512_castsi512_si128(sums[0]));
    return rounds * SUMS * 128;
}
