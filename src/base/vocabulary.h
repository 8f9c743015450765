/* The table between a tokeniser file and a tokeniser: format/ fills it from GGUF, tokenizer.json or
 * tokenizer.model, text/ reads it. It says what the file says (pieces, scores, merges, the steps
 * before and after the model) and holds no algorithm beyond looking up a piece.
 *
 * Everything it points to lives in its own arena or arrays. One writer while it is being filled;
 * afterwards any number of threads may read it. */
#ifndef BASE_VOCABULARY_H
#define BASE_VOCABULARY_H

#include "base/arena.h"
#include "base/error.h"
#include "base/view.h"

/* No token: the id of what a vocabulary does not have. */
#define TOKEN_NONE UINT32_MAX

enum vocabulary_kind {
    VOCABULARY_BPE,           /* ranked merges; byte-level or over characters */
    VOCABULARY_SENTENCEPIECE, /* merges driven by the score of the result */
    VOCABULARY_UNIGRAM,       /* the path with the best sum of scores */
    VOCABULARY_WORDPIECE,     /* greedy longest match inside a word */
    VOCABULARY_WORD_LEVEL,    /* a word is a token */
};

enum token_kind {
    TOKEN_ABSENT, /* the id exists, but no piece has it */
    TOKEN_NORMAL,
    TOKEN_UNKNOWN,
    TOKEN_CONTROL,
    TOKEN_USER_DEFINED,
    TOKEN_UNUSED,
    TOKEN_BYTE, /* "<0x41>" stands for one byte */
};

/* Two neighbours that become one token. The rank is the position in the list of merges. */
struct vocabulary_merge {
    uint32_t left;
    uint32_t right;
    uint32_t result;
};

/* A token that is looked for in the text before the model sees it. */
struct vocabulary_added {
    uint32_t id;
    struct text_view content;
    bool special;     /* left out of the text that a reader sees; see tokenizer_encode_options */
    bool single_word; /* only where no word character touches it */
    bool lstrip;      /* takes the white space before it along */
    bool rstrip;      /* takes the white space after it along */
    bool normalized;  /* looked for in the normalised text, in its normalised form */
};

enum normalizer_kind {
    NORMALIZER_NFC,
    NORMALIZER_NFD,
    NORMALIZER_NFKC,
    NORMALIZER_NFKD,
    NORMALIZER_LOWERCASE,
    NORMALIZER_STRIP, /* left, right */
    NORMALIZER_STRIP_ACCENTS,
    NORMALIZER_REPLACE,       /* pattern, pattern_is_regex, content */
    NORMALIZER_PREPEND,       /* content, unless the text is empty */
    NORMALIZER_APPEND,        /* content */
    NORMALIZER_BERT,          /* clean_text, chinese_characters, strip_accents, lowercase */
    NORMALIZER_NMT,           /* control characters out, odd spaces to spaces */
    NORMALIZER_BYTE_LEVEL,    /* every byte becomes its printable character */
    NORMALIZER_PRECOMPILED,   /* charsmap, applied to graphemes as Hugging Face does */
    NORMALIZER_SENTENCEPIECE, /* charsmap and spaces as the SentencePiece library treats them */
};

struct vocabulary_normalizer {
    enum normalizer_kind kind;
    struct text_view pattern;
    struct text_view content;
    struct text_view charsmap; /* a double-array trie and its replacements; may be empty */
    bool pattern_is_regex;
    bool left, right;
    bool clean_text, chinese_characters, strip_accents, lowercase;
    /* SentencePiece: */
    bool add_dummy_prefix;
    bool remove_extra_whitespaces;
    bool escape_whitespaces;          /* spaces become U+2581 */
    bool treat_whitespace_as_suffix;  /* the dummy space goes to the end */
    bool dummy_prefix_after_specials; /* not only at the beginning of the text */
};

