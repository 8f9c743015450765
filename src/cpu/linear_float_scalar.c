/* The matrix kernels of the plain types in portable C: the reference primitive, a row at a time,
 * from the file's own layout. They serve machines without vector kernels. Stateless. */
#include "cpu/linear_table.h"
#include "tensor/reference.h"

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

static inline void multiply(enum dtype dtype, const struct linear_call *call)
{
    uint64_t row_bytes = call->columns * dtype_info(dtype)->block_bytes; /* blocks of one */
    const unsigned char *weight = call->weight;
    const unsigned char *activations = call->activations;
    for (uint64_t row = call->row_begin; row < call->row_end; row++) {
        for (uint32_t token = 0; token < call->token_count; token++) {
            const void *x = activations + token * call->activation_stride;
            reference_linear(dtype, weight + row * row_bytes, 1, call->columns, x,
                             call->out + token * call->out_stride + row);
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
