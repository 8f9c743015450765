/* Matrix kernels of the plain types for AVX2 with FMA and F16C: the body is in linear_float_simd.h.
 * A tile is six tokens by two vectors (12 of the 16 registers). Stateless. */
#include "cpu/simd_avx2.h"

#define TILE_TOKENS     6u
#define TILE_VECTORS    2u
#define STRAIGHT_TOKENS 6u

#include "cpu/linear_float_simd.h"

static bool available(const struct cpu_features *features)
{
    return features->avx2_fma_f16c;
}

LINEAR_FLOAT_KERNELS(avx2, available)
