/* What every way to run a partition shares, in the words of simd_*.h: the partition itself, how far
 * ahead the cache is fetched, and the softmax. Scores and weights lie in the scratch as floats. */
#ifndef CPU_ATTENTION_PARTS_SIMD_H
#define CPU_ATTENTION_PARTS_SIMD_H

#include <math.h>

#include "cpu/attention.h"
#include "cpu/math_simd.h"

#define BLOCK_VECTORS (KV_BLOCK_TOKENS / SIMD_WIDTH)

/* How far ahead of the sums the cache is fetched, in two hops: from memory into the second-level
 * cache, and from there into the first. Counted in pieces of one head. */
#define NEAR_PIECES 2u
#define FAR_PIECES  8u

/* Neighbouring blocks whose keys or values are summed side by side, at most. */
#define BLOCKS_TOGETHER 2u

struct ahead {
    const unsigned char *near, *far;
};

/* What the passes share: of one key-value head of the call. */
struct partition {
    const struct attention_call *call;
    uint32_t head; /* of the call's key-value heads */
    uint32_t pairs;
    uint32_t begin, end;      /* positions, multiples of the block; end may exceed the last row's */
    uint32_t first, seen_end; /* the part of it that any row of the tile sees, from whole blocks */
    float *queries;           /* [head_size][pairs]; of a tile struct tile_pair */
    float *scores;            /* [pairs][ATTENTION_PARTITION_TOKENS] */
    float *partials;          /* [pairs][partial floats] */
    float *converted;         /* keys or values of some blocks as floats */
};

SIMD_INLINE struct partition make_partition(const struct attention_call *call, uint32_t index,
                                            float *partials)
{
    uint32_t pairs = call->row_count * call->head_count;
    uint32_t all = pairs * call->kv_heads;
    uint32_t begin = index * ATTENTION_PARTITION_TOKENS;
    uint32_t first = attention_span(call, 0).begin / KV_BLOCK_TOKENS * KV_BLOCK_TOKENS;
    return (struct partition){
        .call = call,
        .pairs = pairs,
        .begin = begin,
        .end = begin + ATTENTION_PARTITION_TOKENS,
        .first = first > begin ? first : begin,
        .seen_end = call->position + call->row_count,
        .queries = call->scratch,
        .scores = call->scratch + attention_query_floats(all, call->head_size),
        .partials = partials,
        .converted = attention_scratch_block(call, all),
    };
}

/* The same for all key-value heads of the call. What takes several heads gets the first of them. */
SIMD_INLINE void make_heads(const struct attention_call *call, uint32_t index, float *partials,
                            struct partition *heads)
{
    struct partition p = make_partition(call, index, partials);
    for (uint32_t head = 0; head < call->kv_heads; head++) {
        heads[head] = p;
        p.head++;
        p.queries += (uint64_t)p.pairs * call->head_size;
        p.scores += (uint64_t)p.pairs * ATTENTION_PARTITION_TOKENS;
        p.partials += (uint64_t)p.pairs * attention_partial_floats(call->head_size);
    }
}

/* The tail of a pair's partial: its largest score and its sum of weights. The rest is free until
 * partials are merged. */
SIMD_INLINE float *partial_tail(const struct partition *p, uint32_t pair)
{
    uint64_t stride = attention_partial_floats(p->call->head_size);
    return attention_partial_tail(p->partials + pair * stride, p->call->head_size);
}

/* The part of a pair's span inside [begin, end); empty: begin == end. */
SIMD_INLINE struct attention_span clip(const struct partition *p, uint32_t pair, uint32_t begin,
                                       uint32_t end)
{
    uint32_t row = p->call->row_count == 1 ? 0 : pair / p->call->head_count;
    struct attention_span span = attention_span(p->call, row);
    span.begin = span.begin > begin ? span.begin : begin;
    span.end = span.end < end ? span.end : end;
    span.begin = span.begin < span.end ? span.begin : span.end;
    return span;
}

/* Keys or values of one head in the block at `position`. */
SIMD_INLINE const unsigned char *piece_at(const struct partition *p, uint32_t position,
                                          uint32_t head, bool values)
{
    const struct kv_layer *layer = p->call->layer;
    uint32_t block = p->call->block_table[position / KV_BLOCK_TOKENS];
    return kv_piece(layer, block, p->call->kv_head + head, values);
}

