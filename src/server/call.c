/* Owns what happens to each request from its arrival to its log line: ids and traces, who may, what
 * it counts against, and what is told about it afterwards. Everything runs on the worker of the
 * exchange. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "server/generation.h"
#include "server/keys.h"
#include "server/metrics.h"
#include "server/traces.h"

#define NO_ROUTE "other"
/* Of a body in the log, with log_prompts. */
#define LOGGED_BYTES 65536u

static bool is_hex(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
}

/* W3C trace context: the client's trace goes on with a span of ours; anything malformed is as if it
 * were not there. */
static bool continue_trace(struct call *call)
{
    struct text_view value = http_request_header(call->request, "traceparent");
    static const char zeros[] = "00000000000000000000000000000000";
    char span[25];
    if (value.length != 55 || memcmp(value.data, "00-", 3) != 0 ||
        memcmp(value.data + 3, zeros, 32) == 0 || memcmp(value.data + 36, zeros, 16) == 0) {
        return false;
    }
    for (size_t i = 0; i < value.length; i++) {
        bool dash = i == 2 || i == 35 || i == 52;
        if (dash ? value.data[i] != '-' : !is_hex(value.data[i])) {
            return false;
        }
    }
    server_make_id(call->server, span);
    memcpy(call->trace, value.data, 36);
    memcpy(call->trace + 36, span, 16);
    memcpy(call->trace + 52, value.data + 52, 3);
    memcpy(call->parent_span, value.data + 36, 16);
    return true;
}

/* A trace of our own where spans are sent anywhere and the client has none. */
static void take_trace(struct call *call)
{
    char high[25], low[25];
    if (continue_trace(call) || !call->server->traces) {
        return;
    }
    server_make_id(call->server, high);
    server_make_id(call->server, low);
    snprintf(call->trace, sizeof call->trace, "00-%.16s%.16s-%.16s-01", high, low, low + 8);
}

/* The client's id where it can be trusted in a log and a header, otherwise one of ours. */
static void take_request_id(struct call *call)
{
    struct text_view value = http_request_header(call->request, "x-request-id");
    char id[25];
    bool good = value.length > 0 && value.length < REQUEST_ID_BYTES;
    for (size_t i = 0; good && i < value.length; i++) {
        char c = value.data[i];
        good = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
               c == '-' || c == '_' || c == '.';
    }
    if (good) {
        memcpy(call->request_id, value.data, value.length);
    } else {
        server_make_id(call->server, id);
        snprintf(call->request_id, sizeof call->request_id, "req_%s", id);
    }
}

static void write_log_time(struct json_writer *writer)
{
    char text[40];
    struct timespec now;
    struct tm parts;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &parts);
    size_t length = strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &parts);
    snprintf(text + length, sizeof text - length, ".%03ldZ", now.tv_nsec / 1000000);
    json_key(writer, "time");
    json_write_string(writer, text);
}

static void write_key_text(struct json_writer *writer, const char *key, struct text_view value)
{
    json_key(writer, key);
    json_write_text(writer, value);
}

static void log_generation(const struct generation *generation, struct json_writer *writer)
{
    const struct server_options *options = &generation->server->options;
    if (generation->model) {
        write_key_text(writer, "model", text_view_of(generation->model->name));
    }
    json_key(writer, "stream");
    json_write_bool(writer, generation->streaming);
    json_key(writer, "prompt_tokens");
    json_write_unsigned(writer, generation->usage.prompt_tokens);
    json_key(writer, "cached_tokens");
    json_write_unsigned(writer, generation->usage.cached_tokens);
    json_key(writer, "completion_tokens");
    json_write_unsigned(writer, generation->usage.completion_tokens);
    json_key(writer, "queue_ms");
    json_write_number(writer, (double)(int64_t)(generation->timings.queue_ms * 1000) / 1000);
    json_key(writer, "ttft_ms");
    json_write_number(writer, (double)(int64_t)(generation->timings.ttft_ms * 1000) / 1000);
    if (options->log_prompts) {
        struct text_view body = buffer_view(&generation->body);
        body.length = body.length > LOGGED_BYTES ? LOGGED_BYTES : body.length;
        write_key_text(writer, "body", body);
    }
}

/* Neither prompts nor answers, unless asked, nor queries, which may hold what is nobody's business.
 */
