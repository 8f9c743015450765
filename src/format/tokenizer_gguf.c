/* Owns the reading of a vocabulary from GGUF metadata, the keys tokenizer.ggml.*. What the keys
 * leave unsaid (defaults of a model kind, steps around it) is filled in here; pre-tokeniser names
 * stay names, for text/ to resolve. Every array has its element kind and exact length demanded. */
#include <stdlib.h>

#include "base/limits.h"
#include "format/tokenizer_internal.h"
#include "format/tokenizer_source.h"

#define KEY(name) "tokenizer.ggml." name

static const char space_symbol[] = "\xE2\x96\x81";

struct reader {
    const struct gguf *gguf;
    struct vocabulary *vocabulary;
    struct llcuda_error *error;
};

/* OK too when the key is absent, which leaves *out. */
static llcuda_status read_flag(const struct reader *r, const char *key, bool *out)
{
    return gguf_find(r->gguf, key) ? gguf_read_bool(r->gguf, key, out, r->error) : LLCUDA_OK;
}

static llcuda_status read_answer(const struct reader *r, const char *key,
                                 enum vocabulary_answer *answer)
{
    bool value;
    if (!gguf_find(r->gguf, key)) {
        return LLCUDA_OK;
    }
    llcuda_status status = gguf_read_bool(r->gguf, key, &value, r->error);
    if (!status) {
        *answer = value ? VOCABULARY_YES : VOCABULARY_NO;
    }
    return status;
}

static llcuda_status read_kind(const struct reader *r, struct text_view *model,
                               enum vocabulary_kind *kind)
{
    llcuda_status status = gguf_read_text(r->gguf, KEY("model"), model, r->error);
    if (status) {
        return status;
    }
    if (text_view_is(*model, "llama")) {
        *kind = VOCABULARY_SENTENCEPIECE;
    } else if (text_view_is(*model, "gpt2") || text_view_is(*model, "gemma4")) {
        *kind = VOCABULARY_BPE;
    } else if (text_view_is(*model, "bert")) {
        *kind = VOCABULARY_WORDPIECE;
    } else if (text_view_is(*model, "t5")) {
        *kind = VOCABULARY_UNIGRAM;
    } else {
        const struct gguf_value *value = gguf_find(r->gguf, KEY("model"));
        return error_set_at(r->error, LLCUDA_UNSUPPORTED, value ? value->offset : 0,
                            "the tokeniser model '%.*s' is not supported (llama, gpt2, bert, t5 "
                            "and gemma4 are)",
                            TEXT_ARGUMENTS(*model));
    }
    return LLCUDA_OK;
}

static llcuda_status read_pieces(const struct reader *r)
{
    const struct gguf_value *tokens;
    llcuda_status status =
        gguf_read_array(r->gguf, KEY("tokens"), GGUF_STRING, 0, &tokens, r->error);
    if (status) {
        return status;
    }
    struct vocabulary *vocabulary = r->vocabulary;
    bool scores =
        vocabulary->kind == VOCABULARY_SENTENCEPIECE || vocabulary->kind == VOCABULARY_UNIGRAM;
    status = vocabulary_set_token_count(vocabulary, tokens->count, scores, r->error);
    if (status) {
        return status;
    }
    uint64_t bytes = 0;
    for (uint64_t i = 0; i < tokens->count; i++) {
        if (tokens->texts[i].length > LIMIT_TOKEN_BYTES) {
            return error_set_at(r->error, LLCUDA_LIMIT, tokens->offset,
                                "token %llu has %zu bytes, more than %u", (unsigned long long)i,
                                tokens->texts[i].length, LIMIT_TOKEN_BYTES);
        }
        bytes += tokens->texts[i].length;
    }
    char *at = arena_alloc(&vocabulary->arena, (size_t)bytes + 1, 1);
    if (!at) {
        return error_no_memory(r->error, "the pieces of a vocabulary", bytes);
    }
    for (uint32_t id = 0; id < vocabulary->token_count; id++) {
        size_t length = tokens->texts[id].length;
        if (length) {
            memcpy(at, tokens->texts[id].data, length);
        }
        vocabulary->pieces[id] = text_view_make(at, length);
        vocabulary->kinds[id] = TOKEN_NORMAL;
        vocabulary->in_model[id] = 1;
        at += length;
    }
    return LLCUDA_OK;
}

