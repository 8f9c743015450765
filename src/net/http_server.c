/* Owns the server as a whole: the listening socket, the workers, draining and stopping. */
#include "net/http_server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/thread.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "net/http_internal.h"

void http_server_options_init(struct http_server_options *options)
{
    *options = (struct http_server_options){
        .host = "127.0.0.1",
        .port = 8090,
        .worker_count = 2,
        .connection_max = 16384,
        .limits = http_limits_default,
        .header_timeout_ms = 10000,
        .body_timeout_ms = 20000,
        .idle_timeout_ms = 75000,
        .write_timeout_ms = 30000,
        .output_bytes = 256u << 10,
    };
}

/* ------------------------------------------------------------------ accepting */

static void write_peer(const struct sockaddr *address, char peer[PEER_BYTES])
{
    const void *bytes = NULL;
    if (address->sa_family == AF_INET) {
        bytes = &((const struct sockaddr_in *)(const void *)address)->sin_addr;
    } else if (address->sa_family == AF_INET6) {
        bytes = &((const struct sockaddr_in6 *)(const void *)address)->sin6_addr;
    }
    if (!bytes || !inet_ntop(address->sa_family, bytes, peer, PEER_BYTES)) {
        memcpy(peer, "unix", sizeof "unix");
    }
}

/* Above the limit a client is told so in plain HTTP and let go: there is no room for a reader. */
static void turn_away(struct http_server *server, int descriptor)
{
    static const char answer[] = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\n"
                                 "Content-Length: 0\r\nConnection: close\r\n\r\n";
    if (!server->tls) {
        ssize_t sent = send(descriptor, answer, sizeof answer - 1, MSG_DONTWAIT | MSG_NOSIGNAL);
        (void)sent; /* nothing to be done about a client that cannot even take this */
    }
    close(descriptor);
}

static void take_connection(struct http_server *server, int descriptor,
                            const struct sockaddr *address)
{
    struct accepted accepted = {.descriptor = descriptor};
    write_peer(address, accepted.peer);
    if (address->sa_family != AF_UNIX) {
        int one = 1;
        setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    }
    if (atomic_fetch_add(&server->connection_count, 1) >= server->options.connection_max) {
        atomic_fetch_sub(&server->connection_count, 1);
        turn_away(server, descriptor);
        return;
    }
    struct worker *worker = &server->workers[server->next_worker++ % server->worker_count];
    if (worker == server->workers) { /* this very thread's: nobody has to be woken */
        connection_open(worker, &accepted);
    } else if (!worker_give(worker, &accepted)) {
        atomic_fetch_sub(&server->connection_count, 1);
        turn_away(server, descriptor);
    }
}

static void on_accept(struct evconnlistener *listener, evutil_socket_t descriptor,
                      struct sockaddr *address, int address_bytes, void *user)
{
    (void)listener;
    (void)address_bytes;
    take_connection(user, descriptor, address);
}

/* Mostly: no descriptors are left. Trying again at once would only burn the processor. */
static void on_accept_error(struct evconnlistener *listener, void *user)
{
    struct http_server *server = user;
    evconnlistener_disable(listener);
    server->listener_paused = true;
}

/* Closing the socket resets the connections that wait to be accepted, whose clients may have sent
 * their requests: these are taken first. */
