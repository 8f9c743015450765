/* Owns what is said about special tokens outside of a vocabulary: tokenizer_config.json, and the
 * texts by which published models end a generation. */
#include <stdlib.h>

#include "base/limits.h"
#include "format/tokenizer_internal.h"

struct vocabulary_added *add_added(struct vocabulary *vocabulary)
{
    uint32_t count = vocabulary->added_count;
    bool full = count == 0 || (count >= 16 && (count & (count - 1)) == 0);
    if (full) {
        size_t capacity = count ? (size_t)count * 2 : 16;
        struct vocabulary_added *grown =
            realloc(vocabulary->added, capacity * sizeof *vocabulary->added);
        if (!grown) {
            return NULL;
        }
        vocabulary->added = grown;
    }
    struct vocabulary_added *added = &vocabulary->added[vocabulary->added_count++];
    *added = (struct vocabulary_added){0};
    return added;
}

uint32_t find_token(const struct vocabulary *vocabulary, struct text_view text)
{
    for (uint32_t i = 0; i < vocabulary->added_count; i++) {
        if (text_view_equal(vocabulary->added[i].content, text)) {
            return vocabulary->added[i].id;
        }
    }
    return vocabulary_find(vocabulary, text);
}

/* Removes an id from the outside end of a list, wherever it is in it. */
static void remove_id(uint32_t *ids, uint32_t *count, uint32_t id)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < *count; i++) {
        if (ids[i] != id) {
            ids[kept++] = ids[i];
        }
    }
    *count = kept;
}

void surround_with_bos_eos(struct vocabulary *vocabulary)
{
    if (vocabulary->bos_id != TOKEN_NONE && vocabulary->add_bos != VOCABULARY_UNSAID) {
        remove_id(vocabulary->prefix_ids, &vocabulary->prefix_count, vocabulary->bos_id);
        if (vocabulary->add_bos == VOCABULARY_YES &&
            vocabulary->prefix_count < VOCABULARY_TEMPLATE_MAX) {
            memmove(vocabulary->prefix_ids + 1, vocabulary->prefix_ids,
                    vocabulary->prefix_count * sizeof(uint32_t));
            vocabulary->prefix_ids[0] = vocabulary->bos_id;
            vocabulary->prefix_count++;
        }
    }
    if (vocabulary->eos_id != TOKEN_NONE && vocabulary->add_eos != VOCABULARY_UNSAID) {
        remove_id(vocabulary->suffix_ids, &vocabulary->suffix_count, vocabulary->eos_id);
        if (vocabulary->add_eos == VOCABULARY_YES &&
            vocabulary->suffix_count < VOCABULARY_TEMPLATE_MAX) {
            vocabulary->suffix_ids[vocabulary->suffix_count++] = vocabulary->eos_id;
        }
    }
}

/* "<s>" or {"content": "<s>", …}. */
static struct text_view token_text(const struct json_value *value)
{
    return json_is(value, JSON_OBJECT) ? json_text(json_member(value, "content"))
                                       : json_text(value);
}

static void read_special(const struct vocabulary *vocabulary, const struct json_value *root,
                         const char *key, uint32_t *id)
{
    struct text_view text = token_text(json_member(root, key));
    if (text.length) {
        uint32_t found = find_token(vocabulary, text);
        *id = found != TOKEN_NONE ? found : *id;
    }
}

/* Classes whose Python code adds bos unless told otherwise. */
static bool adds_bos_by_class(const struct json_value *root)
{
    static const char *const classes[] = {"LlamaTokenizer",     "LlamaTokenizerFast",
                                          "CodeLlamaTokenizer", "CodeLlamaTokenizerFast",
                                          "GemmaTokenizer",     "GemmaTokenizerFast"};
    struct text_view name = json_text(json_member(root, "tokenizer_class"));
    for (size_t i = 0; i < sizeof classes / sizeof classes[0]; i++) {
        if (text_view_is(name, classes[i])) {
            return true;
        }
    }
    return false;
}

