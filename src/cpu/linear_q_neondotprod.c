/* The quantised matrix kernels for NEON with dot products: four rows in lanes, four products of
 * signed bytes a lane and instruction; codes above 127 are split in two. Stateless: any thread. */
#include "cpu/linear_table.h"

#define LANES          4
#define TILE_TOKENS    6
#define DOT_IS_EXACT32 1
#define DOT_CODE_MAX   127

#include "cpu/linear_q_neon_ops.h"

static inline vint dot(vint part, vint codes, vint activations)
{
    return vdotq_s32(part, vreinterpretq_s8_s32(codes), vreinterpretq_s8_s32(activations));
}

#include "cpu/linear_q_body.h"

static bool available(const struct cpu_features *features)
{
    return features->neon && features->dotprod;
}

LINEAR_Q_KERNELS(neondotprod, "neondotprod_r4", available)
