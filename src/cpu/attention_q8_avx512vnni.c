/* Attention over a cache of Q8_0 with AVX-512 and VNNI: one instruction multiplies and adds up four
 * codes of each of sixteen keys or elements of values, and nothing is turned into floats before the
 * sums. Queries and weights become whole numbers of 24 bits, three digits of 8, so that a score is
 * as good as one of floats: the sums are exact, in any order, for any pairs together.
 *
 *     score  = scale of query · scale of key · Σ digits · codes        exact Σ over the head
 *     values = Σ over 64 positions of (scale of them · exact Σ weight · codes), in their order
 *
 * The digits of a query lie between −128 and 127 and meet the codes of keys plus 128; what that
 * adds is a constant of the query. Weights times scales of values are never negative: their digits
 * are bytes without sign. Positions out of a row's span have weight 0, whatever the cache holds
 * there. A run of 64 positions is weighed by what the row itself sees of it, so that no other row
 * matters.
 *
 * Bound, four pairs: 12 products for a line of 64 codes, then about 3 operations a line for the
 * softmax, two a cycle: 7.5 cycles a line. Stateless: any thread. */
#include <string.h>

#include "cpu/simd_avx512.h"

#include "cpu/attention_parts_simd.h"

#define DIGITS       3u
#define GROUP        4u /* pairs that are summed together */
#define KEY_BLOCKS   2u /* blocks of keys likewise */
#define VECTORS      2u /* vectors of values likewise */
#define RUN_BLOCKS   4u /* blocks of values whose weights have one scale */
#define RUN_TOKENS   (RUN_BLOCKS * KV_BLOCK_TOKENS)
#define QUERY_MOST   8355711.0f /* 127 · (2¹⁶ + 2⁸ + 1): the largest number of three such digits */
#define WEIGHT_MOST  16777200.0f /* a number of 24 bits, however the division rounds */
#define TAIL_SCALE   2u          /* where a partial's tail has the scale of a run's weights */
#define CHUNK_BLOCKS 16u         /* of keys that many pairs pass over before the next */

_Static_assert(ATTENTION_PARTITION_TOKENS % RUN_TOKENS == 0, "runs do not cross partitions");