static void log_call(const struct call *call, uint64_t taken_ns)
{
    const struct server_options *options = &call->server->options;
    struct buffer line = {0};
    struct json_writer writer;
    char name[KEY_NAME_BYTES];
    if (!options->access_log) {
        return;
    }
    json_writer_init(&writer, &line, 0);
    json_begin_object(&writer);
    write_log_time(&writer);
    write_key_text(&writer, "request_id", text_view_of(call->request_id));
    write_key_text(&writer, "peer", text_view_of(http_exchange_peer(call->exchange)));
    key_account_name(call->account, name);
    if (name[0]) {
        write_key_text(&writer, "key", text_view_of(name));
    }
    write_key_text(&writer, "method", call->request->method);
    write_key_text(&writer, "path", call->request->path);
    json_key(&writer, "status");
    json_write_integer(&writer, call->status);
    json_key(&writer, "duration_ms");
    json_write_number(&writer, (double)(taken_ns / 1000) / 1000);
    json_key(&writer, "bytes");
    json_write_unsigned(&writer, http_exchange_sent_bytes(call->exchange));
    if (call->error_code) {
        write_key_text(&writer, "error", text_view_of(call->error_code));
    }
    if (call->finish_reason) {
        write_key_text(&writer, "finish_reason", text_view_of(call->finish_reason));
    }
    if (call->generation) {
        log_generation(call->generation, &writer);
    }
    if (call->trace[0]) {
        write_key_text(&writer, "trace_id", text_view_make(call->trace + 3, 32));
    }
    json_end_object(&writer);
    if (!line.failed) {
        options->access_log(options->access_log_user, line.data, line.length);
    }
    buffer_deinit(&line);
}

static void trace_call(const struct call *call, uint64_t taken_ns)
{
    const struct generation *generation = call->generation;
    struct trace_record record = {
        .route = call->route->path,
        .finish_reason = call->finish_reason,
        .error_code = call->error_code,
        .begin_unix_ns = call->begin_unix_ns,
        .taken_ns = taken_ns,
        .status = call->status,
    };
    if (!call->server->traces) {
        return;
    }
    snprintf(record.trace_id, sizeof record.trace_id, "%.32s", call->trace + 3);
    snprintf(record.span_id, sizeof record.span_id, "%.16s", call->trace + 36);
    snprintf(record.parent_id, sizeof record.parent_id, "%s", call->parent_span);
    snprintf(record.request_id, sizeof record.request_id, "%s", call->request_id);
    if (generation) {
        double outside_ns = (double)taken_ns - generation->timings.total_ms * 1e6;
        record.usage = generation->usage;
        record.timings = generation->timings;
        record.queued_after_ns = outside_ns > 0 ? (uint64_t)(outside_ns / 2) : 0;
        snprintf(record.model, sizeof record.model, "%.63s",
                 generation->model ? generation->model->name : "");
    }
    traces_add(call->server->traces, &record);
}

/* Where a request that has found no model counts: the first one. */
static uint32_t model_of(const struct call *call)
{
    const struct generation *generation = call->generation;
    return generation && generation->model ? generation->model->index : 0;
}

/* Counts what has been answered and gives back what it had taken. Before the last bytes of the
 * answer go out, so that who has read them finds the request counted and its place free. */
void call_settle(struct call *call, bool complete)
{
    struct metrics *metrics = call->server->metrics;
    bool generates = call->route && call->route->generates;
    bool preparing = call->generation && call->generation->preparing;
    if (call->settled) {
        return;
    }
    call->settled = true;
    if (call->counted) {
        key_account_end(call->account);
    }
    if (call->generation && !preparing) {
        generation_release(call->generation);
    }
    if (call->route && call->route->access == ACCESS_OPEN) {
        return;
    }
    if (!complete && generates) {
        metrics_count_finish(metrics, preparing ? 0 : model_of(call), LLCUDA_FINISH_CANCELLED);
    } else if (generates && call->status == 200) {
        metrics_observe(metrics, model_of(call), METRIC_END_TO_END,
                        clock_now_ns() - http_exchange_begin_ns(call->exchange));
    }
    bool refused = call->status == 401 || call->status == 403 || call->status == 429 ||
                   call->status == 503 || call->status == 413;
    metrics_count_request(metrics, call->route ? call->route->path : NO_ROUTE, call->status,
                          refused ? call->error_code : NULL);
}

static void tell(struct call *call, bool complete)
{
    uint64_t taken_ns = clock_now_ns() - http_exchange_begin_ns(call->exchange);
    struct generation *generation = call->generation;
    bool preparing = generation && generation->preparing;
    if (!complete && generation) {
        call->finish_reason = "disconnected";
    }
    if (preparing) { /* the other thread is at work on it: nothing of it can be told */
        call->finish_reason = NULL;
        call->generation = NULL;
    } else if (call->route && call->route->generates) {
        trace_call(call, taken_ns);
    }
    log_call(call, taken_ns);
    call->generation = generation;
}

