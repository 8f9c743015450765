/* The sampler's kernels for AVX2. Stateless: any thread. */
#define SAMPLER_VECTOR_BYTES 32
#include "engine/sampler_kernels_body.h"

const struct sampler_kernels sampler_kernels_avx2 = {
    .scan = scan,
    .weigh = weigh,
    .count_above = count_above,
    .sort_small = sort_small,
};
