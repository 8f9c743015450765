/* `llcuda serve`: models behind HTTP, until a signal. */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "cli/serve_devices.h"
#include "cli/serve_models.h"

/* Loading that takes longer is announced. */
#define LOADING_IS_SLOW_NS 1000000000u

/* Tells the service manager, where there is one: a datagram to the socket that it names. */
static void notify_manager(const char *text)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = path ? strlen(path) : 0;
    if (length < 2 || length >= sizeof address.sun_path) {
        return;
    }
    memcpy(address.sun_path, path, length);
    if (path[0] == '@') {
        address.sun_path[0] = 0; /* an abstract name */
    }
    int descriptor = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (descriptor >= 0) {
        ssize_t sent =
            sendto(descriptor, text, strlen(text), MSG_NOSIGNAL, (const struct sockaddr *)&address,
                   (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length));
        (void)sent; /* a manager that does not listen is no reason to stop */
        close(descriptor);
    }
}

/* Each connection is a descriptor: take as many as the system lets us. */
static void raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static void write_access(void *user, const char *line, size_t bytes)
{
    FILE *log = user;
    flockfile(log);
    fwrite(line, 1, bytes, log);
    fputc('\n', log);
    fflush(log);
    funlockfile(log);
}

static int open_access_log(struct options *options, struct server_options *server_options)
{
    const char *path = option_text(options, OPTION_ACCESS_LOG);
    struct llcuda_error error = {0};
    if (!path) {
        return EXIT_DONE;
    }
    FILE *log = strcmp(path, "-") == 0 ? stderr : fopen(path, "ae");
    if (!log) {
        error_set(&error, LLCUDA_IO, "cannot write the access log '%s': %m", path);
        return console_fail(options, &error);
    }
    server_options->access_log = write_access;
    server_options->access_log_user = log;
    return EXIT_DONE;
}

static void close_access_log(const struct server_options *server_options)
{
    FILE *log = server_options->access_log_user;
    if (log && log != stderr) {
        fclose(log);
    }
}

static int read_options(struct options *options, struct server_options *server_options)
{
    struct http_server_options *http = &server_options->http;
    const char *compat = option_text(options, OPTION_METRICS_COMPAT);
    const char *collector = option_text(options, OPTION_OTLP_ENDPOINT);
    server_options_init(server_options);
    http->host = option_text(options, OPTION_HOST);
    http->port = (uint16_t)option_integer(options, OPTION_PORT, 8090);
    http->unix_path = option_text(options, OPTION_SOCKET);
    http->tls_certificate = option_text(options, OPTION_TLS_CERT);
    http->tls_key = option_text(options, OPTION_TLS_KEY);
    http->worker_count = (uint32_t)option_integer(options, OPTION_WORKERS, 2);
    http->connection_max = (uint32_t)option_integer(options, OPTION_CONNECTION_MAX, 16384);
    server_options->memory_limit_bytes =
        (uint64_t)(option_number(options, OPTION_MEMORY_LIMIT, 0) * 1073741824.0);
    server_options->idle_ms = (uint64_t)(option_number(options, OPTION_SLEEP_IDLE, 0) * 1000);
    server_options->allowed_hosts = option_text(options, OPTION_ALLOW_HOST);
    server_options->key_file = option_text(options, OPTION_API_KEY_FILE);
    server_options->keys = option_text(options, OPTION_API_KEY);
    server_options->key_limits = (struct key_limits){
        .concurrency = (uint32_t)option_integer(options, OPTION_KEY_CONCURRENCY, 0),
        .rate = (uint32_t)option_integer(options, OPTION_KEY_RATE, 0)};
    server_options->queue_tokens = (uint64_t)option_number(options, OPTION_QUEUE_TOKENS, 0);
    server_options->request_timeout_ms =
        (uint64_t)(option_number(options, OPTION_REQUEST_TIMEOUT, 0) * 1000);
    server_options->open = option_flag(options, OPTION_NO_KEY);
    server_options->log_prompts = option_flag(options, OPTION_LOG_PROMPTS);
    server_options->metrics_vllm = compat != NULL;
    server_options->heartbeat_ms =
        (uint32_t)(option_number(options, OPTION_HEARTBEAT_TIMEOUT, 30) * 1000);
    server_options->drain_timeout_ms =
        (uint32_t)(option_number(options, OPTION_DRAIN_TIMEOUT, 30) * 1000);
    if (compat && strcmp(compat, "vllm") != 0) {
        return console_usage(options->command, "--metrics-compat knows vllm, not '%s'", compat);
    }
    if ((http->tls_certificate == NULL) != (http->tls_key == NULL)) {
        return console_usage(options->command, "--tls-cert and --tls-key go together");
    }
    if (collector) {
        struct buffer url = {0};
        size_t length = strlen(collector);
        bool slash = length > 1 && collector[length - 1] == '/' && collector[length - 2] != '/';
        buffer_printf(&url, "%s%s", collector, slash ? "v1/traces" : "/v1/traces");
        server_options->trace_url = arena_copy_text(&options->arena, buffer_view(&url)).data;
        buffer_deinit(&url);
    }
    return EXIT_DONE;
}

