/* Norms, activations and conversions for NEON: the bodies are in ops_simd.h.
 * Stateless. */
#include "cpu/simd_neon.h"

#include "cpu/ops_simd.h"

const struct cpu_ops cpu_ops_neon = {
    .level = CPU_NEON,
    .norm_rms = norm_rms,
    .norm_layer = norm_layer,
    .activate = activate,
    .soft_cap = soft_cap,
    .to_f16 = to_f16,
    .to_floats = to_floats,
    .attention_partition = attention_partition_neon,
};
