/* Allocation failures: every allocation of opening, submitting, running, cancelling and closing is
 * made to fail in turn, once and from then on; nothing leaks, nothing is corrupted, other requests
 * do not notice. And a running engine allocates nothing at all, and takes no lock. */
#include "fake.h"

#include <pthread.h>

#include "simulate.h"

#include "base/file.h"

/* The linker leads every allocation of the library and of this test here. */
void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t size);

int __real_pthread_mutex_lock(pthread_mutex_t *mutex);
int __wrap_pthread_mutex_lock(pthread_mutex_t *mutex);

static _Atomic uint64_t allocations; /* the engine thread counts too */
static _Atomic uint64_t locks;

/* What happens inside core_step, whoever calls it. */
bool __real_core_step(struct engine_core *core);
bool __wrap_core_step(struct engine_core *core);
static _Thread_local bool stepping;
static _Atomic uint64_t steps_seen, allocations_in_steps, locks_in_steps;

bool __wrap_core_step(struct engine_core *core)
{
    stepping = true;
    bool worked = __real_core_step(core);
    stepping = false;
    atomic_fetch_add(&steps_seen, worked);
    return worked;
}
static _Atomic uint64_t allocated_bytes;
static uint64_t fail_at; /* 0: never */
static bool fail_on;     /* and all later ones */

static bool fails(void)
{
    uint64_t number = atomic_fetch_add(&allocations, 1) + 1;
    atomic_fetch_add(&allocations_in_steps, stepping);
    return fail_at > 0 && (fail_on ? number >= fail_at : number == fail_at);
}

void *__wrap_malloc(size_t size)
{
    atomic_fetch_add(&allocated_bytes, size);
    return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    atomic_fetch_add(&allocated_bytes, count * size);
    return fails() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *memory, size_t size)
{
    atomic_fetch_add(&allocated_bytes, size);
    return fails() ? NULL : __real_realloc(memory, size);
}

int __wrap_pthread_mutex_lock(pthread_mutex_t *mutex)
{
    atomic_fetch_add(&locks, 1);
    atomic_fetch_add(&locks_in_steps, stepping);
    return __real_pthread_mutex_lock(mutex);
}

static const struct scheduler_options small = {
    .block_count = 12,
    .running_max = 4,
    .rows_max = 24,
    .sequence_max = 16,
    .context_max = 64,
    .throughput_bias = 0.5,
    .prefix_cache = true,
};

/* A request that uses everything that takes memory. */
static void rich_options(llcuda_request_options *options, const uint32_t *prompt,
                         const llcuda_text *stop)
{
    static const llcuda_logit_bias bias = {3, 1};
    llcuda_request_options_init(options, sizeof *options);
    options->prompt_tokens = prompt;
    options->prompt_token_count = 20;
    options->max_tokens = 20;
    options->ignore_eos = true;
    options->temperature = 1;
    options->repetition_penalty = 1.1;
    options->logit_bias = &bias;
    options->logit_bias_count = 1;
    options->stop = stop;
    options->stop_count = 1;
    options->choice_count = 3;
    options->logprobs = true;
    options->top_logprobs = 3;
    options->echo = true;
    options->seed_given = true;
}

/* Opens, submits two requests, cancels one in the middle, closes. True when everything worked. */
static bool life(void)
{
    struct fake_engine engine;
    uint32_t prompt[20] = {5, 6, 7, 8, 9};
    const llcuda_text stop = {"zzz", 3};
    if (!fake_engine_open(&engine, &small, 61)) {
        return false;
    }
    llcuda_request_options options;
    rich_options(&options, prompt, &stop);
    llcuda_status status;
    llcuda_request *requests[2];
    bool good = true;
    for (int i = 0; i < 2; i++) {
        requests[i] = fake_submit(&engine, &options, &status);
        good = good && requests[i];
        assert_true(requests[i] || status == LLCUDA_OUT_OF_MEMORY);
    }
    for (int i = 0; i < 200; i++) {
        core_take_mail(&engine.core);
        core_step(&engine.core);
        if (i == 3 && requests[0]) {
            llcuda_request_cancel(requests[0]);
        }
        const llcuda_event *event;
        while (requests[1] && llcuda_request_next(requests[1], 0, &event, NULL) == LLCUDA_OK &&
               event->kind != LLCUDA_EVENT_DONE) {
        }
    }
    const llcuda_event *event;
    if (requests[1]) {
        assert_int_equal(llcuda_request_next(requests[1], 0, &event, NULL), LLCUDA_OK);
        assert_int_equal(event->status, LLCUDA_OK);
        assert_int_equal(event->usage.completion_tokens, 60);
    }
    llcuda_request_release(requests[0]);
    llcuda_request_release(requests[1]);
    core_take_mail(&engine.core);
    assert_null(engine.core.live);
    assert_true(scheduler_valid(&engine.core.scheduler) || fail_at > 0);
    fake_engine_close(&engine);
    return good;
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    for (int mode = 0; mode < 2; mode++) {
        fail_on = mode == 1;
        uint32_t failures = 0;
        for (fail_at = 1;; fail_at++) {
            allocations = 0;
            bool good = life();
            if (allocations < fail_at) {
                assert_true(good);
                break;
            }
            failures += !good;
        }
        printf("%llu allocations, %u of them end a submission or the opening\n",
               (unsigned long long)fail_at - 1, failures);
        assert_true(failures > 30);
    }
    fail_at = 0;
    fail_on = false;
}

