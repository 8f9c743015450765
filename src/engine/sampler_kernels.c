/* Owns the choice of the sampler's kernels. Stateless: any thread. */
#include "engine/sampler_kernels.h"

#include "cpu/cpu.h"

const struct sampler_kernels *sampler_kernels_choose(void)
{
#if defined(__x86_64__)
    switch (cpu_level_detect()) {
    case CPU_AVX512:
        return &sampler_kernels_avx512;
    case CPU_AVX2:
        return &sampler_kernels_avx2;
    default:
        break;
    }
#endif
    return &sampler_kernels_base;
}
