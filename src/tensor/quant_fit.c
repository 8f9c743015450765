/* Owns the search for scales. For given codes the best scale is a least-squares fit in closed form;
 * for a given scale the best codes are a rounding. The search starts from a grid of scales around
 * the one that maps the extreme value to the end of the code range, and keeps the best fit.
 * Super-blocks then round the scales to small integers, try the neighbours of each, and round the
 * values once more with what the file will really hold. Sums are double, so that huge values do not
 * overflow. Stateless: any thread. */
#include "tensor/quant_fit.h"

#include <float.h>
#include <math.h>

#include "tensor/dtype.h"

int quant_round(float value, int low, int high)
{
    if (!(value > (float)low)) {
        return low;
    }
    return value >= (float)high ? high : (int)rintf(value);
}

uint16_t quant_f16_finite(float value)
{
    const float limit = 65504.0f;
    return float_to_f16(value > limit ? limit : value < -limit ? -limit : value);
}

/* For codes = round(x · inverse): the fitted scale, and by how much it lowers the error against
 * all zeros. */
static double try_inverse(const float *x, const float *weights, unsigned count, int code_min,
                          int code_max, float inverse, float *scale)
{
    double xq = 0;
    double qq = 0;
    for (unsigned i = 0; i < count; i++) {
        int code = quant_round(x[i] * inverse, code_min, code_max);
        double weighted = (double)weights[i] * code;
        xq += weighted * (double)x[i];
        qq += weighted * code;
    }
    if (!(qq > 0)) {
        *scale = 0;
        return 0;
    }
    *scale = (float)(xq / qq);
    return xq * (xq / qq);
}

float quant_fit_scale(const float *x, const float *weights, unsigned count, int code_min,
                      int code_max)
{
    float extreme = 0;
    for (unsigned i = 0; i < count; i++) {
        extreme = fabsf(x[i]) > fabsf(extreme) ? x[i] : extreme;
    }
    if (fabsf(extreme) < FLT_MIN) {
        return 0;
    }
    float best_scale = 0;
    double best_gain = 0;
    /* Both directions: the extreme may map to the longer end or to the shorter one. The grid goes
     * from a slight shrinking to clipping the extreme well. */
    for (int side = 0; side < 2; side++) {
        float end = (float)(side ? code_max : code_min);
        for (int k = -4; k <= 8; k++) {
            float target = end * (1.0f + 0.04f * (float)k);
            float scale;
            double gain =
                try_inverse(x, weights, count, code_min, code_max, target / extreme, &scale);
            if (gain > best_gain) {
                best_gain = gain;
                best_scale = scale;
            }
        }
    }
    for (int round = 0; round < 4 && best_scale != 0; round++) {
        float scale;
        double gain = try_inverse(x, weights, count, code_min, code_max, 1.0f / best_scale, &scale);
        if (!(gain > best_gain)) {
            break;
        }
        best_gain = gain;
        best_scale = scale;
    }
    return best_scale;
}

struct affine {
    float scale, minimum;
    double error;
};

/* For codes = round((x − minimum) · inverse): the least-squares line, and its error. */
static struct affine try_affine(const float *x, const float *weights, unsigned count, int levels,
                                bool minimum_below_zero, float minimum, float inverse)
{
    double w = 0, wq = 0, wqq = 0, wx = 0, wqx = 0, wxx = 0;
    for (unsigned i = 0; i < count; i++) {
        double code = quant_round((x[i] - minimum) * inverse, 0, levels);
        double weight = weights[i];
        w += weight;
        wq += weight * code;
        wqq += weight * code * code;
        wx += weight * (double)x[i];
        wqx += weight * code * (double)x[i];
        wxx += weight * (double)x[i] * (double)x[i];
    }
    double determinant = w * wqq - wq * wq;
    double scale = 0;
    double base = w > 0 ? wx / w : 0;
    if (determinant > 0) {
        scale = (w * wqx - wq * wx) / determinant;
        base = (wqq * wx - wq * wqx) / determinant;
    }
    if (minimum_below_zero && base > 0) {
        base = 0;
        scale = wqq > 0 ? wqx / wqq : 0;
    }
    if (scale < 0) {
        scale = 0;
    }
    double error = wxx + scale * scale * wqq + base * base * w - 2 * scale * wqx - 2 * base * wx +
                   2 * scale * base * wq;
    return (struct affine){(float)scale, (float)base, error};
}

void quant_fit_affine(const float *x, const float *weights, unsigned count, int levels,
                      bool minimum_below_zero, float *scale, float *minimum)
{
    float low = x[0];
    float high = x[0];
    for (unsigned i = 1; i < count; i++) {
        low = x[i] < low ? x[i] : low;
        high = x[i] > high ? x[i] : high;
    }
    if (minimum_below_zero && low > 0) {
        low = 0;
    }
    *scale = 0;
    *minimum = minimum_below_zero && low > 0 ? 0 : low;
    if (!(high - low >= FLT_MIN)) {
        return;
    }
    struct affine best = {0, 0, INFINITY};
    for (int k = -4; k <= 10; k++) {
        float inverse = (float)levels * (1.0f + 0.04f * (float)k) / (high - low);
        /* The grid clips at either end, or at both. */
        float spare = (float)levels / inverse - (high - low);
        for (int anchor = 0; anchor < 3; anchor++) {
            float start = low - spare * 0.5f * (float)anchor;
            if (minimum_below_zero && start > 0) {
                start = 0;
            }
            struct affine found =
                try_affine(x, weights, count, levels, minimum_below_zero, start, inverse);
            if (found.error < best.error) {
                best = found;
            }
        }
    }
    for (int round = 0; round < 4 && best.scale > 0; round++) {
        struct affine found = try_affine(x, weights, count, levels, minimum_below_zero,
                                         best.minimum, 1.0f / best.scale);
        if (!(found.error < best.error)) {
            break;
        }
        best = found;
    }
    *scale = best.scale;
    *minimum = best.minimum;
}

