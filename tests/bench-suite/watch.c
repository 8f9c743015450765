#include "watch.h"

#include "support/test_support.h"

#include <time.h>

#include "base/clock.h"
#include "bench/stats.h"
#include "paced.h"

#define WAKING_US_MAX 60.0 /* 11 to 45 were seen */

static void *watch_run(void *user)
{
    struct watch *watch = user;
    struct timespec used;
    uint64_t due = clock_now_ns();
    while (!atomic_load(&watch->stop) && watch->count < WATCH_MAX) {
        due += 1000000000u / WATCH_RATE;
        const struct timespec time = {(time_t)(due / 1000000000u), (long)(due % 1000000000u)};
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL);
        watch->late_ms[watch->count++] = (double)(clock_now_ns() - due) / 1e6;
    }
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
    watch->cpu_us = ((double)used.tv_sec * 1e6 + (double)used.tv_nsec / 1e3) / (double)watch->count;
    return NULL;
}

void watch_begin(struct watch *watch)
{
    watch->count = 0;
    atomic_store(&watch->stop, false);
    assert_int_equal(pthread_create(&watch->thread, NULL, watch_run, watch), 0);
}

double watch_end(struct watch *watch)
{
    atomic_store(&watch->stop, true);
    pthread_join(watch->thread, NULL);
    stats_sort(watch->late_ms, watch->count);
    return stats_quantile(watch->late_ms, watch->count, 0.99);
}

void judge_share(double share)
{
    if (share > SHARE_MAX) {
        static struct watch watch;
        const struct timespec time = {1, 0};
        watch_begin(&watch);
        nanosleep(&time, NULL);
        watch_end(&watch);
        print_message("a waking alone costs %.0f us here\n", watch.cpu_us);
        if (watch.cpu_us > WAKING_US_MAX) {
            skip();
        }
    }
    assert_true(share <= SHARE_MAX);
}
