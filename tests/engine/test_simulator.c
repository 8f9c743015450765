/* The engine's core under a random life: every answer equals the lone run's, bit for bit, whatever
 * the batch, the chunking, prefix hits, forks, preemptions and pauses; nothing leaks, nobody
 * starves. */
#include "simulate.h"

#ifndef SIMULATE_STEPS
#define SIMULATE_STEPS 20000
#endif

static void random_lives(void **state)
{
    (void)state;
    struct simulate_totals totals;
    simulate(SIMULATE_STEPS, &totals);
    /* The simulation means something only if everything happened. */
    assert_true(totals.finished > 0 && totals.cancelled > 0 && totals.timed_out > 0);
    assert_true(totals.preemptions > 0 && totals.hit_tokens > 0 && totals.copied_blocks > 0);
    assert_true(totals.evictions > 0 && totals.paused > 0 && totals.chosen > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(random_lives)};
    test_seed_print();
    return cmocka_run_group_tests_name("engine simulator", tests, NULL, NULL);
}
