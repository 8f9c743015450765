/* Owns the reading of tokenizer.json (the format of Hugging Face's tokenizers library, version
 * 1.0): vocabulary, merges, added tokens. The steps are in tokenizer_json_steps.c. Everything is
 * copied; the JSON may go afterwards. */
#include <stdlib.h>

#include "base/limits.h"
#include "format/tokenizer_internal.h"
#include "format/tokenizer_source.h"

struct document {
    struct json_document *json;
    const struct json_value *root;
    const struct json_value *model;
    const struct json_value *tokens; /* model.vocab */
    struct vocabulary *vocabulary;
    struct llcuda_error *error;
};

static llcuda_status bad(const struct document *d, const struct json_value *at, const char *what)
{
    uint64_t offset = at ? at->offset : 0;
    return error_set_at(d->error, LLCUDA_BAD_FORMAT, offset, "%s at byte %llu", what,
                        (unsigned long long)offset);
}

static llcuda_status find_kind(struct document *d, enum vocabulary_kind *kind)
{
    static const struct {
        const char *name;
        enum vocabulary_kind kind;
    } kinds[] = {{"BPE", VOCABULARY_BPE},
                 {"Unigram", VOCABULARY_UNIGRAM},
                 {"WordPiece", VOCABULARY_WORDPIECE},
                 {"WordLevel", VOCABULARY_WORD_LEVEL}};
    const struct json_value *type = json_member(d->model, "type");
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (text_view_is(json_text(type), kinds[i].name)) {
            *kind = kinds[i].kind;
            return LLCUDA_OK;
        }
    }
    if (json_is(type, JSON_STRING)) {
        return error_set_at(d->error, LLCUDA_UNSUPPORTED, type->offset,
                            "the tokeniser model '%.*s' is not supported (BPE, Unigram, WordPiece "
                            "and WordLevel are)",
                            TEXT_ARGUMENTS(json_text(type)));
    }
    /* Files of before the tag say it by what they have. */
    if (json_is(d->tokens, JSON_ARRAY)) {
        *kind = VOCABULARY_UNIGRAM;
    } else if (json_member(d->model, "merges")) {
        *kind = VOCABULARY_BPE;
    } else {
        *kind = json_member(d->model, "max_input_chars_per_word") ? VOCABULARY_WORDPIECE
                                                                  : VOCABULARY_WORD_LEVEL;
    }
    return LLCUDA_OK;
}

/* How many ids there are, and how many bytes of pieces; ids may have holes, but not many. */
static llcuda_status measure(struct document *d, uint64_t *count, uint64_t *bytes)
{
    const struct json_value *added = json_member(d->root, "added_tokens");
    uint64_t entries = d->tokens->count;
    uint64_t top = json_is(d->tokens, JSON_ARRAY) ? d->tokens->count : 0;
    *bytes = 0;
    JSON_EACH_KEY(key, d->tokens)
    {
        int64_t id;
        if (!json_integer(json_next(key), 0, LIMIT_VOCABULARY_TOKENS - 1, &id)) {
            return bad(d, json_next(key), "a token's id is no number in range");
        }
        top = (uint64_t)id + 1 > top ? (uint64_t)id + 1 : top;
        *bytes += key->count;
    }
    JSON_EACH(pair, json_is(d->tokens, JSON_ARRAY) ? d->tokens : NULL)
    {
        if (!json_is(pair, JSON_ARRAY) || pair->count != 2) {
            return bad(d, pair, "a token is no pair of text and score");
        }
        *bytes += json_first(pair)->count;
    }
    JSON_EACH(token, added)
    {
        int64_t id;
        if (!json_integer(json_member(token, "id"), 0, LIMIT_VOCABULARY_TOKENS - 1, &id)) {
            return bad(d, token, "an added token has no id in range");
        }
        top = (uint64_t)id + 1 > top ? (uint64_t)id + 1 : top;
        entries++;
    }
    *count = top;
    if (top > 2 * entries + 65536) {
        return error_set(d->error, LLCUDA_BAD_FORMAT,
                         "the highest token id is %llu, but there are only %llu tokens",
                         (unsigned long long)(top - 1), (unsigned long long)entries);
    }
    return LLCUDA_OK;
}

