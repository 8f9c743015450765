/* How the vector kernels of the quantised types keep their weights: LANES rows side by side, so
 * that a vector holds the same four columns of all of them.
 *
 * A group of `lanes` rows is three arrays, one after another, each padded to 64 bytes:
 *   halves  [block][halves][lanes]    f16: d, and where the type has one the minimum or dmin
 *   words   [block][words][lanes]     u32: the published small scales of a super-block
 *   planes  [step][vectors][lanes]    u32: bits of the codes; a step is 32 columns
 * so that a group takes as many bytes as the file, but for the padding — except for the types with
 * code books: their columns become indices of three or four bits into a table of the values that
 * the book is made of, which takes more memory (iq1 twice as much) and spares the search in the
 * book.
 *
 * The u32 of a row in vector v of a plane holds, in byte b, for quad q = four columns 4q … 4q + 3:
 *   plane of 8 bits  (8 vectors): code of column 4v + b, plus 128 for signed codes
 *   plane of 4 bits  (4 vectors): low nibble quad v, high nibble quad v + 4
 *   plane of 2 bits  (2 vectors): bits 2j, 2j + 1: quad 4v + j
 *   plane of 1 bit   (1 vector):  bit j: quad j
 * A type has one plane, or two planes whose codes are put together: 5 = 4 + 1 bits, 6 = 4 + 2,
 * 3 = 2 + 1. Codes are unsigned; `offset` is what they have too much. */
#ifndef CPU_LINEAR_Q_LAYOUT_H
#define CPU_LINEAR_Q_LAYOUT_H

#include "cpu/linear.h"

struct q_layout {
    unsigned block_steps;   /* 1 or 8 */
    unsigned halves, words; /* a row and block */
    unsigned bits;          /* of a code */
    int offset;             /* value = scale · (code − offset) + minimum */
    bool has_minimum;       /* a minimum with each scale */
    bool scale_16;          /* scales belong to 16 columns; otherwise to 32 */
    bool has_table;         /* codes of `bits` bits index q_table_of, whose bytes are the codes */
    unsigned code_max;      /* the largest code: of the table, or of `bits` bits */
    bool is_bf16;           /* halves are bf16: powers of two that f16 cannot hold */
};

/* The sixteen codes of a type with a table, from 0: the published values plus `offset`. */
static inline const uint8_t *q_table_of(enum dtype dtype)
{
    static const uint8_t iq4[16] = {0,   23,  44,  62,  78,  92,  105, 117,
                                    128, 140, 152, 165, 180, 196, 216, 240};
    static const uint8_t mxfp4[16] = {12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0};
    static const uint8_t iq3_xxs[16] = {66, 74, 82, 90, 98, 106, 114, 124,
                                        58, 50, 42, 34, 26, 18,  10,  0};
    static const uint8_t iq3_s[16] = {16, 18, 20, 22, 24, 26, 28, 30, 14, 12, 10, 8, 6, 4, 2, 0};
    static const uint8_t iq2[16] = {51, 68, 86, 0, 35, 18, 0};
    static const uint8_t iq1[16] = {0, 2, 8, 10, 16, 18};
    switch (dtype) {
    case DTYPE_IQ4_NL:
    case DTYPE_IQ4_XS:
        return iq4;
    case DTYPE_MXFP4:
        return mxfp4;
    case DTYPE_IQ3_XXS:
        return iq3_xxs;
    case DTYPE_IQ3_S:
        return iq3_s;
    case DTYPE_IQ2_XXS:
    case DTYPE_IQ2_XS:
    case DTYPE_IQ2_S:
        return iq2;
    default:
        return iq1;
    }
}

