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

/* Element `d` of the elements in a line of keys, in slots from `slot` on, as floats; of Q8_0
 * without their scale. */
SIMD_INLINE SIMD_VECTOR load_key(enum dtype dtype, const unsigned char *line, uint32_t d,
                                 uint32_t slot)
{
    if (dtype == DTYPE_Q8_0) {
        return simd_load_codes(line + kv_key_code(slot, 0), d, false, SIMD_WIDTH);
    }
    return simd_load_plain(dtype, line, d * KV_BLOCK_TOKENS + slot);
}

/* Elements from `d` on of the values of the position `slot`, whose row, of Q8_0 that of four
 * positions, begins at `row`; the first `lanes` of them, the rest 0. */
SIMD_INLINE SIMD_VECTOR load_value(enum dtype dtype, const unsigned char *row, uint32_t slot,
                                   uint32_t d, uint32_t lanes)
{
    if (dtype == DTYPE_Q8_0) {
        return simd_load_codes(row + d * 4, slot % 4, true, lanes);
    }
    return lanes == SIMD_WIDTH ? simd_load_plain(dtype, row, d)
                               : simd_load_plain_part(dtype, row, d, lanes);
}

SIMD_INLINE uint32_t cache_bytes(enum dtype dtype)
{
    return dtype == DTYPE_Q8_0 ? 1 : dtype == DTYPE_F32 ? 4 : 2;
}

/* Queries of `count` pairs side by side. */
SIMD_INLINE void arrange_some(const struct partition *p, uint32_t count)
{
    const struct attention_call *call = p->call;
    const float *query[SCORE_PAIRS];
    float *restrict out = p->queries;
    for (uint32_t pair = 0; pair < count; pair++) {
        uint64_t head = (uint64_t)p->head * call->head_count + pair % call->head_count;
        query[pair] =
            call->query + pair / call->head_count * call->query_stride + head * call->head_size;
    }
    for (uint64_t d = 0; d < call->head_size; d++) {
        for (uint32_t pair = 0; pair < count; pair++) {
            out[d * count + pair] = query[pair][d];
        }
    }
}

/* Queries of all pairs of a head, at most SCORE_PAIRS, [head_size][pairs]. */
static __attribute__((noinline)) void arrange_queries(const struct partition *p)
{
    if (p->pairs == 4) {
        arrange_some(p, 4);
    } else {
        arrange_some(p, p->pairs);
    }
}