/* A piece into the block that *at walks through. */
static void store_piece(struct vocabulary *vocabulary, uint32_t id, struct text_view text,
                        char **at)
{
    if (text.length) {
        memcpy(*at, text.data, text.length);
    }
    vocabulary->pieces[id] = text_view_make(*at, text.length);
    vocabulary->kinds[id] = TOKEN_NORMAL;
    vocabulary->in_model[id] = 1;
    *at += text.length;
}

static llcuda_status read_tokens(struct document *d)
{
    struct vocabulary *vocabulary = d->vocabulary;
    uint64_t count = 0;
    uint64_t bytes = 0;
    llcuda_status status = measure(d, &count, &bytes);
    bool scores = json_is(d->tokens, JSON_ARRAY);
    if (!status) {
        status = vocabulary_set_token_count(vocabulary, count, scores, d->error);
    }
    if (status) {
        return status;
    }
    char *at = arena_alloc(&vocabulary->arena, (size_t)bytes + 1, 1);
    if (!at) {
        return error_no_memory(d->error, "the pieces of a vocabulary", bytes);
    }
    JSON_EACH_KEY(key, d->tokens)
    {
        int64_t id = 0;
        json_integer(json_next(key), 0, LIMIT_VOCABULARY_TOKENS - 1, &id);
        if (key->count > LIMIT_TOKEN_BYTES) {
            return bad(d, key, "a token is too long");
        }
        store_piece(vocabulary, (uint32_t)id, json_text(key), &at);
    }
    uint32_t id = 0;
    JSON_EACH(pair, scores ? d->tokens : NULL)
    {
        const struct json_value *piece = json_first(pair);
        if (!json_is(piece, JSON_STRING) || piece->count > LIMIT_TOKEN_BYTES ||
            !json_number(json_next(piece), &vocabulary->scores[id])) {
            return bad(d, pair, "a token is no pair of text and score");
        }
        store_piece(vocabulary, id++, json_text(piece), &at);
    }
    return LLCUDA_OK;
}

static llcuda_status read_added(struct document *d)
{
    struct vocabulary *vocabulary = d->vocabulary;
    const struct json_value *list = json_member(d->root, "added_tokens");
    JSON_EACH(token, list)
    {
        int64_t id = 0;
        struct text_view content = json_text(json_member(token, "content"));
        json_integer(json_member(token, "id"), 0, LIMIT_VOCABULARY_TOKENS - 1, &id);
        if (content.length == 0) {
            continue;
        }
        if (content.length > VOCABULARY_ADDED_BYTES_MAX) {
            return bad(d, token, "an added token is too long");
        }
        struct vocabulary_added *added = add_added(vocabulary);
        content = vocabulary_copy(vocabulary, content);
        if (!added || !content.data) {
            return error_no_memory(d->error, "an added token", content.length);
        }
        /* A piece of the model keeps the model's id, whatever the list says. */
        uint32_t known = vocabulary_find(vocabulary, content);
        *added = (struct vocabulary_added){
            .id = known != TOKEN_NONE ? known : (uint32_t)id,
            .content = content,
            .special = json_bool(json_member(token, "special"), false),
            .single_word = json_bool(json_member(token, "single_word"), false),
            .lstrip = json_bool(json_member(token, "lstrip"), false),
            .rstrip = json_bool(json_member(token, "rstrip"), false),
        };
        added->normalized = json_bool(json_member(token, "normalized"), !added->special);
        if (!vocabulary->in_model[added->id]) {
            vocabulary->pieces[added->id] = content;
        }
        vocabulary->kinds[added->id] = added->special ? TOKEN_CONTROL : TOKEN_USER_DEFINED;
    }
    return LLCUDA_OK;
}

/* The two halves of "a b" or ["a", "b"]. */
static bool merge_halves(const struct json_value *merge, struct text_view *left,
                         struct text_view *right)
{
    if (json_is(merge, JSON_ARRAY) && merge->count == 2) {
        *left = json_text(json_first(merge));
        *right = json_text(json_next(json_first(merge)));
        return left->data && right->data;
    }
    struct text_view text = json_text(merge);
    const char *space = text.length ? memchr(text.data, ' ', text.length) : NULL;
    if (!space) {
        return false;
    }
    *left = text_view_make(text.data, (size_t)(space - text.data));
    *right = text_view_make(space + 1, text.length - left->length - 1);
    return memchr(right->data, ' ', right->length) == NULL;
}

