/* One partition of an attention call in the words of simd_*.h. The including file first defines how
 * much fits the registers:
 *
 *     SCORE_PAIRS, SCORE_BLOCKS   pairs, and blocks of keys, whose scores are summed together
 *     VALUE_PAIRS, VALUE_VECTORS   pairs and vectors of the head whose values are summed together
 *
 * Three passes over the partition's blocks: scores (keys), softmax, values. Order of every sum:
 * over the head's elements for a score, over positions for the rest; neither depends on which
 * pairs, key-value heads or blocks are together.
 *
 * Bound. A pair takes one multiply-add for each element of the cache, and turning the element into
 * a float two operations more. Four pairs of AVX-512: six operations of the two vector ports for 16
 * elements, 6 cycles for a line of 64 bytes of F16 (1.8 ns at 3.4 GHz) where memory takes 3.7 ns a
 * thread. So few pairs wait for memory alone, if it never waits for them: all heads of a block are
 * read one after another, as they lie, and a piece (one head's keys or values in a block) is
 * fetched while those before it are summed. For more pairs than fit the registers a block is turned
 * into floats once. */
#ifndef CPU_ATTENTION_SIMD_H
#define CPU_ATTENTION_SIMD_H

#include "cpu/attention_parts_simd.h"

/* Element `d` of the keys in slots from `slot` on as floats; of Q8_0 without their scale. */
SIMD_INLINE SIMD_VECTOR load_key(enum dtype dtype, const unsigned char *keys, uint32_t d,
                                 uint32_t slot)
{
    if (dtype == DTYPE_Q8_0) {
        return simd_load_codes(keys + kv_key_code(slot, d / 4 * 4), d % 4, false, SIMD_WIDTH);
    }
    return simd_load_plain(dtype, keys, (uint64_t)d * KV_BLOCK_TOKENS + slot);
}

/* Elements from `d` on of a position's values likewise. */
SIMD_INLINE SIMD_VECTOR load_value(enum dtype dtype, const unsigned char *values, uint32_t size,
                                   uint32_t slot, uint32_t d)
{
    if (dtype == DTYPE_Q8_0) {
        const unsigned char *fours = values + kv_value_code(size, slot / 4 * 4, d);
        return simd_load_codes(fours, slot % 4, true, SIMD_WIDTH);
    }
    return simd_load_plain(dtype, values, (uint64_t)slot * size + d);
}

/* The first `count` of them, the rest 0. */
SIMD_INLINE SIMD_VECTOR load_value_part(enum dtype dtype, const unsigned char *values,
                                        uint32_t size, uint32_t slot, uint32_t d, uint32_t count)
{
    if (dtype == DTYPE_Q8_0) {
        const unsigned char *fours = values + kv_value_code(size, slot / 4 * 4, d);
        return simd_load_codes(fours, slot % 4, true, count);
    }
    return simd_load_plain_part(dtype, values, (uint64_t)slot * size + d, count);
}

SIMD_INLINE uint32_t cache_bytes(enum dtype dtype)
{
    return dtype == DTYPE_Q8_0 ? 1 : dtype == DTYPE_F32 ? 4 : 2;
}

/* Queries of all pairs, at most SCORE_PAIRS, side by side. */
static void arrange_queries(const struct partition *p)
{
    const struct attention_call *call = p->call;
    for (uint32_t pair = 0; pair < p->pairs; pair++) {
        uint64_t head = (uint64_t)p->head * call->head_count + pair % call->head_count;
        const float *query =
            call->query + pair / call->head_count * call->query_stride + head * call->head_size;
        float *out = p->queries + pair;
        const float *end = query + call->head_size;
        while (query != end) {
            *out = *query++;
            out += p->pairs;
        }
    }
}

/* A block's values of Q8_0 as floats, `stride` from position to position. */
SIMD_INLINE void convert_codes(const unsigned char *values, uint32_t size, uint32_t stride,
                               float *out)
{
    for (uint32_t slot = 0; slot < KV_BLOCK_TOKENS; slot++) {
        uint32_t d = 0;
        for (; d + SIMD_WIDTH <= size; d += SIMD_WIDTH) {
            simd_store(out + d, load_value(DTYPE_Q8_0, values, size, slot, d));
        }
        if (d < size) {
            SIMD_VECTOR v = load_value_part(DTYPE_Q8_0, values, size, slot, d, size - d);
            if (stride > size) {
                simd_store(out + d, v);
            } else {
                simd_store_part(out + d, v, size - d);
            }
        }
        out += stride;
    }
}

