/* Choosing tokens as one of the works that a profile of steps times. */
#ifndef CLI_BENCH_CHOOSER_H
#define CLI_BENCH_CHOOSER_H

#include "base/arena.h"
#include "engine/sampler.h"

struct bench_chooser {
    struct sampler_params params;
    struct sampler sampler;
    struct sampler_workspace workspace;
    struct arena arena;
};

/* A sampler with usual settings, from which none of its passes over the logits is missing; with
 * temperature 0 a greedy one. To be deinited also after a failure; a zeroed one may be. */
llcuda_status bench_chooser_init(struct bench_chooser *chooser, uint32_t vocabulary_size,
                                 double temperature, struct llcuda_error *error);
void bench_chooser_deinit(struct bench_chooser *chooser);

/* For local_options; `user` is the chooser. */
llcuda_status bench_choose(void *user, const float *logits, struct llcuda_error *error);

#endif
