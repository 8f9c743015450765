/* A simulation of the engine's life from a seed: arrivals, cancellations, slow readers, deadlines,
 * tiny caches. Fails the test at the first thing that is not as it must be. */
#ifndef TESTS_ENGINE_SIMULATE_H
#define TESTS_ENGINE_SIMULATE_H

#include "fake.h"

struct simulate_totals {
    uint64_t steps, requests, finished, cancelled, timed_out, failed;
    uint64_t embeddings, preemptions, hit_tokens, copied_blocks, evictions, paused;
};

/* Runs episodes until so many steps are done. */
void simulate(uint64_t steps, struct simulate_totals *totals);

#endif