/* Of the keys or the values of a block of Q8_0, the scales of its positions. */
SIMD_INLINE SIMD_VECTOR load_scales(const struct partition *p, const unsigned char *half,
                                    uint32_t vector)
{
    const unsigned char *scales = half + kv_scales_offset(p->call->head_size);
    return simd_load((const float *)(const void *)scales + vector * SIMD_WIDTH);
}

/* The piece that will be wanted as the one with the number `head`, counted from the first head's in
 * `blocks` blocks from that at `position` on: after the last head the next blocks' follow, after
 * the keys the values, and after those the keys of the next partition. Where nothing follows, any
 * piece: inner loops fetch without asking. */
SIMD_INLINE const unsigned char *piece_after(const struct partition *p, uint32_t position,
                                             uint32_t blocks, uint32_t head, bool values)
{
    uint32_t heads = p->call->kv_heads;
    uint32_t end = p->seen_end < p->end ? p->seen_end : p->end;
    for (; head >= heads; head -= heads) {
        position += blocks * KV_BLOCK_TOKENS;
    }
    if (position >= end && !values) {
        position = p->first + (position - end) / KV_BLOCK_TOKENS * KV_BLOCK_TOKENS;
        values = true;
    } else if (position >= end) {
        values = false;
    }
    return piece_at(p, position < p->seen_end ? position : p->first, head, values);
}

/* One row: its softmax is spread over the passes, see run_evened. */
SIMD_INLINE bool is_evened(const struct attention_call *call)
{
    return call->row_count == 1 && call->kv_heads * call->head_count <= ATTENTION_PAIRS;
}

/* How many pieces of values are fetched while weights are computed: one a pair. */
SIMD_INLINE uint32_t pieces_meanwhile(const struct partition *p)
{
    uint32_t pairs = p->pairs * p->call->kv_heads;
    return pairs < FAR_PIECES || is_evened(p->call) ? FAR_PIECES : pairs;
}

/* The first head's piece of a block, and that of the block which all heads pass over next: with
 * them most of what a head wants to know is an addition. */
struct walk {
    const unsigned char *here, *next;
};

SIMD_INLINE struct walk walk_at(const struct partition *p, uint32_t position, uint32_t blocks,
                                bool values)
{
    return (struct walk){piece_at(p, position, 0, values),
                         piece_after(p, position, blocks, p->call->kv_heads, values)};
}

/* Of the keys or the values of `blocks` neighbouring blocks, where all heads pass over `together`
 * of them before the next. */
SIMD_INLINE void find_walks(const struct partition *p, uint32_t together, uint32_t blocks,
                            uint32_t position, bool values, struct walk *walks)
{
    for (uint32_t b = 0; b < blocks; b++) {
        walks[b] = walk_at(p, position + b * KV_BLOCK_TOKENS, together, values);
    }
}

SIMD_INLINE const unsigned char *walk_piece(const struct partition *p, const struct walk *walk)
{
    return walk->here + p->head * (p->call->layer->head_bytes / 2);
}

/* As piece_after, `steps` heads after this one. */
SIMD_INLINE const unsigned char *walk_after(const struct partition *p, const struct walk *walk,
                                            uint32_t position, uint32_t blocks, uint32_t steps,
                                            bool values)
{
    uint32_t heads = p->call->kv_heads;
    uint32_t head = p->head + steps;
    uint64_t piece = p->call->layer->head_bytes / 2;
    if (head < heads) {
        return walk->here + head * piece;
    }
    return head < 2 * heads ? walk->next + (head - heads) * piece
                            : piece_after(p, position, blocks, head, values);
}

SIMD_INLINE struct ahead piece_ahead(const struct partition *p, const struct walk *walk,
                                     uint32_t position, uint32_t blocks, bool values)
{
    uint32_t near = NEAR_PIECES / blocks;
    uint32_t far = (values ? pieces_meanwhile(p) : FAR_PIECES) / blocks;
    return (struct ahead){walk_after(p, walk, position, blocks, near, values),
                          walk_after(p, walk, position, blocks, far, values)};
}

/* One head's keys or values in neighbouring blocks, and what is fetched while they are summed. */
struct pieces {
    const unsigned char *data[BLOCKS_TOGETHER];
    struct ahead ahead[BLOCKS_TOGETHER];
};

