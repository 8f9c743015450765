/* Owns what the models share: tables built once, the cache of short words, the cutting of long
 * texts into segments. Invariant of the cache: an entry holds exactly what the model would give. */
#include "text/word_model.h"

#include <math.h>
#include <stdlib.h>

#include "base/utf8.h"
#include "text/unicode.h"

#define CACHED_BYTES_MAX   15u
#define CACHED_IDS_MAX     6u
#define CACHE_ENTRIES_MIN  64u
#define CACHE_ENTRIES_MAX  131072u
#define CACHE_BYTES_A_WORD 16u /* a text of n bytes gets a cache for n / 16 different words */

static const char space_symbol[] = "\xE2\x96\x81"; /* U+2581 */

void token_ids_deinit(struct token_ids *ids)
{
    free(ids->data);
    *ids = (struct token_ids){0};
}

bool token_ids_append(struct token_ids *ids, uint32_t id)
{
    if (ids->count == ids->capacity) {
        size_t capacity = ids->capacity ? ids->capacity * 2 : 64;
        if (capacity > SIZE_MAX / sizeof *ids->data) {
            return false;
        }
        uint32_t *data = realloc(ids->data, capacity * sizeof *data);
        if (!data) {
            return false;
        }
        ids->data = data;
        ids->capacity = capacity;
    }
    ids->data[ids->count++] = id;
    return true;
}

static void find_byte_tokens(struct word_model *model)
{
    for (unsigned byte = 0; byte < 256; byte++) {
        char piece[8] = "<0x00>";
        static const char digits[] = "0123456789ABCDEF";
        piece[3] = digits[byte >> 4];
        piece[4] = digits[byte & 15];
        model->fallback_ids[byte] = vocabulary_find(model->vocabulary, text_view_make(piece, 6));
        char encoded[4];
        size_t length = utf8_encode(byte_level_character((uint8_t)byte), encoded);
        model->byte_symbols[byte] =
            vocabulary_find(model->vocabulary, text_view_make(encoded, length));
    }
}

/* U+2581 behind another character. */
static bool reaches_across(struct text_view piece)
{
    const char *from = piece.data;
    size_t left = piece.length;
    while (left >= 3 && memcmp(from, space_symbol, 3) == 0) {
        from += 3;
        left -= 3;
    }
    return left && memmem(from, left, space_symbol, 3);
}

/* Whether cutting before each U+2581 that follows another character changes nothing: no token
 * reaches across such a place, and U+2581 itself is a token, so that no run of unknown characters
 * does. */
static bool cuts_are_exact(const struct vocabulary *vocabulary)
{
    bool whole_words = vocabulary->ignore_merges || vocabulary->continuing_subword_prefix.length ||
                       vocabulary->end_of_word_suffix.length;
    if (whole_words || vocabulary_find(vocabulary, text_view_of(space_symbol)) == TOKEN_NONE) {
        return false;
    }
    uint32_t count =
        vocabulary->kind == VOCABULARY_BPE ? vocabulary->merge_count : vocabulary->token_count;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t id = vocabulary->kind == VOCABULARY_BPE ? vocabulary->merges[i].result : i;
        if (reaches_across(vocabulary->pieces[id]) &&
            (vocabulary->kind == VOCABULARY_BPE || vocabulary->kinds[id] != TOKEN_CONTROL)) {
            return false;
        }
    }
    return true;
}

struct key_list {
    struct trie_key *keys;
    size_t count;
};

static void add_key(struct key_list *list, struct text_view text, uint32_t value)
{
    if (text.length > 0 && utf8_valid(text)) {
        list->keys[list->count++] = (struct trie_key){text, value};
    }
}

/* Takes `prefix` off the front; false when it is not there. */
static bool take_prefix(struct text_view *piece, struct text_view prefix)
{
    if (prefix.length == 0) {
        return true;
    }
    if (piece->length < prefix.length || memcmp(piece->data, prefix.data, prefix.length) != 0) {
        return false;
    }
    piece->data += prefix.length;
    piece->length -= prefix.length;
    return true;
}

