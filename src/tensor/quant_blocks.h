/* The quantised blocks of GGUF as structs, byte for byte as published: little-endian, no holes,
 * alignment 1 because a file promises no more. `d` and `dmin` are f16 bits. Only the sources of
 * this room and the packing of kernels look inside a block. */
#ifndef TENSOR_QUANT_BLOCKS_H
#define TENSOR_QUANT_BLOCKS_H

#include <stdint.h>

#define QUANT_PACKED __attribute__((packed))

/* Blocks of 32 values. Nibble i: low half is value i, high half is value i + 16. */
struct QUANT_PACKED block_q4_0 {
    uint16_t d;
    uint8_t nibbles[16]; /* value = d · (nibble − 8) */
};

struct QUANT_PACKED block_q4_1 {
    uint16_t d;
    uint16_t minimum;
    uint8_t nibbles[16]; /* value = d · nibble + minimum */
};

struct QUANT_PACKED block_q5_0 {
    uint16_t d;
    uint8_t fifth[4]; /* bit i: the fifth bit of value i */
    uint8_t nibbles[16];
};

struct QUANT_PACKED block_q5_1 {
    uint16_t d;
    uint16_t minimum;
    uint8_t fifth[4];
    uint8_t nibbles[16];
};

struct QUANT_PACKED block_q8_0 {
    uint16_t d;
    int8_t values[32];
};

/* Super-blocks of 256 values, cut into sub-blocks of 16 or 32 with small integer scales. */
struct QUANT_PACKED block_q2_k {
    uint8_t scales[16]; /* sub-blocks of 16: low nibble scale, high nibble minimum */
    uint8_t pairs[64];  /* byte 32·h + i, bits 2c…: value 128·h + 32·c + i */
    uint16_t d;
    uint16_t dmin;
};

struct QUANT_PACKED block_q3_k {
    uint8_t third[32];  /* byte i, bit b: set when value 32·b + i has its third bit */
    uint8_t pairs[64];  /* as in q2_k */
    uint8_t scales[12]; /* sixteen 6-bit scales, see quant_read.c */
    uint16_t d;
};

struct QUANT_PACKED block_q4_k {
    uint16_t d;
    uint16_t dmin;
    uint8_t scales[12];   /* eight 6-bit scales and minima, see quant_read.c */
    uint8_t nibbles[128]; /* byte 32·g + i: low value 64·g + i, high value 64·g + 32 + i */
};

struct QUANT_PACKED block_q5_k {
    uint16_t d;
    uint16_t dmin;
    uint8_t scales[12];
    uint8_t fifth[32]; /* byte i, bit b: the fifth bit of value 32·b + i */
    uint8_t nibbles[128];
};

struct QUANT_PACKED block_q6_k {
    uint8_t nibbles[128]; /* byte 64·h + i: low value 128·h + i, high value 128·h + 64 + i */
    uint8_t pairs[64];    /* as in q2_k: the two upper bits */
    int8_t scales[16];
    uint16_t d;
};

/* Types whose nibbles index a table of sixteen values (quant_read_book.h). */
struct QUANT_PACKED block_iq4_nl {
    uint16_t d;
    uint8_t nibbles[16]; /* as in q4_0 */
};

struct QUANT_PACKED block_iq4_xs {
    uint16_t d;
    uint8_t scales_high[2]; /* bits 2j…: upper bits of the 6-bit scale of sub-block j */
    uint8_t scales_low[4];  /* nibbles: the lower four */
    uint8_t nibbles[128];   /* sub-blocks of 32, each as in q4_0 */
};

/* Ours, in no file: values of e4m3 with a float32 scale. */
struct QUANT_PACKED block_f8 {
    uint8_t scale[4];
    uint8_t values[128];
};

struct QUANT_PACKED block_mxfp4 {
    uint8_t e; /* scale 2^(e − 127) */
    uint8_t nibbles[16];
};

/* Ternary types: value = d · (−1, 0 or 1). */
struct QUANT_PACKED block_tq1_0 {
    uint8_t fives[48]; /* five digits of base three a byte, see quant_read_book.c */
    uint8_t fours[4];
    uint16_t d;
};

