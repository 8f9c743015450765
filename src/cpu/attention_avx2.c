/* Attention for AVX2: the body is in attention_simd.h. Four pairs by 16 positions are eight sums of
 * the 16 registers, and so are four pairs by two vectors of values. Stateless. */
#include "cpu/simd_avx2.h"

#define SCORE_PAIRS   4u
#define SCORE_BLOCKS  1u
#define VALUE_PAIRS   4u
#define VALUE_VECTORS 2u

#include "cpu/attention_simd.h"

void attention_partition_avx2(const struct attention_call *call, uint32_t partition,
                              float *partials)
{
    attention_partition(call, partition, partials);
}
