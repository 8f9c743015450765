/* Owns nothing: selection from what the kernels have found. Stateless: any thread. */
#include "engine/sampler_select.h"

/* Up to so many items are sorted by insertion, by rank, and more by digits. */
#define INSERTION_MAX 12u

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
static void radix_sort(uint64_t *items, uint32_t count, uint64_t *scratch)
{
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

void select_sort(const struct sampler_kernels *kernels, uint64_t *items, uint32_t count,
                 uint64_t *scratch)
{
    if (count <= INSERTION_MAX) {
        insertion_sort(items, count);
    } else if (count <= SAMPLER_SMALL) {
        kernels->sort_small(items, count, scratch);
        memcpy(items, scratch, count * sizeof *items);
    } else {
        radix_sort(items, count, scratch);
    }
}