/* Fills the keys of one trie. */
static void collect_keys(const struct vocabulary *vocabulary, bool continuations, bool user_defined,
                         struct key_list *list)
{
    for (uint32_t id = 0; id < vocabulary->token_count; id++) {
        struct text_view piece = vocabulary->pieces[id];
        uint8_t kind = vocabulary->kinds[id];
        if (!vocabulary->in_model[id]) {
            continue;
        }
        if (user_defined) {
            if (kind == TOKEN_USER_DEFINED) {
                add_key(list, piece, id);
            }
            continue;
        }
        if (vocabulary->kind == VOCABULARY_WORDPIECE) {
            if (take_prefix(&piece, continuations ? vocabulary->continuing_subword_prefix
                                                  : vocabulary->word_prefix)) {
                add_key(list, piece, id);
            }
            continue;
        }
        /* The SentencePiece library keeps control, unknown, byte and unused pieces out. */
        bool usable =
            !vocabulary->only_usable_kinds || kind == TOKEN_NORMAL || kind == TOKEN_USER_DEFINED;
        if (usable) {
            add_key(list, piece, id);
        }
    }
}

static llcuda_status build_trie(const struct vocabulary *vocabulary, struct trie *trie,
                                bool continuations, bool user_defined, struct llcuda_error *error)
{
    struct key_list list = {
        .keys = malloc(((size_t)vocabulary->token_count + 1) * sizeof(struct trie_key))};
    if (!list.keys) {
        return error_no_memory(error, "the keys of a trie",
                               vocabulary->token_count * sizeof(struct trie_key));
    }
    collect_keys(vocabulary, continuations, user_defined, &list);
    llcuda_status status = trie_build(trie, list.keys, list.count, error);
    free(list.keys);
    return status;
}

/* Scores of what is in no piece: ten below the worst, as both published implementations have it. */
static void find_scores(struct word_model *model)
{
    const struct vocabulary *vocabulary = model->vocabulary;
    double least = INFINITY;
    double most = -INFINITY;
    for (uint32_t id = 0; id < vocabulary->token_count; id++) {
        bool counts = vocabulary->in_model[id] &&
                      (!vocabulary->only_usable_kinds || vocabulary->kinds[id] == TOKEN_NORMAL);
        if (counts) {
            least = vocabulary->scores[id] < least ? vocabulary->scores[id] : least;
            most = vocabulary->scores[id] > most ? vocabulary->scores[id] : most;
        }
    }
    model->unknown_score = least - 10.0;
    if (vocabulary->float_sums) {
        model->unknown_score = (double)((float)least - 10.0f);
    }
    model->user_defined_score = most;
}

llcuda_status word_model_init(struct word_model *model, const struct vocabulary *vocabulary,
                              bool bytes, struct llcuda_error *error)
{
    *model = (struct word_model){
        .vocabulary = vocabulary, .bytes = bytes, .narrow = vocabulary->token_count <= 0x10000};
    if ((vocabulary->kind == VOCABULARY_UNIGRAM || vocabulary->kind == VOCABULARY_SENTENCEPIECE) &&
        !vocabulary->scores) {
        return error_set(error, LLCUDA_BAD_FORMAT, "the vocabulary has no scores");
    }
    for (uint32_t id = 0; id < vocabulary->token_count; id++) {
        size_t length = vocabulary->in_model[id] ? vocabulary->pieces[id].length : 0;
        model->piece_bytes_max = length > model->piece_bytes_max ? length : model->piece_bytes_max;
    }
    find_byte_tokens(model);
    llcuda_status status = LLCUDA_OK;
    switch (vocabulary->kind) {
    case VOCABULARY_BPE:
        model->segments = !bytes && cuts_are_exact(vocabulary);
        return merge_table_from_merges(&model->merges, vocabulary, error);
    case VOCABULARY_SENTENCEPIECE:
        model->segments = cuts_are_exact(vocabulary);
        status = build_trie(vocabulary, &model->user_defined, false, true, error);
        return status ? status : merge_table_from_scores(&model->merges, vocabulary, error);
    case VOCABULARY_UNIGRAM:
        find_scores(model);
        if (vocabulary->only_usable_kinds) {
            status = build_trie(vocabulary, &model->user_defined, false, true, error);
        }
        return status ? status : build_trie(vocabulary, &model->pieces, false, false, error);
    case VOCABULARY_WORDPIECE:
        status = build_trie(vocabulary, &model->pieces, false, false, error);
        return status ? status : build_trie(vocabulary, &model->continuations, true, false, error);
    case VOCABULARY_WORD_LEVEL:
        return LLCUDA_OK;
    }
    return error_set(error, LLCUDA_UNSUPPORTED, "a vocabulary of an unknown kind");
}

void word_model_deinit(struct word_model *model)
{
    merge_table_deinit(&model->merges);
    trie_deinit(&model->pieces);
    trie_deinit(&model->continuations);
    trie_deinit(&model->user_defined);
}