/* Codes for scale · code + minimum, and the weighted error. `codes` may be NULL. */
static double assign_codes(const float *x, const float *weights, unsigned count, int code_min,
                           int code_max, float scale, float minimum, int8_t *codes)
{
    double error = 0;
    float inverse = fabsf(scale) >= FLT_MIN ? 1.0f / scale : 0;
    for (unsigned i = 0; i < count; i++) {
        int code = inverse == 0 ? (code_min > 0 ? code_min : 0)
                                : quant_round((x[i] - minimum) * inverse, code_min, code_max);
        double lost = (double)x[i] - ((double)scale * code + (double)minimum);
        error += (double)weights[i] * lost * lost;
        if (codes) {
            codes[i] = (int8_t)code;
        }
    }
    return error;
}

void quant_fit_super_symmetric(const struct quant_super_shape *shape, const float x[256],
                               const float weights[256], struct quant_super *out)
{
    unsigned count = shape->sub_elements;
    unsigned parts = 256 / count;
    float scales[16];
    float extreme = 0;
    for (unsigned j = 0; j < parts; j++) {
        scales[j] = quant_fit_scale(x + j * count, weights + j * count, count, shape->code_min,
                                    shape->code_max);
        extreme = fabsf(scales[j]) > fabsf(extreme) ? scales[j] : extreme;
    }
    /* The extreme scale gets the longer end of the integer range. */
    out->dmin = 0;
    out->d = quant_f16_finite(extreme / (float)shape->scale_min);
    float d = float_from_f16(out->d);
    for (unsigned j = 0; j < parts; j++) {
        const float *part = x + j * count;
        const float *part_weights = weights + j * count;
        int centre = d != 0 ? quant_round(scales[j] / d, shape->scale_min, shape->scale_max) : 0;
        int best = centre;
        double best_error = INFINITY;
        for (int scale = centre - 1; scale <= centre + 1; scale++) {
            if (scale < shape->scale_min || scale > shape->scale_max) {
                continue;
            }
            double error = assign_codes(part, part_weights, count, shape->code_min, shape->code_max,
                                        d * (float)scale, 0, NULL);
            if (error < best_error) {
                best_error = error;
                best = scale;
            }
        }
        out->scales[j] = (int8_t)best;
        assign_codes(part, part_weights, count, shape->code_min, shape->code_max, d * (float)best,
                     0, out->codes + j * count);
    }
}

/* The best pair of integers around the fitted ones for one sub-block of an affine type. */
static void settle_affine(const struct quant_super_shape *shape, const float *x,
                          const float *weights, float d, float dmin, int centre_scale,
                          int centre_minimum, int *best_scale, int *best_minimum)
{
    double best_error = INFINITY;
    *best_scale = centre_scale;
    *best_minimum = centre_minimum;
    for (int scale = centre_scale - 1; scale <= centre_scale + 1; scale++) {
        for (int minimum = centre_minimum - 1; minimum <= centre_minimum + 1; minimum++) {
            if (scale < shape->scale_min || scale > shape->scale_max ||
                minimum < shape->scale_min || minimum > shape->scale_max) {
                continue;
            }
            double error = assign_codes(x, weights, shape->sub_elements, 0, shape->code_max,
                                        d * (float)scale, -(dmin * (float)minimum), NULL);
            if (error < best_error) {
                best_error = error;
                *best_scale = scale;
                *best_minimum = minimum;
            }
        }
    }
}

void quant_fit_super_affine(const struct quant_super_shape *shape, const float x[256],
                            const float weights[256], struct quant_super *out)
{
    unsigned count = shape->sub_elements;
    unsigned parts = 256 / count;
    float scales[16];
    float minima[16];
    float scale_max = 0;
    float minimum_max = 0;
    for (unsigned j = 0; j < parts; j++) {
        quant_fit_affine(x + j * count, weights + j * count, count, shape->code_max, true,
                         &scales[j], &minima[j]);
        minima[j] = -minima[j];
        scale_max = scales[j] > scale_max ? scales[j] : scale_max;
        minimum_max = minima[j] > minimum_max ? minima[j] : minimum_max;
    }
    out->d = quant_f16_finite(scale_max / (float)shape->scale_max);
    out->dmin = quant_f16_finite(minimum_max / (float)shape->scale_max);
    float d = float_from_f16(out->d);
    float dmin = float_from_f16(out->dmin);
    for (unsigned j = 0; j < parts; j++) {
        const float *part = x + j * count;
        const float *part_weights = weights + j * count;
        int scale = d != 0 ? quant_round(scales[j] / d, 0, shape->scale_max) : 0;
        int minimum = dmin != 0 ? quant_round(minima[j] / dmin, 0, shape->scale_max) : 0;
        settle_affine(shape, part, part_weights, d, dmin, scale, minimum, &scale, &minimum);
        out->scales[j] = (int8_t)scale;
        out->minima[j] = (uint8_t)minimum;
        assign_codes(part, part_weights, count, 0, shape->code_max, d * (float)scale,
                     -(dmin * (float)minimum), out->codes + j * count);
    }
}
