/* Owns the routes between text and tokens, which need no generation: tokenize, detokenize and
 * apply-template. Each is a pure way from a body to a document; long bodies go that way on the
 * thread of offload.c. */
#include <stdlib.h>

#include "server/model_set.h"
#include "server/offload.h"
#include "server/openai_internal.h"
#include "server/routes.h"

#define DEPTH_MAX  32u
#define VALUES_MAX (1u << 22)
/* Longer bodies are worked on elsewhere. */
#define OFFLOAD_BYTES 32768u

/* Makes the answer of a route from its body; any thread. False with *error. */
typedef bool (*text_work)(struct server *server, struct text_view body, struct buffer *answer,
                          struct api_error *error);

struct text_job {
    struct offload_job job; /* first: the job is this */
    struct server *server;
    struct http_waker *waker;
    struct buffer body;
    struct buffer answer;
    struct api_error error;
    text_work work;
    bool good;
};

/* ------------------------------------------------------------------ jobs */

static void job_free(struct text_job *job)
{
    buffer_deinit(&job->body);
    buffer_deinit(&job->answer);
    free(job);
}

static void run_job(struct offload_job *offloaded)
{
    struct text_job *job = (struct text_job *)offloaded;
    job->good = job->work(job->server, buffer_view(&job->body), &job->answer, &job->error);
}

static void wake_owner(struct offload_job *offloaded)
{
    http_waker_signal(((struct text_job *)offloaded)->waker);
}

static void drop_job(struct offload_job *offloaded)
{
    job_free((struct text_job *)offloaded);
}

void text_job_destroy(struct text_job *job)
{
    if (job && offload_withdraw(job->server->offload, &job->job)) {
        job_free(job);
    }
}

static void answer_with(struct call *call, bool good, struct buffer *answer,
                        const struct api_error *error)
{
    if (good) {
        call_respond_json(call, 200, answer);
    } else {
        call_fail(call, error);
    }
}

void text_job_pull(struct call *call)
{
    struct text_job *job = call->text_job;
    if (offload_is_done(call->server->offload, &job->job)) {
        call->text_job = NULL;
        answer_with(call, job->good, &job->answer, &job->error);
        job_free(job);
    }
}

static void work_elsewhere(struct call *call, text_work work)
{
    struct api_error error;
    struct text_job *job = calloc(1, sizeof *job);
    struct http_waker *waker = http_exchange_waker(call->exchange);
    if (!job || !waker) {
        free(job);
        api_error_from(&error, LLCUDA_OUT_OF_MEMORY, NULL);
        call_fail(call, &error);
        return;
    }
    *job = (struct text_job){.job = {.run = run_job, .done = wake_owner, .drop = drop_job},
                             .server = call->server,
                             .waker = waker,
                             .work = work};
    http_exchange_take_body(call->exchange, &job->body);
    if (offload_submit(call->server->offload, &job->job)) {
        call->text_job = job;
        return;
    }
    job_free(job);
    api_error_set(&error, 429, "queue_full", NULL, "too many long texts wait already");
    call_fail(call, &error);
}

static void answer(struct call *call, text_work work)
{
    if (call->request->body.length > OFFLOAD_BYTES) {
        work_elsewhere(call, work);
        return;
    }
    struct buffer made = {0};
    struct api_error error;
    bool good = work(call->server, call->request->body, &made, &error);
    answer_with(call, good, &made, &error);
    buffer_deinit(&made);
}

/* ------------------------------------------------------------------ bodies */

static bool parse(struct text_view body, struct json_document **document, struct api_error *error)
{
    struct llcuda_error parse_error = {0};
    const struct json_options limits = {
        .depth_max = DEPTH_MAX, .value_count_max = VALUES_MAX, .unique_keys = true};
    if (json_parse(body, &limits, document, &parse_error) != LLCUDA_OK) {
        return api_error_set(error, 400, "invalid_json", NULL, "the body is no valid JSON: %s",
                             parse_error.message);
    }
    if (!json_is(json_root(*document), JSON_OBJECT)) {
        json_destroy(*document);
        return api_error_set(error, 400, "invalid_json", NULL, "the body must be a JSON object");
    }
    return true;
}

/* Parses, and takes the model that the body names; false with *error. */
static bool begin(struct server *server, struct text_view body, struct json_document **document,
                  struct served_model **model, struct api_error *error)
{
    if (!parse(body, document, error)) {
        return false;
    }
    const struct json_value *name = json_member(json_root(*document), "model");
    bool good = !name || json_is(name, JSON_NULL) || json_is(name, JSON_STRING) ||
                api_error_set(error, 400, "invalid_value", "model", "model must be a string");
    if (good && model_set_take(server->models, json_text(name), false, model, error)) {
        return true;
    }
    json_destroy(*document);
    return false;
}

static void end(struct server *server, struct json_document *document, struct served_model *model)
{
    model_set_give(server->models, model, false);
    json_destroy(document);
}

