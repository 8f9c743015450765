/* Owns the table of routes, and those that only tell: models, health, version, metrics. */
#include "server/routes.h"

#include <stdlib.h>

#include "base/clock.h"
#include "build_config.h"
#include "server/metrics.h"

#define DEVICES_MAX 16u

/* A configured model; what only an open engine knows is left out otherwise. */
static void write_model(struct json_writer *writer, struct server *server,
                        const struct model_facts *facts)
{
    struct served_model *model;
    struct api_error error;
    json_begin_object(writer);
    json_key(writer, "id");
    json_write_string(writer, facts->name);
    json_key(writer, "object");
    json_write_string(writer, "model");
    json_key(writer, "created");
    json_write_integer(writer, server->started_unix);
    json_key(writer, "owned_by");
    json_write_string(writer, "llcuda");
    json_key(writer, "state");
    json_write_string(writer, model_state_name(facts->state));
    bool open = facts->state == MODEL_READY || facts->state == MODEL_ASLEEP;
    if (open && model_set_take(server->models, text_view_of(facts->name), false, &model, &error)) {
        const llcuda_engine_info *info = llcuda_engine_get_info(model->engine);
        json_key(writer, "max_model_len");
        json_write_unsigned(writer, info->context_length);
        json_key(writer, "meta");
        json_begin_object(writer);
        json_key(writer, "architecture");
        json_write_string(writer, info->architecture);
        json_key(writer, "weight_types");
        json_write_string(writer, info->weight_types);
        json_key(writer, "parameter_count");
        json_write_unsigned(writer, info->parameter_count);
        json_key(writer, "vocabulary_size");
        json_write_unsigned(writer, info->vocabulary_size);
        json_key(writer, "context_length");
        json_write_unsigned(writer, info->context_length);
        json_key(writer, "model_context_length");
        json_write_unsigned(writer, info->model_context_length);
        json_key(writer, "tool_calls");
        json_write_string(writer, tool_format_name(model->facts.tools));
        json_end_object(writer);
        model_set_give(server->models, model, false);
    }
    json_end_object(writer);
}

void respond_written(struct call *call, int status, struct buffer *body)
{
    call_respond_json(call, status, body);
    buffer_deinit(body);
}

static void route_models(struct call *call)
{
    struct buffer body = {0};
    struct json_writer writer;
    json_writer_init(&writer, &body, 0);
    json_begin_object(&writer);
    json_key(&writer, "object");
    json_write_string(&writer, "list");
    json_key(&writer, "data");
    json_begin_array(&writer);
    struct model_facts facts;
    for (uint32_t i = 0; model_set_describe(call->server->models, i, &facts); i++) {
        write_model(&writer, call->server, &facts);
    }
    json_end_array(&writer);
    json_end_object(&writer);
    respond_written(call, 200, &body);
}

/* /v1/models/NAME; a name may be percent-encoded. */
static bool names_model(struct text_view path, const char *name)
{
    static const char digits[] = "0123456789ABCDEF";
    size_t prefix = strlen("/v1/models/");
    size_t i = prefix;
    for (; *name; name++) {
        unsigned char c = (unsigned char)*name;
        if (i < path.length && (unsigned char)path.data[i] == c && c != '%') {
            i++;
        } else if (i + 3 <= path.length && path.data[i] == '%' &&
                   (path.data[i + 1] & 0x5f) == (digits[c >> 4] & 0x5f) &&
                   (path.data[i + 2] & 0x5f) == (digits[c & 15] & 0x5f)) {
            i += 3;
        } else {
            return false;
        }
    }
    return i == path.length;
}

static void route_model(struct call *call)
{
    struct buffer body = {0};
    struct json_writer writer;
    struct api_error error;
    struct model_facts facts;
    for (uint32_t i = 0; model_set_describe(call->server->models, i, &facts); i++) {
        if (names_model(call->request->path, facts.name)) {
            json_writer_init(&writer, &body, 0);
            write_model(&writer, call->server, &facts);
            respond_written(call, 200, &body);
            return;
        }
    }
    api_error_set(&error, 404, "model_not_found", "model",
                  "there is no such model; GET /v1/models lists what is served");
    call_fail(call, &error);
}

static void route_live(struct call *call)
{
    call_respond(call, 200, "text/plain; charset=utf-8", text_view_of("alive\n"));
}

/* Whether requests are welcome, and why not. */
static void route_ready(struct call *call)
{
    struct buffer body = {0};
    struct json_writer writer;
    json_writer_init(&writer, &body, 0);
    bool ready = health_write(call->server->health, &writer);
    if (!ready) {
        buffer_append_text(&call->headers, "Retry-After: 1\r\n");
    }
    respond_written(call, ready ? 200 : 503, &body);
}

static void route_version(struct call *call)
{
    call_respond(call, 200, "application/json",
                 text_view_of("{\"version\":\"" LLCUDA_VERSION "\"}"));
}

static void copy_stats(void *user, const char *name, const llcuda_engine *engine)
{
    struct metrics_model *models = user;
    while (models->name && strcmp(models->name, name) != 0) {
        models++;
    }
    if (models->name) {
        models->stats.size = sizeof models->stats;
        llcuda_engine_get_stats(engine, &models->stats);
    }
}

