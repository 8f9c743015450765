/* Plans that plan_finish must refuse: each is spoiled in one place, and the message must name it.
 */
#ifndef TESTS_PLAN_REFUSALS_H
#define TESTS_PLAN_REFUSALS_H

#include "plan/plan.h"
#include "support/test_support.h"

struct refusal {
    const char *name;
    void (*spoil)(struct plan *plan);
    const char *said; /* must occur in the message */
};

#define REFUSAL(function, said)   \
    {                             \
#function, function, said \
    }

/* `make_plan` makes a plan that would be accepted. */
static inline void refusals_check(const struct refusal *refusals, size_t count,
                                  struct plan *(*make_plan)(void))
{
    for (size_t i = 0; i < count; i++) {
        struct llcuda_error error = {0};
        struct plan *plan = make_plan();
        refusals[i].spoil(plan);
        if (plan_finish(plan, &error) != LLCUDA_BAD_FORMAT) {
            fail_msg("%s was accepted", refusals[i].name);
        }
        if (!strstr(error.message, refusals[i].said)) {
            fail_msg("%s: '%s' lacks '%s'", refusals[i].name, error.message, refusals[i].said);
        }
        plan_destroy(plan);
    }
}

#endif
