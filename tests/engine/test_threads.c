/* The engine thread under many callers: submissions, blocking and woken readers, cancellations at
 * any moment, sleep and wake; run it under ThreadSanitizer too. */
#include "fake.h"

#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/random.h"
#include "engine/engine.h"

#define VOCABULARY 61u

struct caller;

struct rig {
    struct llcuda_engine engine;
    struct fake_model *model;
    bool rounds;            /* readers are only noted by on_ready, and woken by on_round */
    struct caller *callers; /* [caller_count] */
    uint32_t caller_count;
};

static void on_round(void *user);

static struct rig *rig_open(void)
{
    struct rig *rig = calloc(1, sizeof *rig);
    struct llcuda_engine *engine = &rig->engine;
    struct core_options options = {
        .scheduler =
            {
                .block_count = 60,
                .running_max = 8,
                .rows_max = 40,
                .sequence_max = 256,
                .context_max = 200,
                .throughput_bias = 0.5,
                .prefix_cache = true,
            },
        .vocabulary_size = VOCABULARY,
    };
    struct llcuda_error error;
    engine->mailbox = mailbox_create();
    assert_true(wakeup_init(&engine->reached));
    assert_true(
        fake_core_open(&engine->core, &options, engine->mailbox, &rig->model, &engine->setup));
    if (test_random_below(2)) {
        fake_run_ahead(rig->model);
    }
    engine->core_made = true;
    engine->model.device_model = &rig->model->base;
    rig->rounds = test_random_below(2);
    engine->options.on_round = rig->rounds ? on_round : NULL;
    engine->options.on_round_user = rig;
    assert_ok(engine_thread_start(engine, &error), error);
    return rig;
}

static void rig_close(struct rig *rig)
{
    struct llcuda_engine *engine = &rig->engine;
    engine_thread_stop(engine);
    core_deinit(&engine->core);
    fake_model_free(rig->model);
    atomic_store(&engine->mailbox->stopped, true);
    llcuda_request *late = mailbox_take(engine->mailbox);
    while (late) {
        llcuda_request *next = late->mail_next;
        request_unref(late);
        late = next;
    }
    mailbox_release(engine->mailbox);
    wakeup_deinit(&engine->reached);
    free(rig);
}

/* A caller's own random numbers. */
static uint64_t draw(uint64_t *state, uint64_t bound)
{
    *state += 0x9E3779B97F4A7C15ull;
    return random_mix(*state) % bound;
}

struct caller {
    struct rig *rig;
    uint64_t random;
    uint32_t requests;
    uint32_t cancel_percent;
    uint32_t finished, cancelled;
    pthread_mutex_t mutex;
    pthread_cond_t condition;
    uint32_t ready;
    bool noted; /* the engine thread's */
    bool wrong;
};

static void on_ready(void *user)
{
    struct caller *caller = user;
    if (caller->rig->rounds) {
        caller->noted = true;
        return;
    }
    pthread_mutex_lock(&caller->mutex);
    caller->ready++;
    pthread_cond_signal(&caller->condition);
    pthread_mutex_unlock(&caller->mutex);
}

static void on_round(void *user)
{
    struct rig *rig = user;
    for (uint32_t i = 0; i < rig->caller_count; i++) {
        struct caller *caller = &rig->callers[i];
        if (caller->noted) {
            caller->noted = false;
            pthread_mutex_lock(&caller->mutex);
            caller->ready++;
            pthread_cond_signal(&caller->condition);
            pthread_mutex_unlock(&caller->mutex);
        }
    }
}

static void wait_ready(struct caller *caller)
{
    pthread_mutex_lock(&caller->mutex);
    while (caller->ready == 0) {
        pthread_cond_wait(&caller->condition, &caller->mutex);
    }
    caller->ready = 0;
    pthread_mutex_unlock(&caller->mutex);
}

/* Reads to the end in one of three ways; tokens must continue the expected answer. */
static void read_request(struct caller *caller, llcuda_request *request,
                         const struct fake_answer *answer, bool woken)
{
    uint32_t read = 0;
    uint64_t cancel_after = draw(&caller->random, 100) < caller->cancel_percent
                                ? draw(&caller->random, 12)
                                : UINT64_MAX;
    for (uint64_t events = 0;; events++) {
        const llcuda_event *event;
        if (events == cancel_after) {
            llcuda_request_cancel(request);
        }
        llcuda_status status = llcuda_request_next(request, woken ? 0 : 20, &event, NULL);
        if (status == LLCUDA_TIMEOUT) {
            if (woken) {
                wait_ready(caller);
            }
            continue;
        }
        if (event->kind == LLCUDA_EVENT_DONE) {
            bool whole = event->status == LLCUDA_OK;
            caller->wrong |= whole && read != answer->count;
            caller->wrong |= !whole && event->status != LLCUDA_CANCELLED;
            caller->finished += whole;
            caller->cancelled += !whole;
            return;
        }
        if (event->choice == 0) {
            for (uint32_t i = 0; i < event->token_count; i++) {
                caller->wrong |= read >= answer->count || event->tokens[i] != answer->tokens[read];
                read++;
            }
        }
    }
}

