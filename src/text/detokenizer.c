/* Owns decoding: ids to text, one token at a time. Each decoder of the vocabulary works on a token
 * as it comes (up to DECODER_FUSE) or on the text that has been made (after it); what cannot be
 * decided yet is held back. Invariant: what was given out is valid UTF-8 and final.
 *
 * Runs of byte tokens are decoded character by character, as SentencePiece does it: a byte that
 * belongs to no character becomes one U+FFFD. (Hugging Face gives up the whole run instead, which a
 * stream cannot know in time.) */
#include <stdlib.h>

#include "base/utf8.h"
#include "text/split.h"
#include "text/tokenizer_parts.h"
#include "text/unicode.h"

static const char replacement[] = "\xEF\xBF\xBD";

struct detokenizer {
    const struct tokenizer *tokenizer;
    bool skip_special;
    bool started;  /* a token has been pushed */
    bool begun;    /* text has been made, or the space before it has been dropped */
    bool byte_run; /* `open` comes from byte tokens */
    char open[4];  /* the beginning of a character */
    size_t open_bytes;
    uint32_t strip_left; /* characters that may still be cut from the front */
    struct buffer token; /* the token being decoded */
    struct buffer spare;
    struct buffer held; /* DECODER_BPE: the last token, whose end is not known yet */
    bool holding;
    struct buffer tail; /* characters at the end that Strip would cut there */
};

/* Where decoding goes on behind Fuse: the index of the first decoder after it. */
static uint32_t fuse_index(const struct vocabulary *vocabulary)
{
    for (uint32_t i = 0; i < vocabulary->decoder_count; i++) {
        enum decoder_kind kind = vocabulary->decoders[i].kind;
        if (kind == DECODER_FUSE || kind == DECODER_BYTE_LEVEL) {
            return i;
        }
    }
    return vocabulary->decoder_count;
}

llcuda_status decoders_check(const struct vocabulary *vocabulary, struct llcuda_error *error)
{
    uint32_t fuse = fuse_index(vocabulary);
    for (uint32_t i = 0; i < vocabulary->decoder_count; i++) {
        const struct vocabulary_decoder *decoder = &vocabulary->decoders[i];
        bool after = i > fuse;
        bool harmless = decoder->kind == DECODER_FUSE || decoder->kind == DECODER_BYTE_FALLBACK;
        bool one_character = decoder->kind == DECODER_REPLACE && decoder->pattern.length > 0;
        if (one_character && utf8_valid(decoder->pattern)) {
            size_t length;
            unicode_next(decoder->pattern.data, &length);
            one_character = length == decoder->pattern.length;
        }
        bool strips = decoder->kind == DECODER_STRIP && i + 1 == vocabulary->decoder_count;
        if (after && !harmless && !one_character && !strips) {
            return error_set(error, LLCUDA_UNSUPPORTED,
                             "decoder %u works on the whole text, which is not supported", i);
        }
        if (decoder->kind == DECODER_STRIP && (decoder->start > 1000 || decoder->stop > 1000)) {
            return error_set(error, LLCUDA_LIMIT, "decoder %u strips more than 1000 characters", i);
        }
    }
    return LLCUDA_OK;
}

static void replace_all(struct text_view text, struct text_view pattern, struct text_view content,
                        struct buffer *out)
{
    size_t done = 0;
    while (pattern.length && done < text.length) {
        const char *at = memmem(text.data + done, text.length - done, pattern.data, pattern.length);
        if (!at) {
            break;
        }
        buffer_append(out, text.data + done, (size_t)(at - text.data) - done);
        buffer_append_view(out, content);
        done = (size_t)(at - text.data) + pattern.length;
    }
    if (done < text.length) {
        buffer_append(out, text.data + done, text.length - done);
    }
}

static void swap_buffers(struct buffer *a, struct buffer *b)
{
    struct buffer kept = *a;
    *a = *b;
    *b = kept;
}

