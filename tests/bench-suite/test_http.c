/* The HTTP driver against a server of this test: answers in every framing are read right, failures
 * say why, and at 2,000 requests a second the schedule is kept. */
#include "support/test_support.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "bench/arrivals.h"
#include "bench/driver_http.h"
#include "bench/http_event.h"
#include "bench/http_stream.h"
#include "bench/load.h"
#include "bench/stats.h"
#include "paced.h"
#include "watch.h"

static const char events[] =
    "data: {\"choices\":[{\"text\":\"a\"}]}\r\n\r\ndata: {\"choices\":[{\"text\":\"b\"}]}\n\n"
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2}}\n\n"
    "data: [DONE]\n\n";

struct server {
    int listener;
    uint16_t port;
    pthread_t thread;
    char answer[1 << 20];
    size_t answer_bytes;
    _Atomic bool stop;
    _Atomic uint32_t requests;
};

/* Answers each request with the same bytes as soon as its head is there; bodies are short. */
static void *serve(void *user)
{
    struct server *server = user;
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = server->listener};
    epoll_ctl(epoll, EPOLL_CTL_ADD, server->listener, &event);
    while (!server->stop) {
        struct epoll_event ready[64];
        int count = epoll_wait(epoll, ready, 64, 20);
        for (int i = 0; i < count; i++) {
            char data[8192];
            int descriptor = ready[i].data.fd;
            if (descriptor == server->listener) {
                descriptor = accept(server->listener, NULL, NULL);
                event = (struct epoll_event){.events = EPOLLIN, .data.fd = descriptor};
                epoll_ctl(epoll, EPOLL_CTL_ADD, descriptor, &event);
                continue;
            }
            ssize_t got = recv(descriptor, data, sizeof data, 0);
            if (got <= 0) {
                close(descriptor);
            } else {
                server->requests++;
                ssize_t sent = send(descriptor, server->answer, server->answer_bytes, MSG_NOSIGNAL);
                if (sent < 0 || strstr(server->answer, "Connection: close")) {
                    close(descriptor);
                }
            }
        }
    }
    close(epoll);
    return NULL;
}

/* A listening socket at a port of the system's choice. */
static int listen_anywhere(uint16_t *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t length = sizeof address;
    const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(listener, 1024), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &length), 0);
    *port = ntohs(address.sin_port);
    return listener;
}

static void server_begin(struct server *server, const char *head, const char *body)
{
    *server = (struct server){0};
    server->answer_bytes =
        (size_t)snprintf(server->answer, sizeof server->answer, "%s%s", head, body);
    server->listener = listen_anywhere(&server->port);
    assert_int_equal(pthread_create(&server->thread, NULL, serve, server), 0);
}

static void server_end(struct server *server)
{
    server->stop = true;
    pthread_join(server->thread, NULL);
    close(server->listener);
}

static const uint32_t ids[] = {1, 2, 3};

static void make_request(void *user, uint64_t index, struct load_request *request)
{
    (void)user;
    (void)index;
    request->ids = ids;
    request->id_count = 3;
    request->max_tokens = 2;
}

static uint64_t due(void *user, uint64_t index)
{
    (void)index;
    return arrivals_next(user);
}

/* Puts the load on the server; the driver stays open. */
static void run_with(struct http_driver *driver, const struct server *server,
                     const struct load_plan *plan, struct load_result *result)
{
    struct llcuda_error error = {0};
    char url[64];
    snprintf(url, sizeof url, "http://127.0.0.1:%u", server->port);
    assert_ok(http_driver_open(driver, url, "m", "{\"extra\":1}", false, &error), error);
    http_driver_ready(driver, 1000, NULL, &error); /* also what makes the driver usable */
    assert_ok(load_run(&driver->driver, plan, result, &error), error);
}

static void run(const struct server *server, const struct load_plan *plan,
                struct load_result *result)
{
    struct http_driver driver;
    run_with(&driver, server, plan, result);
    http_driver_close(&driver);
}

static const struct load_plan eight = {.waves = true,
                                       .parallel = 4,
                                       .request_count = 8,
                                       .duration_ns = UINT64_MAX,
                                       .timeout_ns = 20000000000u,
                                       .request = make_request};

