/* Owns everything that comes from the model's files, and the device. Knows no requests. */
#include "engine/loaded_model.h"

#include <stdlib.h>
#include <time.h>

#include "base/buffer.h"
#include "base/file.h"
#include "engine/device_open.h"
#include "format/chat_template.h"
#include "format/tokenizer_source.h"

/* ------------------------------------------------------------------ ids to text */

/* The codec of a detokenizer. Ids that the vocabulary lacks (a plan may be padded beyond it) have
 * no text. */
struct codec_stream {
    struct detokenizer *detokenizer;
    uint32_t token_count;
};

static llcuda_status push(void *user, uint32_t id, struct buffer *out, struct llcuda_error *error)
{
    struct codec_stream *stream = user;
    return id < stream->token_count ? detokenizer_push(stream->detokenizer, id, out, error)
                                    : LLCUDA_OK;
}

static llcuda_status finish(void *user, struct buffer *out, struct llcuda_error *error)
{
    struct codec_stream *stream = user;
    return detokenizer_finish(stream->detokenizer, out, error);
}

static void destroy(void *user)
{
    struct codec_stream *stream = user;
    detokenizer_destroy(stream->detokenizer);
    free(stream);
}

static llcuda_status create(void *user, bool skip_special, const uint32_t *context,
                            size_t context_count, void **out, struct llcuda_error *error)
{
    const struct loaded_model *model = user;
    struct codec_stream *stream = calloc(1, sizeof *stream);
    if (!stream) {
        return error_no_memory(error, "a detokenizer", sizeof *stream);
    }
    stream->token_count = tokenizer_token_count(model->tokenizer);
    llcuda_status status =
        detokenizer_create(model->tokenizer, skip_special, &stream->detokenizer, error);
    struct buffer ignored = {0};
    for (size_t i = 0; i < context_count && status == LLCUDA_OK; i++) {
        status = push(stream, context[i], &ignored, error);
    }
    buffer_deinit(&ignored);
    if (status != LLCUDA_OK) {
        destroy(stream);
        return status;
    }
    *out = stream;
    return LLCUDA_OK;
}

/* Three bytes (U+FFFD) for each byte of the longest piece, and for what a decoder holds back. */
static uint32_t longest_piece(const struct tokenizer *tokenizer)
{
    size_t longest = 0;
    uint32_t count = tokenizer_token_count(tokenizer);
    for (uint32_t id = 0; id < count; id++) {
        size_t length = tokenizer_piece(tokenizer, id).length;
        longest = length > longest ? length : longest;
    }
    return (uint32_t)(3 * longest + 64);
}

/* ------------------------------------------------------------------ opening */

static llcuda_status open_source(struct loaded_model *model, const llcuda_engine_options *options,
                                 struct llcuda_error *error)
{
    if (options->model) {
        return model_source_open(options->model, options->vocabulary_only, &model->source, error);
    }
    if (!options->builtin_model || options->builtin_model_bytes == 0) {
        return error_set(error, LLCUDA_NOT_FOUND,
                         "no model was given, and this program has none built in");
    }
    return model_source_open_memory(options->builtin_model, options->builtin_model_bytes,
                                    &model->source, error);
}

static llcuda_status open_tokenizer(struct loaded_model *model, struct llcuda_error *error)
{
    struct vocabulary *vocabulary;
    llcuda_status status = vocabulary_open(model->source, &vocabulary, error);
    if (status != LLCUDA_OK) {
        return status;
    }
    status = tokenizer_create(vocabulary, &model->tokenizer, error);
    if (status != LLCUDA_OK) {
        vocabulary_destroy(vocabulary);
        return status;
    }
    model->vocabulary_size = tokenizer_token_count(model->tokenizer);
    model->codec = (struct text_codec){
        .user = model,
        .stream_create = create,
        .stream_destroy = destroy,
        .stream_push = push,
        .stream_finish = finish,
        .piece_bytes_max = longest_piece(model->tokenizer),
    };
    return LLCUDA_OK;
}

/* A template that this build cannot read does not keep the model from being opened: what needs it
 * will say why. */