static void stop_listening(struct http_server *server)
{
    for (;;) {
        struct sockaddr_storage address = {0};
        socklen_t bytes = sizeof address;
        int descriptor = accept4(server->listen_descriptor, (struct sockaddr *)&address, &bytes,
                                 SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (descriptor >= 0) {
            take_connection(server, descriptor, (const struct sockaddr *)&address);
        } else if (errno != ECONNABORTED && errno != EINTR) {
            break;
        }
    }
    evconnlistener_free(server->listener);
    server->listener = NULL;
    server->listen_descriptor = -1;
    atomic_store(&server->closed, true);
}

void http_server_look_at_listener(struct http_server *server)
{
    if (server->listener && atomic_load(&server->draining_ns)) {
        stop_listening(server);
    } else if (server->listener && server->listener_paused) {
        server->listener_paused = false;
        evconnlistener_enable(server->listener);
    }
}

/* ------------------------------------------------------------------ listening */

static llcuda_status listen_unix(struct http_server *server, const char *path,
                                 struct llcuda_error *error)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct stat there;
    if (strlen(path) >= sizeof address.sun_path) {
        return error_set(error, LLCUDA_INVALID_ARGUMENT, "the socket path '%s' is too long", path);
    }
    memcpy(address.sun_path, path, strlen(path) + 1);
    int descriptor = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (descriptor < 0) {
        return error_from_errno(error, errno, "make the socket", path);
    }
    server->listen_descriptor = descriptor;
    if (lstat(path, &there) == 0) {
        if (!S_ISSOCK(there.st_mode)) {
            return error_set(error, LLCUDA_IO, "'%s' is there and no socket: choose another path",
                             path);
        }
        /* A socket that nobody answers on is left over from a crash. Anything else stays. */
        if (connect(descriptor, (struct sockaddr *)&address, sizeof address) == 0 ||
            errno != ECONNREFUSED) { /* such as a queue of connections that is full */
            return error_set(error, LLCUDA_IO, "'%s' is in use by another server", path);
        }
        unlink(path);
    }
    /* The mode is set before anybody can connect: bound, restricted, then listened on. */
    if (bind(descriptor, (struct sockaddr *)&address, sizeof address) != 0 ||
        chmod(path, S_IRUSR | S_IWUSR) != 0) {
        return error_from_errno(error, errno, "listen on", path);
    }
    server->unix_bound = true;
    return LLCUDA_OK;
}

static llcuda_status listen_failed(const struct http_server *server, int reason,
                                   struct llcuda_error *error)
{
    const struct http_server_options *options = &server->options;
    char address[300];
    snprintf(address, sizeof address, "%.255s:%u", options->host, options->port);
    return error_from_errno(error, reason, "listen on",
                            options->unix_path ? options->unix_path : address);
}

static llcuda_status bind_address(struct http_server *server, const struct addrinfo *address,
                                  struct llcuda_error *error)
{
    int one = 1;
    int descriptor = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (descriptor < 0) {
        return error_from_errno(error, errno, "make a socket for", server->options.host);
    }
    server->listen_descriptor = descriptor;
    setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(descriptor, address->ai_addr, address->ai_addrlen) != 0) {
        return listen_failed(server, errno, error);
    }
    struct sockaddr_storage bound;
    socklen_t bytes = sizeof bound;
    if (getsockname(descriptor, (struct sockaddr *)&bound, &bytes) == 0) {
        server->port =
            ntohs(bound.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)(void *)&bound)->sin6_port
                                              : ((struct sockaddr_in *)(void *)&bound)->sin_port);
    }
    return LLCUDA_OK;
}

static llcuda_status listen_tcp(struct http_server *server, struct llcuda_error *error)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    char port[8];
    snprintf(port, sizeof port, "%u", server->options.port);
    int failure = getaddrinfo(server->options.host, port, &hints, &found);
    if (failure != 0) {
        return error_set(error, LLCUDA_INVALID_ARGUMENT, "cannot listen on '%s': %s",
                         server->options.host, gai_strerror(failure));
    }
    llcuda_status status = bind_address(server, found, error);
    freeaddrinfo(found);
    return status;
}

static llcuda_status start_listening(struct http_server *server, struct llcuda_error *error)
{
    const struct http_server_options *options = &server->options;
    llcuda_status status = options->unix_path ? listen_unix(server, options->unix_path, error)
                                              : listen_tcp(server, error);
    if (status) {
        return status;
    }
    server->listener = evconnlistener_new(server->workers[0].base, on_accept, server,
                                          LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, 1024,
                                          server->listen_descriptor);
    if (!server->listener) {
        return listen_failed(server, errno, error);
    }
    evconnlistener_set_error_cb(server->listener, on_accept_error);
    return LLCUDA_OK;
}

