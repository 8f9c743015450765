/* Owns the meaning of batch lines, in our own form and in OpenAI's. One thread. */
#include "cli/batch_line.h"

#include <math.h>
#include <stdio.h>

void batch_line_init(struct batch_line *line, uint64_t number)
{
    *line = (struct batch_line){.number = number};
}

void batch_line_deinit(struct batch_line *line)
{
    llcuda_request_release(line->request);
    buffer_deinit(&line->id);
    buffer_deinit(&line->text);
    *line = (struct batch_line){0};
}

/* Everything that a request points to while it is being made; submitting copies it. */
struct request_parts {
    llcuda_request_options options;
    struct buffer prompt; /* uint32_t ids, or rendered JSON for the template */
    llcuda_text stops[16];
    llcuda_logit_bias *biases;
    struct arena arena;
};

static void write_id(const struct json_value *root, struct buffer *id)
{
    struct json_writer writer;
    const struct json_value *value = json_member(root, "custom_id");
    if (!value) {
        value = json_member(root, "id");
    }
    json_writer_init(&writer, id, 0);
    if (json_is(value, JSON_STRING) || json_is(value, JSON_INTEGER)) {
        json_write_value(&writer, value);
    } else {
        json_write_null(&writer);
    }
}

void batch_line_id(struct text_view text, struct buffer *id)
{
    struct json_document *document = NULL;
    struct llcuda_error error;
    buffer_clear(id);
    if (json_parse(text, NULL, &document, &error)) {
        buffer_append_text(id, "null");
        return;
    }
    write_id(json_root(document), id);
    json_destroy(document);
}

static llcuda_status wrong(struct llcuda_error *error, const char *field, const char *expected)
{
    return error_set(error, LLCUDA_INVALID_ARGUMENT, "'%s' should be %s", field, expected);
}

static llcuda_status read_prompt(struct request_parts *parts, const struct json_value *value,
                                 struct llcuda_error *error)
{
    if (json_is(value, JSON_STRING)) {
        parts->options.prompt = value->string;
        parts->options.prompt_bytes = value->count;
        return LLCUDA_OK;
    }
    if (!json_is(value, JSON_ARRAY) || value->count == 0) {
        return wrong(error, "prompt", "a text or a list of token ids");
    }
    JSON_EACH(element, value)
    {
        int64_t id;
        if (!json_integer(element, 0, UINT32_MAX, &id)) {
            return wrong(error, "prompt", "a text or a list of token ids");
        }
        uint32_t token = (uint32_t)id;
        buffer_append(&parts->prompt, &token, sizeof token);
    }
    if (parts->prompt.failed) {
        return error_no_memory(error, "a prompt", value->count * sizeof(uint32_t));
    }
    parts->options.prompt_tokens = (const uint32_t *)(const void *)parts->prompt.data;
    parts->options.prompt_token_count = value->count;
    return LLCUDA_OK;
}

/* What the template sees: the messages, and the tools when there are any. */
static llcuda_status read_messages(struct request_parts *parts, const struct json_value *body,
                                   const struct json_value *messages, struct llcuda_error *error)
{
    struct json_writer writer;
    const struct json_value *tools = json_member(body, "tools");
    if (!json_is(messages, JSON_ARRAY) || messages->count == 0) {
        return wrong(error, "messages", "a list of {role, content}");
    }
    json_writer_init(&writer, &parts->prompt, 0);
    json_begin_object(&writer);
    json_key(&writer, "messages");
    json_write_value(&writer, messages);
    if (tools) {
        json_key(&writer, "tools");
        json_write_value(&writer, tools);
    }
    json_end_object(&writer);
    if (parts->prompt.failed) {
        return error_set(error, LLCUDA_LIMIT, "the messages are too large or nested too deep");
    }
    parts->options.messages = buffer_text(&parts->prompt);
    parts->options.messages_bytes = parts->prompt.length;
    return LLCUDA_OK;
}

static llcuda_status read_stop(struct request_parts *parts, const struct json_value *value,
                               struct llcuda_error *error)
{
    const uint32_t most = sizeof parts->stops / sizeof parts->stops[0];
    parts->options.stop = parts->stops;
    parts->options.stop_count = 0;
    if (json_is(value, JSON_STRING)) {
        parts->stops[0] = (llcuda_text){value->string, value->count};
        parts->options.stop_count = 1;
        return LLCUDA_OK;
    }
    if (json_is(value, JSON_NULL)) {
        return LLCUDA_OK;
    }
    if (!json_is(value, JSON_ARRAY) || value->count > most) {
        return wrong(error, "stop", "a text or a list of at most 16 texts");
    }
    JSON_EACH(element, value)
    {
        if (!json_is(element, JSON_STRING)) {
            return wrong(error, "stop", "a text or a list of at most 16 texts");
        }
        parts->stops[parts->options.stop_count++] = (llcuda_text){element->string, element->count};
    }
    return LLCUDA_OK;
}

