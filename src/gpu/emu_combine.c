/* Owns what the lanes of an emulated warp make together: matrix products, sums and maxima of the
 * words in a mailbox. Here and not in the kernels' text, so that it is compiled once, and well: a
 * kernel is compiled again for every model. It must not know who waits for whom. */
#include <string.h>

#include "gpu/emu_combine.h"

/* The address sanitizer has nothing to find in what follows: every index is a constant or runs to
 * one, and no address comes from a kernel. */
#define WORDS_ONLY __attribute__((no_sanitize_address))

typedef uint32_t words4 __attribute__((vector_size(16)));
typedef int32_t ints4 __attribute__((vector_size(16)));
typedef float floats4 __attribute__((vector_size(16)));

/* Layouts of fragments: PTX ISA, mma.m16n8k16 and mma.m16n8k32. */
#define ROWS    16u
#define COLUMNS 8u

WORDS_ONLY static inline float float_of(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* The upper half of a word counts. As float_of_f16 of vendor_emu.cuh, in fours. */
WORDS_ONLY static inline floats4 floats_of_f16(words4 bits)
{
    const floats4 scaled = (floats4)((bits >> 16 & 0x7fffu) << 13) * 0x1p112f;
    const words4 special = (words4)((bits & 0x7c000000u) == 0x7c000000u) & 0x7f800000u;
    return (floats4)((words4)scaled | special | (bits & 0x80000000u));
}

WORDS_ONLY static inline floats4 floats_of_upper(words4 bits, bool is_bf16)
{
    return is_bf16 ? (floats4)(bits & 0xffff0000u) : floats_of_f16(bits);
}

/* D + A·B in float32 with k ascending. Rows of B and D are two vectors. */
WORDS_ONLY static inline void multiply_halves(struct emu_mailbox *box, bool is_bf16)
{
    float a[ROWS][16];
    floats4 b[16][2];
    floats4 d[ROWS][2];
    for (uint32_t lane = 0; lane < 32; lane++) {
        const uint32_t row = lane / 4;
        const uint32_t column = lane % 4 * 2;
        const uint32_t *from = box->words[lane];
        const words4 of_a = {from[0], from[1], from[2], from[3]};
        const words4 of_b = {from[4], from[5], 0, 0};
        for (uint32_t half = 0; half < 2; half++) {
            const uint32_t shift = 16 - 16 * half;
            const floats4 in_a = floats_of_upper(of_a << shift, is_bf16);
            const floats4 in_b = floats_of_upper(of_b << shift, is_bf16);
            a[row][column + half] = in_a[0];
            a[row + 8][column + half] = in_a[1];
            a[row][column + 8 + half] = in_a[2];
            a[row + 8][column + 8 + half] = in_a[3];
            b[column + half][row / 4][row % 4] = in_b[0];
            b[column + 8 + half][row / 4][row % 4] = in_b[1];
        }
        for (uint32_t i = 0; i < 4; i++) {
            d[row + i / 2 * 8][column / 4][column % 4 + i % 2] = float_of(from[6 + i]);
        }
    }
    for (uint32_t row = 0; row < ROWS; row++) {
        floats4 low = d[row][0];
        floats4 high = d[row][1];
        for (uint32_t k = 0; k < 16; k++) {
            low += a[row][k] * b[k][0];
            high += a[row][k] * b[k][1];
        }
        d[row][0] = low;
        d[row][1] = high;
    }
    memcpy(box->tile, d, sizeof d);
}

/* D + A·B of unsigned and signed bytes. */
WORDS_ONLY static void multiply_bytes(struct emu_mailbox *box)
{
    int32_t a[ROWS][32];
    ints4 b[32][2];
    int32_t d[ROWS][COLUMNS];
    for (uint32_t lane = 0; lane < 32; lane++) {
        const uint32_t *words = box->words[lane];
        const uint32_t row = lane / 4;
        for (uint32_t i = 0; i < 4; i++) {
            const uint32_t k = lane % 4 * 4 + i;
            const uint32_t shift = 8 * i;
            a[row][k] = (int32_t)(words[0] >> shift & 0xff);
            a[row + 8][k] = (int32_t)(words[1] >> shift & 0xff);
            a[row][k + 16] = (int32_t)(words[2] >> shift & 0xff);
            a[row + 8][k + 16] = (int32_t)(words[3] >> shift & 0xff);
            b[k][row / 4][row % 4] = (int8_t)(words[4] >> shift);
            b[k + 16][row / 4][row % 4] = (int8_t)(words[5] >> shift);
            d[row + i / 2 * 8][lane % 4 * 2 + i % 2] = (int32_t)words[6 + i];
        }
    }
    for (uint32_t row = 0; row < ROWS; row++) {
        ints4 sum[2] = {{0}, {0}};
        for (uint32_t k = 0; k < 32; k++) {
            sum[0] += a[row][k] * b[k][0];
            sum[1] += a[row][k] * b[k][1];
        }
        for (uint32_t i = 0; i < COLUMNS; i++) { /* one by one: an overflow is to be seen */
            d[row][i] += sum[i / 4][i % 4];
        }
    }
    memcpy(box->tile, d, sizeof d);
}

/* The larger ones, as fmaxf: NaN is missing data. */
WORDS_ONLY static inline floats4 larger_of(floats4 a, floats4 b)
{
    const words4 is_a = (words4)(a >= b) | (words4)(b != b);
    return (floats4)(((words4)a & is_a) | ((words4)b & ~is_a));
}

/* The butterfly of warp_shuffle_xor with masks 16, 8, 4, 2, 1, of which all lanes get the same. */
WORDS_ONLY static inline void reduce(struct emu_mailbox *box, bool is_sum)
{
    floats4 values[8];
    for (uint32_t i = 0; i < 8; i++) {
        const words4 bits = {box->words[4 * i][0], box->words[4 * i + 1][0],
                             box->words[4 * i + 2][0], box->words[4 * i + 3][0]};
        values[i] = (floats4)bits;
    }
    for (uint32_t mask = 4; mask; mask /= 2) {
        for (uint32_t i = 0; i < mask; i++) {
            const floats4 a = values[i];
            const floats4 b = values[i + mask];
            values[i] = is_sum ? a + b : larger_of(a, b);
        }
    }
    for (int mask = 2; mask; mask /= 2) {
        const floats4 a = values[0];
        const floats4 b =
            mask == 2 ? (floats4){a[2], a[3], a[0], a[1]} : (floats4){a[1], a[0], a[3], a[2]};
        values[0] = is_sum ? a + b : larger_of(a, b);
    }
    box->tile[0] = values[0][0];
}

void emu_combine_words(struct emu_mailbox *box, enum emu_combine how)
{
    switch (how) {
    case EMU_MMA_F16:
        multiply_halves(box, false);
        break;
    case EMU_MMA_BF16:
        multiply_halves(box, true);
        break;
    case EMU_MMA_BYTES:
        multiply_bytes(box);
        break;
    case EMU_WARP_SUM:
        reduce(box, true);
        break;
    case EMU_WARP_MAX:
        reduce(box, false);
        break;
    }
}