/* A block's values of Q8_0 as floats, `stride` from position to position. */
SIMD_INLINE void convert_codes(const unsigned char *values, uint32_t size, uint32_t stride,
                               float *out)
{
    for (uint32_t slot = 0; slot < KV_BLOCK_TOKENS; slot++) {
        const unsigned char *row = values + kv_value_code(size, slot / 4 * 4, 0);
        uint32_t d = 0;
        for (; d + SIMD_WIDTH <= size; d += SIMD_WIDTH) {
            simd_store(out + d, load_value(DTYPE_Q8_0, row, slot, d, SIMD_WIDTH));
        }
        if (d < size) {
            SIMD_VECTOR v = load_value(DTYPE_Q8_0, row, slot, d, size - d);
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

/* Element `d` of those in the lines `offset` bytes into all keys of `blocks` blocks, times that of
 * `count` queries side by side. */
SIMD_INLINE void score_element(enum dtype dtype, uint32_t blocks, uint32_t count,
                               const struct pieces *from, uint64_t offset, const float *query,
                               uint32_t d,
                               SIMD_VECTOR sums[SCORE_PAIRS][SCORE_BLOCKS * BLOCK_VECTORS])
{
    SIMD_VECTOR key[SCORE_BLOCKS * BLOCK_VECTORS];
    for (uint32_t v = 0; v < blocks * BLOCK_VECTORS; v++) {
        key[v] = load_key(dtype, from->data[v / BLOCK_VECTORS] + offset, d,
                          v % BLOCK_VECTORS * SIMD_WIDTH);
    }
    for (uint32_t j = 0; j < count; j++) {
        SIMD_VECTOR factor = simd_set(query[d * count + j]);
        for (uint32_t v = 0; v < blocks * BLOCK_VECTORS; v++) {
            sums[j][v] = simd_multiply_add(key[v], factor, sums[j][v]);
        }
    }
}

/* `count` pairs, whose queries begin at `query`, against the 16 keys of each of `blocks` blocks. */
SIMD_INLINE void score_some(const struct partition *p, enum dtype dtype, uint32_t blocks,
                            uint32_t count, const float *query, const struct pieces *given,
                            float *scores)
{
    /* A copy that nobody else can change stays in registers. */
    struct pieces from = *given;
    uint64_t size = p->call->head_size;
    SIMD_VECTOR sums[SCORE_PAIRS][SCORE_BLOCKS * BLOCK_VECTORS];
    for (uint32_t j = 0; j < count; j++) {
        for (uint32_t v = 0; v < blocks * BLOCK_VECTORS; v++) {
            sums[j][v] = simd_zero();
        }
    }
    /* Elements in a cache line. */
    const uint32_t line = 64 / (KV_BLOCK_TOKENS * cache_bytes(dtype));
    uint64_t end = size / line * 64;
    for (uint64_t offset = 0; offset < end; offset += 64) {
        for (uint32_t b = 0; b < blocks; b++) {
            fetch(from.ahead[b], offset);
        }
        for (uint32_t i = 0; i < line; i++) {
            score_element(dtype, blocks, count, &from, offset, query, i, sums);
        }
        query += line * count;
    }
    for (uint32_t i = 0; i < size % line; i++) {
        score_element(dtype, blocks, count, &from, end, query, i, sums);
    }
    for (uint32_t j = 0; j < count; j++) {
        for (uint32_t v = 0; v < blocks * BLOCK_VECTORS; v++) {
            if (dtype == DTYPE_Q8_0) {
                SIMD_VECTOR scales =
                    load_scales(p, from.data[v / BLOCK_VECTORS], v % BLOCK_VECTORS);
                sums[j][v] = simd_multiply(sums[j][v], scales);
            }
            simd_store(scores + j * ATTENTION_PARTITION_TOKENS + v * SIMD_WIDTH, sums[j][v]);
        }
    }
}

/* At most SCORE_PAIRS pairs. */
SIMD_INLINE void score_pairs(const struct partition *p, enum dtype dtype, uint32_t blocks,
                             uint32_t count, const float *query, const struct pieces *from,
                             float *scores)
{
    switch (count) {
    case 1:
        score_some(p, dtype, blocks, 1, query, from, scores);
        break;
    case 2:
        score_some(p, dtype, blocks, 2, query, from, scores);
        break;
    case 3:
        score_some(p, dtype, blocks, 3, query, from, scores);
        break;
#if SCORE_PAIRS > 4
    case 4:
        score_some(p, dtype, blocks, 4, query, from, scores);
        break;
    case 5:
        score_some(p, dtype, blocks, 5, query, from, scores);
        break;
    case 6:
        score_some(p, dtype, blocks, 6, query, from, scores);
        break;
    case 7:
        score_some(p, dtype, blocks, 7, query, from, scores);
        break;
#endif
    default:
        score_some(p, dtype, blocks, SCORE_PAIRS, query, from, scores);
    }
}

/* Functions of their own, one a type: within one large function the compiler finds no registers
 * for the pointers of an inner loop. */
#define SCORE_FUNCTION(name, dtype)                                                                \
    static __attribute__((noinline)) void score_##name(const struct partition *p, uint32_t blocks, \
                                                       uint32_t count, const float *query,         \
                                                       const struct pieces *from, float *scores)   \
    {                                                                                              \
        if (blocks == SCORE_BLOCKS) {                                                              \
            score_pairs(p, dtype, SCORE_BLOCKS, count, query, from, scores);                       \
        } else {                                                                                   \
            score_pairs(p, dtype, 1, count, query, from, scores);                                  \
        }                                                                                          \
    }

SCORE_FUNCTION(f32, DTYPE_F32)
SCORE_FUNCTION(f16, DTYPE_F16)
SCORE_FUNCTION(bf16, DTYPE_BF16)
SCORE_FUNCTION(q8_0, DTYPE_Q8_0)

SIMD_INLINE void score_typed(const struct partition *p, enum dtype dtype, uint32_t blocks,
                             uint32_t count, const float *query, const struct pieces *from,
                             float *scores)
{
    switch (dtype) {
    case DTYPE_F16:
        score_f16(p, blocks, count, query, from, scores);
        break;
    case DTYPE_BF16:
        score_bf16(p, blocks, count, query, from, scores);
        break;
    case DTYPE_Q8_0:
        score_q8_0(p, blocks, count, query, from, scores);
        break;
    default:
        score_f32(p, blocks, count, query, from, scores);
    }
}

/* All pairs, at most SCORE_PAIRS of them: more are a tile. */
SIMD_INLINE void score_blocks(const struct partition *p, enum dtype dtype, uint32_t blocks,
                              const struct walk *walks, uint32_t position)
{
    struct pieces from;
    find_pieces(p, walks, blocks, position, false, &from);
    score_typed(p, dtype, blocks, p->pairs, p->queries, &from, p->scores + (position - p->begin));
}

/* --- values --------------------------------------------------------------------------------- */

/* A rectangle of sums: `pairs` pairs by `vectors` vectors of the head from element `d`, over the
 * positions of `blocks` blocks from that at `position` that lie in the span. `lanes` < SIMD_WIDTH:
 * the last vector of a head whose size is no multiple of the vector, alone. */
SIMD_INLINE void value_some(const struct partition *p, enum dtype loaded, bool fetched,
                            uint32_t blocks, uint32_t pairs, uint32_t vectors, uint32_t lanes,
                            uint32_t pair, const struct pieces *from, uint32_t d, uint32_t position,
                            struct attention_span span)
{
    uint32_t size = p->call->head_size;
    uint64_t stride = attention_partial_floats(size);
    float *partial = p->partials + pair * stride + d;
    const float *scores =
        p->scores + (uint64_t)pair * ATTENTION_PARTITION_TOKENS + (position - p->begin);
    SIMD_VECTOR sums[VALUE_PAIRS][VALUE_VECTORS];
    for (uint32_t j = 0; j < pairs; j++) {
        for (uint32_t v = 0; v < vectors; v++) {
            sums[j][v] = simd_load(partial + j * stride + v * SIMD_WIDTH);
        }
    }
    for (uint32_t b = 0; b < blocks; b++) {
        uint32_t block = position + b * KV_BLOCK_TOKENS;
        uint32_t block_end = block + KV_BLOCK_TOKENS;
        uint32_t begin = span.begin > block ? span.begin : block;
        uint32_t end = span.end < block_end ? span.end : block_end;
        const float *weights = scores + (begin - position);
        const unsigned char *values = from->data[b];
        struct ahead ahead = from->ahead[b];
        if (fetched) {
            ahead.near += d * cache_bytes(loaded);
            ahead.far += d * cache_bytes(loaded);
        }
        uint64_t offset = (uint64_t)(begin - block) * size * cache_bytes(loaded);
        for (uint32_t slot = begin - block; slot < end - block; slot++) {
            const unsigned char *row =
                values + (loaded == DTYPE_Q8_0 ? kv_value_code(size, slot / 4 * 4, 0) : offset);
            SIMD_VECTOR value[VALUE_VECTORS];
            for (uint32_t v = 0; v < vectors; v++) {
                value[v] = load_value(loaded, row, slot, d + v * SIMD_WIDTH, lanes);
            }
            uint32_t bytes = fetched ? vectors * SIMD_WIDTH * cache_bytes(loaded) : 0;
            for (uint32_t line = 0; line < bytes; line += 64) {
                fetch(ahead, offset + line);
            }
            for (uint64_t j = 0; j < pairs; j++) {
                SIMD_VECTOR weight = simd_set(weights[j * ATTENTION_PARTITION_TOKENS]);
                for (uint32_t v = 0; v < vectors; v++) {
                    sums[j][v] = simd_multiply_add(value[v], weight, sums[j][v]);
                }
            }
            offset += (uint64_t)size * cache_bytes(loaded);
            weights++;
        }
    }
    for (uint32_t j = 0; j < pairs; j++) {
        for (uint32_t v = 0; v < vectors; v++) {
            simd_store(partial + j * stride + v * SIMD_WIDTH, sums[j][v]);
        }
    }
}

/* All elements of the head. */
SIMD_INLINE void value_size(const struct partition *p, enum dtype loaded, bool fetched,
                            uint32_t blocks, uint32_t pairs, uint32_t pair,
                            const struct pieces *from, uint32_t position,
                            struct attention_span span)
{
    uint32_t size = p->call->head_size;
    uint32_t d = 0;
    for (; d + VALUE_VECTORS * SIMD_WIDTH <= size; d += VALUE_VECTORS * SIMD_WIDTH) {
        value_some(p, loaded, fetched, blocks, pairs, VALUE_VECTORS, SIMD_WIDTH, pair, from, d,
                   position, span);
    }
    for (; d + SIMD_WIDTH <= size; d += SIMD_WIDTH) {
        value_some(p, loaded, fetched, blocks, pairs, 1, SIMD_WIDTH, pair, from, d, position, span);
    }
    if (d < size) {
        value_some(p, loaded, fetched, blocks, pairs, 1, size - d, pair, from, d, position, span);
    }
}

/* One, two or VALUE_PAIRS pairs. */
#define VALUE_FUNCTION(name, loaded, fetched)                                                \
    static __attribute__((noinline)) void value_##name(                                      \
        const struct partition *p, uint32_t blocks, uint32_t pairs, uint32_t pair,           \
        const struct pieces *from, uint32_t position, struct attention_span span)            \
    {                                                                                        \
        if (pairs == VALUE_PAIRS) {                                                          \
            value_size(p, loaded, fetched, blocks, VALUE_PAIRS, pair, from, position, span); \
        } else if (pairs == 2) {                                                             \
            value_size(p, loaded, fetched, blocks, 2, pair, from, position, span);           \
        } else {                                                                             \
            value_size(p, loaded, fetched, blocks, 1, pair, from, position, span);           \
        }                                                                                    \
    }

VALUE_FUNCTION(f32, DTYPE_F32, true)
VALUE_FUNCTION(f16, DTYPE_F16, true)
VALUE_FUNCTION(bf16, DTYPE_BF16, true)
VALUE_FUNCTION(q8_0, DTYPE_Q8_0, true)
VALUE_FUNCTION(converted, DTYPE_F32, false)

/* Values as they lie in the cache, or, where nothing is to be fetched, as floats. */
SIMD_INLINE void value_pairs(const struct partition *p, enum dtype loaded, uint32_t blocks,
                             uint32_t pairs, uint32_t pair, const struct pieces *from,
                             uint32_t position, struct attention_span span)
{
    switch (loaded) {
    case DTYPE_F16:
        value_f16(p, blocks, pairs, pair, from, position, span);
        break;
    case DTYPE_BF16:
        value_bf16(p, blocks, pairs, pair, from, position, span);
        break;
    case DTYPE_Q8_0:
        value_q8_0(p, blocks, pairs, pair, from, position, span);
        break;
    default:
        if (from->ahead[0].near) {
            value_f32(p, blocks, pairs, pair, from, position, span);
        } else {
            value_converted(p, blocks, pairs, pair, from, position, span);
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

/* The pairs of one row, which all see the same. */
SIMD_INLINE void value_row(const struct partition *p, enum dtype loaded, uint32_t blocks,
                           const struct pieces *from, uint32_t position, struct attention_span span)
{
    uint32_t pair = 0;
    for (; pair + VALUE_PAIRS <= p->pairs; pair += VALUE_PAIRS) {
        value_pairs(p, loaded, blocks, VALUE_PAIRS, pair, from, position, span);
    }
    for (; pair + 2 <= p->pairs; pair += 2) {
        value_pairs(p, loaded, blocks, 2, pair, from, position, span);
    }
    if (pair < p->pairs) {
        value_pairs(p, loaded, blocks, 1, pair, from, position, span);
    }
}

/* All pairs against one block's values. */
SIMD_INLINE void value_all(const struct partition *p, enum dtype loaded, const struct pieces *from,
                           uint32_t block)
{
    uint32_t block_end = block + KV_BLOCK_TOKENS;
    for (uint32_t pair = 0; pair < p->pairs; pair += VALUE_PAIRS) {
        uint32_t count = p->pairs - pair < VALUE_PAIRS ? p->pairs - pair : VALUE_PAIRS;
        struct attention_span first = clip(p, pair, block, block_end);
        struct attention_span last = clip(p, pair + count - 1, block, block_end);
        bool same = first.begin == last.begin && first.end == last.end;
        if (same && (count == VALUE_PAIRS || count == 2)) {
            value_pairs(p, loaded, 1, count, pair, from, block, first);
            continue;
        }
        /* At the edges of the spans and at the end of the pairs: one by one. A pair's own span is
         * never exceeded, not even with weight 0, since 0 · NaN is NaN. */
        for (uint32_t j = 0; j < count; j++) {
            struct attention_span span = clip(p, pair + j, block, block_end);
            if (span.begin < span.end) {
                value_pairs(p, loaded, 1, 1, pair + j, from, block, span);
            }
        }
    }
}

SIMD_INLINE void value_block(const struct partition *p, enum dtype dtype, const struct walk *walk,
                             uint32_t block)
{
    struct pieces from;
    find_pieces(p, walk, 1, block, true, &from);
    if (dtype == DTYPE_Q8_0) {
        scale_weights(p, from.data[0], block);
    }
    if (dtype != DTYPE_F32 && p->pairs > VALUE_PAIRS) {
        convert(dtype, from.data[0], from.ahead[0], p->call->head_size, p->converted);
        value_all(p, DTYPE_F32, &(struct pieces){.data = {(const unsigned char *)p->converted}},
                  block);
    } else {
        value_all(p, dtype, &from, block);
    }
}

#include "cpu/attention_tile_simd.h"

/* --- all of it ------------------------------------------------------------------------------ */

static __attribute__((noinline)) void score_heads(const struct partition *p, enum dtype dtype,
                                                  uint32_t blocks, uint32_t position)
{
    struct walk walks[SCORE_BLOCKS];
    find_walks(p, blocks, blocks, position, false, walks);
    for (uint32_t head = 0; head < p->call->kv_heads; head++) {
        score_blocks(&p[head], dtype, blocks, walks, position);
    }
}

static __attribute__((noinline)) void value_heads(const struct partition *p, enum dtype dtype,
                                                  uint32_t position)
{
    struct walk walk;
    find_walks(p, 1, 1, position, true, &walk);
    for (uint32_t head = 0; head < p->call->kv_heads; head++) {
        value_block(&p[head], dtype, &walk, position);
    }
}

SIMD_INLINE void run_partition(const struct partition *p, enum dtype dtype)
{
    uint64_t stride = attention_partial_floats(p->call->head_size);
    uint32_t heads = p->call->kv_heads;
    uint32_t last = p->seen_end < p->end ? p->seen_end : p->end;
    for (uint32_t head = 0; head < heads; head++) {
        arrange_queries(&p[head]);
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
        for (uint32_t pair = 0; pair < p->pairs; pair++) {
            fetch_piece(p, head * p->pairs + pair);
            soften(&p[head], pair, 1);
            float *partial = p[head].partials + pair * stride;
            for (uint32_t d = 0; d < p->call->head_size; d += SIMD_WIDTH) {
                simd_store(partial + d, simd_zero());
            }
        }
    }
    for (position = p->first; position < last; position += KV_BLOCK_TOKENS) {
        value_heads(p, dtype, position);
    }
}

/* The scores of a row in `blocks` blocks become weights, which meet their values. */
static __attribute__((noinline)) void weigh_all(const struct partition *p, uint32_t blocks,
                                                uint32_t position, struct attention_span span,
                                                struct running *running)
{
    uint32_t pairs = p->pairs * p->call->kv_heads;
    uint32_t end = position + blocks * KV_BLOCK_TOKENS;
    if (is_whole(span, position, end)) {
        float *scores = p->scores + (position - p->begin);
        for (uint32_t pair = 0; pair < pairs; pair++) {
            weigh_whole(scores, blocks * KV_BLOCK_TOKENS, &running[pair]);
            scores += ATTENTION_PARTITION_TOKENS;
        }
        return;
    }
    for (uint32_t pair = 0; pair < pairs; pair++) {
        weigh_some(p, pair, position, end, span, &running[pair]);
    }
}

static __attribute__((noinline)) void value_row_heads(const struct partition *p, enum dtype dtype,
                                                      uint32_t blocks, uint32_t position,
                                                      struct attention_span span)
{
    struct walk walks[BLOCKS_TOGETHER];
    find_walks(p, blocks, blocks, position, true, walks);
    for (uint32_t head = 0; head < p->call->kv_heads; head++) {
        struct pieces from;
        find_pieces(&p[head], walks, blocks, position, true, &from);
        if (dtype == DTYPE_Q8_0) {
            for (uint32_t b = 0; b < blocks; b++) {
                scale_weights(&p[head], from.data[b], position + b * KV_BLOCK_TOKENS);
            }
        }
        value_row(&p[head], dtype, blocks, &from, position, span);
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
    /* What is turned into floats first goes block by block. */
    bool straight = dtype == DTYPE_F32 || p->pairs <= VALUE_PAIRS;
    for (position = p->first; position < span.end;) {
        uint32_t blocks = straight && position + KV_BLOCK_TOKENS < span.end ? BLOCKS_TOGETHER : 1;
        weigh_all(p, blocks, position, span, running);
        if (straight) {
            value_row_heads(p, dtype, blocks, position, span);
        } else {
            value_heads(p, dtype, position);
        }
        position += blocks * KV_BLOCK_TOKENS;
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
            arrange_queries(&p[head]);
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
        run_tile(&p[head], dtype);
    }
}

static void attention_partition(const struct attention_call *call, uint32_t index, float *partials)
{
    struct partition p[ATTENTION_PAIRS];
    make_heads(call, index, partials, p);
    switch (call->layer->dtype) {
    case DTYPE_F16:
        run_any(p, DTYPE_F16);
        break;
    case DTYPE_BF16:
        run_any(p, DTYPE_BF16);
        break;
    case DTYPE_Q8_0:
        run_any(p, DTYPE_Q8_0);
        break;
    default:
        run_any(p, DTYPE_F32);
    }
}

#endif