static bool decimal_id(struct text_view text, uint32_t *id)
{
    uint64_t value = 0;
    for (size_t i = 0; i < text.length; i++) {
        if (text.data[i] < '0' || text.data[i] > '9' || i >= 10) {
            return false;
        }
        value = value * 10 + (uint64_t)(text.data[i] - '0');
    }
    *id = (uint32_t)value;
    return text.length > 0 && value <= UINT32_MAX;
}

static llcuda_status read_bias(struct request_parts *parts, const struct json_value *value,
                               struct llcuda_error *error)
{
    uint32_t count = 0;
    if (json_is(value, JSON_NULL)) {
        return LLCUDA_OK;
    }
    if (!json_is(value, JSON_OBJECT)) {
        return wrong(error, "logit_bias", "an object of token ids and numbers");
    }
    parts->biases = arena_alloc(&parts->arena, value->count, sizeof *parts->biases);
    if (!parts->biases) {
        return error_no_memory(error, "logit_bias", value->count * sizeof *parts->biases);
    }
    JSON_EACH_KEY(key, value)
    {
        double bias;
        if (!decimal_id(json_text(key), &parts->biases[count].token) ||
            !json_number(json_next(key), &bias)) {
            return wrong(error, "logit_bias", "an object of token ids and numbers");
        }
        parts->biases[count++].bias = (float)bias;
    }
    parts->options.logit_bias = parts->biases;
    parts->options.logit_bias_count = count;
    return LLCUDA_OK;
}

static llcuda_status set_parameter(struct request_parts *parts, const llcuda_parameter *parameter,
                                   const struct json_value *value, struct llcuda_error *error)
{
    char *field = (char *)&parts->options + parameter->offset;
    double number;
    if (parameter->kind == LLCUDA_PARAMETER_BOOL) {
        if (!json_is(value, JSON_TRUE) && !json_is(value, JSON_FALSE)) {
            return wrong(error, parameter->name, "true or false");
        }
        bool flag = json_bool(value, false);
        memcpy(field, &flag, sizeof flag);
        return LLCUDA_OK;
    }
    if (!json_number(value, &number) || number < parameter->minimum ||
        number > parameter->maximum ||
        (parameter->kind != LLCUDA_PARAMETER_DOUBLE && number != floor(number))) {
        return error_set(error, LLCUDA_INVALID_ARGUMENT,
                         "'%s' should be a %snumber from %.10g to %.10g", parameter->name,
                         parameter->kind == LLCUDA_PARAMETER_DOUBLE ? "" : "whole ",
                         parameter->minimum, parameter->maximum);
    }
    uint32_t u32 = parameter->kind == LLCUDA_PARAMETER_U32 ? (uint32_t)number : 0;
    int32_t i32 = parameter->kind == LLCUDA_PARAMETER_I32 ? (int32_t)number : 0;
    uint64_t u64 = parameter->kind == LLCUDA_PARAMETER_U64 ? (uint64_t)number : 0;
    switch (parameter->kind) {
    case LLCUDA_PARAMETER_DOUBLE:
        memcpy(field, &number, sizeof number);
        break;
    case LLCUDA_PARAMETER_U32:
        memcpy(field, &u32, sizeof u32);
        break;
    case LLCUDA_PARAMETER_I32:
        memcpy(field, &i32, sizeof i32);
        break;
    case LLCUDA_PARAMETER_U64:
        memcpy(field, &u64, sizeof u64);
        break;
    case LLCUDA_PARAMETER_BOOL:
        break;
    }
    return LLCUDA_OK;
}

static const llcuda_parameter *find_parameter(struct text_view name)
{
    uint32_t count;
    const llcuda_parameter *parameters = llcuda_request_parameters(&count);
    if (text_view_is(name, "max_completion_tokens")) {
        name = text_view_of("max_tokens");
    }
    for (uint32_t i = 0; i < count; i++) {
        if (text_view_is(name, parameters[i].name)) {
            return &parameters[i];
        }
    }
    return NULL;
}

/* Fields that say nothing about the answer, or are read elsewhere. */
static bool passed_over(struct text_view name, const struct json_value *value)
{
    static const char *const names[] = {"id",       "model",        "user",  "metadata",
                                        "store",    "service_tier", "tools", "stream_options",
                                        "messages", "prompt",       "seed"};
    static const char *const off[] = {"stream", "echo", "logprobs", "parallel_tool_calls"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (text_view_is(name, names[i])) {
            return true;
        }
    }
    for (size_t i = 0; i < sizeof off / sizeof off[0]; i++) {
        if (text_view_is(name, off[i]) &&
            (json_is(value, JSON_FALSE) || json_is(value, JSON_NULL))) {
            return true;
        }
    }
    int64_t one;
    return text_view_is(name, "n") && json_integer(value, 1, 1, &one);
}

