/* Hand-written state machines for the regular expressions by which published byte-level tokenisers
 * cut a text into words. Each does what its expression does in Oniguruma (\s is White_Space, (?i)
 * folds U+017F to s), in one pass without backtracking hazards; tests compare each with PCRE2. */
#ifndef TEXT_MACHINES_H
#define TEXT_MACHINES_H

#include "base/view.h"

/* The end of the match that begins exactly at `at` in text[0, end), or `at` when none begins there.
 * The text is valid UTF-8 and begins where the expression's text begins, `at` < `end` is the
 * beginning of a character. Any thread. */
struct machine {
    size_t (*match)(const char *text, size_t end, size_t at);
};

/* The machine for an expression, by its text ("\n" may be written as an escape or as itself); NULL
 * when there is none. */
const struct machine *machine_find(struct text_view expression);

/* \w+|[^\w\s]+, with \w as UTS 18 has it. */
extern const struct machine machine_whitespace;
/* What ByteLevel uses: GPT-2's expression. */
extern const struct machine machine_gpt2;

/* For tests: every expression that has a machine, NULL after the last. */
const char *machine_expression(size_t index);

#endif
