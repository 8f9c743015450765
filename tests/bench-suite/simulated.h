/* A simulated engine with a clock of its own: latencies come from known distributions, and a run of
 * minutes takes milliseconds. */
#ifndef TEST_SIMULATED_H
#define TEST_SIMULATED_H

#include "bench/driver.h"

struct simulated_stream;

struct simulated {
    struct driver driver;
    uint64_t now_ns;
    uint64_t seed, draws;
    double first_median_ms, first_sigma; /* lognormal time to the first token */
    double token_mean_ms;                /* exponential gaps */
    uint32_t tokens;                     /* of each answer */
    double factor;                       /* slows everything down */
    struct simulated_stream *streams;    /* a heap by the time of the next event */
    uint32_t count, capacity;
};

void simulated_init(struct simulated *simulated, uint64_t seed);
void simulated_deinit(struct simulated *simulated);

#endif
