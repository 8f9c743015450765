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

typedef uint16_t halves __attribute__((vector_size(16)));
typedef uint32_t words __attribute__((vector_size(16)));

/* Eight rows of eight two-byte columns become eight columns: three times, the first and the second
 * half of what there is are put together like a zip. */
static inline void pack_square_2(const unsigned char *source, uint64_t row_bytes,
                                 unsigned char *packed)
{
    halves a[8];
    halves b[8];
    for (unsigned i = 0; i < 8; i++) {
        memcpy(&a[i], source + i * row_bytes, sizeof a[i]);
    }
    for (unsigned stage = 0; stage < 3; stage++) {
        for (unsigned i = 0; i < 4; i++) {
            b[2 * i] = __builtin_shufflevector(a[i], a[i + 4], 0, 8, 1, 9, 2, 10, 3, 11);
            b[2 * i + 1] = __builtin_shufflevector(a[i], a[i + 4], 4, 12, 5, 13, 6, 14, 7, 15);
        }
        memcpy(a, b, sizeof a);
    }
    for (unsigned i = 0; i < 8; i++) {
        memcpy(packed + 2ull * i * LINEAR_FLOAT_ROWS, &a[i], sizeof a[i]);
    }
}

/* The same with four rows of four-byte columns. */
static inline void pack_square_4(const unsigned char *source, uint64_t row_bytes,
                                 unsigned char *packed)
{
    words a[4];
    words b[4];
    for (unsigned i = 0; i < 4; i++) {
        memcpy(&a[i], source + i * row_bytes, sizeof a[i]);
    }
    for (unsigned stage = 0; stage < 2; stage++) {
        for (unsigned i = 0; i < 2; i++) {
            b[2 * i] = __builtin_shufflevector(a[i], a[i + 2], 0, 4, 1, 5);
            b[2 * i + 1] = __builtin_shufflevector(a[i], a[i + 2], 2, 6, 3, 7);
        }
        memcpy(a, b, sizeof a);
    }
    for (unsigned i = 0; i < 4; i++) {
        memcpy(packed + 4ull * i * LINEAR_FLOAT_ROWS, &a[i], sizeof a[i]);
    }
}

/* A strip of all columns and rows, few rows at a time: where a row is a multiple of 4 KB, the
 * first-level cache holds the lines of eight, not of 32. */
static inline void pack_full_strip(const unsigned char *source, uint64_t row_bytes,
                                   uint64_t element, unsigned char *packed)
{
    uint64_t side = 16 / element;
    for (uint64_t row = 0; row < LINEAR_FLOAT_ROWS; row += side) {
        for (uint64_t k = 0; k < STRIP; k += side) {
            const unsigned char *from = source + row * row_bytes + k * element;
            unsigned char *to = packed + (k * LINEAR_FLOAT_ROWS + row) * element;
            if (element == 2) {
                pack_square_2(from, row_bytes, to);
            } else {
                pack_square_4(from, row_bytes, to);
            }
        }
    }
}

static inline __attribute__((always_inline)) void pack(const void *source, uint64_t columns,
                                                       uint64_t row_begin, uint64_t row_end,
                                                       void *packed, uint64_t element)
{
    uint64_t row_bytes = columns * element;
    for (uint64_t row = row_begin; row < row_end; row += LINEAR_FLOAT_ROWS) {
        uint64_t count = row_end - row < LINEAR_FLOAT_ROWS ? row_end - row : LINEAR_FLOAT_ROWS;
        const unsigned char *from = (const unsigned char *)source + row * row_bytes;
        unsigned char *to = (unsigned char *)packed + row * row_bytes;
        for (uint64_t k = 0; k < columns; k += STRIP) {
            uint64_t end = columns - k < STRIP ? columns : k + STRIP;
            /* The next group's rows lie behind this one's. */
            const unsigned char *next = from + LINEAR_FLOAT_ROWS * (row_bytes + k * element);
            for (uint64_t i = 0; i < LINEAR_FLOAT_ROWS * STRIP * element; i += 64) {
                __builtin_prefetch(next + i, 0, 2);
            }
            if (count == LINEAR_FLOAT_ROWS && end == k + STRIP) {
                pack_full_strip(from + k * element, row_bytes, element,
                                to + k * LINEAR_FLOAT_ROWS * element);
            } else {
                pack_strip(from, count, columns, k, end, element, to);
            }
        }
    }
}

void linear_pack_2(const void *source, uint64_t rows, uint64_t columns, uint64_t row_begin,
                   uint64_t row_end, void *packed)
{
    (void)rows;
    pack(source, columns, row_begin, row_end, packed, 2);
}

void linear_pack_4(const void *source, uint64_t rows, uint64_t columns, uint64_t row_begin,
                   uint64_t row_end, void *packed)
{
    (void)rows;
    pack(source, columns, row_begin, row_end, packed, 4);
}

/* A pair of two-byte columns is an element of four bytes. */
void linear_pack_pairs(const void *source, uint64_t rows, uint64_t columns, uint64_t row_begin,
                       uint64_t row_end, void *packed)
{
    (void)rows;
    pack(source, columns / 2, row_begin, row_end, packed, 4);
}