/* Folds to constants where `dtype` is one. */
static inline struct q_layout q_layout_of(enum dtype dtype)
{
    switch (dtype) {
    case DTYPE_Q4_0:
        return (struct q_layout){1, 1, 0, 4, 8, false, false, false, 15, false};
    case DTYPE_Q4_1:
        return (struct q_layout){1, 2, 0, 4, 0, true, false, false, 15, false};
    case DTYPE_Q5_0:
        return (struct q_layout){1, 1, 0, 5, 16, false, false, false, 31, false};
    case DTYPE_Q5_1:
        return (struct q_layout){1, 2, 0, 5, 0, true, false, false, 31, false};
    case DTYPE_Q8_0:
        return (struct q_layout){1, 1, 0, 8, 128, false, false, false, 255, false};
    case DTYPE_Q2_K:
        return (struct q_layout){8, 2, 4, 2, 0, true, true, false, 3, false};
    case DTYPE_Q3_K:
        return (struct q_layout){8, 1, 3, 3, 4, false, true, false, 7, false};
    case DTYPE_Q4_K:
        return (struct q_layout){8, 2, 3, 4, 0, true, false, false, 15, false};
    case DTYPE_Q5_K:
        return (struct q_layout){8, 2, 3, 5, 0, true, false, false, 31, false};
    case DTYPE_Q6_K:
        return (struct q_layout){8, 1, 4, 6, 32, false, true, false, 63, false};
    case DTYPE_IQ4_NL:
        return (struct q_layout){1, 1, 0, 4, 127, false, false, true, 240, false};
    case DTYPE_IQ4_XS:
        return (struct q_layout){8, 1, 2, 4, 127, false, false, true, 240, false};
    case DTYPE_MXFP4:
        return (struct q_layout){1, 1, 0, 4, 12, false, false, true, 24, true};
    case DTYPE_TQ1_0:
    case DTYPE_TQ2_0:
        return (struct q_layout){8, 1, 0, 2, 1, false, false, false, 3, false};
    case DTYPE_IQ3_XXS:
        return (struct q_layout){8, 1, 2, 4, 62, false, false, true, 124, false};
    case DTYPE_IQ3_S:
        return (struct q_layout){8, 1, 2, 4, 15, false, false, true, 30, false};
    case DTYPE_IQ2_XXS:
        return (struct q_layout){8, 1, 2, 3, 43, false, false, true, 86, false};
    case DTYPE_IQ2_XS:
    case DTYPE_IQ2_S:
        return (struct q_layout){8, 1, 4, 3, 43, false, true, true, 86, false};
    case DTYPE_IQ1_S:
        return (struct q_layout){8, 1, 2, 3, 9, false, false, true, 18, false};
    case DTYPE_IQ1_M:
        return (struct q_layout){8, 1, 4, 3, 9, false, true, true, 18, false};
    default:
        return (struct q_layout){0};
    }
}

/* What a type's f16 scale is multiplied with before its integer scales are: their unit. Exact. */
static inline float q_scale_unit(enum dtype dtype)
{
    switch (dtype) {
    case DTYPE_IQ2_XXS:
    case DTYPE_IQ2_XS:
    case DTYPE_IQ2_S:
    case DTYPE_IQ1_S:
    case DTYPE_IQ1_M:
        return 0.125f;
    case DTYPE_IQ3_XXS:
        return 0.25f;
    default:
        return 1.0f;
    }
}

/* Vectors of the planes of one step: a bit of the codes takes one. */
static inline unsigned q_layout_vectors(struct q_layout layout)
{
    return layout.bits;
}

/* Where the arrays of a group begin. */
struct q_group_offsets {
    uint64_t words, planes, end; /* bytes; the halves begin at 0 */
};

static inline struct q_group_offsets q_group_offsets_of(enum dtype dtype, unsigned lanes,
                                                        uint64_t columns)
{
    struct q_layout layout = q_layout_of(dtype);
    uint64_t steps = columns / 32;
    uint64_t blocks = steps / layout.block_steps;
    struct q_group_offsets offsets;
    offsets.words = (blocks * layout.halves * lanes * 2 + 63) / 64 * 64;
    offsets.planes = offsets.words + (blocks * layout.words * lanes * 4 + 63) / 64 * 64;
    offsets.end = offsets.planes + (steps * q_layout_vectors(layout) * lanes * 4 + 63) / 64 * 64;
    return offsets;
}

/* The kernel table's packed_bytes and pack, for any quantised type and 8 or 16 lanes. */
uint64_t linear_q_packed_bytes(enum dtype dtype, unsigned lanes, uint64_t rows, uint64_t columns);
void linear_q_pack(enum dtype dtype, unsigned lanes, const void *source, uint64_t rows,
                   uint64_t columns, uint64_t row_begin, uint64_t row_end, void *packed);

#endif