enum splitter_kind {
    SPLITTER_SPLIT,      /* pattern, pattern_is_regex, behavior, invert */
    SPLITTER_BYTE_LEVEL, /* add_prefix_space, use_regex: the GPT-2 pattern; then bytes */
    SPLITTER_METASPACE,  /* replacement, prepend, split */
    SPLITTER_DIGITS,     /* individual_digits */
    SPLITTER_WHITESPACE, /* \w+|[^\w\s]+ */
    SPLITTER_WHITESPACE_SPLIT,
    SPLITTER_PUNCTUATION, /* behavior */
    SPLITTER_BERT,
    SPLITTER_DELIMITER,    /* content: the delimiter, removed */
    SPLITTER_FIXED_LENGTH, /* length, in characters */
};

enum split_behavior {
    SPLIT_ISOLATED,
    SPLIT_REMOVED,
    SPLIT_MERGED_WITH_PREVIOUS,
    SPLIT_MERGED_WITH_NEXT,
    SPLIT_CONTIGUOUS,
};

enum metaspace_prepend { METASPACE_ALWAYS, METASPACE_FIRST, METASPACE_NEVER };

struct vocabulary_splitter {
    enum splitter_kind kind;
    enum split_behavior behavior;
    enum metaspace_prepend prepend;
    struct text_view pattern;
    struct text_view content; /* Metaspace: the replacement; Delimiter: the delimiter */
    bool pattern_is_regex;
    bool invert;
    bool add_prefix_space;
    bool use_regex;
    bool split;
    bool individual_digits;
    uint32_t length;
};

enum decoder_kind {
    DECODER_BYTE_LEVEL,
    DECODER_METASPACE, /* content: the replacement; prepend */
    DECODER_BYTE_FALLBACK,
    DECODER_FUSE,
    DECODER_REPLACE,       /* pattern (plain text), content */
    DECODER_STRIP,         /* content: one character; start, stop */
    DECODER_WORDPIECE,     /* content: the prefix; cleanup */
    DECODER_BPE,           /* content: the suffix of a word's end */
    DECODER_SENTENCEPIECE, /* content: U+2581, becomes a space, but not at the beginning of the
                              text: there it goes away, with `cleanup` for piece after piece */
    DECODER_JOIN,          /* a space between tokens: what a file without a decoder means */
};

struct vocabulary_decoder {
    enum decoder_kind kind;
    enum metaspace_prepend prepend;
    struct text_view pattern;
    struct text_view content;
    uint32_t start, stop;
    bool cleanup;
};

/* Steps of each kind at most; no published tokeniser has ten. */
#define VOCABULARY_STEPS_MAX 32u
/* Bytes of an added token at most, so that looking for them stays linear in the text. */
#define VOCABULARY_ADDED_BYTES_MAX 1024u
/* Ids that are put before or after a text at most, each. */
#define VOCABULARY_TEMPLATE_MAX 8u

enum vocabulary_answer { VOCABULARY_NO, VOCABULARY_YES, VOCABULARY_UNSAID };

struct vocabulary {
    enum vocabulary_kind kind;

    /* Tokens 0 … token_count - 1. */
    uint32_t token_count;
    struct text_view *pieces; /* as the file writes them; data NULL for TOKEN_ABSENT */
    uint8_t *kinds;           /* enum token_kind */
    uint8_t *in_model;        /* 0: an added token that the model itself cannot produce */
    double *scores;           /* NULL when the kind has none */

    struct vocabulary_merge *merges; /* by rank; BPE only */
    uint32_t merge_count;

    struct vocabulary_added *added;
    uint32_t added_count;

    /* TOKEN_NONE when there is none. Each other value is below token_count. */
    uint32_t bos_id, eos_id, unk_id, sep_id, pad_id, cls_id, mask_id, eot_id, eom_id;
    uint32_t *end_ids; /* every id that ends a generation, ascending, no duplicates */
    uint32_t end_count;

