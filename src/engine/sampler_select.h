/* Selection among a row of logits without sorting all of it. Everything is exact and deterministic:
 * tokens are ordered by logit, larger first, then by id, smaller first. */
#ifndef ENGINE_SAMPLER_SELECT_H
#define ENGINE_SAMPLER_SELECT_H

#include <math.h>

#include "engine/sampler_kernels.h"

/* exp(y) for y ≤ 0 with a relative error below 2e-7, 0 below -87. Made of float operations in a
 * fixed order, so that every machine gets the same bits; here, so that loops over it become vector
 * code. Cody–Waite: y = n·ln 2 + f with |f| ≤ ln 2 / 2, then a polynomial for exp(f). */
static inline float select_exp(float y)
{
    float clamped = y < -87.0f ? -87.0f : y;
    float n = clamped * 1.44269504f + 12582912.0f; /* rounds to an integer in the low bits */
    uint32_t bits;                                 /* unsigned: a NaN gives any bits */
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
    uint32_t scale_bits = (bits - 0x4B400000u + 127u) << 23;
    float scale;
    memcpy(&scale, &scale_bits, sizeof scale);
    return y < -87.0f ? 0.0f : p * scale;
}

/* The id of the first token whose logit is `maximum`. */
uint32_t select_first(const float *logits, uint32_t count, const float *block_max, float maximum);

/* A value such that at least k logits (or all that are above -infinity) are not below it, and
 * usually not many more. `scratch`: [blocks]. */
float select_threshold(const float *block_max, uint32_t block_count, uint32_t k, float *scratch);

/* Collects the tokens with logit ≥ threshold and > -infinity into `items`, in order of id. */
uint32_t select_collect(const float *logits, uint32_t count, const float *block_max,
                        float threshold, uint64_t *items);

/* Sorts items by logit as above; stable, no allocation. `scratch`: [count]. */
void select_sort(const struct sampler_kernels *kernels, uint64_t *items, uint32_t count,
                 uint64_t *scratch);

/* An item that sorts by `key`, larger first, and carries a token. */
static inline uint64_t select_item(float key, uint32_t token)
{
    uint32_t bits;
    memcpy(&bits, &key, sizeof bits);
    bits = bits & 0x80000000u ? ~bits : bits | 0x80000000u; /* ascending as unsigned */
    return (uint64_t)~bits << 32 | token;
}

/* The key of an item, exactly. */
static inline float select_key(uint64_t item)
{
    uint32_t bits = ~(uint32_t)(item >> 32);
    float key;
    bits = bits & 0x80000000u ? bits & 0x7FFFFFFFu : ~bits;
    memcpy(&key, &bits, sizeof key);
    return key;
}

static inline uint32_t select_token(uint64_t item)
{
    return (uint32_t)item;
}

#endif
