/* The code books of the IQ types: an index of a block names eight (or four) magnitudes at once. */
#ifndef TENSOR_QUANT_BOOKS_H
#define TENSOR_QUANT_BOOKS_H

#include <stdint.h>

/* Eight fields of two bits: 8, 25, 43 for iq2; −1, 0, 1 for iq1 (both of its types). */
extern const uint16_t quant_book_iq2_xxs[256];
extern const uint16_t quant_book_iq2_xs[512];
extern const uint16_t quant_book_iq2_s[1024];
extern const uint16_t quant_book_iq1[2048];
/* Four fields of three bits: 4, 12, 20, 28, 36, 44, 52, 62 for iq3_xxs; 2f + 1 for iq3_s. */
extern const uint16_t quant_book_iq3_xxs[256];
extern const uint16_t quant_book_iq3_s[512];

#endif
