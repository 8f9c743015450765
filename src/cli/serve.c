/* `llcuda serve`: the engine behind HTTP, until a signal. */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "cli/open.h"
#include "server/server.h"

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

static void read_options(const struct options *options, struct server_options *server_options)
{
    struct http_server_options *http = &server_options->http;
    server_options_init(server_options);
    http->host = option_text(options, OPTION_HOST);
    http->port = (uint16_t)option_integer(options, OPTION_PORT, 8080);
    http->unix_path = option_text(options, OPTION_SOCKET);
    http->tls_certificate = option_text(options, OPTION_TLS_CERT);
    http->tls_key = option_text(options, OPTION_TLS_KEY);
    http->worker_count = (uint32_t)option_integer(options, OPTION_WORKERS, 2);
    http->connection_max = (uint32_t)option_integer(options, OPTION_CONNECTION_MAX, 16384);
    server_options->model_name = option_text(options, OPTION_ALIAS);
    server_options->allowed_hosts = option_text(options, OPTION_ALLOW_HOST);
    server_options->key_file = option_text(options, OPTION_API_KEY_FILE);
    server_options->keys = option_text(options, OPTION_API_KEY);
    server_options->open = option_flag(options, OPTION_NO_KEY);
    server_options->drain_timeout_ms =
        (uint32_t)(option_number(options, OPTION_DRAIN_TIMEOUT, 30) * 1000);
}

static void stop(void *user)
{
    server_stop(user);
}

static void reload(void *user)
{
    server_reload(user);
}

static int serve(const struct options *options, const struct server_options *server_options,
                 llcuda_engine *engine, struct server **server)
{
    struct llcuda_error error = {0};
    if (server_create(server_options, engine, server, &error) != LLCUDA_OK) {
        return console_fail(options, &error);
    }
    fprintf(stderr, "llcuda serve: %s, model '%s', context %u\n", server_address(*server),
            server_model_name(*server), llcuda_engine_get_info(engine)->context_length);
    console_watch_signals(stop, reload, *server);
    notify_manager("READY=1\nSTATUS=serving\n");
    server_run(*server);
    notify_manager("STOPPING=1\n");
    console_watch_signals(NULL, NULL, NULL);
    return EXIT_DONE;
}

int command_serve(struct options *options)
{
    struct server_options server_options;
    struct server *server = NULL;
    llcuda_engine *engine = NULL;
    if (options->argument_count) {
        return console_usage(options->command, "'%s' is not expected here; the model goes to -m",
                             options->arguments[0]);
    }
    read_options(options, &server_options);
    if ((server_options.http.tls_certificate == NULL) != (server_options.http.tls_key == NULL)) {
        return console_usage(options->command, "--tls-cert and --tls-key go together");
    }
    raise_descriptor_limit();
    int result = open_access_log(options, &server_options);
    if (!result) {
        result = open_engine(options, false, &engine);
    }
    if (!result) {
        result = serve(options, &server_options, engine, &server);
    }
    /* In this order: the engine may still wake requests that the server has given back. */
    llcuda_engine_close(engine);
    server_destroy(server);
    close_access_log(&server_options);
    return result;
}
