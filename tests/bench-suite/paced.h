/* What programs that send tokens at a pace, and tests of what listening to them costs, share. */
#ifndef TEST_PACED_H
#define TEST_PACED_H

#include <stdint.h>
#include <time.h>

/* Instrumented, the harness is another program: it must run, its time says nothing. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SHARE_MAX       1.0
#define SCHEDULE_MS_MAX 1000.0
#else
#define SHARE_MAX       0.01
#define SCHEDULE_MS_MAX 1.0
#endif

static inline uint64_t paced_now_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static inline void paced_sleep_until(uint64_t ns)
{
    const struct timespec time = {(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL);
}

#endif