/* A block's values as floats, while as many at `ahead` are fetched. */
SIMD_INLINE void convert(enum dtype dtype, const unsigned char *values, struct ahead ahead,
                         uint32_t size, float *out)
{
    if (dtype == DTYPE_Q8_0) {
        for (uint64_t line = 0; line < kv_scales_offset(size); line += 64) {
            fetch(ahead, line);
        }
        convert_codes(values, size, size, out);
        return;
    }
    for (uint64_t i = 0; i < (uint64_t)KV_BLOCK_TOKENS * size; i += SIMD_WIDTH) {
        fetch(ahead, i * cache_bytes(dtype));
        simd_store(out + i, simd_load_plain(dtype, values, i));
    }
}

/* --- scores --------------------------------------------------------------------------------- */

/* Neighbouring blocks of keys. */
struct key_blocks {
    const unsigned char *keys[SCORE_BLOCKS];
    struct ahead ahead[SCORE_BLOCKS];
};

/* Element `d` of all keys of `blocks` blocks times that of `count` queries. */
SIMD_INLINE void score_element(enum dtype dtype, uint32_t blocks, uint32_t count,
                               const struct key_blocks *from, const float *query, uint32_t d,
                               SIMD_VECTOR sums[SCORE_PAIRS][SCORE_BLOCKS * BLOCK_VECTORS])
{
    SIMD_VECTOR key[SCORE_BLOCKS * BLOCK_VECTORS];
    for (uint32_t v = 0; v < blocks * BLOCK_VECTORS; v++) {
        key[v] = load_key(dtype, from->keys[v / BLOCK_VECTORS], d, v % BLOCK_VECTORS * SIMD_WIDTH);
    }
    for (uint32_t j = 0; j < count; j++) {
        SIMD_VECTOR factor = simd_set(query[(uint64_t)d * count + j]);
        for (uint32_t v = 0; v < blocks * BLOCK_VECTORS; v++) {
            sums[j][v] = simd_multiply_add(key[v], factor, sums[j][v]);
        }
    }
}

/* `count` pairs from `pair` against the 16 keys of each of `blocks` blocks. */
SIMD_INLINE void score_some(const struct partition *p, enum dtype dtype, uint32_t blocks,
                            uint32_t count, uint32_t pair, const struct key_blocks *from,
                            float *scores)
{
    uint32_t size = p->call->head_size;
    const float *query = p->queries + (uint64_t)pair * size;
    SIMD_VECTOR sums[SCORE_PAIRS][SCORE_BLOCKS * BLOCK_VECTORS];
    for (uint32_t j = 0; j < count; j++) {
        for (uint32_t v = 0; v < blocks * BLOCK_VECTORS; v++) {
            sums[j][v] = simd_zero();
        }
    }
    /* Elements in a cache line. */
    const uint32_t line = 64 / (KV_BLOCK_TOKENS * cache_bytes(dtype));
    uint32_t d = 0;
    for (; d + line <= size; d += line) {
        for (uint32_t b = 0; b < blocks; b++) {
            fetch(from->ahead[b], (uint64_t)d * KV_BLOCK_TOKENS * cache_bytes(dtype));
        }
        for (uint32_t i = 0; i < line; i++) {
            score_element(dtype, blocks, count, from, query, d + i, sums);
        }
    }
    for (; d < size; d++) {
        score_element(dtype, blocks, count, from, query, d, sums);
    }
    for (uint32_t j = 0; j < count; j++) {
        for (uint32_t v = 0; v < blocks * BLOCK_VECTORS; v++) {
            if (dtype == DTYPE_Q8_0) {
                SIMD_VECTOR scales =
                    load_scales(p, from->keys[v / BLOCK_VECTORS], v % BLOCK_VECTORS);
                sums[j][v] = simd_multiply(sums[j][v], scales);
            }
            simd_store(scores + j * ATTENTION_PARTITION_TOKENS + v * SIMD_WIDTH, sums[j][v]);
        }
    }
}

