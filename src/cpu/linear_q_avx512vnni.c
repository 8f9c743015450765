/* The quantised matrix kernels for AVX-512 with VNNI: sixteen rows in lanes, four byte products a
 * lane and instruction, exact in 32 bits. Two such instructions a cycle are the bound of prefill.
 * Stateless: any thread. */
#include <immintrin.h>

#include "cpu/linear_table.h"

#define LANES          16
#define TILE_TOKENS    6
#define DOT_IS_EXACT32 1
#define DOT_CODE_MAX   255

#include "cpu/linear_q_avx512_ops.h"

static inline vint dot(vint part, vint codes, vint activations)
{
    return _mm512_dpbusd_epi32(part, codes, activations);
}

static inline vint widen(vint part)
{
    return part;
}

#include "cpu/linear_q_body.h"

static bool available(const struct cpu_features *features)
{
    return features->avx512 && features->avx512_vnni;
}

LINEAR_Q_KERNELS(avx512vnni, "avx512vnni_r16", available)
