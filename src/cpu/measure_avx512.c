/* Yardsticks for AVX-512. The integer one needs VNNI and lies in its own file. */
#include <immintrin.h>
#include <stddef.h>

#include "cpu/measure.h"

/* Two units times a latency of four, and some; more would not be unrolled into registers. */
#define SUMS 12

static uint64_t read_all(const void *data, uint64_t bytes)
{
    const __m512i *words = data;
    __m512i sums[8];
    for (int j = 0; j < 8; j++) {
        sums[j] = _mm512_setzero_si512();
    }
    for (uint64_t i = 0; i < bytes / 64; i += 8) {
        for (int j = 0; j < 8; j++) {
            sums[j] = _mm512_xor_si512(sums[j], _mm512_load_si512(words + i + (uint64_t)j));
        }
    }
    for (int j = 1; j < 8; j++) {
        sums[0] = _mm512_xor_si512(sums[0], sums[j]);
    }
    return (uint64_t)_mm512_reduce_add_epi64(sums[0]);
}

static void copy_all(void *to, const void *from, uint64_t bytes)
{
    const __m512i *source = from;
    __m512i *target = to;
    for (uint64_t i = 0; i < bytes / 64; i++) {
        _mm512_stream_si512(target + i, _mm512_load_si512(source + i));
    }
    _mm_sfence();
}

static uint64_t multiply_add(uint64_t rounds, float *sink)
{
    __m512 sums[SUMS];
    __m512 factor = _mm512_set1_ps(*sink);
    for (int j = 0; j < SUMS; j++) {
        sums[j] = factor;
    }
    for (uint64_t i = 0; i < rounds; i++) {
        for (int j = 0; j < SUMS; j++) {
            sums[j] = _mm512_fmadd_ps(sums[j], factor, factor);
        }
    }
    for (int j = 1; j < SUMS; j++) {
        sums[0] = _mm512_add_ps(sums[0], sums[j]);
    }
    *sink = _mm512_cvtss_f32(sums[0]);
    return rounds * SUMS * 32;
}

const struct measure_kernels measure_avx512 = {read_all, copy_all, multiply_add, NULL};
