/* Owns the table of emulated AMX kernels, and the one of BF16. */
#include "cpu/amx_emulated.h"

#if defined(__x86_64__)
#define AMX_EMULATED
#include "cpu/amx_emulated_parts.h"
#include "cpu/linear_bf16_amx.h"

static bool always(const struct cpu_features *features)
{
    (void)features;
    return true;
}

static const struct linear_kernel bf16_emulated = {
    .name = "linear_bf16_bf16_amxemulated_r32",
    .dtype = DTYPE_BF16,
    .activation = ACTIVATION_BF16,
    .row_group = LINEAR_FLOAT_ROWS,
    .available = always,
    .packed_bytes = linear_packed_bytes_2,
    .pack = linear_pack_pairs,
    .multiply = multiply,
};

static const struct linear_kernel *const kernels[] = {
    &bf16_emulated,
    &linear_q8_0_q8_amxemulated,
    &linear_q4_0_q8_amxemulated,
    &linear_q4_1_q8_amxemulated,
    &linear_q4_k_q8_amxemulated,
    &linear_q6_k_q8_amxemulated,
    &linear_q2_k_q8_amxemulated,
    &linear_iq4_xs_q8_amxemulated,
};

const struct linear_kernel *const *amx_emulated_kernels(uint32_t *count)
{
    *count = sizeof kernels / sizeof kernels[0];
    return kernels;
}
#else
const struct linear_kernel *const *amx_emulated_kernels(uint32_t *count)
{
    *count = 0;
    return NULL;
}
#endif
