/* The kernel's record of arrivals: heads of segments, their order, and what a real connection over
 * loopback tells. */
#include "support/test_support.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/capability.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "bench/http_arrival.h"
#include "bench/http_tap.h"

#define PIECES      40u
#define PIECE_BYTES 300u

static void add(struct tap_stream *stream, uint32_t begin, uint32_t end, uint64_t at_ns)
{
    tap_stream_add(stream, &(struct tap_segment){.begin = begin, .end = end}, at_ns);
}

static void begin_at(struct tap_stream *stream, uint32_t begin)
{
    tap_stream_add(stream, &(struct tap_segment){.first = true, .begin = begin, .end = begin}, 1);
}

static void expect_piece(struct tap_stream *stream, size_t asked, size_t bytes, uint64_t at_ns)
{
    uint64_t told = 77;
    assert_int_equal(tap_stream_piece(stream, asked, &told), bytes);
    assert_int_equal(told, at_ns);
}

/* Sequence numbers wrap in the middle. */
static void test_order(void **state)
{
    (void)state;
    struct tap_stream stream = {0};
    const uint32_t begin = UINT32_MAX - 150;
    begin_at(&stream, begin);
    add(&stream, begin, begin + 100, 10);
    add(&stream, begin + 100, begin + 200, 20);
    add(&stream, begin + 100, begin + 200, 25); /* sent again: it had come */
    add(&stream, begin + 200, begin + 300, 30);
    expect_piece(&stream, 1000, 100, 10);
    expect_piece(&stream, 30, 30, 20); /* no more was read */
    expect_piece(&stream, 500, 70, 20);
    expect_piece(&stream, 40, 40, 30);
    expect_piece(&stream, 60, 60, 30);
    expect_piece(&stream, 5, 5, 0); /* nothing is known of it */
    add(&stream, begin + 300, begin + 400, 40);
    expect_piece(&stream, 95, 95, 40);
    http_tap_forget(NULL, &stream);
}

/* What a lost segment held up is there when it came at last. */
static void test_lost_segments(void **state)
{
    (void)state;
    struct tap_stream stream = {0};
    begin_at(&stream, 1000);
    add(&stream, 1000, 1100, 10);
    add(&stream, 1200, 1300, 20);
    add(&stream, 1300, 1400, 30);
    add(&stream, 1450, 1500, 35);
    expect_piece(&stream, 100, 100, 10);
    add(&stream, 1100, 1200, 40);
    expect_piece(&stream, 300, 300, 40);
    add(&stream, 1400, 1450, 50);
    expect_piece(&stream, 100, 100, 50);
    /* More holes than it remembers: unknown until the reader has passed them. */
    for (uint32_t i = 0; i < 2 * TAP_EARLY_MAX; i++) {
        add(&stream, 1510 + 20 * i, 1520 + 20 * i, 60 + i);
    }
    expect_piece(&stream, 2000, 2000, 0);
    add(&stream, 3500, 3600, 90);
    expect_piece(&stream, 100, 100, 90);
    http_tap_forget(NULL, &stream);
}

/* Bytes that were read before the begin of the connection was looked at count, too. */
static void test_begin_comes_late(void **state)
{
    (void)state;
    struct tap_stream stream = {0};
    expect_piece(&stream, 100, 100, 0);
    add(&stream, 7, 8, 5); /* before anything is known */
    begin_at(&stream, 5000);
    begin_at(&stream, 9000); /* again, or somebody else's: the first one counts */
    add(&stream, 5000, 5100, 10);
    add(&stream, 5100, 5150, 20);
    expect_piece(&stream, 50, 50, 20);
    http_tap_forget(NULL, &stream);
}

