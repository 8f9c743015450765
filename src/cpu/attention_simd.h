/* One partition of an attention call in the words of simd_*.h. The including file first defines how
 * much fits the registers:
 *
 *     SCORE_PAIRS, SCORE_BLOCKS   pairs, and blocks of keys, whose scores are summed together
 *     VALUE_PAIRS, VALUE_VECTORS   pairs and vectors of the head whose values are summed together
 *
 * Three passes over the partition's blocks: scores (keys), softmax, values. Order of every sum:
 * over the head's elements for a score, over positions for the rest; neither depends on which pairs
 * or blocks are together.
 *
 * Bound. A pair takes one multiply-add for each element of the cache, and turning the element into
 * a float two operations more: few pairs wait for memory, unless a block is fetched while those
 * before it are summed (hardware does not fetch across the 4 KB of a block). For more pairs than
 * fit the registers a block is turned into floats once. */
#ifndef CPU_ATTENTION_SIMD_H
#define CPU_ATTENTION_SIMD_H

#include <math.h>

#include "cpu/attention.h"
#include "cpu/math_simd.h"

#define BLOCK_VECTORS (KV_BLOCK_TOKENS / SIMD_WIDTH)

/* How far ahead of the sums the cache is fetched, in two hops: from memory into the second-level
 * cache, and from there into the first. */
#define NEAR_BLOCKS 2u
#define FAR_BLOCKS  8u

struct ahead {
    const unsigned char *near, *far;
};

/* What the passes share. */
struct partition {
    const struct attention_call *call;
    uint32_t pairs;
    uint32_t begin, end; /* positions, multiples of the block; end may exceed the last row's */
    float *queries;      /* [pairs / SCORE_PAIRS][head_size][SCORE_PAIRS] */
    float *scores;       /* [pairs][ATTENTION_PARTITION_TOKENS] */
    float *partials;     /* [pairs][partial floats] */
    float *converted;    /* keys or values of SCORE_BLOCKS blocks as floats */
    uint32_t seen_end;   /* past the last position that any row of the tile sees */
};

/* The part of a pair's span inside [begin, end); empty: begin == end. */
SIMD_INLINE struct attention_span clip(const struct partition *p, uint32_t pair, uint32_t begin,
                                       uint32_t end)
{
    struct attention_span span = attention_span(p->call, pair / p->call->head_count);
    span.begin = span.begin > begin ? span.begin : begin;
    span.end = span.end < end ? span.end : end;
    span.begin = span.begin < span.end ? span.begin : span.end;
    return span;
}

SIMD_INLINE const unsigned char *block_keys(const struct partition *p, uint32_t position)
{
    const struct kv_layer *layer = p->call->layer;
    uint32_t block = p->call->block_table[position / KV_BLOCK_TOKENS];
    return layer->data + block * layer->block_bytes + p->call->kv_head * layer->head_bytes;
}

/* Elements of the cache as floats; those of Q8_0 without their scale. */
SIMD_INLINE SIMD_VECTOR load_cache(enum dtype dtype, const unsigned char *from, uint64_t index)
{
    return dtype == DTYPE_Q8_0 ? simd_load_bytes((const int8_t *)from + index)
                               : simd_load_plain(dtype, from, index);
}

SIMD_INLINE SIMD_VECTOR load_cache_part(enum dtype dtype, const unsigned char *from, uint64_t index,
                                        uint32_t count)
{
    return dtype == DTYPE_Q8_0 ? simd_load_bytes_part((const int8_t *)from + index, count)
                               : simd_load_plain_part(dtype, from, index, count);
}

SIMD_INLINE uint32_t cache_bytes(enum dtype dtype)
{
    return dtype == DTYPE_Q8_0 ? 1 : dtype == DTYPE_F32 ? 4 : 2;
}

/* Of the keys or the values of a block of Q8_0, the scales of its positions. */
SIMD_INLINE SIMD_VECTOR load_scales(const struct partition *p, const unsigned char *half,
                                    uint32_t vector)
{
    const unsigned char *scales = half + (uint64_t)KV_BLOCK_TOKENS * p->call->head_size;
    return simd_load((const float *)(const void *)scales + vector * SIMD_WIDTH);
}