/* Byte-level characters to bytes; a piece with any other character stays as it is. */
static void decode_byte_level(struct text_view text, struct buffer *out)
{
    size_t before = out->length;
    size_t at = 0;
    while (at < text.length) {
        uint32_t code;
        size_t length = utf8_decode(text.data + at, text.length - at, &code);
        int byte = length ? byte_level_byte(code) : -1;
        if (byte < 0) {
            out->length = before;
            buffer_append_view(out, text);
            return;
        }
        buffer_append_byte(out, (char)byte);
        at += length;
    }
}

static void decode_metaspace(const struct vocabulary_decoder *decoder, struct text_view text,
                             bool first, struct buffer *out)
{
    bool drop = first && decoder->prepend != METASPACE_NEVER;
    replace_all(text, decoder->content, text_view_make(" ", drop ? 0 : 1), out);
}

/* Spaces before punctuation and shortened words closed up, as the BERT decoder does it. */
static void clean_up(struct buffer *token, struct buffer *spare)
{
    static const char *const pairs[][2] = {
        {" .", "."},   {" ?", "?"},     {" !", "!"},     {" ,", ","},
        {" ' ", "'"},  {" n't", "n't"}, {" 'm", "'m"},   {" do not", " don't"},
        {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"},
    };
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        buffer_clear(spare);
        replace_all(buffer_view(token), text_view_of(pairs[i][0]), text_view_of(pairs[i][1]),
                    spare);
        swap_buffers(token, spare);
    }
}

static void decode_wordpiece(const struct vocabulary_decoder *decoder, struct text_view text,
                             bool first, bool added, struct buffer *out)
{
    struct text_view word = decoder->pattern; /* marks the beginning of a word in GGUF */
    struct text_view inside = decoder->content;
    bool begins = added;
    if (word.length) {
        if (text.length >= word.length && memcmp(text.data, word.data, word.length) == 0) {
            text.data += word.length;
            text.length -= word.length;
            begins = true;
        }
    } else if (!first && text.length >= inside.length &&
               memcmp(text.data, inside.data, inside.length) == 0) {
        text.data += inside.length;
        text.length -= inside.length;
    } else {
        begins = true;
    }
    if (begins && !first) {
        buffer_append_byte(out, ' ');
    }
    buffer_append_view(out, text);
}

static struct text_view strip_token(const struct vocabulary_decoder *decoder, struct text_view text)
{
    struct text_view cut = decoder->content;
    for (uint32_t i = 0; i < decoder->start && cut.length && text.length >= cut.length &&
                         memcmp(text.data, cut.data, cut.length) == 0;
         i++) {
        text.data += cut.length;
        text.length -= cut.length;
    }
    for (uint32_t i = 0; i < decoder->stop && cut.length && text.length >= cut.length &&
                         memcmp(text.data + text.length - cut.length, cut.data, cut.length) == 0;
         i++) {
        text.length -= cut.length;
    }
    return text;
}

/* Where a token stands. */
struct place {
    bool first;    /* no token before it */
    bool at_start; /* no text before it */
    bool added;    /* it is an added token */
    bool dropped;  /* result: the space before the text was dropped, what follows keeps its own */
};

static void decode_sentencepiece(const struct vocabulary_decoder *decoder, struct text_view text,
                                 struct place *place, struct buffer *out)
{
    struct text_view space = decoder->content;
    if (place->at_start && text.length >= space.length &&
        memcmp(text.data, space.data, space.length) == 0) {
        text.data += space.length;
        text.length -= space.length;
        place->dropped = !decoder->cleanup;
    }
    replace_all(text, space, text_view_of(" "), out);
}