static llcuda_status open_template(struct loaded_model *model, const llcuda_engine_options *options,
                                   struct llcuda_error *error)
{
    if (options->chat_template) {
        llcuda_status parsed =
            template_parse(text_view_of(options->chat_template), &model->template, error);
        return parsed ? error_prefix(error, parsed, "the chat template") : LLCUDA_OK;
    }
    struct buffer text = {0};
    llcuda_status status = chat_template_read(model->source, &text, &model->template_error);
    if (status == LLCUDA_OK) {
        status = template_parse(buffer_view(&text), &model->template, &model->template_error);
    }
    buffer_deinit(&text);
    if (status == LLCUDA_OUT_OF_MEMORY) {
        return error_set(error, status, "%s", model->template_error.message);
    }
    if (status != LLCUDA_OK && status != LLCUDA_NOT_FOUND) {
        log_message(&model->log, LOG_WARN, "the chat template cannot be used: %s",
                    model->template_error.message);
    }
    return LLCUDA_OK;
}

/* The vocabulary's own end tokens, as far as the model can produce them. */
static llcuda_status copy_ends(struct loaded_model *model, struct llcuda_error *error)
{
    const struct vocabulary *vocabulary = tokenizer_vocabulary(model->tokenizer);
    model->end_tokens = calloc((size_t)vocabulary->end_count + 1, sizeof *model->end_tokens);
    if (!model->end_tokens) {
        return error_no_memory(error, "end tokens", 4ull * vocabulary->end_count);
    }
    for (uint32_t i = 0; i < vocabulary->end_count; i++) {
        if (vocabulary->end_ids[i] < model->vocabulary_size) {
            model->end_tokens[model->end_token_count++] = vocabulary->end_ids[i];
        }
    }
    return LLCUDA_OK;
}

/* The numbers of `pooling_type` in GGUF: 0 none, 1 mean, 2 first token, 3 last, 4 rank. */
static void read_pooling(struct loaded_model *model)
{
    uint32_t type = 0;
    llcuda_status status =
        model_source_u32(model->source, "pooling_type", NULL, 0, 16, &type, NULL);
    bool last = status != LLCUDA_OK || type == 0 || type == 3;
    model->pooling = last        ? LLCUDA_POOLING_LAST
                     : type == 1 ? LLCUDA_POOLING_MEAN
                                 : LLCUDA_POOLING_NONE;
}

static struct device_open_options device_options_of(const struct loaded_model *model,
                                                    const llcuda_engine_options *options)
{
    return (struct device_open_options){
        .name = options->device,
        .thread_count = options->threads,
        .log = &model->log,
        .library_path = options->gpu_library_path,
        .kernel_cache = options->gpu_kernel_cache,
        .kernel_pack = options->gpu_kernel_pack,
        .device_memory_limit = options->gpu_memory_limit_bytes,
        .device_memory_share = options->gpu_memory_share,
        .no_graphs = options->gpu_no_graphs,
        .deterministic = options->deterministic,
        .gpu_layers = options->gpu_layers,
    };
}

static llcuda_status open_parts(struct loaded_model *model, const llcuda_engine_options *options,
                                struct llcuda_error *error)
{
    llcuda_status status = open_source(model, options, error);
    if (status == LLCUDA_OK) {
        status = open_tokenizer(model, error);
    }
    if (status == LLCUDA_OK) {
        status = open_template(model, options, error);
    }
    if (status == LLCUDA_OK && !options->vocabulary_only) {
        status = model_plan_build(model->source, &model->plan, &model->info, error);
        if (status == LLCUDA_OK) {
            model->vocabulary_size = model->plan->vocabulary_size;
            read_pooling(model);
            const struct device_open_options device = device_options_of(model, options);
            status = device_open(&device, &model->device, error);
        }
    }
    return status == LLCUDA_OK ? copy_ends(model, error) : status;
}

llcuda_status loaded_model_open(struct loaded_model *model, const llcuda_engine_options *options,
                                struct llcuda_error *error)
{
    struct log_sink log = model->log;
    *model = (struct loaded_model){.log = log};
    static const enum dtype kv_dtypes[] = {
        [LLCUDA_KV_AUTO] = DTYPE_F16,  [LLCUDA_KV_F16] = DTYPE_F16,
        [LLCUDA_KV_F32] = DTYPE_F32,   [LLCUDA_KV_BF16] = DTYPE_BF16,
        [LLCUDA_KV_Q8_0] = DTYPE_Q8_0, [LLCUDA_KV_FP8] = DTYPE_F8_E4M3};
    model->kv_dtype = kv_dtypes[options->kv_type];
    llcuda_status status = open_parts(model, options, error);
    if (status != LLCUDA_OK) {
        loaded_model_close(model);
    }
    return status;
}