static llcuda_status read_field(struct request_parts *parts, struct text_view name,
                                const struct json_value *value, struct llcuda_error *error)
{
    const llcuda_parameter *parameter = find_parameter(name);
    if (passed_over(name, value) || (parameter && json_is(value, JSON_NULL))) {
        return LLCUDA_OK;
    }
    if (text_view_is(name, "stop")) {
        return read_stop(parts, value, error);
    }
    if (text_view_is(name, "logit_bias")) {
        return read_bias(parts, value, error);
    }
    if (!parameter || text_view_is(name, "choice_count") || text_view_is(name, "echo") ||
        text_view_is(name, "logprobs") || text_view_is(name, "top_logprobs")) {
        return error_set(error, LLCUDA_INVALID_ARGUMENT, "'%.*s' is not supported in a batch",
                         TEXT_ARGUMENTS(name));
    }
    return set_parameter(parts, parameter, value, error);
}

static llcuda_status read_body(struct batch_line *line, struct request_parts *parts,
                               const struct json_value *body, struct llcuda_error *error)
{
    const struct json_value *prompt = json_member(body, "prompt");
    const struct json_value *messages = json_member(body, "messages");
    const struct json_value *seed = json_member(body, "seed");
    int64_t seed_value;
    if (!json_is(body, JSON_OBJECT)) {
        return wrong(error, line->openai ? "body" : "the line", "an object");
    }
    if (!prompt == !messages) {
        return error_set(error, LLCUDA_INVALID_ARGUMENT, "give 'prompt' or 'messages'%s",
                         prompt ? ", not both" : "");
    }
    line->chat = messages != NULL;
    llcuda_status status =
        messages ? read_messages(parts, body, messages, error) : read_prompt(parts, prompt, error);
    JSON_EACH_KEY(key, body)
    {
        status = status ? status : read_field(parts, json_text(key), json_next(key), error);
    }
    if (!status && seed && !json_is(seed, JSON_NULL)) {
        parts->options.seed_given = json_integer(seed, 0, INT64_MAX, &seed_value);
        if (!parts->options.seed_given) {
            return wrong(error, "seed", "a whole number from 0");
        }
        parts->options.seed = (uint64_t)seed_value;
    }
    return status;
}

static llcuda_status read_line(struct batch_line *line, struct request_parts *parts,
                               const struct json_value *root, struct llcuda_error *error)
{
    const struct json_value *body = json_member(root, "body");
    write_id(root, &line->id);
    if (!body) {
        return read_body(line, parts, root, error);
    }
    struct text_view url = json_text(json_member(root, "url"));
    line->openai = true;
    if (!text_view_is(url, "/v1/chat/completions") && !text_view_is(url, "/v1/completions")) {
        return error_set(error, LLCUDA_UNSUPPORTED,
                         "'url' should be /v1/chat/completions or /v1/completions");
    }
    return read_body(line, parts, body, error);
}

llcuda_status batch_line_submit(struct batch_line *line, struct text_view text,
                                llcuda_engine *engine, const llcuda_request_options *base)
{
    struct request_parts parts = {.options = *base};
    struct json_document *document = NULL;
    struct llcuda_error *error = &line->error;
    arena_init(&parts.arena, 0);
    buffer_clear(&line->id);
    llcuda_status status = json_parse(text, NULL, &document, error);
    if (status) {
        buffer_append_text(&line->id, "null");
    } else {
        status = read_line(line, &parts, json_root(document), error);
    }
    if (!status) {
        status = llcuda_submit(engine, &parts.options, &line->request, error);
    }
    json_destroy(document);
    buffer_deinit(&parts.prompt);
    arena_deinit(&parts.arena);
    if (status == LLCUDA_BUSY) {
        line->error.status = LLCUDA_OK;
        return status;
    }
    line->done = status != LLCUDA_OK;
    return LLCUDA_OK;
}

void batch_line_poll(struct batch_line *line, int64_t timeout_ms)
{
    while (!line->done) {
        const llcuda_event *event;
        llcuda_error error;
        if (llcuda_request_next(line->request, timeout_ms, &event, &error)) {
            return;
        }
        timeout_ms = 0;
        buffer_append(&line->text, event->text, event->text_bytes);
        if (event->kind == LLCUDA_EVENT_FINISHED) {
            line->finish_reason = event->finish_reason;
        }
        if (event->kind == LLCUDA_EVENT_DONE) {
            line->usage = event->usage;
            line->done = true;
            if (event->status) {
                error_set(&line->error, event->status, "%s", event->message);
            } else if (line->text.failed) {
                error_no_memory(&line->error, "an answer", line->text.length);
            }
        }
    }
}

