/* Yardsticks in portable C; the compiler makes of them what the baseline instruction set allows. */
#include <string.h>

#include "cpu/measure.h"

static uint64_t read_all(const void *data, uint64_t bytes)
{
    const uint64_t *words = data;
    uint64_t sums[8] = {0};
    for (uint64_t i = 0; i < bytes / 8; i += 8) {
        for (int j = 0; j < 8; j++) {
            sums[j] += words[i + (uint64_t)j];
        }
    }
    return sums[0] + sums[1] + sums[2] + sums[3] + sums[4] + sums[5] + sums[6] + sums[7];
}

static void copy_all(void *to, const void *from, uint64_t bytes)
{
    memcpy(to, from, bytes);
}

static uint64_t multiply_add(uint64_t rounds, float *sink)
{
    float sums[32];
    float factor = *sink;
    for (int j = 0; j < 32; j++) {
        sums[j] = factor;
    }
    for (uint64_t i = 0; i < rounds; i++) {
        for (int j = 0; j < 32; j++) {
            sums[j] = sums[j] * factor + factor;
        }
    }
    for (int j = 0; j < 32; j++) {
        *sink += sums[j];
    }
    return rounds * 64;
}

const struct measure_kernels measure_scalar = {read_all, copy_all, multiply_add, NULL};
