/* The strict reader: what must be read and how, what must be refused and with which status. */
#include "support/test_support.h"

#include "net/http_reader.h"

struct outcome {
    enum http_progress progress;
    size_t taken;
};

static struct outcome feed(struct http_reader *reader, const char *text)
{
    struct outcome outcome = {HTTP_MORE, 0};
    size_t length = strlen(text);
    while (outcome.taken < length) {
        size_t taken;
        outcome.progress =
            http_reader_feed(reader, text + outcome.taken, length - outcome.taken, &taken);
        outcome.taken += taken;
        if (outcome.progress != HTTP_MORE && outcome.progress != HTTP_HEADERS) {
            break;
        }
    }
    return outcome;
}

static void reads_a_request(void **state)
{
    (void)state;
    struct http_reader reader;
    http_reader_init(&reader, NULL);
    const char *text = "POST /v1/chat?x=1&y HTTP/1.1\r\nHost: localhost:8090\r\nX-A:  b c \r\n"
                       "content-length: 5\r\n\r\nhelloGET / HTTP/1.1\r\n";
    struct outcome outcome = feed(&reader, text);
    assert_int_equal(outcome.progress, HTTP_REQUEST);
    assert_string_equal(text + outcome.taken, "GET / HTTP/1.1\r\n");
    struct http_request *request = &reader.request;
    assert_true(text_view_is(request->method, "POST"));
    assert_true(text_view_is(request->path, "/v1/chat"));
    assert_true(text_view_is(request->query, "x=1&y"));
    assert_true(text_view_is(request->host, "localhost:8090"));
    assert_true(text_view_is(http_request_header(request, "x-a"), "b c"));
    assert_null(http_request_header(request, "x-b").data);
    assert_true(text_view_is(request->body, "hello"));
    assert_true(request->keep_alive);
    http_reader_next(&reader);
    assert_false(http_reader_busy(&reader));
    assert_int_equal(
        feed(&reader, "GET / HTTP/1.1\r\nHost: a\r\nConnection: Close\r\n\r\n").progress,
        HTTP_REQUEST);
    assert_false(reader.request.keep_alive);
    http_reader_deinit(&reader);
}

static void reads_chunks(void **state)
{
    (void)state;
    struct http_reader reader;
    http_reader_init(&reader, NULL);
    const char *text = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n"
                       "5\r\nhello\r\nA;name=value\r\n, my world\r\n0\r\nTrailer: x\r\n\r\n";
    assert_int_equal(feed(&reader, text).progress, HTTP_REQUEST);
    assert_true(text_view_is(reader.request.body, "hello, my world"));
    http_reader_deinit(&reader);
}

static void reports_the_headers_once(void **state)
{
    (void)state;
    struct http_reader reader;
    size_t taken;
    http_reader_init(&reader, NULL);
    const char *text =
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\nok";
    assert_int_equal(http_reader_feed(&reader, text, strlen(text), &taken), HTTP_HEADERS);
    assert_true(reader.request.expect_continue);
    assert_string_equal(text + taken, "ok");
    assert_int_equal(http_reader_feed(&reader, "ok", 2, &taken), HTTP_REQUEST);
    http_reader_deinit(&reader);
}

#define HOST "Host: a\r\n"

