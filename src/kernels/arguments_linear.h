/* What the kernels around linear layers are launched with: plain structs that C fills and the
 * kernel text reads. Joined to the text, where KERNEL_POINTER is defined before and makes real
 * pointers; in C an address of device memory is an integer. 0 means "none" where a comment says "or
 * none". `count` points to the number of rows, which a replayed graph reads anew: rows beyond it
 * are left alone. Axis letters: docs/GLOSSARY.md. */
#ifndef KERNELS_ARGUMENTS_LINEAR_H
#define KERNELS_ARGUMENTS_LINEAR_H

#ifndef KERNEL_POINTER
#include <stdint.h>
#define KERNEL_POINTER(type) uint64_t
#endif
#ifdef __cplusplus
#define KERNEL_ALIGNED(bytes) alignas(bytes)
#else
#define KERNEL_ALIGNED(bytes) _Alignas(bytes)
#endif

/* Which boxes of a matrix the word tensor_copy brings, as the driver's tensor_map makes it. A
 * kernel's parameter that has it is KERNEL_CONSTANT. */
struct tensor_map {
    KERNEL_ALIGNED(64) uint64_t words[16];
};

/* residual[row] = scale · embedding[token of row] */
struct embed_arguments {
    KERNEL_POINTER(const uint32_t) count;
    KERNEL_POINTER(const uint32_t) tokens;
    KERNEL_POINTER(const uint8_t) weight; /* [V] rows of row_bytes */
    KERNEL_POINTER(float) residual;       /* [n, columns] */
    uint64_t row_bytes;
    uint32_t columns;
    float scale;
};

/* residual_to[i] = residual[rows[i]], attended_to[i] = attended[rows[i]], in words of 4 bytes */
struct gather_arguments {
    KERNEL_POINTER(const uint32_t) count;
    KERNEL_POINTER(const uint32_t) rows;
    KERNEL_POINTER(const uint32_t) residual;
    KERNEL_POINTER(const uint32_t) attended;
    KERNEL_POINTER(uint32_t) residual_to;
    KERNEL_POINTER(uint32_t) attended_to;
    uint32_t residual_words; /* of a row */
    uint32_t attended_words;
};

#define NORM_RMS   0u
#define NORM_LAYER 1u

struct norm_parameters {
    KERNEL_POINTER(const float) weight;
    KERNEL_POINTER(const float) bias; /* or none */
    float epsilon;
    float weight_offset;
    uint32_t kind; /* NORM_* */
    uint32_t width;
};

/* output[i] = norm(input[rows[i]]), as activations or as floats */
struct norm_arguments {
    KERNEL_POINTER(const uint32_t) count;
    KERNEL_POINTER(const uint32_t) rows; /* or none: i itself */
    KERNEL_POINTER(const float) input;   /* [n, width] */
    KERNEL_POINTER(void) output;         /* [count, width] */
    struct norm_parameters norm;
};

#define LINEAR_STORE 0u
#define LINEAR_ADD   1u /* output += */

/* output[t, r] = cap(scale · (Σ_k weight[r, k] · input[t, k] + bias[r])) */
struct linear_plain_arguments {
    KERNEL_POINTER(const uint32_t) count;
    KERNEL_POINTER(const uint8_t) weight; /* rows of row_bytes, as published */
    KERNEL_POINTER(const void) input;     /* [n, columns] activations */
    KERNEL_POINTER(float) output;         /* [n] rows, output_stride elements apart */
    KERNEL_POINTER(const float) bias;     /* [rows] or none */
    uint64_t row_bytes;
    uint32_t rows;
    uint32_t columns;
    uint32_t output_stride;
    uint32_t mode; /* LINEAR_* */
    float scale;
    float soft_cap; /* 0: none */
};

/* output[r] = weight[r], as activations */
struct dequantize_arguments {
    KERNEL_POINTER(const uint8_t) weight; /* rows of row_bytes, as published */
    KERNEL_POINTER(void) output;          /* [rows, columns] activations */
    uint64_t row_bytes;
    uint32_t columns;
    uint32_t reserved;
};

/* output = the rows of weight in the order of packed_formats.cuh */
struct repack_arguments {
    KERNEL_POINTER(const uint8_t) weight; /* [rows] of row_bytes, as published */
    KERNEL_POINTER(void) output;          /* tiles of sixteen rows */
    uint64_t row_bytes;
    uint32_t rows;
    uint32_t reserved;
};

#define ACTIVATION_SILU      0u
#define ACTIVATION_GELU_TANH 1u
#define ACTIVATION_GELU_ERF  2u
#define ACTIVATION_CLAMPED   3u /* of gate and up together: experts.cu alone */

#define DECODE_PARTS_MAX 3u

