/* Owns the making of a tokenizer and encoding: text → sections between added tokens → normalised →
 * words → ids. A tokenizer is immutable; a scratch belongs to one thread at a time. */
#include "text/tokenizer.h"

#include <stdlib.h>

#include "base/utf8.h"
#include "text/pre_names.h"
#include "text/tokenizer_parts.h"

#define TEXT_BYTES_MAX 0x7FFFFFFFu /* positions are 32 bits, one of them a mark */

static llcuda_status resolve_pre_name(struct vocabulary *vocabulary, struct llcuda_error *error)
{
    if (vocabulary->pre_name.length == 0) {
        return LLCUDA_OK;
    }
    const struct pre_name *name = pre_name_find(vocabulary->pre_name);
    if (!name) {
        return error_set(error, LLCUDA_UNSUPPORTED,
                         "the pre-tokeniser '%.*s' is not known; docs/internals/tokenizers.md "
                         "lists those that are",
                         TEXT_ARGUMENTS(vocabulary->pre_name));
    }
    vocabulary->splitter_count = pre_name_splitters(name, vocabulary->splitters);
    vocabulary->ignore_merges |= name->ignore_merges;
    if (vocabulary->add_bos == VOCABULARY_UNSAID) {
        vocabulary->add_bos = name->add_bos ? VOCABULARY_YES : VOCABULARY_NO;
        if (name->add_bos && vocabulary->bos_id != TOKEN_NONE && vocabulary->prefix_count == 0) {
            vocabulary->prefix_ids[vocabulary->prefix_count++] = vocabulary->bos_id;
        }
    }
    return LLCUDA_OK;
}

static llcuda_status map_added(struct tokenizer *tokenizer, struct llcuda_error *error)
{
    const struct vocabulary *vocabulary = tokenizer->vocabulary;
    size_t bytes = ((size_t)vocabulary->token_count + 1) * sizeof *tokenizer->added_of;
    tokenizer->added_of = malloc(bytes);
    if (!tokenizer->added_of) {
        return error_no_memory(error, "the added tokens", bytes);
    }
    memset(tokenizer->added_of, 0xFF, bytes);
    for (uint32_t i = 0; i < vocabulary->added_count; i++) {
        tokenizer->added_of[vocabulary->added[i].id] = i;
    }
    return LLCUDA_OK;
}

/* Added tokens that are looked for in normalised text are looked for in their normalised form. */
static llcuda_status normalize_added(struct tokenizer *tokenizer, struct llcuda_error *error)
{
    const struct vocabulary *vocabulary = tokenizer->vocabulary;
    tokenizer->added_forms =
        arena_alloc(&tokenizer->strings, vocabulary->added_count, sizeof(struct text_view));
    if (!tokenizer->added_forms) {
        return error_no_memory(error, "the added tokens",
                               vocabulary->added_count * sizeof(struct text_view));
    }
    struct normalizer_state state = {0};
    llcuda_status status = LLCUDA_OK;
    if (tokenizer->normalizers.regex) {
        status = regex_state_create(&state.regex_state, error);
    }
    for (uint32_t i = 0; i < vocabulary->added_count && !status; i++) {
        const struct vocabulary_added *added = &vocabulary->added[i];
        if (!added->normalized || !utf8_valid(added->content)) {
            continue;
        }
        struct text_view form;
        status =
            normalize(&tokenizer->normalizers, &state, added->content, true, false, &form, error);
        if (!status) {
            tokenizer->added_forms[i] = arena_copy_text(&tokenizer->strings, form);
            if (!tokenizer->added_forms[i].data) {
                status = error_no_memory(error, "an added token", form.length);
            }
        }
    }
    regex_state_destroy(state.regex_state);
    normalizer_state_deinit(&state);
    return status;
}