static void expect_fine(const char *head, const char *body)
{
    struct server server;
    struct load_result result;
    server_begin(&server, head, body);
    run(&server, &eight, &result);
    assert_int_equal(result.failed, 0);
    for (uint32_t i = 0; i < 8; i++) {
        assert_int_equal(load_sample_at(&result, i)->output_tokens, 2);
        assert_int_equal(load_sample_at(&result, i)->prompt_tokens, 3);
    }
    load_result_deinit(&result);
    server_end(&server);
}

/* A server that closes after each answer and does not say so is found out, and its connections are
 * no longer used again; one that keeps them is not suspected. */
static void test_unsaid_close(void **state)
{
    (void)state;
    static const char *const headers[] = {"X-Connection: close", "X-Connection: kept"};
    for (int kept = 0; kept < 2; kept++) {
        char head[256];
        struct server server;
        struct http_driver driver;
        struct load_result result;
        struct load_plan plan = eight;
        plan.parallel = 1;
        snprintf(head, sizeof head,
                 "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n%s\r\n"
                 "Content-Length: %zu\r\n\r\n",
                 headers[kept], strlen(events));
        server_begin(&server, head, events);
        run_with(&driver, &server, &plan, &result);
        assert_int_equal(result.failed, 0);
        assert_int_equal(driver.closes, !kept);
        assert_int_equal(driver.connection_count, kept);
        http_driver_close(&driver);
        load_result_deinit(&result);
        server_end(&server);
    }
}

static void test_framings(void **state)
{
    (void)state;
    char head[256];
    char chunked[1024];
    snprintf(head, sizeof head,
             "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %zu\r\n\r\n",
             strlen(events));
    expect_fine(head, events);
    expect_fine("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n",
                events);
    /* Chunks that end inside a line, and inside a character's escape. */
    int length = 0;
    for (size_t at = 0; at < strlen(events); at += 7) {
        size_t left = strlen(events) - at;
        int bytes = left < 7 ? (int)left : 7;
        length += snprintf(chunked + length, sizeof chunked - (size_t)length, "%x\r\n%.*s\r\n",
                           (unsigned)bytes, bytes, events + at);
    }
    snprintf(chunked + length, sizeof chunked - (size_t)length, "0\r\n\r\n");
    expect_fine("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                "Transfer-Encoding: chunked\r\n\r\n",
                chunked);
}

/* With a tap the next request waits for no look around: the end of an answer wakes the harness, or
 * from a few answers on every segment does (`listens`). */
static void expect_prompt(const char *head, const char *body, bool listens, uint64_t most_ms)
{
    struct server server;
    struct http_driver driver;
    struct load_result result;
    struct load_plan plan = eight;
    plan.parallel = 1;
    plan.request_count = 20;
    server_begin(&server, head, body);
    run_with(&driver, &server, &plan, &result);
    assert_int_equal(result.failed, strstr(head, " 503 ") ? 20 : 0);
    if (driver.tap) {
        assert_int_equal(driver.listens, listens);
    }
    print_message("20 answers in %.1f ms\n", (double)result.wall_ns / 1e6);
    assert_in_range(result.wall_ns, 0, most_ms * 1000000);
    http_driver_close(&driver);
    load_result_deinit(&result);
    server_end(&server);
}

