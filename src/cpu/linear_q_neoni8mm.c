/* The quantised matrix kernels for NEON with i8mm: four rows in lanes, four products of an unsigned
 * and a signed byte a lane and instruction. Stateless: any thread. */
#include "cpu/linear_table.h"

#define LANES          4
#define TILE_TOKENS    6
#define DOT_IS_EXACT32 1
#define DOT_CODE_MAX   255

#include "cpu/linear_q_neon_ops.h"

static inline vint dot(vint part, vint codes, vint activations)
{
    return vusdotq_s32(part, vreinterpretq_u8_s32(codes), vreinterpretq_s8_s32(activations));
}

#include "cpu/linear_q_body.h"

static bool available(const struct cpu_features *features)
{
    return features->neon && features->i8mm;
}

LINEAR_Q_KERNELS(neoni8mm, "neoni8mm_r4", available)