/* One decoder before Fuse. */
static void decode_step(const struct vocabulary_decoder *decoder, struct text_view text,
                        struct place *place, struct buffer *out, struct buffer *spare)
{
    bool first = place->first;
    bool added = place->added;
    switch (decoder->kind) {
    case DECODER_BYTE_LEVEL:
        decode_byte_level(text, out);
        if (added && !utf8_valid(buffer_view(out))) { /* it was no byte-level text after all */
            buffer_clear(out);
            buffer_append_view(out, text);
        }
        return;
    case DECODER_METASPACE:
        decode_metaspace(decoder, text, first, out);
        return;
    case DECODER_SENTENCEPIECE:
        decode_sentencepiece(decoder, text, place, out);
        return;
    case DECODER_REPLACE:
        replace_all(text, decoder->pattern, decoder->content, out);
        return;
    case DECODER_STRIP:
        buffer_append_view(out, strip_token(decoder, text));
        return;
    case DECODER_WORDPIECE:
        decode_wordpiece(decoder, text, first, added, out);
        if (decoder->cleanup) {
            clean_up(out, spare);
        }
        return;
    case DECODER_JOIN:
        if (!first) {
            buffer_append_byte(out, ' ');
        }
        buffer_append_view(out, text);
        return;
    case DECODER_BPE: /* by the caller, who knows the next token */
    case DECODER_BYTE_FALLBACK:
    case DECODER_FUSE:
        buffer_append_view(out, text);
        return;
    }
}

/* The text of a token up to and with the step that joins tokens, in `token`; *byte is the byte that
 * a byte token stands for, -1 for other tokens. */
static void decode_piece(const struct tokenizer *tokenizer, uint32_t id, struct place *place,
                         struct buffer *token, struct buffer *spare, int *byte)
{
    const struct vocabulary *vocabulary = tokenizer->vocabulary;
    uint32_t added_index = tokenizer->added_of[id];
    place->added = added_index != TOKEN_NONE;
    struct text_view piece = tokenizer_piece(tokenizer, id);
    if (place->added && vocabulary->added[added_index].normalized) {
        piece = tokenizer->added_forms[added_index]; /* the text that it was found as */
    }
    if (id == vocabulary->unk_id && vocabulary->unk_surface.length) {
        piece = vocabulary->unk_surface;
    }
    *byte = -1;
    buffer_clear(token);
    buffer_append_view(token, piece);
    uint32_t fuse = fuse_index(vocabulary);
    struct buffer third = {0};
    for (uint32_t i = 0; i < vocabulary->decoder_count && i <= fuse; i++) {
        if (vocabulary->decoders[i].kind == DECODER_BYTE_FALLBACK) {
            *byte = vocabulary_piece_byte(buffer_view(token));
            if (*byte >= 0) {
                break;
            }
        }
        buffer_clear(spare);
        decode_step(&vocabulary->decoders[i], buffer_view(token), place, spare, &third);
        swap_buffers(token, spare);
    }
    token->failed |= third.failed;
    buffer_deinit(&third);
}

llcuda_status tokenizer_decode_token(const struct tokenizer *tokenizer, uint32_t id,
                                     struct buffer *out, struct llcuda_error *error)
{
    if (id >= tokenizer->vocabulary->token_count) {
        return error_set(error, LLCUDA_INVALID_ARGUMENT,
                         "token id %u is out of range: there are %u", id,
                         tokenizer->vocabulary->token_count);
    }
    struct buffer token = {0};
    struct buffer spare = {0};
    struct place place = {0};
    int byte;
    decode_piece(tokenizer, id, &place, &token, &spare, &byte);
    if (byte >= 0) {
        buffer_append_byte(out, (char)byte);
    } else {
        buffer_append_view(out, buffer_view(&token));
    }
    bool failed = token.failed || spare.failed || out->failed;
    buffer_deinit(&token);
    buffer_deinit(&spare);
    return failed ? error_no_memory(error, "a token's text", 0) : LLCUDA_OK;
}

llcuda_status detokenizer_create(const struct tokenizer *tokenizer, bool skip_special,
                                 struct detokenizer **detokenizer, struct llcuda_error *error)
{
    *detokenizer = calloc(1, sizeof **detokenizer);
    if (!*detokenizer) {
        return error_no_memory(error, "a detokenizer", sizeof **detokenizer);
    }
    (*detokenizer)->tokenizer = tokenizer;
    (*detokenizer)->skip_special = skip_special;
    detokenizer_reset(*detokenizer);
    return LLCUDA_OK;
}

