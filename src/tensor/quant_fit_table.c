/* Owns the search for scales of codes that stand for values of a table, and of ternary codes. As in
 * quant_fit.c a grid of scales is tried, the best codes for a scale are the nearest values, and the
 * best scale for codes is a least-squares fit in closed form. Stateless: any thread. */
#include "tensor/quant_fit.h"

#include <float.h>
#include <math.h>

static unsigned nearest(const int8_t values[16], float x)
{
    unsigned best = 0;
    float best_distance = INFINITY;
    for (unsigned i = 0; i < 16; i++) {
        float distance = fabsf(x - (float)values[i]);
        if (distance < best_distance) {
            best_distance = distance;
            best = i;
        }
    }
    return best;
}

void quant_assign_table(const float *x, unsigned count, const int8_t values[16], float scale,
                        uint8_t *codes)
{
    float inverse = fabsf(scale) >= FLT_MIN ? 1.0f / scale : 0;
    for (unsigned i = 0; i < count; i++) {
        codes[i] = (uint8_t)nearest(values, x[i] * inverse);
    }
}

static double try_scale(const float *x, const float *weights, unsigned count,
                        const int8_t values[16], float inverse, float *scale)
{
    double xq = 0;
    double qq = 0;
    for (unsigned i = 0; i < count; i++) {
        double value = values[nearest(values, x[i] * inverse)];
        double weighted = (double)weights[i] * value;
        xq += weighted * (double)x[i];
        qq += weighted * value;
    }
    *scale = qq > 0 ? (float)(xq / qq) : 0;
    return qq > 0 ? xq * (xq / qq) : 0;
}

static float largest_magnitude(const float *x, unsigned count)
{
    float extreme = 0;
    for (unsigned i = 0; i < count; i++) {
        extreme = fabsf(x[i]) > fabsf(extreme) ? x[i] : extreme;
    }
    return extreme;
}

float quant_fit_table(const float *x, const float *weights, unsigned count, const int8_t values[16],
                      double *gain)
{
    float extreme = largest_magnitude(x, count);
    int low = 0;
    int high = 0;
    for (unsigned i = 0; i < 16; i++) {
        low = values[i] < low ? values[i] : low;
        high = values[i] > high ? values[i] : high;
    }
    float best = 0;
    double best_gain = 0;
    for (int side = 0; side < 2 && fabsf(extreme) >= FLT_MIN; side++) {
        float end = (float)(side ? high : low);
        for (int k = -6; k <= 8; k++) {
            float scale;
            double found = try_scale(x, weights, count, values,
                                     end * (1.0f + 0.03f * (float)k) / extreme, &scale);
            if (found > best_gain) {
                best_gain = found;
                best = scale;
            }
        }
    }
    for (int round = 0; round < 4 && best != 0; round++) {
        float scale;
        double found = try_scale(x, weights, count, values, 1.0f / best, &scale);
        if (!(found > best_gain)) {
            break;
        }
        best_gain = found;
        best = scale;
    }
    if (gain) {
        *gain = best_gain;
    }
    return best;
}

float quant_fit_ternary(const float *x, const float *weights, unsigned count)
{
    float extreme = fabsf(largest_magnitude(x, count));
    float best = 0;
    double best_gain = 0;
    for (int k = 2; k <= 10 && extreme >= FLT_MIN; k++) {
        double xq = 0;
        double qq = 0;
        float threshold = 0.05f * (float)k * extreme;
        for (unsigned i = 0; i < count; i++) {
            double weight = fabsf(x[i]) >= threshold ? (double)weights[i] : 0;
            xq += weight * (double)fabsf(x[i]);
            qq += weight;
        }
        double found = qq > 0 ? xq * (xq / qq) : 0;
        if (found > best_gain) {
            best_gain = found;
            best = (float)(xq / qq);
        }
    }
    return best;
}