static void refuses_what_could_be_read_twice(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int status;
    } cases[] = {
        {"GET / HTTP/1.1\nHost: a\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: a\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: a\r\n\n", 400},
        {"GET / HTTP/1.1\r\nA: x\ry\r\n\r\n", 400},
        {"GET  / HTTP/1.1\r\n" HOST "\r\n", 400},
        {"GET / HTTP/1.1 \r\n" HOST "\r\n", 400},
        {"GET / HTTP/2.0\r\n" HOST "\r\n", 505},
        {"GET / http/1.1\r\n" HOST "\r\n", 400},
        {"GET /\r\n" HOST "\r\n", 400},
        {"G@T / HTTP/1.1\r\n" HOST "\r\n", 400},
        {"GET http://b/ HTTP/1.1\r\n" HOST "\r\n", 400},
        {"GET /a#b HTTP/1.1\r\n" HOST "\r\n", 400},
        {"GET /\x80 HTTP/1.1\r\n" HOST "\r\n", 400},
        {"GET / HTTP/1.1\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\n" HOST HOST "\r\n", 400},
        {"GET / HTTP/1.1\r\n" HOST "A : b\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\n" HOST " folded: b\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\n" HOST "A: b\r\n c\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\n" HOST "no colon\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\n" HOST ": empty\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\n" HOST "A: b\x01\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\n" HOST "Content-Length: 1\r\nContent-Length: 1\r\n\r\nx", 400},
        {"POST / HTTP/1.1\r\n" HOST "Content-Length: 1, 1\r\n\r\nx", 400},
        {"POST / HTTP/1.1\r\n" HOST "Content-Length: +1\r\n\r\nx", 400},
        {"POST / HTTP/1.1\r\n" HOST "Content-Length: -1\r\n\r\nx", 400},
        {"POST / HTTP/1.1\r\n" HOST "Content-Length: 0x1\r\n\r\nx", 400},
        {"POST / HTTP/1.1\r\n" HOST "Content-Length:\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\n" HOST "Content-Length: 99999999999999999999\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\n" HOST "Content-Length: 999999999999\r\n\r\n", 413},
        {"POST / HTTP/1.1\r\n" HOST "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: gzip, chunked\r\n\r\n", 501},
        {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: xchunked\r\n\r\n", 501},
        {"POST / HTTP/1.1\r\n" HOST
         "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
         400},
        {"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n-2\r\n", 400},
        {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n 2\r\n", 400},
        {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n2 \r\n", 400},
        {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n0x2\r\n", 400},
        {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n", 400},
        {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\nfffffffffff\r\n", 413},
        {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n", 400},
        {"GET / HTTP/1.1\r\n" HOST "Expect: something\r\n\r\n", 417},
        {"\r\n\r\nGET / HTTP/1.1\r\n" HOST "\r\n", 400},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct http_reader reader;
        http_reader_init(&reader, NULL);
        struct outcome outcome = feed(&reader, cases[i].text);
        if (outcome.progress != HTTP_REFUSED || reader.refusal != cases[i].status) {
            fail_msg("'%s' gave %d, status %d", cases[i].text, (int)outcome.progress,
                     reader.refusal);
        }
        assert_non_null(reader.reason);
        http_reader_deinit(&reader);
    }
}

static void a_null_byte_is_refused(void **state)
{
    (void)state;
    struct http_reader reader;
    size_t taken;
    static const char text[] = "GET / HTTP/1.1\r\nHost: a\0b\r\n\r\n";
    http_reader_init(&reader, NULL);
    assert_int_equal(http_reader_feed(&reader, text, sizeof text - 1, &taken), HTTP_REFUSED);
    http_reader_deinit(&reader);
}

/* Feeds `count` copies of `piece` after `begin`; returns the refusal or 0. */
static int flood(const struct http_limits *limits, const char *begin, const char *piece,
                 size_t count)
{
    struct http_reader reader;
    http_reader_init(&reader, limits);
    enum http_progress progress = feed(&reader, begin).progress;
    for (size_t i = 0; i < count && progress != HTTP_REFUSED; i++) {
        progress = feed(&reader, piece).progress;
    }
    int refusal = progress == HTTP_REFUSED ? reader.refusal : 0;
    http_reader_deinit(&reader);
    return refusal;
}

static void every_part_is_bounded(void **state)
{
    (void)state;
    static const struct http_limits limits = {64, 4, 128, 100};
    const char *lead = "POST / HTTP/1.1\r\nHost: a\r\n";
    const char *chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_int_equal(flood(&limits, "GET /", "aaaaaaaa", 100), 414);
    assert_int_equal(flood(&limits, lead, "aaaaaaaa", 100), 431);
    assert_int_equal(flood(&limits, lead, "a: b\r\n", 3), 0);
    assert_int_equal(flood(&limits, lead, "a: b\r\n", 4), 431);
    assert_int_equal(flood(&limits, lead, "a: bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\r\n", 3),
                     431);
    assert_int_equal(flood(&limits, chunked, "a\r\naaaaaaaaaa\r\n", 10), 0);
    assert_int_equal(flood(&limits, chunked, "a\r\naaaaaaaaaa\r\n", 11), 413);
    assert_int_equal(flood(&limits, chunked, "0\r\n", 1), 0);
    assert_int_equal(flood(&limits,
                           "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
                           "t: tttttttttttttttttttttttttttt\r\n", 3),
                     431);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(reads_a_request),          cmocka_unit_test(reads_chunks),
    cmocka_unit_test(reports_the_headers_once), cmocka_unit_test(refuses_what_could_be_read_twice),
    cmocka_unit_test(a_null_byte_is_refused),   cmocka_unit_test(every_part_is_bounded),
};

TEST_MAIN(tests)
