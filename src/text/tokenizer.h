/* Text to token ids and back, for every vocabulary that base/vocabulary.h can describe.
 *
 * A tokenizer is immutable after tokenizer_create: any number of threads may use one at once. What
 * changes during a call lives in a scratch object (one thread at a time) or in a detokenizer.
 * Encoding takes time linear in the text (n log n inside one word of a vocabulary whose merges are
 * not in the order in which a training run makes them) and constant stack. */
#ifndef TEXT_TOKENIZER_H
#define TEXT_TOKENIZER_H

#include "base/buffer.h"
#include "base/error.h"
#include "base/vocabulary.h"

struct tokenizer;
struct tokenizer_scratch;
struct detokenizer;

/* A growing array of ids. A zeroed struct is a valid empty array. One owner. */
struct token_ids {
    uint32_t *data;
    size_t count;
    size_t capacity;
};

void token_ids_deinit(struct token_ids *ids);
/* False without memory; the array stays as it was. */
bool token_ids_append(struct token_ids *ids, uint32_t id);

/* Takes ownership of `vocabulary` on success; on failure it stays the caller's. UNSUPPORTED with a
 * sentence when a step or a pre-tokeniser's name is not known, or needs a library that this build
 * is without; BAD_FORMAT for a table that contradicts itself. */
llcuda_status tokenizer_create(struct vocabulary *vocabulary, struct tokenizer **tokenizer,
                               struct llcuda_error *error);
void tokenizer_destroy(struct tokenizer *tokenizer);

const struct vocabulary *tokenizer_vocabulary(const struct tokenizer *tokenizer);
uint32_t tokenizer_token_count(const struct tokenizer *tokenizer);

/* Buffers and a cache of words that make further calls faster. NULL is allowed wherever one is
 * asked for: the call then makes its own. One thread at a time, for one tokenizer only. */
llcuda_status tokenizer_scratch_create(const struct tokenizer *tokenizer,
                                       struct tokenizer_scratch **scratch,
                                       struct llcuda_error *error);
void tokenizer_scratch_destroy(struct tokenizer_scratch *scratch);

struct tokenizer_encode_options {
    bool add_special;   /* what the model wants around a text: bos, eos, [CLS] … [SEP] */
    bool parse_special; /* "<|eot_id|>" in the text is that token, not nine characters */
};

/* Appends the ids of `text` to `out`. NULL options mean both on. Bytes that are no UTF-8 count as
 * U+FFFD. Errors: LIMIT for a text of 2 GiB and more, or when a tokeniser's regular expression
 * takes too many steps; UNSUPPORTED when a normaliser needs utf8proc and the build is without and
 * the text is not plain ASCII; BAD_FORMAT when a character has no token and the vocabulary has no
 * unknown token; OUT_OF_MEMORY. On failure `out` is as long as it was. */
llcuda_status tokenizer_encode(const struct tokenizer *tokenizer, struct text_view text,
                               const struct tokenizer_encode_options *options,
                               struct tokenizer_scratch *scratch, struct token_ids *out,
                               struct llcuda_error *error);

/* The id of a token by its text as the file writes it ("<s>", "Ġthe"), TOKEN_NONE when there is
 * none. Added tokens come first. */
uint32_t tokenizer_find(const struct tokenizer *tokenizer, struct text_view piece);
/* A token's text as the file writes it; an empty view with NULL data for an id that has none. */
struct text_view tokenizer_piece(const struct tokenizer *tokenizer, uint32_t id);
/* Special tokens are left out of the text by skip_special. False for an id out of range. */
bool tokenizer_is_special(const struct tokenizer *tokenizer, uint32_t id);
bool tokenizer_is_end_of_generation(const struct tokenizer *tokenizer, uint32_t id);

/* Appends the bytes that one token stands for inside a text (a space in front stays, a byte token
 * gives its byte, which may be a part of a character). INVALID_ARGUMENT for an id out of range. */
llcuda_status tokenizer_decode_token(const struct tokenizer *tokenizer, uint32_t id,
                                     struct buffer *out, struct llcuda_error *error);

/* Appends the text of all ids: what a detokenizer gives for them. */
llcuda_status tokenizer_decode(const struct tokenizer *tokenizer, const uint32_t *ids, size_t count,
                               bool skip_special, struct buffer *out, struct llcuda_error *error);

/* Text from ids, one at a time. What has been given out is always valid UTF-8 and never ends inside
 * a character; bytes that cannot become one give U+FFFD. The outputs of all calls together do not
 * depend on when they are read. `tokenizer` must outlive it. One thread at a time. */
llcuda_status detokenizer_create(const struct tokenizer *tokenizer, bool skip_special,
                                 struct detokenizer **detokenizer, struct llcuda_error *error);
void detokenizer_destroy(struct detokenizer *detokenizer);
/* Back to the beginning of a text. */
void detokenizer_reset(struct detokenizer *detokenizer);
/* Appends to `out` the text that this id makes certain, often nothing or more than its own. */
llcuda_status detokenizer_push(struct detokenizer *detokenizer, uint32_t id, struct buffer *out,
                               struct llcuda_error *error);
/* Appends what was held back: an unfinished character becomes U+FFFD. Push nothing afterwards
 * without a reset. */
llcuda_status detokenizer_finish(struct detokenizer *detokenizer, struct buffer *out,
                                 struct llcuda_error *error);

#endif
