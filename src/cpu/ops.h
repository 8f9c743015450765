/* What one instruction-set level can do beside the matrix kernels: a table of functions, chosen
 * once when the device is opened. The scalar table calls the reference primitives; the others must
 * agree with it within float rounding. Every function's result for a row depends on that row alone.
 */
#ifndef CPU_OPS_H
#define CPU_OPS_H

#include "cpu/attention.h"
#include "cpu/cpu.h"
#include "cpu/features.h"
#include "plan/plan.h"

struct cpu_ops {
    enum cpu_level level;

    /* As in tensor/reference.h. */
    void (*norm_rms)(const float *x, const float *weight, float weight_offset, float epsilon,
                     uint64_t count, float *out);
    void (*norm_layer)(const float *x, const float *weight, const float *bias, float weight_offset,
                       float epsilon, uint64_t count, float *out);

    /* gate[i] = activation(gate[i]) · up[i]; without `up` (NULL) the factor is 1. */
    void (*activate)(enum plan_activation activation, float *gate, const float *up, uint64_t count);

    /* x[i] = cap · tanh(x[i] / cap), cap > 0. */
    void (*soft_cap)(float *x, float cap, uint64_t count);

    /* Rounds to nearest even. */
    void (*to_f16)(const float *x, uint16_t *out, uint64_t count);

    /* Values of F32, F16 or BF16 as floats; `from` has any alignment. */
    void (*to_floats)(enum dtype dtype, const void *from, float *out, uint64_t count);

    /* One partition of an attention call, see attention.h; NULL at the scalar level, which computes
     * whole rows by the reference. */
    void (*attention_partition)(const struct attention_call *call, uint32_t partition,
                                float *partials);
};

extern const struct cpu_ops cpu_ops_scalar;
extern const struct cpu_ops cpu_ops_avx2;
extern const struct cpu_ops cpu_ops_avx512;
extern const struct cpu_ops cpu_ops_avx512vnni;
extern const struct cpu_ops cpu_ops_neon;

/* The table of a level that this build and machine have. */
const struct cpu_ops *cpu_ops_choose(enum cpu_level level);

/* The table of a CPU: that of its level, or one that uses more. */
const struct cpu_ops *cpu_ops_of(const struct cpu_features *features);

#endif
