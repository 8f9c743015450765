/* Owns the table of routes, and those that only tell: models, health, version, metrics. */
#include "server/routes.h"

#include "base/clock.h"
#include "build_config.h"
#include "server/metrics.h"

static void write_model(struct json_writer *writer, const struct server *server)
{
    const llcuda_engine_info *info = llcuda_engine_get_info(server->engine);
    json_begin_object(writer);
    json_key(writer, "id");
    json_write_string(writer, server->model_name);
    json_key(writer, "object");
    json_write_string(writer, "model");
    json_key(writer, "created");
    json_write_integer(writer, server->started_unix);
    json_key(writer, "owned_by");
    json_write_string(writer, "llcuda");
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
    json_end_object(writer);
    json_end_object(writer);
}

static void respond_written(struct call *call, int status, struct buffer *body)
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
    write_model(&writer, call->server);
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
    if (!names_model(call->request->path, call->server->model_name)) {
        api_error_set(&error, 404, "model_not_found", "model",
                      "there is no such model; '%s' is "
                      "served",
                      call->server->model_name);
        call_fail(call, &error);
        return;
    }
    json_writer_init(&writer, &body, 0);
    write_model(&writer, call->server);
    respond_written(call, 200, &body);
}

static void route_live(struct call *call)
{
    call_respond(call, 200, "text/plain; charset=utf-8", text_view_of("alive\n"));
}

/* Ready: not draining. The model is loaded before the server listens. */
static void route_ready(struct call *call)
{
    bool draining = atomic_load(&call->server->draining);
    struct text_view body = text_view_of(draining ? "draining\n" : "ready\n");
    call_respond(call, draining ? 503 : 200, "text/plain; charset=utf-8", body);
}

static void route_health(struct call *call)
{
    bool draining = atomic_load(&call->server->draining);
    struct text_view body =
        text_view_of(draining ? "{\"status\":\"draining\"}" : "{\"status\":\"ok\"}");
    call_respond(call, draining ? 503 : 200, "application/json", body);
}

static void route_version(struct call *call)
{
    call_respond(call, 200, "application/json",
                 text_view_of("{\"version\":\"" LLCUDA_VERSION "\"}"));
}

static void route_metrics(struct call *call)
{
    struct server *server = call->server;
    struct buffer body = {0};
    llcuda_stats stats = {.size = sizeof stats};
    const struct metrics_gauges gauges = {
        .connections = http_server_connections(server->http),
        .exchanges = http_server_exchanges(server->http),
        .draining = atomic_load(&server->draining),
        .uptime_seconds = (double)(clock_now_ns() - server->started_ns) / 1e9,
        .model_name = server->model_name,
        .version = LLCUDA_VERSION,
    };
    llcuda_engine_get_stats(server->engine, &stats);
    metrics_write(server->metrics, &stats, &gauges, &body);
    call_respond(call, 200, "text/plain; version=0.0.4; charset=utf-8", buffer_view(&body));
    buffer_deinit(&body);
}

/* Paths that clients try, with the reason why they get nothing. */
static void route_embeddings(struct call *call)
{
    struct api_error error;
    api_error_set(&error, 501, "unsupported", NULL,
                  "embeddings are not supported: the engine gives tokens, no hidden states");
    call_fail(call, &error);
}

static const struct route routes[] = {
    {"POST", "/v1/chat/completions", ACCESS_USER, true, generation_start_chat},
    {"POST", "/v1/completions", ACCESS_USER, true, generation_start_completion},
    {"POST", "/v1/embeddings", ACCESS_USER, false, route_embeddings},
    {"GET", "/v1/models", ACCESS_USER, false, route_models},
    {"GET", "/v1/models/", ACCESS_USER, false, route_model}, /* with a name behind it */
    {"POST", "/tokenize", ACCESS_USER, false, route_tokenize},
    {"POST", "/detokenize", ACCESS_USER, false, route_detokenize},
    {"POST", "/apply-template", ACCESS_USER, false, route_apply_template},
    {"GET", "/metrics", ACCESS_USER, false, route_metrics},
    {"GET", "/", ACCESS_OPEN, false, route_page_html},
    {"GET", "/page.css", ACCESS_OPEN, false, route_page_css},
    {"GET", "/page.js", ACCESS_OPEN, false, route_page_js},
    {"GET", "/livez", ACCESS_OPEN, false, route_live},
    {"GET", "/readyz", ACCESS_OPEN, false, route_ready},
    {"GET", "/health", ACCESS_OPEN, false, route_health},
    {"GET", "/version", ACCESS_OPEN, false, route_version},
};

static bool path_fits(const struct route *route, struct text_view path)
{
    size_t length = strlen(route->path);
    if (route->answer == route_model) {
        return path.length > length && memcmp(path.data, route->path, length) == 0;
    }
    return text_view_is(path, route->path);
}

const struct route *route_find(struct text_view method, struct text_view path, bool *path_known)
{
    bool head = text_view_is(method, "HEAD");
    *path_known = false;
    for (size_t i = 0; i < sizeof routes / sizeof routes[0]; i++) {
        const struct route *route = &routes[i];
        if (path_fits(route, path)) {
            *path_known = true;
            if (text_view_is(method, route->method) ||
                (head && strcmp(route->method, "GET") == 0)) {
                return route;
            }
        }
    }
    return NULL;
}