static llcuda_status build(struct tokenizer *tokenizer, struct llcuda_error *error)
{
    struct vocabulary *vocabulary = tokenizer->vocabulary;
    llcuda_status status = LLCUDA_OK;
    if (!vocabulary->index) {
        status = vocabulary_index_build(vocabulary, error);
    }
    if (!status) {
        status = vocabulary_check(vocabulary, error);
    }
    if (!status) {
        status = resolve_pre_name(vocabulary, error);
    }
    if (!status) {
        status = decoders_check(vocabulary, error);
    }
    if (!status) {
        status = split_plan_compile(&tokenizer->splits, vocabulary->splitters,
                                    vocabulary->splitter_count, error);
    }
    if (!status) {
        status = word_model_init(&tokenizer->model, vocabulary, tokenizer->splits.bytes, error);
    }
    if (!status) {
        tokenizer->model.segments = tokenizer->model.segments && tokenizer->splits.step_count == 0;
        const struct trie *user_defined =
            tokenizer->model.user_defined.nodes ? &tokenizer->model.user_defined : NULL;
        status = normalizer_plan_compile(&tokenizer->normalizers, vocabulary, user_defined, error);
    }
    if (!status) {
        status = map_added(tokenizer, error);
    }
    if (!status) {
        status = normalize_added(tokenizer, error);
    }
    if (!status) {
        status = added_set_build(&tokenizer->added_raw, vocabulary, false, NULL, error);
    }
    if (!status) {
        status = added_set_build(&tokenizer->added_normal, vocabulary, true, tokenizer->added_forms,
                                 error);
    }
    return status;
}

llcuda_status tokenizer_create(struct vocabulary *vocabulary, struct tokenizer **tokenizer,
                               struct llcuda_error *error)
{
    *tokenizer = NULL;
    struct tokenizer *made = calloc(1, sizeof *made);
    if (!made) {
        return error_no_memory(error, "a tokenizer", sizeof *made);
    }
    arena_init(&made->strings, 0);
    made->vocabulary = vocabulary;
    llcuda_status status = build(made, error);
    if (status) {
        made->vocabulary = NULL; /* stays the caller's */
        tokenizer_destroy(made);
        return status;
    }
    for (uint32_t i = 0; i < vocabulary->decoder_count; i++) {
        made->decodes_bytes |= vocabulary->decoders[i].kind == DECODER_BYTE_LEVEL;
    }
    *tokenizer = made;
    return LLCUDA_OK;
}

void tokenizer_destroy(struct tokenizer *tokenizer)
{
    if (!tokenizer) {
        return;
    }
    added_set_deinit(&tokenizer->added_raw);
    added_set_deinit(&tokenizer->added_normal);
    normalizer_plan_deinit(&tokenizer->normalizers);
    split_plan_deinit(&tokenizer->splits);
    word_model_deinit(&tokenizer->model);
    arena_deinit(&tokenizer->strings);
    free(tokenizer->added_of);
    vocabulary_destroy(tokenizer->vocabulary);
    free(tokenizer);
}

const struct vocabulary *tokenizer_vocabulary(const struct tokenizer *tokenizer)
{
    return tokenizer->vocabulary;
}

uint32_t tokenizer_token_count(const struct tokenizer *tokenizer)
{
    return tokenizer->vocabulary->token_count;
}

uint32_t tokenizer_find(const struct tokenizer *tokenizer, struct text_view piece)
{
    const struct vocabulary *vocabulary = tokenizer->vocabulary;
    for (uint32_t i = 0; i < vocabulary->added_count; i++) {
        if (text_view_equal(vocabulary->added[i].content, piece)) {
            return vocabulary->added[i].id;
        }
    }
    return vocabulary_find(vocabulary, piece);
}

struct text_view tokenizer_piece(const struct tokenizer *tokenizer, uint32_t id)
{
    const struct vocabulary *vocabulary = tokenizer->vocabulary;
    if (id >= vocabulary->token_count) {
        return text_view_make(NULL, 0);
    }
    uint32_t added = tokenizer->added_of[id];
    return added != TOKEN_NONE ? vocabulary->added[added].content : vocabulary->pieces[id];
}

bool tokenizer_is_special(const struct tokenizer *tokenizer, uint32_t id)
{
    if (id >= tokenizer->vocabulary->token_count) {
        return false;
    }
    uint32_t added = tokenizer->added_of[id];
    return added != TOKEN_NONE && tokenizer->vocabulary->added[added].special;
}