/* A linear layer of few rows whose weights are 16-bit, row after row, padded to sixteens. */
struct linear_decode_arguments {
    KERNEL_POINTER(const uint32_t) count;
    KERNEL_POINTER(const void) weights[DECODE_PARTS_MAX]; /* [rows, COLUMNS] */
    KERNEL_POINTER(const void) input;        /* activations [n, COLUMNS], or floats to be normed */
    KERNEL_POINTER(const float) norm_weight; /* when the norm is fused */
    KERNEL_POINTER(void) output;             /* floats, or activations of pairs */
    uint32_t rows[DECODE_PARTS_MAX];         /* of the parts, side by side in the output */
    uint32_t output_stride;                  /* elements from one row to the next */
    float norm_epsilon;
    float norm_weight_offset;
    /* Columns of 32 lie as the lanes of the next layer of few rows want them (staged_column): of
     * the activations that come in, and of those that a pair makes. */
    uint32_t input_is_staged;
    uint32_t output_is_staged;
};

/* A linear layer of many rows, weights row after row. */
struct linear_wide_arguments {
    KERNEL_POINTER(const uint32_t) count;
    KERNEL_POINTER(const void) weights[DECODE_PARTS_MAX]; /* [rows, columns]; of a pair gate, up */
    KERNEL_POINTER(const void) input;                     /* activations [n, columns] */
    KERNEL_POINTER(void) output;                          /* floats, or activations of pairs */
    uint64_t row_bytes;                                   /* of quantised weights */
    uint32_t rows[DECODE_PARTS_MAX]; /* of the parts, side by side in the output */
    uint32_t columns;
    uint32_t output_stride; /* elements from one row to the next */
    uint32_t kind;          /* LINEAR_*; of a pair ACTIVATION_* */
};

/* The same of linear_quads.cu. Boxes are of 64 columns; of a weight as many rows as a tile has, of
 * a pair eight of gate and eight of up in turn; of x a tile's. */
struct linear_quad_arguments {
    struct linear_wide_arguments linear;
    KERNEL_POINTER(float) partials;              /* sums of ranges of shared tiles */
    KERNEL_POINTER(uint32_t) arrivals;           /* [tiles], zero between launches */
    uint32_t splits;                             /* blocks that share a tile, by its ranges */
    uint32_t is_swapped;                         /* of a pair: up comes first */
    struct tensor_map weights[DECODE_PARTS_MAX]; /* of a pair one */
    struct tensor_map input;
};

/* Rows that one expert gets, at most as many as a block of a kernel takes. */
struct expert_tile {
    uint32_t expert;
    uint32_t begin; /* in the list of places */
    uint32_t count;
    uint32_t reserved;
};

/* What makes a linear layer one of experts: each block takes a tile of rows, and the weights of its
 * expert. A place is a row and one of its experts, row · used + which; rows of the output are
 * places. */
struct linear_group {
    KERNEL_POINTER(const struct expert_tile) tiles;
    KERNEL_POINTER(const uint32_t) tile_count;
    KERNEL_POINTER(const uint32_t) places; /* sorted by expert */
    uint64_t expert_bytes;                 /* from one expert's weights to the next one's */
    uint32_t divisor;                      /* places a row of the input */
    uint32_t expert_first, expert_count;   /* tiles of others are left alone */
    uint32_t reserved;
};

struct linear_plain_group_arguments {
    struct linear_plain_arguments linear;
    struct linear_group group;
};

struct linear_decode_group_arguments {
    struct linear_decode_arguments linear;
    struct linear_group group;
};

struct linear_wide_group_arguments {
    struct linear_wide_arguments linear;
    struct linear_group group;
};

/* hidden[t, i] = activation(gate[t, i]) · up[t, i], or activation(up[t, i]) */
struct activate_arguments {
    KERNEL_POINTER(const uint32_t) count;
    KERNEL_POINTER(const float) raw;       /* [n] rows: gate [width], up [width]; or up alone */
    KERNEL_POINTER(const float) gate_bias; /* or none */
    KERNEL_POINTER(const float) up_bias;   /* or none */
    KERNEL_POINTER(void) hidden;           /* [n, width] activations */
    uint32_t width;
    uint32_t is_gated;
    uint32_t kind; /* ACTIVATION_* */
    uint32_t reserved;
};

/* residual[t] += norm(product[t] + bias) */
struct project_finish_arguments {
    KERNEL_POINTER(const uint32_t) count;
    KERNEL_POINTER(const float) product; /* [n, width] */
    KERNEL_POINTER(const float) bias;    /* [width] or none */
    KERNEL_POINTER(float) residual;      /* [n, width] */
    struct norm_parameters norm;         /* weight none: no norm */
};

/* logits[i] = cap(scale · (logits[i] + bias)) in place */
struct logits_finish_arguments {
    KERNEL_POINTER(const uint32_t) count;
    KERNEL_POINTER(float) logits;     /* [m, width] */
    KERNEL_POINTER(const float) bias; /* [width] or none */
    uint32_t width;
    float scale;
    float soft_cap;
    uint32_t reserved;
};

#endif