static llcuda_status read_merges(struct document *d)
{
    const struct json_value *list = json_member(d->model, "merges");
    if (!json_is(list, JSON_ARRAY)) {
        return bad(d, d->model, "a BPE model without a list of merges");
    }
    if (list->count > LIMIT_MERGE_COUNT) {
        return bad(d, list, "too many merges");
    }
    struct vocabulary *vocabulary = d->vocabulary;
    vocabulary->merges = calloc((size_t)list->count + 1, sizeof *vocabulary->merges);
    if (!vocabulary->merges) {
        return error_no_memory(d->error, "merges", list->count * sizeof *vocabulary->merges);
    }
    struct merge_batch batch = {.vocabulary = vocabulary,
                                .prefix_bytes = vocabulary->continuing_subword_prefix.length,
                                .must_exist = true};
    llcuda_status status = LLCUDA_OK;
    JSON_EACH(value, list)
    {
        struct text_view text = json_text(value);
        struct text_view left, right;
        bool comment = text.length >= 8 && memcmp(text.data, "#version", 8) == 0;
        if (comment) {
            continue;
        }
        status = merge_halves(value, &left, &right) && right.length >= batch.prefix_bytes
                     ? merge_batch_add(&batch, left, right, value->offset, d->error)
                     : bad(d, value, "a merge is no pair of tokens");
        if (status) {
            break;
        }
    }
    return merge_batch_finish(&batch, status, d->error);
}

static llcuda_status copy_text(struct document *d, const char *key, struct text_view *out)
{
    struct text_view text = json_text(json_member(d->model, key));
    if (text.length == 0) {
        return LLCUDA_OK;
    }
    *out = vocabulary_copy(d->vocabulary, text);
    return out->data ? LLCUDA_OK : error_no_memory(d->error, "a model's option", text.length);
}

static llcuda_status read_bpe(struct document *d)
{
    struct vocabulary *vocabulary = d->vocabulary;
    double dropout = 0;
    if (json_number(json_member(d->model, "dropout"), &dropout) && dropout > 0) {
        return error_set_at(d->error, LLCUDA_UNSUPPORTED, d->model->offset,
                            "the tokeniser leaves merges out at random (dropout %g), which is not "
                            "supported",
                            dropout);
    }
    vocabulary->fuse_unk = json_bool(json_member(d->model, "fuse_unk"), false);
    vocabulary->byte_fallback = json_bool(json_member(d->model, "byte_fallback"), false);
    vocabulary->ignore_merges = json_bool(json_member(d->model, "ignore_merges"), false);
    llcuda_status status =
        copy_text(d, "continuing_subword_prefix", &vocabulary->continuing_subword_prefix);
    if (!status) {
        status = copy_text(d, "end_of_word_suffix", &vocabulary->end_of_word_suffix);
    }
    return status ? status : read_merges(d);
}

static llcuda_status read_wordpiece(struct document *d)
{
    struct vocabulary *vocabulary = d->vocabulary;
    int64_t most = 100;
    const struct json_value *value = json_member(d->model, "max_input_chars_per_word");
    if (value && !json_integer(value, 0, INT32_MAX, &most)) {
        return bad(d, value, "max_input_chars_per_word is no number in range");
    }
    vocabulary->word_characters_max = (uint32_t)most;
    vocabulary->continuing_subword_prefix = text_view_of("##");
    return copy_text(d, "continuing_subword_prefix", &vocabulary->continuing_subword_prefix);
}

static llcuda_status read_unigram(struct document *d)
{
    struct vocabulary *vocabulary = d->vocabulary;
    const struct json_value *unk = json_member(d->model, "unk_id");
    int64_t id;
    if (json_is(unk, JSON_INTEGER)) {
        if (vocabulary->token_count == 0 ||
            !json_integer(unk, 0, (int64_t)d->tokens->count - 1, &id)) {
            return bad(d, unk, "the unk_id of the unigram model is out of range");
        }
        vocabulary->unk_id = (uint32_t)id;
    }
    vocabulary->byte_fallback = json_bool(json_member(d->model, "byte_fallback"), false);
    vocabulary->fuse_unk = true;
    return LLCUDA_OK;
}