static void test_heads(void **state)
{
    (void)state;
    uint8_t head[128] = {0x46}; /* six words: an option */
    struct tap_segment segment;
    head[3] = 24 + 32 + 100; /* 32: three words of TCP options */
    uint8_t *tcp = head + 24;
    memcpy(tcp, (const uint8_t[]){0x1f, 0x90, 0x30, 0x39, 1, 2, 3, 4}, 8);
    tcp[12] = 8 << 4;
    assert_true(tap_read_head(head, sizeof head, false, &segment));
    assert_int_equal(segment.port, htons(0x3039));
    assert_int_equal(segment.begin, 0x01020304);
    assert_int_equal(segment.end, 0x01020304 + 100);
    assert_false(segment.first);
    tcp[13] = 0x12; /* the answer to the first: a number, no bytes */
    head[3] = 24 + 32;
    assert_true(tap_read_head(head, sizeof head, false, &segment));
    assert_true(segment.first);
    assert_int_equal(segment.begin, 0x01020305);
    assert_int_equal(segment.end, 0x01020305);
    /* Lengths that cannot be. */
    head[3] = 24 + 31;
    assert_false(tap_read_head(head, sizeof head, false, &segment));
    head[3] = 200;
    tcp[12] = 4 << 4;
    assert_false(tap_read_head(head, sizeof head, false, &segment));
    tcp[12] = 8 << 4;
    assert_false(tap_read_head(head, 24 + 19, false, &segment));
    assert_false(tap_read_head(head, 19, false, &segment));
    head[0] = 0x44;
    assert_false(tap_read_head(head, sizeof head, false, &segment));
    /* The same behind a head of IPv6. */
    uint8_t six[128] = {0x60, [4] = 0, [5] = 32 + 100};
    memcpy(six + 40, tcp, 20);
    assert_true(tap_read_head(six, sizeof six, true, &segment));
    assert_int_equal(segment.end - segment.begin, 100);
    assert_false(tap_read_head(six, 40 + 19, true, &segment));
    assert_false(tap_read_head(six, 39, true, &segment));
}

struct pair {
    int listener, sender, reader;
    struct sockaddr_storage address;
    socklen_t length;
};

static bool listen_at(struct pair *pair, sa_family_t family)
{
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    struct sockaddr_in four = {.sin_family = AF_INET};
    four.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    pair->length = family == AF_INET6 ? sizeof six : sizeof four;
    memcpy(&pair->address, family == AF_INET6 ? (void *)&six : (void *)&four, pair->length);
    struct sockaddr *address = (struct sockaddr *)(void *)&pair->address;
    pair->listener = socket(family, SOCK_STREAM, 0);
    return pair->listener >= 0 && bind(pair->listener, address, pair->length) == 0 &&
           listen(pair->listener, 1) == 0 &&
           getsockname(pair->listener, address, &pair->length) == 0;
}

struct tapped {
    struct pair pair;
    struct tap_stream stream;
    struct http_tap *tap;
};

