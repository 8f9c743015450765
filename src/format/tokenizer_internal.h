/* What the readers of tokeniser files share. */
#ifndef FORMAT_TOKENIZER_INTERNAL_H
#define FORMAT_TOKENIZER_INTERNAL_H

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
