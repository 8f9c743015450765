/* Owns the translation of a sampler's settings and history into a step's data, in the order in
 * which sampler.c applies them. Stateless: any thread with a workspace of its own. */
#include "engine/sampler_step.h"

#include "engine/sampler_history.h"

/* A list under construction. */
struct edits {
    struct step_edit *entries;
    uint32_t count, capacity;
    bool full;
};

static void add(struct edits *edits, uint32_t token, double amount)
{
    if (edits->count == edits->capacity) {
        edits->full = true;
        return;
    }
    edits->entries[edits->count++] = (struct step_edit){.token = token, .amount = amount};
}

static void add_penalties(struct edits *edits, const struct sampler *sampler)
{
    for (uint32_t i = 0; sampler->counting && i < sampler->counts.count; i++) {
        const struct token_count *entry = &sampler->counts.entries[i];
        if (entry->all > 0) {
            add(edits, entry->token, history_lowered(sampler->params, entry));
        }
    }
}

static void add_dry(struct edits *edits, const struct sampler *sampler,
                    struct sampler_workspace *workspace, const uint32_t *tokens, uint32_t known)
{
    if (sampler->params->dry_multiplier <= 0) {
        return;
    }
    uint32_t touched = history_dry_find(sampler, workspace, tokens, known);
    for (uint32_t i = 0; i < touched; i++) {
        uint32_t token = (uint32_t)workspace->scratch[i];
        add(edits, token, history_dry_penalty(sampler->params, workspace->longest[token]));
        workspace->longest[token] = 0;
    }
}

bool sampler_describe(const struct sampler *sampler, struct sampler_workspace *workspace,
                      const uint32_t *tokens, uint32_t known, uint32_t prompt_count,
                      struct step_edit *edits, uint32_t capacity, struct step_sampling *out)
{
    const struct sampler_params *params = sampler->params;
    struct edits list = {.entries = edits, .capacity = capacity};
    *out = (struct step_sampling){
        .logprobs = params->logprobs,
        .top_logprobs = params->logprobs ? params->top_logprobs : 0,
        .temperature = params->temperature < SAMPLER_TEMPERATURE_MIN ? 0 : params->temperature,
        .top_p = params->top_p,
        .typical_p = params->typical_p,
        .min_p = params->min_p,
        .repetition_penalty = params->repetition_penalty,
        .top_k = params->top_k,
        .position = known,
        .seed = sampler->seed,
        .edits = edits,
    };
    uint32_t begin = 0;
    for (int kind = 0; kind < STEP_EDIT_KIND_COUNT; kind++) {
        switch ((enum step_edit_kind)kind) {
        case STEP_EDIT_PENALISE:
            add_penalties(&list, sampler);
            break;
        case STEP_EDIT_LOWER:
            add_dry(&list, sampler, workspace, tokens, known);
            break;
        case STEP_EDIT_ADD:
            for (uint32_t i = 0; i < params->bias_count; i++) {
                add(&list, params->bias[i].token, (double)params->bias[i].bias);
            }
            break;
        case STEP_EDIT_FORBID:
            for (uint32_t i = 0; i < params->end_count; i++) {
                if (known - prompt_count < params->min_tokens) {
                    add(&list, params->end_tokens[i], 0);
                }
            }
            break;
        case STEP_EDIT_KIND_COUNT:
            break;
        }
        out->edit_counts[kind] = list.count - begin;
        begin = list.count;
    }
    return !list.full;
}

uint32_t sampler_edit_count(const struct step_sampling *sampling)
{
    uint32_t count = 0;
    for (int kind = 0; kind < STEP_EDIT_KIND_COUNT; kind++) {
        count += sampling->edit_counts[kind];
    }
    return count;
}