static void arrange_queries(const struct partition *p)
{
    const struct attention_call *call = p->call;
    for (uint32_t pair = 0; pair < p->pairs; pair++) {
        const float *query = call->query + pair / call->head_count * call->query_stride +
                             (uint64_t)(pair % call->head_count) * call->head_size;
        float *out = p->queries + (uint64_t)(pair / SCORE_PAIRS) * call->head_size * SCORE_PAIRS +
                     pair % SCORE_PAIRS;
        for (uint32_t d = 0; d < call->head_size; d++) {
            out[d * SCORE_PAIRS] = query[d];
        }
    }
}

/* The keys (or, at `half`, the values) that will be wanted soon, or those in hand when there are
 * none: inner loops fetch without asking. */
SIMD_INLINE const unsigned char *block_after(const struct partition *p, uint32_t position,
                                             uint32_t blocks, uint64_t half)
{
    uint32_t ahead = position + blocks * KV_BLOCK_TOKENS;
    return block_keys(p, ahead < p->seen_end ? ahead : position) + half;
}

SIMD_INLINE struct ahead block_ahead(const struct partition *p, uint32_t position, uint64_t half)
{
    return (struct ahead){block_after(p, position, NEAR_BLOCKS, half),
                          block_after(p, position, FAR_BLOCKS, half)};
}

SIMD_INLINE void fetch(struct ahead ahead, uint64_t offset)
{
    simd_prefetch(ahead.near + offset);
    simd_prefetch_far(ahead.far + offset);
}

/* All values of a block, into the second-level cache. */
SIMD_INLINE void fetch_half(const struct partition *p, uint32_t position, uint64_t half)
{
    const unsigned char *from = block_keys(p, position) + half;
    for (uint64_t line = 0; line < p->call->layer->head_bytes / 2; line += 64) {
        simd_prefetch_far(from + line);
    }
}

/* `count` elements of the cache, a multiple of the block, as floats, while as many at `ahead` are
 * fetched. */
SIMD_INLINE void convert(enum dtype dtype, const unsigned char *from, struct ahead ahead,
                         uint64_t count, float *out)
{
    for (uint64_t i = 0; i < count; i += SIMD_WIDTH) {
        fetch(ahead, i * cache_bytes(dtype));
        simd_store(out + i, load_cache(dtype, from, i));
    }
}

/* --- scores --------------------------------------------------------------------------------- */

/* Neighbouring blocks of keys. */
struct key_blocks {
    const unsigned char *keys[SCORE_BLOCKS]; /* as the cache has them, or floats */
    struct ahead ahead[SCORE_BLOCKS];
    const unsigned char *stored[SCORE_BLOCKS]; /* in the cache: where scales lie */
};

/* `count` pairs from `pair` against the 16 keys of each of `blocks` blocks. `loaded` is the type
 * that keys are read as: the cache's, or float32. */
