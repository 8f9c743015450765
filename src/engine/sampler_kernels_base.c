/* The sampler's kernels for any machine of the compiler's target. Stateless: any thread. */
#define SAMPLER_VECTOR_BYTES 16
#include "engine/sampler_kernels_body.h"

const struct sampler_kernels sampler_kernels_base = {
    .scan = scan,
    .weigh = weigh,
    .count_above = count_above,
    .sort_small = sort_small,
};