static void test_ends_wake(void **state)
{
    (void)state;
    static const char chunks[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                                 "Transfer-Encoding: chunked\r\n\r\n";
    static const char token[] = "data: {\"choices\":[{\"text\":\"a\"}]}\n\n";
    char body[2048];
    char head[256];
    snprintf(body, sizeof body, "%zx\r\n%s\r\n0\r\n\r\n", strlen(events), events);
    expect_prompt(chunks, body, false, 500);
    expect_prompt("HTTP/1.1 503 Busy\r\nContent-Length: 2\r\n\r\n", "{}", false, 500);
    /* Nobody tells of this end: three are looked for in vain, a tenth of a second each. */
    snprintf(head, sizeof head,
             "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %zu\r\n\r\n",
             strlen(events));
    expect_prompt(head, events, true, 1000);
    /* Tokens that come together may do so because nobody reads them. */
    int length = 0;
    for (int i = 0; i < 12; i++) {
        length += snprintf(body + length, sizeof body - (size_t)length, "%zx\r\n%s\r\n",
                           strlen(token), token);
    }
    snprintf(body + length, sizeof body - (size_t)length, "e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n");
    expect_prompt(chunks, body, true, 500);
}

/* More than waits in a socket until somebody reads. */
static void test_a_long_answer(void **state)
{
    (void)state;
    enum { TOKENS = 10000 };
    static const char token[] = "data: {\"choices\":[{\"text\":\"a word\"}]}\n\n";
    static char body[TOKENS * (sizeof token + 8) + 1024];
    static struct server server;
    struct load_result result;
    struct load_plan plan = eight;
    size_t length = 0;
    for (int i = 0; i < TOKENS; i++) {
        length += (size_t)snprintf(body + length, sizeof body - length, "%zx\r\n%s\r\n",
                                   sizeof token - 1, token);
    }
    snprintf(body + length, sizeof body - length, "e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n");
    server_begin(&server,
                 "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                 "Transfer-Encoding: chunked\r\n\r\n",
                 body);
    assert_true(server.answer_bytes < sizeof server.answer && server.answer_bytes > 400000);
    run(&server, &plan, &result);
    assert_int_equal(result.failed, 0);
    assert_int_equal(result.gaps_seen, 8 * (TOKENS - 1));
    load_result_deinit(&result);
    server_end(&server);
}

/* A server that starts: it answers nobody at first, then lists its models before it has loaded. */
struct starting {
    int listener;
    uint32_t connections; /* until the end */
};

static void *start(void *user)
{
    struct starting *starting = user;
    for (uint32_t i = 0; i < starting->connections; i++) {
        char request[1024] = "";
        const char *answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
        int descriptor = accept(starting->listener, NULL, NULL);
        ssize_t got = recv(descriptor, request, sizeof request - 1, 0);
        if (strstr(request, "GET /health")) {
            answer = i + 1 < starting->connections
                         ? "HTTP/1.1 503 Loading\r\nContent-Length: 0\r\n\r\n"
                         : "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        }
        if (got > 0 && i > 0) {
            send(descriptor, answer, strlen(answer), MSG_NOSIGNAL);
        }
        close(descriptor);
    }
    close(starting->listener);
    return NULL;
}

static void test_starting_server(void **state)
{
    (void)state;
    struct llcuda_error error = {0};
    struct http_driver driver;
    pthread_t thread;
    uint16_t port;
    char url[64];
    /* Nothing; models, loading; models, loaded. */
    struct starting starting = {.listener = listen_anywhere(&port), .connections = 5};
    assert_int_equal(pthread_create(&thread, NULL, start, &starting), 0);
    snprintf(url, sizeof url, "http://127.0.0.1:%u", port);
    assert_ok(http_driver_open(&driver, url, "m", NULL, false, &error), error);
    assert_int_equal(http_driver_ready(&driver, 1000, NULL, &error), LLCUDA_BUSY);
    assert_non_null(strstr(error.message, "nothing answers"));
    assert_int_equal(http_driver_ready(&driver, 1000, NULL, &error), LLCUDA_BUSY);
    assert_non_null(strstr(error.message, "is loading"));
    driver.version[0] = 'x'; /* is not asked for */
    assert_ok(http_driver_ready(&driver, 1000, NULL, &error), error);
    http_driver_close(&driver);
    pthread_join(thread, NULL);
}

static void expect_failure(const char *head, const char *body, const char *reason)
{
    struct server server;
    struct load_result result;
    server_begin(&server, head, body);
    run(&server, &eight, &result);
    assert_int_equal(result.failed, 8);
    if (!strstr(result.first_failure, reason)) {
        fail_msg("'%s' does not say '%s'", result.first_failure, reason);
    }
    load_result_deinit(&result);
    server_end(&server);
}

static void test_failures(void **state)
{
    (void)state;
    expect_failure("HTTP/1.1 503 Busy\r\nContent-Length: 9\r\n\r\n", "too busy!",
                   "HTTP 503: too busy!");
    expect_failure(
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n",
        "data: {\"choices\":[{\"text\":\"a\"}]}\n\n", "before [DONE]");
    expect_failure("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", "{}", "did not stream");
    expect_failure("SMTP ready\r\n", "", "without an answer");
}

/* However the bytes are cut, the same events come out. */
static void count_event(void *user, struct text_view data)
{
    uint64_t *hash = user;
    for (size_t i = 0; i < data.length; i++) {
        *hash = (*hash ^ (unsigned char)data.data[i]) * 1099511628211u;
    }
}

static void test_cuts(void **state)
{
    (void)state;
    char text[1024];
    snprintf(text, sizeof text,
             "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
             "Transfer-Encoding: chunked\r\n\r\n%zx\r\n%s\r\n0\r\n\r\n",
             strlen(events), events);
    uint64_t whole = 0;
    for (size_t step = strlen(text); step > 0; step--) {
        struct http_stream stream = {0};
        uint64_t hash = 1;
        for (size_t at = 0; at < strlen(text); at += step) {
            size_t left = strlen(text) - at;
            http_stream_feed(&stream, text + at, left < step ? left : step, count_event, &hash);
        }
        assert_true(stream.done && !stream.broken);
        whole = whole ? whole : hash;
        assert_true(hash == whole);
        http_stream_deinit(&stream);
    }
}

/* One attempt in ten must keep the bound: a host that takes the processors away for a while delays
 * anybody. None of them is judged where a thread that only sleeps, beside each, is later than that.
 */
static void test_schedule(void **state)
{
    (void)state;
    enum { RATE = 2000, COUNT = 6000, ATTEMPTS = 10 };
    static double late_ms[COUNT];
    static struct watch watch;
    bool kept = false;
    bool judged = false;
    for (int attempt = 0; attempt < ATTEMPTS && !kept; attempt++) {
        struct server server;
        struct load_result result;
        struct arrivals arrivals;
        struct timespec before;
        struct timespec after;
        char head[256];
        snprintf(
            head, sizeof head,
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %zu\r\n\r\n",
            strlen(events));
        server_begin(&server, head, events);
        arrivals_init(&arrivals, ARRIVAL_POISSON, RATE, 1, 17);
        struct load_plan plan = {.first = true,
                                 .request_count = COUNT,
                                 .duration_ns = UINT64_MAX,
                                 .timeout_ns = 60000000000u,
                                 .user = &arrivals,
                                 .request = make_request,
                                 .due_ns = due};
        watch_begin(&watch);
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &before);
        run(&server, &plan, &result);
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &after);
        const double woken_ms = watch_end(&watch);
        assert_int_equal(result.failed, 0);
        for (uint32_t i = 0; i < COUNT; i++) {
            late_ms[i] = (double)load_sample_at(&result, i)->late_us / 1e3;
        }
        stats_sort(late_ms, COUNT);
        const double p99_ms = stats_quantile(late_ms, COUNT, 0.99);
        const double used_ns =
            (double)(after.tv_sec - before.tv_sec) * 1e9 + (double)(after.tv_nsec - before.tv_nsec);
        print_message("2,000 requests a second: sent %.3f ms late at p99, %.1f %% of a processor; "
                      "a thread that only sleeps: %.3f ms\n",
                      p99_ms, used_ns / (double)result.wall_ns * 100, woken_ms);
        kept = p99_ms < SCHEDULE_MS_MAX;
        judged = judged || woken_ms < SCHEDULE_MS_MAX;
        load_result_deinit(&result);
        server_end(&server);
    }
    if (!kept && !judged) {
        skip();
    }
    assert_true(kept);
}

