/* What the harness itself costs, against a scripted engine that makes tokens at a known pace: its
 * processor time as a share of the measured time, monitor included. */
#include "paced.h"
#include "support/test_support.h"

#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "bench/driver_adapter.h"
#include "bench/load.h"
#include "bench/monitor.h"
#include "watch.h"

static uint32_t prompt[1024];
static uint32_t prompt_tokens = 64;
static uint32_t output_tokens = 48;

static void make_request(void *user, uint64_t index, struct load_request *request)
{
    (void)user;
    (void)index;
    request->ids = prompt;
    request->id_count = prompt_tokens;
    request->max_tokens = output_tokens;
}

struct cost {
    double share;    /* processor time / wall time */
    double us_token; /* processor time a token */
    double tokens_s;
    double gap_us, gap_us_least, first_us; /* means and the least, as measured */
};

static struct cost measure(const char *step_us, const char *stamps, uint32_t parallel,
                           uint64_t requests)
{
    const char *command[] = {TEST_PACED_ENGINE, step_us, stamps, NULL};
    char *environment[] = {NULL};
    const char *extra[] = {NULL};
    struct llcuda_error error = {0};
    struct adapter adapter;
    struct buffer hello = {0};
    struct monitor *monitor = NULL;
    struct monitor_totals totals;
    struct load_result result;
    assert_ok(
        adapter_start(&adapter, command, environment, extra, "/dev/null", 10000, &hello, &error),
        error);
    struct monitor_options options = {.group = adapter.process.pid, .rate_hz = 10};
    assert_ok(monitor_start(&options, &monitor, &error), error);
    struct load_plan plan = {.first = true,
                             .waves = true,
                             .parallel = parallel,
                             .request_count = requests,
                             .duration_ns = UINT64_MAX,
                             .timeout_ns = 60000000000u,
                             .request = make_request};
    monitor_mark(monitor);
    assert_ok(load_run(&adapter.driver, &plan, &result, &error), error);
    monitor_get_totals(monitor, &totals);
    assert_int_equal(result.count, requests);
    assert_int_equal(result.failed, 0);
    assert_int_equal(result.gaps_seen, requests * (output_tokens - 1));
    double tokens = (double)requests * output_tokens;
    struct cost cost = {.share = totals.own_cpu_seconds / totals.seconds,
                        .us_token = totals.own_cpu_seconds / tokens * 1e6,
                        .tokens_s = tokens / totals.seconds,
                        .gap_us_least = 1e9};
    for (uint32_t i = 0; i < result.gap_count; i++) {
        double gap = (double)result.gaps_us[i];
        cost.gap_us += gap / result.gap_count;
        cost.gap_us_least = gap < cost.gap_us_least ? gap : cost.gap_us_least;
    }
    for (uint64_t i = 0; i < requests; i++) {
        cost.first_us += (double)load_sample_at(&result, i)->first_us / (double)requests;
    }
    print_message(
        "%u at a time, %.0f tokens/s, %s: %.2f %% of the measured time, %.2f us a token\n",
        parallel, cost.tokens_s, stamps ? stamps : "one by one", cost.share * 100, cost.us_token);
    load_result_deinit(&result);
    monitor_stop(monitor);
    adapter_end(&adapter, 2000);
    buffer_deinit(&hello);
    return cost;
}

/* The best of three: what a waking costs is the machine's. */
static void expect_share(const char *step_us, const char *form, uint32_t parallel,
                         uint64_t requests)
{
    double best = 1;
    for (int attempt = 0; attempt < 3 && best > SHARE_MAX; attempt++) {
        const double share = measure(step_us, form, parallel, requests).share;
        best = share < best ? share : best;
    }
    judge_share(best);
}

/* An engine that stamps its tokens costs at most 1 %, however fast it is. */
static void test_share_of_stamped_tokens(void **state)
{
    (void)state;
    expect_share("5000", "stamps", 1, 8);
    expect_share("365", "stamps", 1, 100);
    expect_share("650", "stamps", 4, 200);
}

/* Long prompts and short answers, as fast as a GPU gives them: a prompt is made and sent at a cost
 * that its answer's few milliseconds have to carry. */
static void test_share_of_long_prompts(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < sizeof prompt / sizeof prompt[0]; i++) {
        prompt[i] = 100000 + i;
    }
    prompt_tokens = 1024;
    output_tokens = 32;
    expect_share("850", "columns", 1, 60);
    expect_share("850", "columns", 8, 240);
    prompt_tokens = 64;
    output_tokens = 48;
}

/* One that does not wakes the harness for each token: what that costs is the bound of its rate. */
static void test_share_of_plain_tokens(void **state)
{
    (void)state;
    expect_share("10000", NULL, 1, 4);
    measure("1000", NULL, 1, 30);
    measure("365", NULL, 1, 100);
}

/* Lines that wait do not change what is measured: tokens come as far apart as they were made. */
static void test_stamps_are_the_truth(void **state)
{
    (void)state;
    static const char *const forms[] = {"stamps", "columns"};
    for (size_t i = 0; i < 2; i++) {
        struct cost cost = measure("1000", forms[i], 1, 40);
        /* Sleeping takes longer on a busy machine, never shorter. */
        assert_true(cost.gap_us >= 999);
        assert_true(cost.gap_us_least >= 999); /* lines that came together were not made together */
        assert_true(cost.first_us >= 1000);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_share_of_stamped_tokens),
        cmocka_unit_test(test_share_of_long_prompts),
        cmocka_unit_test(test_share_of_plain_tokens),
        cmocka_unit_test(test_stamps_are_the_truth),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