static bool fail_field(struct api_error *error, const char *field, const char *what)
{
    return api_error_set(error, 400, "invalid_value", field, "%s must be %s", field, what);
}

/* The text of the first of two names that is there. */
static struct text_view text_of(const struct json_value *root, const char *name, const char *other)
{
    struct text_view text = json_text(json_member(root, name));
    return text.data ? text : json_text(json_member(root, other));
}

/* ------------------------------------------------------------------ the three */

static void write_tokens(const llcuda_engine *engine, const uint32_t *tokens, size_t count,
                         struct buffer *out)
{
    struct json_writer writer;
    json_writer_init(&writer, out, 0);
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
    json_write_unsigned(&writer, llcuda_engine_get_info(engine)->context_length);
    json_end_object(&writer);
}

static bool tokenize(struct server *server, struct text_view body, struct buffer *out,
                     struct api_error *error)
{
    struct json_document *document;
    struct served_model *model;
    struct llcuda_error failure = {0};
    uint32_t *tokens = NULL;
    size_t count = 0;
    if (!begin(server, body, &document, &model, error)) {
        return false;
    }
    const struct json_value *root = json_root(document);
    struct text_view text = text_of(root, "content", "prompt");
    bool add_bos = json_bool(json_member(root, "add_special"), false) ||
                   json_bool(json_member(root, "add_special_tokens"), false);
    bool special = json_bool(json_member(root, "parse_special"), true);
    bool good = text.data || fail_field(error, "content", "a string");
    if (good) {
        llcuda_status status = llcuda_tokenize(model->engine, text.data, text.length,
                                               add_bos ? LLCUDA_MODEL_DEFAULT : LLCUDA_NO, special,
                                               &tokens, &count, &failure);
        good = status == LLCUDA_OK || api_error_from(error, status, failure.message);
    }
    if (good) {
        write_tokens(model->engine, tokens, count, out);
        llcuda_free(tokens);
    }
    end(server, document, model);
    return good;
}

static void write_text(const char *name, struct text_view text, struct buffer *out)
{
    struct json_writer writer;
    json_writer_init(&writer, out, 0);
    json_begin_object(&writer);
    json_key(&writer, name);
    json_write_text(&writer, text);
    json_end_object(&writer);
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

static bool detokenize(struct server *server, struct text_view body, struct buffer *out,
                       struct api_error *error)
{
    struct json_document *document;
    struct served_model *model;
    struct llcuda_error failure = {0};
    struct buffer ids = {0};
    char *text = NULL;
    size_t bytes = 0;
    if (!begin(server, body, &document, &model, error)) {
        return false;
    }
    uint32_t vocabulary_size = llcuda_engine_get_info(model->engine)->vocabulary_size;
    bool good = read_ids(json_member(json_root(document), "tokens"), vocabulary_size, &ids) ||
                fail_field(error, "tokens", "a list of token ids");
    if (good) {
        llcuda_status status =
            llcuda_detokenize(model->engine, (const uint32_t *)(const void *)ids.data,
                              ids.length / sizeof(uint32_t), true, &text, &bytes, &failure);
        good = status == LLCUDA_OK || api_error_from(error, status, failure.message);
    }
    if (good) {
        write_text("content", text_view_make(text, bytes), out);
        llcuda_free(text);
    }
    buffer_deinit(&ids);
    end(server, document, model);
    return good;
}

static bool render(const struct served_model *model, struct openai_request *request,
                   struct buffer *out, struct api_error *error)
{
    llcuda_request_options defaults;
    struct llcuda_error failure = {0};
    char *text = NULL;
    size_t bytes = 0;
    llcuda_request_options_init(&defaults, sizeof defaults);
    if (!openai_request_read(request, &defaults,
                             llcuda_engine_get_info(model->engine)->vocabulary_size, error)) {
        return false;
    }
    llcuda_status status = llcuda_apply_template(model->engine, buffer_text(&request->messages),
                                                 request->messages.length, &text, &bytes, &failure);
    if (status) {
        return api_error_from(error, status, failure.message);
    }
    write_text("prompt", text_view_make(text, bytes), out);
    llcuda_free(text);
    return true;
}

static bool apply_template(struct server *server, struct text_view body, struct buffer *out,
                           struct api_error *error)
{
    struct openai_request request;
    struct served_model *model = NULL;
    bool good = openai_request_open(&request, OPENAI_CHAT, body, error) &&
                model_set_take(server->models, request.model, false, &model, error) &&
                render(model, &request, out, error);
    if (model) {
        model_set_give(server->models, model, false);
    }
    openai_request_deinit(&request);
    return good;
}

void route_tokenize(struct call *call)
{
    answer(call, tokenize);
}

void route_detokenize(struct call *call)
{
    answer(call, detokenize);
}

void route_apply_template(struct call *call)
{
    answer(call, apply_template);
}
