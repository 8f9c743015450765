/* Matrix kernels of the plain types for AVX-512: the body is in linear_float_simd.h. A tile is
 * twelve tokens by two vectors (24 of the 32 registers). Stateless. */
#include "cpu/simd_avx512.h"

#define TILE_TOKENS     12u
#define TILE_VECTORS    2u
#define STRAIGHT_TOKENS 36u

#include "cpu/linear_float_simd.h"

static bool available(const struct cpu_features *features)
{
    return features->avx512;
}

LINEAR_FLOAT_KERNELS(avx512, available)
