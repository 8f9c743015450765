/* The server of src/net by itself: another protocol on its port, bodies moved out, and the one
 * client.
 */
#include "support/test_support.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/http_post.h"
#include "net/http_server.h"

static const char magic[] = "LLCB\x01\x00\x00\x01";
#define MAGIC_BYTES 8

struct seen {
    atomic_int requests;
    atomic_int taken_over;
    size_t bytes;
    struct buffer body; /* of the last request */
    int status;
};

static bool on_headers(void *user, struct http_exchange *exchange)
{
    (void)user;
    (void)exchange;
    return true;
}

static void on_request(void *user, struct http_exchange *exchange)
{
    struct seen *seen = user;
    struct text_view before = http_exchange_request(exchange)->body;
    buffer_deinit(&seen->body);
    http_exchange_take_body(exchange, &seen->body);
    assert_true(text_view_equal(before, buffer_view(&seen->body)));
    atomic_fetch_add(&seen->requests, 1);
    http_exchange_respond(exchange, seen->status, "text/plain", text_view_make("", 0),
                          buffer_view(&seen->body));
}

static void on_refused(void *user, struct http_exchange *exchange, int status, const char *reason)
{
    (void)user;
    http_exchange_respond(exchange, status, "text/plain", text_view_make("", 0),
                          text_view_of(reason));
}

static void on_nothing(void *user, struct http_exchange *exchange)
{
    (void)user;
    (void)exchange;
}

static void on_end(void *user, struct http_exchange *exchange, bool complete)
{
    (void)user;
    (void)exchange;
    (void)complete;
}

/* Answers with what it got. */
static void take_over(void *user, int descriptor, const void *data, size_t bytes)
{
    struct seen *seen = user;
    seen->bytes = bytes;
    assert_int_equal(send(descriptor, data, bytes, MSG_NOSIGNAL), (ssize_t)bytes);
    close(descriptor);
    atomic_fetch_add(&seen->taken_over, 1);
}

static const struct http_handler handler = {.on_headers = on_headers,
                                            .on_request = on_request,
                                            .on_refused = on_refused,
                                            .on_wake = on_nothing,
                                            .on_writable = on_nothing,
                                            .on_tick = on_nothing,
                                            .on_end = on_end};

static struct http_server *start(struct seen *seen)
{
    struct http_server_options options;
    struct http_server *server = NULL;
    struct llcuda_error error;
    http_server_options_init(&options);
    options.port = 0;
    options.worker_count = 1;
    options.handler = &handler;
    options.handler_user = seen;
    options.other_magic = magic;
    options.other_magic_bytes = MAGIC_BYTES;
    options.take_over = take_over;
    assert_ok(http_server_create(&options, &server, &error), error);
    assert_ok(http_server_start(server, &error), error);
    return server;
}

static int connect_to(const struct http_server *server)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons(http_server_port(server)),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int descriptor = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(descriptor, (struct sockaddr *)&address, sizeof address), 0);
    return descriptor;
}

/* Sends in two pieces, cut after `cut` bytes, and reads to the end. */
static void talk(const struct http_server *server, const char *data, size_t bytes, size_t cut,
                 char *answer, size_t room)
{
    int descriptor = connect_to(server);
    size_t length = 0;
    ssize_t count;
    assert_int_equal(send(descriptor, data, cut, 0), (ssize_t)cut);
    usleep(cut < bytes ? 20000 : 0);
    assert_int_equal(send(descriptor, data + cut, bytes - cut, 0), (ssize_t)(bytes - cut));
    while (length + 1 < room &&
           (count = recv(descriptor, answer + length, room - 1 - length, 0)) > 0) {
        length += (size_t)count;
    }
    answer[length] = 0;
    close(descriptor);
}

static void shares_its_port(void **state)
{
    (void)state;
    struct seen seen = {.status = 200};
    struct http_server *server = start(&seen);
    char answer[1000];
    static const char binary[] = "LLCB\x01\x00\x00\x01 and more";
    static const char request[] = "LLCB / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    for (size_t cut = 0; cut <= 9; cut += 3) {
        talk(server, binary, sizeof binary - 1, cut, answer, sizeof answer);
        assert_memory_equal(answer, binary, MAGIC_BYTES);
    }
    assert_int_equal(atomic_load(&seen.taken_over), 4);
    assert_true(seen.bytes >= MAGIC_BYTES);
    assert_int_equal(atomic_load(&seen.requests), 0);
    /* A method with the same beginning is HTTP. */
    for (size_t cut = 0; cut <= 6; cut += 2) {
        talk(server, request, sizeof request - 1, cut, answer, sizeof answer);
        assert_memory_equal(answer, "HTTP/1.1 200", 12);
    }
    assert_int_equal(atomic_load(&seen.taken_over), 4);
    http_server_destroy(server);
    buffer_deinit(&seen.body);
}