static enum vocabulary_answer answer_of(const struct json_value *value)
{
    if (json_is(value, JSON_TRUE)) {
        return VOCABULARY_YES;
    }
    return json_is(value, JSON_FALSE) ? VOCABULARY_NO : VOCABULARY_UNSAID;
}

/* Tokens that only tokenizer_config.json lists, by id. */
static llcuda_status read_added_decoder(struct vocabulary *vocabulary,
                                        const struct json_value *list, struct llcuda_error *error)
{
    JSON_EACH_KEY(key, list)
    {
        const struct json_value *token = json_next(key);
        struct text_view content = json_text(json_member(token, "content"));
        struct text_view number = json_text(key);
        uint64_t id = 0;
        bool valid = number.length > 0 && number.length < 10;
        for (size_t i = 0; i < number.length && valid; i++) {
            valid = number.data[i] >= '0' && number.data[i] <= '9';
            id = id * 10 + (uint64_t)(number.data[i] - '0');
        }
        if (!valid || content.length == 0 || content.length > VOCABULARY_ADDED_BYTES_MAX ||
            find_token(vocabulary, content) != TOKEN_NONE || id >= vocabulary->token_count ||
            vocabulary->kinds[id] != TOKEN_ABSENT) {
            continue;
        }
        struct vocabulary_added *added = add_added(vocabulary);
        content = vocabulary_copy(vocabulary, content);
        if (!added || !content.data) {
            return error_no_memory(error, "an added token", content.length);
        }
        *added = (struct vocabulary_added){
            .id = (uint32_t)id,
            .content = content,
            .special = json_bool(json_member(token, "special"), false),
            .single_word = json_bool(json_member(token, "single_word"), false),
            .lstrip = json_bool(json_member(token, "lstrip"), false),
            .rstrip = json_bool(json_member(token, "rstrip"), false),
            .normalized = json_bool(json_member(token, "normalized"), false),
        };
        vocabulary->pieces[id] = content;
        vocabulary->kinds[id] = added->special ? TOKEN_CONTROL : TOKEN_USER_DEFINED;
    }
    return LLCUDA_OK;
}

llcuda_status apply_tokenizer_config(struct vocabulary *vocabulary, struct text_view config,
                                     struct llcuda_error *error)
{
    struct json_document *json = NULL;
    const struct json_value *root = NULL;
    if (config.length) {
        llcuda_status status = json_parse(config, NULL, &json, error);
        if (status) {
            return error_prefix(error, status, "tokenizer_config.json");
        }
        root = json_root(json);
    }
    llcuda_status status =
        read_added_decoder(vocabulary, json_member(root, "added_tokens_decoder"), error);
    uint32_t model_unk = vocabulary->unk_id;
    read_special(vocabulary, root, "bos_token", &vocabulary->bos_id);
    read_special(vocabulary, root, "eos_token", &vocabulary->eos_id);
    read_special(vocabulary, root, "sep_token", &vocabulary->sep_id);
    read_special(vocabulary, root, "pad_token", &vocabulary->pad_id);
    read_special(vocabulary, root, "cls_token", &vocabulary->cls_id);
    read_special(vocabulary, root, "mask_token", &vocabulary->mask_id);
    vocabulary->unk_id = model_unk; /* what the model itself uses */
    vocabulary->add_bos = answer_of(json_member(root, "add_bos_token"));
    vocabulary->add_eos = answer_of(json_member(root, "add_eos_token"));
    if (vocabulary->add_bos == VOCABULARY_UNSAID && adds_bos_by_class(root)) {
        vocabulary->add_bos = VOCABULARY_YES;
    }
    if (vocabulary->bos_id == TOKEN_NONE && vocabulary->prefix_count > 0) {
        vocabulary->bos_id = vocabulary->prefix_ids[0];
    }
    surround_with_bos_eos(vocabulary);
    json_destroy(json);
    return status;
}

