/* The loops of the sampler that go over whole rows of logits, made once for each instruction set.
 * All of them give the same bits: maxima and counts are exact in any order, and sums run in
 * SAMPLER_LANES lanes whose order is fixed. Stateless: any thread. */
#ifndef ENGINE_SAMPLER_KERNELS_H
#define ENGINE_SAMPLER_KERNELS_H

#include "engine/sampler.h"

/* Items that sort_small takes at most. */
#define SAMPLER_SMALL 128u

struct sampler_kernels {
    /* Largest value of each block of SAMPLER_BLOCK logits; returns the largest of all. *finite is
     * false when some value is NaN or infinite. NaN are passed over. */
    float (*scan)(const float *logits, uint32_t count, float *block_max, bool *finite);
    /* weights[i] = exp((logits[i] − maximum) · inverse). Returns their sum, and in block_sum[b]
     * that of each block; block_sum may be NULL. `weights` may be `logits`. */
    double (*weigh)(const float *logits, uint32_t count, float maximum, float inverse,
                    float *weights, double *block_sum);
    /* How many values are larger than `value`. */
    uint32_t (*count_above)(const float *logits, uint32_t count, float value);
    /* Sorts up to SAMPLER_SMALL items by their upper halves; equal ones keep their order. */
    void (*sort_small)(const uint64_t *items, uint32_t count, uint64_t *sorted);
};

/* The best that this machine has. */
const struct sampler_kernels *sampler_kernels_choose(void);

extern const struct sampler_kernels sampler_kernels_base;
extern const struct sampler_kernels sampler_kernels_avx2;   /* x86-64 */
extern const struct sampler_kernels sampler_kernels_avx512; /* x86-64 */

#endif
