/* activation_prepare_q8 with AVX-512: sixteen values a vector. Stateless: any thread. */
#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "cpu/activation_q8.h"

void activation_prepare_q8_avx512(const float *row, uint64_t columns,
                                  struct activation_q8_block *blocks)
{
    const __m512i magnitude_mask = _mm512_set1_epi32(0x7fffffff);
    for (uint64_t b = 0; b < columns / 32; b++) {
        struct activation_q8_block *block = &blocks[b];
        __m512 low = _mm512_loadu_ps(row + 32 * b);
        __m512 high = _mm512_loadu_ps(row + 32 * b + 16);
        uint32_t largest = _mm512_reduce_max_epu32(
            _mm512_max_epu32(_mm512_and_si512(_mm512_castps_si512(low), magnitude_mask),
                             _mm512_and_si512(_mm512_castps_si512(high), magnitude_mask)));
        float magnitude;
        memcpy(&magnitude, &largest, sizeof magnitude);
        if (largest >= 0x7f800000u || magnitude < ACTIVATION_Q8_TINY) {
            memset(block, 0, sizeof *block);
            block->scale = largest >= 0x7f800000u ? NAN : 0.0f;
            continue;
        }
        __m512 inverse = _mm512_set1_ps(127.0f / magnitude);
        block->scale = magnitude / 127.0f;
        __m512i q_low = _mm512_cvtps_epi32(_mm512_mul_ps(low, inverse));
        __m512i q_high = _mm512_cvtps_epi32(_mm512_mul_ps(high, inverse));
        block->sum = _mm512_reduce_add_epi32(_mm512_add_epi32(q_low, q_high));
        _mm_storeu_si128((__m128i *)(void *)block->values, _mm512_cvtepi32_epi8(q_low));
        _mm_storeu_si128((__m128i *)(void *)(block->values + 16), _mm512_cvtepi32_epi8(q_high));
    }
}
