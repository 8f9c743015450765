/* Owns the one client that the server needs. All waiting goes through poll with what is left of the
 * timeout, so that a collector that hangs costs no more than that. */
#include "net/http_post.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/clock.h"

/* "HTTP/1.1 200" */
#define STATUS_BYTES 12

llcuda_status http_url_read(const char *text, struct http_url *url, struct llcuda_error *error)
{
    static const char scheme[] = "http://";
    size_t begin = sizeof scheme - 1;
    if (strncmp(text, scheme, begin) != 0) {
        return error_set(error, LLCUDA_INVALID_ARGUMENT, "'%.200s' does not begin with http://",
                         text);
    }
    const char *authority = text + begin;
    size_t length = strcspn(authority, "/");
    const char *end = authority + length;
    const char *bracket = *authority == '[' ? memchr(authority, ']', length) : NULL;
    const char *after = bracket ? bracket + 1 : authority;
    const char *colon = memchr(after, ':', (size_t)(end - after));
    const char *host_end = bracket ? bracket : colon ? colon : end;
    const char *host = authority + (bracket ? 1 : 0);
    url->host = text_view_make(host, (size_t)(host_end - host));
    url->port = colon ? text_view_make(colon + 1, (size_t)(end - colon) - 1) : text_view_of("80");
    url->path = *end ? text_view_of(end) : text_view_of("/");
    bool plain = url->host.length > 0 && url->host.length < 256 && url->port.length > 0 &&
                 url->port.length < 6 && (!bracket || after == end || *after == ':');
    for (const char *c = text; *c; c++) {
        plain = plain && *c > ' ' && *c < 0x7f && *c != '@' && *c != '#';
    }
    return plain ? LLCUDA_OK
                 : error_set(error, LLCUDA_INVALID_ARGUMENT, "'%.200s' is no plain http:// address",
                             text);
}

/* Waits until the descriptor can do `events`. */
static llcuda_status wait_for(int descriptor, short events, uint64_t until_ns,
                              struct llcuda_error *error)
{
    for (;;) {
        struct pollfd look = {.fd = descriptor, .events = events};
        uint64_t now_ns = clock_now_ns();
        int left_ms = now_ns < until_ns ? (int)((until_ns - now_ns) / 1000000u) : 0;
        int count = poll(&look, 1, left_ms);
        if (count > 0) {
            return LLCUDA_OK;
        }
        if (count == 0) {
            return error_set(error, LLCUDA_TIMEOUT, "the collector does not answer");
        }
        if (errno != EINTR) {
            return error_from_errno(error, errno, "wait for", "the collector");
        }
    }
}

static llcuda_status connect_address(const struct addrinfo *address, const char *host,
                                     uint64_t until_ns, int *descriptor, struct llcuda_error *error)
{
    llcuda_status status = LLCUDA_OK;
    *descriptor = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK,
                         address->ai_protocol);
    if (*descriptor < 0) {
        return error_from_errno(error, errno, "make", "a socket");
    }
    if (connect(*descriptor, address->ai_addr, address->ai_addrlen) != 0) {
        int problem = errno;
        socklen_t bytes = sizeof problem;
        if (problem == EINPROGRESS) {
            status = wait_for(*descriptor, POLLOUT, until_ns, error);
            getsockopt(*descriptor, SOL_SOCKET, SO_ERROR, &problem, &bytes);
        }
        if (!status && problem) {
            status = error_from_errno(error, problem, "connect to", host);
        }
    }
    if (status) {
        close(*descriptor);
        *descriptor = -1;
    }
    return status;
}

/* The first address of the name that takes the connection: "localhost" has two on many machines. */
static llcuda_status connect_to(const struct http_url *url, uint64_t until_ns, int *descriptor,
                                struct llcuda_error *error)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    char host[256], port[8];
    memcpy(host, url->host.data, url->host.length);
    host[url->host.length] = 0;
    memcpy(port, url->port.data, url->port.length);
    port[url->port.length] = 0;
    int failure = getaddrinfo(host, port, &hints, &found);
    if (failure != 0) {
        return error_set(error, LLCUDA_IO, "'%s' cannot be found: %s", host, gai_strerror(failure));
    }
    llcuda_status status = LLCUDA_IO;
    for (const struct addrinfo *address = found; address && status; address = address->ai_next) {
        status = connect_address(address, host, until_ns, descriptor, error);
    }
    freeaddrinfo(found);
    return status;
}

static llcuda_status send_all(int descriptor, struct text_view data, uint64_t until_ns,
                              struct llcuda_error *error)
{
    while (data.length > 0) {
        ssize_t count = send(descriptor, data.data, data.length, MSG_NOSIGNAL);
        if (count > 0) {
            data = text_view_make(data.data + count, data.length - (size_t)count);
        } else if (errno == EAGAIN) {
            llcuda_status status = wait_for(descriptor, POLLOUT, until_ns, error);
            if (status) {
                return status;
            }
        } else if (errno != EINTR) {
            return error_from_errno(error, errno, "send to", "the collector");
        }
    }
    return LLCUDA_OK;
}

static llcuda_status read_status(int descriptor, uint64_t until_ns, int *status_code,
                                 struct llcuda_error *error)
{
    char text[STATUS_BYTES];
    size_t length = 0;
    while (length < sizeof text) {
        ssize_t count = recv(descriptor, text + length, sizeof text - length, 0);
        if (count > 0) {
            length += (size_t)count;
        } else if (count == 0) {
            return error_set(error, LLCUDA_BAD_FORMAT, "the collector's answer ends early");
        } else if (errno == EAGAIN) {
            llcuda_status status = wait_for(descriptor, POLLIN, until_ns, error);
            if (status) {
                return status;
            }
        } else if (errno != EINTR) {
            return error_from_errno(error, errno, "read from", "the collector");
        }
    }
    int code = 0;
    for (size_t i = 9; i < sizeof text; i++) {
        if (text[i] < '0' || text[i] > '9') {
            code = -1;
            break;
        }
        code = 10 * code + (text[i] - '0');
    }
    if (memcmp(text, "HTTP/1.", 7) != 0 || code < 100) {
        return error_set(error, LLCUDA_BAD_FORMAT, "the collector's answer is no HTTP");
    }
    *status_code = code;
    return LLCUDA_OK;
}

llcuda_status http_post(const char *url_text, const char *content_type, struct text_view body,
                        uint32_t timeout_ms, int *status_code, struct llcuda_error *error)
{
    uint64_t until_ns = clock_now_ns() + (uint64_t)timeout_ms * 1000000u;
    struct http_url url;
    struct buffer head = {0};
    int descriptor = -1;
    llcuda_status status = http_url_read(url_text, &url, error);
    if (status) {
        return status;
    }
    buffer_printf(&head,
                  "POST %.*s HTTP/1.1\r\nHost: %.*s:%.*s\r\nContent-Type: %s\r\nContent-Length: "
                  "%zu\r\nConnection: close\r\n\r\n",
                  TEXT_ARGUMENTS(url.path), TEXT_ARGUMENTS(url.host), TEXT_ARGUMENTS(url.port),
                  content_type, body.length);
    buffer_append_view(&head, body);
    status = head.failed ? error_no_memory(error, "a request", body.length)
                         : connect_to(&url, until_ns, &descriptor, error);
    if (!status) {
        status = send_all(descriptor, buffer_view(&head), until_ns, error);
    }
    if (!status) {
        status = read_status(descriptor, until_ns, status_code, error);
    }
    if (descriptor >= 0) {
        close(descriptor);
    }
    buffer_deinit(&head);
    return status;
}
