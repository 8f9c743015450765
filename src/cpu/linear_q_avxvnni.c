/* The quantised matrix kernels for AVX2 with AVX-VNNI (processors with VNNI but without AVX-512):
 * eight rows in lanes, four byte products a lane and instruction. Stateless: any thread. */
#include <immintrin.h>

#include "cpu/linear_table.h"

#define LANES          8
#define TILE_TOKENS    4
#define DOT_IS_EXACT32 1
#define DOT_CODE_MAX   255

#include "cpu/linear_q_avx2_ops.h"

static inline vint dot(vint part, vint codes, vint activations)
{
    return _mm256_dpbusd_avx_epi32(part, codes, activations);
}

static inline vint widen(vint part)
{
    return part;
}

#include "cpu/linear_q_body.h"

static bool available(const struct cpu_features *features)
{
    return features->avx2_fma_f16c && features->avx_vnni;
}

LINEAR_Q_KERNELS(avxvnni, "avxvnni_r8", available)
