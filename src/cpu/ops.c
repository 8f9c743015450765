/* Owns the choice of an instruction-set level's functions. Stateless: any thread. */
#include "cpu/ops.h"

const struct cpu_ops *cpu_ops_choose(enum cpu_level level)
{
#if defined(__x86_64__)
    if (level == CPU_AVX512) {
        return &cpu_ops_avx512;
    }
    if (level == CPU_AVX2) {
        return &cpu_ops_avx2;
    }
#elif defined(__aarch64__)
    if (level == CPU_NEON) {
        return &cpu_ops_neon;
    }
#else
    (void)level;
#endif
    return &cpu_ops_scalar;
}

const struct cpu_ops *cpu_ops_of(const struct cpu_features *features)
{
#if defined(__x86_64__)
    if (features->avx512 && features->avx512_vnni) {
        return &cpu_ops_avx512vnni;
    }
#endif
    return cpu_ops_choose(cpu_features_level(features));
}
