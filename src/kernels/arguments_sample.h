/* What the kernels of sample.cu are launched with; see arguments_linear.h for how these structs are
 * shared. Everything that differs from one request to the next is data in the step's memory, so
 * that a captured step serves any settings. */
#ifndef KERNELS_ARGUMENTS_SAMPLE_H
#define KERNELS_ARGUMENTS_SAMPLE_H

#ifndef KERNEL_POINTER
#include <stdint.h>
#define KERNEL_POINTER(type) uint64_t
#endif

#define SAMPLE_BLOCK      64u   /* logits whose largest is kept */
#define SAMPLE_BLOCKS_MAX 4352u /* of a row: a vocabulary of 278,528 */
#define SAMPLE_SLICES     32u   /* thread blocks that scan a row */
#define SAMPLE_TOP_MAX    20u

/* chosen[i] when there is no token: a logit is not finite, or every token is forbidden */
#define SAMPLE_NONE    0xFFFFFFFFu
#define SAMPLE_REFUSED 0xFFFFFFFEu

/* sample_row.flags */
#define SAMPLE_ON_HOST  1u /* the row is left alone */
#define SAMPLE_LOGPROBS 2u
#define SAMPLE_WEIGH    4u /* blocks are weighed too: the mass of the whole vocabulary is needed */

/* Kinds of edits, in their order; a token at most once a kind. */
#define SAMPLE_EDIT_PENALISE 0u /* divided by `repetition`, or multiplied; then − amount */
#define SAMPLE_EDIT_LOWER    1u /* − amount */
#define SAMPLE_EDIT_ADD      2u /* + amount, −infinity forbids */
#define SAMPLE_EDIT_FORBID   3u
#define SAMPLE_EDIT_KINDS    4u

struct sample_edit {
    uint32_t token;
    uint32_t original; /* written by the kernel: the bits before */
    double amount;
};

/* Offsets are bytes from the begin of the step's data. */
struct sample_row {
    uint64_t seed;
    uint64_t edits; /* sample_edit [edit_ends[3]], ordered by kind */
    uint64_t mask;  /* uint32_t [V / 32, rounded up], a bit a token that is allowed; 0: all are */
    double repetition, top_p, typical_p, min_p;
    double min_p_depth; /* temperature · log(min_p), with some slack: where min-p alone cuts */
    float inverse;      /* 1 / temperature; 0: greedy */
    uint32_t position;
    uint32_t top_k;                        /* 0: all */
    uint32_t edit_ends[SAMPLE_EDIT_KINDS]; /* where each kind's edits end */
    uint32_t flags;
    uint32_t top_count; /* alternatives with log-probabilities */
    uint32_t reserved;
};

struct sample_top {
    uint32_t token;
    float logprob;
};

struct sample_logprob {
    uint32_t token;
    float logprob;
    uint32_t rank;
    uint32_t top_count;
    struct sample_top top[SAMPLE_TOP_MAX];
};

struct sample_arguments {
    KERNEL_POINTER(const uint32_t) count;          /* m */
    KERNEL_POINTER(uint8_t) step;                  /* the step's data: edits and masks */
    KERNEL_POINTER(const struct sample_row) rows;  /* [m] */
    KERNEL_POINTER(float) logits;                  /* [m, width] */
    KERNEL_POINTER(float) block_max;               /* [m, blocks] */
    KERNEL_POINTER(float) block_sum;               /* [m, blocks] */
    KERNEL_POINTER(float) slices;                  /* [m, SAMPLE_SLICES] largest; NaN: not finite */
    KERNEL_POINTER(uint32_t) chosen;               /* [m] */
    KERNEL_POINTER(struct sample_logprob) results; /* [m] of rows that want them */
    uint32_t width;                                /* V */
    uint32_t blocks;                               /* V / SAMPLE_BLOCK, rounded up */
};

#endif