SIMD_INLINE void score_some(const struct partition *p, enum dtype dtype, enum dtype loaded,
                            uint32_t blocks, uint32_t count, uint32_t pair,
                            const struct key_blocks *from, float *scores)
{
    uint32_t size = p->call->head_size;
    const float *query = p->queries + (uint64_t)(pair / SCORE_PAIRS) * size * SCORE_PAIRS;
    SIMD_VECTOR sums[SCORE_PAIRS][SCORE_BLOCKS * BLOCK_VECTORS];
    for (uint32_t j = 0; j < count; j++) {
        for (uint32_t v = 0; v < blocks * BLOCK_VECTORS; v++) {
            sums[j][v] = simd_zero();
        }
    }
    for (uint32_t d = 0; d < size; d++) {
        SIMD_VECTOR key[SCORE_BLOCKS * BLOCK_VECTORS];
        for (uint32_t v = 0; v < blocks * BLOCK_VECTORS; v++) {
            key[v] = load_cache(loaded, from->keys[v / BLOCK_VECTORS],
                                (uint64_t)d * KV_BLOCK_TOKENS + v % BLOCK_VECTORS * SIMD_WIDTH);
        }
        for (uint32_t b = 0; dtype == loaded && b < blocks; b++) {
            fetch(from->ahead[b], (uint64_t)d * KV_BLOCK_TOKENS * cache_bytes(dtype));
        }
        for (uint32_t j = 0; j < count; j++) {
            SIMD_VECTOR factor = simd_set(query[d * SCORE_PAIRS + j]);
            for (uint32_t v = 0; v < blocks * BLOCK_VECTORS; v++) {
                sums[j][v] = simd_multiply_add(key[v], factor, sums[j][v]);
            }
        }
    }
    for (uint32_t j = 0; j < count; j++) {
        for (uint32_t v = 0; v < blocks * BLOCK_VECTORS; v++) {
            if (dtype == DTYPE_Q8_0) {
                SIMD_VECTOR scales =
                    load_scales(p, from->stored[v / BLOCK_VECTORS], v % BLOCK_VECTORS);
                sums[j][v] = simd_multiply(sums[j][v], scales);
            }
            simd_store(scores + j * ATTENTION_PARTITION_TOKENS + v * SIMD_WIDTH, sums[j][v]);
        }
    }
}

/* Pairs from `pair`, at most SCORE_PAIRS. */
SIMD_INLINE void score_pairs(const struct partition *p, enum dtype dtype, enum dtype loaded,
                             uint32_t blocks, uint32_t count, uint32_t pair,
                             const struct key_blocks *from, float *scores)
{
    switch (count) {
    case 1:
        score_some(p, dtype, loaded, blocks, 1, pair, from, scores);
        break;
    case 2:
        score_some(p, dtype, loaded, blocks, 2, pair, from, scores);
        break;
    case 3:
        score_some(p, dtype, loaded, blocks, 3, pair, from, scores);
        break;
#if SCORE_PAIRS > 4
    case 4:
        score_some(p, dtype, loaded, blocks, 4, pair, from, scores);
        break;
    case 5:
        score_some(p, dtype, loaded, blocks, 5, pair, from, scores);
        break;
    case 6:
        score_some(p, dtype, loaded, blocks, 6, pair, from, scores);
        break;
    case 7:
        score_some(p, dtype, loaded, blocks, 7, pair, from, scores);
        break;
#endif
    default:
        score_some(p, dtype, loaded, blocks, SCORE_PAIRS, pair, from, scores);
    }
}

SIMD_INLINE void score_blocks(const struct partition *p, enum dtype dtype, uint32_t blocks,
                              uint32_t position)
{
    uint32_t size = p->call->head_size;
    struct key_blocks from;
    for (uint32_t b = 0; b < blocks; b++) {
        uint32_t at = position + b * KV_BLOCK_TOKENS;
        from.stored[b] = from.keys[b] = block_keys(p, at);
        from.ahead[b] = block_ahead(p, at, 0);
    }
    bool converted = dtype != DTYPE_F32 && p->pairs > SCORE_PAIRS;
    for (uint32_t b = 0; converted && b < blocks; b++) {
        float *floats = p->converted + (uint64_t)b * KV_BLOCK_TOKENS * size;
        convert(dtype, from.stored[b], from.ahead[b], (uint64_t)KV_BLOCK_TOKENS * size, floats);
        from.keys[b] = (const unsigned char *)floats;
    }
    uint32_t end = position + blocks * KV_BLOCK_TOKENS;
    for (uint32_t pair = 0; pair < p->pairs; pair += SCORE_PAIRS) {
        uint32_t count = p->pairs - pair < SCORE_PAIRS ? p->pairs - pair : SCORE_PAIRS;
        /* Spans move forward with the row: the first begins first, the last ends last. */
        if (attention_span(p->call, pair / p->call->head_count).begin >= end ||
            attention_span(p->call, (pair + count - 1) / p->call->head_count).end <= position) {
            continue;
        }
        float *scores =
            p->scores + (uint64_t)pair * ATTENTION_PARTITION_TOKENS + (position - p->begin);
        if (converted) {
            score_pairs(p, dtype, DTYPE_F32, blocks, count, pair, &from, scores);
        } else {
            score_pairs(p, dtype, dtype, blocks, count, pair, &from, scores);
        }
    }
}