static bool is_in(struct text_view text, const char *const *list)
{
    for (size_t i = 0; list[i]; i++) {
        if (text_view_is(text, list[i])) {
            return true;
        }
    }
    return false;
}

static const char *const turn_ends[] = {"<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>",
                                        "<EOT>",      "_<EOT>",     "[EOT]",   "<end_of_utterance>",
                                        NULL};
static const char *const other_ends[] = {"<|endoftext|>",
                                         "<|end_of_text|>",
                                         "<|return|>",
                                         "<|call|>",
                                         "<|calls|>",
                                         "<|flush|>",
                                         "</s>",
                                         "<|eom_id|>",
                                         "[EOS]",
                                         "<eos>",
                                         "<turn|>",
                                         "<|tool_response>",
                                         "[e~[",
                                         "<|fim_pad|>",
                                         "<fim-pad>",
                                         "<fim_pad>",
                                         "<|repo_name|>",
                                         "<|fim_repo|>",
                                         "<fim-repo>",
                                         "<|file_sep|>",
                                         "<｜end▁of▁sentence｜>",
                                         NULL};

void mark_end_tokens(struct vocabulary *vocabulary)
{
    const char *const *const lists[] = {turn_ends, other_ends};
    for (size_t list = 0; list < 2; list++) {
        for (size_t i = 0; lists[list][i]; i++) {
            uint32_t id = vocabulary_find(vocabulary, text_view_of(lists[list][i]));
            if (id != TOKEN_NONE && vocabulary->kinds[id] == TOKEN_NORMAL) {
                vocabulary->kinds[id] = TOKEN_CONTROL;
            }
        }
    }
}

static void drop_end(struct vocabulary *vocabulary, uint32_t id)
{
    remove_id(vocabulary->end_ids, &vocabulary->end_count, id);
}

/* Where a message ends inside an answer, the token for it does not end the answer. */
static void drop_inner_ends(struct vocabulary *vocabulary)
{
    uint32_t end = find_token(vocabulary, text_view_of("<|end|>"));
    bool call = find_token(vocabulary, text_view_of("<|call|>")) != TOKEN_NONE;
    bool calls = find_token(vocabulary, text_view_of("<|calls|>")) != TOKEN_NONE;
    bool returns = find_token(vocabulary, text_view_of("<|return|>")) != TOKEN_NONE;
    bool flush = find_token(vocabulary, text_view_of("<|flush|>")) != TOKEN_NONE;
    if ((returns && (call || calls)) || (flush && (call || calls))) {
        drop_end(vocabulary, end);
    }
    if (find_token(vocabulary, text_view_of("<|tool_response>")) != TOKEN_NONE) {
        uint32_t slash = find_token(vocabulary, text_view_of("</s>"));
        if (slash != vocabulary->eos_id) {
            drop_end(vocabulary, slash);
        }
    }
}

llcuda_status find_end_tokens(struct vocabulary *vocabulary, struct llcuda_error *error)
{
    llcuda_status status = LLCUDA_OK;
    for (uint32_t i = 0; i < vocabulary->added_count && !status; i++) {
        const struct vocabulary_added *added = &vocabulary->added[i];
        bool turn = is_in(added->content, turn_ends);
        if (turn && vocabulary->eot_id == TOKEN_NONE) {
            vocabulary->eot_id = added->id;
        }
        if (text_view_is(added->content, "<|eom_id|>") && vocabulary->eom_id == TOKEN_NONE) {
            vocabulary->eom_id = added->id;
        }
        if (turn || is_in(added->content, other_ends)) {
            status = vocabulary_add_end(vocabulary, added->id, error);
        }
    }
    const uint32_t known[] = {vocabulary->eos_id, vocabulary->eot_id, vocabulary->eom_id};
    for (size_t i = 0; i < 3 && !status; i++) {
        status = vocabulary_add_end(vocabulary, known[i], error);
    }
    if (!status) {
        drop_inner_ends(vocabulary);
    }
    return status;
}
