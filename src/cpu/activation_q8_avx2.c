/* activation_prepare_q8 with AVX2: eight values a vector. Stateless: any thread. */
#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "cpu/activation_q8.h"

static uint32_t largest_of(const __m256i x[4])
{
    const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
    __m256i a =
        _mm256_max_epu32(_mm256_and_si256(x[0], magnitude), _mm256_and_si256(x[1], magnitude));
    __m256i b =
        _mm256_max_epu32(_mm256_and_si256(x[2], magnitude), _mm256_and_si256(x[3], magnitude));
    a = _mm256_max_epu32(a, b);
    __m128i c = _mm_max_epu32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    c = _mm_max_epu32(c, _mm_shuffle_epi32(c, 0x4e));
    c = _mm_max_epu32(c, _mm_shuffle_epi32(c, 0xb1));
    return (uint32_t)_mm_cvtsi128_si32(c);
}

static int32_t sum_of(__m256i a)
{
    __m128i b = _mm_add_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    b = _mm_add_epi32(b, _mm_shuffle_epi32(b, 0x4e));
    b = _mm_add_epi32(b, _mm_shuffle_epi32(b, 0xb1));
    return _mm_cvtsi128_si32(b);
}

void activation_prepare_q8_avx2(const float *row, uint64_t columns,
                                struct activation_q8_block *blocks)
{
    for (uint64_t b = 0; b < columns / 32; b++) {
        struct activation_q8_block *block = &blocks[b];
        __m256i x[4];
        for (int i = 0; i < 4; i++) {
            x[i] = _mm256_loadu_si256((const __m256i *)(const void *)(row + 32 * b + 8 * i));
        }
        uint32_t largest = largest_of(x);
        float magnitude;
        memcpy(&magnitude, &largest, sizeof magnitude);
        if (largest >= 0x7f800000u || magnitude < ACTIVATION_Q8_TINY) {
            memset(block, 0, sizeof *block);
            block->scale = largest >= 0x7f800000u ? NAN : 0.0f;
            continue;
        }
        __m256 inverse = _mm256_set1_ps(127.0f / magnitude);
        block->scale = magnitude / 127.0f;
        __m256i q[4];
        for (int i = 0; i < 4; i++) {
            q[i] = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_castsi256_ps(x[i]), inverse));
        }
        block->sum =
            sum_of(_mm256_add_epi32(_mm256_add_epi32(q[0], q[1]), _mm256_add_epi32(q[2], q[3])));
        /* The packs work in halves of 128 bits; the permutation puts the groups of four in order.
         */
        __m256i bytes =
            _mm256_packs_epi16(_mm256_packs_epi32(q[0], q[1]), _mm256_packs_epi32(q[2], q[3]));
        bytes = _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
        _mm256_storeu_si256((__m256i *)(void *)block->values, bytes);
    }
}