struct QUANT_PACKED block_tq2_0 {
    uint8_t pairs[64]; /* as in q2_k */
    uint16_t d;
};

/* Types with code books (quant_books.h); 8 columns an index, 4 for iq3. */
struct QUANT_PACKED block_iq2_xxs {
    uint16_t d;
    uint8_t codes[64]; /* a sub-block of 32: four indices, then u32: 4 × 7 sign bits, 4-bit scale */
};

struct QUANT_PACKED block_iq2_xs {
    uint16_t d;
    uint8_t codes[64]; /* u16 for 8 columns: 9 bits of index, 7 of signs */
    uint8_t scales[8]; /* nibbles, for 16 columns each */
};

struct QUANT_PACKED block_iq2_s {
    uint16_t d;
    uint8_t codes[32];
    uint8_t signs[32];
    uint8_t high[8]; /* two upper bits of four indices */
    uint8_t scales[8];
};

struct QUANT_PACKED block_iq3_xxs {
    uint16_t d;
    uint8_t codes[64];
    uint8_t signs[32]; /* u32 for 32 columns: 4 × 7 sign bits, 4-bit scale */
};

struct QUANT_PACKED block_iq3_s {
    uint16_t d;
    uint8_t codes[64];
    uint8_t high[8]; /* the ninth bit of eight indices */
    uint8_t signs[32];
    uint8_t scales[4]; /* nibbles, for 32 columns each */
};

struct QUANT_PACKED block_iq1_s {
    uint16_t d;
    uint8_t codes[32];
    uint8_t high[16]; /* u16 for 32 columns: 4 × 3 upper bits, 3-bit scale, sign of the eighth */
};

struct QUANT_PACKED block_iq1_m {
    uint8_t codes[32];
    uint8_t high[16];  /* nibbles for 8 columns: 3 upper bits, sign of the eighth */
    uint8_t scales[8]; /* four u16: 4 × 3-bit scale, and a quarter of d */
};

_Static_assert(sizeof(struct block_q4_0) == 18, "q4_0 as published");
_Static_assert(sizeof(struct block_q4_1) == 20, "q4_1 as published");
_Static_assert(sizeof(struct block_q5_0) == 22, "q5_0 as published");
_Static_assert(sizeof(struct block_q5_1) == 24, "q5_1 as published");
_Static_assert(sizeof(struct block_q8_0) == 34, "q8_0 as published");
_Static_assert(sizeof(struct block_q2_k) == 84, "q2_k as published");
_Static_assert(sizeof(struct block_q3_k) == 110, "q3_k as published");
_Static_assert(sizeof(struct block_q4_k) == 144, "q4_k as published");
_Static_assert(sizeof(struct block_q5_k) == 176, "q5_k as published");
_Static_assert(sizeof(struct block_q6_k) == 210, "q6_k as published");
_Static_assert(sizeof(struct block_iq4_nl) == 18, "iq4_nl as published");
_Static_assert(sizeof(struct block_iq4_xs) == 136, "iq4_xs as published");
_Static_assert(sizeof(struct block_f8) == 132, "a scale and 128 values");
_Static_assert(sizeof(struct block_mxfp4) == 17, "mxfp4 as published");
_Static_assert(sizeof(struct block_tq1_0) == 54, "tq1_0 as published");
_Static_assert(sizeof(struct block_tq2_0) == 66, "tq2_0 as published");
_Static_assert(sizeof(struct block_iq2_xxs) == 66, "iq2_xxs as published");
_Static_assert(sizeof(struct block_iq2_xs) == 74, "iq2_xs as published");
_Static_assert(sizeof(struct block_iq2_s) == 82, "iq2_s as published");
_Static_assert(sizeof(struct block_iq3_xxs) == 98, "iq3_xxs as published");
_Static_assert(sizeof(struct block_iq3_s) == 110, "iq3_s as published");
_Static_assert(sizeof(struct block_iq1_s) == 50, "iq1_s as published");
_Static_assert(sizeof(struct block_iq1_m) == 56, "iq1_m as published");

#endif
