/* Owns the arrival processes. Gamma gaps by Marsaglia and Tsang, "A simple method for generating
 * gamma variables" (2000), with their boost for shapes below 1. */
#include "bench/arrivals.h"

#include <math.h>

#include "base/random.h"

void arrivals_init(struct arrivals *arrivals, enum arrival_kind kind, double rate, double shape,
                   uint64_t seed)
{
    *arrivals = (struct arrivals){.kind = kind, .rate = rate, .shape = shape, .seed = seed};
}

static double uniform(struct arrivals *arrivals)
{
    /* Never 0: its logarithm is taken. */
    return 1 - random_uniform(arrivals->seed, arrivals->position++, 0);
}

double arrivals_normal(uint64_t seed, uint64_t position)
{
    double u = 1 - random_uniform(seed, position, 1);
    double v = random_uniform(seed, position, 2);
    return sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
}

static double gamma_draw(struct arrivals *arrivals, double shape)
{
    if (shape < 1) {
        double boost = pow(uniform(arrivals), 1 / shape);
        return gamma_draw(arrivals, shape + 1) * boost;
    }
    double d = shape - 1.0 / 3;
    double c = 1 / sqrt(9 * d);
    for (;;) {
        double x = arrivals_normal(arrivals->seed, arrivals->position++);
        double v = pow(1 + c * x, 3);
        if (v > 0 && log(uniform(arrivals)) < 0.5 * x * x + d - d * v + d * log(v)) {
            return d * v;
        }
    }
}

uint64_t arrivals_next(struct arrivals *arrivals)
{
    double gap = 1;
    if (arrivals->kind == ARRIVAL_POISSON) {
        gap = -log(uniform(arrivals));
    } else if (arrivals->kind == ARRIVAL_GAMMA) {
        gap = gamma_draw(arrivals, arrivals->shape) / arrivals->shape;
    }
    arrivals->now_seconds += gap / arrivals->rate;
    return (uint64_t)(arrivals->now_seconds * 1e9);
}
