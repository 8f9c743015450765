/* Owns random codes, see random_blocks.h. */
#include "cpu/random_blocks.h"

#include "support/test_support.h"
#include "tensor/quant.h"

void random_blocks(enum dtype dtype, float scale, unsigned char *blocks, uint64_t columns)
{
    const struct dtype_info *info = dtype_info(dtype);
    for (uint64_t b = 0; b < columns / info->block_elements; b++) {
        unsigned char *block = blocks + b * info->block_bytes;
        for (uint32_t i = 0; i < info->block_bytes; i++) {
            block[i] = (unsigned char)test_random();
        }
        uint16_t d = float_to_f16(scale * (1 + 0.1f * test_random_normal()));
        for (int i = 0; dtype == DTYPE_IQ1_M && i < 4; i++) {
            /* Its four nibbles are the top ones of four u16 at the end. */
            unsigned char *top = block + info->block_bytes - 8 + 2 * i + 1;
            *top = (unsigned char)((*top & 0xf) | (d >> 4 * i & 0xf) << 4);
        }
        if (dtype != DTYPE_IQ1_M) {
            memcpy(block, &d, sizeof d);
        }
    }
}

void random_row(enum dtype dtype, float deviation, unsigned char *blocks, uint64_t columns)
{
    float *row = malloc(columns * sizeof *row);
    assert_non_null(row);
    random_blocks(dtype, 1.0f, blocks, columns);
    dequantize_row(dtype, blocks, row, columns);
    double squares = 0;
    for (uint64_t i = 0; i < columns; i++) {
        squares += (double)row[i] * (double)row[i];
    }
    free(row);
    random_blocks(dtype, deviation / (float)sqrt(squares / (double)columns + 1e-30), blocks,
                  columns);
}
