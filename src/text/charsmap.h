/* SentencePiece's precompiled_charsmap: a double-array trie (darts-clone's layout) from prefixes to
 * replacement strings. The bytes come from a file: every index is checked. */
#ifndef TEXT_CHARSMAP_H
#define TEXT_CHARSMAP_H

#include "base/error.h"
#include "base/view.h"

struct charsmap {
    const uint8_t *units; /* unaligned little-endian 32-bit numbers */
    uint32_t unit_count;
    struct text_view replacements; /* NUL-terminated strings, one after the other */
};

/* Borrows `blob`; an empty one gives an empty map. BAD_FORMAT when its sizes do not fit. */
llcuda_status charsmap_open(struct charsmap *map, struct text_view blob,
                            struct llcuda_error *error);

/* The longest prefix of `text` that has a replacement, or the shortest; *matched gets its bytes.
 * False when there is none. */
bool charsmap_find(const struct charsmap *map, struct text_view text, bool longest, size_t *matched,
                   struct text_view *replacement);

#endif
