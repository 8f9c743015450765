/* The scalar primitives that define every stage of a plan: the numeric specification that fast code
 * is tested against, and all that the scalar level of the CPU device runs. Plain loops; sums run in
 * order of the index and in double precision, results are rounded once to float. Values that are
 * not finite pass through as IEEE 754 says. Stateless: any thread. */
#ifndef TENSOR_REFERENCE_H
#define TENSOR_REFERENCE_H

#include "tensor/dtype.h"

/* out[i] = x[i] / sqrt(mean(x²) + epsilon) · (weight_offset + weight[i]). `out` may be `x`. */
void reference_norm_rms(const float *x, const float *weight, float weight_offset, float epsilon,
                        uint64_t count, float *out);

/* out[i] = (x[i] − mean) / sqrt(variance + epsilon) · (weight_offset + weight[i]) + bias[i]; the
 * variance divides by count. `bias` may be NULL, `out` may be `x`. */
void reference_norm_layer(const float *x, const float *weight, const float *bias,
                          float weight_offset, float epsilon, uint64_t count, float *out);

/* y[r] = Σ_k W[r, k] · x[k], W row-major of any type with alignment 1: reference_dot of quant.h a
 * row. */
void reference_linear(enum dtype dtype, const void *weight, uint64_t rows, uint64_t columns,
                      const float *x, float *y);

/* out[i] += x[i]. */
void reference_add(const float *x, uint64_t count, float *out);

/* Sine and cosine of the angles position · frequencies[i], times `magnitude`, for pairs
 * 0 … size / 2 − 1. The angle itself is rounded to float, as the frameworks that models are trained
 * in do: at position 10,000 a double-precision angle would differ by 5e-4. */
void reference_rotary_angles(uint32_t position, const float *frequencies, uint32_t size,
                             float magnitude, float *cosines, float *sines);

/* Turns the first `size` elements of a head in place: (a, b) becomes (a cos − b sin, b cos + a
 * sin). Pairs are (2i, 2i + 1) when interleaved, else (i, i + size / 2). */
void reference_rotary(float *head, uint32_t size, bool interleaved, const float *cosines,
                      const float *sines);

/* 1 / (1 + exp(−x)) */
float reference_sigmoid(float x);
/* x / (1 + exp(−x)) */
float reference_silu(float x);
/* x/2 · (1 + tanh(√(2/π) · (x + 0.044715 x³))) */
float reference_gelu_tanh(float x);
/* x/2 · (1 + erf(x / √2)) */
float reference_gelu_erf(float x);
/* g · sigmoid(1.702 g) · (u + 1), where g is gate, 7 at most, and u is up, kept within ±7. */
float reference_swiglu_clamped(float gate, float up);

/* Which experts a row goes to, and how much each counts. */
struct reference_routing {
    uint32_t expert_count; /* ≤ LIMIT_EXPERT_COUNT */
    uint32_t used_count;   /* 1 … expert_count, ≤ LIMIT_EXPERTS_USED */
    bool sigmoid;          /* p = sigmoid(logit); otherwise the softmax over all logits */
    bool normalised;       /* the weights are divided by their sum + 1e-20 */
    float scale;           /* … and then multiplied with this */
};

/* The used_count experts with the largest p + bias, or with the largest logits where `bias` is
 * NULL; of equals the one with the smaller number (a NaN is smaller than all others). `ids` are
 * ascending, `weights` the p of each. */
void reference_route(const struct reference_routing *routing, const float *logits,
                     const float *bias, uint32_t *ids, float *weights);

/* out[i] += scale · x[i], each rounded by itself. */
void reference_add_scaled(float scale, const float *x, uint64_t count, float *out);

/* cap · tanh(x / cap); x itself when cap is 0. */
float reference_soft_cap(float x, float cap);

/* Where the keys and values of one head come from: writes the float values of the key and the
 * value of `position`, [head_size] each; either may be NULL. */
struct reference_cache {
    void (*read)(void *user, uint64_t position, float *key, float *value);
    void *user;
};

struct reference_attention {
    const float *query; /* [head_size] */
    uint32_t head_size; /* ≤ LIMIT_HEAD_SIZE */
    uint64_t begin;     /* attends to positions [begin, end), end > begin */
    uint64_t end;
    float scale;
    float soft_cap;    /* 0: none */
    const float *sink; /* an extra logit of the denominator, or NULL */
    struct reference_cache cache;
    float *scores; /* workspace, [end − begin] */
};

/* out[d] = Σ_p w[p] · value[p][d], w = softmax of cap(scale · query·key[p]) with the sink in its
 * denominator. Nothing outside [begin, end) is read. */
void reference_attention(const struct reference_attention *call, float *out);

#endif
