/* What goes wrong on a device, seen from the engine: a device that stops answering, and one without
 * memory. Requests end with a status, the others and the process go on, nothing is left behind. */
#include "support/test_support.h"

#include "base/clock.h"
#include "base/file.h"
#include "gpu/driver.h"
#include "llcuda/llcuda.h"

#define TOKENS 12u

static struct gpu_faults faults;

/* Waits of the engine's thread until the device hangs; it alone counts while a request runs. */
static uint32_t waits_left; /* 0: it does not */
static uint64_t hung_ns;
static llcuda_status (*real_wait)(struct gpu_driver *, struct gpu_event *, uint32_t,
                                  struct llcuda_error *);

static llcuda_status wait_or_hang(struct gpu_driver *driver, struct gpu_event *event,
                                  uint32_t timeout_ms, struct llcuda_error *error)
{
    if (waits_left > 0 && --waits_left == 0) {
        faults.hang_waits = true;
        faults.hang = true;
        hung_ns = clock_now_ns();
    }
    return real_wait(driver, event, timeout_ms, error);
}

/* Every emulated device of this program shares its failures and counters. */
llcuda_status __real_gpu_driver_open_emu(const struct gpu_open_options *options,
                                         struct gpu_driver **driver, struct llcuda_error *error);
llcuda_status __wrap_gpu_driver_open_emu(const struct gpu_open_options *options,
                                         struct gpu_driver **driver, struct llcuda_error *error);
llcuda_status __wrap_gpu_driver_open_emu(const struct gpu_open_options *options,
                                         struct gpu_driver **driver, struct llcuda_error *error)
{
    struct gpu_open_options with = *options;
    with.faults = &faults;
    llcuda_status status = __real_gpu_driver_open_emu(&with, driver, error);
    if (status == LLCUDA_OK) {
        real_wait = (*driver)->event_wait;
        (*driver)->event_wait = wait_or_hang;
    }
    return status;
}

static llcuda_status open_engine(const char *device, llcuda_engine **engine, llcuda_error *error)
{
    llcuda_engine_options options;
    char *path = test_source_path("models/demo/llcuda-demo-q8_0.gguf");
    if (!file_exists(path)) {
        free(path);
        skip();
    }
    llcuda_engine_options_init(&options, sizeof options);
    options.model = path;
    options.device = device;
    options.gpu_kernel_cache = KERNEL_CACHE;
    options.context_length = 64;
    options.running_max = 4;
    llcuda_status status = llcuda_engine_open(&options, engine, error);
    free(path);
    return status;
}

static llcuda_request *submit(llcuda_engine *engine, bool embedding)
{
    llcuda_request_options options;
    llcuda_request *request;
    llcuda_error error;
    llcuda_request_options_init(&options, sizeof options);
    options.prompt = "Once upon a time";
    options.prompt_bytes = strlen(options.prompt);
    options.max_tokens = embedding ? 0 : TOKENS;
    options.embedding = embedding ? LLCUDA_POOLING_MEAN : LLCUDA_POOLING_NONE;
    assert_ok(llcuda_submit(engine, &options, &request, &error), error);
    return request;
}

struct answer {
    uint32_t tokens[TOKENS];
    uint32_t count;
    llcuda_status status;
    char message[256];
};

static void read_answer(llcuda_request *request, struct answer *answer)
{
    const llcuda_event *event;
    llcuda_error error;
    *answer = (struct answer){0};
    do {
        assert_ok(llcuda_request_next(request, LLCUDA_FOREVER, &event, &error), error);
        for (uint32_t i = 0; event->kind == LLCUDA_EVENT_TOKENS && i < event->token_count; i++) {
            assert_true(answer->count < TOKENS);
            answer->tokens[answer->count++] = event->tokens[i];
        }
    } while (event->kind != LLCUDA_EVENT_DONE);
    answer->status = event->status;
    snprintf(answer->message, sizeof answer->message, "%s", event->message ? event->message : "");
    llcuda_request_release(request);
}

static void ask(llcuda_engine *engine, struct answer *answer)
{
    read_answer(submit(engine, false), answer);
}

static void expect_same(const struct answer *a, const struct answer *b)
{
    assert_int_equal(a->status, LLCUDA_OK);
    assert_int_equal(a->count, b->count);
    assert_memory_equal(a->tokens, b->tokens, sizeof a->tokens);
}

