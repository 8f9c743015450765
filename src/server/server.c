/* Owns the service's life, and what happens to each request from its arrival to its log line.
 *
 * Threads: the handler functions run on the workers of src/net; server_run on the caller's. They
 * share atomics, the keys (locked) and the metrics (atomic), nothing else. */
#include "server/server.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/random.h"
#include "server/keys.h"
#include "server/metrics.h"
#include "server/server_internal.h"

#define NO_ROUTE "other"

void server_options_init(struct server_options *options)
{
    *options = (struct server_options){.drain_timeout_ms = 30000, .keep_alive_ms = 10000};
    http_server_options_init(&options->http);
    options->http.limits.body_bytes = 16u << 20;
}

/* ------------------------------------------------------------------ a call's life */

static bool is_hex(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
}

/* W3C trace context: the client's trace goes on with a span of ours; anything malformed is as if it
 * were not there. */
static void take_trace(struct call *call)
{
    struct text_view value = http_request_header(call->request, "traceparent");
    static const char zeros[] = "00000000000000000000000000000000";
    char span[25];
    if (value.length != 55 || memcmp(value.data, "00-", 3) != 0 ||
        memcmp(value.data + 3, zeros, 32) == 0 || memcmp(value.data + 36, zeros, 16) == 0) {
        return;
    }
    for (size_t i = 0; i < value.length; i++) {
        bool dash = i == 2 || i == 35 || i == 52;
        if (dash ? value.data[i] != '-' : !is_hex(value.data[i])) {
            return;
        }
    }
    server_make_id(call->server, span);
    memcpy(call->trace, value.data, 36);
    memcpy(call->trace + 36, span, 16);
    memcpy(call->trace + 52, value.data + 52, 3);
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

/* Neither prompts nor answers, nor queries, which may hold what is nobody's business. */
static void log_call(const struct call *call, uint64_t taken_ns)
{
    const struct server_options *options = &call->server->options;
    struct buffer line = {0};
    struct json_writer writer;
    if (!options->access_log) {
        return;
    }
    json_writer_init(&writer, &line, 0);
    json_begin_object(&writer);
    write_log_time(&writer);
    write_key_text(&writer, "request_id", text_view_of(call->request_id));
    write_key_text(&writer, "peer", text_view_of(http_exchange_peer(call->exchange)));
    write_key_text(&writer, "method", call->request->method);
    write_key_text(&writer, "path", call->request->path);
    json_key(&writer, "status");
    json_write_integer(&writer, call->status);
    json_key(&writer, "duration_ms");
    json_write_number(&writer, (double)(taken_ns / 1000) / 1000);
    json_key(&writer, "bytes");
    json_write_unsigned(&writer, http_exchange_sent_bytes(call->exchange));
    if (call->finish_reason) {
        write_key_text(&writer, "finish_reason", text_view_of(call->finish_reason));
        json_key(&writer, "prompt_tokens");
        json_write_unsigned(&writer, call->prompt_tokens);
        json_key(&writer, "completion_tokens");
        json_write_unsigned(&writer, call->completion_tokens);
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

static void on_end(void *user, struct http_exchange *exchange, bool complete)
{
    struct server *server = user;
    struct call *call = http_exchange_attachment(exchange);
    if (!call) {
        return;
    }
    uint64_t taken_ns = clock_now_ns() - http_exchange_begin_ns(exchange);
    bool probe = call->route && call->route->access == ACCESS_OPEN;
    if (!complete && call->generation) {
        call->finish_reason = "disconnected";
    }
    if (!probe) {
        metrics_count_request(server->metrics, call->route ? call->route->path : NO_ROUTE,
                              call->status);
        log_call(call, taken_ns);
    }
    if (call->route && call->route->generates && complete && call->status == 200) {
        metrics_observe(server->metrics, METRIC_END_TO_END, taken_ns);
    }
    generation_destroy(call->generation);
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
    take_request_id(call);
    take_trace(call);
    http_exchange_attach(exchange, call);
    return call;
}

/* Finds the route and whether it may be used; false after an answer. */
static bool admit(struct call *call)
{
    struct api_error error;
    bool path_known = false;
    call->route = route_find(call->request->method, call->request->path, &path_known);
    if (guard_check(call, &error)) {
        if (!path_known) {
            api_error_set(&error, 404, "route_not_found", NULL, "there is no such path here");
        } else if (!call->route) {
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
    if (call && admit(call)) {
        call->route->answer(call);
    }
}

static void on_refused(void *user, struct http_exchange *exchange, int status, const char *reason)
{
    struct call *call = begin_call(user, exchange);
    if (call) {
        struct api_error error;
        api_error_set(&error, status, "invalid_http", NULL, "%s", reason);
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
    (void)user;
    if (generation_of(exchange)) {
        generation_pull(generation_of(exchange));
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

static const struct http_handler handler = {
    .on_headers = on_headers,
    .on_request = on_request,
    .on_refused = on_refused,
    .on_wake = on_wake,
    .on_writable = on_writable,
    .on_tick = on_tick,
    .on_end = on_end,
};

/* ------------------------------------------------------------------ the server's life */

static void write_address(struct server *server)
{
    const struct http_server_options *http = &server->options.http;
    if (http->unix_path) {
        snprintf(server->address, sizeof server->address, "unix:%s", http->unix_path);
        return;
    }
    bool six = strchr(http->host, ':') != NULL;
    snprintf(server->address, sizeof server->address, "%s://%s%.200s%s:%u",
             http->tls_certificate ? "https" : "http", six ? "[" : "", http->host, six ? "]" : "",
             http_server_port(server->http));
}

static llcuda_status check_options(const struct server *server, struct llcuda_error *error)
{
    const struct server_options *options = &server->options;
    if (!options->http.unix_path && !options->open && keys_empty(server->keys) &&
        !guard_is_loopback(options->http.host)) {
        return error_set(error, LLCUDA_REFUSED,
                         "'%s' can be reached from other machines: configure an API key, or say "
                         "that none is wanted",
                         options->http.host);
    }
    return LLCUDA_OK;
}

llcuda_status server_create(const struct server_options *options, llcuda_engine *engine,
                            struct server **made, struct llcuda_error *error)
{
    struct server *server = calloc(1, sizeof *server);
    if (!server) {
        return error_no_memory(error, "the server", sizeof *server);
    }
    const char *name = options->model_name;
    server->options = *options;
    server->options.http.handler = &handler;
    server->options.http.handler_user = server;
    server->engine = engine;
    server->started_unix = (int64_t)time(NULL);
    server->started_ns = clock_now_ns();
    server->id_seed = random_seed();
    server->control_descriptor = eventfd(0, EFD_CLOEXEC);
    server->model_name = strdup(name ? name : llcuda_engine_get_info(engine)->model_name);
    server->metrics = metrics_create();
    llcuda_status status = LLCUDA_OK;
    if (!server->model_name || !server->metrics || server->control_descriptor < 0) {
        status = error_no_memory(error, "the server", sizeof *server);
    }
    if (!status) {
        status = keys_create(options->key_file, options->keys, &server->keys, error);
    }
    if (!status) {
        status = check_options(server, error);
    }
    if (!status) {
        status = http_server_create(&server->options.http, &server->http, error);
    }
    if (!status) {
        write_address(server);
        status = http_server_start(server->http, error);
    }
    if (status) {
        server_destroy(server);
        return status;
    }
    *made = server;
    return LLCUDA_OK;
}

const char *server_address(const struct server *server)
{
    return server->address;
}

const char *server_model_name(const struct server *server)
{
    return server->model_name;
}

static void signal_control(struct server *server)
{
    uint64_t one = 1;
    ssize_t written = write(server->control_descriptor, &one, sizeof one);
    (void)written; /* a full counter wakes as well */
}

void server_stop(struct server *server)
{
    atomic_store(&server->stop_wanted, true);
    signal_control(server);
}

void server_reload(struct server *server)
{
    atomic_store(&server->reload_wanted, true);
    signal_control(server);
}

/* A reload that fails keeps the old keys; it is told in the access log, where operators look. */
static void reload(struct server *server)
{
    struct llcuda_error error = {0};
    const struct server_options *options = &server->options;
    if (keys_reload(server->keys, &error) != LLCUDA_OK && options->access_log) {
        struct buffer line = {0};
        buffer_append_text(&line, "{\"event\":\"reload_failed\",\"message\":");
        json_quote(&line, text_view_of(error.message));
        buffer_append_byte(&line, '}');
        options->access_log(options->access_log_user, buffer_text(&line), line.length);
        buffer_deinit(&line);
    }
}

static void sleep_ms(long milliseconds)
{
    const struct timespec pause = {.tv_sec = milliseconds / 1000,
                                   .tv_nsec = milliseconds % 1000 * 1000000};
    nanosleep(&pause, NULL);
}

/* Readiness off, then wait for what runs; then cut what is left, and give that a moment to leave.
 */
static void drain(struct server *server)
{
    uint64_t begin_ns = clock_now_ns();
    uint64_t limit_ns = (uint64_t)server->options.drain_timeout_ms * 1000000u;
    atomic_store(&server->draining, true);
    http_server_drain(server->http);
    while (http_server_exchanges(server->http) > 0 && clock_now_ns() - begin_ns < limit_ns) {
        sleep_ms(20);
    }
    atomic_store(&server->cutting, true);
    begin_ns = clock_now_ns();
    while (http_server_connections(server->http) > 0 && clock_now_ns() - begin_ns < 2000000000u) {
        sleep_ms(20);
    }
}

void server_run(struct server *server)
{
    while (!atomic_load(&server->stop_wanted)) {
        uint64_t count;
        if (read(server->control_descriptor, &count, sizeof count) < 0 && errno != EINTR) {
            break;
        }
        if (atomic_exchange(&server->reload_wanted, false)) {
            reload(server);
        }
    }
    drain(server);
    http_server_stop(server->http);
}

void server_destroy(struct server *server)
{
    if (!server) {
        return;
    }
    http_server_destroy(server->http);
    keys_destroy(server->keys);
    metrics_destroy(server->metrics);
    if (server->control_descriptor >= 0) {
        close(server->control_descriptor);
    }
    free(server->model_name);
    free(server);
}
