/* Owns the metadata that a Hugging Face folder becomes in a GGUF file: sizes, rotary embedding, the
 * chat template, and the tokeniser where GGUF has a form for it (byte-level merges of a known
 * pre-tokeniser, or SentencePiece's merges by score). */
#include <stdio.h>
#include <stdlib.h>

#include "convert/items.h"
#include "format/chat_template.h"
#include "format/tokenizer_source.h"
#include "model/model.h"
#include "text/pre_names.h"

#define KEY(name) "tokenizer.ggml." name

static bool read_number(const struct model_source *source, const char *key, double *value)
{
    return model_source_number(source, NULL, key, -1e30, 1e30, value, NULL) == LLCUDA_OK;
}

double hf_rotary_base(const struct model_source *source)
{
    double base = 10000;
    if (!read_number(source, "rope_parameters.rope_theta", &base)) {
        read_number(source, "rope_theta", &base);
    }
    return base;
}

/* "llama3", "linear" …; empty when frequencies are not scaled. */
static struct text_view rotary_type(const struct model_source *source, const char **section)
{
    static const struct {
        const char *section, *key;
    } places[] = {{"rope_scaling", "rope_scaling.rope_type"},
                  {"rope_scaling", "rope_scaling.type"},
                  {"rope_parameters", "rope_parameters.rope_type"}};
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        struct text_view type;
        if (model_source_text(source, NULL, places[i].key, &type, NULL) == LLCUDA_OK) {
            *section = places[i].section;
            return text_view_is(type, "default") ? text_view_of("") : type;
        }
    }
    *section = "";
    return text_view_of("");
}

bool hf_has_divisors(const struct model_source *source)
{
    const char *section;
    return text_view_is(rotary_type(source, &section), "llama3");
}

static void add_size(struct gguf_writer *writer, const char *architecture, const char *name,
                     uint32_t value)
{
    char key[96];
    snprintf(key, sizeof key, "%s.%s", architecture, name);
    gguf_writer_add_u32(writer, key, value);
}

static void add_number(struct gguf_writer *writer, const char *architecture, const char *name,
                       double value)
{
    char key[96];
    snprintf(key, sizeof key, "%s.%s", architecture, name);
    gguf_writer_add_f32(writer, key, (float)value);
}

static llcuda_status add_rotary(const struct model_source *source, const char *architecture,
                                struct gguf_writer *writer, struct llcuda_error *error)
{
    const char *section;
    struct text_view type = rotary_type(source, &section);
    char key[96];
    double factor = 1;
    add_number(writer, architecture, "rope.freq_base", hf_rotary_base(source));
    if (type.length == 0 || text_view_is(type, "llama3")) {
        return LLCUDA_OK; /* llama3: a tensor of divisors says it all */
    }
    snprintf(key, sizeof key, "%s.factor", section);
    if (!text_view_is(type, "linear") || !read_number(source, key, &factor)) {
        return error_set(error, LLCUDA_UNSUPPORTED,
                         "rotary scaling '%.*s' cannot be converted; linear and llama3 can",
                         TEXT_ARGUMENTS(type));
    }
    snprintf(key, sizeof key, "%s.rope.scaling.type", architecture);
    gguf_writer_add_text(writer, key, text_view_of("linear"));
    add_number(writer, architecture, "rope.scaling.factor", factor);
    return LLCUDA_OK;
}

static void add_experts(const struct model_source *source, const char *architecture,
                        const struct model_info *info, struct gguf_writer *writer)
{
    bool normalised;
    char key[96];
    add_size(writer, architecture, "expert_count", info->expert_count);
    add_size(writer, architecture, "expert_used_count", info->used_count);
    if (info->expert_length != info->feed_forward_length) {
        add_size(writer, architecture, "expert_feed_forward_length", info->expert_length);
    }
    if (info->shared_length) {
        add_size(writer, architecture, "expert_shared_feed_forward_length", info->shared_length);
    }
    if (model_source_bool(source, NULL, "norm_topk_prob", &normalised, NULL) == LLCUDA_OK) {
        snprintf(key, sizeof key, "%s.expert_weights_norm", architecture);
        gguf_writer_add_bool(writer, key, normalised);
    }
}

