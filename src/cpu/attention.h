/* Attention over the paged cache.
 *
 * The cache: [layer][block], and in a block first the keys of all heads, then the values:
 *
 *     keys   [kv head][head_size][16]   element d of the 16 positions side by side
 *     values [kv head][16][head_size]
 *
 * Codes of Q8_0, bytes, lie in fours that one instruction multiplies and adds up: four elements of
 * a key, four positions of a value's element.
 *
 *     keys   [kv head][⌈head_size / 4⌉][16][4]   codes + 128
 *     values [kv head][4][head_size][4]          codes
 *
 * All are read as they are summed: 16 scores at a time need no sum across a vector, and neither
 * do the values. A head's keys or values in a block are one contiguous piece (2 KB at head size 64
 * in F16), and the pieces that are read one after another lie one after another.
 *
 * A row's softmax runs in an order fixed by absolute position (idea 7): partitions of 512
 * positions, each summed by itself in order of its blocks, merged from the first to the last. Rows,
 * heads and partitions may be spread over threads at will. */
#ifndef CPU_ATTENTION_H
#define CPU_ATTENTION_H

#include "device/device.h"

#define ATTENTION_PARTITION_TOKENS 512u
#define ATTENTION_PARTITION_BLOCKS (ATTENTION_PARTITION_TOKENS / KV_BLOCK_TOKENS)

/* Query rows times heads that are handled together: enough to read a block of the cache once for
 * many of them, few enough for their state to stay in the second-level cache. Key-value heads are
 * put together up to the smaller number, the rows of a long prompt up to the larger one. A group of
 * more heads than this is still handled together. */
#define ATTENTION_PAIRS     32u
#define ATTENTION_PAIRS_MAX 128u

/* Keys or values of many pairs' chunk as floats: these and the queries fit a first-level cache. */
#define ATTENTION_CHUNK_FLOATS 8192u

/* Where a layer's cache lies. */
struct kv_layer {
    unsigned char *data; /* block 0 */
    enum dtype dtype;    /* F32, F16, BF16, or Q8_0: see kv_head_bytes */
    uint32_t kv_head_count, head_size;
    uint64_t head_bytes;  /* keys and values of one head in one block */
    uint64_t block_bytes; /* of one block of this layer */
};

/* Q8_0 stands for a byte an element and a float scale a key or value of a head: behind the keys of
 * a block lie the scales of its 16 positions, behind the values likewise. Where those begin: */
static inline uint64_t kv_scales_offset(uint32_t head_size)
{
    return (uint64_t)KV_BLOCK_TOKENS * ((head_size + 3) / 4 * 4);
}

/* Where the codes of element `d` of a position's key and value lie. */
static inline uint64_t kv_key_code(uint32_t slot, uint32_t d)
{
    return ((uint64_t)(d / 4) * KV_BLOCK_TOKENS + slot) * 4 + d % 4;
}
static inline uint64_t kv_value_code(uint32_t head_size, uint32_t slot, uint32_t d)
{
    return ((uint64_t)(slot / 4) * head_size + d) * 4 + slot % 4;
}
#define KV_KEY_CODE_ZERO 128 /* what is added to the codes of keys */

static inline uint64_t kv_head_bytes(enum dtype dtype, uint32_t head_size)
{
    if (dtype == DTYPE_Q8_0) {
        return 2 * (kv_scales_offset(head_size) + KV_BLOCK_TOKENS * sizeof(float));
    }
    return 2ull * KV_BLOCK_TOKENS * head_size * dtype_info(dtype)->block_bytes;
}

/* Where the keys or the values of one head in one block lie. */
static inline unsigned char *kv_piece(const struct kv_layer *layer, uint32_t block, uint32_t head,
                                      bool values)
{
    return layer->data + block * layer->block_bytes + (values ? layer->block_bytes / 2 : 0) +
           head * (layer->head_bytes / 2);
}

struct cpu_ops;

/* Writes key and value, [kv heads · head_size] each, of one position. `scratch`: that many
 * uint16_t. */
void kv_write(const struct kv_layer *layer, const struct cpu_ops *ops, uint32_t block,
              uint32_t slot, const float *key, const float *value, uint16_t *scratch);

