/* Owns the numeric meaning of every stage: see reference.h. Written to be read beside the formula,
 * not to be fast. Knows nothing of plans, devices or instruction sets. */
#include "tensor/reference.h"

#include <assert.h>
#include <math.h>

#include "base/limits.h"
#include "tensor/quant.h"

void reference_norm_rms(const float *x, const float *weight, float weight_offset, float epsilon,
                        uint64_t count, float *out)
{
    double sum = 0;
    for (uint64_t i = 0; i < count; i++) {
        sum += (double)x[i] * (double)x[i];
    }
    float scale = (float)(1.0 / sqrt(sum / (double)count + (double)epsilon));
    for (uint64_t i = 0; i < count; i++) {
        out[i] = x[i] * scale * (weight_offset + weight[i]);
    }
}

void reference_norm_layer(const float *x, const float *weight, const float *bias,
                          float weight_offset, float epsilon, uint64_t count, float *out)
{
    double sum = 0;
    for (uint64_t i = 0; i < count; i++) {
        sum += (double)x[i];
    }
    double mean = sum / (double)count;
    double squares = 0;
    for (uint64_t i = 0; i < count; i++) {
        double distance = (double)x[i] - mean;
        squares += distance * distance;
    }
    double scale = 1.0 / sqrt(squares / (double)count + (double)epsilon);
    for (uint64_t i = 0; i < count; i++) {
        float normal = (float)(((double)x[i] - mean) * scale);
        out[i] = normal * (weight_offset + weight[i]) + (bias ? bias[i] : 0.0f);
    }
}

void reference_linear(enum dtype dtype, const void *weight, uint64_t rows, uint64_t columns,
                      const float *x, float *y)
{
    const struct dtype_info *info = dtype_info(dtype);
    uint64_t row_bytes = columns / info->block_elements * info->block_bytes;
    for (uint64_t r = 0; r < rows; r++) {
        y[r] =
            (float)reference_dot(dtype, (const unsigned char *)weight + r * row_bytes, x, columns);
    }
}

void reference_add(const float *x, uint64_t count, float *out)
{
    for (uint64_t i = 0; i < count; i++) {
        out[i] += x[i];
    }
}

void reference_rotary_angles(uint32_t position, const float *frequencies, uint32_t size,
                             float magnitude, float *cosines, float *sines)
{
    for (uint32_t i = 0; i < size / 2; i++) {
        float angle = (float)position * frequencies[i];
        cosines[i] = (float)cos((double)angle) * magnitude;
        sines[i] = (float)sin((double)angle) * magnitude;
    }
}

void reference_rotary(float *head, uint32_t size, bool interleaved, const float *cosines,
                      const float *sines)
{
    uint32_t half = size / 2;
    for (uint32_t i = 0; i < half; i++) {
        float *a = interleaved ? &head[2 * i] : &head[i];
        float *b = interleaved ? a + 1 : a + half;
        float turned = *a * cosines[i] - *b * sines[i];
        *b = *b * cosines[i] + *a * sines[i];
        *a = turned;
    }
}

float reference_sigmoid(float x)
{
    return (float)(1.0 / (1.0 + exp(-(double)x)));
}

float reference_silu(float x)
{
    return (float)((double)x / (1.0 + exp(-(double)x)));
}

float reference_gelu_tanh(float x)
{
    const double root_two_over_pi = 0.79788456080286535588;
    double v = (double)x;
    return (float)(0.5 * v * (1.0 + tanh(root_two_over_pi * (v + 0.044715 * v * v * v))));
}

float reference_gelu_erf(float x)
{
    const double root_half = 0.70710678118654752440;
    return (float)(0.5 * (double)x * (1.0 + erf((double)x * root_half)));
}

float reference_swiglu_clamped(float gate, float up)
{
    double g = gate > 7.0f ? 7.0 : (double)gate;
    double u = up > 7.0f ? 7.0 : up < -7.0f ? -7.0 : (double)up;
    return (float)(g / (1.0 + exp(-1.702 * g)) * (u + 1.0));
}

