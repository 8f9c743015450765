/* What a choice's own history does to its logits: counts for the penalties, and DRY. */
#ifndef ENGINE_SAMPLER_HISTORY_H
#define ENGINE_SAMPLER_HISTORY_H

#include "engine/sampler.h"

/* Room for `distinct_max` different tokens. False without memory. */
bool token_counts_init(struct token_counts *counts, uint32_t distinct_max, struct arena *arena);
/* Adds (or, with delta -1, takes away) one occurrence. */
void token_counts_add(struct token_counts *counts, uint32_t token, int delta, bool generated);

/* Applies the penalties to logits [V] in place. */
void history_penalise(const struct sampler *sampler, float *logits);

/* What the presence and frequency penalties take from an entry's logit. */
double history_lowered(const struct sampler_params *params, const struct token_count *entry);

/* DRY ("don't repeat yourself", p-e-w, 2024): for each token that would lengthen a repetition of
 * the end of the history to more than the allowed length L0, its logit loses
 * multiplier · base^(L − L0), L being the longest match before it. Breakers end matches. Linear in
 * the history (the Z algorithm on the reversed tokens). */
void history_dry(const struct sampler *sampler, struct sampler_workspace *workspace, float *logits,
                 const uint32_t *tokens, uint32_t known);

/* The first half of it: how many tokens would lengthen a repetition. They are in
 * workspace->scratch, the length of each one's longest match in workspace->longest, whose entries
 * the caller sets back to zero. */
uint32_t history_dry_find(const struct sampler *sampler, struct sampler_workspace *workspace,
                          const uint32_t *tokens, uint32_t known);
/* What a token loses whose longest match has `length` tokens. */
double history_dry_penalty(const struct sampler_params *params, uint32_t length);

#endif
