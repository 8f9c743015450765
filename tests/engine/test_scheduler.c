/* The scheduler's promises, one by one: decoding is never starved, prompts come in chunks under the
 * budget, tenants share fairly, priority is a head start and not a wall, the first in order always
 * advances, and deadlines are found. The simulator tests them together. */
#include "support/test_support.h"

#include "base/random.h"
#include "engine/scheduler.h"

#define TOKENS 4096

static uint32_t tokens_of[TOKENS];

struct party {
    struct scheduler scheduler;
    struct sequence sequences[600];
    uint32_t count;
};

static struct party *party_open(struct scheduler_options options)
{
    struct party *party = calloc(1, sizeof *party);
    struct llcuda_error error;
    options.sequence_max = 600;
    for (uint32_t i = 0; i < TOKENS; i++) {
        tokens_of[i] = i;
    }
    assert_ok(scheduler_init(&party->scheduler, &options, &error), error);
    return party;
}

static void party_close(struct party *party)
{
    for (uint32_t i = 0; i < party->count; i++) {
        scheduler_remove(&party->scheduler, &party->sequences[i]);
    }
    assert_true(scheduler_valid(&party->scheduler));
    scheduler_deinit(&party->scheduler);
    free(party);
}

static struct sequence *arrive(struct party *party, const char *tenant, int32_t priority,
                               uint32_t prompt, uint32_t answer)
{
    struct sequence *sequence = &party->sequences[party->count++];
    *sequence = (struct sequence){
        .tokens = tokens_of,
        .known = prompt,
        .prompt_count = prompt,
        .token_max = prompt + answer,
        .priority = priority,
        .tenant = text_view_of(tenant),
        .salt = text_view_of(tenant),
    };
    scheduler_add(&party->scheduler, sequence);
    return sequence;
}

/* One step: everyone with logits gets a token, whoever is complete leaves. Returns the plan. */
static const struct step_plan *advance(struct party *party)
{
    const struct step_plan *plan = scheduler_plan(&party->scheduler);
    assert_true(plan->row_count <= party->scheduler.options.rows_max);
    for (uint32_t i = 0; i < plan->sequence_count; i++) {
        struct sequence *sequence = plan->sequences[i];
        scheduler_commit(&party->scheduler, sequence);
        if (sequence->want_logits && ++sequence->known == sequence->token_max) {
            scheduler_remove(&party->scheduler, sequence);
        }
    }
    assert_true(scheduler_valid(&party->scheduler));
    return plan;
}

static void decoding_is_never_starved(void **state)
{
    (void)state;
    for (int bias = 0; bias <= 2; bias++) {
        struct party *party = party_open((struct scheduler_options){
            .block_count = 2000,
            .running_max = 16,
            .rows_max = 64,
            .context_max = 2048,
            .throughput_bias = bias / 2.0,
        });
        for (int i = 0; i < 8; i++) {
            arrive(party, "short", 0, 4, 1000);
        }
        advance(party);
        for (int i = 0; i < 8; i++) {
            arrive(party, "long", 10, 2000, 10);
        }
        uint32_t most = 0;
        for (int step = 0; step < 30; step++) { /* no prompt is complete before */
            const struct step_plan *plan = advance(party);
            uint32_t decoded = 0;
            for (uint32_t i = 0; i < plan->sequence_count; i++) {
                decoded += plan->sequences[i] < &party->sequences[8];
            }
            assert_int_equal(decoded, 8);
            most = plan->row_count > most ? plan->row_count : most;
        }
        /* The dial: 16 rows of prompt at least, half of what is left, all of it. */
        assert_int_equal(most, bias == 0 ? 8 + 16 : bias == 1 ? 8 + 28 : 64);
        party_close(party);
    }
}

