/* The quantised matrix kernels for AVX-512 without VNNI: sixteen rows in lanes; products of bytes
 * add up in 16 bits as long as they fit. Stateless: any thread. */
#include <immintrin.h>

#include "cpu/linear_table.h"

#define LANES          16
#define TILE_TOKENS    6
#define DOT_IS_EXACT32 0
#define DOT_CODE_MAX   129

#include "cpu/linear_q_avx512_ops.h"

static inline vint dot(vint part, vint codes, vint activations)
{
    return _mm512_add_epi16(part, _mm512_maddubs_epi16(codes, activations));
}

static inline vint widen(vint part)
{
    return _mm512_madd_epi16(part, _mm512_set1_epi16(1));
}

#include "cpu/linear_q_body.h"

static bool available(const struct cpu_features *features)
{
    return features->avx512;
}

LINEAR_Q_KERNELS(avx512, "avx512_r16", available)
