/* Rows of quantised types that are read but not written: codes by chance. */
#ifndef RANDOM_BLOCKS_H
#define RANDOM_BLOCKS_H

#include "tensor/dtype.h"

/* Fills one row of `columns` columns with random codes, whose blocks have scales near `scale`. */
void random_blocks(enum dtype dtype, float scale, unsigned char *blocks, uint64_t columns);

/* The same with values whose root mean square is about `deviation`. */
void random_row(enum dtype dtype, float deviation, unsigned char *blocks, uint64_t columns);

#endif