static void a_prompt_alone_fills_the_step(void **state)
{
    (void)state;
    struct party *party = party_open((struct scheduler_options){
        .block_count = 200,
        .running_max = 4,
        .rows_max = 100,
        .context_max = 2048,
    });
    struct sequence *sequence = arrive(party, "", 0, 250, 5);
    assert_int_equal(advance(party)->row_count, 100);
    assert_false(sequence->want_logits);
    assert_int_equal(advance(party)->row_count, 100);
    assert_int_equal(advance(party)->row_count, 50);
    assert_true(sequence->want_logits);
    assert_int_equal(advance(party)->row_count, 1);
    party_close(party);
}

static void tenants_share_fairly(void **state)
{
    (void)state;
    struct party *party = party_open((struct scheduler_options){
        .block_count = 100,
        .running_max = 1, /* one at a time: the order of service is the order of the queue */
        .rows_max = 64,
        .context_max = 64,
    });
    for (int i = 0; i < 200; i++) {
        arrive(party, "greedy", 0, 10, 2);
    }
    for (int i = 0; i < 40; i++) {
        advance(party);
    }
    uint32_t first = party->count;
    for (int i = 0; i < 20; i++) {
        arrive(party, "modest", 0, 10, 2);
    }
    uint32_t greedy = 0;
    uint32_t modest = 0;
    while (modest < 20) {
        const struct step_plan *plan = advance(party);
        for (uint32_t i = 0; i < plan->sequence_count; i++) {
            if (plan->sequences[i]->state == SEQUENCE_NEW) { /* has left */
                bool newcomer = plan->sequences[i] >= &party->sequences[first];
                greedy += !newcomer;
                modest += newcomer;
            }
        }
    }
    assert_in_range(greedy, 15, 25);
    party_close(party);
}

static void priority_is_a_head_start(void **state)
{
    (void)state;
    struct party *party = party_open((struct scheduler_options){
        .block_count = 100,
        .running_max = 1,
        .rows_max = 64,
        .context_max = 64,
    });
    arrive(party, "", 0, 10, 2);
    advance(party);
    struct sequence *low = arrive(party, "", -10, 10, 2);
    struct sequence *middle = arrive(party, "", 0, 10, 2);
    struct sequence *high = arrive(party, "", 10, 10, 2);
    while (high->state != SEQUENCE_NEW) {
        advance(party);
    }
    assert_int_equal(middle->state, SEQUENCE_WAITING);
    assert_int_equal(low->state, SEQUENCE_WAITING);
    /* High priorities keep coming, and still everyone is served in the end. */
    uint32_t steps = 0;
    while (low->state != SEQUENCE_NEW) {
        if (party->scheduler.waiting.count < 5) {
            struct sequence *reused = &party->sequences[10 + steps % 500];
            if (reused->state == SEQUENCE_NEW) {
                *reused = *high;
                reused->known = reused->prompt_count;
                scheduler_add(&party->scheduler, reused);
            }
        }
        advance(party);
        assert_true(++steps < 100000);
    }
    assert_int_equal(middle->state, SEQUENCE_NEW);
    assert_true(steps > 1000); /* a head start it was */
    party->count = 600;
    party_close(party);
}

static void urgent_work_takes_blocks_from_the_rest(void **state)
{
    (void)state;
    struct party *party = party_open((struct scheduler_options){
        .block_count = 16,
        .running_max = 8,
        .rows_max = 256,
        .context_max = 256,
    });
    struct sequence *low = arrive(party, "", -5, 200, 56);
    advance(party);
    assert_int_equal(low->state, SEQUENCE_RUNNING);
    struct sequence *high = arrive(party, "", 5, 200, 10);
    advance(party);
    assert_int_equal(high->state, SEQUENCE_RUNNING);
    assert_int_equal(low->state, SEQUENCE_WAITING);
    assert_int_equal(low->preemptions, 1);
    for (int i = 0; i < 100 && low->state != SEQUENCE_NEW; i++) {
        advance(party);
    }
    assert_int_equal(low->state, SEQUENCE_NEW);
    party_close(party);
}

