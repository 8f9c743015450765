/* A choice's sampler as data of a device's step. */
#ifndef ENGINE_SAMPLER_STEP_H
#define ENGINE_SAMPLER_STEP_H

#include "device/device.h"
#include "engine/sampler.h"

/* How the token after tokens[0 … known) is drawn: what sampler_choose would do with the same
 * arguments. Edits go to edits[0 … capacity); false when they do not fit, or the settings need the
 * host. The edits must live as long as `out` is used. */
bool sampler_describe(const struct sampler *sampler, struct sampler_workspace *workspace,
                      const uint32_t *tokens, uint32_t known, uint32_t prompt_count,
                      struct step_edit *edits, uint32_t capacity, struct step_sampling *out);

/* Edits that the above has used. */
uint32_t sampler_edit_count(const struct step_sampling *sampling);

#endif
