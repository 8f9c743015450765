/* Stop strings, looked for in a stream of text byte by byte, so that the result does not depend on
 * how the text is cut into tokens: the first byte at which any of them is complete ends the text,
 * and of several complete there the longest counts. Knuth–Morris–Pratt, one automaton a string. */
#ifndef ENGINE_STOP_SET_H
#define ENGINE_STOP_SET_H

#include "base/arena.h"
#include "base/limits.h"
#include "llcuda/llcuda.h"

/* Of a request; immutable. */
struct stop_set {
    uint32_t count;
    struct stop_string {
        struct text_view text;
        const uint16_t *fallback; /* [bytes + 1] longest border of each beginning */
    } strings[LIMIT_STOP_STRINGS];
};

/* Of a choice: how much of each string the text so far ends with. */
struct stop_state {
    uint16_t matched[LIMIT_STOP_STRINGS];
};

/* Copies `texts` (checked: 1 … LIMIT_STOP_STRING_BYTES each) into the arena. False without memory.
 */
bool stop_set_init(struct stop_set *set, const llcuda_text *texts, uint32_t count,
                   struct arena *arena);

/* Feeds text[0 … length). Returns the index of the string that ended it, or -1. *consumed: bytes up
 * to and with the one that completed it. */
int32_t stop_set_feed(const struct stop_set *set, struct stop_state *state, const char *text,
                      size_t length, size_t *consumed);

/* Bytes at the end of the text so far that may be the beginning of a stop string. */
size_t stop_set_held(const struct stop_set *set, const struct stop_state *state);

#endif