static llcuda_status read_scores(const struct reader *r)
{
    struct vocabulary *vocabulary = r->vocabulary;
    if (!vocabulary->scores || vocabulary->token_count == 0) {
        return LLCUDA_OK;
    }
    const struct gguf_value *scores;
    llcuda_status status = gguf_read_array(r->gguf, KEY("scores"), GGUF_F32,
                                           vocabulary->token_count, &scores, r->error);
    for (uint32_t id = 0; id < vocabulary->token_count && !status; id++) {
        float score;
        memcpy(&score, scores->elements + 4 * (size_t)id, sizeof score);
        vocabulary->scores[id] = (double)score;
    }
    return status;
}

static llcuda_status read_types(const struct reader *r)
{
    static const uint8_t kinds[] = {TOKEN_NORMAL,       TOKEN_NORMAL, TOKEN_UNKNOWN, TOKEN_CONTROL,
                                    TOKEN_USER_DEFINED, TOKEN_UNUSED, TOKEN_BYTE};
    struct vocabulary *vocabulary = r->vocabulary;
    if (!gguf_find(r->gguf, KEY("token_type")) || vocabulary->token_count == 0) {
        return LLCUDA_OK;
    }
    const struct gguf_value *types;
    llcuda_status status = gguf_read_array(r->gguf, KEY("token_type"), GGUF_I32,
                                           vocabulary->token_count, &types, r->error);
    for (uint32_t id = 0; id < vocabulary->token_count && !status; id++) {
        int32_t type;
        memcpy(&type, types->elements + 4 * (size_t)id, sizeof type);
        bool known = type >= 0 && (size_t)type < sizeof kinds;
        vocabulary->kinds[id] = known ? kinds[type] : (uint8_t)TOKEN_NORMAL;
        if (vocabulary->kinds[id] == TOKEN_BYTE) {
            vocabulary->byte_fallback = true;
        }
    }
    return status;
}

/* Merges whose parts or result are no tokens cannot happen; files have some. */
static llcuda_status read_merges(const struct reader *r)
{
    struct vocabulary *vocabulary = r->vocabulary;
    const struct gguf_value *merges;
    llcuda_status status =
        gguf_read_array(r->gguf, KEY("merges"), GGUF_STRING, 0, &merges, r->error);
    if (status) {
        return status;
    }
    if (merges->count > LIMIT_MERGE_COUNT) {
        return error_set_at(r->error, LLCUDA_LIMIT, merges->offset, "%llu merges are more than %u",
                            (unsigned long long)merges->count, LIMIT_MERGE_COUNT);
    }
    vocabulary->merges = calloc((size_t)merges->count + 1, sizeof *vocabulary->merges);
    if (!vocabulary->merges) {
        return error_no_memory(r->error, "merges", merges->count * sizeof *vocabulary->merges);
    }
    struct merge_batch batch = {.vocabulary = vocabulary};
    for (uint64_t i = 0; i < merges->count && !status; i++) {
        struct text_view text = merges->texts[i];
        /* The left part has at least one byte, which may be a space itself. */
        const char *space = text.length > 2 ? memchr(text.data + 1, ' ', text.length - 1) : NULL;
        if (space) {
            struct text_view left = text_view_make(text.data, (size_t)(space - text.data));
            struct text_view right = text_view_make(space + 1, text.length - left.length - 1);
            status = merge_batch_add(&batch, left, right, merges->offset, r->error);
        }
    }
    return merge_batch_finish(&batch, status, r->error);
}

/* A key that is absent leaves the default; the default is dropped when it is out of range. */
static llcuda_status read_id(const struct reader *r, const char *key, uint32_t fallback,
                             uint32_t *id)
{
    uint32_t count = r->vocabulary->token_count;
    if (*id == TOKEN_NONE) {
        *id = fallback < count ? fallback : TOKEN_NONE;
    }
    if (!gguf_find(r->gguf, key)) {
        return LLCUDA_OK;
    }
    uint64_t value;
    llcuda_status status = gguf_read_u64(r->gguf, key, 0, UINT32_MAX, &value, r->error);
    if (status) {
        return status;
    }
    if (value == UINT32_MAX) { /* how converters write -1, which means none */
        *id = TOKEN_NONE;
        return LLCUDA_OK;
    }
    if (value >= count) {
        uint64_t offset = gguf_find(r->gguf, key)->offset;
        return error_set_at(r->error, LLCUDA_BAD_FORMAT, offset,
                            "'%s' at byte %llu is %llu, but there are %u tokens", key,
                            (unsigned long long)offset, (unsigned long long)value, count);
    }
    *id = (uint32_t)value;
    return LLCUDA_OK;
}