/* A tile: consecutive rows of one sequence, one or more neighbouring key-value heads, and the query
 * heads that share them. A pair is a row and a query head; of each key-value head in turn,
 * pair index = row · head_count + head. */
struct attention_call {
    const float *query;    /* first row, first head of the groups; heads follow one another */
    uint64_t query_stride; /* elements from row to row */
    float *out;            /* laid out like query */
    uint64_t out_stride;
    uint32_t row_count, head_count, head_size; /* head_count: of one key-value head */
    uint32_t position;                         /* of the first row */
    const uint32_t *block_table;
    const struct kv_layer *layer;
    uint32_t kv_head, kv_heads; /* the first, and how many: at most ATTENTION_PAIRS */
    float scale, soft_cap;
    uint32_t window;    /* 0: none */
    const float *sinks; /* [kv_heads · head_count] or NULL */
    float *scratch;     /* attention_scratch_floats, 64-byte aligned, of this worker */
};

/* The positions that one row attends to, [begin, end). */
struct attention_span {
    uint32_t begin, end;
};
static inline struct attention_span attention_span(const struct attention_call *call, uint32_t row)
{
    uint32_t position = call->position + row;
    bool cut = call->window != 0 && position >= call->window;
    return (struct attention_span){cut ? position - call->window + 1 : 0, position + 1};
}

/* The result of a pair on one partition, and of several merged ones: sums of values [head_size],
 * padded to 16 floats, then 16 floats of which the first two are the largest score and the sum of
 * weights relative to it. A pair that sees nothing of a partition has largest = −∞ and is skipped.
 */
static inline uint32_t attention_partial_floats(uint32_t head_size)
{
    return (head_size + 15) / 16 * 16 + 16;
}
static inline float *attention_partial_tail(float *partial, uint32_t head_size)
{
    return partial + (head_size + 15) / 16 * 16;
}

/* First and one past the last partition that any row of the tile sees. */
static inline uint32_t attention_partition_begin(const struct attention_call *call)
{
    return attention_span(call, 0).begin / ATTENTION_PARTITION_TOKENS;
}
static inline uint32_t attention_partition_end(const struct attention_call *call)
{
    uint32_t last = call->position + call->row_count - 1;
    return last / ATTENTION_PARTITION_TOKENS + 1;
}

/* Floats of a tile's queries in the scratch. */
static inline uint64_t attention_query_floats(uint32_t pairs, uint32_t head_size)
{
    return (uint64_t)pairs * ((head_size + 15) / 16 * 16);
}

/* Keys or values as floats, in the scratch behind queries, scores, a partial and the merged state.
 */
static inline float *attention_scratch_block(const struct attention_call *call, uint32_t pairs)
{
    return call->scratch + attention_query_floats(pairs, call->head_size) +
           (uint64_t)pairs *
               (ATTENTION_PARTITION_TOKENS + 2ull * attention_partial_floats(call->head_size));
}

/* Scratch of a worker: for `pairs` pairs, and at the scalar level for `positions` scores. */
uint64_t attention_scratch_floats(uint32_t pairs, uint32_t head_size, uint64_t positions);

/* One partition at each level; see struct cpu_ops. */
void attention_partition_avx2(const struct attention_call *call, uint32_t partition,
                              float *partials);
void attention_partition_avx512(const struct attention_call *call, uint32_t partition,
                                float *partials);
void attention_partition_avx512vnni(const struct attention_call *call, uint32_t partition,
                                    float *partials); /* AVX-512's, but for Q8_0 */
void attention_partition_neon(const struct attention_call *call, uint32_t partition,
                              float *partials);

/* Computes a tile from beginning to end. */
void attention_run(const struct attention_call *call, const struct cpu_ops *ops);

/* All pairs of a call. */
static inline uint32_t attention_pairs(const struct attention_call *call)
{
    return call->kv_heads * call->row_count * call->head_count;
}

/* The same in two steps: partitions in any order on any thread by ops->attention_partition, then
 * this for every pair, given the partials of all partitions [begin, end),
 * [partition][pair][partial floats]. `stride`: floats from partition to partition. */
void attention_combine(const struct attention_call *call, uint32_t pair, float *partials,
                       uint64_t stride);

#endif
