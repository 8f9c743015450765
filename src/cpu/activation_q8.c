/* Owns the choice among the levels of activation_prepare_q8 and the portable one, which defines
 * the result. Stateless: any thread. */
#include "cpu/activation_q8.h"

#include <math.h>
#include <string.h>

void activation_prepare_q8_scalar(const float *row, uint64_t columns,
                                  struct activation_q8_block *blocks)
{
    for (uint64_t b = 0; b < columns / 32; b++) {
        const float *x = row + 32 * b;
        struct activation_q8_block *block = &blocks[b];
        /* Magnitudes compare as their bits do, with NaN above everything. */
        uint32_t largest = 0;
        for (int i = 0; i < 32; i++) {
            uint32_t bits;
            memcpy(&bits, &x[i], sizeof bits);
            bits &= 0x7fffffffu;
            largest = bits > largest ? bits : largest;
        }
        float magnitude;
        memcpy(&magnitude, &largest, sizeof magnitude);
        memset(block, 0, sizeof *block);
        if (largest >= 0x7f800000u) {
            block->scale = NAN;
        } else if (magnitude >= ACTIVATION_Q8_TINY) {
            float inverse = 127.0f / magnitude;
            block->scale = magnitude / 127.0f;
            for (int i = 0; i < 32; i++) {
                int value = (int)rintf(x[i] * inverse);
                block->values[i] = (int8_t)value;
                block->sum += value;
            }
        }
    }
}

void activation_prepare_q8(const float *row, uint64_t columns, struct activation_q8_block *blocks,
                           const struct cpu_features *features)
{
#if defined(__x86_64__)
    if (features->avx512) {
        activation_prepare_q8_avx512(row, columns, blocks);
        return;
    }
    if (features->avx2_fma_f16c) {
        activation_prepare_q8_avx2(row, columns, blocks);
        return;
    }
#else
    (void)features;
#endif
    activation_prepare_q8_scalar(row, columns, blocks);
}