static llcuda_status read_ids(const struct reader *r)
{
    struct vocabulary *v = r->vocabulary;
    bool spm = v->kind == VOCABULARY_SENTENCEPIECE;
    bool bert = v->kind == VOCABULARY_WORDPIECE;
    bool t5 = v->kind == VOCABULARY_UNIGRAM;
    const struct {
        const char *key;
        uint32_t fallback;
        uint32_t *id;
    } ids[] = {
        {KEY("cls_token_id"), bert ? 101 : TOKEN_NONE, &v->cls_id},
        {KEY("bos_token_id"),
         spm    ? 1
         : bert ? 101
                : TOKEN_NONE,
         &v->bos_id},
        {KEY("eos_token_id"),
         spm  ? 2
         : t5 ? 1
              : TOKEN_NONE,
         &v->eos_id},
        {KEY("unknown_token_id"),
         spm    ? 0
         : bert ? 100
         : t5   ? 2
                : TOKEN_NONE,
         &v->unk_id},
        {KEY("seperator_token_id"), bert ? 102 : TOKEN_NONE, &v->sep_id}, /* as published */
        {KEY("separator_token_id"), TOKEN_NONE, &v->sep_id},
        {KEY("padding_token_id"), bert || t5 ? 0 : TOKEN_NONE, &v->pad_id},
        {KEY("mask_token_id"), bert ? 103 : TOKEN_NONE, &v->mask_id},
        {KEY("eot_token_id"), TOKEN_NONE, &v->eot_id},
        {KEY("eom_token_id"), TOKEN_NONE, &v->eom_id},
    };
    for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++) {
        llcuda_status status = read_id(r, ids[i].key, ids[i].fallback, ids[i].id);
        if (status) {
            return status;
        }
    }
    return LLCUDA_OK;
}

/* Control and unknown tokens are special, user-defined ones are not. What SentencePiece looks for
 * in normalised text (pieces with U+2581) is not looked for in the raw text. */
static llcuda_status collect_added(const struct reader *r)
{
    struct vocabulary *v = r->vocabulary;
    struct text_view architecture = {0};
    if (gguf_find(r->gguf, "general.architecture")) {
        llcuda_status status =
            gguf_read_text(r->gguf, "general.architecture", &architecture, r->error);
        if (status) {
            return status;
        }
    }
    /* The file format has no flags of added tokens; these models' special tokens have this one. */
    bool takes_space = v->kind == VOCABULARY_SENTENCEPIECE && text_view_is(architecture, "phi3");
    for (uint32_t id = 0; id < v->token_count; id++) {
        struct text_view piece = v->pieces[id];
        bool special = v->kinds[id] == TOKEN_CONTROL || v->kinds[id] == TOKEN_UNKNOWN;
        bool wanted = special || v->kinds[id] == TOKEN_USER_DEFINED;
        bool normalised = v->kinds[id] == TOKEN_USER_DEFINED &&
                          v->kind == VOCABULARY_SENTENCEPIECE &&
                          memmem(piece.data, piece.length, space_symbol, 3);
        if (!wanted || normalised || piece.length == 0 ||
            piece.length > VOCABULARY_ADDED_BYTES_MAX) {
            continue;
        }
        struct vocabulary_added *added = add_added(v);
        if (!added) {
            return error_no_memory(r->error, "an added token", sizeof *added);
        }
        bool keeps_space = text_view_is(piece, "<unk>") || text_view_is(piece, "<s>") ||
                           text_view_is(piece, "<|endoftext|>");
        *added = (struct vocabulary_added){
            .id = id, .content = piece, .special = special, .rstrip = takes_space && !keeps_space};
    }
    return LLCUDA_OK;
}

static void add_decoder(struct vocabulary *v, struct vocabulary_decoder decoder)
{
    v->decoders[v->decoder_count++] = decoder;
}