llcuda_status word_scratch_prepare(struct word_scratch *scratch, size_t text_bytes,
                                   struct llcuda_error *error)
{
    size_t entries = CACHE_ENTRIES_MIN;
    while (entries < CACHE_ENTRIES_MAX && entries < text_bytes / CACHE_BYTES_A_WORD) {
        entries *= 2;
    }
    if (scratch->cache && scratch->cache_mask + 1 >= entries) {
        return LLCUDA_OK;
    }
    struct cached_word *cache = calloc(entries, sizeof *cache);
    if (!cache) {
        return error_no_memory(error, "a cache of words", entries * sizeof *cache);
    }
    free(scratch->cache);
    scratch->cache = cache;
    scratch->cache_mask = entries - 1;
    return LLCUDA_OK;
}

void word_scratch_deinit(struct word_scratch *scratch)
{
    free(scratch->cache);
    free(scratch->symbols);
    free(scratch->path);
    merge_scratch_deinit(&scratch->merge);
    *scratch = (struct word_scratch){0};
}

uint32_t *word_scratch_symbols(struct word_scratch *scratch, size_t count)
{
    if (count > scratch->symbol_capacity) {
        size_t capacity = scratch->symbol_capacity * 2 + 256;
        capacity = capacity < count ? count : capacity;
        if (capacity > SIZE_MAX / sizeof(uint32_t)) {
            return NULL;
        }
        uint32_t *symbols = realloc(scratch->symbols, capacity * sizeof *symbols);
        if (!symbols) {
            return NULL;
        }
        scratch->symbols = symbols;
        scratch->symbol_capacity = capacity;
    }
    return scratch->symbols;
}

bool append_fallback(const struct word_model *model, struct text_view text, struct token_ids *out,
                     bool *failed)
{
    for (size_t i = 0; i < text.length; i++) {
        if (model->fallback_ids[(uint8_t)text.data[i]] == TOKEN_NONE) {
            return false;
        }
    }
    for (size_t i = 0; i < text.length; i++) {
        if (!token_ids_append(out, model->fallback_ids[(uint8_t)text.data[i]])) {
            *failed = true;
            return false;
        }
    }
    return true;
}

static __attribute__((noinline)) llcuda_status
encode_uncached(const struct word_model *model, struct word_scratch *scratch, struct text_view word,
                struct token_ids *out, struct llcuda_error *error)
{
    switch (model->vocabulary->kind) {
    case VOCABULARY_BPE:
        return encode_bpe(model, scratch, word, out, error);
    case VOCABULARY_SENTENCEPIECE:
        return encode_sentencepiece(model, scratch, word, out, error);
    case VOCABULARY_UNIGRAM:
        return encode_unigram(model, scratch, word, out, error);
    case VOCABULARY_WORDPIECE:
        return encode_wordpiece(model, scratch, word, out, error);
    case VOCABULARY_WORD_LEVEL:
        return encode_word_level(model, scratch, word, out, error);
    }
    return LLCUDA_INTERNAL;
}

/* The first `length` bytes of text as two numbers, zeros behind them. */
static inline void load_word(const char *text, size_t length, const char *readable_end,
                             uint64_t *low, uint64_t *high)
{
    static const uint64_t masks[16][2] = {
        {0, 0},
        {0xFF, 0},
        {0xFFFF, 0},
        {0xFFFFFF, 0},
        {0xFFFFFFFF, 0},
        {0xFFFFFFFFFF, 0},
        {0xFFFFFFFFFFFF, 0},
        {0xFFFFFFFFFFFFFF, 0},
        {UINT64_MAX, 0},
        {UINT64_MAX, 0xFF},
        {UINT64_MAX, 0xFFFF},
        {UINT64_MAX, 0xFFFFFF},
        {UINT64_MAX, 0xFFFFFFFF},
        {UINT64_MAX, 0xFFFFFFFFFF},
        {UINT64_MAX, 0xFFFFFFFFFFFF},
        {UINT64_MAX, 0xFFFFFFFFFFFFFF},
    };
    uint64_t words[2] = {0, 0};
    if ((size_t)(readable_end - text) >= sizeof words) {
        memcpy(words, text, sizeof words);
        words[0] &= masks[length][0];
        words[1] &= masks[length][1];
    } else {
        memcpy(words, text, length);
    }
    *low = words[0];
    *high = words[1];
}

/* All ids of an entry, used or not, into out[0, CACHED_IDS_MAX). */
static inline void unpack_ids(const struct cached_word *entry, bool narrow, uint32_t *out)
{
    if (narrow) {
        for (size_t i = 0; i < 6; i++) {
            out[i] = entry->ids[2 * i] | (uint32_t)entry->ids[2 * i + 1] << 8;
        }
        return;
    }
    for (size_t i = 0; i < 4; i++) {
        out[i] = entry->ids[3 * i] | (uint32_t)entry->ids[3 * i + 1] << 8 |
                 (uint32_t)entry->ids[3 * i + 2] << 16;
    }
}