static void write_usage(const struct batch_line *line, struct json_writer *writer)
{
    json_key(writer, "usage");
    json_begin_object(writer);
    json_key(writer, "prompt_tokens");
    json_write_unsigned(writer, line->usage.prompt_tokens);
    json_key(writer, "completion_tokens");
    json_write_unsigned(writer, line->usage.completion_tokens);
    json_key(writer, "total_tokens");
    json_write_unsigned(writer,
                        (uint64_t)line->usage.prompt_tokens + line->usage.completion_tokens);
    json_end_object(writer);
}

/* OpenAI's error object: four members, the code a text. */
static void write_error(const struct batch_line *line, struct json_writer *writer)
{
    bool ours = llcuda_status_http(line->error.status) >= 500;
    json_key(writer, "error");
    json_begin_object(writer);
    json_key(writer, "message");
    json_write_string(writer, line->error.message);
    json_key(writer, "type");
    json_write_string(writer, ours ? "server_error" : "invalid_request_error");
    json_key(writer, "param");
    json_write_null(writer);
    json_key(writer, "code");
    json_write_string(writer, line->error.status == LLCUDA_CONTEXT_FULL
                                  ? "context_length_exceeded"
                                  : llcuda_status_name(line->error.status));
    json_end_object(writer);
}

static void write_completion(const struct batch_line *line, const char *model, int64_t created,
                             struct json_writer *writer)
{
    char id[40];
    snprintf(id, sizeof id, "%s-%llu", line->chat ? "chatcmpl" : "cmpl",
             (unsigned long long)line->number);
    json_key(writer, "id");
    json_write_string(writer, id);
    json_key(writer, "object");
    json_write_string(writer, line->chat ? "chat.completion" : "text_completion");
    json_key(writer, "created");
    json_write_integer(writer, created);
    json_key(writer, "model");
    json_write_string(writer, model);
    json_key(writer, "choices");
    json_begin_array(writer);
    json_begin_object(writer);
    json_key(writer, "index");
    json_write_integer(writer, 0);
    if (line->chat) {
        json_key(writer, "message");
        write_message(writer, "assistant", buffer_view(&line->text));
    } else {
        json_key(writer, "text");
        json_write_text(writer, buffer_view(&line->text));
    }
    json_key(writer, "logprobs");
    json_write_null(writer);
    json_key(writer, "finish_reason");
    json_write_string(writer, llcuda_finish_reason_name(line->finish_reason));
    json_end_object(writer);
    json_end_array(writer);
    write_usage(line, writer);
}

static void write_openai(const struct batch_line *line, const char *model, int64_t created,
                         struct json_writer *writer)
{
    char id[40];
    bool failed = line->error.status != LLCUDA_OK;
    snprintf(id, sizeof id, "batch_req_%llu", (unsigned long long)line->number);
    json_key(writer, "response");
    json_begin_object(writer);
    json_key(writer, "status_code");
    json_write_integer(writer, failed ? llcuda_status_http(line->error.status) : 200);
    json_key(writer, "request_id");
    json_write_string(writer, id);
    json_key(writer, "body");
    json_begin_object(writer);
    if (failed) {
        write_error(line, writer);
    } else {
        write_completion(line, model, created, writer);
    }
    json_end_object(writer);
    json_end_object(writer);
    json_key(writer, "error");
    json_write_null(writer);
}

void batch_line_write(const struct batch_line *line, const char *model, int64_t created,
                      struct buffer *out)
{
    struct json_writer writer;
    buffer_append_text(out, line->openai ? "{\"id\": \"batch_req_" : "{\"id\": ");
    if (line->openai) {
        buffer_printf(out, "%llu\", \"custom_id\": ", (unsigned long long)line->number);
    }
    buffer_append_view(out, buffer_view(&line->id));
    json_writer_init(&writer, out, 0);
    /* The members of the object that was begun by hand, because its id is ready-made JSON. */
    writer.depth = 1;
    writer.has_item = 2;
    if (line->openai) {
        write_openai(line, model, created, &writer);
    } else if (line->error.status) {
        write_error(line, &writer);
    } else {
        json_key(&writer, "text");
        json_write_text(&writer, buffer_view(&line->text));
        json_key(&writer, "finish_reason");
        json_write_string(&writer, llcuda_finish_reason_name(line->finish_reason));
        write_usage(line, &writer);
    }
    buffer_append_text(out, "}\n");
}