/* U+2581 to spaces, byte tokens to bytes, and the dummy space away again. */
static void add_sentencepiece_decoders(struct vocabulary *v, bool strips)
{
    add_decoder(v, (struct vocabulary_decoder){.kind = DECODER_REPLACE,
                                               .pattern = text_view_of(space_symbol),
                                               .content = text_view_of(" ")});
    add_decoder(v, (struct vocabulary_decoder){.kind = DECODER_BYTE_FALLBACK});
    add_decoder(v, (struct vocabulary_decoder){.kind = DECODER_FUSE});
    if (strips) {
        add_decoder(v, (struct vocabulary_decoder){
                           .kind = DECODER_STRIP, .content = text_view_of(" "), .start = 1});
    }
}

static llcuda_status read_charsmap(const struct reader *r, struct text_view *out)
{
    const struct gguf_value *value = gguf_find(r->gguf, KEY("precompiled_charsmap"));
    if (!value) {
        return LLCUDA_OK;
    }
    bool bytes = value->kind == GGUF_ARRAY &&
                 (value->element_kind == GGUF_I8 || value->element_kind == GGUF_U8);
    if (!bytes || value->count > SIZE_MAX) {
        return error_set_at(r->error, LLCUDA_BAD_FORMAT, value->offset,
                            "'%s' at byte %llu is no array of bytes", KEY("precompiled_charsmap"),
                            (unsigned long long)value->offset);
    }
    *out = vocabulary_copy(r->vocabulary,
                           text_view_make((const char *)value->elements, (size_t)value->count));
    return out->data ? LLCUDA_OK
                     : error_no_memory(r->error, "a precompiled charsmap", value->count);
}

static llcuda_status set_sentencepiece_steps(const struct reader *r)
{
    struct vocabulary *v = r->vocabulary;
    bool t5 = v->kind == VOCABULARY_UNIGRAM;
    struct vocabulary_normalizer step = {.kind = NORMALIZER_SENTENCEPIECE,
                                         .add_dummy_prefix = true,
                                         .remove_extra_whitespaces = t5,
                                         .escape_whitespaces = true,
                                         .dummy_prefix_after_specials = true};
    llcuda_status status = read_charsmap(r, &step.charsmap);
    if (!status) {
        status = read_flag(r, KEY("add_space_prefix"), &step.add_dummy_prefix);
    }
    if (!status) {
        status = read_flag(r, KEY("remove_extra_whitespaces"), &step.remove_extra_whitespaces);
    }
    v->normalizers[v->normalizer_count++] = step;
    v->add_space_prefix = step.add_dummy_prefix;
    v->only_usable_kinds = t5;
    v->fuse_unk = true;
    v->add_bos = t5 ? VOCABULARY_NO : VOCABULARY_YES;
    v->add_eos = t5 ? VOCABULARY_YES : VOCABULARY_NO;
    add_sentencepiece_decoders(v, step.add_dummy_prefix);
    return status;
}

static llcuda_status set_byte_level_steps(const struct reader *r)
{
    struct vocabulary *v = r->vocabulary;
    struct text_view name = text_view_of("default");
    llcuda_status status = LLCUDA_OK;
    if (gguf_find(r->gguf, KEY("pre"))) {
        status = gguf_read_text(r->gguf, KEY("pre"), &name, r->error);
    }
    if (!status) {
        v->pre_name = vocabulary_copy(v, name);
        if (!v->pre_name.data) {
            status = error_no_memory(r->error, "a pre-tokeniser's name", name.length);
        }
    }
    add_decoder(v, (struct vocabulary_decoder){.kind = DECODER_BYTE_LEVEL});
    v->add_bos = VOCABULARY_UNSAID;
    v->add_eos = VOCABULARY_NO;
    return status ? status : read_merges(r);
}

/* Merges over characters with U+2581 for spaces. Runs of line breaks are tokens of their own, which
 * no merge makes. */
