/* Owns the scheduling of the thread that sends the load. An engine on the same processors leaves it
 * no idle one, and a thread like others waits for its turn for milliseconds. A real-time priority
 * helps as well and costs a quarter more processor time. */
#include "bench/promptness.h"

#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#define NICE_FIRST (-20)

void promptness_begin(struct promptness *saved, bool first)
{
    const id_t self = (id_t)gettid(); /* Linux keeps this for each thread */
    *saved = (struct promptness){.slack_ns = prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0),
                                 .nice = getpriority(PRIO_PROCESS, self),
                                 .first = sched_getscheduler(0) != SCHED_OTHER};
    /* The kernel may wake a sleeper 50 us late to save wake-ups, unless it is asked not to. */
    prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
    if (first && !saved->first) {
        saved->first = setpriority(PRIO_PROCESS, self, NICE_FIRST) == 0;
    }
}

void promptness_end(const struct promptness *saved)
{
    prctl(PR_SET_TIMERSLACK, saved->slack_ns > 0 ? saved->slack_ns : 0, 0, 0, 0);
    setpriority(PRIO_PROCESS, (id_t)gettid(), saved->nice);
}
