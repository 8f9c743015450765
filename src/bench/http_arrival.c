/* Owns the asking for and reading of the kernel's receive times, and the order of held pieces. It
 * must not know what the bytes mean, but where events of a stream end. */
#include "bench/http_arrival.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "base/clock.h"

#define WINDOW_BYTES_MIN 2048
#define WINDOW_BYTES_MAX (1 << 20)

void arrival_watch(int descriptor)
{
    int on = 1;
    setsockopt(descriptor, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on);
}

static int64_t nanoseconds(const struct timespec *time)
{
    return (int64_t)time->tv_sec * 1000000000 + time->tv_nsec;
}

int64_t arrival_clock_offset_ns(void)
{
    struct timespec time;
    uint64_t now = clock_now_ns();
    clock_gettime(CLOCK_REALTIME, &time);
    return nanoseconds(&time) - (int64_t)now;
}

/* recvmsg() with the time of the last byte. */
static ssize_t receive(int descriptor, void *data, size_t bytes, int flags,
                       const struct arrival_clock *clock, uint64_t *at_ns)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(struct timespec))];
    } control;
    struct iovec vector = {data, bytes};
    struct msghdr message = {.msg_iov = &vector,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof control.bytes};
    ssize_t got = recvmsg(descriptor, &message, flags);
    uint64_t now = clock_now_ns();
    *at_ns = now;
    struct cmsghdr *note = got > 0 ? CMSG_FIRSTHDR(&message) : NULL;
    if (note && note->cmsg_level == SOL_SOCKET && note->cmsg_type == SCM_TIMESTAMPNS) {
        struct timespec time;
        memcpy(&time, CMSG_DATA(note), sizeof time);
        int64_t at = nanoseconds(&time) - clock->offset_ns;
        at = at < (int64_t)clock->earliest_ns ? (int64_t)clock->earliest_ns : at;
        *at_ns = at > (int64_t)now ? now : (uint64_t)at;
    }
    return got;
}

ssize_t arrival_receive(int descriptor, void *data, size_t bytes, const struct arrival_clock *clock,
                        uint64_t *at_ns)
{
    return receive(descriptor, data, bytes, 0, clock, at_ns);
}

void arrival_keep(int descriptor, bool first)
{
    int off = 0;
    int window = WINDOW_BYTES_MIN;
    if (first) {
        setsockopt(descriptor, IPPROTO_TCP, TCP_QUICKACK, &off, sizeof off);
    }
    setsockopt(descriptor, IPPROTO_TCP, TCP_WINDOW_CLAMP, &window, sizeof window);
}

/* Whether an event of a stream, which an empty line ends, ends in `data`; *piece is how many bytes
 * go with it (the end of its chunk too), or all. */
static bool event_ends(const char *data, size_t bytes, size_t *piece)
{
    const char *end = data + bytes;
    const char *line = memchr(data, '\n', bytes);
    *piece = bytes;
    while (line) {
        const char *next = line + 1 + (end - line > 1 && line[1] == '\r');
        if (next < end && *next == '\n') {
            next++;
            next += end - next > 1 && next[0] == '\r' && next[1] == '\n' ? 2 : 0;
            *piece = (size_t)(next - data);
            return true;
        }
        line = memchr(next, '\n', (size_t)(end - next));
    }
    return false;
}

uint32_t arrival_take_kept(int descriptor, struct arrival_clock clock, struct arrivals_held *held)
{
    char data[ARRIVAL_BYTES_MAX];
    int window = WINDOW_BYTES_MAX;
    uint64_t at_ns;
    uint64_t last_ns;
    size_t taken = 0;
    uint32_t events = 0;
    /* Whatever is acknowledged while reading offers the whole window again. */
    setsockopt(descriptor, IPPROTO_TCP, TCP_WINDOW_CLAMP, &window, sizeof window);
    ssize_t got =
        receive(descriptor, data, sizeof data - held->bytes.length, MSG_PEEK, &clock, &last_ns);
    while (got > 0 && taken < (size_t)got) {
        size_t piece;
        bool whole = event_ends(data + taken, (size_t)got - taken, &piece);
        const size_t end = taken + piece;
        if (end == (size_t)got) {
            at_ns = last_ns;
        } else if (receive(descriptor, data, end, MSG_PEEK | MSG_TRUNC, &clock, &at_ns) !=
                   (ssize_t)end) {
            break;
        }
        if (!arrivals_hold(held, data + taken, piece, at_ns)) {
            break;
        }
        clock.earliest_ns = at_ns;
        taken = end;
        events += whole;
    }
    if (taken) {
        recv(descriptor, data, taken, MSG_TRUNC);
    }
    return events;
}

bool arrivals_hold(struct arrivals_held *held, const char *data, size_t bytes, uint64_t at_ns)
{
    if (held->count == ARRIVALS_MAX || held->bytes.length + bytes > ARRIVAL_BYTES_MAX ||
        !buffer_append(&held->bytes, data, bytes)) {
        return false;
    }
    held->pieces[held->count].bytes = (uint32_t)bytes;
    held->pieces[held->count++].at_ns = at_ns;
    return true;
}