static llcuda_status add_sizes(const struct model_source *source, const char *architecture,
                               struct gguf_writer *writer, struct llcuda_error *error)
{
    struct plan *plan = NULL;
    struct model_info info;
    double epsilon = 1e-6;
    llcuda_status status = model_plan_build(source, &plan, &info, error);
    if (status) {
        return status;
    }
    plan_destroy(plan);
    if (info.window && info.window_layer_count != info.layer_count) {
        return error_set(error, LLCUDA_UNSUPPORTED,
                         "a window in %u of %u layers has no place in a GGUF file of this "
                         "architecture",
                         info.window_layer_count, info.layer_count);
    }
    read_number(source, "rms_norm_eps", &epsilon);
    add_size(writer, architecture, "block_count", info.layer_count);
    add_size(writer, architecture, "context_length", info.context_length);
    add_size(writer, architecture, "embedding_length", info.embedding_length);
    add_size(writer, architecture, "feed_forward_length", info.feed_forward_length);
    add_size(writer, architecture, "attention.head_count", info.head_count);
    add_size(writer, architecture, "attention.head_count_kv", info.kv_head_count);
    add_size(writer, architecture, "attention.key_length", info.head_size);
    add_size(writer, architecture, "attention.value_length", info.head_size);
    add_number(writer, architecture, "attention.layer_norm_rms_epsilon", epsilon);
    add_size(writer, architecture, "rope.dimension_count", info.head_size);
    add_size(writer, architecture, "vocab_size", info.vocabulary_size);
    if (info.window) {
        add_size(writer, architecture, "attention.sliding_window", info.window);
    }
    if (info.expert_count) {
        add_experts(source, architecture, &info, writer);
    }
    return add_rotary(source, architecture, writer, error);
}

/* --- the tokeniser -------------------------------------------------------------------------- */

/* The expression that a step of tokenizer.json stands for; NULL data for steps that are none, and
 * *known false for those that GGUF has no form for. */
static struct text_view expression_of(const struct vocabulary_splitter *splitter, bool *known)
{
    struct text_view none = {NULL, 0};
    *known = true;
    if (splitter->kind == SPLITTER_BYTE_LEVEL) {
        const struct pre_name *gpt2 = pre_name_find(text_view_of("gpt-2"));
        *known = !splitter->add_prefix_space;
        return splitter->use_regex ? text_view_of(gpt2->expressions[0]) : none;
    }
    if (splitter->kind == SPLITTER_DIGITS && splitter->individual_digits) {
        return text_view_of("\\p{N}");
    }
    *known = splitter->kind == SPLITTER_SPLIT && splitter->pattern_is_regex &&
             splitter->behavior == SPLIT_ISOLATED && !splitter->invert;
    return splitter->pattern;
}

static bool equals(struct text_view a, struct text_view b)
{
    return a.length == b.length && (a.length == 0 || memcmp(a.data, b.data, a.length) == 0);
}

static bool is_named(const struct vocabulary *vocabulary, const struct pre_name *name)
{
    uint32_t at = 0;
    for (uint32_t i = 0; i < vocabulary->splitter_count; i++) {
        bool known;
        struct text_view expression = expression_of(&vocabulary->splitters[i], &known);
        if (!known ||
            (expression.data && (!name->expressions[at] ||
                                 !equals(expression, text_view_of(name->expressions[at++]))))) {
            return false;
        }
    }
    return !name->expressions[at] && at > 0 && name->ignore_merges == vocabulary->ignore_merges;
}

static const char *pre_name_of(const struct vocabulary *vocabulary)
{
    for (size_t i = 0; pre_name_at(i); i++) {
        if (is_named(vocabulary, pre_name_at(i))) {
            return pre_name_at(i)->name;
        }
    }
    return NULL;
}

static bool is_byte_level(const struct vocabulary *vocabulary)
{
    return vocabulary->kind == VOCABULARY_BPE && vocabulary->decoder_count == 1 &&
           vocabulary->decoders[0].kind == DECODER_BYTE_LEVEL;
}

