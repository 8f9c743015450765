/* One partition for many pairs, as a prompt's tile has them; part of attention_simd.h, whose words
 * and order of sums it keeps, so that a row gets the same bits here and alone.
 *
 * Bound: multiply-adds, two for each position, pair and element of the head (scores and values);
 * then about seven cycles of AVX-512 for the weights of sixteen positions, and a conversion of each
 * element of the cache a tile. So a chunk of blocks is turned into floats once and stays in the
 * first-level cache while all pairs pass over it; sums of values stay in registers over a whole
 * chunk; blocks that a group of pairs does not see are left out. */
#ifndef CPU_ATTENTION_TILE_SIMD_H
#define CPU_ATTENTION_TILE_SIMD_H

#define CHUNK_BLOCKS_MAX 16u

/* Blocks of keys or values as floats: of an element of the keys 16 positions side by side, of a
 * position its values, padded to whole vectors. */
struct chunk {
    const float *blocks[CHUNK_BLOCKS_MAX];
    const unsigned char *stored[CHUNK_BLOCKS_MAX]; /* in the cache: where scales lie */
    uint32_t position, count;                      /* of the first block; blocks */
};

/* A pair, worked out once a partition: where its query lies, its scores and its sums go, and the
 * part of its span in the partition. */
struct tile_pair {
    const float *query;
    float *scores, *sums;
    struct attention_span span;
};

_Static_assert(sizeof(struct tile_pair) <= 16 * sizeof(float),
               "they lie where few pairs' queries are");

SIMD_INLINE const struct tile_pair *list_pairs(const struct partition *p)
{
    const struct attention_call *call = p->call;
    struct tile_pair *pairs = (struct tile_pair *)(void *)p->queries;
    struct tile_pair *next = pairs;
    uint64_t first = (uint64_t)p->head * call->head_count * call->head_size;
    for (uint32_t row = 0; row < call->row_count; row++) {
        const float *query = call->query + row * call->query_stride + first;
        struct attention_span span = clip(p, row * call->head_count, p->begin, p->end);
        for (uint32_t head = 0; head < call->head_count; head++) {
            uint64_t pair = (uint64_t)(next - pairs);
            *next++ = (struct tile_pair){
                .query = query + (uint64_t)head * call->head_size,
                .scores = p->scores + pair * ATTENTION_PARTITION_TOKENS,
                .sums = p->partials + pair * attention_partial_floats(call->head_size),
                .span = span,
            };
        }
    }
    return pairs;
}

SIMD_INLINE uint32_t padded(uint32_t size)
{
    return (size + SIMD_WIDTH - 1) / SIMD_WIDTH * SIMD_WIDTH;
}

/* As many blocks as the scratch holds, whole pairs of them. */
SIMD_INLINE uint32_t chunk_blocks(uint32_t size)
{
    uint32_t blocks = ATTENTION_CHUNK_FLOATS / (KV_BLOCK_TOKENS * padded(size)) / 2 * 2;
    return blocks < 2 ? 2 : blocks < CHUNK_BLOCKS_MAX ? blocks : CHUNK_BLOCKS_MAX;
}

/* `count` rows of `size` elements, each padded in `out`, while as many bytes at `ahead` come into
 * the second-level cache. */
SIMD_INLINE void widen(enum dtype dtype, const unsigned char *from, const unsigned char *ahead,
                       uint32_t count, uint32_t size, float *out)
{
    uint64_t element = 0;
    for (uint32_t row = 0; row < count; row++) {
        uint32_t i = 0;
        for (; i + 4 * SIMD_WIDTH <= size; i += 4 * SIMD_WIDTH) {
            for (uint32_t byte = 0; byte < 4 * SIMD_WIDTH * cache_bytes(dtype); byte += 64) {
                simd_prefetch_far(ahead + (element + i) * cache_bytes(dtype) + byte);
            }
            for (uint32_t v = 0; v < 4; v++) {
                uint32_t at = i + v * SIMD_WIDTH;
                simd_store(out + at, simd_load_plain(dtype, from, element + at));
            }
        }
        for (; i + SIMD_WIDTH <= size; i += SIMD_WIDTH) {
            simd_store(out + i, simd_load_plain(dtype, from, element + i));
        }
        if (i < size) {
            simd_store(out + i, simd_load_plain_part(dtype, from, element + i, size - i));
        }
        element += size;
        out += padded(size);
    }
}

