/* The readers of types with code tables and code books, for the table in quant_read.c, and what
 * packing wants to know of their blocks. */
#ifndef TENSOR_QUANT_READ_BOOK_H
#define TENSOR_QUANT_READ_BOOK_H

#include "tensor/quant_read.h"

quant_read_function quant_read_iq4_nl, quant_read_iq4_xs, quant_read_mxfp4;
quant_read_function quant_read_tq1_0, quant_read_tq2_0;
quant_read_function quant_read_iq2_xxs, quant_read_iq2_xs, quant_read_iq2_s;
quant_read_function quant_read_iq3_xxs, quant_read_iq3_s;
quant_read_function quant_read_iq1_s, quant_read_iq1_m;

/* The sixteen values that a nibble stands for in iq4_nl and iq4_xs, and in mxfp4 (doubled e2m1 of
 * the OCP Microscaling specification 1.0). */
extern const int8_t quant_values_iq4[16];
extern const int8_t quant_values_mxfp4[16];

/* The bits of a block's f16 `d`, wherever it lies. */
uint16_t quant_book_half(enum dtype dtype, const void *block);

/* A block's scale as these readers multiply it with the integers of quant_book_scale: the f16 `d`
 * times the type's power of two. Exact. For the types of super-blocks with small scales. */
float quant_book_d(enum dtype dtype, const void *block);

/* The integer scale of 16 columns (0…15) of a block: the two of a step are equal where the type has
 * one for 32 columns. */
int quant_book_scale(enum dtype dtype, const void *block, unsigned index);

/* 2^(e − 128): the scale of an mxfp4 block for doubled values. */
float quant_e8m0_half(uint8_t e);

#endif