static void a_paused_sequence_gives_way(void **state)
{
    (void)state;
    struct party *party = party_open((struct scheduler_options){
        .block_count = 16,
        .running_max = 2,
        .rows_max = 256,
        .context_max = 256,
    });
    struct sequence *first = arrive(party, "", 0, 200, 20);
    advance(party);
    scheduler_pause(&party->scheduler, first, true);
    assert_int_equal(advance(party)->row_count, 0);
    struct sequence *second = arrive(party, "", 0, 150, 20);
    advance(party);
    assert_int_equal(first->state, SEQUENCE_PARKED);
    assert_int_equal(second->state, SEQUENCE_RUNNING);
    scheduler_pause(&party->scheduler, first, false);
    assert_int_equal(first->state, SEQUENCE_WAITING);
    for (int i = 0; i < 100; i++) {
        advance(party);
    }
    assert_int_equal(first->state, SEQUENCE_NEW);
    assert_int_equal(second->state, SEQUENCE_NEW);
    party_close(party);
}

static void deadlines_come_in_order(void **state)
{
    (void)state;
    struct party *party = party_open((struct scheduler_options){
        .block_count = 100,
        .running_max = 4,
        .rows_max = 64,
        .context_max = 64,
    });
    for (uint32_t i = 0; i < 300; i++) {
        struct sequence *sequence = &party->sequences[party->count++];
        *sequence = (struct sequence){.tokens = tokens_of,
                                      .known = 5,
                                      .prompt_count = 5,
                                      .token_max = 10,
                                      .deadline_ns = 1 + test_random_below(1000)};
        scheduler_add(&party->scheduler, sequence);
    }
    for (int i = 0; i < 3; i++) {
        advance(party);
    }
    uint64_t last = 0;
    uint32_t found = 0;
    struct sequence *sequence;
    assert_null(scheduler_expired(&party->scheduler, 0));
    while ((sequence = scheduler_expired(&party->scheduler, 500)) != NULL) {
        assert_true(sequence->deadline_ns >= last && sequence->deadline_ns <= 500);
        assert_int_equal(scheduler_next_deadline_ns(&party->scheduler), sequence->deadline_ns);
        last = sequence->deadline_ns;
        scheduler_remove(&party->scheduler, sequence);
        found++;
    }
    assert_true(found > 50);
    assert_true(scheduler_next_deadline_ns(&party->scheduler) > 500);
    party_close(party);
}

static void contradictions_are_refused(void **state)
{
    (void)state;
    struct scheduler scheduler;
    struct llcuda_error error;
    struct scheduler_options good = {
        .block_count = 10,
        .running_max = 4,
        .rows_max = 20,
        .sequence_max = 8,
        .context_max = 64,
    };
    struct scheduler_options bad[6];
    for (int i = 0; i < 6; i++) {
        bad[i] = good;
    }
    bad[0].running_max = 0;
    bad[1].rows_max = 19;
    bad[2].sequence_max = 3;
    bad[3].context_max = 0;
    bad[4].throughput_bias = NAN;
    bad[5].block_count = 0;
    for (int i = 0; i < 6; i++) {
        assert_int_equal(scheduler_init(&scheduler, &bad[i], &error), LLCUDA_INVALID_ARGUMENT);
    }
    assert_ok(scheduler_init(&scheduler, &good, &error), error);
    assert_true(scheduler_fits(&scheduler, 64));
    assert_false(scheduler_fits(&scheduler, 65));
    scheduler_deinit(&scheduler);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decoding_is_never_starved),
        cmocka_unit_test(a_prompt_alone_fills_the_step),
        cmocka_unit_test(tenants_share_fairly),
        cmocka_unit_test(priority_is_a_head_start),
        cmocka_unit_test(urgent_work_takes_blocks_from_the_rest),
        cmocka_unit_test(a_paused_sequence_gives_way),
        cmocka_unit_test(deadlines_come_in_order),
        cmocka_unit_test(contradictions_are_refused),
    };
    test_seed_print();
    return cmocka_run_group_tests_name("scheduler", tests, NULL, NULL);
}
