/* How soon a thread goes on when what it waits for has come. */
#ifndef BENCH_PROMPTNESS_H
#define BENCH_PROMPTNESS_H

#include <stdbool.h>

struct promptness {
    int slack_ns;
    int nice;   /* before */
    bool first; /* while it is taken */
};

/* Timers of the calling thread end when they are due and, with `first`, it is run before threads
 * that compute (nice −20), where the system grants that (CAP_SYS_NICE); it goes on without. A
 * thread with a real-time priority is first anyway. Only for threads that sleep nearly always.
 * `saved` is for promptness_end. */
void promptness_begin(struct promptness *saved, bool first);
void promptness_end(const struct promptness *saved);

#endif