/* What happens while the server runs, for people and for the service manager. */
struct watcher {
    struct server *server;
    uint64_t started_ns;
    uint64_t told_ns;        /* the manager, last */
    uint64_t tell_period_ns; /* it wants to hear so often */
    bool ready;
    bool said_loading;
};

static void stop(void *user)
{
    server_stop(user);
}

static void reload(void *user)
{
    server_reload(user);
}

/* WATCHDOG_USEC, where it is meant for this process; half of it, as the manager advises. */
static uint64_t watchdog_period_ns(void)
{
    const char *period = getenv("WATCHDOG_USEC");
    const char *process = getenv("WATCHDOG_PID");
    double microseconds = period ? strtod(period, NULL) : 0;
    bool ours = !process || (pid_t)strtod(process, NULL) == getpid();
    return ours && microseconds >= 2 && microseconds < 1e12 ? (uint64_t)(microseconds * 500) : 0;
}

static void on_ready(void *user)
{
    struct watcher *watcher = user;
    const char *name;
    uint32_t context_length;
    watcher->ready = true;
    server_first_model(watcher->server, &name, &context_length);
    fprintf(stderr, "llcuda serve: %s, model '%s', context %u\n", server_address(watcher->server),
            name, context_length);
    notify_manager("READY=1\nSTATUS=serving\n");
}

static void on_beat(void *user)
{
    struct watcher *watcher = user;
    uint64_t now_ns = clock_now_ns();
    if (!watcher->ready && !watcher->said_loading &&
        now_ns - watcher->started_ns > LOADING_IS_SLOW_NS) {
        const char *name;
        uint32_t context_length;
        watcher->said_loading = true;
        server_first_model(watcher->server, &name, &context_length);
        fprintf(stderr, "llcuda serve: %s, loading '%s'\n", server_address(watcher->server), name);
    }
    if (watcher->tell_period_ns > 0 && now_ns - watcher->told_ns > watcher->tell_period_ns) {
        watcher->told_ns = now_ns;
        notify_manager("WATCHDOG=1\n");
    }
    if (!watcher->ready && now_ns - watcher->told_ns > 1000000000u) {
        watcher->told_ns = now_ns;
        notify_manager("EXTEND_TIMEOUT_USEC=30000000\nSTATUS=loading\n");
    }
}

static int serve(const struct options *options, struct server_options *server_options)
{
    struct llcuda_error error = {0};
    struct watcher watcher = {.started_ns = clock_now_ns(), .tell_period_ns = watchdog_period_ns()};
    server_options->on_ready = on_ready;
    server_options->on_beat = on_beat;
    server_options->event_user = &watcher;
    if (server_create(server_options, &watcher.server, &error) != LLCUDA_OK) {
        return console_fail(options, &error);
    }
    console_watch_signals(stop, reload, watcher.server);
    llcuda_status status = server_run(watcher.server, &error);
    notify_manager("STOPPING=1\n");
    console_watch_signals(NULL, NULL, NULL);
    server_destroy(watcher.server);
    return status ? console_fail(options, &error) : EXIT_DONE;
}

int command_serve(struct options *options)
{
    struct server_options server_options;
    struct serve_models models = {0};
    struct log_sink log;
    if (options->argument_count) {
        return console_usage(options->command, "'%s' is not expected here; the model goes to -m",
                             options->arguments[0]);
    }
    int result = read_options(options, &server_options);
    raise_descriptor_limit();
    if (!result) {
        result = open_access_log(options, &server_options);
    }
    if (!result) {
        result = serve_models_read(&models, options);
    }
    if (!result && !console_log_sink(options, &log)) {
        result = EXIT_USAGE;
    }
    if (!result) {
        struct serve_devices *devices = serve_devices_open(models.configs, models.count, &log);
        server_options.models = models.configs;
        server_options.model_count = models.count;
        server_options.read_devices = devices ? serve_devices_read : NULL;
        server_options.read_devices_user = devices;
        result = serve(options, &server_options);
        serve_devices_close(devices);
    }
    serve_models_deinit(&models);
    close_access_log(&server_options);
    return result;
}