/* Bytes 0, 1, 2, 3 of four words in turn become bytes of words 0, 1, 2, 3. */
SIMD_INLINE __m512i transpose_fours(void)
{
    return _mm512_broadcast_i32x4(
        _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
}

/* A pair's query in the scratch, as many words as it has elements, padded to 16: of each four
 * elements three words of digits, and a word for these numbers, which are of the whole query. */
#define QUERY_WORDS 4u
enum { QUERY_SCALE, QUERY_ZEROS }; /* and two more sums to begin with: one a digit */

/* Both by number: the words of a query, and the last word of its fours. */
SIMD_INLINE int32_t *query_digits(const struct partition *p, uint32_t pair)
{
    uint64_t index = (uint64_t)p->head * p->pairs + pair;
    uint64_t words = (p->call->head_size + 15) / 16 * 16;
    return (int32_t *)(void *)p->call->scratch + index * words;
}

SIMD_INLINE int32_t *query_number(const struct partition *p, uint32_t pair, uint32_t number)
{
    return query_digits(p, pair) + (uint64_t)number * QUERY_WORDS + DIGITS;
}

SIMD_INLINE float scale_of_query(const struct partition *p, uint32_t pair)
{
    float scale;
    memcpy(&scale, query_number(p, pair, QUERY_SCALE), sizeof scale);
    return scale;
}

SIMD_INLINE SIMD_VECTOR query_part(const float *query, uint32_t size, uint32_t d)
{
    uint32_t rest = size - d;
    return rest >= SIMD_WIDTH ? simd_load(query + d) : simd_load_part(query + d, rest);
}

/* What a query's elements are divided by; of one that is not finite NaN, and so are its scores. */
static float query_scale(const float *query, uint32_t size)
{
    /* Of magnitudes the bits have the order of the floats, and what is not finite is above. */
    __m512i largest = _mm512_setzero_si512();
    for (uint32_t d = 0; d < size; d += SIMD_WIDTH) {
        __m512i bits = _mm512_castps_si512(query_part(query, size, d));
        bits = _mm512_and_si512(bits, _mm512_set1_epi32(INT32_MAX));
        largest = _mm512_max_epu32(largest, bits);
    }
    uint32_t bits = _mm512_reduce_max_epu32(largest);
    float most;
    memcpy(&most, &bits, sizeof most);
    if (!(most <= 3.4e38f)) {
        return NAN;
    }
    return most >= 0x1p-100f ? most / QUERY_MOST : 0;
}

static void quantise_query(const struct partition *p, uint32_t pair)
{
    const __m512i transposed = transpose_fours();
    const struct attention_call *call = p->call;
    uint32_t size = call->head_size;
    uint64_t head = (uint64_t)p->head * call->head_count + pair % call->head_count;
    const float *query = call->query + pair / call->head_count * call->query_stride + head * size;
    float scale = query_scale(query, size);
    __m512 inverse = simd_set(scale > 0 ? 1.0f / scale : 0);
    __m512i sums = _mm512_setzero_si512();
    int32_t *out = query_digits(p, pair);
    for (uint32_t d = 0; d < size; d += SIMD_WIDTH) {
        __m512 v = simd_multiply(query_part(query, size, d), inverse);
        v = simd_at_least(simd_at_most(v, simd_set(QUERY_MOST)), simd_set(-QUERY_MOST));
        /* Bytes of the number plus 128 in each digit, and the 128 off again: carries are done. */
        __m512i whole = _mm512_add_epi32(_mm512_cvtps_epi32(v), _mm512_set1_epi32(0x00808080));
        whole = _mm512_xor_si512(whole, _mm512_set1_epi32(0x00808080));
        whole = _mm512_shuffle_epi8(whole, transposed);
        sums = _mm512_dpbusd_epi32(sums, _mm512_set1_epi8(1), whole);
        _mm512_storeu_si512(out + d, whole);
    }
    memcpy(query_number(p, pair, QUERY_SCALE), &scale, sizeof scale);
    for (uint32_t digit = 0; digit < DIGITS; digit++) {
        int32_t sum = _mm512_mask_reduce_add_epi32((__mmask16)(0x1111u << digit), sums);
        *query_number(p, pair, QUERY_ZEROS + digit) = -KV_KEY_CODE_ZERO * sum;
    }
}

/* --- sums of a pair -------------------------------------------------------------------------- */

/* A vector a digit, of two blocks of keys or two vectors of values. No loop goes over these arrays
 * or over pairs: the compiler would keep them in memory. */
struct sums {
    __m512i low[2], middle[2], high[2];
};

/* sum += unsigned · signed, in its register: the compiler's own way copies it before and after. */
SIMD_INLINE void add_products(__m512i *sum, __m512i without_sign, __m512i with_sign)
{
    __asm__("vpdpbusd %2, %1, %0" : "+v"(*sum) : "v"(without_sign), "v"(with_sign));
}

/* The codes of keys, and a query's digits of the same four elements. */
SIMD_INLINE void add_keys(struct sums *sums, uint32_t blocks, __m512i first, __m512i second,
                          const int32_t *query)
{
    __m512i low = _mm512_set1_epi32(query[0]);
    __m512i middle = _mm512_set1_epi32(query[1]);
    __m512i high = _mm512_set1_epi32(query[2]);
    add_products(&sums->low[0], first, low);
    add_products(&sums->middle[0], first, middle);
    add_products(&sums->high[0], first, high);
    if (blocks > 1) {
        add_products(&sums->low[1], second, low);
        add_products(&sums->middle[1], second, middle);
        add_products(&sums->high[1], second, high);
    }
}

/* The digits of a pair's weights of four positions, and the codes of their values. */
SIMD_INLINE void add_values(struct sums *sums, uint32_t vectors, __m512i first, __m512i second,
                            const int32_t *weights)
{
    __m512i low = _mm512_set1_epi32(weights[0]);
    __m512i middle = _mm512_set1_epi32(weights[1]);
    __m512i high = _mm512_set1_epi32(weights[2]);
    add_products(&sums->low[0], low, first);
    add_products(&sums->middle[0], middle, first);
    add_products(&sums->high[0], high, first);
    if (vectors > 1) {
        add_products(&sums->low[1], low, second);
        add_products(&sums->middle[1], middle, second);
        add_products(&sums->high[1], high, second);
    }
}

/* Each below 2²⁴ in magnitude, so that only the last steps round. */
SIMD_INLINE SIMD_VECTOR join_digits(__m512i low, __m512i middle, __m512i high)
{
    SIMD_VECTOR sum = _mm512_cvtepi32_ps(high);
    sum = simd_multiply_add(sum, simd_set(256), _mm512_cvtepi32_ps(middle));
    return simd_multiply_add(sum, simd_set(256), _mm512_cvtepi32_ps(low));
}

/* --- scores --------------------------------------------------------------------------------- */

SIMD_INLINE struct sums begin_score(const struct partition *p, uint32_t pair)
{
    __m512i low = _mm512_set1_epi32(*query_number(p, pair, QUERY_ZEROS));
    __m512i middle = _mm512_set1_epi32(*query_number(p, pair, QUERY_ZEROS + 1));
    __m512i high = _mm512_set1_epi32(*query_number(p, pair, QUERY_ZEROS + 2));
    return (struct sums){{low, low}, {middle, middle}, {high, high}};
}

SIMD_INLINE void end_score(const struct partition *p, uint32_t blocks, uint32_t pair,
                           const struct pieces *from, const struct sums *sums, float *scores)
{
    SIMD_VECTOR scale = simd_set(scale_of_query(p, pair));
    SIMD_VECTOR score = join_digits(sums->low[0], sums->middle[0], sums->high[0]);
    scores += pair * (uint64_t)ATTENTION_PARTITION_TOKENS;
    score = simd_multiply(simd_multiply(score, scale), load_scales(p, from->data[0], 0));
    simd_store(scores, score);
    if (blocks > 1) {
        score = join_digits(sums->low[1], sums->middle[1], sums->high[1]);
        score = simd_multiply(simd_multiply(score, scale), load_scales(p, from->data[1], 0));
        simd_store(scores + KV_BLOCK_TOKENS, score);
    }
}

/* One pair, or GROUP of them from `pair`, against the keys of `blocks` blocks. The scores of a pair
 * lie a partition behind those of the one before. */
SIMD_INLINE void score_some(const struct partition *p, uint32_t blocks, uint32_t count,
                            uint32_t pair, const struct pieces *from, float *scores)
{
    uint32_t step = count > 1 ? 1 : 0;
    const int32_t *query = query_digits(p, pair);
    uint64_t stride = (uint64_t)(query_digits(p, pair + step) - query);
    struct sums a = begin_score(p, pair);
    struct sums b = begin_score(p, pair + step);
    struct sums c = begin_score(p, pair + 2 * step);
    struct sums d = begin_score(p, pair + 3 * step);
    uint64_t end = kv_scales_offset(p->call->head_size);
    uint64_t line = 0;
    /* At least once, and the compiler should know: sums then never touch the stack. */
    do {
        fetch(from->ahead[0], line);
        __m512i first = _mm512_loadu_si512(from->data[0] + line);
        __m512i second = first;
        if (blocks > 1) {
            fetch(from->ahead[1], line);
            second = _mm512_loadu_si512(from->data[1] + line);
        }
        add_keys(&a, blocks, first, second, query);
        if (count > 1) {
            add_keys(&b, blocks, first, second, query + stride);
            add_keys(&c, blocks, first, second, query + 2 * stride);
            add_keys(&d, blocks, first, second, query + 3 * stride);
        }
        query += QUERY_WORDS;
        line += 64;
    } while (line < end);
    for (uint32_t i = 0; i < blocks; i++) {
        fetch(from->ahead[i], end);
    }
    end_score(p, blocks, pair, from, &a, scores);
    if (count > 1) {
        end_score(p, blocks, pair + 1, from, &b, scores);
        end_score(p, blocks, pair + 2, from, &c, scores);
        end_score(p, blocks, pair + 3, from, &d, scores);
    }
}

static __attribute__((noinline)) void score_all(const struct partition *p, uint32_t blocks,
                                                uint32_t begin, uint32_t end,
                                                const struct pieces *from, float *scores)
{
    uint32_t pair = begin;
    for (; pair + GROUP <= end; pair += GROUP) {
        if (blocks == KEY_BLOCKS) {
            score_some(p, KEY_BLOCKS, GROUP, pair, from, scores);
        } else {
            score_some(p, 1, GROUP, pair, from, scores);
        }
    }
    for (; pair < end; pair++) {
        if (blocks == KEY_BLOCKS) {
            score_some(p, KEY_BLOCKS, 1, pair, from, scores);
        } else {
            score_some(p, 1, 1, pair, from, scores);
        }
    }
}

/* Pairs [begin, end) against the keys of the block at `position` and, of two, the next. */
SIMD_INLINE void score_blocks(const struct partition *p, uint32_t blocks, uint32_t begin,
                              uint32_t end, const struct walk *walks, uint32_t position)
{
    struct pieces from;
    find_pieces(p, walks, blocks, position, false, &from);
    score_all(p, blocks, begin, end, &from, p->scores + (position - p->begin));
}

/* --- values --------------------------------------------------------------------------------- */

/* Up to RUN_BLOCKS neighbouring blocks of values. */
struct value_blocks {
    const unsigned char *values[RUN_BLOCKS];
    struct ahead ahead[RUN_BLOCKS];
    const unsigned char *scales_ahead[RUN_BLOCKS]; /* of the next run's */
    uint32_t position, count;
};

SIMD_INLINE float *run_weights(const struct partition *p, uint32_t pair,
                               const struct value_blocks *from)
{
    return p->scores + (uint64_t)pair * ATTENTION_PARTITION_TOKENS + (from->position - p->begin);
}

/* Turns the products of a pair's weights in a run with the scales of the values into digits: of
 * each block 16 words, [4 fours of positions][4 digits, the last one 0]. Of floats that are not
 * negative the bits have the same order, and NaN is above all. */
SIMD_INLINE void store_digits(const struct partition *p, uint32_t pair,
                              const struct value_blocks *from, uint32_t blocks,
                              const __m512 *product, __m512i largest)
{
    const __m512i transposed = transpose_fours();
    float *weights = run_weights(p, pair, from);
    uint32_t bits = _mm512_reduce_max_epu32(largest);
    float most;
    memcpy(&most, &bits, sizeof most);
    float inverse = most >= 0x1p-100f ? WEIGHT_MOST / most : 0;
    for (uint32_t b = 0; b < blocks; b++) {
        __m512i whole = _mm512_cvtps_epi32(simd_multiply(product[b], simd_set(inverse)));
        _mm512_storeu_si512(weights + b * KV_BLOCK_TOKENS, _mm512_shuffle_epi8(whole, transposed));
    }
    partial_tail(p, pair)[TAIL_SCALE] = most >= 0x1p-100f ? most / WEIGHT_MOST : most * 0;
}

/* Of a run that a pair may see a part of only. */
SIMD_INLINE void quantise_weights(const struct partition *p, uint32_t pair,
                                  struct attention_span span, const struct value_blocks *from)
{
    const float *weights = run_weights(p, pair, from);
    __m512 product[RUN_BLOCKS];
    __m512i largest = _mm512_setzero_si512();
    for (uint32_t b = 0; b < from->count; b++) {
        uint32_t position = from->position + b * KV_BLOCK_TOKENS;
        uint32_t begin = span.begin > position ? span.begin - position : 0;
        uint32_t end = span.end > position ? span.end - position : 0;
        begin = begin < KV_BLOCK_TOKENS ? begin : KV_BLOCK_TOKENS;
        end = end < KV_BLOCK_TOKENS ? end : KV_BLOCK_TOKENS;
        __mmask16 seen = (__mmask16)(((1u << end) - 1) & ~((1u << begin) - 1));
        __m512 scales = load_scales(p, from->values[b], 0);
        product[b] = _mm512_maskz_mul_ps(seen, simd_load(weights + b * KV_BLOCK_TOKENS), scales);
        largest = _mm512_max_epu32(largest, _mm512_castps_si512(product[b]));
    }
    store_digits(p, pair, from, from->count, product, largest);
}

/* Scores of a run that is seen as a whole become digits, and their weights are added up, as
 * weigh_block and quantise_weights do it one after the other. */
SIMD_INLINE void weigh_whole_run(const struct partition *p, uint32_t pair,
                                 const struct value_blocks *from, struct running *running)
{
    const float *scores = run_weights(p, pair, from);
    SIMD_VECTOR away = running->away;
    SIMD_VECTOR sum = running->sum;
    __m512 product[RUN_BLOCKS];
    __m512i largest = _mm512_setzero_si512();
    for (uint32_t b = 0; b < RUN_BLOCKS; b++) {
        SIMD_VECTOR score = simd_load(scores + b * KV_BLOCK_TOKENS);
        SIMD_VECTOR weight = simd_exp_bounded(simd_add(score, away));
        sum = simd_add(sum, weight);
        product[b] = simd_multiply(weight, load_scales(p, from->values[b], 0));
        largest = _mm512_max_epu32(largest, _mm512_castps_si512(product[b]));
    }
    running->sum = sum;
    store_digits(p, pair, from, RUN_BLOCKS, product, largest);
}

SIMD_INLINE void end_value(const struct partition *p, uint32_t vectors, uint32_t pair, uint32_t d,
                           const struct sums *sums)
{
    uint64_t stride = attention_partial_floats(p->call->head_size);
    float *partial = p->partials + pair * stride + d;
    SIMD_VECTOR scale = simd_set(partial_tail(p, pair)[TAIL_SCALE]);
    SIMD_VECTOR sum = join_digits(sums->low[0], sums->middle[0], sums->high[0]);
    simd_store(partial, simd_multiply_add(sum, scale, simd_load(partial)));
    if (vectors > 1) {
        partial += SIMD_WIDTH;
        sum = join_digits(sums->low[1], sums->middle[1], sums->high[1]);
        simd_store(partial, simd_multiply_add(sum, scale, simd_load(partial)));
    }
}

SIMD_INLINE __m512i load_fours(const unsigned char *values, uint32_t lanes)
{
    return lanes == SIMD_WIDTH ? _mm512_loadu_si512(values)
                               : _mm512_maskz_loadu_epi32((__mmask16)((1u << lanes) - 1), values);
}

/* One pair, or GROUP of them, by `vectors` vectors of the head from element `d`, of which `lanes`
 * lanes are there. */
SIMD_INLINE void value_some(const struct partition *p, uint32_t count, uint32_t vectors,
                            uint32_t lanes, uint32_t pair, const struct value_blocks *from,
                            uint32_t d)
{
    const uint64_t stride = ATTENTION_PARTITION_TOKENS;
    const uint32_t step = p->call->head_size * 4;
    const int32_t *weights =
        (const int32_t *)(const void *)(p->scores + pair * stride) + (from->position - p->begin);
    struct sums sums[GROUP];
    sums[0] = sums[1] = sums[2] = sums[3] = (struct sums){0};
    uint32_t b = 0;
    do { /* at least once, as above */
        const unsigned char *values = from->values[b] + (uint64_t)d * 4;
        struct ahead ahead = {from->ahead[b].near + (uint64_t)d * 4,
                              from->ahead[b].far + (uint64_t)d * 4};
        const int32_t *block_end = weights + KV_BLOCK_TOKENS;
        simd_prefetch(from->scales_ahead[b]);
        do {
            fetch(ahead, 0);
            __m512i first = load_fours(values, lanes);
            __m512i second = first;
            if (vectors > 1) {
                fetch(ahead, 64);
                second = _mm512_loadu_si512(values + 64);
            }
            add_values(&sums[0], vectors, first, second, weights);
            if (count > 1) {
                add_values(&sums[1], vectors, first, second, weights + stride);
                add_values(&sums[2], vectors, first, second, weights + 2 * stride);
                add_values(&sums[3], vectors, first, second, weights + 3 * stride);
            }
            values += step;
            ahead.near += step;
            ahead.far += step;
            weights += 4;
        } while (weights != block_end);
    } while (++b < from->count);
    end_value(p, vectors, pair, d, &sums[0]);
    if (count > 1) {
        end_value(p, vectors, pair + 1, d, &sums[1]);
        end_value(p, vectors, pair + 2, d, &sums[2]);
        end_value(p, vectors, pair + 3, d, &sums[3]);
    }
}

SIMD_INLINE void value_size(const struct partition *p, uint32_t count, uint32_t pair,
                            const struct value_blocks *from)
{
    uint32_t size = p->call->head_size;
    uint32_t d = 0;
    for (; d + VECTORS * SIMD_WIDTH <= size; d += VECTORS * SIMD_WIDTH) {
        value_some(p, count, VECTORS, SIMD_WIDTH, pair, from, d);
    }
    for (; d + SIMD_WIDTH <= size; d += SIMD_WIDTH) {
        value_some(p, count, 1, SIMD_WIDTH, pair, from, d);
    }
    if (d < size) {
        value_some(p, count, 1, size - d, pair, from, d);
    }
}

static __attribute__((noinline)) void value_all(const struct partition *p,
                                                const struct value_blocks *from)
{
    uint32_t pair = 0;
    for (; pair + GROUP <= p->pairs; pair += GROUP) {
        value_size(p, GROUP, pair, from);
    }
    for (; pair < p->pairs; pair++) {
        value_size(p, 1, pair, from);
    }
}

/* How many blocks before `end` the run at `position` has. */
SIMD_INLINE uint32_t blocks_of_run(uint32_t position, uint32_t end)
{
    uint32_t run_end = position / RUN_TOKENS * RUN_TOKENS + RUN_TOKENS;
    end = end < run_end ? end : run_end;
    return (end - position + KV_BLOCK_TOKENS - 1) / KV_BLOCK_TOKENS;
}

/* The values of a run, whose blocks' first pieces and the next run's are in `walks`. */
SIMD_INLINE void find_values(const struct partition *p, const struct walk *walks, uint32_t position,
                             uint32_t blocks, struct value_blocks *from)
{
    from->position = position;
    from->count = blocks;
    for (uint32_t b = 0; b < blocks; b++) {
        uint32_t at = position + b * KV_BLOCK_TOKENS;
        from->values[b] = walk_piece(p, &walks[b]);
        from->scales_ahead[b] = walks[b].next + (from->values[b] - walks[b].here) +
                                kv_scales_offset(p->call->head_size);
        /* A head's blocks follow one another here: one and two heads ahead. */
        from->ahead[b].near = walk_after(p, &walks[b], at, RUN_BLOCKS, 1, true);
        from->ahead[b].far = walk_after(p, &walks[b], at, RUN_BLOCKS, 2, true);
    }
}

/* --- all of it ------------------------------------------------------------------------------ */

static void clear_sums(const struct partition *p, uint32_t pairs)
{
    uint64_t stride = attention_partial_floats(p->call->head_size);
    for (uint32_t i = 0; i < pairs; i++) {
        for (uint32_t d = 0; d < p->call->head_size; d += SIMD_WIDTH) {
            simd_store(p->partials + i * stride + d, simd_zero());
        }
    }
}

/* The weights of a run of one head, as digits. */
static __attribute__((noinline)) void weigh_run(const struct partition *p,
                                                const struct value_blocks *from,
                                                struct attention_span span, struct running *running)
{
    uint32_t end = from->position + RUN_TOKENS;
    if (from->count == RUN_BLOCKS && is_whole(span, from->position, end)) {
        for (uint32_t pair = 0; pair < p->pairs; pair++) {
            weigh_whole_run(p, pair, from, &running[pair]);
        }
        return;
    }
    for (uint32_t pair = 0; pair < p->pairs; pair++) {
        for (uint32_t b = 0; b < from->count; b++) {
            uint32_t block = from->position + b * KV_BLOCK_TOKENS;
            weigh_some(p, pair, block, block + KV_BLOCK_TOKENS, span, &running[pair]);
        }
        quantise_weights(p, pair, span, from);
    }
}

/* One row of all heads: as run_evened in attention_simd.h, the values by runs. */
static void run_row(const struct partition *p)
{
    struct running running[ATTENTION_PAIRS];
    uint32_t heads = p->call->kv_heads;
    struct attention_span span = clip(p, 0, p->begin, p->end);
    for (uint32_t i = 0; i < heads * p->pairs; i++) {
        running[i] = (struct running){simd_set(-INFINITY), simd_zero(), simd_zero()};
    }
    for (uint32_t position = p->first; position < span.end;) {
        uint32_t rest = (span.end - position + KV_BLOCK_TOKENS - 1) / KV_BLOCK_TOKENS;
        uint32_t blocks = rest < KEY_BLOCKS ? 1 : KEY_BLOCKS;
        struct walk walks[KEY_BLOCKS];
        find_walks(p, blocks, blocks, position, false, walks);
        for (uint32_t head = 0; head < heads; head++) {
            score_blocks(&p[head], blocks, 0, p->pairs, walks, position);
        }
        limit_all(p, position, position + blocks * KV_BLOCK_TOKENS, span, running);
        position += blocks * KV_BLOCK_TOKENS;
    }
    for (uint32_t i = 0; i < heads * p->pairs; i++) {
        end_limit(p, i, &running[i]);
    }
    for (uint32_t position = p->first; position < span.end;) {
        uint32_t blocks = blocks_of_run(position, span.end);
        struct walk walks[RUN_BLOCKS];
        find_walks(p, RUN_BLOCKS, blocks, position, true, walks);
        for (uint32_t head = 0; head < heads; head++) {
            struct value_blocks from;
            find_values(&p[head], walks, position, blocks, &from);
            weigh_run(&p[head], &from, span, running + (uint64_t)head * p->pairs);
            value_all(&p[head], &from);
        }
        position = position / RUN_TOKENS * RUN_TOKENS + RUN_TOKENS;
    }
    for (uint32_t i = 0; i < heads * p->pairs; i++) {
        partial_tail(p, i)[1] = simd_sum(running[i].sum);
    }
}

/* Many rows, one key-value head: blocks that all pairs of a group see nothing of are left out. */
static void run_rows(const struct partition *p)
{
    uint32_t last = p->seen_end < p->end ? p->seen_end : p->end;
    for (uint32_t chunk = p->first; chunk < last; chunk += CHUNK_BLOCKS * KV_BLOCK_TOKENS) {
        uint32_t chunk_end = chunk + CHUNK_BLOCKS * KV_BLOCK_TOKENS;
        chunk_end = chunk_end < last ? chunk_end : last;
        for (uint32_t pair = 0; pair < p->pairs; pair += GROUP) {
            uint32_t end = pair + GROUP < p->pairs ? pair + GROUP : p->pairs;
            /* Spans move forward with the row. */
            uint32_t begin = clip(p, pair, chunk, chunk_end).begin;
            uint32_t seen = clip(p, end - 1, chunk, chunk_end).end;
            begin = begin > chunk ? begin / KV_BLOCK_TOKENS * KV_BLOCK_TOKENS : chunk;
            for (uint32_t at = begin; at < seen;) {
                uint32_t blocks = at + KV_BLOCK_TOKENS < seen ? KEY_BLOCKS : 1;
                struct walk walks[KEY_BLOCKS];
                find_walks(p, blocks, blocks, at, false, walks);
                score_blocks(p, blocks, pair, end, walks, at);
                at += blocks * KV_BLOCK_TOKENS;
            }
        }
    }
    soften(p, 0, p->pairs);
    for (uint32_t position = p->first; position < last;) {
        uint32_t blocks = blocks_of_run(position, last);
        struct walk walks[RUN_BLOCKS];
        struct value_blocks from;
        find_walks(p, RUN_BLOCKS, blocks, position, true, walks);
        find_values(p, walks, position, blocks, &from);
        for (uint32_t pair = 0; pair < p->pairs; pair++) {
            quantise_weights(p, pair, softmax_span(p, pair), &from);
        }
        value_all(p, &from);
        position = position / RUN_TOKENS * RUN_TOKENS + RUN_TOKENS;
    }
}

void attention_partition_avx512vnni(const struct attention_call *call, uint32_t index,
                                    float *partials)
{
    if (call->layer->dtype != DTYPE_Q8_0) {
        attention_partition_avx512(call, index, partials);
        return;
    }
    struct partition heads[ATTENTION_PAIRS];
    make_heads(call, index, partials, heads);
    struct attention_span span = clip(heads, 0, heads->begin, heads->end);
    clear_sums(heads, heads->pairs * call->kv_heads);
    for (uint32_t head = 0; head < call->kv_heads; head++) {
        for (uint32_t pair = 0; pair < heads->pairs; pair++) {
            quantise_query(&heads[head], pair);
        }
    }
    if (is_evened(call) && span.begin < span.end) {
        run_row(heads);
        return;
    }
    for (uint32_t head = 0; head < call->kv_heads; head++) {
        run_rows(&heads[head]);
    }
}
