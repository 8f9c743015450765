/* Attention for AVX-512: the body is in attention_simd.h. Eight pairs by 16 positions are eight
 * sums of the 32 registers; four pairs by four vectors of values are sixteen. Stateless. */
#include "cpu/simd_avx512.h"

#define SCORE_PAIRS   8u
#define SCORE_BLOCKS  2u
#define VALUE_PAIRS   4u
#define VALUE_VECTORS 4u

#include "cpu/attention_simd.h"

void attention_partition_avx512(const struct attention_call *call, uint32_t partition,
                                float *partials)
{
    attention_partition(call, partition, partials);
}
