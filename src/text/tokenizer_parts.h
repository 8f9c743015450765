/* The inside of a tokenizer, for the files that make one, encode and decode with it. */
#ifndef TEXT_TOKENIZER_PARTS_H
#define TEXT_TOKENIZER_PARTS_H

#include "text/added_tokens.h"
#include "text/normalize.h"
#include "text/split.h"
#include "text/tokenizer.h"
#include "text/word_model.h"

/* Immutable after tokenizer_create. */
struct tokenizer {
    struct vocabulary *vocabulary; /* owned */
    struct added_set added_raw;    /* looked for in the text as it comes */
    struct added_set added_normal; /* and after normalisation */
    struct text_view *added_forms; /* their normalised forms, in `strings` */
    struct arena strings;
    uint32_t *added_of; /* for each id its position in vocabulary->added, or TOKEN_NONE */
    struct normalizer_plan normalizers;
    struct split_plan splits;
    struct word_model model;
    bool decodes_bytes; /* the decoders take byte-level pieces apart */
};

struct tokenizer_scratch {
    struct word_scratch words;
    struct normalizer_state normal;
    struct split_run run;
    struct regex_state *regex_state;
    struct buffer valid; /* the text with what is no UTF-8 replaced */
    /* During a call: */
    const struct tokenizer *tokenizer;
    struct word_sink sink;
    struct token_ids *out;
};

/* Whether the decoders of a vocabulary can be followed one token at a time; UNSUPPORTED says which
 * cannot. */
llcuda_status decoders_check(const struct vocabulary *vocabulary, struct llcuda_error *error);

#endif
