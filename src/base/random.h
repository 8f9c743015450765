/* Random numbers without state: a number is a function of a key and a counter, so that a request's
 * draws depend on its seed and position alone, never on its company (ARCHITECTURE, idea 7).
 * The generator is Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
 * SC'11), which a GPU computes in the same way. */
#ifndef BASE_RANDOM_H
#define BASE_RANDOM_H

#include <stdint.h>

/* Four 32-bit words from a 64-bit key and a 128-bit counter. */
void random_philox(uint64_t key, const uint32_t counter[4], uint32_t out[4]);

/* A double in [0, 1) with 53 random bits: draw number `draw` at `position` of the stream `seed`. */
double random_uniform(uint64_t seed, uint64_t position, uint32_t draw);

/* A well-mixed 64-bit value from a 64-bit one (the finaliser of SplitMix64). Seeds tests too:
 * random_mix(state += 0x9E3779B97F4A7C15) is SplitMix64. */
uint64_t random_mix(uint64_t value);

/* A seed that differs from call to call, from the operating system. */
uint64_t random_seed(void);

#endif
