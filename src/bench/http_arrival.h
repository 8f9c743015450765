/* When bytes came over a socket, and keeping them for later. The kernel notes the time at which a
 * segment arrived, so that a reader that is woken late, or that reads several connections in one
 * go, still knows it; and bytes whose time is known need not be understood at once. One thread. */
#ifndef BENCH_HTTP_ARRIVAL_H
#define BENCH_HTTP_ARRIVAL_H

#include <sys/types.h>

#include "base/buffer.h"

/* Asks the kernel to note times of arrival on this socket. Where it cannot, times are those of the
 * reading. */
void arrival_watch(int descriptor);

/* The kernel's notes are on the system's clock, this is how far that is ahead of clock_now_ns. */
int64_t arrival_clock_offset_ns(void);

struct arrival_clock {
    int64_t offset_ns;    /* arrival_clock_offset_ns */
    uint64_t earliest_ns; /* no time is before it: a clock that was set meanwhile tells nonsense */
};

/* recv(), and in *at_ns when the last of these bytes arrived, on the clock of clock_now_ns and
 * never after now. */
ssize_t arrival_receive(int descriptor, void *data, size_t bytes, const struct arrival_clock *clock,
                        uint64_t *at_ns);

#define ARRIVALS_MAX      64u
#define ARRIVAL_BYTES_MAX 16384u

/* Bytes in the order of their arrival. A zeroed struct is empty. */
struct arrivals_held {
    struct buffer bytes;
    struct {
        uint32_t bytes;
        uint64_t at_ns;
    } pieces[ARRIVALS_MAX];
    uint32_t count;
};

/* Copies a piece; false when there is no room: what is held must then be taken first. */
bool arrivals_hold(struct arrivals_held *held, const char *data, size_t bytes, uint64_t at_ns);

/* Lets segments wait in the kernel, each with its own time, until arrival_take_kept; `first`: of an
 * answer. Nobody is to read in between, and not longer than 20 ms.
 *
 * The kernel joins an unread segment to the one before it, with the later time, once the one before
 * is acknowledged: then the sender's copy is gone that kept the two apart. A receiver acknowledges
 * after some 500 bytes if it has as large a window to offer as before; so it is told for a while
 * that its window is small, and acknowledges when it is read. All this is how Linux does it over
 * the loopback device, no promise: whoever relies on it must look whether times are apart. */
void arrival_keep(int descriptor, bool first);

/* Reads what has waited, in pieces that end where events of a stream do (at an empty line), each
 * with its time, and acknowledges it. Returns how many events ended; 0 also when there is nothing
 * to read or the other side has closed. */
uint32_t arrival_take_kept(int descriptor, struct arrival_clock clock, struct arrivals_held *held);

#endif