void detokenizer_destroy(struct detokenizer *detokenizer)
{
    if (detokenizer) {
        buffer_deinit(&detokenizer->token);
        buffer_deinit(&detokenizer->spare);
        buffer_deinit(&detokenizer->held);
        buffer_deinit(&detokenizer->tail);
        free(detokenizer);
    }
}

/* The decoder that cuts the whole text, NULL when there is none. */
static const struct vocabulary_decoder *final_strip(const struct vocabulary *vocabulary)
{
    uint32_t last = vocabulary->decoder_count;
    if (last > 0 && vocabulary->decoders[last - 1].kind == DECODER_STRIP &&
        fuse_index(vocabulary) < last - 1) {
        return &vocabulary->decoders[last - 1];
    }
    return NULL;
}

void detokenizer_reset(struct detokenizer *detokenizer)
{
    const struct vocabulary_decoder *strip = final_strip(detokenizer->tokenizer->vocabulary);
    detokenizer->started = false;
    detokenizer->begun = false;
    detokenizer->byte_run = false;
    detokenizer->open_bytes = 0;
    detokenizer->strip_left = strip ? strip->start : 0;
    detokenizer->holding = false;
    buffer_clear(&detokenizer->token);
    buffer_clear(&detokenizer->spare);
    buffer_clear(&detokenizer->held);
    buffer_clear(&detokenizer->tail);
}

/* One whole character goes through the decoders behind Fuse and out. */
static void emit(struct detokenizer *d, struct text_view character, struct buffer *out)
{
    const struct vocabulary *vocabulary = d->tokenizer->vocabulary;
    for (uint32_t i = fuse_index(vocabulary) + 1; i < vocabulary->decoder_count; i++) {
        const struct vocabulary_decoder *decoder = &vocabulary->decoders[i];
        if (decoder->kind == DECODER_REPLACE && text_view_equal(character, decoder->pattern)) {
            character = decoder->content;
        }
    }
    const struct vocabulary_decoder *strip = final_strip(vocabulary);
    if (!strip) {
        buffer_append_view(out, character);
        return;
    }
    bool cut = text_view_equal(character, strip->content);
    if (d->strip_left > 0) {
        d->strip_left = cut ? d->strip_left - 1 : 0;
        if (cut) {
            return;
        }
    }
    if (strip->stop == 0) {
        buffer_append_view(out, character);
    } else if (cut) {
        buffer_append_view(&d->tail, character);
        if (d->tail.length > strip->content.length * strip->stop) {
            buffer_append(out, d->tail.data, strip->content.length);
            d->tail.length -= strip->content.length;
        }
    } else {
        buffer_append_view(out, buffer_view(&d->tail));
        buffer_clear(&d->tail);
        buffer_append_view(out, character);
    }
}

/* Gives out what `open` has become: whole characters, and replacements for bytes that can no longer
 * become one. With `last`, nothing stays open. */
static void settle(struct detokenizer *d, bool last, struct buffer *out)
{
    while (d->open_bytes > 0) {
        uint32_t code;
        size_t length = utf8_decode(d->open, d->open_bytes, &code);
        if (length > 0) {
            emit(d, text_view_make(d->open, length), out);
        } else {
            bool may_grow = utf8_complete_length(text_view_make(d->open, d->open_bytes)) == 0;
            if (may_grow && !last) {
                return;
            }
            length = d->byte_run ? 1 : utf8_invalid_length(d->open, d->open_bytes);
            emit(d, text_view_of(replacement), out);
        }
        memmove(d->open, d->open + length, d->open_bytes - length);
        d->open_bytes -= length;
    }
}

