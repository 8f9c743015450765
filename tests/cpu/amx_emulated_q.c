/* The quantised kernels for AMX over emulated registers: a type of each form of scales and codes.
 */
#define AMX_EMULATED

#include "cpu/amx_emulated_parts.h"
#include "cpu/linear_q_amx_ops.h"

#include "cpu/linear_q_body.h"

static bool available(const struct cpu_features *features)
{
    return features->avx512 && features->avx512_vnni;
}

LINEAR_Q_KERNEL(Q8_0, q8_0, amxemulated, "amxemulated_r16", available)
LINEAR_Q_KERNEL(Q4_0, q4_0, amxemulated, "amxemulated_r16", available)
LINEAR_Q_KERNEL(Q4_1, q4_1, amxemulated, "amxemulated_r16", available)
LINEAR_Q_KERNEL(Q4_K, q4_k, amxemulated, "amxemulated_r16", available)
LINEAR_Q_KERNEL(Q6_K, q6_k, amxemulated, "amxemulated_r16", available)
LINEAR_Q_KERNEL(Q2_K, q2_k, amxemulated, "amxemulated_r16", available)
LINEAR_Q_KERNEL(IQ4_XS, iq4_xs, amxemulated, "amxemulated_r16", available)
