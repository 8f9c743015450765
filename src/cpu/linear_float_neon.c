/* Matrix kernels of the plain types for NEON: the body is in linear_float_simd.h.
 * A tile is six tokens by four vectors (24 of the 32 registers). Stateless. */
#include "cpu/simd_neon.h"

#define TILE_TOKENS     6u
#define TILE_VECTORS    4u
#define STRAIGHT_TOKENS 6u

#include "cpu/linear_float_simd.h"

static bool available(const struct cpu_features *features)
{
    return features->neon;
}

LINEAR_FLOAT_KERNELS(neon, available)
