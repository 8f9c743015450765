/* The models: a word in, token ids out. What comes before and after the words is the tokenizer's.
 * A word_model is immutable and shared; a word_scratch belongs to one thread. */
#ifndef TEXT_WORD_MODEL_H
#define TEXT_WORD_MODEL_H

#include "text/merge.h"
#include "text/split.h"
#include "text/tokenizer.h"
#include "text/trie.h"

struct word_model {
    const struct vocabulary *vocabulary; /* borrowed */
    bool bytes;                 /* words are bytes, pieces are in the byte-level alphabet */
    bool narrow;                /* ids fit 16 bits */
    bool segments;              /* words may be cut before U+2581, see word_model_encode */
    uint32_t byte_symbols[256]; /* bytes: the token of each byte, TOKEN_NONE for none */
    uint32_t fallback_ids[256]; /* "<0x41>", TOKEN_NONE for none */
    size_t piece_bytes_max;     /* a longer word is no token */
    struct merge_table merges;  /* BPE, SentencePiece */
    struct trie pieces;         /* Unigram; WordPiece: beginnings of words */
    struct trie continuations;  /* WordPiece */
    struct trie user_defined;   /* SentencePiece: found before anything is merged */
    double unknown_score;       /* Unigram */
    double user_defined_score;  /* Unigram: a byte of a user-defined piece */
};

/* A word of up to 15 bytes and its tokens: up to six ids of 16 bits, or, in vocabularies that need
 * more bits, up to four of 24. */
struct cached_word {
    uint64_t low, high; /* the bytes, the length in the last one; high 0: empty */
    uint8_t ids[12];
    uint32_t count;
};

struct path_node {
    double score;
    uint32_t id;
    uint32_t length; /* of the piece that ends here; 0: nothing ends here */
};

struct word_scratch {
    struct cached_word *cache;
    size_t cache_mask;
    uint32_t *symbols;
    size_t symbol_capacity;
    struct path_node *path;
    size_t path_capacity;
    struct merge_scratch merge;
};

/* word_model_deinit in any case. */
llcuda_status word_model_init(struct word_model *model, const struct vocabulary *vocabulary,
                              bool bytes, struct llcuda_error *error);
void word_model_deinit(struct word_model *model);

/* A cache for a text of this length; a zeroed scratch is ready for it. Keeps a larger one. */
llcuda_status word_scratch_prepare(struct word_scratch *scratch, size_t text_bytes,
                                   struct llcuda_error *error);
void word_scratch_deinit(struct word_scratch *scratch);

/* What a run over a text hands its words to. */
struct word_sink {
    const struct word_model *model;
    struct word_scratch *scratch;
    struct token_ids *out;
};

/* The `word` of a split_run whose `user` is a word_sink: appends the tokens of the word. */
llcuda_status word_sink_take(struct split_run *run, const char *text, size_t length);

/* One word, or one segment of it, without the cache; one file a kind. */
llcuda_status encode_bpe(const struct word_model *model, struct word_scratch *scratch,
                         struct text_view word, struct token_ids *out, struct llcuda_error *error);
llcuda_status encode_sentencepiece(const struct word_model *model, struct word_scratch *scratch,
                                   struct text_view word, struct token_ids *out,
                                   struct llcuda_error *error);
llcuda_status encode_unigram(const struct word_model *model, struct word_scratch *scratch,
                             struct text_view word, struct token_ids *out,
                             struct llcuda_error *error);
llcuda_status encode_wordpiece(const struct word_model *model, struct word_scratch *scratch,
                               struct text_view word, struct token_ids *out,
                               struct llcuda_error *error);
llcuda_status encode_word_level(const struct word_model *model, struct word_scratch *scratch,
                                struct text_view word, struct token_ids *out,
                                struct llcuda_error *error);

/* Room for `count` symbols; NULL without memory. */
uint32_t *word_scratch_symbols(struct word_scratch *scratch, size_t count);

/* Appends the byte tokens of `text`; false, and nothing appended, when one is missing or memory is
 * (*failed tells). */
bool append_fallback(const struct word_model *model, struct text_view text, struct token_ids *out,
                     bool *failed);

#endif
