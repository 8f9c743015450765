/* Matrix kernels of the plain types for NEON: the body is in linear_float_simd.h.
 * A tile is six tokens by four vectors (24 of the 32 registers). Stateless. */
#include "cpu/simd_neon.h"

#define TILE_TOKENS  6u
#define TILE_VECTORS 4u

#include "cpu/linear_float_simd.h"

static bool available(const struct cpu_features *features)
{
    return features->neon;
}

const struct linear_kernel linear_f32_f32_neon_r32 = {
    .name = "linear_f32_f32_neon_r32",
    .dtype = DTYPE_F32,
    .activation = ACTIVATION_F32,
    .row_group = LINEAR_FLOAT_ROWS,
    .available = available,
    .packed_bytes = linear_packed_bytes_4,
    .pack = linear_pack_4,
    .multiply = multiply_f32,
};

const struct linear_kernel linear_f16_f32_neon_r32 = {
    .name = "linear_f16_f32_neon_r32",
    .dtype = DTYPE_F16,
    .activation = ACTIVATION_F32,
    .row_group = LINEAR_FLOAT_ROWS,
    .available = available,
    .packed_bytes = linear_packed_bytes_2,
    .pack = linear_pack_2,
    .multiply = multiply_f16,
};

const struct linear_kernel linear_bf16_f32_neon_r32 = {
    .name = "linear_bf16_f32_neon_r32",
    .dtype = DTYPE_BF16,
    .activation = ACTIVATION_F32,
    .row_group = LINEAR_FLOAT_ROWS,
    .available = available,
    .packed_bytes = linear_packed_bytes_2,
    .pack = linear_pack_2,
    .multiply = multiply_bf16,
};