static int nice_of_thread(void)
{
    return getpriority(PRIO_PROCESS, (id_t)gettid());
}

static void note_nice(void *user, uint64_t index, struct load_request *request)
{
    int *nice = user;
    *nice = nice_of_thread();
    make_request(NULL, index, request);
}

static bool may_go_first(void)
{
    const int before = nice_of_thread();
    const bool may = setpriority(PRIO_PROCESS, (id_t)gettid(), -20) == 0;
    setpriority(PRIO_PROCESS, (id_t)gettid(), before);
    return may;
}

/* Where the system grants it, and only while the load runs. */
static void test_goes_first(void **state)
{
    (void)state;
    const bool may = may_go_first() && sched_getscheduler(0) == SCHED_OTHER;
    const int usual = nice_of_thread();
    for (int first = 0; first < 2; first++) {
        struct server server;
        struct load_result result;
        int during = 0;
        server_begin(&server,
                     "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                     "Connection: close\r\n\r\n",
                     events);
        struct load_plan plan = eight;
        plan.first = first;
        plan.user = &during;
        plan.request = note_nice;
        run(&server, &plan, &result);
        assert_int_equal(during, first && may ? -20 : usual);
        assert_int_equal(nice_of_thread(), usual);
        load_result_deinit(&result);
        server_end(&server);
    }
}

