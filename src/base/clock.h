/* Time that only goes forward. */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdint.h>

/* Nanoseconds of the monotonic clock; the zero is arbitrary. Any thread. */
uint64_t clock_now_ns(void);

static inline double clock_ms(uint64_t nanoseconds)
{
    return (double)nanoseconds / 1e6;
}

#endif