/* The same for a block of Q8_0. */
SIMD_INLINE void widen_codes(const unsigned char *from, const unsigned char *ahead, uint32_t size,
                             bool values, float *out)
{
    for (uint64_t line = 0; line < kv_scales_offset(size); line += 64) {
        simd_prefetch_far(ahead + line);
    }
    if (values) {
        convert_codes(from, size, padded(size), out);
        return;
    }
    for (uint32_t d = 0; d < size; d++) {
        const unsigned char *line = from + kv_key_code(0, d / 4 * 4);
        for (uint32_t slot = 0; slot < KV_BLOCK_TOKENS; slot += SIMD_WIDTH) {
            simd_store(out + d * KV_BLOCK_TOKENS + slot, load_key(DTYPE_Q8_0, line, d % 4, slot));
        }
    }
}

/* Blocks from `position` on, before `end`. */
SIMD_INLINE void load_chunk(const struct partition *p, enum dtype dtype, uint32_t position,
                            uint32_t end, bool values, struct chunk *chunk)
{
    uint32_t size = p->call->head_size;
    uint32_t rest = (end - position + KV_BLOCK_TOKENS - 1) / KV_BLOCK_TOKENS;
    uint32_t most = chunk_blocks(size);
    chunk->position = position;
    chunk->count = rest < most ? rest : most;
    for (uint32_t b = 0; b < chunk->count; b++) {
        uint32_t at = position + b * KV_BLOCK_TOKENS;
        uint32_t next = at + FAR_PIECES * KV_BLOCK_TOKENS;
        const unsigned char *piece = piece_at(p, at, p->head, values);
        const unsigned char *ahead = piece_at(p, next < end ? next : p->first, p->head, values);
        float *floats = p->converted + (uint64_t)b * KV_BLOCK_TOKENS * padded(size);
        chunk->stored[b] = piece;
        chunk->blocks[b] = floats;
        if (dtype == DTYPE_F32 && (!values || padded(size) == size)) {
            chunk->blocks[b] = (const float *)(const void *)piece;
        } else if (dtype == DTYPE_Q8_0) {
            widen_codes(piece, ahead, size, values, floats);
        } else if (values && padded(size) != size) {
            widen(dtype, piece, ahead, KV_BLOCK_TOKENS, size, floats);
        } else {
            widen(dtype, piece, ahead, 1, KV_BLOCK_TOKENS * size, floats);
        }
    }
}

/* --- scores --------------------------------------------------------------------------------- */

/* Where the queries of SCORE_PAIRS pairs lie and their scores go. Of fewer pairs the last stands
 * for those that are missing: it is computed again. */
struct score_rows {
    const float *queries[SCORE_PAIRS];
    float *scores[SCORE_PAIRS];
};

/* SCORE_PAIRS queries against `blocks` blocks of keys. A pointer a query: elements are broadcast
 * from where they lie. */
SIMD_INLINE void tile_score(uint32_t blocks, const float *const queries[SCORE_PAIRS],
                            const float *const keys[SCORE_BLOCKS], uint32_t size,
                            SIMD_VECTOR sums[SCORE_PAIRS][SCORE_BLOCKS * BLOCK_VECTORS])
{
    const float *query[SCORE_PAIRS];
    for (uint32_t j = 0; j < SCORE_PAIRS; j++) {
        query[j] = queries[j];
        for (uint32_t v = 0; v < blocks * BLOCK_VECTORS; v++) {
            sums[j][v] = simd_zero();
        }
    }
    const float *first = keys[0];
    const float *second = keys[blocks - 1];
    /* At least once, and the compiler should know: sums then never touch the stack. */
    uint64_t d = 0;
    do {
        SIMD_VECTOR key[SCORE_BLOCKS * BLOCK_VECTORS];
        for (uint32_t v = 0; v < blocks * BLOCK_VECTORS; v++) {
            const float *block = v < BLOCK_VECTORS ? first : second;
            key[v] = simd_load(block + v % BLOCK_VECTORS * SIMD_WIDTH);
        }
        first += KV_BLOCK_TOKENS;
        second += KV_BLOCK_TOKENS;
        for (uint32_t j = 0; j < SCORE_PAIRS; j++) {
            SIMD_VECTOR factor = simd_set(query[j][d]);
            for (uint32_t v = 0; v < blocks * BLOCK_VECTORS; v++) {
                sums[j][v] = simd_multiply_add(key[v], factor, sums[j][v]);
            }
        }
    } while (++d < size);
}

