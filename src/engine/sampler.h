/* The sampler: from a row of logits to a token, as docs/internals/sampling.md describes. The order
 * is fixed:
 *
 *     repetition penalty, presence and frequency penalties, DRY, logit bias, end tokens forbidden
 *     before min_tokens; then greedy, or: temperature, top-k, typical, top-p, min-p, draw.
 *
 * The result is a function of the logits, the request's parameters, its seed, its own history and
 * the position; no step allocates. Workspaces are one a thread, parameters one a request, samplers
 * one a choice. */
#ifndef ENGINE_SAMPLER_H
#define ENGINE_SAMPLER_H

#include "base/arena.h"
#include "base/error.h"
#include "llcuda/llcuda.h"

/* Blocks of logits whose maxima are kept by the first pass over a row. */
#define SAMPLER_BLOCK 64u

/* Lower temperatures are greedy: nothing but the largest logit has a chance there anyway. */
#define SAMPLER_TEMPERATURE_MIN 1e-5

/* Of a request, checked before; immutable while it runs. */
struct sampler_params {
    uint32_t vocabulary_size; /* V */
    double temperature;       /* below SAMPLER_TEMPERATURE_MIN: greedy */
    double top_p, typical_p, min_p;
    double repetition_penalty, presence_penalty, frequency_penalty;
    double dry_multiplier, dry_base;
    uint32_t dry_allowed_length, dry_window;
    uint32_t top_k, penalty_window;
    const uint8_t *dry_breakers; /* [V / 8 + 1] bit t: token t ends a repetition; or NULL */
    const struct llcuda_logit_bias *bias; /* [bias_count] tokens < V, each once */
    uint32_t bias_count;
    const uint32_t *end_tokens; /* [end_count] tokens < V, each once, forbidden before min_tokens */
    uint32_t end_count;
    uint32_t min_tokens;
    bool logprobs;
    uint32_t top_logprobs;
};

/* How often tokens occur in the last penalty_window tokens. */
struct token_count {
    uint32_t token;
    uint32_t all;       /* prompt and answer */
    uint32_t generated; /* answer */
};

struct token_counts {
    struct token_count *entries; /* [count] in order of first appearance */
    uint32_t count;
    uint32_t *index; /* [index_mask + 1] open addressing: entry + 1, or 0 */
    uint32_t index_mask;
};

/* Of one choice. */
struct sampler {
    const struct sampler_params *params;
    uint64_t seed;
    bool counting; /* some penalty needs `counts` */
    struct token_counts counts;
};

/* Scratch memory for rows of up to V logits and histories of up to `context_max` tokens. */
struct sampler_kernels;
struct sampler_workspace {
    const struct sampler_kernels *kernels;
    uint32_t vocabulary_size;
    uint32_t context_max;
    float *block_max; /* [V / SAMPLER_BLOCK, rounded up] */
    float *select;    /* likewise, scratch for finding a threshold */
    double *block_sum;
    float *patched;    /* [V] logits after penalties and biases */
    float *weights;    /* [V] */
    uint64_t *items;   /* [V] candidates: sort key above, token below */
    uint64_t *scratch; /* [V] */
    uint32_t *match;   /* [context_max] DRY */
    uint32_t *longest; /* [V] DRY; zeros between calls */
};

/* Errors: OUT_OF_MEMORY. */
llcuda_status sampler_workspace_init(struct sampler_workspace *workspace, uint32_t vocabulary_size,
                                     uint32_t context_max, struct llcuda_error *error);
void sampler_workspace_deinit(struct sampler_workspace *workspace);
/* Bytes that the above takes: for the memory plan. */
uint64_t sampler_workspace_bytes(uint32_t vocabulary_size, uint32_t context_max);

/* Makes the sampler of one choice whose history will never exceed `token_max`, and counts the
 * prompt. Memory comes from `arena`. Errors: OUT_OF_MEMORY. */
llcuda_status sampler_init(struct sampler *sampler, const struct sampler_params *params,
                           uint64_t seed, const uint32_t *prompt, uint32_t prompt_count,
                           uint32_t token_max, struct arena *arena, struct llcuda_error *error);

/* Chooses the token after tokens[0 … known), of which the first `prompt_count` are the prompt.
 * `logits` [V] is not changed. `logprob` is filled in when the parameters ask for it; may be NULL.
 * Errors: NOT_FINITE, REFUSED (the biases forbid every token). */
llcuda_status sampler_choose(struct sampler *sampler, struct sampler_workspace *workspace,
                             const float *logits, const uint32_t *tokens, uint32_t known,
                             uint32_t prompt_count, uint32_t *token, llcuda_token_logprob *logprob,
                             struct llcuda_error *error);

/* Whether nothing but the largest logit decides, at every position, and nothing else of the logits
 * is told. */
bool sampler_is_greedy(const struct sampler_params *params);

/* tokens[known - 1] has been appended to the answer. */
void sampler_accept(struct sampler *sampler, const uint32_t *tokens, uint32_t known,
                    uint32_t prompt_count);

/* Log-probabilities of one row under the model's own distribution: of `token` and of the
 * `top_count` most likely tokens. False when a logit is not finite. */
bool sampler_logprob(struct sampler_workspace *workspace, const float *logits, uint32_t token,
                     uint32_t top_count, llcuda_token_logprob *out);

/* The seed of choice `index` of a request: its own for 0. */
uint64_t sampler_choice_seed(uint64_t seed, uint32_t index);

#endif
