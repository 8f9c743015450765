/* Norms, activations and conversions for AVX2 with FMA and F16C: the bodies are in ops_simd.h.
 * Stateless. */
#include "cpu/simd_avx2.h"

#include "cpu/ops_simd.h"

const struct cpu_ops cpu_ops_avx2 = {
    .level = CPU_AVX2,
    .norm_rms = norm_rms,
    .norm_layer = norm_layer,
    .activate = activate,
    .soft_cap = soft_cap,
    .to_f16 = to_f16,
    .to_floats = to_floats,
    .attention_partition = attention_partition_avx2,
};