int __real_getaddrinfo(const char *host, const char *port, const struct addrinfo *hints,
                       struct addrinfo **found);
int __wrap_getaddrinfo(const char *host, const char *port, const struct addrinfo *hints,
                       struct addrinfo **found);

/* The name "two" has an address where nobody listens, and then the right one. */
int __wrap_getaddrinfo(const char *host, const char *port, const struct addrinfo *hints,
                       struct addrinfo **found)
{
    if (strcmp(host, "two") != 0) {
        return __real_getaddrinfo(host, port, hints, found);
    }
    int failure = __real_getaddrinfo("127.0.0.2", port, hints, found);
    return failure ? failure : __real_getaddrinfo("127.0.0.1", port, hints, &(*found)->ai_next);
}

static void posts(void **state)
{
    (void)state;
    struct seen seen = {.status = 202};
    struct http_server *server = start(&seen);
    struct llcuda_error error;
    char url[64];
    int status = 0;
    char *body = malloc(1000000);
    assert_non_null(body);
    memset(body, 'x', 1000000);
    snprintf(url, sizeof url, "http://127.0.0.1:%u/v1/traces", http_server_port(server));
    assert_ok(
        http_post(url, "application/json", text_view_make(body, 1000000), 5000, &status, &error),
        error);
    assert_int_equal(status, 202);
    assert_int_equal(seen.body.length, 1000000);
    snprintf(url, sizeof url, "http://two:%u/v1/traces", http_server_port(server));
    assert_ok(http_post(url, "application/json", text_view_of("{}"), 5000, &status, &error), error);
    assert_int_equal(seen.body.length, 2);
    http_server_destroy(server);
    assert_int_equal(http_post(url, "application/json", text_view_of("{}"), 5000, &status, &error),
                     LLCUDA_IO);
    buffer_deinit(&seen.body);
    free(body);
}

/* Sends an answer back that no socket takes at once, to a client that reads slowly: what is sent at
 * once and what is queued must meet without a gap. */
static void large_answers_are_whole(void **state)
{
    (void)state;
    enum { BODY_BYTES = 3 << 20 };
    struct seen seen = {.status = 200};
    struct http_server *server = start(&seen);
    char *request = malloc(BODY_BYTES + 200);
    char *answer = malloc(BODY_BYTES + 60000);
    assert_non_null(request);
    assert_non_null(answer);
    int head = snprintf(request, 200,
                        "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
                        "Content-Length: %d\r\n\r\n",
                        BODY_BYTES);
    for (int i = 0; i < BODY_BYTES; i++) {
        request[head + i] = (char)('a' + (i ^ i >> 8 ^ i >> 16) % 26);
    }
    int descriptor = connect_to(server);
    int small = 1 << 16;
    setsockopt(descriptor, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    for (size_t sent = 0; sent < (size_t)(head + BODY_BYTES);) {
        ssize_t count = send(descriptor, request + sent, (size_t)(head + BODY_BYTES) - sent, 0);
        assert_true(count > 0);
        sent += (size_t)count;
    }
    size_t length = 0;
    ssize_t count;
    usleep(50000);
    while ((count = recv(descriptor, answer + length, 1 + test_random_below(50000), 0)) > 0) {
        length += (size_t)count;
        assert_true(length < BODY_BYTES + 1000); /* and 50,000 fit behind */
    }
    answer[length] = 0;
    const char *body = strstr(answer, "\r\n\r\n");
    assert_non_null(body);
    assert_int_equal(length - (size_t)(body + 4 - answer), BODY_BYTES);
    assert_memory_equal(body + 4, request + head, BODY_BYTES);
    close(descriptor);
    http_server_destroy(server);
    buffer_deinit(&seen.body);
    free(request);
    free(answer);
}

static void reads_urls(void **state)
{
    (void)state;
    struct http_url url;
    struct llcuda_error error;
    assert_ok(http_url_read("http://[::1]:4318/v1/traces", &url, &error), error);
    assert_true(text_view_is(url.host, "::1") && text_view_is(url.port, "4318") &&
                text_view_is(url.path, "/v1/traces"));
    assert_ok(http_url_read("http://collector", &url, &error), error);
    assert_true(text_view_is(url.host, "collector") && text_view_is(url.port, "80") &&
                text_view_is(url.path, "/"));
    static const char *const bad[] = {"",           "https://a",        "http://",
                                      "http:///a",  "http://a:",        "http://u@a",
                                      "http://a b", "http://a:123456/", "http://[::1]x/"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(http_url_read(bad[i], &url, &error), LLCUDA_INVALID_ARGUMENT);
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(shares_its_port),
    cmocka_unit_test(posts),
    cmocka_unit_test(large_answers_are_whole),
    cmocka_unit_test(reads_urls),
};

TEST_MAIN(tests)
