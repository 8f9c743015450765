/* The quantised matrix kernels for AVX2: eight rows in lanes; products of bytes add up in 16 bits
 * as long as they fit. Stateless: any thread. */
#include <immintrin.h>

#include "cpu/linear_table.h"

#define LANES          8
#define TILE_TOKENS    4
#define DOT_IS_EXACT32 0
#define DOT_CODE_MAX   129

#include "cpu/linear_q_avx2_ops.h"

static inline vint dot(vint part, vint codes, vint activations)
{
    return _mm256_add_epi16(part, _mm256_maddubs_epi16(codes, activations));
}

static inline vint widen(vint part)
{
    return _mm256_madd_epi16(part, _mm256_set1_epi16(1));
}

#include "cpu/linear_q_body.h"

static bool available(const struct cpu_features *features)
{
    return features->avx2_fma_f16c;
}

LINEAR_Q_KERNELS(avx2, "avx2_r8", available)
