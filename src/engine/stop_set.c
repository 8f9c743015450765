/* Owns nothing: the strings and their tables live in the request's arena. Invariant: matched[i] is
 * the length of the longest beginning of string i, short of the whole, that the text ends with. */
#include "engine/stop_set.h"

bool stop_set_init(struct stop_set *set, const llcuda_text *texts, uint32_t count,
                   struct arena *arena)
{
    set->count = count;
    for (uint32_t s = 0; s < count; s++) {
        size_t length = texts[s].bytes;
        struct text_view text =
            arena_copy_text(arena, text_view_make(texts[s].data, texts[s].bytes));
        uint16_t *fallback = arena_alloc(arena, length + 1, sizeof *fallback);
        if (!text.data || !fallback) {
            return false;
        }
        uint16_t border = 0; /* fallback[0] and fallback[1] are 0 */
        for (size_t i = 1; i < length; i++) {
            while (border > 0 && text.data[i] != text.data[border]) {
                border = fallback[border];
            }
            border = (uint16_t)(border + (text.data[i] == text.data[border]));
            fallback[i + 1] = border;
        }
        set->strings[s] = (struct stop_string){text, fallback};
    }
    return true;
}

int32_t stop_set_feed(const struct stop_set *set, struct stop_state *state, const char *text,
                      size_t length, size_t *consumed)
{
    for (size_t i = 0; i < length; i++) {
        int32_t found = -1;
        for (uint32_t s = 0; s < set->count; s++) {
            const struct stop_string *string = &set->strings[s];
            uint16_t matched = state->matched[s];
            while (matched > 0 && string->text.data[matched] != text[i]) {
                matched = string->fallback[matched];
            }
            matched = (uint16_t)(matched + (string->text.data[matched] == text[i]));
            state->matched[s] = matched;
            if (matched == string->text.length &&
                (found < 0 || string->text.length > set->strings[found].text.length)) {
                found = (int32_t)s;
            }
        }
        if (found >= 0) {
            *consumed = i + 1;
            return found;
        }
    }
    *consumed = length;
    return -1;
}

size_t stop_set_held(const struct stop_set *set, const struct stop_state *state)
{
    size_t held = 0;
    for (uint32_t s = 0; s < set->count; s++) {
        held = state->matched[s] > held ? state->matched[s] : held;
    }
    return held;
}