/* The probabilities of all experts. */
static void score_experts(const struct reference_routing *routing, const float *logits, float *p)
{
    double largest = -INFINITY;
    double sum = 0;
    for (uint32_t e = 0; e < routing->expert_count; e++) {
        largest = (double)logits[e] > largest ? (double)logits[e] : largest;
    }
    for (uint32_t e = 0; e < routing->expert_count; e++) {
        sum += exp((double)logits[e] - largest);
    }
    for (uint32_t e = 0; e < routing->expert_count; e++) {
        double logit = (double)logits[e];
        p[e] = (float)(routing->sigmoid ? 1 / (1 + exp(-logit)) : exp(logit - largest) / sum);
    }
}

void reference_route(const struct reference_routing *routing, const float *logits,
                     const float *bias, uint32_t *ids, float *weights)
{
    float p[LIMIT_EXPERT_COUNT];
    bool chosen[LIMIT_EXPERT_COUNT] = {false};
    assert(routing->expert_count <= LIMIT_EXPERT_COUNT);
    assert(routing->used_count <= routing->expert_count);
    score_experts(routing, logits, p);
    for (uint32_t i = 0; i < routing->used_count; i++) {
        uint32_t best = UINT32_MAX;
        float best_score = 0;
        for (uint32_t e = 0; e < routing->expert_count; e++) {
            float score = bias ? p[e] + bias[e] : logits[e];
            bool leads =
                best == UINT32_MAX || score > best_score || (isnan(best_score) && !isnan(score));
            if (!chosen[e] && leads) {
                best = e;
                best_score = score;
            }
        }
        chosen[best] = true;
    }
    double sum = 0;
    uint32_t count = 0;
    for (uint32_t e = 0; e < routing->expert_count; e++) {
        if (chosen[e]) {
            ids[count] = e;
            weights[count++] = p[e];
            sum += (double)p[e];
        }
    }
    double factor = (routing->normalised ? 1 / (sum + 1e-20) : 1) * (double)routing->scale;
    for (uint32_t i = 0; i < count; i++) {
        weights[i] = (float)((double)weights[i] * factor);
    }
}

void reference_add_scaled(float scale, const float *x, uint64_t count, float *out)
{
    for (uint64_t i = 0; i < count; i++) {
        float product = scale * x[i];
        out[i] += product;
    }
}

float reference_soft_cap(float x, float cap)
{
    return cap == 0 ? x : (float)((double)cap * tanh((double)x / (double)cap));
}

/* Scores of all positions, and the largest of them. */
static float score_positions(const struct reference_attention *call)
{
    float key[LIMIT_HEAD_SIZE];
    float largest = -INFINITY;
    for (uint64_t p = call->begin; p < call->end; p++) {
        call->cache.read(call->cache.user, p, key, NULL);
        double sum = 0;
        for (uint32_t d = 0; d < call->head_size; d++) {
            sum += (double)call->query[d] * (double)key[d];
        }
        float score = reference_soft_cap((float)sum * call->scale, call->soft_cap);
        call->scores[p - call->begin] = score;
        largest = score > largest ? score : largest;
    }
    return largest;
}

void reference_attention(const struct reference_attention *call, float *out)
{
    assert(call->head_size <= LIMIT_HEAD_SIZE && call->end > call->begin);
    float value[LIMIT_HEAD_SIZE];
    double sums[LIMIT_HEAD_SIZE] = {0};
    float largest = score_positions(call);
    if (call->sink && *call->sink > largest) {
        largest = *call->sink;
    }
    double total = call->sink ? exp((double)*call->sink - (double)largest) : 0;
    for (uint64_t p = call->begin; p < call->end; p++) {
        double weight = exp((double)call->scores[p - call->begin] - (double)largest);
        total += weight;
        call->cache.read(call->cache.user, p, NULL, value);
        for (uint32_t d = 0; d < call->head_size; d++) {
            sums[d] += weight * (double)value[d];
        }
    }
    for (uint32_t d = 0; d < call->head_size; d++) {
        out[d] = (float)(sums[d] / total);
    }
}
