/* The matrix kernel of BF16 weights for AMX; the body is in linear_bf16_amx.h. Stateless. */
#include "cpu/linear_bf16_amx.h"

static bool available(const struct cpu_features *features)
{
    return features->amx_bf16;
}

const struct linear_kernel linear_bf16_bf16_amxbf16_r32 = {
    .name = "linear_bf16_bf16_amxbf16_r32",
    .dtype = DTYPE_BF16,
    .activation = ACTIVATION_BF16,
    .row_group = LINEAR_FLOAT_ROWS,
    .available = available,
    .packed_bytes = linear_packed_bytes_2,
    .pack = linear_pack_pairs,
    .multiply = multiply,
};