llcuda_status loaded_model_wake(struct loaded_model *model, const llcuda_engine_options *options,
                                struct llcuda_error *error)
{
    struct device_progress progress = {options->progress, options->progress_user};
    struct llcuda_error reason = {0};
    llcuda_status status;
    do {
        status = device_model_load(model->device, model->plan, &model->device_options, &progress,
                                   &model->device_model, &reason);
    } while (status != LLCUDA_OK && loaded_model_fall_back(model, options, &reason));
    if (status != LLCUDA_OK && error) {
        *error = reason;
    }
    return status;
}

bool loaded_model_fall_back(struct loaded_model *model, const llcuda_engine_options *options,
                            const struct llcuda_error *reason)
{
    const struct device_open_options device = device_options_of(model, options);
    return device_fall_back(&device, reason, &model->device);
}

/* Pages of the file that were read in place go too: they come back from the file when needed. */
void loaded_model_sleep(struct loaded_model *model)
{
    const struct plan *plan = model->plan;
    device_model_unload(model->device_model);
    model->device_model = NULL;
    for (uint32_t i = 0; plan && plan->weights_mapped && i < plan->weight_count; i++) {
        file_pages_drop(plan->weights[i].data, plan->weights[i].bytes);
    }
}

void loaded_model_close(struct loaded_model *model)
{
    struct log_sink log = model->log;
    loaded_model_sleep(model);
    device_close(model->device);
    plan_destroy(model->plan);
    if (model->template) {
        template_destroy(model->template);
    }
    if (model->tokenizer) {
        tokenizer_destroy(model->tokenizer);
    }
    if (model->source) {
        model_source_close(model->source);
    }
    free(atomic_load(&model->dry_breakers));
    free(model->end_tokens);
    *model = (struct loaded_model){.log = log};
}

/* ------------------------------------------------------------------ what the files recommend */

uint8_t *loaded_model_breakers(const struct loaded_model *model, const llcuda_text *texts,
                               uint32_t count)
{
    uint32_t size = model->vocabulary_size;
    uint8_t *map = calloc((size_t)size / 8 + 1, 1);
    struct buffer text = {0};
    uint32_t known = tokenizer_token_count(model->tokenizer);
    for (uint32_t id = 0; map && id < size && id < known; id++) {
        buffer_clear(&text);
        llcuda_status status = tokenizer_decode_token(model->tokenizer, id, &text, NULL);
        if (status == LLCUDA_OUT_OF_MEMORY || text.failed) {
            free(map);
            map = NULL;
            break;
        }
        for (uint32_t i = 0; i < count && status == LLCUDA_OK; i++) {
            if (text.length >= texts[i].bytes &&
                memmem(text.data, text.length, texts[i].data, texts[i].bytes)) {
                map[id / 8] |= (uint8_t)(1u << (id % 8));
            }
        }
    }
    buffer_deinit(&text);
    return map;
}

const uint8_t *loaded_model_default_breakers(struct loaded_model *model)
{
    static const llcuda_text texts[] = {{"\n", 1}, {":", 1}, {"\"", 1}, {"*", 1}};
    uint8_t *map = atomic_load(&model->dry_breakers);
    if (map) {
        return map;
    }
    uint8_t *made = loaded_model_breakers(model, texts, 4);
    if (made && !atomic_compare_exchange_strong(&model->dry_breakers, &map, made)) {
        free(made); /* somebody else was faster: map is theirs now */
        return map;
    }
    return made;
}

/* A recommendation counts when it lies in the parameter's range. */
static void recommend(double *field, double value, double minimum, double maximum)
{
    if (value >= minimum && value <= maximum) {
        *field = value;
    }
}

static void defaults_from_json(const struct json_value *json, llcuda_request_options *options)
{
    const struct json_value *sample = json_member(json, "do_sample");
    double number;
    int64_t integer;
    bool any = json_number(json_member(json, "temperature"), &number);
    if (json_is(sample, JSON_FALSE) || (!any && !json_is(sample, JSON_TRUE))) {
        return; /* greedy, as the file says or by having nothing to say */
    }
    options->temperature = 1;
    if (any) {
        recommend(&options->temperature, number, 0, 100);
    }
    if (json_integer(json_member(json, "top_k"), 0, 1 << 22, &integer)) {
        options->top_k = (uint32_t)integer;
    }
    if (json_number(json_member(json, "top_p"), &number)) {
        recommend(&options->top_p, number, 0, 1);
    }
    if (json_number(json_member(json, "min_p"), &number)) {
        recommend(&options->min_p, number, 0, 1);
    }
    if (json_number(json_member(json, "typical_p"), &number)) {
        recommend(&options->typical_p, number, 0, 1);
    }
    if (json_number(json_member(json, "repetition_penalty"), &number)) {
        recommend(&options->repetition_penalty, number, 0.01, 100);
    }
}

