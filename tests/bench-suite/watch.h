/* A thread that does nothing but wake up on time, beside what is judged: where it cannot, nobody
 * can keep a schedule, whoever has the processors (a host's other guests do not show in a load). */
#ifndef TEST_WATCH_H
#define TEST_WATCH_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WATCH_RATE 500u
#define WATCH_MAX  60000u

struct watch {
    pthread_t thread;
    _Atomic bool stop;
    size_t count;
    double late_ms[WATCH_MAX];
    double cpu_us; /* of its processor time, a waking */
};

void watch_begin(struct watch *watch);

/* How late it woke at p99, in milliseconds. */
double watch_end(struct watch *watch);

/* That a share of the measured time (1 is all of it) is within the bound of the harness. It is not
 * judged where a waking that does nothing costs more than on any machine that the bound was made
 * on, because the host has less processor than it shows. */
void judge_share(double share);

#endif
