/* Owns dequantising and the double-precision dot product, on top of the block readers. Knows the
 * plain types itself. Stateless: any thread. */
#include "tensor/quant.h"

#include "tensor/quant_blocks.h"
#include "tensor/quant_read.h"

/* Rows of a file have alignment 1, hence memcpy. */
static float load_plain(enum dtype dtype, const unsigned char *row, uint64_t column)
{
    uint16_t half;
    if (dtype == DTYPE_F8_E4M3) {
        return float_from_e4m3(row[column]);
    }
    if (dtype == DTYPE_F8_BLOCK) {
        const unsigned char *block = row + column / 128 * sizeof(struct block_f8);
        float scale;
        memcpy(&scale, block, sizeof scale);
        return scale * float_from_e4m3(block[sizeof scale + column % 128]);
    }
    if (dtype == DTYPE_F32) {
        float value;
        memcpy(&value, row + 4 * column, sizeof value);
        return value;
    }
    memcpy(&half, row + 2 * column, sizeof half);
    return dtype == DTYPE_F16 ? float_from_f16(half) : float_from_bf16(half);
}

/* The values of one step. Adding a zero minimum would turn −0 into 0, hence the two cases. */
static void expand_step(const struct quant_step *step, bool has_minimum, float out[QUANT_STEP])
{
    for (unsigned i = 0; i < QUANT_STEP; i++) {
        float value = step->scale[i / 16] * (float)step->codes[i];
        out[i] = has_minimum ? value + step->minimum[i / 16] : value;
    }
}

void dequantize_row(enum dtype dtype, const void *blocks, float *out, uint64_t elements)
{
    quant_read_function *read = quant_reader(dtype);
    if (!read) {
        for (uint64_t i = 0; i < elements; i++) {
            out[i] = load_plain(dtype, blocks, i);
        }
        return;
    }
    bool has_minimum = quant_has_minimum(dtype);
    for (uint64_t i = 0; i < elements / QUANT_STEP; i++) {
        struct quant_step step;
        read(blocks, i, &step);
        expand_step(&step, has_minimum, out + i * QUANT_STEP);
    }
}

double reference_dot(enum dtype dtype, const void *blocks, const float *x, uint64_t elements)
{
    quant_read_function *read = quant_reader(dtype);
    double sum = 0;
    if (!read) {
        for (uint64_t i = 0; i < elements; i++) {
            sum += (double)load_plain(dtype, blocks, i) * (double)x[i];
        }
        return sum;
    }
    bool has_minimum = quant_has_minimum(dtype);
    for (uint64_t i = 0; i < elements / QUANT_STEP; i++) {
        struct quant_step step;
        float values[QUANT_STEP];
        read(blocks, i, &step);
        expand_step(&step, has_minimum, values);
        for (unsigned k = 0; k < QUANT_STEP; k++) {
            sum += (double)values[k] * (double)x[i * QUANT_STEP + k];
        }
    }
    return sum;
}
