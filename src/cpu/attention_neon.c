/* Attention for NEON: the body is in attention_simd.h. Four pairs by 16 positions are sixteen sums
 * of the 32 registers, and so are four pairs by four vectors of values. Stateless. */
#include "cpu/simd_neon.h"

#define SCORE_PAIRS   4u
#define SCORE_BLOCKS  1u
#define VALUE_PAIRS   4u
#define VALUE_VECTORS 4u

#include "cpu/attention_simd.h"

void attention_partition_neon(const struct attention_call *call, uint32_t partition,
                              float *partials)
{
    attention_partition(call, partition, partials);
}