bool tokenizer_is_end_of_generation(const struct tokenizer *tokenizer, uint32_t id)
{
    const struct vocabulary *vocabulary = tokenizer->vocabulary;
    for (uint32_t i = 0; i < vocabulary->end_count; i++) {
        if (vocabulary->end_ids[i] == id) {
            return true;
        }
    }
    return false;
}

llcuda_status tokenizer_scratch_create(const struct tokenizer *tokenizer,
                                       struct tokenizer_scratch **scratch,
                                       struct llcuda_error *error)
{
    *scratch = NULL;
    struct tokenizer_scratch *made = calloc(1, sizeof *made);
    if (!made) {
        return error_no_memory(error, "a tokenizer's scratch", sizeof *made);
    }
    made->tokenizer = tokenizer;
    if (tokenizer->splits.regex || tokenizer->normalizers.regex) {
        llcuda_status status = regex_state_create(&made->regex_state, error);
        if (status) {
            free(made);
            return status;
        }
    }
    made->normal.regex_state = made->regex_state;
    made->run.regex_state = made->regex_state;
    *scratch = made;
    return LLCUDA_OK;
}

void tokenizer_scratch_destroy(struct tokenizer_scratch *scratch)
{
    if (scratch) {
        word_scratch_deinit(&scratch->words);
        normalizer_state_deinit(&scratch->normal);
        split_run_deinit(&scratch->run);
        regex_state_destroy(scratch->regex_state);
        buffer_deinit(&scratch->valid);
        free(scratch);
    }
}

static llcuda_status append_id(struct token_ids *out, uint32_t id, struct llcuda_error *error)
{
    return token_ids_append(out, id)
               ? LLCUDA_OK
               : error_no_memory(error, "token ids", out->count * sizeof *out->data);
}

static llcuda_status encode_words(struct tokenizer_scratch *scratch, struct text_view text,
                                  bool first)
{
    if (text.length == 0) {
        return LLCUDA_OK;
    }
    scratch->run.readable_end = text.data + text.length;
    return split_run_over(&scratch->run, text.data, text.length, first);
}

/* The text between two added tokens: normalised, searched for the other added tokens, split. */
static llcuda_status encode_section(struct tokenizer_scratch *scratch, struct text_view text,
                                    bool first, bool after_special, bool skip_special,
                                    struct llcuda_error *error)
{
    const struct tokenizer *tokenizer = scratch->tokenizer;
    struct text_view normal;
    llcuda_status status = normalize(&tokenizer->normalizers, &scratch->normal, text, first,
                                     after_special, &normal, error);
    struct added_walk walk = {
        .set = &tokenizer->added_normal, .text = normal, .skip_special = skip_special};
    size_t done = 0;
    size_t start, stop;
    uint32_t id;
    while (!status && added_walk_next(&walk, &start, &stop, &id)) {
        status = encode_words(scratch, text_view_make(normal.data + done, start - done),
                              first && done == 0);
        if (!status) {
            status = append_id(scratch->out, id, error);
        }
        done = stop;
    }
    return status ? status
                  : encode_words(scratch, text_view_make(normal.data + done, normal.length - done),
                                 first && done == 0);
}

static llcuda_status encode_text(struct tokenizer_scratch *scratch, struct text_view text,
                                 bool skip_special, struct llcuda_error *error)
{
    const struct tokenizer *tokenizer = scratch->tokenizer;
    struct added_walk walk = {
        .set = &tokenizer->added_raw, .text = text, .skip_special = skip_special};
    size_t done = 0;
    size_t start, stop;
    uint32_t id;
    bool after_special = false;
    llcuda_status status = LLCUDA_OK;
    while (!status && added_walk_next(&walk, &start, &stop, &id)) {
        if (start > done) {
            status = encode_section(scratch, text_view_make(text.data + done, start - done),
                                    done == 0, after_special, skip_special, error);
        }
        if (!status) {
            status = append_id(scratch->out, id, error);
        }
        after_special = true;
        done = stop;
    }
    if (status || done == text.length) {
        return status;
    }
    return encode_section(scratch, text_view_make(text.data + done, text.length - done), done == 0,
                          after_special, skip_special, error);
}

