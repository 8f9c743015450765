/* Owns the packing of plain types, see linear_float_pack.h. Bytes are moved, never converted.
 * Stateless. */
#include "cpu/linear_float_pack.h"

#include <string.h>

/* Columns moved at a time, so that the 32 rows' pieces stay in the first-level cache. */
#define STRIP 32u

static uint64_t packed_bytes(uint64_t rows, uint64_t columns, uint64_t element)
{
    return (rows + LINEAR_FLOAT_ROWS - 1) / LINEAR_FLOAT_ROWS * LINEAR_FLOAT_ROWS * columns *
           element;
}

uint64_t linear_packed_bytes_2(uint64_t rows, uint64_t columns)
{
    return packed_bytes(rows, columns, 2);
}

uint64_t linear_packed_bytes_4(uint64_t rows, uint64_t columns)
{
    return packed_bytes(rows, columns, 4);
}

/* One group's columns [begin, end); `rows` of the 32 exist. */
static inline void pack_strip(const unsigned char *source, uint64_t rows, uint64_t columns,
                              uint64_t begin, uint64_t end, uint64_t element, unsigned char *packed)
{
    for (uint64_t row = 0; row < rows; row++) {
        const unsigned char *from = source + (row * columns + begin) * element;
        unsigned char *to = packed + (begin * LINEAR_FLOAT_ROWS + row) * element;
        for (uint64_t k = begin; k < end; k++) {
            memcpy(to, from, element);
            from += element;
            to += LINEAR_FLOAT_ROWS * element;
        }
    }
    for (uint64_t k = begin; rows < LINEAR_FLOAT_ROWS && k < end; k++) {
        memset(packed + (k * LINEAR_FLOAT_ROWS + rows) * element, 0,
               (LINEAR_FLOAT_ROWS - rows) * element);
    }
}

static inline void pack(const void *source, uint64_t rows, uint64_t columns, uint64_t row_begin,
                        uint64_t row_end, void *packed, uint64_t element)
{
    (void)rows;
    for (uint64_t row = row_begin; row < row_end; row += LINEAR_FLOAT_ROWS) {
        uint64_t count = row_end - row < LINEAR_FLOAT_ROWS ? row_end - row : LINEAR_FLOAT_ROWS;
        const unsigned char *from = (const unsigned char *)source + row * columns * element;
        unsigned char *to = (unsigned char *)packed + row * columns * element;
        for (uint64_t k = 0; k < columns; k += STRIP) {
            uint64_t end = columns - k < STRIP ? columns : k + STRIP;
            pack_strip(from, count, columns, k, end, element, to);
        }
    }
}

void linear_pack_2(const void *source, uint64_t rows, uint64_t columns, uint64_t row_begin,
                   uint64_t row_end, void *packed)
{
    pack(source, rows, columns, row_begin, row_end, packed, 2);
}

void linear_pack_4(const void *source, uint64_t rows, uint64_t columns, uint64_t row_begin,
                   uint64_t row_end, void *packed)
{
    pack(source, rows, columns, row_begin, row_end, packed, 4);
}

/* A pair of two-byte columns is an element of four bytes. */
void linear_pack_pairs(const void *source, uint64_t rows, uint64_t columns, uint64_t row_begin,
                       uint64_t row_end, void *packed)
{
    pack(source, rows, columns / 2, row_begin, row_end, packed, 4);
}
