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

#endif