/* They go to `rows`, times the scales of the keys unless `stored` is NULL. */
SIMD_INLINE void tile_score_store(const struct partition *p, uint32_t blocks,
                                  const struct score_rows *rows, const float *const *keys,
                                  const unsigned char *const *stored, uint32_t offset)
{
    SIMD_VECTOR sums[SCORE_PAIRS][SCORE_BLOCKS * BLOCK_VECTORS];
    tile_score(blocks, rows->queries, keys, p->call->head_size, sums);
    for (uint32_t v = 0; v < blocks * BLOCK_VECTORS; v++) {
        if (stored) {
            SIMD_VECTOR scales = load_scales(p, stored[v / BLOCK_VECTORS], v % BLOCK_VECTORS);
            for (uint32_t j = 0; j < SCORE_PAIRS; j++) {
                sums[j][v] = simd_multiply(sums[j][v], scales);
            }
        }
        for (uint32_t j = 0; j < SCORE_PAIRS; j++) {
            simd_store(rows->scores[j] + offset + v * SIMD_WIDTH, sums[j][v]);
        }
    }
}

/* Functions of their own, for the sake of registers. */
static __attribute__((noinline)) void tile_score_one(const struct partition *p,
                                                     const struct score_rows *rows,
                                                     const float *const *keys, uint32_t offset)
{
    tile_score_store(p, 1, rows, keys, NULL, offset);
}

static __attribute__((noinline)) void tile_score_many(const struct partition *p,
                                                      const struct score_rows *rows,
                                                      const float *const *keys, uint32_t offset)
{
    tile_score_store(p, SCORE_BLOCKS, rows, keys, NULL, offset);
}

static __attribute__((noinline)) void
tile_score_scaled(const struct partition *p, uint32_t blocks, const struct score_rows *rows,
                  const float *const *keys, const unsigned char *const *stored, uint32_t offset)
{
    if (blocks == SCORE_BLOCKS) {
        tile_score_store(p, SCORE_BLOCKS, rows, keys, stored, offset);
    } else {
        tile_score_store(p, 1, rows, keys, stored, offset);
    }
}

/* `count` pairs, at most SCORE_PAIRS, against the blocks of a chunk that any of them sees. */
SIMD_INLINE void tile_score_pairs(const struct partition *p, enum dtype dtype,
                                  const struct tile_pair *pairs, uint32_t count,
                                  const struct chunk *chunk)
{
    count = count < SCORE_PAIRS ? count : SCORE_PAIRS;
    /* Spans move forward with the row: the first begins first, the last ends last. */
    uint32_t begin = pairs[0].span.begin;
    uint32_t end = pairs[count - 1].span.end;
    uint32_t b = begin > chunk->position ? (begin - chunk->position) / KV_BLOCK_TOKENS : 0;
    uint32_t rest = end > chunk->position ? end - chunk->position + KV_BLOCK_TOKENS - 1 : 0;
    uint32_t stop = rest / KV_BLOCK_TOKENS;
    stop = stop < chunk->count ? stop : chunk->count;
    struct score_rows rows;
    for (uint32_t j = 0; j < SCORE_PAIRS; j++) {
        rows.queries[j] = pairs[j < count ? j : count - 1].query;
        rows.scores[j] = pairs[j < count ? j : count - 1].scores;
    }
    while (b < stop) {
        uint32_t blocks = b + SCORE_BLOCKS <= stop ? SCORE_BLOCKS : 1;
        uint32_t offset = chunk->position - p->begin + b * KV_BLOCK_TOKENS;
        if (dtype == DTYPE_Q8_0) {
            tile_score_scaled(p, blocks, &rows, chunk->blocks + b, chunk->stored + b, offset);
        } else if (blocks == SCORE_BLOCKS) {
            tile_score_many(p, &rows, chunk->blocks + b, offset);
        } else {
            tile_score_one(p, &rows, chunk->blocks + b, offset);
        }
        b += blocks;
    }
}