/* A connection with a tap; false where there can be none. */
static bool open_tapped(struct tapped *tapped, sa_family_t family)
{
    const int on = 1;
    struct pair *pair = &tapped->pair;
    *tapped = (struct tapped){0};
    if (!listen_at(pair, family)) {
        assert_int_equal(family, AF_INET6); /* which not every machine has */
        print_message("no IPv6 here\n");
        return false;
    }
    const struct sockaddr *address = (struct sockaddr *)(void *)&pair->address;
    tapped->tap = http_tap_open(address);
    if (!tapped->tap) {
        print_message("this user may not look at packets\n");
        assert_int_not_equal(geteuid(), 0);
        skip();
    }
    pair->reader = socket(family, SOCK_STREAM | SOCK_NONBLOCK, 0);
    assert_true(connect(pair->reader, address, pair->length) == 0 || errno == EINPROGRESS);
    http_tap_watch(tapped->tap, &tapped->stream, pair->reader);
    pair->sender = accept(pair->listener, NULL, NULL);
    setsockopt(pair->sender, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return true;
}

static void close_tapped(struct tapped *tapped)
{
    http_tap_forget(tapped->tap, &tapped->stream);
    http_tap_close(tapped->tap);
    close(tapped->pair.sender);
    close(tapped->pair.reader);
    close(tapped->pair.listener);
}

/* Pieces are sent one by one and read in one go: each has the time at which it was sent. */
static void expect_times_over(sa_family_t family)
{
    static char data[PIECES * PIECE_BYTES + 1];
    uint64_t before_ns[PIECES];
    uint64_t after_ns[PIECES];
    const int on = 1;
    struct tapped tapped;
    if (!open_tapped(&tapped, family)) {
        return;
    }
    for (uint32_t i = 0; i < PIECES; i++) {
        const struct timespec pause = {0, 200000};
        before_ns[i] = clock_now_ns();
        assert_int_equal(send(tapped.pair.sender, data, PIECE_BYTES, 0), PIECE_BYTES);
        after_ns[i] = clock_now_ns();
        /* The reader acknowledges, so that the kernel joins what waits. */
        setsockopt(tapped.pair.reader, IPPROTO_TCP, TCP_QUICKACK, &on, sizeof on);
        nanosleep(&pause, NULL);
    }
    assert_int_equal(recv(tapped.pair.reader, data, sizeof data, 0), PIECES * PIECE_BYTES);
    http_tap_drain(tapped.tap, arrival_clock_offset_ns());
    for (uint32_t i = 0; i < PIECES; i++) {
        uint64_t at_ns;
        assert_int_equal(tap_stream_piece(&tapped.stream, (PIECES - i) * PIECE_BYTES, &at_ns),
                         PIECE_BYTES);
        assert_in_range(at_ns, before_ns[i] - 5000, after_ns[i] + 5000);
    }
    close_tapped(&tapped);
}

/* What ends an answer is told, and nothing else that a server sends. */
static void expect_ends_over(sa_family_t family)
{
    static const struct {
        const char *segment;
        bool end;
    } rows[] = {
        {"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=5, max=100\r\n\r\n", false},
        {"ea\r\ndata: {\"text\": \"0\\r\\n\"}\n\n\r\n", false},
        {"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n", true},
        {"0\r\n\r\n", true},
        {"0\r\n", false},
        {"\r\n", true},
        {"10\r\n\r\n", false},
        {"\n", false},
        {"0\r\n\r\n4\r\nmore\r\n", false},
        {"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\n{}", true},
        {"HTTP/1.0 404", true},
        {"HTTP", false},
    };
    struct tapped tapped;
    if (!open_tapped(&tapped, family)) {
        return;
    }
    struct pollfd wait = {http_tap_ends(tapped.tap), POLLIN, 0};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char data[256];
        const ssize_t bytes = (ssize_t)strlen(rows[i].segment);
        assert_int_equal(send(tapped.pair.sender, rows[i].segment, (size_t)bytes, 0), bytes);
        for (ssize_t got = 0; got < bytes;) {
            const ssize_t more = recv(tapped.pair.reader, data, sizeof data, MSG_DONTWAIT);
            got += more > 0 ? more : 0;
        }
        assert_int_equal(poll(&wait, 1, 0), rows[i].end);
        assert_ptr_equal(http_tap_next_end(tapped.tap), rows[i].end ? &tapped.stream : NULL);
        assert_null(http_tap_next_end(tapped.tap));
    }
    /* Of one that is not watched any more nobody is told. */
    http_tap_forget(tapped.tap, &tapped.stream);
    assert_int_equal(send(tapped.pair.sender, "0\r\n\r\n", 5, 0), 5);
    assert_null(http_tap_next_end(tapped.tap));
    close_tapped(&tapped);
}

static void test_times_over_ipv4(void **state)
{
    (void)state;
    expect_times_over(AF_INET);
}

static void test_times_over_ipv6(void **state)
{
    (void)state;
    expect_times_over(AF_INET6);
}

static void test_ends_over_ipv4(void **state)
{
    (void)state;
    expect_ends_over(AF_INET);
}

static void test_ends_over_ipv6(void **state)
{
    (void)state;
    expect_ends_over(AF_INET6);
}

/* Who may not look at packets gets no tap, and nothing else happens. */
static void test_without_permission(void **state)
{
    (void)state;
    struct sockaddr_in server = {.sin_family = AF_INET, .sin_port = htons(80)};
    int status = 1;
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
        struct __user_cap_data_struct none[2] = {{0}, {0}};
        if (syscall(SYS_capset, &header, none)) {
            _exit(2);
        }
        _exit(http_tap_open((struct sockaddr *)(void *)&server) ? 3 : 0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    const struct sockaddr local = {.sa_family = AF_UNIX};
    assert_null(http_tap_open(&local));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_lost_segments),
        cmocka_unit_test(test_begin_comes_late),
        cmocka_unit_test(test_heads),
        cmocka_unit_test(test_times_over_ipv4),
        cmocka_unit_test(test_times_over_ipv6),
        cmocka_unit_test(test_ends_over_ipv4),
        cmocka_unit_test(test_ends_over_ipv6),
        cmocka_unit_test(test_without_permission),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
