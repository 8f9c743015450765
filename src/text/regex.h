/* Regular expressions of tokeniser files that have no machine of ours, through PCRE2. Files mean
 * Oniguruma's Ruby syntax: \s \w \d are Unicode properties, ^ and $ work at lines. Bounded in steps
 * and memory, no recursion. */
#ifndef TEXT_REGEX_H
#define TEXT_REGEX_H

#include "base/error.h"
#include "base/view.h"

struct regex;
struct regex_state; /* what one thread needs to match */

/* UNSUPPORTED for a construct that PCRE2 does not know or understands differently, and in builds
 * without PCRE2; LIMIT above LIMIT_REGEX_BYTES. */
llcuda_status regex_create(struct text_view expression, struct regex **regex,
                           struct llcuda_error *error);
void regex_destroy(struct regex *regex);

llcuda_status regex_state_create(struct regex_state **state, struct llcuda_error *error);
void regex_state_destroy(struct regex_state *state);

/* The first match at or after `from` in text[0, end), valid UTF-8: *found tells whether there is
 * one, [*start, *stop) where; it may be empty. LIMIT when it takes too many steps. */
llcuda_status regex_find(const struct regex *regex, struct regex_state *state, const char *text,
                         size_t end, size_t from, bool *found, size_t *start, size_t *stop,
                         struct llcuda_error *error);

#endif
