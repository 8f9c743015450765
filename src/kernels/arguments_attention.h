/* What the kernels of attention are launched with: plain structs that C fills and the kernel text
 * reads. Joined to the text after a vendor's words, where KERNEL_POINTER makes real pointers; in C
 * an address of device memory is an integer. All pointers are 16-byte aligned; 0 means "none" where
 * a comment says "or none". Axis letters: n rows, H query heads, K key-value heads, D head size.
 *
 * Cache of one layer: [block][K] of { keys [16][D], values [16][D] } in the cache's type, so that
 * what one head reads of one block is contiguous; in a cache of Q8_0 float scales [2][16] follow.
 */
#ifndef KERNELS_ARGUMENTS_ATTENTION_H
#define KERNELS_ARGUMENTS_ATTENTION_H

#ifndef KERNEL_POINTER
#if defined(VENDOR_NVIDIA) || defined(VENDOR_AMD) || defined(VENDOR_EMU)
#define KERNEL_POINTER(type) type *
#else
#include <stdint.h>
#define KERNEL_POINTER(type) uint64_t
#endif
#endif

/* Counts of a step, in device memory, so that a replayed graph reads others. */
struct step_state {
    uint32_t row_count;    /* n */
    uint32_t logits_count; /* m */
    uint32_t sequence_count;
    uint32_t block_table_stride;
    uint32_t decode_count; /* rows in attention_step.decode_rows */
    uint32_t tile_count;   /* tiles in attention_prefill_arguments.tiles */
    uint32_t reserved[2];
};

/* The step's data in device memory; all of it was written before anything that overlaps. */
struct attention_step {
    KERNEL_POINTER(const struct step_state) state;
    KERNEL_POINTER(const uint32_t) positions;    /* [n] */
    KERNEL_POINTER(const uint32_t) sequences;    /* [n] */
    KERNEL_POINTER(const uint32_t) block_tables; /* [sequence_count, block_table_stride] */
};

#define ROTARY_NONE        0u
#define ROTARY_INTERLEAVED 1u /* pairs (2i, 2i + 1) */
#define ROTARY_HALF        2u /* pairs (i, i + size / 2) */

/* From a row's raw projections to its query and to the cache. */
struct attention_projection {
    KERNEL_POINTER(const float) raw;         /* [n, (H + 2 K) D]: queries, keys, values */
    KERNEL_POINTER(const float) query_bias;  /* [H D] or none */
    KERNEL_POINTER(const float) key_bias;    /* [K D] or none */
    KERNEL_POINTER(const float) value_bias;  /* [K D] or none */
    KERNEL_POINTER(const float) query_norm;  /* [D] or none */
    KERNEL_POINTER(const float) key_norm;    /* [D] or none */
    KERNEL_POINTER(const float) frequencies; /* [rotary_size / 2], or none without rotary */
    float norm_epsilon;
    float norm_weight_offset;
    float magnitude; /* of sine and cosine */
    uint32_t rotary_kind;
    uint32_t rotary_size;
    uint32_t reserved;
};

struct qkv_finish_arguments {
    struct attention_step step;
    struct attention_projection projection;
    KERNEL_POINTER(void) query; /* [n, H D] of the cache's type; halves beside bytes */
    KERNEL_POINTER(void) cache; /* of this layer */
};

/* From the product of query and key to a score in units of log2: product · factor, or, when cap is
 * not 0, cap · tanh(product · cap_factor / (2 log2(e))). */
struct attention_score {
    float factor;     /* scale · log2(e) */
    float cap;        /* soft cap · log2(e) */
    float cap_factor; /* scale · 2 log2(e) / soft cap */
};

struct attention_decode_arguments {
    struct attention_step step;
    struct attention_projection projection;     /* fused kernel only */
    KERNEL_POINTER(const uint32_t) decode_rows; /* [decode_count] ascending; none: all rows */
    KERNEL_POINTER(const void) query;           /* [n, H D]; not read by the fused kernel */
    KERNEL_POINTER(void) cache;
    KERNEL_POINTER(void) attended;     /* [n, H D] of the activation type */
    KERNEL_POINTER(const float) sinks; /* [H] or none */
    KERNEL_POINTER(float) partials;    /* [rows, head tiles, groups, heads (D + 2)] */
    KERNEL_POINTER(uint32_t) arrivals; /* [rows, head tiles], zero between launches */
    struct attention_score score;
    uint32_t window;       /* 0: none */
    uint32_t group_stride; /* groups that fit in `partials` a row and head tile */
    uint32_t index_first;  /* of the launch's rows, when several share the partial sums in turn */
    uint32_t partitions_least; /* of a group, when a row has several */
};

/* Up to ATTENTION_TILE_ROWS consecutive rows of one sequence, positions ascending by 1. */
struct attention_tile {
    uint32_t row_begin;
    uint32_t row_count;
    uint32_t position; /* of row_begin */
    uint32_t sequence;
};

struct attention_prefill_arguments {
    struct attention_step step;
    KERNEL_POINTER(const struct attention_tile) tiles; /* [tile_count] */
    KERNEL_POINTER(const void) query;
    KERNEL_POINTER(const void) cache;
    KERNEL_POINTER(void) attended;
    KERNEL_POINTER(const float) sinks;
    struct attention_score score;
    uint32_t window; /* 0: none */
};

/* Copies whole cache blocks of all layers. */
struct copy_blocks_arguments {
    KERNEL_POINTER(void) cache;
    KERNEL_POINTER(const uint32_t) from; /* [count] */
    KERNEL_POINTER(const uint32_t) to;   /* [count] */
    uint64_t layer_bytes;                /* from one layer's cache to the next */
    uint64_t block_bytes;                /* of one layer; a multiple of 16 */
};

#endif
