/* The packed layout of the plain types, shared by all vector levels: groups of 32 rows, and in a
 * group, column after column, the 32 values of that column side by side:
 *
 *     [row / 32][column][row % 32]
 *
 * A vector of rows is multiplied with one broadcast activation, so that a row's sum runs over the
 * columns in order and needs no sum across a vector; and a group is one stream in memory. */
#ifndef CPU_LINEAR_FLOAT_PACK_H
#define CPU_LINEAR_FLOAT_PACK_H

#include <stdint.h>

#define LINEAR_FLOAT_ROWS 32u

/* Sums are cut every so many columns: each piece is summed by itself and added to the sum so far.
 * The cut is part of the kernels' meaning (the same for one token and for many); it keeps a piece
 * of weights and activations in the first-level cache and rounding errors small. */
#define LINEAR_FLOAT_DEPTH 256u

uint64_t linear_packed_bytes_2(uint64_t rows, uint64_t columns);
uint64_t linear_packed_bytes_4(uint64_t rows, uint64_t columns);
void linear_pack_2(const void *source, uint64_t rows, uint64_t columns, uint64_t row_begin,
                   uint64_t row_end, void *packed);
void linear_pack_4(const void *source, uint64_t rows, uint64_t columns, uint64_t row_begin,
                   uint64_t row_end, void *packed);
/* Two-byte elements with pairs of columns side by side, [row / 32][column / 2][row % 32][column %
 * 2], for instructions that multiply pairs. `columns` is even. As many bytes as
 * linear_packed_bytes_2. */
void linear_pack_pairs(const void *source, uint64_t rows, uint64_t columns, uint64_t row_begin,
                       uint64_t row_end, void *packed);

#endif