/* GGUF's numbers of the kinds of tokens. */
static int32_t token_type(const struct vocabulary *vocabulary, uint32_t id)
{
    if (vocabulary_piece_byte(vocabulary->pieces[id]) >= 0 && vocabulary->byte_fallback) {
        return 6;
    }
    if (id == vocabulary->unk_id) {
        return 2;
    }
    switch ((enum token_kind)vocabulary->kinds[id]) {
    case TOKEN_UNKNOWN:
        return 2;
    case TOKEN_CONTROL:
        return 3;
    case TOKEN_USER_DEFINED:
        return 4;
    case TOKEN_ABSENT:
    case TOKEN_UNUSED:
        return 5;
    case TOKEN_BYTE:
        return 6;
    case TOKEN_NORMAL:
        break;
    }
    return 1;
}

static llcuda_status add_pieces(const struct vocabulary *vocabulary, struct gguf_writer *writer,
                                struct llcuda_error *error)
{
    uint32_t count = vocabulary->token_count;
    struct text_view *pieces = calloc(count, sizeof *pieces);
    int32_t *types = calloc(count, sizeof *types);
    char *names = malloc((size_t)count * 16);
    llcuda_status status = LLCUDA_OK;
    if (!pieces || !types || !names) {
        status = error_no_memory(error, "a vocabulary", (uint64_t)count * sizeof *pieces);
    }
    for (uint32_t id = 0; !status && id < count; id++) {
        char *name = names + (size_t)id * 16;
        pieces[id] = vocabulary->pieces[id];
        types[id] = token_type(vocabulary, id);
        if (!pieces[id].data) {
            pieces[id] = text_view_make(name, (size_t)snprintf(name, 16, "[PAD%u]", id));
        }
    }
    if (!status) {
        gguf_writer_add_texts(writer, KEY("tokens"), pieces, count);
        gguf_writer_add_array(writer, KEY("token_type"), GGUF_I32, types, count);
    }
    free(names);
    free(types);
    free(pieces);
    return status;
}

static llcuda_status add_merges(const struct vocabulary *vocabulary, struct gguf_writer *writer,
                                struct llcuda_error *error)
{
    uint32_t count = vocabulary->merge_count;
    struct text_view *merges = calloc((size_t)count + 1, sizeof *merges);
    struct buffer texts = {0};
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < count; i++) {
        const struct vocabulary_merge *merge = &vocabulary->merges[i];
        bytes +=
            vocabulary->pieces[merge->left].length + vocabulary->pieces[merge->right].length + 1;
    }
    bool room = merges && buffer_reserve(&texts, (size_t)bytes + 1);
    for (uint32_t i = 0; room && i < count; i++) {
        const struct vocabulary_merge *merge = &vocabulary->merges[i];
        size_t begin = texts.length;
        buffer_append_view(&texts, vocabulary->pieces[merge->left]);
        buffer_append_byte(&texts, ' ');
        buffer_append_view(&texts, vocabulary->pieces[merge->right]);
        merges[i] = text_view_make(texts.data + begin, texts.length - begin);
    }
    if (room) {
        gguf_writer_add_texts(writer, KEY("merges"), merges, count);
    }
    buffer_deinit(&texts);
    free(merges);
    return room ? LLCUDA_OK : error_no_memory(error, "merges", bytes);
}

/* Scores of the file, or such that the merge with the lower rank has the better result. */
static llcuda_status add_scores(const struct vocabulary *vocabulary, struct gguf_writer *writer,
                                struct llcuda_error *error)
{
    float *scores = calloc((size_t)vocabulary->token_count + 1, sizeof *scores);
    if (!scores) {
        return error_no_memory(error, "scores", vocabulary->token_count * sizeof *scores);
    }
    for (uint32_t id = 0; vocabulary->scores && id < vocabulary->token_count; id++) {
        scores[id] = (float)vocabulary->scores[id];
    }
    for (uint32_t i = vocabulary->merge_count; i-- > 0;) {
        scores[vocabulary->merges[i].result] = -(float)(i + 1);
    }
    gguf_writer_add_array(writer, KEY("scores"), GGUF_F32, scores, vocabulary->token_count);
    free(scores);
    return LLCUDA_OK;
}

