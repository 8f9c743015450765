/* The bodies of the sampler's kernels in plain C: each file that includes this is compiled for an
 * instruction set, and its loops of constant length become that set's vectors. No fused operations,
 * so that the bits are the same everywhere. */
#include "engine/sampler_kernels.h"
#include "engine/sampler_select.h"

#define LANES 16u

/* Combines lanes pairwise into lanes[0], in an order that depends on their number alone; written
 * out so that every loop has a constant length. */
#define HALVE_LANES(lanes, count, operation) \
    if ((count) > 8) {                       \
        HALF(lanes, 8, operation)            \
    }                                        \
    if ((count) > 4) {                       \
        HALF(lanes, 4, operation)            \
    }                                        \
    HALF(lanes, 2, operation)                \
    HALF(lanes, 1, operation)
#define HALF(lanes, width, operation)                                \
    for (uint32_t lane = 0; lane < (width); lane++) {                \
        lanes[lane] = operation(lanes[lane], lanes[lane + (width)]); \
    }
#define ADDED(a, b)  ((a) + (b))
#define LARGER(a, b) ((b) > (a) ? (b) : (a))

/* The compiler's own vectors, for the loop that every token pays: one register each. */
typedef float floats __attribute__((vector_size(SAMPLER_VECTOR_BYTES)));
typedef int32_t ints __attribute__((vector_size(SAMPLER_VECTOR_BYTES)));
#define FLOATS (SAMPLER_VECTOR_BYTES / 4u)

/* The largest value of a whole block. `wrong` collects lanes that are NaN or infinite: exponents of
 * ones. Where x is NaN the other one is taken for larger. */
static inline float scan_block(const float *block, ints *wrong)
{
    const ints exponent = (ints){0} + 0x7F800000;
    floats most = (floats){0} - INFINITY;
    for (uint32_t i = 0; i < SAMPLER_BLOCK; i += FLOATS) {
        floats x;
        memcpy(&x, block + i, sizeof x);
        ints larger = x > most;
        most = (floats)((larger & (ints)x) | (~larger & (ints)most));
        *wrong |= ((ints)x & exponent) == exponent;
    }
    float lanes[FLOATS];
    memcpy(lanes, &most, sizeof lanes);
    HALVE_LANES(lanes, FLOATS, LARGER)
    return lanes[0];
}

static float scan(const float *logits, uint32_t count, float *block_max, bool *finite)
{
    float maximum = -INFINITY;
    ints wrong = {0};
    uint32_t whole = count / SAMPLER_BLOCK;
    for (uint32_t b = 0; b < whole; b++) {
        float largest = scan_block(logits + (size_t)b * SAMPLER_BLOCK, &wrong);
        block_max[b] = largest;
        maximum = largest > maximum ? largest : maximum;
    }
    if (count % SAMPLER_BLOCK != 0) {
        /* The last one is short: filled up with what changes nothing. */
        float block[SAMPLER_BLOCK];
        const float *rest = logits + (size_t)whole * SAMPLER_BLOCK;
        for (uint32_t i = 0; i < SAMPLER_BLOCK; i++) {
            block[i] = rest[i < count % SAMPLER_BLOCK ? i : 0];
        }
        block_max[whole] = scan_block(block, &wrong);
        maximum = block_max[whole] > maximum ? block_max[whole] : maximum;
    }
    int32_t any = 0;
    for (uint32_t j = 0; j < FLOATS; j++) {
        any |= wrong[j];
    }
    *finite = any == 0;
    return maximum;
}

static inline double weigh_block(const float *logits, uint32_t count, float maximum, float inverse,
                                 float *weights)
{
    float out[SAMPLER_BLOCK] = {0}; /* of its own: `weights` may be `logits` */
    double lanes[LANES] = {0};
    for (uint32_t i = 0; i < count; i++) {
        out[i] = select_exp((logits[i] - maximum) * inverse);
    }
    for (uint32_t i = 0; i < SAMPLER_BLOCK; i += LANES) {
        for (uint32_t j = 0; j < LANES; j++) {
            lanes[j] += (double)out[i + j];
        }
    }
    memcpy(weights, out, count * sizeof *weights);
    HALVE_LANES(lanes, LANES, ADDED)
    return lanes[0];
}

static double weigh(const float *logits, uint32_t count, float maximum, float inverse,
                    float *weights, double *block_sum)
{
    double sum = 0;
    uint32_t whole = count / SAMPLER_BLOCK;
    for (uint32_t b = 0; b < whole; b++) {
        size_t begin = (size_t)b * SAMPLER_BLOCK;
        double block =
            weigh_block(logits + begin, SAMPLER_BLOCK, maximum, inverse, weights + begin);
        if (block_sum) {
            block_sum[b] = block;
        }
        sum += block;
    }
    if (count % SAMPLER_BLOCK != 0) {
        size_t begin = (size_t)whole * SAMPLER_BLOCK;
        double block =
            weigh_block(logits + begin, count % SAMPLER_BLOCK, maximum, inverse, weights + begin);
        if (block_sum) {
            block_sum[whole] = block;
        }
        sum += block;
    }
    return sum;
}

static uint32_t count_above(const float *logits, uint32_t count, float value)
{
    uint32_t above = 0;
    for (uint32_t i = 0; i < count; i++) {
        above += logits[i] > value ? 1u : 0u;
    }
    return above;
}

/* By rank: an item's place is the number of smaller ones. Equal items have the same number and take
 * the places from there on in their order. No branch depends on the data, but for equal ones. */
static void sort_small(const uint64_t *items, uint32_t count, uint64_t *sorted)
{
    int32_t keys[SAMPLER_SMALL] = {0};
    int32_t ranks[SAMPLER_SMALL];
    uint8_t taken[SAMPLER_SMALL] = {0};
    for (uint32_t i = 0; i < count; i++) {
        keys[i] = (int32_t)((uint32_t)(items[i] >> 32) ^ 0x80000000u); /* ascending as signed */
    }
    for (uint32_t begin = 0; begin < count; begin += FLOATS) {
        ints own;
        ints rank = {0};
        memcpy(&own, keys + begin, sizeof own);
        for (uint32_t i = 0; i < count; i++) {
            rank -= own > (ints){0} + keys[i]; /* lanes of -1 where it is larger */
        }
        memcpy(ranks + begin, &rank, sizeof rank);
    }
    for (uint32_t i = 0; i < count; i++) {
        uint32_t place = (uint32_t)ranks[i];
        while (taken[place]) {
            place++;
        }
        taken[place] = 1;
        sorted[place] = items[i];
    }
}
