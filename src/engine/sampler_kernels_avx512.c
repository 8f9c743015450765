/* The sampler's kernels for AVX-512. Stateless: any thread. */
#define SAMPLER_VECTOR_BYTES 64
#include "engine/sampler_kernels_body.h"

const struct sampler_kernels sampler_kernels_avx512 = {
    .scan = scan,
    .weigh = weigh,
    .count_above = count_above,
    .sort_small = sort_small,
};
