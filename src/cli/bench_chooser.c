/* Owns the sampler whose choices are timed. One thread. */
#include "cli/bench_chooser.h"

/* A sampler of one token keeps next to nothing. */
#define CHOOSER_BYTES_MAX (1u << 20)

llcuda_status bench_choose(void *user, const float *logits, struct llcuda_error *error)
{
    struct bench_chooser *chooser = user;
    uint32_t before = 0; /* a token that the choice may look back at */
    uint32_t token;
    return sampler_choose(&chooser->sampler, &chooser->workspace, logits, &before, 1, 1, &token,
                          NULL, error);
}

llcuda_status bench_chooser_init(struct bench_chooser *chooser, uint32_t vocabulary_size,
                                 double temperature, struct llcuda_error *error)
{
    const uint32_t before = 0;
    chooser->params = (struct sampler_params){.vocabulary_size = vocabulary_size,
                                              .temperature = temperature,
                                              .top_p = 0.95,
                                              .typical_p = 1,
                                              .repetition_penalty = 1,
                                              .top_k = 40};
    arena_init(&chooser->arena, CHOOSER_BYTES_MAX);
    llcuda_status status = sampler_workspace_init(&chooser->workspace, vocabulary_size, 2, error);
    return status ? status
                  : sampler_init(&chooser->sampler, &chooser->params, 1, &before, 1, 2,
                                 &chooser->arena, error);
}

void bench_chooser_deinit(struct bench_chooser *chooser)
{
    sampler_workspace_deinit(&chooser->workspace);
    arena_deinit(&chooser->arena);
}