/* --- values --------------------------------------------------------------------------------- */

/* Where the weights of VALUE_PAIRS pairs lie, from the chunk's first slot on, and their sums. Of
 * fewer pairs the last is computed again, as above. */
struct value_rows {
    const float *weights[VALUE_PAIRS];
    float *sums[VALUE_PAIRS];
    uint32_t ends[VALUE_PAIRS]; /* slots; rows end one after the other */
    uint32_t end, end_last;     /* the smallest and the largest of them */
};

SIMD_INLINE const float *slot_values(const struct chunk *chunk, uint64_t slot, uint32_t stride)
{
    return chunk->blocks[slot / KV_BLOCK_TOKENS] + slot % KV_BLOCK_TOKENS * stride;
}

/* All of them times `vectors` vectors of the values from element `d`, `stride` floats from position
 * to position, over slots of the chunk from `begin` on. A pair's own span is never exceeded, not
 * even with weight 0, since 0 · NaN is NaN. */
SIMD_INLINE void tile_value(const struct chunk *chunk, uint32_t vectors, uint32_t stride,
                            const struct value_rows *rows, uint32_t d, uint32_t begin)
{
    const float *weight[VALUE_PAIRS];
    SIMD_VECTOR sums[VALUE_PAIRS][VALUE_VECTORS];
    for (uint32_t j = 0; j < VALUE_PAIRS; j++) {
        weight[j] = rows->weights[j];
        for (uint32_t v = 0; v < vectors; v++) {
            sums[j][v] = simd_load(rows->sums[j] + d + v * SIMD_WIDTH);
        }
    }
    uint64_t slot = begin;
    while (slot < rows->end) {
        const float *values = slot_values(chunk, slot, stride) + d;
        uint64_t stop = slot / KV_BLOCK_TOKENS * KV_BLOCK_TOKENS + KV_BLOCK_TOKENS;
        stop = stop < rows->end ? stop : rows->end;
        for (; slot < stop; slot++) {
            SIMD_VECTOR value[VALUE_VECTORS];
            for (uint32_t v = 0; v < vectors; v++) {
                value[v] = simd_load(values + v * SIMD_WIDTH);
            }
            values += stride;
            for (uint32_t j = 0; j < VALUE_PAIRS; j++) {
                SIMD_VECTOR factor = simd_set(weight[j][slot]);
                for (uint32_t v = 0; v < vectors; v++) {
                    sums[j][v] = simd_multiply_add(value[v], factor, sums[j][v]);
                }
            }
        }
    }
    for (; slot < rows->end_last; slot++) {
        const float *values = slot_values(chunk, slot, stride) + d;
        for (uint32_t j = 0; j < VALUE_PAIRS; j++) {
            SIMD_VECTOR factor = simd_set(weight[j][slot]);
            for (uint32_t v = 0; v < vectors && slot < rows->ends[j]; v++) {
                SIMD_VECTOR value = simd_load(values + v * SIMD_WIDTH);
                sums[j][v] = simd_multiply_add(value, factor, sums[j][v]);
            }
        }
    }
    for (uint32_t j = 0; j < VALUE_PAIRS; j++) {
        for (uint32_t v = 0; v < vectors; v++) {
            simd_store(rows->sums[j] + d + v * SIMD_WIDTH, sums[j][v]);
        }
    }
}

static __attribute__((noinline)) void tile_value_slots(const struct chunk *chunk, uint32_t size,
                                                       const struct value_rows *rows,
                                                       uint32_t begin)
{
    uint32_t d = 0;
    for (; d + VALUE_VECTORS * SIMD_WIDTH <= size; d += VALUE_VECTORS * SIMD_WIDTH) {
        tile_value(chunk, VALUE_VECTORS, padded(size), rows, d, begin);
    }
    for (; d + 2 * SIMD_WIDTH <= size; d += 2 * SIMD_WIDTH) {
        tile_value(chunk, 2, padded(size), rows, d, begin);
    }
    for (; d < size; d += SIMD_WIDTH) {
        tile_value(chunk, 1, padded(size), rows, d, begin);
    }
}