static void *call(void *argument)
{
    struct caller *caller = argument;
    for (uint32_t i = 0; i < caller->requests; i++) {
        uint32_t prompt[64];
        uint32_t length = 1 + (uint32_t)draw(&caller->random, 60);
        for (uint32_t k = 0; k < length; k++) {
            prompt[k] = k < 40 ? k : (uint32_t)draw(&caller->random, VOCABULARY);
        }
        llcuda_request_options options;
        llcuda_request_options_init(&options, sizeof options);
        options.prompt_tokens = prompt;
        options.prompt_token_count = length;
        options.max_tokens = 1 + (uint32_t)draw(&caller->random, 20);
        options.choice_count = draw(&caller->random, 5) == 0 ? 3 : 1;
        options.temperature = 1;
        options.seed_given = true;
        options.seed = draw(&caller->random, UINT64_MAX);
        bool woken = draw(&caller->random, 3) == 0;
        options.on_ready = woken ? on_ready : NULL;
        options.on_ready_user = caller;
        llcuda_status status;
        const struct request_setup *setup = &caller->rig->engine.setup;
        llcuda_request *request = fake_post(setup, &options, clock_now_ns(), &status);
        if (!request) {
            caller->wrong = true;
            return NULL;
        }
        if (draw(&caller->random, 100) < caller->cancel_percent / 4) {
            llcuda_request_release(request); /* nobody reads */
            caller->cancelled++;
            continue;
        }
        struct fake_answer answer;
        fake_answer_make(setup, &options, options.seed, 0, false, &answer);
        read_request(caller, request, &answer, woken);
        fake_answer_free(&answer);
        llcuda_request_release(request);
    }
    return NULL;
}

/* Waits until the counters that the engine publishes are all at rest. */
static void expect_rest(struct rig *rig, uint64_t submitted)
{
    uint64_t counters[CORE_COUNTER_COUNT];
    uint64_t until = clock_now_ns() + 20000000000u;
    do {
        core_read_stats(&rig->engine.core, counters);
        sched_yield();
    } while (counters[CORE_FINISHED] < submitted && clock_now_ns() < until);
    assert_int_equal(counters[CORE_SUBMITTED], submitted);
    assert_int_equal(counters[CORE_FINISHED], submitted);
    assert_int_equal(counters[CORE_REQUESTS], 0);
    assert_int_equal(counters[CORE_SEQUENCES], 0);
    assert_int_equal(counters[CORE_WAITING], 0);
    assert_int_equal(counters[CORE_RUNNING], 0);
    assert_int_equal(counters[CORE_PAUSED], 0);
    assert_int_equal(counters[CORE_BLOCKS_USED], 0);
    assert_int_equal(atomic_load(&rig->engine.mailbox->sequences_live), 0);
}

static void run_callers(uint32_t requests, uint32_t cancel_percent, uint32_t *cancelled)
{
    enum { CALLERS = 6 };
    struct rig *rig = rig_open();
    struct caller callers[CALLERS];
    pthread_t threads[CALLERS];
    rig->callers = callers;
    rig->caller_count = CALLERS;
    for (uint32_t i = 0; i < CALLERS; i++) {
        callers[i] = (struct caller){
            .rig = rig,
            .random = test_random(),
            .requests = requests,
            .cancel_percent = cancel_percent,
        };
        pthread_mutex_init(&callers[i].mutex, NULL);
        pthread_cond_init(&callers[i].condition, NULL);
    }
    for (uint32_t i = 0; i < CALLERS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, call, &callers[i]), 0);
    }
    *cancelled = 0;
    uint32_t finished = 0;
    for (uint32_t i = 0; i < CALLERS; i++) {
        pthread_join(threads[i], NULL);
        assert_false(callers[i].wrong);
        *cancelled += callers[i].cancelled;
        finished += callers[i].finished;
        pthread_cond_destroy(&callers[i].condition);
        pthread_mutex_destroy(&callers[i].mutex);
    }
    assert_int_equal(finished + *cancelled, CALLERS * requests);
    expect_rest(rig, (uint64_t)CALLERS * requests);
    rig_close(rig);
}

static void answers_are_the_lone_runs(void **state)
{
    (void)state;
    uint32_t cancelled;
    run_callers(150, 0, &cancelled);
    assert_int_equal(cancelled, 0);
}

static void cancellations_leave_nothing(void **state)
{
    (void)state;
    uint32_t cancelled = 0;
    uint32_t total = 0;
    while (total < 10000) {
        run_callers(1000, 95, &cancelled);
        total += cancelled;
    }
    printf("%u requests cancelled\n", total);
}