/* Pairs from `pair`, at most SCORE_PAIRS. */
SIMD_INLINE void score_pairs(const struct partition *p, enum dtype dtype, uint32_t blocks,
                             uint32_t count, uint32_t pair, const struct key_blocks *from,
                             float *scores)
{
    switch (count) {
    case 1:
        score_some(p, dtype, blocks, 1, pair, from, scores);
        break;
    case 2:
        score_some(p, dtype, blocks, 2, pair, from, scores);
        break;
    case 3:
        score_some(p, dtype, blocks, 3, pair, from, scores);
        break;
#if SCORE_PAIRS > 4
    case 4:
        score_some(p, dtype, blocks, 4, pair, from, scores);
        break;
    case 5:
        score_some(p, dtype, blocks, 5, pair, from, scores);
        break;
    case 6:
        score_some(p, dtype, blocks, 6, pair, from, scores);
        break;
    case 7:
        score_some(p, dtype, blocks, 7, pair, from, scores);
        break;
#endif
    default:
        score_some(p, dtype, blocks, SCORE_PAIRS, pair, from, scores);
    }
}

/* Functions of their own, one a type: within one large function the compiler finds no registers
 * for the pointers of an inner loop. */
#define SCORE_FUNCTION(name, dtype)                                                \
    static __attribute__((noinline)) void score_##name(                            \
        const struct partition *p, uint32_t blocks, uint32_t count, uint32_t pair, \
        const struct key_blocks *from, float *scores)                              \
    {                                                                              \
        if (blocks == SCORE_BLOCKS) {                                              \
            score_pairs(p, dtype, SCORE_BLOCKS, count, pair, from, scores);        \
        } else {                                                                   \
            score_pairs(p, dtype, 1, count, pair, from, scores);                   \
        }                                                                          \
    }

SCORE_FUNCTION(f32, DTYPE_F32)
SCORE_FUNCTION(f16, DTYPE_F16)
SCORE_FUNCTION(bf16, DTYPE_BF16)
SCORE_FUNCTION(q8_0, DTYPE_Q8_0)

SIMD_INLINE void score_typed(const struct partition *p, enum dtype dtype, uint32_t blocks,
                             uint32_t count, uint32_t pair, const struct key_blocks *from,
                             float *scores)
{
    switch (dtype) {
    case DTYPE_F16:
        score_f16(p, blocks, count, pair, from, scores);
        break;
    case DTYPE_BF16:
        score_bf16(p, blocks, count, pair, from, scores);
        break;
    case DTYPE_Q8_0:
        score_q8_0(p, blocks, count, pair, from, scores);
        break;
    default:
        score_f32(p, blocks, count, pair, from, scores);
    }
}