/* The plan of the host's memory is what is taken, within a tenth. */
static void the_memory_plan_is_true(void **state)
{
    (void)state;
    for (int round = 0; round < 20; round++) {
        struct mailbox mailbox = {0};
        struct core_options options = {
            .scheduler = small,
            .vocabulary_size = 1000 + (uint32_t)test_random_below(100000),
            .piece_bytes_max = 100,
            .mailbox = &mailbox,
        };
        options.scheduler.block_count = 100 + (uint32_t)test_random_below(20000);
        options.scheduler.context_max = 100 + (uint32_t)test_random_below(100000);
        options.scheduler.running_max = 1 + (uint32_t)test_random_below(200);
        options.scheduler.rows_max = options.scheduler.running_max + 300;
        options.scheduler.sequence_max = 1000;
        struct engine_core core;
        struct llcuda_error error;
        uint64_t before = atomic_load(&allocated_bytes);
        assert_ok(core_init(&core, &options, &error), error);
        double taken = (double)(atomic_load(&allocated_bytes) - before);
        double planned = (double)core_bytes(&options);
        if (fabs(taken - planned) > 0.1 * taken) {
            fail_msg("planned %.0f bytes, taken %.0f", planned, taken);
        }
        core_deinit(&core);
    }
}

/* The wrappers see what they are to count: otherwise the zeros below mean nothing. */
static void the_counters_count(void **state)
{
    (void)state;
    uint64_t before[] = {allocations, locks};
    struct wakeup wakeup;
    assert_true(wakeup_init(&wakeup));
    wakeup_prepare(&wakeup);
    wakeup_signal(&wakeup);
    wakeup_deinit(&wakeup);
    struct buffer buffer = {0};
    assert_true(buffer_reserve(&buffer, 10));
    buffer_deinit(&buffer);
    assert_int_equal(allocations - before[0], 1);
    assert_int_equal(locks - before[1], 1);
}

static void a_step_allocates_and_locks_nothing(void **state)
{
    (void)state;
    struct fake_engine engine;
    uint32_t prompt[20] = {5, 6, 7, 8, 9};
    const llcuda_text stop = {"zzz", 3};
    assert_true(fake_engine_open(&engine, &small, 61));
    llcuda_request_options options;
    rich_options(&options, prompt, &stop);
    options.dry_multiplier = 0.5;
    options.top_p = 0.9;
    options.typical_p = 0.9;
    allocations_in_steps = locks_in_steps = steps_seen = 0;
    for (int round = 0; round < 30; round++) {
        llcuda_status status;
        prompt[10] = (uint32_t)round;
        llcuda_request *request = fake_submit(&engine, &options, &status);
        assert_non_null(request);
        for (int i = 0; i < 40; i++) {
            core_take_mail(&engine.core);
            core_step(&engine.core);
            const llcuda_event *event;
            while (llcuda_request_next(request, 0, &event, NULL) == LLCUDA_OK &&
                   event->kind != LLCUDA_EVENT_DONE) {
            }
        }
        llcuda_request_release(request);
    }
    assert_int_equal(allocations_in_steps, 0);
    assert_int_equal(locks_in_steps, 0);
    assert_true(steps_seen > 300);
    assert_true(engine.core.counters[CORE_GENERATED_TOKENS] > 1000);
    fake_engine_close(&engine);
}

/* The whole engine on the built-in model, its thread and the device included. The reader looks
 * again and again: waking one that sleeps takes a lock. */
