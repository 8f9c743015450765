/* What the readers of tokeniser files share. */
#ifndef FORMAT_TOKENIZER_INTERNAL_H
#define FORMAT_TOKENIZER_INTERNAL_H

#include "base/buffer.h"
#include "base/json.h"
#include "base/vocabulary.h"

/* Sequences inside sequences at most. */
#define TOKENIZER_SEQUENCE_DEPTH 8u

/* The steps of tokenizer.json. Each may be NULL or a JSON null; strings are copied. */
llcuda_status read_normalizer(struct vocabulary *vocabulary, const struct json_value *value,
                              uint32_t depth, struct llcuda_error *error);
llcuda_status read_splitter(struct vocabulary *vocabulary, const struct json_value *value,
                            uint32_t depth, struct llcuda_error *error);
llcuda_status read_decoder(struct vocabulary *vocabulary, const struct json_value *value,
                           uint32_t depth, struct llcuda_error *error);
/* What surrounds a text: prefix_ids and suffix_ids. */
llcuda_status read_post_processor(struct vocabulary *vocabulary, const struct json_value *value,
                                  uint32_t depth, struct llcuda_error *error);

/* tokenizer_config.json: special tokens and whether they are added; `config` may be empty. After
 * added tokens and templates are known. */
llcuda_status apply_tokenizer_config(struct vocabulary *vocabulary, struct text_view config,
                                     struct llcuda_error *error);

#define MERGE_BATCH 64u

/* Merges on their way from texts to ids. Zeroed but for the first fields, it is ready. */
struct merge_batch {
    struct vocabulary *vocabulary; /* merges has room for all of them */
    size_t prefix_bytes;           /* of a right part, not in the result; each has as many */
    bool must_exist;               /* BAD_FORMAT for a merge of unknown tokens, else left out */
    struct text_view left[MERGE_BATCH];
    struct text_view right[MERGE_BATCH];
    uint64_t offsets[MERGE_BATCH];
    uint32_t count;
    uint32_t last_result;
    struct buffer joined;
};

/* The texts must live until the batch is finished. */
llcuda_status merge_batch_add(struct merge_batch *batch, struct text_view left,
                              struct text_view right, uint64_t offset, struct llcuda_error *error);
/* Resolves the rest unless `status` is a failure already; releases the batch in any case. */
llcuda_status merge_batch_finish(struct merge_batch *batch, llcuda_status status,
                                 struct llcuda_error *error);

/* The ids that end a generation by what is known so far: eos, eot, eom, and special tokens whose
 * text is that of a published end token. */
llcuda_status find_end_tokens(struct vocabulary *vocabulary, struct llcuda_error *error);

/* Makes control tokens of normal pieces that have the text of a published end token: converters
 * forget to. Needs the index. */
void mark_end_tokens(struct vocabulary *vocabulary);

/* An id by the text of a token, added ones first; TOKEN_NONE when there is none. */
uint32_t find_token(const struct vocabulary *vocabulary, struct text_view text);

/* Room for one more added token, zeroed; NULL without memory. The array doubles. */
struct vocabulary_added *add_added(struct vocabulary *vocabulary);

/* The prefix_ids and suffix_ids that add_bos and add_eos ask for; anything in between that is not
 * bos or eos stays. */
void surround_with_bos_eos(struct vocabulary *vocabulary);

#endif
