/* Owns the service's life: what it is made of, how it is drained and stopped. What happens to a
 * request is in call.c.
 *
 * Threads: the handler functions run on the workers of src/net; server_run on the caller's. They
 * share atomics, the keys and the models (locked) and the metrics (atomic), nothing else. */
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
#include "server/offload.h"
#include "server/server_internal.h"
#include "server/traces.h"

#define LOOK_MS 250
/* What is left after the drain is told of the end; who does not listen is cut off after that. */
#define CUT_LIMIT_NS 3000000000u

void server_options_init(struct server_options *options)
{
    *options = (struct server_options){
        .drain_timeout_ms = 30000, .keep_alive_ms = 10000, .heartbeat_ms = 30000};
    http_server_options_init(&options->http);
    options->http.limits.body_bytes = 16u << 20;
}

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
                         "'%s' can be reached from other machines: give API keys with "
                         "--api-key-file, or say with --no-key that none is wanted",
                         options->http.host);
    }
    return LLCUDA_OK;
}

/* No engine runs before the network is there. */
static void wake_readers(void *user)
{
    const struct server *server = user;
    http_server_wake(server->http);
}

/* What the server is made of, but for the network, which comes last. */
static llcuda_status make_parts(struct server *server, struct llcuda_error *error)
{
    const struct server_options *options = &server->options;
    server->control_descriptor = eventfd(0, EFD_CLOEXEC);
    server->metrics = metrics_create(options->model_count);
    if (!server->metrics || server->control_descriptor < 0) {
        return error_no_memory(error, "the server", sizeof *server);
    }
    llcuda_status status =
        keys_create(options->key_file, options->keys, &options->key_limits, &server->keys, error);
    if (!status) {
        status = check_options(server, error);
    }
    if (!status) {
        const struct model_set_options models = {
            .configs = options->models,
            .count = options->model_count,
            .limit_bytes = options->memory_limit_bytes,
            .idle_ms = options->idle_ms,
            .on_round = wake_readers,
            .on_round_user = server,
        };
        status = model_set_create(&models, &server->models, error);
    }
    if (!status) {
        status = offload_create(&server->offload, error);
    }
    if (!status) {
        status = health_create(server, &server->health, error);
    }
    if (!status && options->trace_url) {
        status = traces_create(options->trace_url, server->metrics, server->id_seed,
                               &server->traces, error);
    }
    return status;
}

static void signal_control(void *user)
{
    const struct server *server = user;
    uint64_t one = 1;
    ssize_t written = write(server->control_descriptor, &one, sizeof one);
    (void)written; /* a full counter wakes as well */
}

llcuda_status server_create(const struct server_options *options, struct server **made,
                            struct llcuda_error *error)
{
    struct server *server = calloc(1, sizeof *server);
    if (!server) {
        return error_no_memory(error, "the server", sizeof *server);
    }
    server->options = *options;
    server->options.http.handler = &call_handler;
    server->options.http.handler_user = server;
    server->started_unix = (int64_t)time(NULL);
    server->started_ns = clock_now_ns();
    server->id_seed = random_seed();
    atomic_store(&server->queue_tokens, options->queue_tokens);
    llcuda_status status = make_parts(server, error);
    if (!status) {
        status = http_server_create(&server->options.http, &server->http, error);
    }
    if (!status) {
        write_address(server);
        status = http_server_start(server->http, error);
    }
    if (!status) {
        status = model_set_start(server->models, signal_control, server, error);
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

void server_first_model(struct server *server, const char **name, uint32_t *context_length)
{
    struct model_facts facts;
    struct served_model *model;
    struct api_error error;
    uint32_t index = 0;
    *name = model_set_first(server->models);
    *context_length = 0;
    while (model_set_describe(server->models, index, &facts) && facts.state != MODEL_READY) {
        index++;
    }
    if (facts.state == MODEL_READY &&
        model_set_take(server->models, text_view_of(facts.name), false, &model, &error)) {
        *name = facts.name;
        *context_length = llcuda_engine_get_info(model->engine)->context_length;
        model_set_give(server->models, model, false);
    }
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

/* The service manager is not to think that a long drain hangs. */
static void beat(const struct server *server)
{
    if (server->options.on_beat) {
        server->options.on_beat(server->options.event_user);
    }
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
        beat(server);
    }
    atomic_store(&server->cutting, true);
    begin_ns = clock_now_ns();
    while (!http_server_drained(server->http) && clock_now_ns() - begin_ns < CUT_LIMIT_NS) {
        sleep_ms(20);
    }
}

/* Sleeps until something is wanted, or a moment has passed. */
static void wait_for_control(struct server *server)
{
    struct pollfd control = {.fd = server->control_descriptor, .events = POLLIN};
    uint64_t count;
    if (poll(&control, 1, LOOK_MS) > 0) {
        ssize_t bytes = read(server->control_descriptor, &count, sizeof count);
        (void)bytes;
    }
}

/* Serves until the end is wanted, or a model that must be there cannot be loaded. */
static llcuda_status watch(struct server *server, struct llcuda_error *error)
{
    const struct server_options *options = &server->options;
    bool announced = false;
    while (!atomic_load(&server->stop_wanted)) {
        bool failed = false;
        wait_for_control(server);
        if (atomic_exchange(&server->reload_wanted, false)) {
            reload(server);
        }
        struct llcuda_error failure = {0};
        bool ready = announced || model_set_ready(server->models, &failed, &failure);
        if (failed && !ready) {
            return error_set(error, failure.status, "%s", failure.message);
        }
        if (ready && !announced && options->on_ready) {
            options->on_ready(options->event_user);
        }
        announced = ready;
        health_look(server->health);
        if (options->on_beat && health_is_good(server->health)) {
            options->on_beat(options->event_user);
        }
    }
    return LLCUDA_OK;
}

llcuda_status server_run(struct server *server, struct llcuda_error *error)
{
    llcuda_status status = watch(server, error);
    drain(server);
    http_server_stop(server->http);
    return status;
}

/* In this order: jobs use models; engines may still wake requests that have been given back, whose
 * wakers belong to the network. */
void server_destroy(struct server *server)
{
    if (!server) {
        return;
    }
    if (server->http) {
        http_server_stop(server->http);
    }
    offload_destroy(server->offload);
    model_set_destroy(server->models);
    http_server_destroy(server->http);
    traces_destroy(server->traces);
    health_destroy(server->health);
    keys_destroy(server->keys);
    metrics_destroy(server->metrics);
    if (server->control_descriptor >= 0) {
        close(server->control_descriptor);
    }
    free(server);
}
