/* Owns the search for added tokens. Linear: a token is at most VOCABULARY_ADDED_BYTES_MAX long, and
 * white space is run over once in each direction. */
#include "text/added_tokens.h"

#include <stdlib.h>

#include "base/utf8.h"
#include "text/unicode.h"

llcuda_status added_set_build(struct added_set *set, const struct vocabulary *vocabulary,
                              bool normalized, const struct text_view *forms,
                              struct llcuda_error *error)
{
    *set = (struct added_set){.added = vocabulary->added, .first_byte = -1};
    struct trie_key *keys = malloc(((size_t)vocabulary->added_count + 1) * sizeof *keys);
    if (!keys) {
        return error_no_memory(error, "the added tokens", vocabulary->added_count * sizeof *keys);
    }
    size_t count = 0;
    for (uint32_t i = 0; i < vocabulary->added_count; i++) {
        const struct vocabulary_added *added = &vocabulary->added[i];
        struct text_view text = forms ? forms[i] : added->content;
        /* Half a character would leave the other half behind. */
        if (added->normalized == normalized && text.length > 0 && utf8_valid(text)) {
            keys[count++] = (struct trie_key){text, i};
        }
    }
    llcuda_status status = trie_build(&set->trie, keys, count, error);
    free(keys);
    unsigned beginnings = 0;
    for (int byte = 0; byte < 256; byte++) {
        if (set->trie.root[byte]) {
            set->first_byte = byte;
            beginnings++;
        }
    }
    if (beginnings > 1) {
        set->first_byte = -1;
    }
    return status;
}

void added_set_deinit(struct added_set *set)
{
    trie_deinit(&set->trie);
}

static bool is_word_before(struct text_view text, size_t at)
{
    size_t length;
    return at > 0 &&
           unicode_is_word(unicode_next(text.data + unicode_previous(text.data, at), &length));
}

static bool is_word_after(struct text_view text, size_t at)
{
    size_t length;
    return at < text.length && unicode_is_word(unicode_next(text.data + at, &length));
}

static size_t space_before(struct text_view text, size_t at, size_t least)
{
    size_t length;
    while (at > least) {
        size_t previous = unicode_previous(text.data, at);
        if (!unicode_is_space(unicode_next(text.data + previous, &length))) {
            break;
        }
        at = previous;
    }
    return at < least ? least : at;
}

static size_t space_after(struct added_walk *walk, size_t at)
{
    size_t end = at < walk->space_end ? walk->space_end : at;
    size_t length;
    while (end < walk->text.length &&
           unicode_is_space(unicode_next(walk->text.data + end, &length))) {
        end += length;
    }
    walk->space_end = end;
    return end;
}

/* The next key in the text from walk->from on. */
static uint32_t find_key(struct added_walk *walk, size_t *start, size_t *matched)
{
    const struct trie *trie = &walk->set->trie;
    const uint8_t *text = (const uint8_t *)walk->text.data;
    for (size_t at = walk->from; at < walk->text.length; at++) {
        if (walk->set->first_byte >= 0) {
            const uint8_t *next = memchr(text + at, walk->set->first_byte, walk->text.length - at);
            if (!next) {
                break;
            }
            at = (size_t)(next - text);
        } else if (trie->root[text[at]] == 0) {
            continue;
        }
        uint32_t value = trie_longest(trie, walk->text.data + at, walk->text.length - at, matched);
        if (value != TRIE_NO_VALUE) {
            *start = at;
            return value;
        }
    }
    return TRIE_NO_VALUE;
}

bool added_walk_next(struct added_walk *walk, size_t *start, size_t *stop, uint32_t *id)
{
    if (!walk->set->trie.nodes) {
        return false;
    }
    size_t matched;
    uint32_t value;
    while ((value = find_key(walk, start, &matched)) != TRIE_NO_VALUE) {
        const struct vocabulary_added *added = &walk->set->added[value];
        *stop = *start + matched;
        walk->from = *stop;
        if ((walk->skip_special && added->special) ||
            (added->single_word &&
             (is_word_before(walk->text, *start) || is_word_after(walk->text, *stop)))) {
            continue;
        }
        if (added->lstrip) {
            *start = space_before(walk->text, *start, walk->done);
        }
        if (added->rstrip) {
            *stop = space_after(walk, *stop);
        }
        /* White space that the token before took along belongs to it. */
        *start = *start < walk->done ? walk->done : *start;
        *stop = *stop < *start ? *start : *stop;
        walk->done = *stop;
        *id = added->id;
        return true;
    }
    walk->from = walk->text.length;
    return false;
}