static void cache_ids(struct cached_word *entry, const uint32_t *ids, size_t count, bool narrow)
{
    for (size_t i = 0; i < count; i++) {
        memcpy(entry->ids + (narrow ? 2 : 3) * i, &ids[i], narrow ? 2 : 3);
    }
    entry->count = (uint32_t)count;
}

static inline llcuda_status append_cached(const struct cached_word *entry, bool narrow,
                                          struct token_ids *out, struct llcuda_error *error)
{
    if (out->capacity - out->count >= CACHED_IDS_MAX) {
        unpack_ids(entry, narrow, out->data + out->count);
        out->count += entry->count;
        return LLCUDA_OK;
    }
    uint32_t ids[CACHED_IDS_MAX];
    unpack_ids(entry, narrow, ids);
    for (uint32_t i = 0; i < entry->count; i++) {
        if (!token_ids_append(out, ids[i])) {
            return error_no_memory(error, "token ids", out->count * sizeof *out->data);
        }
    }
    return LLCUDA_OK;
}

static __attribute__((noinline)) llcuda_status
encode_and_cache(const struct word_sink *sink, struct text_view word, struct cached_word *entry,
                 uint64_t low, uint64_t high, struct llcuda_error *error)
{
    size_t before = sink->out->count;
    llcuda_status status = encode_uncached(sink->model, sink->scratch, word, sink->out, error);
    size_t made = sink->out->count - before;
    if (!status && made <= (sink->model->narrow ? CACHED_IDS_MAX : 4u)) {
        entry->low = low;
        entry->high = high;
        entry->count = 0;
        if (made > 0) {
            cache_ids(entry, sink->out->data + before, made, sink->model->narrow);
        }
    }
    return status;
}

/* `skipped` bytes of the word, always the same ones, are left out of the key; `mark` says so. */
static inline llcuda_status encode_cached(const struct word_sink *sink, struct text_view word,
                                          size_t skipped, uint64_t mark, const char *readable_end,
                                          struct llcuda_error *error)
{
    size_t length = word.length - skipped;
    if (length > CACHED_BYTES_MAX) {
        return encode_uncached(sink->model, sink->scratch, word, sink->out, error);
    }
    uint64_t low, high;
    load_word(word.data + skipped, length, readable_end, &low, &high);
    high |= (uint64_t)length << 56 | mark;
    unsigned __int128 product =
        (unsigned __int128)(low ^ 0xA0761D6478BD642Full) * (high ^ 0xE7037ED1A0B428DBull);
    uint64_t hash = (uint64_t)product ^ (uint64_t)(product >> 64);
    struct cached_word *entry = &sink->scratch->cache[(size_t)hash & sink->scratch->cache_mask];
    if (entry->low == low && entry->high == high) {
        return append_cached(entry, sink->model->narrow, sink->out, error);
    }
    return encode_and_cache(sink, word, entry, low, high, error);
}

/* A word that may begin with U+2581, which is nearly always there and has a bit of its own. */
static llcuda_status encode_segment(const struct word_sink *sink, struct text_view word,
                                    const char *readable_end, struct llcuda_error *error)
{
    bool spaced = word.length > 3 && memcmp(word.data, space_symbol, 3) == 0;
    return encode_cached(sink, word, spaced ? 3 : 0, spaced ? 1ull << 63 : 0, readable_end, error);
}

/* The end of a segment: U+2581 repeated, then anything up to the next U+2581. */
static size_t segment_end(const char *text, size_t length)
{
    size_t at = 0;
    while (length - at >= 3 && memcmp(text + at, space_symbol, 3) == 0) {
        at += 3;
    }
    const char *next = memmem(text + at, length - at, space_symbol, 3);
    return next ? (size_t)(next - text) : length;
}

llcuda_status word_sink_take(struct split_run *run, const char *text, size_t length)
{
    const struct word_sink *sink = run->user;
    if (!sink->model->segments) {
        return encode_cached(sink, text_view_make(text, length), 0, 0, run->readable_end,
                             run->error);
    }
    while (length > 0) {
        size_t end = segment_end(text, length);
        llcuda_status status =
            encode_segment(sink, text_view_make(text, end), run->readable_end, run->error);
        if (status) {
            return status;
        }
        text += end;
        length -= end;
    }
    return LLCUDA_OK;
}