static void defaults_from_gguf(const struct gguf *gguf, llcuda_request_options *options)
{
    double number;
    uint64_t integer;
    if (gguf_read_number(gguf, "general.sampling.temp", 0, 100, &number, NULL) != LLCUDA_OK) {
        return;
    }
    options->temperature = number;
    if (gguf_read_u64(gguf, "general.sampling.top_k", 0, 1 << 22, &integer, NULL) == LLCUDA_OK) {
        options->top_k = (uint32_t)integer;
    }
    if (gguf_read_number(gguf, "general.sampling.top_p", 0, 1, &number, NULL) == LLCUDA_OK) {
        options->top_p = number;
    }
    if (gguf_read_number(gguf, "general.sampling.min_p", 0, 1, &number, NULL) == LLCUDA_OK) {
        options->min_p = number;
    }
    if (gguf_read_number(gguf, "general.sampling.penalty_repeat", 0.01, 100, &number, NULL) ==
        LLCUDA_OK) {
        options->repetition_penalty = number;
    }
}

void loaded_model_defaults(const struct loaded_model *model, llcuda_request_options *options)
{
    const struct json_value *generation = model_source_generation(model->source);
    const struct gguf *gguf = model_source_gguf(model->source);
    if (generation) {
        defaults_from_json(generation, options);
    } else if (gguf) {
        defaults_from_gguf(gguf, options);
    }
}

/* ------------------------------------------------------------------ prompts */

static bool append_ids(struct token_ids *ids, const uint32_t *more, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (!token_ids_append(ids, more[i])) {
            return false;
        }
    }
    return true;
}

/* What stands before a text: the model's own prefix, or the beginning-of-sequence token when it is
 * asked for by name. */
static bool append_prefix(const struct vocabulary *vocabulary, llcuda_tristate add_bos,
                          struct token_ids *ids)
{
    if (add_bos == LLCUDA_NO) {
        return true;
    }
    if (vocabulary->prefix_count == 0 && add_bos == LLCUDA_YES &&
        vocabulary->bos_id != TOKEN_NONE) {
        return token_ids_append(ids, vocabulary->bos_id);
    }
    return append_ids(ids, vocabulary->prefix_ids, vocabulary->prefix_count);
}

/* Removes a prefix that the text has spelled out itself. */
static void remove_double_prefix(const struct vocabulary *vocabulary, struct token_ids *ids,
                                 size_t prefix_count)
{
    if (prefix_count == 1 && ids->count >= 2 && ids->data[0] == ids->data[1] &&
        ids->data[0] == vocabulary->bos_id) {
        memmove(ids->data, ids->data + 1, (ids->count - 1) * sizeof *ids->data);
        ids->count--;
    }
}

/* A prompt has at least one token, and none that the plan lacks. */
static llcuda_status check_prompt_ids(const struct loaded_model *model, struct token_ids *ids,
                                      struct llcuda_error *error)
{
    const struct vocabulary *vocabulary = tokenizer_vocabulary(model->tokenizer);
    if (ids->count == 0) {
        uint32_t begin = vocabulary->bos_id != TOKEN_NONE ? vocabulary->bos_id : vocabulary->eos_id;
        if (begin == TOKEN_NONE) {
            return error_set(error, LLCUDA_INVALID_ARGUMENT,
                             "the prompt is empty, and the model has no token to begin with");
        }
        if (!token_ids_append(ids, begin)) {
            return error_no_memory(error, "a prompt", 4);
        }
    }
    for (size_t i = 0; i < ids->count; i++) {
        if (ids->data[i] >= model->vocabulary_size) {
            return error_set(error, LLCUDA_INVALID_ARGUMENT,
                             "the prompt has token %u, but the model's logits end at %u",
                             ids->data[i], model->vocabulary_size);
        }
    }
    return LLCUDA_OK;
}

