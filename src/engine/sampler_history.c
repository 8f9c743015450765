/* Owns nothing but the layout of the counts: a dense list that the penalties walk, and an index
 * into it. Invariant: an entry, once made, stays; its counts may fall to zero again. */
#include "engine/sampler_history.h"

#include <assert.h>
#include <math.h>

#include "base/random.h"

/* No penalty makes a logit leave the range of a float, however long the match. */
#define DRY_PENALTY_MAX 1e6
/* Penalised logits stay finite. */
#define LOGIT_MAX 1e38

bool token_counts_init(struct token_counts *counts, uint32_t distinct_max, struct arena *arena)
{
    uint32_t size = 16;
    while (size < 2ull * distinct_max) {
        size *= 2;
    }
    counts->count = 0;
    counts->index_mask = size - 1;
    counts->entries = arena_alloc(arena, distinct_max, sizeof *counts->entries);
    counts->index = arena_alloc(arena, size, sizeof *counts->index);
    return counts->entries && counts->index;
}

void token_counts_add(struct token_counts *counts, uint32_t token, int delta, bool generated)
{
    uint32_t place = (uint32_t)random_mix(token) & counts->index_mask;
    while (counts->index[place] != 0 && counts->entries[counts->index[place] - 1].token != token) {
        place = (place + 1) & counts->index_mask;
    }
    if (counts->index[place] == 0) {
        counts->entries[counts->count] = (struct token_count){.token = token};
        counts->index[place] = ++counts->count;
    }
    struct token_count *entry = &counts->entries[counts->index[place] - 1];
    entry->all += (uint32_t)delta;
    entry->generated += generated ? (uint32_t)delta : 0;
}

double history_lowered(const struct sampler_params *params, const struct token_count *entry)
{
    return entry->generated > 0
               ? params->presence_penalty + params->frequency_penalty * entry->generated
               : 0;
}

void history_penalise(const struct sampler *sampler, float *logits)
{
    const struct sampler_params *params = sampler->params;
    double repetition = params->repetition_penalty;
    for (uint32_t i = 0; i < sampler->counts.count; i++) {
        const struct token_count *entry = &sampler->counts.entries[i];
        if (entry->all == 0) {
            continue;
        }
        double logit = logits[entry->token];
        logit = logit > 0 ? logit / repetition : logit * repetition;
        logit -= history_lowered(params, entry);
        logits[entry->token] = (float)fmax(-LOGIT_MAX, fmin(LOGIT_MAX, logit));
    }
}

static bool is_breaker(const struct sampler_params *params, uint32_t token)
{
    return params->dry_breakers && (params->dry_breakers[token / 8] >> (token % 8) & 1) != 0;
}

double history_dry_penalty(const struct sampler_params *params, uint32_t length)
{
    double penalty = params->dry_multiplier;
    for (uint32_t i = params->dry_allowed_length; i < length && penalty < DRY_PENALTY_MAX; i++) {
        penalty *= params->dry_base;
        if (params->dry_base <= 1) {
            break; /* base 1: every length costs the same */
        }
    }
    return penalty < DRY_PENALTY_MAX ? penalty : DRY_PENALTY_MAX;
}

uint32_t history_dry_find(const struct sampler *sampler, struct sampler_workspace *workspace,
                          const uint32_t *tokens, uint32_t known)
{
    const struct sampler_params *params = sampler->params;
    uint32_t n = known;
    if (params->dry_window > 0 && n > params->dry_window) {
        n = params->dry_window;
    }
    assert(n <= workspace->context_max);
    const uint32_t *last = tokens + known - 1; /* r[i] = last[-i], the history backwards */
    uint32_t limit = 0;
    while (limit < n && !is_breaker(params, *(last - limit))) {
        limit++;
    }
    uint32_t allowed = params->dry_allowed_length > 0 ? params->dry_allowed_length : 1;
    if (limit < allowed) {
        return 0;
    }
    uint32_t *z = workspace->match; /* z[j]: how long r and r[j …] are equal */
    uint32_t touched = 0;
    uint32_t left = 0;
    uint32_t right = 0; /* the match that reaches furthest */
    for (uint32_t j = 1; j < n; j++) {
        uint32_t length = 0;
        if (j < right) {
            length = z[j - left] < right - j ? z[j - left] : right - j;
        }
        while (j + length < n && *(last - length) == *(last - j - length)) {
            length++;
        }
        z[j] = length;
        if (j + length > right) {
            left = j;
            right = j + length;
        }
        uint32_t match = length < limit ? length : limit;
        uint32_t next = *(last - j + 1); /* the token that followed that occurrence */
        if (match >= allowed && match > workspace->longest[next]) {
            if (workspace->longest[next] == 0) {
                workspace->scratch[touched++] = next;
            }
            workspace->longest[next] = match;
        }
    }
    return touched;
}

void history_dry(const struct sampler *sampler, struct sampler_workspace *workspace, float *logits,
                 const uint32_t *tokens, uint32_t known)
{
    uint32_t touched = history_dry_find(sampler, workspace, tokens, known);
    for (uint32_t i = 0; i < touched; i++) {
        uint32_t token = (uint32_t)workspace->scratch[i];
        double penalty = history_dry_penalty(sampler->params, workspace->longest[token]);
        logits[token] = (float)((double)logits[token] - penalty);
        workspace->longest[token] = 0;
    }
}