static void add_ids(const struct vocabulary *vocabulary, struct gguf_writer *writer)
{
    const struct {
        const char *key;
        uint32_t id;
    } ids[] = {
        {KEY("bos_token_id"), vocabulary->bos_id},
        {KEY("eos_token_id"), vocabulary->eos_id},
        {KEY("unknown_token_id"), vocabulary->unk_id},
        {KEY("padding_token_id"), vocabulary->pad_id},
        {KEY("eot_token_id"), vocabulary->eot_id},
        {KEY("eom_token_id"), vocabulary->eom_id},
    };
    for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++) {
        if (ids[i].id != TOKEN_NONE) {
            gguf_writer_add_u32(writer, ids[i].key, ids[i].id);
        }
    }
    bool adds_bos = vocabulary->bos_id != TOKEN_NONE && vocabulary->prefix_count > 0 &&
                    vocabulary->prefix_ids[0] == vocabulary->bos_id;
    bool adds_eos = vocabulary->eos_id != TOKEN_NONE && vocabulary->suffix_count > 0 &&
                    vocabulary->suffix_ids[vocabulary->suffix_count - 1] == vocabulary->eos_id;
    gguf_writer_add_bool(writer, KEY("add_bos_token"), adds_bos);
    gguf_writer_add_bool(writer, KEY("add_eos_token"), adds_eos);
}

static llcuda_status add_tokenizer(const struct model_source *source, struct gguf_writer *writer,
                                   struct llcuda_error *error)
{
    struct vocabulary *vocabulary = NULL;
    llcuda_status status = vocabulary_open(source, &vocabulary, error);
    if (status == LLCUDA_NOT_FOUND) {
        return LLCUDA_OK; /* a model without one still computes */
    }
    if (status) {
        return status;
    }
    bool scored = vocabulary->kind == VOCABULARY_SENTENCEPIECE ||
                  (vocabulary->kind == VOCABULARY_BPE && vocabulary->byte_fallback);
    const char *pre = is_byte_level(vocabulary) ? pre_name_of(vocabulary) : NULL;
    if (pre) {
        gguf_writer_add_text(writer, KEY("model"), text_view_of("gpt2"));
        gguf_writer_add_text(writer, KEY("pre"), text_view_of(pre));
        status = add_merges(vocabulary, writer, error);
    } else if (scored) {
        gguf_writer_add_text(writer, KEY("model"), text_view_of("llama"));
        status = add_scores(vocabulary, writer, error);
    } else {
        status = error_set(error, LLCUDA_UNSUPPORTED,
                           "the tokeniser has no published form in GGUF: its way of splitting text "
                           "is none of the named ones");
    }
    if (!status) {
        status = add_pieces(vocabulary, writer, error);
    }
    if (!status) {
        add_ids(vocabulary, writer);
    }
    vocabulary_destroy(vocabulary);
    return status;
}

static llcuda_status add_template(const struct model_source *source, struct gguf_writer *writer,
                                  struct llcuda_error *error)
{
    struct buffer text = {0};
    llcuda_status status = chat_template_read(source, &text, error);
    if (!status) {
        gguf_writer_add_text(writer, "tokenizer.chat_template", buffer_view(&text));
    }
    buffer_deinit(&text);
    return status == LLCUDA_NOT_FOUND ? LLCUDA_OK : status;
}

/* The last part of the folder's path. */
static struct text_view folder_name(const struct model_source *source)
{
    const char *path = model_source_folder(source);
    size_t end = strlen(path);
    while (end > 1 && path[end - 1] == '/') {
        end--;
    }
    size_t begin = end;
    while (begin > 0 && path[begin - 1] != '/') {
        begin--;
    }
    return text_view_make(path + begin, end - begin);
}

llcuda_status convert_metadata_hf(const struct model_source *source, struct gguf_writer *writer,
                                  struct llcuda_error *error)
{
    const struct hf_architecture *architecture = hf_architecture_of(source);
    if (!architecture) {
        return hf_architecture_refuse(source, error);
    }
    gguf_writer_add_text(writer, "general.architecture", text_view_of(architecture->gguf));
    gguf_writer_add_text(writer, "general.name", folder_name(source));
    llcuda_status status = add_sizes(source, architecture->gguf, writer, error);
    if (!status) {
        status = add_tokenizer(source, writer, error);
    }
    return status ? status : add_template(source, writer, error);
}
