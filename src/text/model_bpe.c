/* Owns byte-pair encoding of one word: by ranked merges over bytes or characters, and by scores as
 * SentencePiece does it. */
#include <stdlib.h>

#include "base/utf8.h"
#include "text/split.h"
#include "text/unicode.h"
#include "text/word_model.h"

#define STACK_SYMBOLS 64u

static llcuda_status no_room(struct llcuda_error *error, size_t count)
{
    return error_no_memory(error, "the tokens of a word", count * sizeof(uint32_t));
}

static llcuda_status append_all(const uint32_t *ids, size_t count, struct token_ids *out,
                                struct llcuda_error *error)
{
    for (size_t i = 0; i < count; i++) {
        if (!token_ids_append(out, ids[i])) {
            return no_room(error, out->count);
        }
    }
    return LLCUDA_OK;
}

/* The token that a whole word is, TOKEN_NONE for none. */
static uint32_t whole_word(const struct word_model *model, struct text_view word)
{
    if (word.length > model->piece_bytes_max) {
        return TOKEN_NONE;
    }
    if (!model->bytes) {
        return vocabulary_find(model->vocabulary, word);
    }
    char mapped[512]; /* a byte becomes at most two */
    if (word.length > sizeof mapped / 2) {
        return TOKEN_NONE;
    }
    size_t length = 0;
    for (size_t i = 0; i < word.length; i++) {
        uint32_t code = byte_level_character((uint8_t)word.data[i]);
        if (code < 0x80) {
            mapped[length++] = (char)code;
        } else {
            mapped[length++] = (char)(0xC0 | code >> 6);
            mapped[length++] = (char)(0x80 | (code & 0x3F));
        }
    }
    return vocabulary_find(model->vocabulary, text_view_make(mapped, length));
}

/* Symbols under construction, with the run of unknown characters that is not written yet. */
struct symbol_list {
    uint32_t *symbols;
    size_t count;
    uint32_t unknown; /* TOKEN_NONE: no run is open */
};

static void close_unknown(struct symbol_list *list)
{
    if (list->unknown != TOKEN_NONE) {
        list->symbols[list->count++] = list->unknown;
        list->unknown = TOKEN_NONE;
    }
}

/* An unknown character: one unk, or part of the open run. Without unk it disappears. */
static void add_unknown(const struct vocabulary *vocabulary, struct symbol_list *list)
{
    if (vocabulary->unk_id == TOKEN_NONE) {
        return;
    }
    if (!vocabulary->fuse_unk) {
        close_unknown(list);
    }
    list->unknown = vocabulary->unk_id;
}

/* The token of a character with the prefix of a word's inside and the suffix of its end. */
static uint32_t decorated(const struct vocabulary *vocabulary, struct text_view character,
                          bool first, bool last)
{
    struct text_view prefix = vocabulary->continuing_subword_prefix;
    struct text_view suffix = vocabulary->end_of_word_suffix;
    prefix.length = first ? 0 : prefix.length;
    suffix.length = last ? suffix.length : 0;
    if (prefix.length + suffix.length == 0) {
        return vocabulary_find(vocabulary, character);
    }
    char text[128];
    size_t length = prefix.length + character.length + suffix.length;
    if (prefix.length > sizeof text || suffix.length > sizeof text || length > sizeof text) {
        return TOKEN_NONE;
    }
    memcpy(text, prefix.data, prefix.length);
    memcpy(text + prefix.length, character.data, character.length);
    if (suffix.length) {
        memcpy(text + prefix.length + character.length, suffix.data, suffix.length);
    }
    return vocabulary_find(vocabulary, text_view_make(text, length));
}

static void byte_symbols(const struct word_model *model, struct text_view word,
                         struct symbol_list *list)
{
    const struct vocabulary *vocabulary = model->vocabulary;
    bool plain = vocabulary->continuing_subword_prefix.length == 0 &&
                 vocabulary->end_of_word_suffix.length == 0;
    for (size_t i = 0; i < word.length; i++) {
        uint8_t byte = (uint8_t)word.data[i];
        uint32_t symbol = model->byte_symbols[byte];
        if (!plain) {
            char encoded[4];
            size_t length = utf8_encode(byte_level_character(byte), encoded);
            symbol = decorated(vocabulary, text_view_make(encoded, length), i == 0,
                               i + 1 == word.length);
        }
        if (symbol == TOKEN_NONE) {
            add_unknown(vocabulary, list);
            continue;
        }
        close_unknown(list);
        list->symbols[list->count++] = symbol;
    }
    close_unknown(list);
}

static bool add_fallback_symbols(const struct word_model *model, struct text_view character,
                                 struct symbol_list *list)
{
    for (size_t i = 0; i < character.length; i++) {
        if (model->fallback_ids[(uint8_t)character.data[i]] == TOKEN_NONE) {
            return false;
        }
    }
    for (size_t i = 0; i < character.length; i++) {
        list->symbols[list->count++] = model->fallback_ids[(uint8_t)character.data[i]];
    }
    return true;
}

static void character_symbols(const struct word_model *model, struct text_view word,
                              struct symbol_list *list)
{
    const struct vocabulary *vocabulary = model->vocabulary;
    size_t length;
    for (size_t at = 0; at < word.length; at += length) {
        unicode_next(word.data + at, &length);
        struct text_view character = text_view_make(word.data + at, length);
        uint32_t symbol = decorated(vocabulary, character, at == 0, at + length == word.length);
        if (symbol != TOKEN_NONE) {
            close_unknown(list);
            list->symbols[list->count++] = symbol;
        } else if (!vocabulary->byte_fallback || !add_fallback_symbols(model, character, list)) {
            /* An open run of unknowns stays open over byte tokens, as the reference has it. */
            add_unknown(vocabulary, list);
        }
    }
    close_unknown(list);
}