static void on_end(void *user, struct http_exchange *exchange, bool complete)
{
    struct call *call = http_exchange_attachment(exchange);
    (void)user;
    if (!call) {
        return;
    }
    call_settle(call, complete);
    if (!call->route || call->route->access != ACCESS_OPEN) {
        tell(call, complete);
    }
    generation_destroy(call->generation);
    text_job_destroy(call->text_job);
    buffer_deinit(&call->headers);
    free(call);
}

/* NULL after a plain answer, without memory. */
static struct call *begin_call(struct server *server, struct http_exchange *exchange)
{
    struct call *call = calloc(1, sizeof *call);
    if (!call) {
        http_exchange_respond(exchange, 503, NULL, text_view_of("Retry-After: 1\r\n"),
                              text_view_make(NULL, 0));
        return NULL;
    }
    call->server = server;
    call->exchange = exchange;
    call->request = http_exchange_request(exchange);
    call->account = keys_anonymous(server->keys);
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    call->begin_unix_ns = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
    take_request_id(call);
    take_trace(call);
    http_exchange_attach(exchange, call);
    return call;
}

/* Finds the route and whether it may be used; false after an answer. */
static bool admit(struct call *call)
{
    struct api_error error;
    const char *allowed;
    call->route = route_find(call->request->method, call->request->path, &allowed);
    if (guard_check(call, &error)) {
        if (!allowed) {
            api_error_set(&error, 404, "route_not_found", NULL, "there is no such path here");
        } else if (!call->route) {
            buffer_printf(&call->headers, "Allow: %s\r\n", allowed);
            api_error_set(&error, 405, "method_not_allowed", NULL,
                          "this path does not take that method");
        } else if (call->route->generates && atomic_load(&call->server->draining)) {
            api_error_set(&error, 503, "server_draining", NULL,
                          "the server is shutting down; ask another one");
        } else {
            return true;
        }
    }
    call_fail(call, &error);
    return false;
}

/* One more request of this key, if it may; false after an answer. */
static bool count(struct call *call)
{
    struct api_error error;
    if (!call->route->generates) {
        return true;
    }
    switch (key_account_begin(call->account, &call->retry_after_s)) {
    case KEY_MAY:
        call->counted = true;
        return true;
    case KEY_TOO_MANY:
        api_error_set(&error, 429, "concurrency_limit_exceeded", NULL,
                      "this key has as many requests running as it may");
        break;
    case KEY_TOO_OFTEN:
        api_error_set(&error, 429, "rate_limit_exceeded", NULL,
                      "this key has made as many requests as it may; try again in %u s",
                      call->retry_after_s);
        break;
    }
    call_fail(call, &error);
    return false;
}

static bool on_headers(void *user, struct http_exchange *exchange)
{
    struct call *call = begin_call(user, exchange);
    if (!call || !admit(call)) {
        return false;
    }
    /* The body is still to come: the call begins anew when it is whole. */
    http_exchange_attach(exchange, NULL);
    buffer_deinit(&call->headers);
    free(call);
    return true;
}

static void on_request(void *user, struct http_exchange *exchange)
{
    struct call *call = begin_call(user, exchange);
    if (call && admit(call) && count(call)) {
        call->route->answer(call);
    }
}

static void on_refused(void *user, struct http_exchange *exchange, int status, const char *reason)
{
    struct call *call = begin_call(user, exchange);
    if (call) {
        struct api_error error;
        bool leaving = status == 503 && atomic_load(&call->server->draining);
        api_error_set(&error, status, leaving ? "server_draining" : "invalid_http", NULL, "%s",
                      reason);
        call_fail(call, &error);
    }
}

static struct generation *generation_of(const struct http_exchange *exchange)
{
    const struct call *call = http_exchange_attachment(exchange);
    return call ? call->generation : NULL;
}

static void on_wake(void *user, struct http_exchange *exchange)
{
    struct call *call = http_exchange_attachment(exchange);
    (void)user;
    if (call && call->generation) {
        generation_pull(call->generation);
    } else if (call && call->text_job) {
        text_job_pull(call);
    }
}

static void on_writable(void *user, struct http_exchange *exchange)
{
    (void)user;
    if (generation_of(exchange)) {
        generation_resume(generation_of(exchange));
    }
}

static void on_tick(void *user, struct http_exchange *exchange)
{
    (void)user;
    if (generation_of(exchange)) {
        generation_tick(generation_of(exchange));
    }
}

const struct http_handler call_handler = {
    .on_headers = on_headers,
    .on_request = on_request,
    .on_refused = on_refused,
    .on_wake = on_wake,
    .on_writable = on_writable,
    .on_tick = on_tick,
    .on_end = on_end,
};