/* --- softmax -------------------------------------------------------------------------------- */

SIMD_INLINE SIMD_VECTOR scaled(const struct attention_call *call, SIMD_VECTOR score)
{
    score = simd_multiply(score, simd_set(call->scale));
    if (call->soft_cap != 0) {
        SIMD_VECTOR part = simd_tanh(simd_multiply(score, simd_set(1.0f / call->soft_cap)));
        score = simd_multiply(part, simd_set(call->soft_cap));
    }
    return score;
}

/* Lanes of the vector at `position` that lie in the span; the others are −∞. */
SIMD_INLINE SIMD_VECTOR keep_span(SIMD_VECTOR v, uint32_t position, struct attention_span span)
{
    uint32_t begin = span.begin > position ? span.begin - position : 0;
    uint32_t end = span.end < position + SIMD_WIDTH ? span.end - position : SIMD_WIDTH;
    return simd_keep(v, simd_set(-INFINITY), begin, end);
}

/* Turns a pair's scores into weights relative to the largest; writes the partial's tail. Slots
 * outside the span may hold anything: they become −∞, whose weight of 1e-38 vanishes beside the
 * largest score's weight of 1. */
static void soften(const struct partition *p, uint32_t pair)
{
    struct attention_span span = clip(p, pair, p->begin, p->end);
    float *partial = p->partials + (uint64_t)pair * attention_partial_floats(p->call->head_size);
    float *tail = attention_partial_tail(partial, p->call->head_size);
    tail[0] = -INFINITY;
    tail[1] = 0;
    if (span.begin == span.end) {
        return;
    }
    float *scores = p->scores + (uint64_t)pair * ATTENTION_PARTITION_TOKENS;
    uint32_t first = span.begin / SIMD_WIDTH * SIMD_WIDTH;
    SIMD_VECTOR largest = simd_set(-INFINITY);
    for (uint32_t position = first; position < span.end; position += SIMD_WIDTH) {
        float *at = scores + (position - p->begin);
        SIMD_VECTOR score = keep_span(scaled(p->call, simd_load(at)), position, span);
        largest = simd_at_least(score, largest);
        simd_store(at, score);
    }
    tail[0] = simd_largest(largest);
    SIMD_VECTOR away = simd_set(-tail[0]);
    SIMD_VECTOR sums = simd_zero();
    for (uint32_t position = first; position < span.end; position += SIMD_WIDTH) {
        float *at = scores + (position - p->begin);
        SIMD_VECTOR weight = simd_exp(simd_add(simd_load(at), away));
        sums = simd_add(sums, weight);
        simd_store(at, weight);
    }
    tail[1] = simd_sum(sums);
}

/* --- values --------------------------------------------------------------------------------- */

/* A rectangle of sums: `pairs` pairs by `vectors` vectors of the head from element `d`, over
 * positions [begin, end) of one block. `lanes` < SIMD_WIDTH: the last vector of a head whose size
 * is no multiple of the vector, alone. `ahead`: what to fetch meanwhile, or NULL. */
