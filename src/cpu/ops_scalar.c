/* The scalar level: the reference primitives, one by one. Stateless. */
#include "cpu/ops.h"
#include "tensor/quant.h"
#include "tensor/reference.h"

static void activate(enum plan_activation activation, float *gate, const float *up, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        float value = gate[i];
        switch (activation) {
        case PLAN_SILU:
            value = reference_silu(value);
            break;
        case PLAN_GELU_TANH:
            value = reference_gelu_tanh(value);
            break;
        case PLAN_GELU_ERF:
            value = reference_gelu_erf(value);
            break;
        case PLAN_SWIGLU_CLAMPED:
            gate[i] = reference_swiglu_clamped(value, up[i]);
            continue;
        }
        gate[i] = up ? value * up[i] : value;
    }
}

static void soft_cap(float *x, float cap, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        x[i] = reference_soft_cap(x[i], cap);
    }
}

static void to_f16(const float *x, uint16_t *out, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        out[i] = float_to_f16(x[i]);
    }
}

static void to_floats(enum dtype dtype, const void *from, float *out, uint64_t count)
{
    dequantize_row(dtype, from, out, count);
}

const struct cpu_ops cpu_ops_scalar = {
    .level = CPU_SCALAR,
    .norm_rms = reference_norm_rms,
    .norm_layer = reference_norm_layer,
    .activate = activate,
    .soft_cap = soft_cap,
    .to_f16 = to_f16,
    .to_floats = to_floats,
    .attention_partition = NULL,
};
