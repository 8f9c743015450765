/* The normalisers of a vocabulary, compiled, and run over a section of text. */
#ifndef TEXT_NORMALIZE_H
#define TEXT_NORMALIZE_H

#include "base/buffer.h"
#include "base/vocabulary.h"
#include "text/charsmap.h"
#include "text/regex.h"
#include "text/trie.h"

struct normalizer_step {
    const struct vocabulary_normalizer *spec; /* borrowed from the vocabulary */
    struct regex *regex;
    struct charsmap charsmap;
};

struct normalizer_plan {
    struct normalizer_step steps[VOCABULARY_STEPS_MAX];
    uint32_t step_count;
    bool regex;                      /* a step needs a regex_state */
    const struct trie *user_defined; /* SentencePiece leaves these as they are; may be NULL */
};

/* normalizer_plan_deinit in any case. */
llcuda_status normalizer_plan_compile(struct normalizer_plan *plan,
                                      const struct vocabulary *vocabulary,
                                      const struct trie *user_defined, struct llcuda_error *error);
void normalizer_plan_deinit(struct normalizer_plan *plan);

/* One thread's buffers. A zeroed struct is ready, but for the regex_state. */
struct normalizer_state {
    struct buffer texts[2];
    struct regex_state *regex_state; /* borrowed; needed when plan->regex */
};
void normalizer_state_deinit(struct normalizer_state *state);

/* Normalises `text`, valid UTF-8. *out is `text` itself or lies in the state until the next call.
 * `first`: the section begins where the input begins; `after_special`: an added token stands before
 * it. LIMIT when the result is out of proportion. */
llcuda_status normalize(const struct normalizer_plan *plan, struct normalizer_state *state,
                        struct text_view text, bool first, bool after_special,
                        struct text_view *out, struct llcuda_error *error);

#endif
