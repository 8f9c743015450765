/* Owns the routes between text and tokens, which need no generation: tokenize, detokenize and
 * apply-template. */
#include "server/openai_internal.h"
#include "server/routes.h"

#define DEPTH_MAX  32u
#define VALUES_MAX (1u << 22)

/* Parses the body as an object; false after the call has been answered. */
static bool parse(struct call *call, struct json_document **document)
{
    struct llcuda_error parse_error = {0};
    struct api_error error;
    const struct json_options limits = {
        .depth_max = DEPTH_MAX, .value_count_max = VALUES_MAX, .unique_keys = true};
    if (json_parse(call->request->body, &limits, document, &parse_error) != LLCUDA_OK) {
        api_error_set(&error, 400, "invalid_json", NULL, "the body is no valid JSON: %s",
                      parse_error.message);
        call_fail(call, &error);
        return false;
    }
    if (!json_is(json_root(*document), JSON_OBJECT)) {
        json_destroy(*document);
        api_error_set(&error, 400, "invalid_json", NULL, "the body must be a JSON object");
        call_fail(call, &error);
        return false;
    }
    return true;
}

static void fail_field(struct call *call, const char *field, const char *what)
{
    struct api_error error;
    api_error_set(&error, 400, "invalid_value", field, "%s must be %s", field, what);
    call_fail(call, &error);
}

static void fail_status(struct call *call, const struct llcuda_error *failure)
{
    struct api_error error;
    api_error_from(&error, failure->status, failure->message);
    call_fail(call, &error);
}

/* The text of the first of two names that is there. */
static struct text_view text_of(const struct json_value *root, const char *name, const char *other)
{
    struct text_view text = json_text(json_member(root, name));
    return text.data ? text : json_text(json_member(root, other));
}

static void respond_tokens(struct call *call, const uint32_t *tokens, size_t count)
{
    struct buffer body = {0};
    struct json_writer writer;
    json_writer_init(&writer, &body, 0);
    json_begin_object(&writer);
    json_key(&writer, "tokens");
    json_begin_array(&writer);
    for (size_t i = 0; i < count; i++) {
        json_write_unsigned(&writer, tokens[i]);
    }
    json_end_array(&writer);
    json_key(&writer, "count");
    json_write_unsigned(&writer, count);
    json_key(&writer, "max_model_len");
    json_write_unsigned(&writer, llcuda_engine_get_info(call->server->engine)->context_length);
    json_end_object(&writer);
    call_respond_json(call, 200, &body);
    buffer_deinit(&body);
}

void route_tokenize(struct call *call)
{
    struct json_document *document;
    if (!parse(call, &document)) {
        return;
    }
    const struct json_value *root = json_root(document);
    struct text_view text = text_of(root, "content", "prompt");
    bool add_bos = json_bool(json_member(root, "add_special"), false) ||
                   json_bool(json_member(root, "add_special_tokens"), false);
    bool special = json_bool(json_member(root, "parse_special"), true);
    if (!text.data) {
        fail_field(call, "content", "a string");
    } else {
        struct llcuda_error error = {0};
        uint32_t *tokens = NULL;
        size_t count = 0;
        if (llcuda_tokenize(call->server->engine, text.data, text.length,
                            add_bos ? LLCUDA_MODEL_DEFAULT : LLCUDA_NO, special, &tokens, &count,
                            &error) != LLCUDA_OK) {
            fail_status(call, &error);
        } else {
            respond_tokens(call, tokens, count);
            llcuda_free(tokens);
        }
    }
    json_destroy(document);
}

static void respond_text(struct call *call, const char *name, struct text_view text)
{
    struct buffer body = {0};
    struct json_writer writer;
    json_writer_init(&writer, &body, 0);
    json_begin_object(&writer);
    json_key(&writer, name);
    json_write_text(&writer, text);
    json_end_object(&writer);
    call_respond_json(call, 200, &body);
    buffer_deinit(&body);
}

/* Reads ids into `ids` as uint32_t; false when one is no id. */
static bool read_ids(const struct json_value *list, uint32_t vocabulary_size, struct buffer *ids)
{
    JSON_EACH(element, list)
    {
        int64_t id;
        if (!json_integer(element, 0, (int64_t)vocabulary_size - 1, &id)) {
            return false;
        }
        uint32_t token = (uint32_t)id;
        buffer_append(ids, &token, sizeof token);
    }
    return json_is(list, JSON_ARRAY) && !ids->failed;
}

void route_detokenize(struct call *call)
{
    struct json_document *document;
    struct buffer ids = {0};
    if (!parse(call, &document)) {
        return;
    }
    uint32_t vocabulary_size = llcuda_engine_get_info(call->server->engine)->vocabulary_size;
    if (!read_ids(json_member(json_root(document), "tokens"), vocabulary_size, &ids)) {
        fail_field(call, "tokens", "a list of token ids");
    } else {
        struct llcuda_error error = {0};
        char *text = NULL;
        size_t bytes = 0;
        if (llcuda_detokenize(call->server->engine, (const uint32_t *)(const void *)ids.data,
                              ids.length / sizeof(uint32_t), true, &text, &bytes,
                              &error) != LLCUDA_OK) {
            fail_status(call, &error);
        } else {
            respond_text(call, "content", text_view_make(text, bytes));
            llcuda_free(text);
        }
    }
    buffer_deinit(&ids);
    json_destroy(document);
}

void route_apply_template(struct call *call)
{
    struct api_error error;
    struct llcuda_error failure = {0};
    llcuda_request_options defaults;
    struct openai_request request;
    char *text = NULL;
    size_t bytes = 0;
    llcuda_request_options_init(&defaults, sizeof defaults);
    if (!openai_request_read(&request, OPENAI_CHAT, call->request->body, &defaults,
                             llcuda_engine_get_info(call->server->engine)->vocabulary_size,
                             &error)) {
        call_fail(call, &error);
    } else if (llcuda_apply_template(call->server->engine, buffer_text(&request.messages),
                                     request.messages.length, &text, &bytes,
                                     &failure) != LLCUDA_OK) {
        fail_status(call, &failure);
    } else {
        respond_text(call, "prompt", text_view_make(text, bytes));
        llcuda_free(text);
    }
    openai_request_deinit(&request);
}
