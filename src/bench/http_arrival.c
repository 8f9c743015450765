/* Owns the asking for and reading of the kernel's receive times, and the order of held pieces. It
 * must not know what the bytes mean. */
#include "bench/http_arrival.h"

#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "base/clock.h"

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

ssize_t arrival_receive(int descriptor, void *data, size_t bytes, int64_t offset_ns,
                        uint64_t earliest_ns, uint64_t *at_ns)
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
    ssize_t got = recvmsg(descriptor, &message, 0);
    uint64_t now = clock_now_ns();
    *at_ns = now;
    struct cmsghdr *note = got > 0 ? CMSG_FIRSTHDR(&message) : NULL;
    if (note && note->cmsg_level == SOL_SOCKET && note->cmsg_type == SCM_TIMESTAMPNS) {
        struct timespec time;
        memcpy(&time, CMSG_DATA(note), sizeof time);
        int64_t at = nanoseconds(&time) - offset_ns;
        at = at < (int64_t)earliest_ns ? (int64_t)earliest_ns : at;
        *at_ns = at > (int64_t)now ? now : (uint64_t)at;
    }
    return got;
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
