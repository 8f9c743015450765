/* The matrix kernels of the plain types in portable C: one row at a time, summed over the columns
 * in order in double precision, from the file's own layout. These define what the vector kernels
 * are tested against, and serve machines without one. Stateless. */
#include <string.h>

#include "cpu/linear_table.h"

static bool always(const struct cpu_features *features)
{
    (void)features;
    return true;
}

static uint64_t in_place(uint64_t rows, uint64_t columns)
{
    (void)rows;
    (void)columns;
    return 0;
}

/* File rows have alignment 1, hence memcpy. */
static float load(enum dtype dtype, const unsigned char *row, uint64_t column)
{
    uint16_t half;
    if (dtype == DTYPE_F32) {
        float value;
        memcpy(&value, row + 4 * column, sizeof value);
        return value;
    }
    memcpy(&half, row + 2 * column, sizeof half);
    return dtype == DTYPE_F16 ? float_from_f16(half) : float_from_bf16(half);
}

static inline void multiply(enum dtype dtype, const struct linear_call *call)
{
    uint64_t row_bytes = call->columns * (dtype == DTYPE_F32 ? 4 : 2);
    const unsigned char *weight = call->weight;
    const unsigned char *activations = call->activations;
    for (uint64_t row = call->row_begin; row < call->row_end; row++) {
        for (uint32_t token = 0; token < call->token_count; token++) {
            const float *x =
                (const float *)(const void *)(activations + token * call->activation_stride);
            double sum = 0;
            for (uint64_t k = 0; k < call->columns; k++) {
                sum += (double)load(dtype, weight + row * row_bytes, k) * (double)x[k];
            }
            call->out[token * call->out_stride + row] = (float)sum;
        }
    }
}

static void multiply_f32(const struct linear_call *call)
{
    multiply(DTYPE_F32, call);
}

static void multiply_f16(const struct linear_call *call)
{
    multiply(DTYPE_F16, call);
}

static void multiply_bf16(const struct linear_call *call)
{
    multiply(DTYPE_BF16, call);
}

const struct linear_kernel linear_f32_f32_scalar = {
    .name = "linear_f32_f32_scalar",
    .dtype = DTYPE_F32,
    .activation = ACTIVATION_F32,
    .row_group = 1,
    .available = always,
    .packed_bytes = in_place,
    .multiply = multiply_f32,
};

const struct linear_kernel linear_f16_f32_scalar = {
    .name = "linear_f16_f32_scalar",
    .dtype = DTYPE_F16,
    .activation = ACTIVATION_F32,
    .row_group = 1,
    .available = always,
    .packed_bytes = in_place,
    .multiply = multiply_f16,
};

const struct linear_kernel linear_bf16_f32_scalar = {
    .name = "linear_bf16_f32_scalar",
    .dtype = DTYPE_BF16,
    .activation = ACTIVATION_F32,
    .row_group = 1,
    .available = always,
    .packed_bytes = in_place,
    .multiply = multiply_bf16,
};
