/* Norms, activations and conversions for AVX-512: the bodies are in ops_simd.h. With VNNI only
 * attention is another. Stateless. */
#include "cpu/simd_avx512.h"

#include "cpu/ops_simd.h"

const struct cpu_ops cpu_ops_avx512 = {
    .level = CPU_AVX512,
    .norm_rms = norm_rms,
    .norm_layer = norm_layer,
    .activate = activate,
    .soft_cap = soft_cap,
    .to_f16 = to_f16,
    .to_floats = to_floats,
    .attention_partition = attention_partition_avx512,
};

const struct cpu_ops cpu_ops_avx512vnni = {
    .level = CPU_AVX512,
    .norm_rms = norm_rms,
    .norm_layer = norm_layer,
    .activate = activate,
    .soft_cap = soft_cap,
    .to_f16 = to_f16,
    .to_floats = to_floats,
    .attention_partition = attention_partition_avx512vnni,
};