/* Each event's text is what a parser finds, whether it was parsed or only compared. */
static void test_events_are_compared(void **state)
{
    (void)state;
    static const struct {
        const char *data, *text;
        uint32_t parsed; /* events that had to be, up to here */
    } cases[] = {
        {"{\"choices\":[{\"text\":\" a\",\"finish_reason\":null}],\"id\":\"1\"}", " a", 1},
        {"{\"choices\":[{\"text\":\" word\",\"finish_reason\":null}],\"id\":\"1\"}", " word", 1},
        {"{\"choices\":[{\"text\":\"\\n\",\"finish_reason\":null}],\"id\":\"1\"}", "\n", 1},
        {"{\"choices\":[{\"text\":\" \\\"b\",\"finish_reason\":null}],\"id\":\"1\"}", " \"b", 1},
        {"{\"choices\":[{\"text\":\"\\q\",\"finish_reason\":null}],\"id\":\"1\"}", "", 2},
        {"{\"choices\":[{\"text\":\"b\",\"finish_reason\":null}],\"id\":\"1\"}", "b", 2},
        {"{\"choices\":[{\"text\":\"\",\"finish_reason\":null}],\"id\":\"1\"}", "", 3},
        {"{\"choices\":[{\"text\":\"c\",\"finish_reason\":null}],\"id\":\"1\"}", "c", 4},
        {"{\"choices\":[{\"text\":\"d\",\"finish_reason\":null}],\"id\":\"2\"}", "d", 5},
        {"{\"choices\":[{\"text\":\"e\",\"x\":\"f\",\"finish_reason\":null}],\"id\":\"2\"}", "e",
         6},
        {"{\"choices\":[{\"text\":\"\xc3\xa9\",\"x\":\"f\",\"finish_reason\":null}],\"id\":\"2\"}",
         "\xc3\xa9", 6},
        {"{\"choices\":[{\"text\":\"\xc3\",\"x\":\"f\",\"finish_reason\":null}],\"id\":\"2\"}", "",
         7},
        {"{\"choices\":[{\"text\":\"e\",\"x\":\"f\",\"finish_reason\":null}],\"id\":\"2\"}", "e",
         7},
        {"{\"choices\":[{\"text\":\"e\",\"x\":\"f\",\"finish", "", 8},
    };
    struct http_event_reader reader = {0};
    struct http_event event;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        http_event_read(&reader, text_view_of(cases[i].data), &event);
        assert_true(text_view_is(event.text, cases[i].text));
        assert_int_equal(reader.parsed, cases[i].parsed);
    }
    http_event_read(&reader, text_view_of("{\"usage\":{\"completion_tokens\":7}}"), &event);
    assert_true(event.has_output_tokens && !event.has_prompt_tokens);
    assert_int_equal(event.output_tokens, 7);
    http_event_reader_deinit(&reader);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_events_are_compared),
        cmocka_unit_test(test_framings),
        cmocka_unit_test(test_ends_wake),
        cmocka_unit_test(test_a_long_answer),
        cmocka_unit_test(test_unsaid_close),
        cmocka_unit_test(test_starting_server),
        cmocka_unit_test(test_failures),
        cmocka_unit_test(test_cuts),
        cmocka_unit_test(test_goes_first),
        cmocka_unit_test(test_schedule),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