    /* What add_special puts around a text. UNSAID: by the pre-tokeniser's name, resolved by
     * tokenizer_create. The ids are what counts; the answers say where they come from. */
    enum vocabulary_answer add_bos, add_eos;
    uint32_t prefix_ids[VOCABULARY_TEMPLATE_MAX];
    uint32_t prefix_count;
    uint32_t suffix_ids[VOCABULARY_TEMPLATE_MAX];
    uint32_t suffix_count;
    bool add_space_prefix;

    /* GGUF's tokenizer.ggml.pre: stands for splitters (and for ignore_merges and add_bos). Empty
     * when `splitters` says it all. */
    struct text_view pre_name;

    struct vocabulary_normalizer normalizers[VOCABULARY_STEPS_MAX];
    uint32_t normalizer_count;
    struct vocabulary_splitter splitters[VOCABULARY_STEPS_MAX];
    uint32_t splitter_count;
    struct vocabulary_decoder decoders[VOCABULARY_STEPS_MAX];
    uint32_t decoder_count;

    /* BPE: */
    bool ignore_merges;           /* a word that is a token is that token */
    bool byte_fallback;           /* unknown characters become byte tokens */
    bool fuse_unk;                /* neighbouring unknown characters become one unk */
    struct text_view unk_surface; /* what unk is in a decoded text; empty: its piece */
    struct text_view continuing_subword_prefix;
    struct text_view end_of_word_suffix;
    /* WordPiece: */
    struct text_view word_prefix; /* before the first piece of a word: GGUF writes U+2581 there */
    uint32_t word_characters_max; /* longer words are unknown */
    /* Unigram: sums in float, as the SentencePiece library has it, instead of double; and as there
     * only normal and user-defined pieces can be on the path. */
    bool float_sums;
    bool only_usable_kinds;

    /* Owned memory. */
    struct arena arena;
    struct vocabulary_index *index;
};

/* An empty vocabulary: no tokens, every id TOKEN_NONE. Owned by the caller (vocabulary_destroy). */
llcuda_status vocabulary_create(enum vocabulary_kind kind, struct vocabulary **vocabulary,
                                struct llcuda_error *error);
void vocabulary_destroy(struct vocabulary *vocabulary);

/* Makes the token arrays for `count` absent tokens (LIMIT above LIMIT_VOCABULARY_TOKENS); scores
 * only when asked for. Once. */
llcuda_status vocabulary_set_token_count(struct vocabulary *vocabulary, uint64_t count, bool scores,
                                         struct llcuda_error *error);

/* Copies into the arena; data is NULL on failure. */
struct text_view vocabulary_copy(struct vocabulary *vocabulary, struct text_view text);

/* Builds what vocabulary_find needs; after the pieces and in_model are there, once. When two ids
 * have one piece, the first is found. */
llcuda_status vocabulary_index_build(struct vocabulary *vocabulary, struct llcuda_error *error);

/* The id of a piece of the model, TOKEN_NONE when there is none. Added tokens that are not in the
 * model are not found here. Needs the index. Any thread. */
uint32_t vocabulary_find(const struct vocabulary *vocabulary, struct text_view piece);

/* vocabulary_find for many pieces at once, which hides the time that memory takes. */
void vocabulary_find_many(const struct vocabulary *vocabulary, const struct text_view *pieces,
                          size_t count, uint32_t *ids);

/* The byte that a piece like "<0x0A>" stands for, -1 for any other piece. */
int vocabulary_piece_byte(struct text_view piece);

/* Adds to end_ids, kept ascending and unique; TOKEN_NONE is ignored. */
llcuda_status vocabulary_add_end(struct vocabulary *vocabulary, uint32_t id,
                                 struct llcuda_error *error);

/* Checks every id of the finished table against token_count: BAD_FORMAT names the first that is
 * out of range. */
llcuda_status vocabulary_check(const struct vocabulary *vocabulary, struct llcuda_error *error);

#endif