/* ------------------------------------------------------------------ life */

llcuda_status http_server_create(const struct http_server_options *options,
                                 struct http_server **made, struct llcuda_error *error)
{
    if (options->worker_count == 0 ||
        (options->tls_certificate == NULL) != (options->tls_key == NULL)) {
        return error_set(error, LLCUDA_INVALID_ARGUMENT,
                         "a certificate and its key go together, and there is at least one worker");
    }
    struct http_server *server = calloc(1, sizeof *server);
    struct worker *workers = calloc(options->worker_count, sizeof *workers);
    if (!server || !workers || evthread_use_pthreads() != 0) {
        free(server);
        free(workers);
        return error_no_memory(error, "the server", options->worker_count * sizeof *workers);
    }
    server->options = *options;
    server->listen_descriptor = -1;
    server->workers = workers;
    llcuda_status status = LLCUDA_OK;
    if (options->tls_certificate) {
        status = tls_create(options->tls_certificate, options->tls_key, &server->tls, error);
    }
    while (!status && server->worker_count < options->worker_count) {
        status = worker_init(&workers[server->worker_count++], server, error);
    }
    if (!status) {
        status = start_listening(server, error);
    }
    if (status) {
        http_server_destroy(server);
        return status;
    }
    *made = server;
    return LLCUDA_OK;
}

llcuda_status http_server_start(struct http_server *server, struct llcuda_error *error)
{
    for (uint32_t i = 0; i < server->worker_count; i++) {
        llcuda_status status = worker_start(&server->workers[i], error);
        if (status) {
            return status;
        }
    }
    return LLCUDA_OK;
}

uint16_t http_server_port(const struct http_server *server)
{
    return server->port;
}

uint32_t http_server_connections(const struct http_server *server)
{
    return atomic_load(&server->connection_count);
}

uint32_t http_server_exchanges(const struct http_server *server)
{
    return atomic_load(&server->exchange_count);
}

uint64_t http_server_lag_ns(const struct http_server *server)
{
    uint64_t now_ns = clock_now_ns();
    uint64_t lag_ns = 0;
    for (uint32_t i = 0; i < server->worker_count; i++) {
        uint64_t beat_ns = atomic_load(&server->workers[i].beat_ns);
        uint64_t age_ns = beat_ns && beat_ns < now_ns ? now_ns - beat_ns : 0;
        lag_ns = age_ns > lag_ns ? age_ns : lag_ns;
    }
    return lag_ns;
}

void http_server_drain(struct http_server *server)
{
    uint64_t never = 0;
    atomic_compare_exchange_strong(&server->draining_ns, &never, clock_now_ns());
}

bool http_server_drained(const struct http_server *server)
{
    return atomic_load(&server->closed) && atomic_load(&server->connection_count) == 0;
}

void http_server_stop(struct http_server *server)
{
    if (server->stopped) {
        return;
    }
    server->stopped = true;
    http_server_drain(server);
    atomic_store(&server->stopping, true);
    for (uint32_t i = 0; i < server->worker_count; i++) {
        if (server->workers[i].started) {
            worker_wake(&server->workers[i]);
            pthread_join(server->workers[i].thread, NULL);
        }
    }
    if (server->listener) {
        evconnlistener_free(server->listener);
        server->listener = NULL;
    } else if (server->listen_descriptor >= 0) {
        close(server->listen_descriptor);
    }
    if (server->unix_bound) {
        unlink(server->options.unix_path);
    }
}

void http_server_destroy(struct http_server *server)
{
    if (!server) {
        return;
    }
    http_server_stop(server);
    for (uint32_t i = 0; i < server->worker_count; i++) {
        worker_deinit(&server->workers[i]);
    }
    tls_destroy(server->tls);
    free(server->workers);
    free(server);
}