static void a_hang_ends_its_requests_and_nothing_else(void **state)
{
    (void)state;
    struct answer expected, answer;
    llcuda_engine *engine;
    llcuda_engine *cpu;
    llcuda_error error;
    faults = (struct gpu_faults){0};
    assert_ok(open_engine("cpu", &cpu, &error), error);
    ask(cpu, &expected);
    assert_ok(open_engine("emu", &engine, &error), error);
    waits_left = 4;
    llcuda_request *requests[] = {submit(engine, false), submit(engine, false)};
    for (int i = 0; i < 2; i++) {
        read_answer(requests[i], &answer);
        assert_int_equal(answer.status, LLCUDA_DEVICE);
        assert_non_null(strstr(answer.message, "stopped answering"));
        assert_true(answer.count < TOKENS);
    }
    assert_true(hung_ns != 0);
    assert_true(clock_now_ns() - hung_ns < 5000000000u);
    /* The same engine refuses at once, the other one answers. */
    uint64_t began_ns = clock_now_ns();
    ask(engine, &answer);
    assert_int_equal(answer.status, LLCUDA_DEVICE);
    assert_non_null(strstr(answer.message, "stopped answering"));
    assert_true(clock_now_ns() - began_ns < 1000000000u);
    llcuda_stats stats = {.size = sizeof stats};
    llcuda_engine_get_stats(engine, &stats);
    assert_true(stats.device_failed);
    ask(cpu, &answer);
    expect_same(&answer, &expected);
    llcuda_engine_close(engine);
    assert_int_equal(faults.live_allocations, 0);
    assert_int_equal(faults.live_objects, 0);
    /* Opened anew it works. */
    faults.hang = false;
    assert_ok(open_engine("emu", &engine, &error), error);
    ask(engine, &answer);
    assert_int_equal(answer.status, LLCUDA_OK);
    llcuda_engine_close(engine);
    llcuda_engine_close(cpu);
    assert_int_equal(faults.live_allocations, 0);
}

/* The n-th allocation fails for every n while a second model is opened: it says so, gives
 * everything back, and the first goes on. */
static void no_memory_for_one_model_leaves_the_other(void **state)
{
    (void)state;
    struct answer expected, answer;
    llcuda_engine *first;
    llcuda_engine *second = NULL;
    llcuda_error error;
    uint32_t failures = 0;
    faults = (struct gpu_faults){0};
    assert_ok(open_engine("emu", &first, &error), error);
    ask(first, &expected);
    ask(first, &answer); /* what a step makes when it is first wanted is there now */
    expect_same(&answer, &expected);
    uint64_t allocations = faults.live_allocations;
    uint64_t objects = faults.live_objects;
    for (uint64_t n = 1;; n++) {
        faults.fail_alloc_at = faults.allocations + n;
        llcuda_status status = open_engine("emu", &second, &error);
        if (status == LLCUDA_OK) {
            break;
        }
        assert_int_equal(status, LLCUDA_OUT_OF_MEMORY);
        assert_int_not_equal(error.message[0], 0);
        assert_int_equal(faults.live_allocations, allocations);
        assert_int_equal(faults.live_objects, objects);
        failures++;
        if (n % 8 == 1) {
            ask(first, &answer);
            expect_same(&answer, &expected);
        }
    }
    assert_true(failures > 10);
    faults.fail_alloc_at = 0;
    ask(first, &answer);
    expect_same(&answer, &expected);
    llcuda_engine_close(second);
    llcuda_engine_close(first);
    assert_int_equal(faults.live_allocations, 0);
}

/* Memory that is first wanted in a step: the request ends, the next one is answered. */
static void no_memory_in_a_step_ends_the_request(void **state)
{
    (void)state;
    struct answer expected, answer;
    llcuda_engine *engine;
    llcuda_error error;
    faults = (struct gpu_faults){0};
    assert_ok(open_engine("emu", &engine, &error), error);
    ask(engine, &expected);
    faults.fail_alloc_at = faults.allocations + 1;
    read_answer(submit(engine, true), &answer);
    assert_int_equal(answer.status, LLCUDA_OUT_OF_MEMORY);
    assert_int_not_equal(answer.message[0], 0);
    ask(engine, &answer);
    expect_same(&answer, &expected);
    llcuda_engine_close(engine);
    assert_int_equal(faults.live_allocations, 0);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(a_hang_ends_its_requests_and_nothing_else),
    cmocka_unit_test(no_memory_for_one_model_leaves_the_other),
    cmocka_unit_test(no_memory_in_a_step_ends_the_request),
};

TEST_MAIN(tests)