static void closing_ends_what_runs(void **state)
{
    (void)state;
    for (int round = 0; round < 50; round++) {
        struct rig *rig = rig_open();
        llcuda_request *requests[20];
        uint32_t prompt[20] = {3, 4, 5};
        llcuda_request_options options;
        llcuda_request_options_init(&options, sizeof options);
        options.prompt_tokens = prompt;
        options.prompt_token_count = 20;
        options.ignore_eos = true;
        options.temperature = 1;
        llcuda_status status;
        for (int i = 0; i < 20; i++) {
            requests[i] = fake_post(&rig->engine.setup, &options, clock_now_ns(), &status);
            assert_non_null(requests[i]);
        }
        for (uint64_t i = test_random_below(2000); i > 0; i--) {
            sched_yield();
        }
        rig_close(rig);
        for (int i = 0; i < 20; i++) {
            const llcuda_event *event;
            do {
                assert_int_equal(llcuda_request_next(requests[i], 0, &event, NULL), LLCUDA_OK);
            } while (event->kind != LLCUDA_EVENT_DONE);
            assert_true(event->status == LLCUDA_CANCELLED || event->status == LLCUDA_OK);
            llcuda_request_cancel(requests[i]); /* too late, and harmless */
            llcuda_request_release(requests[i]);
        }
    }
}

/* Waits until what is published says so, which comes at the end of a step. */
static void expect_failures(struct rig *rig, uint64_t steps_failed, uint64_t device_failed)
{
    uint64_t counters[CORE_COUNTER_COUNT];
    uint64_t until = clock_now_ns() + 20000000000u;
    do {
        core_read_stats(&rig->engine.core, counters);
        sched_yield();
    } while ((counters[CORE_STEPS_FAILED] != steps_failed ||
              counters[CORE_DEVICE_FAILED] != device_failed) &&
             clock_now_ns() < until);
    assert_int_equal(counters[CORE_STEPS_FAILED], steps_failed);
    assert_int_equal(counters[CORE_DEVICE_FAILED], device_failed);
}

static llcuda_status outcome(struct rig *rig)
{
    uint32_t prompt[3] = {3, 4, 5};
    llcuda_request_options options;
    llcuda_request_options_init(&options, sizeof options);
    options.prompt_tokens = prompt;
    options.prompt_token_count = 3;
    options.max_tokens = 9;
    options.ignore_eos = true;
    llcuda_status status;
    const llcuda_event *event;
    llcuda_request *request = fake_post(&rig->engine.setup, &options, clock_now_ns(), &status);
    do {
        assert_int_equal(llcuda_request_next(request, LLCUDA_FOREVER, &event, NULL), LLCUDA_OK);
    } while (event->kind != LLCUDA_EVENT_DONE);
    status = event->status;
    llcuda_request_release(request);
    return status;
}

/* A device that fails is told of until it computes again. */
static void a_failing_device_is_known(void **state)
{
    (void)state;
    struct rig *rig = rig_open();
    expect_failures(rig, 0, 0);
    rig->model->fail_at_step = 4;
    assert_int_equal(outcome(rig), LLCUDA_DEVICE);
    expect_failures(rig, 1, 1);
    assert_int_equal(outcome(rig), LLCUDA_OK);
    expect_failures(rig, 1, 0);
    rig_close(rig);
}

static void sleeping_holds_newcomers(void **state)
{
    (void)state;
    struct rig *rig = rig_open();
    uint32_t prompt[3] = {3, 4, 5};
    llcuda_request_options options;
    llcuda_request_options_init(&options, sizeof options);
    options.prompt_tokens = prompt;
    options.prompt_token_count = 3;
    options.max_tokens = 5;
    options.ignore_eos = true;
    llcuda_status status;
    for (int round = 0; round < 20; round++) {
        llcuda_request *before = fake_post(&rig->engine.setup, &options, clock_now_ns(), &status);
        engine_thread_become(&rig->engine, ENGINE_ASLEEP);
        const llcuda_event *event;
        llcuda_request *asleep = fake_post(&rig->engine.setup, &options, clock_now_ns(), &status);
        options.timeout_ms = 5;
        llcuda_request *overdue = fake_post(&rig->engine.setup, &options, clock_now_ns(), &status);
        options.timeout_ms = 0;
        do {
            assert_int_equal(llcuda_request_next(overdue, 10000, &event, NULL), LLCUDA_OK);
        } while (event->kind != LLCUDA_EVENT_DONE);
        assert_int_equal(event->status, LLCUDA_TIMEOUT);
        assert_int_equal(llcuda_request_next(asleep, 0, &event, NULL), LLCUDA_TIMEOUT);
        engine_thread_become(&rig->engine, ENGINE_AWAKE);
        llcuda_request *both[] = {before, asleep};
        for (int i = 0; i < 2; i++) {
            do {
                assert_int_equal(llcuda_request_next(both[i], 10000, &event, NULL), LLCUDA_OK);
            } while (event->kind != LLCUDA_EVENT_DONE);
            if (i == 1) {
                assert_int_equal(event->status, LLCUDA_OK);
                assert_int_equal(event->usage.completion_tokens, 5);
            }
            llcuda_request_release(both[i]);
        }
        llcuda_request_release(overdue);
    }
    rig_close(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_are_the_lone_runs), cmocka_unit_test(cancellations_leave_nothing),
        cmocka_unit_test(closing_ends_what_runs),    cmocka_unit_test(sleeping_holds_newcomers),
        cmocka_unit_test(a_failing_device_is_known),
    };
    test_seed_print();
    return cmocka_run_group_tests_name("engine threads", tests, NULL, NULL);
}