llcuda_status loaded_model_encode_prompt(const struct loaded_model *model, struct text_view text,
                                         llcuda_tristate add_bos, bool special,
                                         struct token_ids *ids, struct llcuda_error *error)
{
    const struct vocabulary *vocabulary = tokenizer_vocabulary(model->tokenizer);
    struct tokenizer_encode_options encode = {.add_special = false, .parse_special = special};
    if (!append_prefix(vocabulary, add_bos, ids)) {
        return error_no_memory(error, "a prompt", 64);
    }
    size_t prefix_count = ids->count;
    llcuda_status status = tokenizer_encode(model->tokenizer, text, &encode, NULL, ids, error);
    if (status != LLCUDA_OK) {
        return status;
    }
    remove_double_prefix(vocabulary, ids, prefix_count);
    return check_prompt_ids(model, ids, error);
}

llcuda_status loaded_model_encode_whole(const struct loaded_model *model, struct text_view text,
                                        bool add_special, bool special, struct token_ids *ids,
                                        struct llcuda_error *error)
{
    struct tokenizer_encode_options encode = {.add_special = add_special, .parse_special = special};
    llcuda_status status = tokenizer_encode(model->tokenizer, text, &encode, NULL, ids, error);
    return status == LLCUDA_OK ? check_prompt_ids(model, ids, error) : status;
}

static void write_token(struct json_writer *writer, const struct loaded_model *model,
                        const char *name, uint32_t id)
{
    if (id != TOKEN_NONE) {
        json_key(writer, name);
        json_write_text(writer, tokenizer_piece(model->tokenizer, id));
    }
}

/* The template's variables: the caller's own, then what every template expects. */
static llcuda_status write_context(const struct loaded_model *model, const struct json_value *given,
                                   struct buffer *out, struct llcuda_error *error)
{
    const struct vocabulary *vocabulary = tokenizer_vocabulary(model->tokenizer);
    struct json_writer writer;
    json_writer_init(&writer, out, 0);
    json_begin_object(&writer);
    if (json_is(given, JSON_ARRAY)) {
        json_key(&writer, "messages");
        json_write_value(&writer, given);
    } else if (json_is(given, JSON_OBJECT)) {
        JSON_EACH_KEY(key, given)
        {
            json_key_view(&writer, json_text(key));
            json_write_value(&writer, json_next(key));
        }
    } else {
        return error_set_at(error, LLCUDA_BAD_FORMAT, given->offset,
                            "messages must be an array or an object, not a %s",
                            json_kind_name(given));
    }
    if (!json_member(given, "add_generation_prompt")) {
        json_key(&writer, "add_generation_prompt");
        json_write_bool(&writer, true);
    }
    if (!json_member(given, "bos_token")) {
        write_token(&writer, model, "bos_token", vocabulary->bos_id);
    }
    if (!json_member(given, "eos_token")) {
        write_token(&writer, model, "eos_token", vocabulary->eos_id);
    }
    json_end_object(&writer);
    return out->failed ? error_no_memory(error, "messages", out->length) : LLCUDA_OK;
}

static llcuda_status render(const struct loaded_model *model, const struct json_value *given,
                            struct buffer *out, struct llcuda_error *error)
{
    struct buffer context = {0};
    struct json_document *document = NULL;
    double now;
    struct template_options options = {
        .now_unix = json_number(json_member(given, "now"), &now) && now >= 0 && now < 1e15
                        ? (int64_t)now
                        : (int64_t)time(NULL),
    };
    llcuda_status status = write_context(model, given, &context, error);
    if (status == LLCUDA_OK) {
        status = json_parse(buffer_view(&context), NULL, &document, error);
    }
    if (status == LLCUDA_OK) {
        status = template_render(model->template, json_root(document), &options, out, error);
    }
    json_destroy(document);
    buffer_deinit(&context);
    return status;
}

llcuda_status loaded_model_render(const struct loaded_model *model, struct text_view json,
                                  struct buffer *out, struct llcuda_error *error)
{
    if (!model->template) {
        bool none = model->template_error.status == LLCUDA_NOT_FOUND;
        return error_set(error, LLCUDA_UNSUPPORTED, "%s%s",
                         none ? "the model has no chat template"
                              : "the model's chat template cannot be used: ",
                         none ? "" : model->template_error.message);
    }
    struct json_document *document;
    llcuda_status status = json_parse(json, NULL, &document, error);
    if (status != LLCUDA_OK) {
        return status;
    }
    status = render(model, json_root(document), out, error);
    json_destroy(document);
    return status;
}
