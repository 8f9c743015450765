/* Owns nothing. The loops are written so that a compiler turns them into vector code without
 * changing any result: sixteen lanes that never meet, integer tests for non-finite values, sums in
 * a fixed order. */
#include "engine/sampler_select.h"

#define LANES 16u

float select_exp(float y)
{
    /* Cody–Waite: y = n·ln 2 + f with |f| ≤ ln 2 / 2, then a polynomial for exp(f). */
    float clamped = y < -87.0f ? -87.0f : y;
    float n = clamped * 1.44269504f + 12582912.0f; /* rounds to an integer in the low bits */
    int32_t bits;
    memcpy(&bits, &n, sizeof bits);
    n -= 12582912.0f;
    float f = clamped - n * 0.693359375f;
    f -= n * -2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * f + 1.3981999507e-3f;
    p = p * f + 8.3334519073e-3f;
    p = p * f + 4.1665795894e-2f;
    p = p * f + 1.6666665459e-1f;
    p = p * f + 5.0000001201e-1f;
    p = p * f * f + f + 1.0f;
    int32_t scale_bits = (bits - 0x4B400000 + 127) * (1 << 23);
    float scale;
    memcpy(&scale, &scale_bits, sizeof scale);
    return y < -87.0f ? 0.0f : p * scale;
}

float select_scan(const float *logits, uint32_t count, float *block_max, bool *finite)
{
    float maximum = -INFINITY;
    uint32_t wrong[LANES] = {0};
    for (uint32_t begin = 0; begin < count; begin += SAMPLER_BLOCK) {
        uint32_t length = count - begin < SAMPLER_BLOCK ? count - begin : SAMPLER_BLOCK;
        float lane[LANES];
        for (uint32_t j = 0; j < LANES; j++) {
            lane[j] = -INFINITY;
        }
        const float *block = logits + begin;
        uint32_t i = 0;
        for (; i + LANES <= length; i += LANES) {
            uint32_t bits[LANES];
            memcpy(bits, block + i, sizeof bits);
            for (uint32_t j = 0; j < LANES; j++) {
                lane[j] = block[i + j] > lane[j] ? block[i + j] : lane[j];
                wrong[j] |= (bits[j] & 0x7F800000u) == 0x7F800000u;
            }
        }
        for (; i < length; i++) {
            uint32_t bits;
            memcpy(&bits, block + i, sizeof bits);
            lane[0] = block[i] > lane[0] ? block[i] : lane[0];
            wrong[0] |= (bits & 0x7F800000u) == 0x7F800000u;
        }
        for (uint32_t j = 1; j < LANES; j++) {
            lane[0] = lane[j] > lane[0] ? lane[j] : lane[0];
        }
        block_max[begin / SAMPLER_BLOCK] = lane[0];
        maximum = lane[0] > maximum ? lane[0] : maximum;
    }
    if (finite) {
        uint32_t any = 0;
        for (uint32_t j = 0; j < LANES; j++) {
            any |= wrong[j];
        }
        *finite = any == 0;
    }
    return maximum;
}

uint32_t select_first(const float *logits, uint32_t count, const float *block_max, float maximum)
{
    uint32_t block = 0;
    while (block_max[block] != maximum) {
        block++;
    }
    uint32_t i = block * SAMPLER_BLOCK;
    while (i + 1 < count && logits[i] != maximum) {
        i++;
    }
    return i;
}

/* The k-th largest of values[0 … count), k ≥ 1: Hoare's selection, which permutes them. */
static float kth_largest(float *values, uint32_t count, uint32_t k)
{
    uint32_t low = 0;
    uint32_t high = count - 1;
    uint32_t target = k - 1;
    while (low < high) {
        float pivot = values[low + (high - low) / 2];
        uint32_t i = low;
        uint32_t j = high;
        while (i <= j) {
            while (values[i] > pivot) {
                i++;
            }
            while (values[j] < pivot) {
                j--;
            }
            if (i <= j) {
                float swap = values[i];
                values[i++] = values[j];
                values[j] = swap;
                if (j == 0) {
                    break;
                }
                j--;
            }
        }
        if (target <= j) {
            high = j;
        } else if (target >= i) {
            low = i;
        } else {
            break;
        }
    }
    return values[target];
}

float select_threshold(const float *block_max, uint32_t block_count, uint32_t k, float *scratch)
{
    if (k > block_count) {
        return -INFINITY;
    }
    memcpy(scratch, block_max, block_count * sizeof *scratch);
    return kth_largest(scratch, block_count, k);
}

uint32_t select_collect(const float *logits, uint32_t count, const float *block_max,
                        float threshold, uint64_t *items)
{
    uint32_t found = 0;
    for (uint32_t begin = 0; begin < count; begin += SAMPLER_BLOCK) {
        float largest = block_max[begin / SAMPLER_BLOCK];
        if (largest < threshold || largest == -INFINITY) {
            continue;
        }
        uint32_t end = count - begin < SAMPLER_BLOCK ? count : begin + SAMPLER_BLOCK;
        for (uint32_t i = begin; i < end; i++) {
            if (logits[i] >= threshold && logits[i] > -INFINITY) {
                items[found++] = select_item(logits[i], i);
            }
        }
    }
    return found;
}

static void insertion_sort(uint64_t *items, uint32_t count)
{
    for (uint32_t i = 1; i < count; i++) {
        uint64_t item = items[i];
        uint32_t j = i;
        while (j > 0 && items[j - 1] >> 32 > item >> 32) {
            items[j] = items[j - 1];
            j--;
        }
        items[j] = item;
    }
}

/* Least significant digit first, four digits of eight bits; equal keys keep their order. */
void select_sort(uint64_t *items, uint32_t count, uint64_t *scratch)
{
    if (count <= 48) {
        insertion_sort(items, count);
        return;
    }
    uint32_t histogram[4][256] = {{0}};
    for (uint32_t i = 0; i < count; i++) {
        for (uint32_t digit = 0; digit < 4; digit++) {
            histogram[digit][(items[i] >> (32 + 8 * digit)) & 255]++;
        }
    }
    uint64_t *from = items;
    uint64_t *to = scratch;
    for (uint32_t digit = 0; digit < 4; digit++) {
        uint32_t shift = 32 + 8 * digit;
        if (histogram[digit][(from[0] >> shift) & 255] == count) {
            continue; /* all equal here */
        }
        uint32_t offset[256];
        uint32_t sum = 0;
        for (uint32_t i = 0; i < 256; i++) {
            offset[i] = sum;
            sum += histogram[digit][i];
        }
        for (uint32_t i = 0; i < count; i++) {
            to[offset[(from[i] >> shift) & 255]++] = from[i];
        }
        uint64_t *swap = from;
        from = to;
        to = swap;
    }
    if (from != items) {
        memcpy(items, from, count * sizeof *items);
    }
}
