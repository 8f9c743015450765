/* When requests come, in an open loop: a function of seed and number alone. One thread. */
#ifndef BENCH_ARRIVALS_H
#define BENCH_ARRIVALS_H

#include "bench/config.h"

struct arrivals {
    enum arrival_kind kind;
    double rate;  /* a second */
    double shape; /* of the gamma distribution of gaps; mean gap stays 1 / rate */
    uint64_t seed;
    uint64_t position;
    double now_seconds; /* of the last arrival */
};

void arrivals_init(struct arrivals *arrivals, enum arrival_kind kind, double rate, double shape,
                   uint64_t seed);

/* Nanoseconds from the beginning to the next arrival. */
uint64_t arrivals_next(struct arrivals *arrivals);

/* A draw from the standard normal distribution: number `position` of the stream `seed`. */
double arrivals_normal(uint64_t seed, uint64_t position);

#endif