static llcuda_status read_model(struct document *d)
{
    struct vocabulary *vocabulary = d->vocabulary;
    llcuda_status status = LLCUDA_OK;
    switch (vocabulary->kind) {
    case VOCABULARY_BPE:
        status = read_bpe(d);
        break;
    case VOCABULARY_UNIGRAM:
        status = read_unigram(d);
        break;
    case VOCABULARY_WORDPIECE:
        status = read_wordpiece(d);
        break;
    case VOCABULARY_SENTENCEPIECE:
    case VOCABULARY_WORD_LEVEL:
        break;
    }
    struct text_view unk = json_text(json_member(d->model, "unk_token"));
    if (vocabulary->kind != VOCABULARY_UNIGRAM && unk.length) {
        vocabulary->unk_id = vocabulary_find(vocabulary, unk);
    }
    for (uint32_t id = 0; id < vocabulary->token_count; id++) {
        bool byte = vocabulary->byte_fallback && vocabulary->kinds[id] == TOKEN_NORMAL &&
                    vocabulary_piece_byte(vocabulary->pieces[id]) >= 0;
        if (byte) {
            vocabulary->kinds[id] = TOKEN_BYTE;
        }
    }
    if (vocabulary->unk_id != TOKEN_NONE && vocabulary->kinds[vocabulary->unk_id] == TOKEN_NORMAL) {
        vocabulary->kinds[vocabulary->unk_id] = TOKEN_UNKNOWN;
    }
    return status;
}

static llcuda_status read_steps(struct document *d)
{
    struct vocabulary *vocabulary = d->vocabulary;
    llcuda_status status =
        read_normalizer(vocabulary, json_member(d->root, "normalizer"), 0, d->error);
    if (!status) {
        status = read_splitter(vocabulary, json_member(d->root, "pre_tokenizer"), 0, d->error);
    }
    if (!status) {
        status = read_decoder(vocabulary, json_member(d->root, "decoder"), 0, d->error);
    }
    if (!status && vocabulary->decoder_count == 0) {
        vocabulary->decoders[vocabulary->decoder_count++] =
            (struct vocabulary_decoder){.kind = DECODER_JOIN};
    }
    if (!status) {
        status =
            read_post_processor(vocabulary, json_member(d->root, "post_processor"), 0, d->error);
    }
    return status;
}

static llcuda_status read_document(struct document *d, struct text_view config)
{
    d->root = json_root(d->json);
    d->model = json_member(d->root, "model");
    d->tokens = json_member(d->model, "vocab");
    if (!json_is(d->model, JSON_OBJECT) ||
        (!json_is(d->tokens, JSON_OBJECT) && !json_is(d->tokens, JSON_ARRAY))) {
        return bad(d, d->model, "no tokeniser model with a vocabulary");
    }
    enum vocabulary_kind kind = VOCABULARY_BPE;
    llcuda_status status = find_kind(d, &kind);
    if (status) {
        return status;
    }
    if ((kind == VOCABULARY_UNIGRAM) != json_is(d->tokens, JSON_ARRAY)) {
        return bad(d, d->tokens, "the vocabulary does not have its model's form");
    }
    d->vocabulary->kind = kind;
    status = read_tokens(d);
    if (!status) {
        status = vocabulary_index_build(d->vocabulary, d->error);
    }
    if (!status) {
        status = read_added(d);
    }
    if (!status) {
        status = read_model(d);
    }
    if (!status) {
        status = read_steps(d);
    }
    if (!status) {
        status = apply_tokenizer_config(d->vocabulary, config, d->error);
    }
    if (!status) {
        status = find_end_tokens(d->vocabulary, d->error);
    }
    return status ? status : vocabulary_check(d->vocabulary, d->error);
}

llcuda_status vocabulary_from_json(struct text_view json, struct text_view config,
                                   struct vocabulary **vocabulary, struct llcuda_error *error)
{
    *vocabulary = NULL;
    struct document document = {.error = error};
    llcuda_status status = json_parse(json, NULL, &document.json, error);
    if (!status) {
        status = vocabulary_create(VOCABULARY_BPE, &document.vocabulary, error);
    }
    if (!status) {
        status = read_document(&document, config);
    }
    json_destroy(document.json);
    if (status) {
        vocabulary_destroy(document.vocabulary);
        return status;
    }
    *vocabulary = document.vocabulary;
    return LLCUDA_OK;
}
