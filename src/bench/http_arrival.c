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
#define CLOCK_READINGS   4
#define CLOCK_WIDTH_NS   500u

void arrival_watch(int descriptor)
{
    int on = 1;
    setsockopt(descriptor, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on);
}

static int64_t nanoseconds(const struct timespec *time)
{
    return (int64_t)time->tv_sec * 1000000000 + time->tv_nsec;
}

/* Of a few readings the one that took the shortest: between the two clocks of the others this
 * thread was held up. */
int64_t arrival_clock_offset_ns(void)
{
    int64_t offset_ns = 0;
    uint64_t width_ns = UINT64_MAX;
    for (int i = 0; i < CLOCK_READINGS && width_ns > CLOCK_WIDTH_NS; i++) {
        struct timespec time;
        const uint64_t before = clock_now_ns();
        clock_gettime(CLOCK_REALTIME, &time);
        const uint64_t width = clock_now_ns() - before;
        if (width < width_ns) {
            width_ns = width;
            offset_ns = nanoseconds(&time) - (int64_t)(before + width / 2);
        }
    }
    return offset_ns;
}

/* What the kernel notes beside the bytes that it hands out. */
union note {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(sizeof(struct timespec))];
};

static struct msghdr message_of(struct iovec *vector, union note *note)
{
    return (struct msghdr){.msg_iov = vector,
                           .msg_iovlen = 1,
                           .msg_control = note->bytes,
                           .msg_controllen = sizeof note->bytes};
}

/* The time in a message's note, neither before the earliest there can be nor after `now`; without
 * a note `now`. */
static uint64_t time_of(struct msghdr *message, const struct arrival_clock *clock, uint64_t now)
{
    struct cmsghdr *note = CMSG_FIRSTHDR(message);
    if (!note || note->cmsg_level != SOL_SOCKET || note->cmsg_type != SCM_TIMESTAMPNS) {
        return now;
    }
    struct timespec time;
    memcpy(&time, CMSG_DATA(note), sizeof time);
    int64_t at = nanoseconds(&time) - clock->offset_ns;
    at = at < (int64_t)clock->earliest_ns ? (int64_t)clock->earliest_ns : at;
    return at > (int64_t)now ? now : (uint64_t)at;
}

/* recvmsg() with the time of the last byte. */
static ssize_t receive(int descriptor, void *data, size_t bytes, int flags,
                       const struct arrival_clock *clock, uint64_t *at_ns)
{
    union note note;
    struct iovec vector = {data, bytes};
    struct msghdr message = message_of(&vector, &note);
    ssize_t got = recvmsg(descriptor, &message, flags);
    uint64_t now = clock_now_ns();
    *at_ns = got > 0 ? time_of(&message, clock, now) : now;
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

struct pieces {
    uint32_t count, events; /* events that end in them */
    size_t bytes[ARRIVALS_MAX];
    uint64_t at_ns[ARRIVALS_MAX];
};

/* Cuts bytes where events end; at most as many pieces as there is room for. */
static void cut(const char *data, size_t bytes, uint32_t room, struct pieces *pieces)
{
    pieces->count = pieces->events = 0;
    for (size_t taken = 0; taken < bytes && pieces->count < room;) {
        size_t *piece = &pieces->bytes[pieces->count++];
        pieces->events += event_ends(data + taken, bytes - taken, piece);
        taken += *piece;
    }
}

/* The times of pieces at the head of what waits, each of which is peeked at behind the one before:
 * one call of the system. Returns how many it told; 0 where it cannot look further on each time
 * (before Linux 6.9). */
static uint32_t peek_apart(int descriptor, char *data, const struct arrival_clock *clock,
                           struct pieces *pieces)
{
    union note notes[ARRIVALS_MAX];
    struct iovec vectors[ARRIVALS_MAX];
    struct mmsghdr messages[ARRIVALS_MAX];
    const int start = 0;
    if (setsockopt(descriptor, SOL_SOCKET, SO_PEEK_OFF, &start, sizeof start)) {
        return 0;
    }
    for (uint32_t i = 0; i < pieces->count; i++) {
        vectors[i] = (struct iovec){data, pieces->bytes[i]};
        messages[i] = (struct mmsghdr){.msg_hdr = message_of(&vectors[i], &notes[i])};
        data += pieces->bytes[i];
    }
    const int told = recvmmsg(descriptor, messages, pieces->count, MSG_PEEK | MSG_TRUNC, NULL);
    const uint64_t now = clock_now_ns();
    struct arrival_clock after = *clock;
    uint32_t count = 0;
    while ((int)count < told && messages[count].msg_len == pieces->bytes[count]) {
        after.earliest_ns = time_of(&messages[count].msg_hdr, &after, now);
        pieces->at_ns[count++] = after.earliest_ns;
    }
    return count;
}

/* Likewise with a call for each, which looks at all before it once more. */
static uint32_t peek_together(int descriptor, char *data, const struct arrival_clock *clock,
                              struct pieces *pieces)
{
    struct arrival_clock after = *clock;
    size_t end = 0;
    for (uint32_t i = 0; i < pieces->count; i++) {
        end += pieces->bytes[i];
        if (receive(descriptor, data, end, MSG_PEEK | MSG_TRUNC, &after, &pieces->at_ns[i]) !=
            (ssize_t)end) {
            return i;
        }
        after.earliest_ns = pieces->at_ns[i];
    }
    return pieces->count;
}

uint32_t arrival_take_kept(int descriptor, struct arrival_clock clock, struct arrivals_held *held)
{
    char data[ARRIVAL_BYTES_MAX];
    struct pieces pieces;
    int window = WINDOW_BYTES_MAX;
    size_t taken = 0;
    /* Whatever is acknowledged while reading offers the whole window again. */
    setsockopt(descriptor, IPPROTO_TCP, TCP_WINDOW_CLAMP, &window, sizeof window);
    ssize_t got = recv(descriptor, data, sizeof data - held->bytes.length, MSG_PEEK);
    if (got <= 0) {
        return 0;
    }
    cut(data, (size_t)got, ARRIVALS_MAX - held->count, &pieces);
    uint32_t count = peek_apart(descriptor, data, &clock, &pieces);
    count = count ? count : peek_together(descriptor, data, &clock, &pieces);
    for (uint32_t i = 0; i < count; i++) {
        if (!arrivals_hold(held, data + taken, pieces.bytes[i], pieces.at_ns[i])) {
            break;
        }
        taken += pieces.bytes[i];
    }
    if (taken) {
        recv(descriptor, data, taken, MSG_TRUNC);
    }
    if (taken < (size_t)got) {
        const int start = 0; /* for whoever peeks next */
        setsockopt(descriptor, SOL_SOCKET, SO_PEEK_OFF, &start, sizeof start);
    }
    return count == pieces.count ? pieces.events : count;
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
