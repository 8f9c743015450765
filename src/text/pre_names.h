/* The pre-tokenisers that GGUF names in tokenizer.ggml.pre. */
#ifndef TEXT_PRE_NAMES_H
#define TEXT_PRE_NAMES_H

#include "base/vocabulary.h"

#define PRE_EXPRESSIONS_MAX 8u

/* What a name stands for: expressions that are applied one inside the other, every match and every
 * gap a word. */
struct pre_name {
    const char *name;
    const char *const *expressions; /* NULL after the last */
    bool ignore_merges;
    bool add_bos; /* when the file does not say */
};

/* NULL when the name is not known. */
const struct pre_name *pre_name_find(struct text_view name);

/* By position, NULL after the last: for tests and documentation. */
const struct pre_name *pre_name_at(size_t index);

/* True when every expression has a machine or is one class: no PCRE2 is needed. */
bool pre_name_is_native(const struct pre_name *name);

/* The splitters of a name, at most PRE_EXPRESSIONS_MAX + 1; the strings are static. */
uint32_t pre_name_splitters(const struct pre_name *name, struct vocabulary_splitter *splitters);

#endif