SIMD_INLINE void value_some(const struct partition *p, enum dtype loaded, uint32_t pairs,
                            uint32_t vectors, uint32_t lanes, uint32_t pair,
                            const unsigned char *values, const struct ahead *ahead, uint32_t d,
                            uint32_t block, struct attention_span span)
{
    uint32_t size = p->call->head_size;
    uint64_t stride = attention_partial_floats(size);
    float *partial = p->partials + pair * stride + d;
    const float *weights =
        p->scores + (uint64_t)pair * ATTENTION_PARTITION_TOKENS + (block - p->begin);
    SIMD_VECTOR sums[VALUE_PAIRS][VALUE_VECTORS];
    for (uint32_t j = 0; j < pairs; j++) {
        for (uint32_t v = 0; v < vectors; v++) {
            sums[j][v] = simd_load(partial + j * stride + v * SIMD_WIDTH);
        }
    }
    for (uint32_t slot = span.begin - block; slot < span.end - block; slot++) {
        SIMD_VECTOR value[VALUE_VECTORS];
        uint64_t element = (uint64_t)slot * size + d;
        for (uint32_t v = 0; v < vectors; v++) {
            uint64_t at = element + v * SIMD_WIDTH;
            value[v] = lanes == SIMD_WIDTH ? load_cache(loaded, values, at)
                                           : load_cache_part(loaded, values, at, lanes);
        }
        uint32_t fetched = vectors * SIMD_WIDTH * cache_bytes(loaded);
        for (uint32_t line = 0; ahead && line < fetched; line += 64) {
            fetch(*ahead, element * cache_bytes(loaded) + line);
        }
        for (uint32_t j = 0; j < pairs; j++) {
            SIMD_VECTOR weight = simd_set(weights[j * ATTENTION_PARTITION_TOKENS + slot]);
            for (uint32_t v = 0; v < vectors; v++) {
                sums[j][v] = simd_multiply_add(value[v], weight, sums[j][v]);
            }
        }
    }
    for (uint32_t j = 0; j < pairs; j++) {
        for (uint32_t v = 0; v < vectors; v++) {
            simd_store(partial + j * stride + v * SIMD_WIDTH, sums[j][v]);
        }
    }
}

/* All elements of the head. */
SIMD_INLINE void value_pairs(const struct partition *p, enum dtype loaded, uint32_t pairs,
                             uint32_t pair, const unsigned char *values, const struct ahead *ahead,
                             uint32_t block, struct attention_span span)
{
    uint32_t size = p->call->head_size;
    uint32_t d = 0;
    for (; d + VALUE_VECTORS * SIMD_WIDTH <= size; d += VALUE_VECTORS * SIMD_WIDTH) {
        value_some(p, loaded, pairs, VALUE_VECTORS, SIMD_WIDTH, pair, values, ahead, d, block,
                   span);
    }
    for (; d + SIMD_WIDTH <= size; d += SIMD_WIDTH) {
        value_some(p, loaded, pairs, 1, SIMD_WIDTH, pair, values, ahead, d, block, span);
    }
    if (d < size) {
        value_some(p, loaded, pairs, 1, size - d, pair, values, ahead, d, block, span);
    }
}

/* The weights of a block times the scales of its values. Slots out of a pair's span may become
 * anything: they are not read. */
SIMD_INLINE void scale_weights(const struct partition *p, const unsigned char *values,
                               uint32_t block)
{
    for (uint32_t v = 0; v < BLOCK_VECTORS; v++) {
        SIMD_VECTOR scales = load_scales(p, values, v);
        for (uint32_t pair = 0; pair < p->pairs; pair++) {
            float *at = p->scores + (uint64_t)pair * ATTENTION_PARTITION_TOKENS +
                        (block - p->begin) + v * SIMD_WIDTH;
            simd_store(at, simd_multiply(simd_load(at), scales));
        }
    }
}

/* All pairs against one block's values, as they are in the cache or as floats. */
SIMD_INLINE void value_all(const struct partition *p, enum dtype loaded,
                           const unsigned char *values, const struct ahead *ahead, uint32_t block)
{
    uint32_t block_end = block + KV_BLOCK_TOKENS;
    for (uint32_t pair = 0; pair < p->pairs; pair += VALUE_PAIRS) {
        uint32_t count = p->pairs - pair < VALUE_PAIRS ? p->pairs - pair : VALUE_PAIRS;
        struct attention_span first = clip(p, pair, block, block_end);
        struct attention_span last = clip(p, pair + count - 1, block, block_end);
        bool same = first.begin == last.begin && first.end == last.end;
        if (same && count == VALUE_PAIRS) {
            value_pairs(p, loaded, VALUE_PAIRS, pair, values, ahead, block, first);
            continue;
        }
        if (same && count == 2) {
            value_pairs(p, loaded, 2, pair, values, ahead, block, first);
            continue;
        }
        /* At the edges of the spans and at the end of the pairs: one by one. A pair's own span is
         * never exceeded, not even with weight 0, since 0 · NaN is NaN. */
        for (uint32_t j = 0; j < count; j++) {
            struct attention_span span = clip(p, pair + j, block, block_end);
            if (span.begin < span.end) {
                value_pairs(p, loaded, 1, pair + j, values, ahead, block, span);
            }
        }
    }
}