/* The slots of a chunk that a pair sees; none: end is not after begin. */
SIMD_INLINE struct attention_span chunk_clip(const struct tile_pair *pair,
                                             const struct chunk *chunk)
{
    uint32_t slots = chunk->count * KV_BLOCK_TOKENS;
    struct attention_span span = pair->span;
    span.begin = span.begin > chunk->position ? span.begin - chunk->position : 0;
    span.end = span.end > chunk->position ? span.end - chunk->position : 0;
    span.end = span.end < slots ? span.end : slots;
    return span;
}

/* Slots [begin, end) of one pair. */
SIMD_INLINE void tile_value_alone(const struct chunk *chunk, uint32_t size,
                                  const struct value_rows *rows, uint32_t pair, uint32_t begin,
                                  uint32_t end)
{
    struct value_rows one = {.end = end, .end_last = end};
    for (uint32_t j = 0; j < VALUE_PAIRS; j++) {
        one.weights[j] = rows->weights[pair];
        one.sums[j] = rows->sums[pair];
        one.ends[j] = end;
    }
    if (begin < end) {
        tile_value_slots(chunk, size, &one, begin);
    }
}

/* `count` pairs, at most VALUE_PAIRS: the slots before all of them have begun one by one, then all
 * together until the last has ended. */
SIMD_INLINE void tile_value_pairs(const struct partition *p, const struct tile_pair *pairs,
                                  uint32_t count, const struct chunk *chunk)
{
    count = count < VALUE_PAIRS ? count : VALUE_PAIRS;
    uint32_t size = p->call->head_size;
    uint32_t begins[VALUE_PAIRS];
    uint32_t begin = 0;
    struct value_rows rows = {.end = UINT32_MAX};
    for (uint32_t j = 0; j < VALUE_PAIRS; j++) {
        const struct tile_pair *pair = &pairs[j < count ? j : count - 1];
        struct attention_span span = chunk_clip(pair, chunk);
        begins[j] = span.begin;
        begin = span.begin > begin ? span.begin : begin;
        rows.ends[j] = span.end;
        rows.end = span.end < rows.end ? span.end : rows.end;
        rows.end_last = span.end > rows.end_last ? span.end : rows.end_last;
        rows.weights[j] = pair->scores + (chunk->position - p->begin);
        rows.sums[j] = pair->sums;
    }
    for (uint32_t j = 0; j < count && begin > 0; j++) {
        uint32_t end = begin < rows.ends[j] ? begin : rows.ends[j];
        tile_value_alone(chunk, size, &rows, j, begins[j], end);
    }
    if (begin < rows.end_last) {
        tile_value_slots(chunk, size, &rows, begin);
    }
}

/* --- all of it ------------------------------------------------------------------------------ */

SIMD_INLINE void run_tile(const struct partition *p, enum dtype dtype)
{
    uint32_t size = p->call->head_size;
    uint32_t last = p->seen_end < p->end ? p->seen_end : p->end;
    const struct tile_pair *pairs = list_pairs(p);
    struct chunk chunk = {.position = p->first};
    for (uint32_t at = p->first; at < last; at += chunk.count * KV_BLOCK_TOKENS) {
        load_chunk(p, dtype, at, last, false, &chunk);
        for (uint32_t pair = 0; pair < p->pairs; pair += SCORE_PAIRS) {
            tile_score_pairs(p, dtype, pairs + pair, p->pairs - pair, &chunk);
        }
    }
    soften(p, 0, p->pairs);
    for (uint32_t pair = 0; pair < p->pairs; pair++) {
        for (uint32_t d = 0; d < size; d += SIMD_WIDTH) {
            simd_store(pairs[pair].sums + d, simd_zero());
        }
    }
    for (uint32_t at = p->first; at < last; at += chunk.count * KV_BLOCK_TOKENS) {
        load_chunk(p, dtype, at, last, true, &chunk);
        for (uint32_t b = 0; dtype == DTYPE_Q8_0 && b < chunk.count; b++) {
            scale_weights(p, chunk.stored[b], at + b * KV_BLOCK_TOKENS);
        }
        for (uint32_t pair = 0; pair < p->pairs; pair += VALUE_PAIRS) {
            tile_value_pairs(p, pairs + pair, p->pairs - pair, &chunk);
        }
    }
}

#endif
