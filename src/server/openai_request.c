/* Owns the table of fields of OpenAI requests and the reading of each. A field with the value null
 * counts as absent, as OpenAI's own clients send it. */
#include "server/openai_request.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/limits.h"
#include "server/openai_internal.h"

#define BODY_DEPTH_MAX    32u
#define NOTE_BYTES_MAX    512u
#define COMPLETION_TOKENS 16 /* OpenAI's default of max_tokens for /v1/completions */
#define PROMPT_VALUES_MAX (1u << 22)

enum {
    CHAT = 1,
    COMPLETION = 2,
    BOTH = 3,
    RESPONSES = 4,
    EMBEDDINGS = 8,
    TALK = 5,
    ANY = 7,
    ALL = 15
};

/* ------------------------------------------------------------------ messages */

bool reading_fail(struct reading *reading, const char *format, ...)
{
    char message[LLCUDA_ERROR_MESSAGE_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    return api_error_set(reading->error, 400, "invalid_value", reading->field, "%s", message);
}

bool reading_unsupported(struct reading *reading, const char *format, ...)
{
    char message[LLCUDA_ERROR_MESSAGE_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    return api_error_set(reading->error, 400, "unsupported_parameter", reading->field, "%s",
                         message);
}

bool reading_no_memory(struct reading *reading)
{
    return api_error_from(reading->error, LLCUDA_OUT_OF_MEMORY, NULL);
}

void reading_note(struct buffer *list, const char *prefix, struct text_view name)
{
    size_t length = name.length < 64 ? name.length : 64;
    if (list->length + length > NOTE_BYTES_MAX) {
        return;
    }
    if (list->length) {
        buffer_append_byte(list, ',');
    }
    buffer_append_text(list, prefix);
    for (size_t i = 0; i < length; i++) {
        char c = name.data[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                     c == '_' || c == '.' || c == '-';
        buffer_append_byte(list, plain ? c : '?');
    }
}

/* ------------------------------------------------------------------ scalars */

static bool store(struct reading *reading, const llcuda_parameter *row,
                  const struct json_value *value)
{
    char *field = (char *)&reading->request->options + row->offset;
    double number = 0;
    int64_t integer = 0;
    if (row->kind == LLCUDA_PARAMETER_BOOL) {
        bool truth = json_is(value, JSON_TRUE);
        if (!truth && !json_is(value, JSON_FALSE)) {
            return reading_fail(reading, "%s must be true or false", row->name);
        }
        memcpy(field, &truth, sizeof truth);
        return true;
    }
    if (row->kind == LLCUDA_PARAMETER_DOUBLE) {
        /* The negated form refuses NaN too. */
        if (!json_number(value, &number) || !(number >= row->minimum && number <= row->maximum)) {
            return reading_fail(reading, "%s must be a number from %g to %g", row->name,
                                row->minimum, row->maximum);
        }
        memcpy(field, &number, sizeof number);
        return true;
    }
    if (!json_integer(value, (int64_t)row->minimum, (int64_t)row->maximum, &integer)) {
        return reading_fail(reading, "%s must be an integer from %.0f to %.0f", row->name,
                            row->minimum, row->maximum);
    }
    if (row->kind == LLCUDA_PARAMETER_U64) {
        uint64_t wide = (uint64_t)integer;
        memcpy(field, &wide, sizeof wide);
    } else {
        /* U32 and I32: the table's ranges fit both. */
        int32_t narrow = (int32_t)integer;
        memcpy(field, &narrow, sizeof narrow);
    }
    return true;
}

/* A field that has the same name and meaning in the engine's table. */
static bool read_parameter(struct reading *reading, const struct json_value *value)
{
    uint32_t count;
    const llcuda_parameter *rows = llcuda_request_parameters(&count);
    for (uint32_t i = 0; i < count; i++) {
        if (strcmp(rows[i].name, reading->field) == 0) {
            return store(reading, &rows[i], value);
        }
    }
    return reading_unsupported(reading, "%s is not supported", reading->field);
}

static bool read_bounded(struct reading *reading, const struct json_value *value, int64_t minimum,
                         int64_t maximum, uint32_t *out)
{
    int64_t integer;
    if (!json_integer(value, minimum, maximum, &integer)) {
        return reading_fail(reading, "%s must be an integer from %lld to %lld", reading->field,
                            (long long)minimum, (long long)maximum);
    }
    *out = (uint32_t)integer;
    return true;
}

static bool read_flag(struct reading *reading, const struct json_value *value, bool *out)
{
    *out = json_is(value, JSON_TRUE);
    return *out || json_is(value, JSON_FALSE) ||
           reading_fail(reading, "%s must be true or false", reading->field);
}

/* ------------------------------------------------------------------ one function a field */

static bool read_model(struct reading *reading, const struct json_value *value)
{
    reading->request->model = json_text(value);
    return reading->request->model.data || reading_fail(reading, "model must be a string");
}

static bool read_stream(struct reading *reading, const struct json_value *value)
{
    return read_flag(reading, value, &reading->request->stream);
}

static bool read_stream_options(struct reading *reading, const struct json_value *value)
{
    if (!json_is(value, JSON_OBJECT)) {
        return reading_fail(reading, "stream_options must be an object");
    }
    JSON_EACH_KEY(key, value)
    {
        if (!text_view_is(json_text(key), "include_usage")) {
            reading_note(&reading->request->unknown, "stream_options.", json_text(key));
        } else if (!json_is(json_next(key), JSON_NULL) &&
                   !read_flag(reading, json_next(key), &reading->request->include_usage)) {
            return false;
        }
    }
    return true;
}

static bool read_max_tokens(struct reading *reading, const struct json_value *value)
{
    reading->request->max_tokens_given = true;
    return read_bounded(reading, value, 1, LIMIT_CONTEXT_LENGTH,
                        &reading->request->options.max_tokens);
}

static bool read_n(struct reading *reading, const struct json_value *value)
{
    return read_bounded(reading, value, 1, OPENAI_CHOICES_MAX,
                        &reading->request->options.choice_count);
}

static bool read_seed(struct reading *reading, const struct json_value *value)
{
    int64_t seed;
    if (!json_integer(value, INT64_MIN, INT64_MAX, &seed)) {
        return reading_fail(reading, "seed must be an integer");
    }
    reading->request->options.seed = (uint64_t)seed;
    reading->request->options.seed_given = true;
    return true;
}

static bool take_stop(struct reading *reading, const struct json_value *value, llcuda_text *stop)
{
    struct text_view text = json_text(value);
    if (!text.data || text.length == 0 || text.length > LIMIT_STOP_STRING_BYTES) {
        return reading_fail(reading, "stop must hold strings of 1 to %u bytes",
                            LIMIT_STOP_STRING_BYTES);
    }
    *stop = (llcuda_text){text.data, text.length};
    return true;
}

static bool read_stop(struct reading *reading, const struct json_value *value)
{
    llcuda_request_options *options = &reading->request->options;
    bool list = json_is(value, JSON_ARRAY);
    if (list && value->count > LIMIT_STOP_STRINGS) {
        return reading_fail(reading, "stop may hold %u strings", LIMIT_STOP_STRINGS);
    }
    llcuda_text *stops =
        arena_alloc(&reading->request->arena, list ? value->count : 1, sizeof *stops);
    if (!stops) {
        return reading_no_memory(reading);
    }
    options->stop = stops;
    options->stop_count = 0;
    if (!list) {
        options->stop_count = 1;
        return take_stop(reading, value, stops);
    }
    JSON_EACH(element, value)
    {
        if (!take_stop(reading, element, &stops[options->stop_count++])) {
            return false;
        }
    }
    return true;
}

static bool read_stop_ids(struct reading *reading, const struct json_value *value)
{
    llcuda_request_options *options = &reading->request->options;
    if (!json_is(value, JSON_ARRAY) || value->count > LIMIT_STOP_STRINGS) {
        return reading_fail(reading, "stop_token_ids must be a list of at most %u ids",
                            LIMIT_STOP_STRINGS);
    }
    uint32_t *ids = arena_alloc(&reading->request->arena, value->count, sizeof *ids);
    if (!ids) {
        return reading_no_memory(reading);
    }
    options->stop_tokens = ids;
    options->stop_token_count = 0;
    JSON_EACH(element, value)
    {
        if (!read_bounded(reading, element, 0, (int64_t)reading->vocabulary_size - 1,
                          &ids[options->stop_token_count++])) {
            return false;
        }
    }
    return true;
}

/* A key of logit_bias: a decimal id. */
static bool read_id(struct text_view text, uint32_t vocabulary_size, uint32_t *id)
{
    uint64_t value = 0;
    if (text.length == 0 || text.length > 9) {
        return false;
    }
    for (size_t i = 0; i < text.length; i++) {
        if (text.data[i] < '0' || text.data[i] > '9') {
            return false;
        }
        value = value * 10 + (uint64_t)(text.data[i] - '0');
    }
    *id = (uint32_t)value;
    return value < vocabulary_size;
}

static bool read_logit_bias(struct reading *reading, const struct json_value *value)
{
    llcuda_request_options *options = &reading->request->options;
    if (!json_is(value, JSON_OBJECT) || value->count > LIMIT_LOGIT_BIAS) {
        return reading_fail(reading, "logit_bias must be an object of at most %u members",
                            LIMIT_LOGIT_BIAS);
    }
    llcuda_logit_bias *biases = arena_alloc(&reading->request->arena, value->count, sizeof *biases);
    if (!biases) {
        return reading_no_memory(reading);
    }
    options->logit_bias = biases;
    options->logit_bias_count = 0;
    JSON_EACH_KEY(key, value)
    {
        llcuda_logit_bias *bias = &biases[options->logit_bias_count++];
        double number;
        if (!read_id(json_text(key), reading->vocabulary_size, &bias->token)) {
            return reading_fail(reading, "the keys of logit_bias are token ids below %u",
                                reading->vocabulary_size);
        }
        if (!json_number(json_next(key), &number) || !(fabs(number) <= 100)) {
            return reading_fail(reading, "the values of logit_bias are numbers from -100 to 100");
        }
        bias->bias = (float)number;
    }
    return true;
}

static bool read_chat_logprobs(struct reading *reading, const struct json_value *value)
{
    return read_flag(reading, value, &reading->request->options.logprobs);
}

static bool read_top_logprobs(struct reading *reading, const struct json_value *value)
{
    return read_bounded(reading, value, 0, LLCUDA_LOGPROBS_MAX,
                        &reading->request->options.top_logprobs);
}

static bool read_logprob_count(struct reading *reading, const struct json_value *value)
{
    reading->request->options.logprobs = true;
    return read_top_logprobs(reading, value);
}

static bool read_echo(struct reading *reading, const struct json_value *value)
{
    return read_flag(reading, value, &reading->request->options.echo);
}

static bool read_salt(struct reading *reading, const struct json_value *value)
{
    struct text_view text = json_text(value);
    if (!text.data || text.length > 128 || memchr(text.data, 0, text.length)) {
        return reading_fail(reading, "cache_salt must be a string of at most 128 bytes");
    }
    reading->request->options.cache_salt = arena_copy_text(&reading->request->arena, text).data;
    return reading->request->options.cache_salt || reading_no_memory(reading);
}

/* Read together with the messages. */
static bool read_with_messages(struct reading *reading, const struct json_value *value)
{
    (void)reading;
    (void)value;
    return true;
}

/* ------------------------------------------------------------------ prompts */

static bool read_tokens(struct reading *reading, const struct json_value *list,
                        struct openai_prompt *prompt)
{
    uint32_t *tokens = arena_alloc(&reading->request->arena, list->count, sizeof *tokens);
    if (!tokens) {
        return reading_no_memory(reading);
    }
    prompt->tokens = tokens;
    JSON_EACH(element, list)
    {
        int64_t id;
        if (!json_integer(element, 0, (int64_t)reading->vocabulary_size - 1, &id)) {
            return reading_fail(reading, "token ids of a prompt are integers below %u",
                                reading->vocabulary_size);
        }
        tokens[prompt->token_count++] = (uint32_t)id;
    }
    return prompt->token_count > 0 || reading_fail(reading, "a prompt of ids must not be empty");
}

static bool read_one_prompt(struct reading *reading, const struct json_value *value,
                            struct openai_prompt *prompt)
{
    if (json_is(value, JSON_STRING)) {
        prompt->text = json_text(value);
        return true;
    }
    if (json_is(value, JSON_ARRAY)) {
        return read_tokens(reading, value, prompt);
    }
    return reading_fail(reading, "prompt must be a string, token ids, or a list of these");
}

/* A string, ids, strings, or lists of ids. */
static bool read_prompt(struct reading *reading, const struct json_value *value)
{
    struct openai_request *request = reading->request;
    bool several =
        json_is(value, JSON_ARRAY) && value->count > 0 &&
        (json_is(json_first(value), JSON_STRING) || json_is(json_first(value), JSON_ARRAY));
    uint32_t count = several ? value->count : 1;
    if (count > OPENAI_CHOICES_MAX) {
        return reading_fail(reading, "at most %u prompts fit a request", OPENAI_CHOICES_MAX);
    }
    request->prompts = arena_alloc(&request->arena, count, sizeof *request->prompts);
    if (!request->prompts) {
        return reading_no_memory(reading);
    }
    if (!several) {
        request->prompt_count = 1;
        return read_one_prompt(reading, value, request->prompts);
    }
    JSON_EACH(element, value)
    {
        if (!read_one_prompt(reading, element, &request->prompts[request->prompt_count++])) {
            return false;
        }
    }
    return true;
}

/* ------------------------------------------------------------------ refused unless harmless */

static bool refuse_suffix(struct reading *reading, const struct json_value *value)
{
    return (json_is(value, JSON_STRING) && value->count == 0) ||
           reading_unsupported(reading, "suffix is not supported: no model here fills in the "
                                        "middle");
}

static bool refuse_best_of(struct reading *reading, const struct json_value *value)
{
    int64_t count;
    return json_integer(value, 1, 1, &count) ||
           reading_unsupported(reading, "best_of is not supported; use n and choose yourself");
}

static bool refuse_unless_empty(struct reading *reading, const struct json_value *value)
{
    return ((json_is(value, JSON_ARRAY) || json_is(value, JSON_OBJECT)) && value->count == 0) ||
           reading_unsupported(reading, "%s is not supported", reading->field);
}

/* The old name of tool_choice. */
static bool refuse_function_call(struct reading *reading, const struct json_value *value)
{
    return read_tool_choice(reading, value);
}

static bool refuse_truth(struct reading *reading, const struct json_value *value)
{
    return json_is(value, JSON_FALSE) ||
           reading_unsupported(reading, "%s is not supported", reading->field);
}

static bool refuse_format(struct reading *reading, const struct json_value *value)
{
    return text_view_is(json_text(json_member(value, "type")), "text") ||
           reading_unsupported(reading, "response_format may only be {\"type\": \"text\"} here");
}

static bool refuse_modalities(struct reading *reading, const struct json_value *value)
{
    return (json_is(value, JSON_ARRAY) && value->count == 1 &&
            text_view_is(json_text(json_first(value)), "text")) ||
           reading_unsupported(reading, "modalities may only be [\"text\"] here");
}

/* /v1/responses: {"format": {"type": "text"}, "verbosity": …} */
static bool read_text_format(struct reading *reading, const struct json_value *value)
{
    const struct json_value *format = json_member(value, "format");
    return !format || json_is(format, JSON_NULL) ||
           text_view_is(json_text(json_member(format, "type")), "text") ||
           reading_unsupported(reading, "text.format may only be {\"type\": \"text\"} here");
}

static bool refuse_truncation(struct reading *reading, const struct json_value *value)
{
    return text_view_is(json_text(value), "disabled") ||
           reading_unsupported(reading, "truncation may only be \"disabled\": nothing is cut "
                                        "silently here");
}

static bool read_separate_reasoning(struct reading *reading, const struct json_value *value)
{
    bool separate = true;
    bool good = read_flag(reading, value, &separate);
    reading->request->keep_reasoning = !separate;
    return good;
}

static bool read_encoding(struct reading *reading, const struct json_value *value)
{
    struct text_view text = json_text(value);
    reading->request->base64 = text_view_is(text, "base64");
    return reading->request->base64 || text_view_is(text, "float") ||
           reading_fail(reading, "encoding_format must be \"float\" or \"base64\"");
}

static bool read_pooling(struct reading *reading, const struct json_value *value)
{
    struct text_view text = json_text(value);
    bool mean = text_view_is(text, "mean");
    reading->request->options.embedding = mean ? LLCUDA_POOLING_MEAN : LLCUDA_POOLING_LAST;
    return mean || text_view_is(text, "last") ||
           reading_fail(reading, "pooling must be \"mean\" or \"last\"");
}

static bool read_dimensions(struct reading *reading, const struct json_value *value)
{
    return read_bounded(reading, value, 1, 1 << 20, &reading->request->dimensions);
}

static bool refuse(struct reading *reading, const struct json_value *value)
{
    (void)value;
    return reading_unsupported(reading, "%s is not supported", reading->field);
}

static bool ignore(struct reading *reading, const struct json_value *value)
{
    (void)value;
    reading_note(&reading->request->ignored, "", text_view_of(reading->field));
    return true;
}

/* ------------------------------------------------------------------ the table */

static const struct field {
    const char *name;
    int apis;
    bool (*read)(struct reading *reading, const struct json_value *value);
} fields[] = {
    {"model", ALL, read_model},
    {"messages", CHAT, read_messages},
    {"prompt", COMPLETION, read_prompt},
    {"input", RESPONSES, read_input},
    {"input", EMBEDDINGS, read_prompt},
    {"instructions", RESPONSES, read_with_messages},
    {"stream", ANY, read_stream},
    {"stream_options", BOTH, read_stream_options},
    {"max_tokens", BOTH, read_max_tokens},
    {"max_completion_tokens", CHAT, read_max_tokens},
    {"max_output_tokens", RESPONSES, read_max_tokens},
    {"n", BOTH, read_n},
    {"seed", ANY, read_seed},
    {"stop", ANY, read_stop},
    {"logit_bias", ANY, read_logit_bias},
    {"temperature", ANY, read_parameter},
    {"top_p", ANY, read_parameter},
    {"presence_penalty", ANY, read_parameter},
    {"frequency_penalty", ANY, read_parameter},
    {"logprobs", CHAT, read_chat_logprobs},
    {"logprobs", COMPLETION, read_logprob_count},
    {"top_logprobs", CHAT, read_top_logprobs},
    {"echo", COMPLETION, read_echo},
    {"tools", TALK, read_tools},
    {"tool_choice", TALK, read_tool_choice},
    {"text", RESPONSES, read_text_format},
    {"encoding_format", EMBEDDINGS, read_encoding},
    {"dimensions", EMBEDDINGS, read_dimensions},
    /* extensions */
    {"pooling", EMBEDDINGS, read_pooling},
    {"separate_reasoning", TALK, read_separate_reasoning},
    {"top_k", ANY, read_parameter},
    {"min_p", ANY, read_parameter},
    {"typical_p", ANY, read_parameter},
    {"repetition_penalty", ANY, read_parameter},
    {"penalty_window", ANY, read_parameter},
    {"dry_multiplier", ANY, read_parameter},
    {"dry_base", ANY, read_parameter},
    {"dry_allowed_length", ANY, read_parameter},
    {"dry_window", ANY, read_parameter},
    {"min_tokens", ANY, read_parameter},
    {"ignore_eos", ANY, read_parameter},
    {"timeout_ms", ALL, read_parameter},
    {"stop_token_ids", ANY, read_stop_ids},
    {"cache_salt", ALL, read_salt},
    {"chat_template_kwargs", TALK, read_with_messages},
    /* ignored */
    {"user", ALL, ignore},
    {"safety_identifier", ANY, ignore},
    {"store", ANY, ignore},
    {"metadata", ANY, ignore},
    {"service_tier", ANY, ignore},
    {"prompt_cache_key", ANY, ignore},
    {"prompt_cache_retention", ANY, ignore},
    {"parallel_tool_calls", TALK, ignore},
    {"max_tool_calls", RESPONSES, ignore},
    {"prediction", CHAT, ignore},
    {"verbosity", CHAT, ignore},
    {"reasoning_effort", CHAT, ignore},
    {"reasoning", RESPONSES, ignore},
    {"include", RESPONSES, ignore},
    {"stream_options", RESPONSES, ignore},
    {"truncation", RESPONSES, refuse_truncation},
    /* refused */
    {"suffix", COMPLETION, refuse_suffix},
    {"best_of", COMPLETION, refuse_best_of},
    {"functions", CHAT, refuse_unless_empty},
    {"function_call", CHAT, refuse_function_call},
    {"response_format", BOTH, refuse_format},
    {"modalities", CHAT, refuse_modalities},
    {"audio", CHAT, refuse},
    {"web_search_options", CHAT, refuse},
    {"previous_response_id", RESPONSES, refuse},
    {"conversation", RESPONSES, refuse},
    {"prompt", RESPONSES, refuse},
    {"background", RESPONSES, refuse_truth},
    {"top_logprobs", RESPONSES, refuse},
};
#define FIELD_COUNT (sizeof fields / sizeof fields[0])

static const struct field *find_field(enum openai_api api, struct text_view name)
{
    int bit = 1 << (int)api;
    for (size_t i = 0; i < FIELD_COUNT; i++) {
        if ((fields[i].apis & bit) != 0 && text_view_is(name, fields[i].name)) {
            return &fields[i];
        }
    }
    return NULL;
}

static bool read_fields(struct reading *reading)
{
    struct openai_request *request = reading->request;
    JSON_EACH_KEY(key, reading->root)
    {
        const struct json_value *value = json_next(key);
        const struct field *field = find_field(request->api, json_text(key));
        if (!field) {
            reading_note(&request->unknown, "", json_text(key));
        } else if (!json_is(value, JSON_NULL)) {
            reading->field = field->name;
            if (!field->read(reading, value)) {
                return false;
            }
        }
    }
    return true;
}

/* The field without which there is nothing to do. */
static const char *main_field(enum openai_api api)
{
    static const char *const names[] = {"messages", "prompt", "input", "input"};
    return names[api];
}

/* What no field can see on its own. */
static bool check_together(struct reading *reading)
{
    struct openai_request *request = reading->request;
    bool talk = request->api == OPENAI_CHAT || request->api == OPENAI_RESPONSES;
    reading->field = main_field(request->api);
    if (talk ? request->messages.length == 0 : request->prompt_count == 0) {
        return api_error_set(reading->error, 400, "missing_required_parameter", reading->field,
                             "the field %s is required", reading->field);
    }
    reading->field = "n";
    if (request->prompt_count * request->options.choice_count > OPENAI_CHOICES_MAX) {
        return reading_fail(reading, "prompts times n may be at most %u", OPENAI_CHOICES_MAX);
    }
    reading->field = "top_logprobs";
    if (talk && request->options.top_logprobs > 0 && !request->options.logprobs) {
        return reading_fail(reading, "top_logprobs needs logprobs to be true");
    }
    reading->field = "stream_options";
    if (request->include_usage && !request->stream) {
        return reading_fail(reading, "stream_options needs stream to be true");
    }
    return true;
}

bool openai_request_open(struct openai_request *request, enum openai_api api, struct text_view body,
                         struct api_error *error)
{
    struct llcuda_error parse_error = {0};
    const struct json_options limits = {
        .depth_max = BODY_DEPTH_MAX, .value_count_max = PROMPT_VALUES_MAX, .unique_keys = true};
    *request = (struct openai_request){.api = api};
    arena_init(&request->arena, 0);
    llcuda_status status = json_parse(body, &limits, &request->document, &parse_error);
    if (status == LLCUDA_OUT_OF_MEMORY) {
        return api_error_from(error, status, parse_error.message);
    }
    if (status) {
        return api_error_set(error, 400, "invalid_json", NULL, "the body is no valid JSON: %s",
                             parse_error.message);
    }
    const struct json_value *root = json_root(request->document);
    if (!json_is(root, JSON_OBJECT)) {
        return api_error_set(error, 400, "invalid_json", NULL, "the body must be a JSON object");
    }
    request->model = json_text(json_member(root, "model"));
    return true;
}

bool openai_request_read(struct openai_request *request, const llcuda_request_options *defaults,
                         uint32_t vocabulary_size, struct api_error *error)
{
    bool talk = request->api == OPENAI_CHAT || request->api == OPENAI_RESPONSES;
    struct reading reading = {request, json_root(request->document), NULL, vocabulary_size, error};
    request->options = *defaults;
    request->prompt_count = talk ? 1 : 0;
    request->options.embedding =
        request->api == OPENAI_EMBEDDINGS ? LLCUDA_POOLING_MODEL : LLCUDA_POOLING_NONE;
    request->options.max_tokens = request->api == OPENAI_COMPLETION ? COMPLETION_TOKENS : 0;
    return read_fields(&reading) && check_together(&reading);
}

void openai_request_deinit(struct openai_request *request)
{
    json_destroy(request->document);
    arena_deinit(&request->arena);
    buffer_deinit(&request->messages);
    buffer_deinit(&request->ignored);
    buffer_deinit(&request->unknown);
}

void openai_request_select(struct openai_request *request, uint32_t index)
{
    llcuda_request_options *options = &request->options;
    const struct openai_prompt *prompt = &request->prompts[index];
    options->prompt_tokens = prompt->tokens;
    options->prompt_token_count = prompt->token_count;
    options->prompt = prompt->tokens ? NULL : prompt->text.length ? prompt->text.data : "";
    options->prompt_bytes = prompt->tokens ? 0 : prompt->text.length;
}
