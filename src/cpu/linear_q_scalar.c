/* The quantised matrix kernels in portable C, on rows as the file has them: the specification of
 * the integer path. For each step of 32 columns, the integer sum of codes times activations (two
 * of them for types with a scale to 16 columns) becomes
 *     t = float(i₀) · scale₀, then fma(float(i₁), scale₁, t)
 *     t = fma(minimum, float(Σ activation), t)   for each minimum
 *     sum = fma(t, activation scale, sum)
 * over the steps in order. The vector kernels do the same and agree to the bit. Stateless. */
#include <math.h>

#include "cpu/linear_q_layout.h"
#include "cpu/linear_table.h"
#include "tensor/quant_read.h"

#define TOKENS_AT_ONCE 16

/* Σ codes · values over columns [16·half, 16·half + 16), and Σ values. */
static int32_t half_dot(const struct quant_step *step, const struct activation_q8_block *block,
                        unsigned half, int32_t *total)
{
    int32_t sum = 0;
    *total = 0;
    for (unsigned i = 16 * half; i < 16 * half + 16; i++) {
        sum += step->codes[i] * block->values[i];
        *total += block->values[i];
    }
    return sum;
}

static float add_step(struct q_layout layout, const struct quant_step *step,
                      const struct activation_q8_block *block, float sum)
{
    int32_t total[2];
    int32_t first = half_dot(step, block, 0, &total[0]);
    int32_t second = half_dot(step, block, 1, &total[1]);
    float term;
    if (layout.scale_16) {
        term = (float)first * step->scale[0];
        term = fmaf((float)second, step->scale[1], term);
        if (layout.has_minimum) {
            term = fmaf(step->minimum[0], (float)total[0], term);
            term = fmaf(step->minimum[1], (float)total[1], term);
        }
    } else {
        term = (float)(first + second) * step->scale[0];
        if (layout.has_minimum) {
            term = fmaf(step->minimum[0], (float)(total[0] + total[1]), term);
        }
    }
    return fmaf(term, block->scale, sum);
}

static void multiply(enum dtype dtype, const struct linear_call *call)
{
    const struct q_layout layout = q_layout_of(dtype);
    const struct dtype_info *info = dtype_info(dtype);
    const uint64_t row_bytes = call->columns / info->block_elements * info->block_bytes;
    const unsigned char *activations = call->activations;
    quant_read_function *read = quant_reader(dtype);
    for (uint64_t row = call->row_begin; row < call->row_end; row++) {
        const unsigned char *weights = (const unsigned char *)call->weight + row * row_bytes;
        for (uint32_t begin = 0; begin < call->token_count; begin += TOKENS_AT_ONCE) {
            uint32_t count = call->token_count - begin;
            count = count < TOKENS_AT_ONCE ? count : TOKENS_AT_ONCE;
            float sums[TOKENS_AT_ONCE] = {0};
            for (uint64_t k = 0; k < call->columns / QUANT_STEP; k++) {
                struct quant_step step;
                read(weights, k, &step);
                for (uint32_t t = 0; t < count; t++) {
                    const void *blocks = activations + (begin + t) * call->activation_stride;
                    sums[t] = add_step(layout, &step,
                                       (const struct activation_q8_block *)blocks + k, sums[t]);
                }
            }
            for (uint32_t t = 0; t < count; t++) {
                call->out[(begin + t) * call->out_stride + row] = sums[t];
            }
        }
    }
}

static bool always(const struct cpu_features *features)
{
    (void)features;
    return true;
}

static uint64_t in_place(uint64_t rows, uint64_t columns)
{
    (void)rows;
    (void)columns;
    return 0;
}

/* The table entry of one type. */
#define LINEAR_Q_SCALAR(type, lower)                             \
    static void multiply_##lower(const struct linear_call *call) \
    {                                                            \
        multiply(DTYPE_##type, call);                            \
    }                                                            \
    const struct linear_kernel linear_##lower##_q8_scalar = {    \
        .name = "linear_" #lower "_q8_scalar",                   \
        .dtype = DTYPE_##type,                                   \
        .activation = ACTIVATION_Q8,                             \
        .row_group = 1,                                          \
        .available = always,                                     \
        .packed_bytes = in_place,                                \
        .multiply = multiply_##lower,                            \
    };

LINEAR_Q_SCALAR(Q4_0, q4_0)
LINEAR_Q_SCALAR(Q4_1, q4_1)
LINEAR_Q_SCALAR(Q5_0, q5_0)
LINEAR_Q_SCALAR(Q5_1, q5_1)
LINEAR_Q_SCALAR(Q8_0, q8_0)
LINEAR_Q_SCALAR(Q2_K, q2_k)
LINEAR_Q_SCALAR(Q3_K, q3_k)
LINEAR_Q_SCALAR(Q4_K, q4_k)
LINEAR_Q_SCALAR(Q5_K, q5_k)
LINEAR_Q_SCALAR(Q6_K, q6_k)
LINEAR_Q_SCALAR(IQ4_NL, iq4_nl)
LINEAR_Q_SCALAR(IQ4_XS, iq4_xs)
LINEAR_Q_SCALAR(MXFP4, mxfp4)
LINEAR_Q_SCALAR(TQ1_0, tq1_0)
LINEAR_Q_SCALAR(TQ2_0, tq2_0)
LINEAR_Q_SCALAR(IQ3_S, iq3_s)
LINEAR_Q_SCALAR(IQ3_XXS, iq3_xxs)
LINEAR_Q_SCALAR(IQ2_S, iq2_s)
LINEAR_Q_SCALAR(IQ2_XS, iq2_xs)
LINEAR_Q_SCALAR(IQ2_XXS, iq2_xxs)
LINEAR_Q_SCALAR(IQ1_M, iq1_m)
LINEAR_Q_SCALAR(IQ1_S, iq1_s)