/* All pairs, at most SCORE_PAIRS of them: more are a tile. */
SIMD_INLINE void score_blocks(const struct partition *p, enum dtype dtype, uint32_t blocks,
                              const struct walk *walks, uint32_t position)
{
    struct key_blocks from;
    for (uint32_t b = 0; b < blocks; b++) {
        uint32_t at = position + b * KV_BLOCK_TOKENS;
        from.keys[b] = walk_piece(p, &walks[b]);
        from.ahead[b] = piece_ahead(p, &walks[b], at, blocks, false);
    }
    score_typed(p, dtype, blocks, p->pairs, 0, &from, p->scores + (position - p->begin));
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
            uint32_t at = d + v * SIMD_WIDTH;
            value[v] = lanes == SIMD_WIDTH ? load_value(loaded, values, size, slot, at)
                                           : load_value_part(loaded, values, size, slot, at, lanes);
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
SIMD_INLINE void value_size(const struct partition *p, enum dtype loaded, uint32_t pairs,
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

/* One, two or VALUE_PAIRS pairs. */
#define VALUE_FUNCTION(name, loaded, fetched)                                                  \
    static __attribute__((noinline)) void value_##name(                                        \
        const struct partition *p, uint32_t pairs, uint32_t pair, const unsigned char *values, \
        const struct ahead *ahead, uint32_t block, struct attention_span span)                 \
    {                                                                                          \
        (void)ahead;                                                                           \
        if (pairs == VALUE_PAIRS) {                                                            \
            value_size(p, loaded, VALUE_PAIRS, pair, values, fetched, block, span);            \
        } else if (pairs == 2) {                                                               \
            value_size(p, loaded, 2, pair, values, fetched, block, span);                      \
        } else {                                                                               \
            value_size(p, loaded, 1, pair, values, fetched, block, span);                      \
        }                                                                                      \
    }

VALUE_FUNCTION(f32, DTYPE_F32, ahead)
VALUE_FUNCTION(f16, DTYPE_F16, ahead)
VALUE_FUNCTION(bf16, DTYPE_BF16, ahead)
VALUE_FUNCTION(q8_0, DTYPE_Q8_0, ahead)
VALUE_FUNCTION(converted, DTYPE_F32, NULL)

SIMD_INLINE void value_pairs(const struct partition *p, enum dtype loaded, uint32_t pairs,
                             uint32_t pair, const unsigned char *values, const struct ahead *ahead,
                             uint32_t block, struct attention_span span)
{
    switch (loaded) {
    case DTYPE_F16:
        value_f16(p, pairs, pair, values, ahead, block, span);
        break;
    case DTYPE_BF16:
        value_bf16(p, pairs, pair, values, ahead, block, span);
        break;
    case DTYPE_Q8_0:
        value_q8_0(p, pairs, pair, values, ahead, block, span);
        break;
    default:
        if (ahead) {
            value_f32(p, pairs, pair, values, ahead, block, span);
        } else {
            value_converted(p, pairs, pair, values, NULL, block, span);
        }
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

SIMD_INLINE void value_block(const struct partition *p, enum dtype dtype, const struct walk *walk,
                             uint32_t block)
{
    const unsigned char *values = walk_piece(p, walk);
    if (dtype == DTYPE_Q8_0) {
        scale_weights(p, values, block);
    }
    struct ahead ahead = piece_ahead(p, walk, block, 1, true);
    if (dtype != DTYPE_F32 && p->pairs > VALUE_PAIRS) {
        convert(dtype, values, ahead, p->call->head_size, p->converted);
        value_all(p, DTYPE_F32, (const unsigned char *)p->converted, NULL, block);
    } else {
        value_all(p, dtype, values, &ahead, block);
    }
}

#include "cpu/attention_tile_simd.h"

/* --- all of it ------------------------------------------------------------------------------ */

SIMD_INLINE void score_heads(const struct partition *p, enum dtype dtype, uint32_t blocks,
                             uint32_t position)
{
    struct walk walks[SCORE_BLOCKS];
    find_walks(p, blocks, position, walks);
    for (uint32_t head = 0; head < p->call->kv_heads; head++) {
        struct partition one = of_head(p, head);
        score_blocks(&one, dtype, blocks, walks, position);
    }
}

SIMD_INLINE void value_heads(const struct partition *p, enum dtype dtype, uint32_t position)
{
    struct walk walk = walk_at(p, position, 1, true);
    for (uint32_t head = 0; head < p->call->kv_heads; head++) {
        struct partition one = of_head(p, head);
        value_block(&one, dtype, &walk, position);
    }
}

SIMD_INLINE void run_partition(const struct partition *p, enum dtype dtype)
{
    uint64_t stride = attention_partial_floats(p->call->head_size);
    uint32_t heads = p->call->kv_heads;
    uint32_t last = p->seen_end < p->end ? p->seen_end : p->end;
    for (uint32_t head = 0; head < heads; head++) {
        struct partition one = of_head(p, head);
        arrange_queries(&one);
    }
    uint32_t position = p->first;
    for (; position + (SCORE_BLOCKS - 1) * KV_BLOCK_TOKENS < last;
         position += SCORE_BLOCKS * KV_BLOCK_TOKENS) {
        score_heads(p, dtype, SCORE_BLOCKS, position);
    }
    for (; position < last; position += KV_BLOCK_TOKENS) {
        score_heads(p, dtype, 1, position);
    }
    for (uint32_t head = 0; head < heads; head++) {
        struct partition one = of_head(p, head);
        for (uint32_t pair = 0; pair < p->pairs; pair++) {
            fetch_piece(p, head * p->pairs + pair);
            soften(&one, pair, 1);
            float *partial = one.partials + pair * stride;
            for (uint32_t d = 0; d < p->call->head_size; d += SIMD_WIDTH) {
                simd_store(partial + d, simd_zero());
            }
        }
    }
    for (position = p->first; position < last; position += KV_BLOCK_TOKENS) {
        value_heads(p, dtype, position);
    }
}

static __attribute__((noinline)) void weigh_all(const struct partition *p, uint32_t block,
                                                struct attention_span span, struct running *running)
{
    uint32_t pairs = p->pairs * p->call->kv_heads;
    if (is_whole(span, block, block + KV_BLOCK_TOKENS)) {
        float *scores = p->scores + (block - p->begin);
        for (uint32_t pair = 0; pair < pairs; pair++) {
            weigh_whole_block(scores + (uint64_t)pair * ATTENTION_PARTITION_TOKENS, &running[pair]);
        }
        return;
    }
    for (uint32_t pair = 0; pair < pairs; pair++) {
        weigh_block(p, pair, block, span, &running[pair]);
    }
}

/* A row alone, in two passes instead of three: the softmax is computed block by block beside the
 * sums, in the same order. A pass of its own would leave memory with nothing to do, since what is
 * fetched meanwhile is missing work for it afterwards. */
SIMD_INLINE void run_evened(const struct partition *p, enum dtype dtype)
{
    struct running running[ATTENTION_PAIRS];
    uint64_t stride = attention_partial_floats(p->call->head_size);
    uint32_t heads = p->call->kv_heads;
    struct attention_span span = clip(p, 0, p->begin, p->end);
    for (uint32_t i = 0; i < heads * p->pairs; i++) {
        running[i] = (struct running){simd_set(-INFINITY), simd_zero(), simd_zero()};
    }
    uint32_t position = p->first;
    for (; position + (SCORE_BLOCKS - 1) * KV_BLOCK_TOKENS < span.end;
         position += SCORE_BLOCKS * KV_BLOCK_TOKENS) {
        score_heads(p, dtype, SCORE_BLOCKS, position);
        limit_all(p, position, position + SCORE_BLOCKS * KV_BLOCK_TOKENS, span, running);
    }
    for (; position < span.end; position += KV_BLOCK_TOKENS) {
        score_heads(p, dtype, 1, position);
        limit_all(p, position, position + KV_BLOCK_TOKENS, span, running);
    }
    for (uint32_t i = 0; i < heads * p->pairs; i++) {
        float *partial = p->partials + i * stride;
        end_limit(p, i, &running[i]);
        for (uint32_t d = 0; d < p->call->head_size; d += SIMD_WIDTH) {
            simd_store(partial + d, simd_zero());
        }
    }
    for (position = p->first; position < span.end; position += KV_BLOCK_TOKENS) {
        weigh_all(p, position, span, running);
        value_heads(p, dtype, position);
    }
    for (uint32_t i = 0; i < heads * p->pairs; i++) {
        partial_tail(p, i)[1] = simd_sum(running[i].sum);
    }
}

SIMD_INLINE void run_typed(const struct partition *p, enum dtype dtype)
{
    struct attention_span span = clip(p, 0, p->begin, p->end);
    if (is_evened(p->call) && span.begin < span.end) {
        for (uint32_t head = 0; head < p->call->kv_heads; head++) {
            struct partition one = of_head(p, head);
            arrange_queries(&one);
        }
        run_evened(p, dtype);
    } else {
        run_partition(p, dtype);
    }
}

/* More pairs than fit the registers are bound by multiply-adds and not by memory. */
SIMD_INLINE void run_any(const struct partition *p, enum dtype dtype)
{
    if (p->pairs <= SCORE_PAIRS) {
        run_typed(p, dtype);
        return;
    }
    for (uint32_t head = 0; head < p->call->kv_heads; head++) {
        struct partition one = of_head(p, head);
        run_tile(&one, dtype);
    }
}

static void attention_partition(const struct attention_call *call, uint32_t index, float *partials)
{
    struct partition p = make_partition(call, index, partials);
    switch (call->layer->dtype) {
    case DTYPE_F16:
        run_any(&p, DTYPE_F16);
        break;
    case DTYPE_BF16:
        run_any(&p, DTYPE_BF16);
        break;
    case DTYPE_Q8_0:
        run_any(&p, DTYPE_Q8_0);
        break;
    default:
        run_any(&p, DTYPE_F32);
    }
}

#endif