static void a_running_engine_allocates_and_locks_nothing(void **state)
{
    (void)state;
    char *path = test_source_path("models/demo/llcuda-demo-q8_0.gguf");
    if (!file_exists(path)) {
        free(path);
        skip();
    }
    llcuda_engine_options options;
    llcuda_engine *engine;
    llcuda_error error;
    llcuda_request *requests[4];
    llcuda_engine_options_init(&options, sizeof options);
    options.model = path;
    options.context_length = 128;
    options.threads = 1; /* helpers of the device sleep and wake as they like */
    assert_ok(llcuda_engine_open(&options, &engine, &error), error);
    for (int i = 0; i < 4; i++) {
        llcuda_request_options request;
        llcuda_engine_request_defaults(engine, &request, sizeof request);
        request.prompt = "What is 2+2? What is 3+3?";
        request.prompt_bytes = strlen(request.prompt);
        request.max_tokens = 60;
        request.ignore_eos = true;
        request.temperature = i;
        request.top_k = 5 * (uint32_t)i;
        request.logprobs = i == 2;
        assert_ok(llcuda_submit(engine, &request, &requests[i], &error), error);
    }
    allocations_in_steps = locks_in_steps = steps_seen = 0;
    for (uint32_t left = 4; left > 0;) {
        for (int i = 0; i < 4; i++) {
            const llcuda_event *event;
            while (requests[i] && llcuda_request_next(requests[i], 0, &event, NULL) == LLCUDA_OK) {
                if (event->kind == LLCUDA_EVENT_DONE) {
                    llcuda_request_release(requests[i]);
                    requests[i] = NULL;
                    left--;
                }
            }
        }
    }
    assert_int_equal(allocations_in_steps, 0);
    assert_int_equal(locks_in_steps, 0);
    assert_true(steps_seen >= 30);
    llcuda_engine_close(engine);
    free(path);
}

/* The public interface on the built-in model: open, submit, read, close. */
static bool whole_life(const char *path)
{
    llcuda_engine_options options;
    llcuda_engine *engine;
    llcuda_error error;
    llcuda_engine_options_init(&options, sizeof options);
    options.model = path;
    options.context_length = 64;
    options.running_max = 2;
    options.threads = 1;
    llcuda_status status = llcuda_engine_open(&options, &engine, &error);
    if (status != LLCUDA_OK) {
        assert_null(engine);
        assert_true(strlen(error.message) > 5);
        return false;
    }
    llcuda_request_options request_options;
    llcuda_engine_request_defaults(engine, &request_options, sizeof request_options);
    request_options.messages = "[{\"role\": \"user\", \"content\": \"What is 2+2?\"}]";
    request_options.messages_bytes = strlen(request_options.messages);
    request_options.max_tokens = 3;
    request_options.choice_count = 2;
    llcuda_request *request;
    status = llcuda_submit(engine, &request_options, &request, &error);
    bool good = status == LLCUDA_OK;
    if (good) {
        const llcuda_event *event;
        do {
            assert_int_equal(llcuda_request_next(request, LLCUDA_FOREVER, &event, &error),
                             LLCUDA_OK);
        } while (event->kind != LLCUDA_EVENT_DONE);
        good = event->status == LLCUDA_OK;
        llcuda_request_release(request);
    }
    llcuda_engine_close(engine);
    return good;
}

/* Thousands of allocations: every one of the first, then ever larger strides. */
static void opening_a_model_may_fail(void **state)
{
    (void)state;
    char *path = test_source_path("models/demo/llcuda-demo-q8_0.gguf");
    if (!file_exists(path)) {
        free(path);
        skip();
    }
    uint32_t lives = 0;
    uint32_t failures = 0;
    fail_on = false;
    for (fail_at = 1;; fail_at += 1 + fail_at / 40) {
        allocations = 0;
        bool good = whole_life(path);
        lives++;
        failures += !good;
        if (allocations < fail_at) {
            assert_true(good);
            break;
        }
    }
    fail_at = 0;
    printf("%u lives, %u with a failure\n", lives, failures);
    assert_true(failures > 50);
    free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(the_counters_count),
        cmocka_unit_test(a_step_allocates_and_locks_nothing),
        cmocka_unit_test(a_running_engine_allocates_and_locks_nothing),
        cmocka_unit_test(the_memory_plan_is_true),
        cmocka_unit_test(opening_a_model_may_fail),
    };
    test_seed_print();
    return cmocka_run_group_tests_name("engine faults", tests, NULL, NULL);
}