/* The length of the valid UTF-8 that `text` begins with. */
static size_t valid_prefix(struct text_view text)
{
    size_t at = 0;
    while (at < text.length) {
        uint64_t eight;
        if (text.length - at >= sizeof eight) {
            memcpy(&eight, text.data + at, sizeof eight);
            if ((eight & 0x8080808080808080ull) == 0) {
                at += sizeof eight;
                continue;
            }
        }
        uint32_t code;
        size_t length = utf8_decode(text.data + at, text.length - at, &code);
        if (length == 0) {
            break;
        }
        at += length;
    }
    return at;
}

/* Replaces what is no UTF-8 by U+FFFD, each maximal part once. */
static llcuda_status make_valid(struct buffer *valid, struct text_view *text,
                                struct llcuda_error *error)
{
    buffer_clear(valid);
    buffer_reserve(valid, text->length);
    struct text_view rest = *text;
    while (rest.length > 0) {
        size_t length = valid_prefix(rest);
        buffer_append(valid, rest.data, length);
        if (length < rest.length) {
            buffer_append_text(valid, "\xEF\xBF\xBD");
            length += utf8_invalid_length(rest.data + length, rest.length - length);
        }
        rest = text_view_make(rest.data + length, rest.length - length);
    }
    *text = buffer_view(valid);
    return valid->failed ? error_no_memory(error, "a text made valid", text->length) : LLCUDA_OK;
}

static llcuda_status encode_all(struct tokenizer_scratch *scratch, struct text_view text,
                                const struct tokenizer_encode_options *options,
                                struct llcuda_error *error)
{
    const struct vocabulary *vocabulary = scratch->tokenizer->vocabulary;
    llcuda_status status = word_scratch_prepare(&scratch->words, text.length, error);
    if (!status && valid_prefix(text) < text.length) {
        status = make_valid(&scratch->valid, &text, error);
    }
    for (uint32_t i = 0; options->add_special && i < vocabulary->prefix_count && !status; i++) {
        status = append_id(scratch->out, vocabulary->prefix_ids[i], error);
    }
    if (!status) {
        status = encode_text(scratch, text, !options->parse_special, error);
    }
    for (uint32_t i = 0; options->add_special && i < vocabulary->suffix_count && !status; i++) {
        status = append_id(scratch->out, vocabulary->suffix_ids[i], error);
    }
    return status;
}

static llcuda_status encode_with(const struct tokenizer *tokenizer, struct text_view text,
                                 const struct tokenizer_encode_options *options,
                                 struct tokenizer_scratch *scratch, struct token_ids *out,
                                 struct llcuda_error *error)
{
    size_t before = out->count;
    scratch->out = out;
    scratch->run.plan = &tokenizer->splits;
    scratch->run.word = word_sink_take;
    scratch->run.user = &scratch->sink;
    scratch->sink = (struct word_sink){&tokenizer->model, &scratch->words, out};
    scratch->run.error = error;
    llcuda_status status = encode_all(scratch, text, options, error);
    if (status) {
        out->count = before;
    }
    scratch->out = NULL;
    return status;
}

llcuda_status tokenizer_encode(const struct tokenizer *tokenizer, struct text_view text,
                               const struct tokenizer_encode_options *options,
                               struct tokenizer_scratch *scratch, struct token_ids *out,
                               struct llcuda_error *error)
{
    static const struct tokenizer_encode_options defaults = {true, true};
    options = options ? options : &defaults;
    if (text.length > TEXT_BYTES_MAX) {
        return error_set(error, LLCUDA_LIMIT, "a text of %zu bytes is too long to be tokenised",
                         text.length);
    }
    if (scratch) {
        return encode_with(tokenizer, text, options, scratch, out, error);
    }
    struct tokenizer_scratch *own;
    llcuda_status status = tokenizer_scratch_create(tokenizer, &own, error);
    if (own) {
        status = encode_with(tokenizer, text, options, own, out, error);
        tokenizer_scratch_destroy(own);
    }
    return status;
}
