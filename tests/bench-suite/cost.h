/* What the tests of the harness's own cost share: the bound, and when it is judged. */
#ifndef TEST_COST_H
#define TEST_COST_H

#include "support/test_support.h"

#include <sys/resource.h>
#include <time.h>

/* Instrumented, the harness is another program: it must run, its time says nothing. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SHARE_MAX 1.0
#else
#define SHARE_MAX 0.01
#endif

/* How often a share above the bound is measured again: what a waking costs is the machine's, and
 * other work beside it only adds to it. */
#define COST_ATTEMPTS 5

/* Where the bound holds, a sleep and its waking cost so much processor time. */
#define WAKING_US 15.0

static inline double cost_cpu_us(void)
{
    struct rusage usage;
    getrusage(RUSAGE_THREAD, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e6 +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

/* What a sleep costs here, of a program that does nothing else: the best of three times 30. */
static inline double waking_us(void)
{
    const struct timespec time = {0, 4800000};
    double best = 1e9;
    for (int i = 0; i < 3; i++) {
        const double before = cost_cpu_us();
        for (int j = 0; j < 30; j++) {
            nanosleep(&time, NULL);
        }
        const double each = (cost_cpu_us() - before) / 30;
        best = each < best ? each : best;
    }
    return best;
}

/* Holds the best share of some attempts to the bound. Nearly all of it is wakings, whose cost is
 * the machine's: where they cost twice as much (seen in a virtual machine whose host was busy) the
 * bound is twice as high. With `machine` of its processors at other work caches are cold as well:
 * that is not judged. */
static inline void judge_share(double share, double machine)
{
    if (share <= SHARE_MAX) {
        return;
    }
    const double waking = waking_us();
    const double allowed = SHARE_MAX * (waking > WAKING_US ? waking / WAKING_US : 1);
    print_message("a sleep alone costs %.1f us here: %.2f %% is allowed\n", waking, allowed * 100);
    if (share > allowed && machine > 0.25) {
        print_message("the machine is busy (%.0f %%): not judged\n", machine * 100);
        skip();
    }
    assert_true(share <= allowed);
}

#endif
