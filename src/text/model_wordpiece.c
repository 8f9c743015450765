/* Owns WordPiece (the longest piece first, then the longest continuation, else the whole word is
 * unknown) and the model whose words are tokens. */
#include "base/utf8.h"
#include "text/unicode.h"
#include "text/word_model.h"

static llcuda_status append_unknown_word(const struct word_model *model, struct token_ids *out,
                                         struct llcuda_error *error)
{
    if (model->vocabulary->unk_id == TOKEN_NONE) {
        return error_set(error, LLCUDA_BAD_FORMAT,
                         "a word is in no token, and the vocabulary has no unknown token");
    }
    return token_ids_append(out, model->vocabulary->unk_id)
               ? LLCUDA_OK
               : error_no_memory(error, "token ids", out->count * sizeof *out->data);
}

static bool is_too_long(const struct word_model *model, struct text_view word)
{
    size_t characters = 0;
    size_t length;
    for (size_t at = 0; at < word.length; at += length) {
        unicode_next(word.data + at, &length);
        if (++characters > model->vocabulary->word_characters_max) {
            return true;
        }
    }
    return false;
}

llcuda_status encode_wordpiece(const struct word_model *model, struct word_scratch *scratch,
                               struct text_view word, struct token_ids *out,
                               struct llcuda_error *error)
{
    (void)scratch;
    if (is_too_long(model, word)) {
        return append_unknown_word(model, out, error);
    }
    size_t before = out->count;
    size_t at = 0;
    while (at < word.length) {
        const struct trie *trie = at == 0 ? &model->pieces : &model->continuations;
        size_t matched = 0;
        uint32_t id = trie_longest(trie, word.data + at, word.length - at, &matched);
        if (id == TRIE_NO_VALUE) {
            out->count = before;
            return append_unknown_word(model, out, error);
        }
        if (!token_ids_append(out, id)) {
            return error_no_memory(error, "token ids", out->count * sizeof *out->data);
        }
        at += matched;
    }
    return LLCUDA_OK;
}

llcuda_status encode_word_level(const struct word_model *model, struct word_scratch *scratch,
                                struct text_view word, struct token_ids *out,
                                struct llcuda_error *error)
{
    (void)scratch;
    uint32_t id = word.length <= model->piece_bytes_max ? vocabulary_find(model->vocabulary, word)
                                                        : TOKEN_NONE;
    if (id == TOKEN_NONE) {
        return append_unknown_word(model, out, error);
    }
    return token_ids_append(out, id)
               ? LLCUDA_OK
               : error_no_memory(error, "token ids", out->count * sizeof *out->data);
}