static void write_metrics(struct server *server, struct metrics_model *models, struct buffer *body)
{
    const struct server_options *options = &server->options;
    struct device_reading devices[DEVICES_MAX];
    struct buffer ignored = {0};
    struct json_writer writer;
    uint32_t count = 0;
    struct model_facts facts;
    for (; model_set_describe(server->models, count, &facts); count++) {
        models[count].name = facts.name;
        models[count].state = facts.state;
    }
    model_set_each(server->models, copy_stats, models);
    json_writer_init(&writer, &ignored, 0);
    struct metrics_gauges gauges = {
        .connections = http_server_connections(server->http),
        .exchanges = http_server_exchanges(server->http),
        .admitted_tokens = atomic_load(&server->admitted_tokens),
        .queue_tokens = atomic_load(&server->queue_tokens),
        .draining = atomic_load(&server->draining),
        .ready = health_write(server->health, &writer),
        .engine_stall_seconds = health_engine_stall_s(server->health),
        .uptime_seconds = (double)(clock_now_ns() - server->started_ns) / 1e9,
        .version = LLCUDA_VERSION,
        .devices = devices,
    };
    buffer_deinit(&ignored);
    if (options->read_devices) {
        gauges.device_count =
            options->read_devices(options->read_devices_user, devices, DEVICES_MAX);
    }
    metrics_write(server->metrics, models, count, &gauges, body);
    if (options->metrics_vllm) {
        metrics_write_vllm(server->metrics, models, count, body);
    }
}

static void route_metrics(struct call *call)
{
    struct server *server = call->server;
    struct buffer body = {0};
    /* One more than there are: an end. */
    struct metrics_model *models = calloc(server->options.model_count + 1, sizeof *models);
    if (models) {
        write_metrics(server, models, &body);
    }
    if (!models || body.failed) {
        struct api_error error;
        api_error_from(&error, LLCUDA_OUT_OF_MEMORY, NULL);
        call_fail(call, &error);
    } else {
        call_respond(call, 200, "text/plain; version=0.0.4; charset=utf-8", buffer_view(&body));
    }
    buffer_deinit(&body);
    free(models);
}

static const struct route routes[] = {
    {"POST", "/v1/chat/completions", ACCESS_USER, true, false, generation_start_chat},
    {"POST", "/v1/completions", ACCESS_USER, true, false, generation_start_completion},
    {"POST", "/v1/responses", ACCESS_USER, true, false, generation_start_responses},
    {"POST", "/v1/embeddings", ACCESS_USER, true, false, generation_start_embeddings},
    {"GET", "/v1/models", ACCESS_USER, false, false, route_models},
    {"GET", "/v1/models/", ACCESS_USER, false, true, route_model}, /* with a name behind it */
    {"POST", "/tokenize", ACCESS_USER, false, false, route_tokenize},
    {"POST", "/detokenize", ACCESS_USER, false, false, route_detokenize},
    {"POST", "/apply-template", ACCESS_USER, false, false, route_apply_template},
    {"GET", "/metrics", ACCESS_USER, false, false, route_metrics},
    {"GET", "/admin/models", ACCESS_ADMIN, false, false, route_admin_models},
    {"POST", "/admin/models/load", ACCESS_ADMIN, false, false, route_admin_load},
    {"POST", "/admin/models/sleep", ACCESS_ADMIN, false, false, route_admin_sleep},
    {"POST", "/admin/models/unload", ACCESS_ADMIN, false, false, route_admin_unload},
    {"GET", "/", ACCESS_OPEN, false, false, route_page_html},
    {"GET", "/page.css", ACCESS_OPEN, false, false, route_page_css},
    {"GET", "/page.js", ACCESS_OPEN, false, false, route_page_js},
    {"GET", "/openapi.json", ACCESS_OPEN, false, false, route_openapi},
    {"GET", "/livez", ACCESS_OPEN, false, false, route_live},
    {"GET", "/readyz", ACCESS_OPEN, false, false, route_ready},
    {"GET", "/startupz", ACCESS_OPEN, false, false, route_ready},
    {"GET", "/health", ACCESS_OPEN, false, false, route_ready},
    {"GET", "/version", ACCESS_OPEN, false, false, route_version},
};

static bool path_fits(const struct route *route, struct text_view path)
{
    size_t length = strlen(route->path);
    if (route->prefix) {
        return path.length > length && memcmp(path.data, route->path, length) == 0;
    }
    return text_view_is(path, route->path);
}

const struct route *route_find(struct text_view method, struct text_view path, const char **allowed)
{
    bool head = text_view_is(method, "HEAD");
    *allowed = NULL;
    for (size_t i = 0; i < sizeof routes / sizeof routes[0]; i++) {
        const struct route *route = &routes[i];
        if (path_fits(route, path)) {
            bool get = strcmp(route->method, "GET") == 0;
            *allowed = get ? "GET, HEAD" : route->method;
            if (text_view_is(method, route->method) || (head && get)) {
                return route;
            }
        }
    }
    return NULL;
}