static llcuda_status set_gemma4_steps(const struct reader *r)
{
    struct vocabulary *v = r->vocabulary;
    v->normalizers[v->normalizer_count++] =
        (struct vocabulary_normalizer){.kind = NORMALIZER_REPLACE,
                                       .pattern = text_view_of(" "),
                                       .content = text_view_of(space_symbol)};
    v->splitters[v->splitter_count++] =
        (struct vocabulary_splitter){.kind = SPLITTER_SPLIT,
                                     .behavior = SPLIT_ISOLATED,
                                     .pattern = text_view_of("[^\\n]+|[\\n]+"),
                                     .pattern_is_regex = true};
    for (uint32_t id = 0; id < v->token_count; id++) {
        struct text_view piece = v->pieces[id];
        size_t breaks = 0;
        while (breaks < piece.length && piece.data[breaks] == '\n') {
            breaks++;
        }
        if (breaks > 0 && breaks == piece.length && v->kinds[id] == TOKEN_NORMAL) {
            v->kinds[id] = TOKEN_USER_DEFINED;
        }
    }
    v->byte_fallback = true;
    v->fuse_unk = true;
    v->add_bos = VOCABULARY_YES;
    v->add_eos = VOCABULARY_NO;
    add_sentencepiece_decoders(v, false);
    return read_merges(r);
}

static llcuda_status set_bert_steps(const struct reader *r)
{
    struct vocabulary *v = r->vocabulary;
    struct vocabulary_normalizer step = {
        .kind = NORMALIZER_BERT, .clean_text = true, .chinese_characters = true, .lowercase = true};
    llcuda_status status = read_flag(r, KEY("normalizer.lowercase"), &step.lowercase);
    step.strip_accents = step.lowercase;
    if (!status) {
        status = read_flag(r, KEY("normalizer.strip_accents"), &step.strip_accents);
    }
    v->normalizers[v->normalizer_count++] = step;
    v->splitters[v->splitter_count++] = (struct vocabulary_splitter){.kind = SPLITTER_BERT};
    v->word_prefix = text_view_of(space_symbol);
    v->word_characters_max = 100;
    add_decoder(v, (struct vocabulary_decoder){.kind = DECODER_WORDPIECE,
                                               .pattern = text_view_of(space_symbol),
                                               .cleanup = true});
    v->add_bos = VOCABULARY_YES;
    v->add_eos = VOCABULARY_NO;
    bool add_sep = true;
    if (!status) {
        status = read_flag(r, KEY("add_sep_token"), &add_sep);
    }
    if (add_sep && v->sep_id != TOKEN_NONE) {
        v->suffix_ids[v->suffix_count++] = v->sep_id;
    }
    return status;
}

static llcuda_status set_steps(const struct reader *r, struct text_view model)
{
    llcuda_status status;
    if (text_view_is(model, "gemma4")) {
        status = set_gemma4_steps(r);
    } else if (text_view_is(model, "gpt2")) {
        status = set_byte_level_steps(r);
    } else if (text_view_is(model, "bert")) {
        status = set_bert_steps(r);
    } else {
        status = set_sentencepiece_steps(r);
    }
    struct vocabulary *v = r->vocabulary;
    if (!status) {
        status = read_answer(r, KEY("add_bos_token"), &v->add_bos);
    }
    if (!status) {
        status = read_answer(r, KEY("add_eos_token"), &v->add_eos);
    }
    if (!status) {
        surround_with_bos_eos(v);
    }
    return status;
}

static llcuda_status read_all(const struct reader *r, struct text_view model)
{
    llcuda_status status = read_pieces(r);
    if (!status) {
        status = read_scores(r);
    }
    if (!status) {
        status = read_types(r);
    }
    if (!status) {
        status = vocabulary_index_build(r->vocabulary, r->error);
    }
    if (!status) {
        status = read_ids(r);
    }
    if (!status) {
        status = set_steps(r, model);
    }
    if (!status) {
        mark_end_tokens(r->vocabulary);
        status = collect_added(r);
    }
    if (!status) {
        status = find_end_tokens(r->vocabulary, r->error);
    }
    return status ? status : vocabulary_check(r->vocabulary, r->error);
}

llcuda_status vocabulary_from_gguf(const struct gguf *gguf, struct vocabulary **vocabulary,
                                   struct llcuda_error *error)
{
    *vocabulary = NULL;
    struct reader reader = {.gguf = gguf, .error = error};
    struct text_view model = {0};
    enum vocabulary_kind kind = VOCABULARY_BPE;
    llcuda_status status = read_kind(&reader, &model, &kind);
    if (!status) {
        status = vocabulary_create(kind, &reader.vocabulary, error);
    }
    if (!status) {
        status = read_all(&reader, model);
    }
    if (status) {
        vocabulary_destroy(reader.vocabulary);
        return status;
    }
    *vocabulary = reader.vocabulary;
    return LLCUDA_OK;
}