llcuda_status encode_bpe(const struct word_model *model, struct word_scratch *scratch,
                         struct text_view word, struct token_ids *out, struct llcuda_error *error)
{
    if (model->vocabulary->ignore_merges) {
        uint32_t id = whole_word(model, word);
        if (id != TOKEN_NONE) {
            return append_all(&id, 1, out, error);
        }
    }
    uint32_t on_stack[STACK_SYMBOLS];
    struct symbol_list list = {.symbols = on_stack, .unknown = TOKEN_NONE};
    if (word.length > STACK_SYMBOLS) {
        list.symbols = word_scratch_symbols(scratch, word.length);
        if (!list.symbols) {
            return no_room(error, word.length);
        }
    }
    if (model->bytes) {
        byte_symbols(model, word, &list);
    } else {
        character_symbols(model, word, &list);
    }
    llcuda_status status = merge_symbols(&model->merges, &scratch->merge, MERGE_BY_LENGTH,
                                         list.symbols, &list.count, error);
    return status ? status : append_all(list.symbols, list.count, out, error);
}

/* What SentencePiece makes of unknown characters: bytes, or one unk for a run of them. */
static llcuda_status append_unknown(const struct word_model *model, uint32_t code, bool *in_run,
                                    struct token_ids *out, struct llcuda_error *error)
{
    char encoded[4];
    size_t length = utf8_encode(code, encoded);
    bool failed = false;
    if (model->vocabulary->byte_fallback &&
        append_fallback(model, text_view_make(encoded, length), out, &failed)) {
        *in_run = false;
        return LLCUDA_OK;
    }
    if (failed) {
        return no_room(error, out->count);
    }
    if (model->vocabulary->unk_id == TOKEN_NONE) {
        return error_set(error, LLCUDA_BAD_FORMAT,
                         "U+%04X is in no token, and the vocabulary has no unknown token", code);
    }
    bool repeated = *in_run;
    *in_run = true;
    return repeated || token_ids_append(out, model->vocabulary->unk_id) ? LLCUDA_OK
                                                                        : no_room(error, 1);
}

/* Takes unused tokens apart again, into what they were last seen made of. Depth first with an own
 * stack; each step shortens a piece, so the stack is never deeper than the longest piece. */
static llcuda_status append_used(const struct word_model *model, struct word_scratch *scratch,
                                 uint32_t symbol, bool *in_run, struct token_ids *out,
                                 struct llcuda_error *error)
{
    uint32_t stack[256];
    size_t depth = 0;
    stack[depth++] = symbol;
    while (depth > 0) {
        symbol = stack[--depth];
        if (symbol & SYMBOL_CHARACTER) {
            llcuda_status status =
                append_unknown(model, symbol & ~SYMBOL_CHARACTER, in_run, out, error);
            if (status) {
                return status;
            }
            continue;
        }
        const uint32_t *parts = model->merges.reversible && scratch->merge.reverse &&
                                        model->vocabulary->kinds[symbol] == TOKEN_UNUSED
                                    ? scratch->merge.reverse + 2 * (size_t)symbol
                                    : NULL;
        if (parts && parts[0] != SYMBOL_NONE && depth + 2 <= sizeof stack / sizeof stack[0]) {
            stack[depth++] = parts[1];
            stack[depth++] = parts[0];
            continue;
        }
        *in_run = false;
        if (!token_ids_append(out, symbol)) {
            return no_room(error, out->count);
        }
    }
    return LLCUDA_OK;
}

/* Characters without a user-defined piece among them. */
static llcuda_status encode_run(const struct word_model *model, struct word_scratch *scratch,
                                struct text_view run, bool *in_unknown, struct token_ids *out,
                                struct llcuda_error *error)
{
    uint32_t *symbols = word_scratch_symbols(scratch, run.length);
    if (!symbols) {
        return no_room(error, run.length);
    }
    size_t count = 0;
    size_t length;
    for (size_t at = 0; at < run.length; at += length) {
        uint32_t code = unicode_next(run.data + at, &length);
        symbols[count++] = merge_symbol_of(model->vocabulary, run.data + at, length, code);
    }
    llcuda_status status =
        merge_symbols(&model->merges, &scratch->merge, MERGE_BY_LENGTH, symbols, &count, error);
    for (size_t i = 0; i < count && !status; i++) {
        status = append_used(model, scratch, symbols[i], in_unknown, out, error);
    }
    return status;
}

llcuda_status encode_sentencepiece(const struct word_model *model, struct word_scratch *scratch,
                                   struct text_view word, struct token_ids *out,
                                   struct llcuda_error *error)
{
    bool in_unknown = false;
    size_t begin = 0;
    size_t at = 0;
    while (model->user_defined.nodes && at < word.length) {
        size_t matched;
        uint32_t id =
            trie_longest(&model->user_defined, word.data + at, word.length - at, &matched);
        if (id == TRIE_NO_VALUE) {
            size_t length;
            unicode_next(word.data + at, &length);
            at += length;
            continue;
        }
        llcuda_status status = LLCUDA_OK;
        if (at > begin) {
            status = encode_run(model, scratch, text_view_make(word.data + begin, at - begin),
                                &in_unknown, out, error);
        }
        if (status) {
            return status;
        }
        if (!token_ids_append(out, id)) {
            return no_room(error, out->count);
        }
        in_unknown = false;
        at += matched;
        begin = at;
    }
    if (begin == word.length) {
        return LLCUDA_OK;
    }
    return encode_run(model, scratch, text_view_make(word.data + begin, word.length - begin),
                      &in_unknown, out, error);
}