static void emit_bytes(struct detokenizer *d, struct text_view bytes, bool from_byte_token,
                       struct buffer *out)
{
    if (d->byte_run != from_byte_token) {
        settle(d, true, out);
        d->byte_run = from_byte_token;
    }
    for (size_t i = 0; i < bytes.length; i++) {
        d->open[d->open_bytes++] = bytes.data[i];
        settle(d, false, out);
    }
}

/* The token that DECODER_BPE held back, now that it is known whether another follows. */
static void release_held(struct detokenizer *d, bool last, struct buffer *out)
{
    const struct vocabulary *vocabulary = d->tokenizer->vocabulary;
    if (!d->holding) {
        return;
    }
    struct text_view suffix = {0};
    for (uint32_t i = 0; i < vocabulary->decoder_count; i++) {
        if (vocabulary->decoders[i].kind == DECODER_BPE) {
            suffix = vocabulary->decoders[i].content;
        }
    }
    buffer_clear(&d->spare);
    replace_all(buffer_view(&d->held), suffix, text_view_make(" ", last ? 0 : 1), &d->spare);
    emit_bytes(d, buffer_view(&d->spare), false, out);
    d->holding = false;
}

static bool holds_tokens(const struct vocabulary *vocabulary)
{
    for (uint32_t i = 0; i < vocabulary->decoder_count; i++) {
        if (vocabulary->decoders[i].kind == DECODER_BPE) {
            return true;
        }
    }
    return false;
}

static llcuda_status outcome(const struct detokenizer *d, const struct buffer *out,
                             struct llcuda_error *error)
{
    bool failed =
        out->failed || d->token.failed || d->spare.failed || d->held.failed || d->tail.failed;
    return failed ? error_no_memory(error, "decoded text", out->length) : LLCUDA_OK;
}

llcuda_status detokenizer_push(struct detokenizer *detokenizer, uint32_t id, struct buffer *out,
                               struct llcuda_error *error)
{
    struct detokenizer *d = detokenizer;
    const struct tokenizer *tokenizer = d->tokenizer;
    if (id >= tokenizer->vocabulary->token_count) {
        return error_set(error, LLCUDA_INVALID_ARGUMENT,
                         "token id %u is out of range: there are %u", id,
                         tokenizer->vocabulary->token_count);
    }
    bool skipped = (d->skip_special && tokenizer_is_special(tokenizer, id)) ||
                   !tokenizer_piece(tokenizer, id).data;
    if (skipped) {
        return LLCUDA_OK;
    }
    int byte;
    struct place place = {.first = !d->started, .at_start = !d->begun};
    decode_piece(tokenizer, id, &place, &d->token, &d->spare, &byte);
    d->started = true;
    d->begun = d->begun || place.dropped || byte >= 0 || d->token.length > 0;
    if (byte >= 0) {
        char single = (char)byte;
        emit_bytes(d, text_view_make(&single, 1), true, out);
    } else if (holds_tokens(tokenizer->vocabulary)) {
        release_held(d, false, out);
        buffer_clear(&d->held);
        buffer_append_view(&d->held, buffer_view(&d->token));
        d->holding = true;
    } else {
        emit_bytes(d, buffer_view(&d->token), false, out);
    }
    return outcome(d, out, error);
}

llcuda_status detokenizer_finish(struct detokenizer *detokenizer, struct buffer *out,
                                 struct llcuda_error *error)
{
    release_held(detokenizer, true, out);
    settle(detokenizer, true, out);
    return outcome(detokenizer, out, error);
}

llcuda_status tokenizer_decode(const struct tokenizer *tokenizer, const uint32_t *ids, size_t count,
                               bool skip_special, struct buffer *out, struct llcuda_error *error)
{
    struct detokenizer *detokenizer;
    llcuda_status status = detokenizer_create(tokenizer, skip_special, &detokenizer, error);
    for (size_t i = 0; i < count && !status; i++) {
        status = detokenizer_push(detokenizer, ids[i], out, error);
    }
    if (!status) {
        status = detokenizer_finish(detokenizer, out, error);
    }
    detokenizer_destroy(detokenizer);
    return status;
}