SIMD_INLINE void value_block(const struct partition *p, enum dtype dtype, uint32_t block)
{
    uint64_t half = p->call->layer->head_bytes / 2;
    const unsigned char *values = block_keys(p, block) + half;
    if (dtype == DTYPE_Q8_0) {
        scale_weights(p, values, block);
    }
    struct ahead ahead = block_ahead(p, block, half);
    if (dtype != DTYPE_F32 && p->pairs > VALUE_PAIRS) {
        convert(dtype, values, ahead, (uint64_t)KV_BLOCK_TOKENS * p->call->head_size, p->converted);
        value_all(p, DTYPE_F32, (const unsigned char *)p->converted, NULL, block);
    } else {
        value_all(p, dtype, values, &ahead, block);
    }
}

/* --- all of it ------------------------------------------------------------------------------ */

SIMD_INLINE void run_partition(const struct partition *p, enum dtype dtype)
{
    uint64_t stride = attention_partial_floats(p->call->head_size);
    uint32_t first = attention_span(p->call, 0).begin / KV_BLOCK_TOKENS * KV_BLOCK_TOKENS;
    uint32_t last = p->call->position + p->call->row_count;
    first = first > p->begin ? first : p->begin;
    last = last < p->end ? last : p->end;
    arrange_queries(p);
    uint32_t position = first;
    for (; position + (SCORE_BLOCKS - 1) * KV_BLOCK_TOKENS < last;
         position += SCORE_BLOCKS * KV_BLOCK_TOKENS) {
        score_blocks(p, dtype, SCORE_BLOCKS, position);
    }
    for (; position < last; position += KV_BLOCK_TOKENS) {
        score_blocks(p, dtype, 1, position);
    }
    /* Memory works while weights are computed. */
    for (uint32_t i = 0; i < FAR_BLOCKS && first + i * KV_BLOCK_TOKENS < last; i++) {
        fetch_half(p, first + i * KV_BLOCK_TOKENS, p->call->layer->head_bytes / 2);
    }
    for (uint32_t pair = 0; pair < p->pairs; pair++) {
        soften(p, pair);
        float *partial = p->partials + pair * stride;
        for (uint32_t d = 0; d < p->call->head_size; d += SIMD_WIDTH) {
            simd_store(partial + d, simd_zero());
        }
    }
    for (position = first; position < last; position += KV_BLOCK_TOKENS) {
        value_block(p, dtype, position);
    }
}

static void attention_partition(const struct attention_call *call, uint32_t index, float *partials)
{
    uint32_t pairs = call->row_count * call->head_count;
    struct partition p = {
        .call = call,
        .pairs = pairs,
        .begin = index * ATTENTION_PARTITION_TOKENS,
        .end = (index + 1) * ATTENTION_PARTITION_TOKENS,
        .queries = call->scratch,
        .scores = call->scratch + attention_query_floats(pairs, call->head_size),
        .partials = partials,
        .converted = attention_scratch_block(call, pairs),
        .seen_end = call->position + call->row_count,
    };
    switch (call->layer->dtype) {
    case DTYPE_F16:
        run_partition(&p, DTYPE_F16);
        break;
    case DTYPE_BF16:
        run_partition(&p, DTYPE_BF16);
        break;
    case DTYPE_Q8_0:
        run_partition(&p, DTYPE_Q8_0);
        break;
    default:
        run_partition(&p, DTYPE_F32);
    }
}

#endif