SIMD_INLINE void find_pieces(const struct partition *p, const struct walk *walks, uint32_t blocks,
                             uint32_t position, bool values, struct pieces *pieces)
{
    for (uint32_t b = 0; b < blocks; b++) {
        uint32_t at = position + b * KV_BLOCK_TOKENS;
        pieces->data[b] = walk_piece(p, &walks[b]);
        pieces->ahead[b] = piece_ahead(p, &walks[b], at, blocks, values);
    }
}

/* All of the values' piece `index`, into the second-level cache. */
SIMD_INLINE void fetch_piece(const struct partition *p, uint32_t index)
{
    const unsigned char *from = piece_after(p, p->first, 1, index, true);
    for (uint64_t line = 0; line < p->call->layer->head_bytes / 2; line += 64) {
        simd_prefetch_far(from + line);
    }
}

SIMD_INLINE void fetch(struct ahead ahead, uint64_t offset)
{
    simd_prefetch(ahead.near + offset);
    simd_prefetch_far(ahead.far + offset);
}

/* --- softmax -------------------------------------------------------------------------------- */

SIMD_INLINE SIMD_VECTOR scaled(SIMD_VECTOR score, float scale, float soft_cap)
{
    score = simd_multiply(score, simd_set(scale));
    if (soft_cap != 0) {
        SIMD_VECTOR part = simd_tanh(simd_multiply(score, simd_set(1.0f / soft_cap)));
        score = simd_multiply(part, simd_set(soft_cap));
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

/* Scales a pair's scores and writes the largest of its span to the partial's tail. Slots outside
 * the span may hold anything: they become −∞, whose weight of 1e-38 vanishes beside the largest
 * score's weight of 1. */
SIMD_INLINE void find_largest(const struct partition *p, uint32_t pair, struct attention_span span,
                              float soft_cap)
{
    float *scores = p->scores + (uint64_t)pair * ATTENTION_PARTITION_TOKENS;
    /* Kept here, since the compiler must think that a store of scores could change it there. */
    float scale = p->call->scale;
    uint32_t begin = p->begin;
    SIMD_VECTOR largest = simd_set(-INFINITY);
    for (uint32_t position = span.begin / SIMD_WIDTH * SIMD_WIDTH; position < span.end;
         position += SIMD_WIDTH) {
        float *at = scores + (position - begin);
        SIMD_VECTOR score = scaled(simd_load(at), scale, soft_cap);
        if (position < span.begin || position + SIMD_WIDTH > span.end) {
            score = keep_span(score, position, span);
        }
        largest = simd_at_least(score, largest);
        simd_store(at, score);
    }
    partial_tail(p, pair)[0] = simd_largest(largest);
}

/* Turns them into weights relative to the largest, and writes their sum. */
SIMD_INLINE void weigh(const struct partition *p, uint32_t pair, struct attention_span span)
{
    float *tail = partial_tail(p, pair);
    float *scores = p->scores + (uint64_t)pair * ATTENTION_PARTITION_TOKENS;
    uint32_t begin = p->begin;
    SIMD_VECTOR away = simd_set(-tail[0]);
    SIMD_VECTOR sums = simd_zero();
    for (uint32_t position = span.begin / SIMD_WIDTH * SIMD_WIDTH; position < span.end;
         position += SIMD_WIDTH) {
        float *at = scores + (position - begin);
        SIMD_VECTOR weight = simd_exp_bounded(simd_add(simd_load(at), away));
        sums = simd_add(sums, weight);
        simd_store(at, weight);
    }
    tail[1] = simd_sum(sums);
}

/* The part of a pair's span in the partition; nothing is [0, 0), where no loop begins. */
SIMD_INLINE struct attention_span softmax_span(const struct partition *p, uint32_t pair)
{
    struct attention_span span = clip(p, pair, p->begin, p->end);
    return span.begin < span.end ? span : (struct attention_span){0, 0};
}

/* The softmax of `count` pairs, one pass after the other: while one pair's lanes are put together
 * the next pair's scores are on their way. A pair that sees nothing has largest = −∞, sum = 0. */
static __attribute__((noinline)) void soften(const struct partition *p, uint32_t pair,
                                             uint32_t count)
{
    float soft_cap = p->call->soft_cap;
    for (uint32_t i = pair; i < pair + count; i++) {
        if (soft_cap != 0) {
            find_largest(p, i, softmax_span(p, i), soft_cap);
        } else {
            find_largest(p, i, softmax_span(p, i), 0);
        }
    }
    for (uint32_t i = pair; i < pair + count; i++) {
        weigh(p, i, softmax_span(p, i));
    }
}

/* The vectors of a pair's running softmax: first the largest scores, then, with `away` the largest
 * of all taken off, the sums of weights. */
struct running {
    SIMD_VECTOR largest, away, sum;
};

/* The largest of a pair's scores is known. */
SIMD_INLINE void end_limit(const struct partition *p, uint32_t pair, struct running *running)
{
    float *tail = partial_tail(p, pair);
    tail[0] = simd_largest(running->largest);
    running->away = simd_set(-tail[0]);
}

/* Scales a pair's scores in [begin, end), whole blocks, and remembers the largest. */
SIMD_INLINE void limit_scores(const struct partition *p, uint32_t pair, uint32_t begin,
                              uint32_t end, struct attention_span span, struct running *running)
{
    float *scores = p->scores + (uint64_t)pair * ATTENTION_PARTITION_TOKENS;
    float scale = p->call->scale;
    float soft_cap = p->call->soft_cap;
    uint32_t first = span.begin / SIMD_WIDTH * SIMD_WIDTH;
    SIMD_VECTOR largest = running->largest;
    for (uint32_t position = begin > first ? begin : first; position < end && position < span.end;
         position += SIMD_WIDTH) {
        float *at = scores + (position - p->begin);
        SIMD_VECTOR score = scaled(simd_load(at), scale, soft_cap);
        if (position < span.begin || position + SIMD_WIDTH > span.end) {
            score = keep_span(score, position, span);
        }
        largest = simd_at_least(score, largest);
        simd_store(at, score);
    }
    running->largest = largest;
}

/* Turns scores into weights, and adds them up. */
SIMD_INLINE void weigh_vector(float *scores, struct running *running)
{
    SIMD_VECTOR weight = simd_exp_bounded(simd_add(simd_load(scores), running->away));
    running->sum = simd_add(running->sum, weight);
    simd_store(scores, weight);
}

/* Those of a pair in [begin, end), whole blocks. */
SIMD_INLINE void weigh_some(const struct partition *p, uint32_t pair, uint32_t begin, uint32_t end,
                            struct attention_span span, struct running *running)
{
    float *scores = p->scores + (uint64_t)pair * ATTENTION_PARTITION_TOKENS;
    uint32_t first = span.begin / SIMD_WIDTH * SIMD_WIDTH;
    for (uint32_t position = begin > first ? begin : first; position < end && position < span.end;
         position += SIMD_WIDTH) {
        weigh_vector(scores + (position - p->begin), running);
    }
}

/* The same of `count` positions that are seen as a whole. */
SIMD_INLINE void weigh_whole(float *scores, uint32_t count, struct running *running)
{
    for (uint32_t i = 0; i < count; i += SIMD_WIDTH) {
        weigh_vector(scores + i, running);
    }
}

/* As limit_scores, of positions that are seen as a whole, without a cap. */
SIMD_INLINE void limit_whole(float *scores, uint32_t count, float scale, struct running *running)
{
    SIMD_VECTOR factor = simd_set(scale);
    SIMD_VECTOR largest = running->largest;
    for (uint32_t i = 0; i < count; i += SIMD_WIDTH) {
        SIMD_VECTOR score = simd_multiply(simd_load(scores + i), factor);
        largest = simd_at_least(score, largest);
        simd_store(scores + i, score);
    }
    running->largest = largest;
}

SIMD_INLINE bool is_whole(struct attention_span span, uint32_t begin, uint32_t end)
{
    return span.begin <= begin && end <= span.end;
}

/* All pairs together, whose chains of operations then overlap. */
static __attribute__((noinline)) void limit_all(const struct partition *p, uint32_t begin,
                                                uint32_t end, struct attention_span span,
                                                struct running *running)
{
    uint32_t pairs = p->pairs * p->call->kv_heads;
    if (p->call->soft_cap == 0 && is_whole(span, begin, end)) {
        float *scores = p->scores + (begin - p->begin);
        for (uint32_t pair = 0; pair < pairs; pair++) {
            limit_whole(scores + (uint64_t)pair * ATTENTION_PARTITION_TOKENS, end - begin,
                        p->call->scale, &running[pair]);
        }
        return;
    }
    for (uint32_t pair = 0; pair < pairs; pair++) {
        limit_scores(p, pair, begin, end, span, &running[pair]);
    }
}

#endif
