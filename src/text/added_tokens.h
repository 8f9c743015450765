/* Finding added tokens in a text: leftmost, then longest, with the white space they take along. */
#ifndef TEXT_ADDED_TOKENS_H
#define TEXT_ADDED_TOKENS_H

#include "base/vocabulary.h"
#include "text/trie.h"

struct added_set {
    struct trie trie; /* values are positions in vocabulary->added */
    const struct vocabulary_added *added;
    int first_byte; /* that all of them begin with, -1 when they differ */
};

/* The tokens with this `normalized` flag. `forms`, when not NULL, are their texts to look for, by
 * position in vocabulary->added. */
llcuda_status added_set_build(struct added_set *set, const struct vocabulary *vocabulary,
                              bool normalized, const struct text_view *forms,
                              struct llcuda_error *error);
void added_set_deinit(struct added_set *set);

/* The state of one walk over a text. Zeroed, with text and set, it begins at the start. */
struct added_walk {
    const struct added_set *set;
    struct text_view text;
    bool skip_special; /* special tokens are ordinary text */
    size_t from;       /* where to look next */
    size_t done;       /* the end of what the last match took */
    size_t space_end;  /* the end of the white space that was last run over */
};

/* The next match: true, with [*start, *stop) and *id; false at the end of the text. *start is at
 * least the *stop of the match before. */
bool added_walk_next(struct added_walk *walk, size_t *start, size_t *stop, uint32_t *id);

#endif
