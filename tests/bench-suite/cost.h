/* What the tests of the harness's own cost share: the bound, and when it is judged. */
#ifndef TEST_COST_H
#define TEST_COST_H

#include "support/test_support.h"

/* Instrumented, the harness is another program: it must run, its time says nothing. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SHARE_MAX 1.0
#else
#define SHARE_MAX 0.01
#endif

/* How often a share above the bound is measured again: what a waking costs is the machine's, and
 * other work beside it only adds to it. */
#define COST_ATTEMPTS 5

/* Holds the best share of some attempts to the bound. With `machine` of its processors at other
 * work caches are cold and a waking costs three times as much: that is not judged. */
static inline void judge_share(double share, double machine)
{
    if (share > SHARE_MAX && machine > 0.25) {
        print_message("the machine is busy (%.0f %%): not judged\n", machine * 100);
        skip();
    }
    assert_true(share <= SHARE_MAX);
}

#endif
