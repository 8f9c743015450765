/* The load generator and the statistics together, against an engine whose distributions are known:
 * what is reported must be what is true, differences must be found when they are there, and not
 * when they are not. The engine's clock is simulated, the load generator is the real one. */
#include "support/test_support.h"

#include "base/random.h"
#include "bench/analysis.h"
#include "bench/arrivals.h"
#include "bench/load.h"
#include "simulated.h"

#define TRIALS   200u
#define RUNS     6u
#define REQUESTS 400u
#define LEVEL    20.0 /* requests a second */

static const uint32_t ids[] = {1, 2, 3};

static void make_request(void *user, uint64_t index, struct load_request *request)
{
    (void)user;
    (void)index;
    request->ids = ids;
    request->id_count = 3;
    request->max_tokens = 16;
}

static uint64_t due(void *user, uint64_t index)
{
    (void)index;
    return arrivals_next(user);
}

static llcuda_status open_loop(struct simulated *engine, uint64_t count, double rate,
                               struct load_result *result)
{
    struct llcuda_error error;
    struct arrivals arrivals;
    arrivals_init(&arrivals, ARRIVAL_POISSON, rate, 1, engine->seed ^ 77);
    struct load_plan plan = {.request_count = count,
                             .duration_ns = UINT64_MAX,
                             .user = &arrivals,
                             .request = make_request,
                             .due_ns = due,
                             .seed = engine->seed};
    return load_run(&engine->driver, &plan, result, &error);
}

struct seen {
    double first_means[RUNS], speeds[RUNS];
    struct stats_sample pooled[RUNS * REQUESTS];
};

/* A normal number of two uniform ones. */
static double normal_of(uint64_t seed)
{
    double u = 1 - random_uniform(seed, 0, 0);
    return sqrt(-2 * log(u)) * cos(6.283185307179586 * random_uniform(seed, 1, 0));
}

/* `unlike`: the deviation of the logarithm of how fast whole runs are. */
static void measure_runs(uint64_t seed, double factor, double unlike, struct seen *seen)
{
    for (uint32_t run = 0; run < RUNS; run++) {
        struct simulated engine;
        struct load_result result;
        simulated_init(&engine, random_mix(seed * 1000 + run));
        engine.factor = factor * exp(unlike * normal_of(random_mix(seed * 7777 + run)));
        assert_int_equal(open_loop(&engine, REQUESTS, LEVEL, &result), LLCUDA_OK);
        assert_int_equal(result.count, REQUESTS);
        assert_int_equal(result.failed, 0);
        double tokens = 0;
        double sum = 0;
        for (uint32_t i = 0; i < REQUESTS; i++) {
            const struct load_sample *sample = load_sample_at(&result, i);
            assert_int_equal(sample->state, LOAD_OK);
            assert_int_equal(sample->output_tokens, 16);
            seen->pooled[run * REQUESTS + i] =
                (struct stats_sample){(double)sample->first_us / 1e3, run};
            sum += (double)sample->first_us / 1e3;
            tokens += sample->output_tokens;
        }
        seen->first_means[run] = sum / REQUESTS;
        seen->speeds[run] = tokens / ((double)result.wall_ns / 1e9);
        load_result_deinit(&result);
        simulated_deinit(&engine);
    }
    stats_sort_samples(seen->pooled, RUNS * REQUESTS);
}

static void measure(uint64_t seed, double factor, struct seen *seen)
{
    measure_runs(seed, factor, 0, seen);
}

static bool inside(struct interval interval, double truth)
{
    return interval.low <= truth && truth <= interval.high;
}

/* Intervals of 99 %: of 200 seeded trials at least 95 % must hold the truth, for each figure. With
 * intervals of 95 % a correct harness would fall short of 95 % in about half of all seeds. */
static void test_recovers_truth(void **state)
{
    (void)state;
    static struct seen seen;
    const double median = 40;
    const double sigma = 0.5;
    const double truth_mean = median * exp(sigma * sigma / 2);
    const double z[PERCENTILE_COUNT] = {0, 1.6448536269514722, 2.3263478740408408};
    const double share[PERCENTILE_COUNT] = {0.5, 0.95, 0.99};
    uint32_t mean_hits = 0;
    uint32_t mean_hits_95 = 0;
    uint32_t speed_hits = 0;
    uint32_t hits[PERCENTILE_COUNT] = {0};
    uint64_t seed = 20260101;
    /* 400 Poisson arrivals take 400 / rate on average, then the last answer ends. */
    for (uint32_t trial = 0; trial < TRIALS; trial++) {
        measure(seed + trial, 1, &seen);
        mean_hits += inside(stats_mean_interval(seen.first_means, RUNS, 0.99), truth_mean);
        mean_hits_95 += inside(stats_mean_interval(seen.first_means, RUNS, 0.95), truth_mean);
        double rates[RUNS];
        for (uint32_t run = 0; run < RUNS; run++) {
            rates[run] = 1 / seen.speeds[run]; /* seconds a token: unbiased where the rate is not */
        }
        /* The last request ends near 40 ms and 15 gaps of 8 ms after the last arrival; what is
         * left is below the width of the interval. */
        double seconds = REQUESTS / LEVEL + 0.165;
        speed_hits += inside(stats_mean_interval(rates, RUNS, 0.99), seconds / (16.0 * REQUESTS));
        for (int p = 0; p < PERCENTILE_COUNT; p++) {
            hits[p] += inside(
                stats_quantile_interval_runs(seen.pooled, RUNS * REQUESTS, RUNS, share[p], 0.99),
                median * exp(sigma * z[p]));
        }
    }
    print_message("of %u: mean %u (at 95 %%: %u), p50 %u, p95 %u, p99 %u, throughput %u\n", TRIALS,
                  mean_hits, mean_hits_95, hits[0], hits[1], hits[2], speed_hits);
    assert_true(mean_hits >= TRIALS * 95 / 100);
    assert_true(speed_hits >= TRIALS * 95 / 100);
    for (int p = 0; p < PERCENTILE_COUNT; p++) {
        assert_true(hits[p] >= TRIALS * 95 / 100);
    }
    /* And they are not simply wide: those of 95 % hold it about as often as they say. */
    assert_true(mean_hits_95 >= TRIALS * 91 / 100 && mean_hits_95 <= TRIALS * 99 / 100);
}

/* Runs that differ by 10 %, as those on a machine with other work do: intervals of 95 % must hold
 * the truth about as often as they say, which those that take requests for independent do not. */
static void test_runs_that_differ(void **state)
{
    (void)state;
    static struct seen seen;
    static double values[RUNS * REQUESTS];
    const double sigma = sqrt(0.5 * 0.5 + 0.1 * 0.1);
    const double z[PERCENTILE_COUNT] = {0, 1.6448536269514722, 2.3263478740408408};
    const double share[PERCENTILE_COUNT] = {0.5, 0.95, 0.99};
    uint32_t hits[PERCENTILE_COUNT] = {0};
    uint32_t pooled_hits = 0;
    for (uint32_t trial = 0; trial < TRIALS; trial++) {
        measure_runs(7000000 + trial, 1, 0.1, &seen);
        for (int p = 0; p < PERCENTILE_COUNT; p++) {
            hits[p] += inside(
                stats_quantile_interval_runs(seen.pooled, RUNS * REQUESTS, RUNS, share[p], 0.95),
                40 * exp(sigma * z[p]));
        }
        for (uint32_t i = 0; i < RUNS * REQUESTS; i++) {
            values[i] = seen.pooled[i].value;
        }
        pooled_hits += inside(stats_quantile_interval(values, RUNS * REQUESTS, 0.5, 0.95), 40);
    }
    print_message("of %u: p50 %u, p95 %u, p99 %u; p50 without runs %u\n", TRIALS, hits[0], hits[1],
                  hits[2], pooled_hits);
    for (int p = 0; p < PERCENTILE_COUNT; p++) {
        assert_true(hits[p] >= TRIALS * 89 / 100 && hits[p] <= TRIALS * 99 / 100);
    }
    assert_true(pooled_hits < TRIALS * 60 / 100);
}

static enum verdict judge(const struct seen *a, const struct seen *b)
{
    struct config_analysis options = {.confidence = 0.95, .mann_whitney = true, .welch = true};
    struct comparison comparison = {0};
    comparison_make(&comparison, METRIC_TTFT, a->first_means, RUNS, b->first_means, RUNS, &options);
    comparison_decide(&comparison, &options, "B", "A");
    return comparison.verdict;
}

static void test_same_engine_twice(void **state)
{
    (void)state;
    static struct seen a;
    static struct seen b;
    uint32_t called = 0;
    for (uint32_t trial = 0; trial < TRIALS; trial++) {
        measure(500000 + trial, 1, &a);
        measure(900000 + trial, 1, &b);
        called += judge(&a, &b) != VERDICT_SAME;
    }
    print_message("A against A: %u of %u called\n", called, TRIALS);
    assert_true(called <= TRIALS * 5 / 100);
}

static void test_planted_difference(void **state)
{
    (void)state;
    static struct seen a;
    static struct seen b;
    uint32_t worse = 0;
    uint32_t better = 0;
    for (uint32_t trial = 0; trial < TRIALS; trial++) {
        struct { /* 24 runs: four times what the others have */
            double a[4 * RUNS], b[4 * RUNS];
        } runs;
        for (uint32_t part = 0; part < 4; part++) {
            measure(1000000 + trial * 8 + part, 1, &a);
            measure(3000000 + trial * 8 + part, 1.05, &b);
            memcpy(runs.a + part * RUNS, a.first_means, sizeof a.first_means);
            memcpy(runs.b + part * RUNS, b.first_means, sizeof b.first_means);
        }
        struct config_analysis options = {.confidence = 0.95, .mann_whitney = true, .welch = true};
        struct comparison comparison = {0};
        comparison_make(&comparison, METRIC_TTFT, runs.a, 4 * RUNS, runs.b, 4 * RUNS, &options);
        comparison_decide(&comparison, &options, "B", "A");
        worse += comparison.verdict == VERDICT_WORSE;
        better += comparison.verdict == VERDICT_BETTER;
    }
    print_message("5 %% slower, 24 runs: %u of %u called\n", worse, TRIALS);
    assert_int_equal(better, 0);
    assert_true(worse >= TRIALS * 95 / 100);
}

/* In an open loop a slow engine must not slow down its own examination: requests go out on time
 * while earlier ones are far from done. */
static void test_no_coordinated_omission(void **state)
{
    (void)state;
    struct simulated engine;
    struct load_result result;
    simulated_init(&engine, 5);
    engine.factor = 1000; /* forty seconds to the first token */
    assert_int_equal(open_loop(&engine, 200, 50, &result), LLCUDA_OK);
    for (uint32_t i = 0; i < 200; i++) {
        const struct load_sample *sample = load_sample_at(&result, i);
        assert_true((double)sample->late_us < 1);
        assert_true(sample->due_ns < 10000000000u);
    }
    load_result_deinit(&result);
    simulated_deinit(&engine);
}

/* A million samples within 50 MB, all there. */
static void test_million_samples(void **state)
{
    (void)state;
    struct simulated engine;
    struct load_result result;
    simulated_init(&engine, 9);
    engine.tokens = 2;
    assert_int_equal(open_loop(&engine, 1000000, 20000, &result), LLCUDA_OK);
    assert_int_equal(result.count, 1000000);
    assert_int_equal(result.gaps_seen, 1000000);
    assert_int_equal(result.gap_count, LOAD_GAPS_MAX);
    print_message("a million samples: %.1f MB\n", (double)result.memory_bytes / 1e6);
    assert_true(result.memory_bytes <= 50000000);
    /* The kept gaps are a fair choice: their mean is that of all. */
    double sum = 0;
    for (uint32_t i = 0; i < result.gap_count; i++) {
        sum += (double)result.gaps_us[i] / 1e3;
    }
    assert_true(fabs(sum / result.gap_count - 8) < 0.2);
    load_result_deinit(&result);
    simulated_deinit(&engine);
}

/* An engine whose n-th answer has a token each n milliseconds. */
struct slowing {
    struct driver driver;
    uint64_t now_ns, step_ns;
    uint32_t index, left;
};

#define SLOWING_ANSWERS 10u
#define SLOWING_TOKENS  100000u

static uint64_t slowing_now(struct driver *driver)
{
    return ((struct slowing *)(void *)driver)->now_ns;
}

static llcuda_status slowing_submit(struct driver *driver, const struct load_request *requests,
                                    uint32_t count, struct llcuda_error *error)
{
    struct slowing *engine = (struct slowing *)(void *)driver;
    (void)count;
    (void)error;
    engine->index = requests[0].index;
    engine->step_ns = (engine->index + 1) * 1000000u;
    engine->left = SLOWING_TOKENS;
    return LLCUDA_OK;
}

static llcuda_status slowing_wait(struct driver *driver, uint64_t until_ns,
                                  const struct load_sink *sink, struct llcuda_error *error)
{
    struct slowing *engine = (struct slowing *)(void *)driver;
    (void)until_ns;
    (void)error;
    while (engine->left) {
        engine->now_ns += engine->step_ns;
        engine->left--;
        const struct load_event event = {.index = engine->index,
                                         .now_ns = engine->now_ns,
                                         .tokens = 1,
                                         .done = engine->left == 0};
        sink->event(sink->user, &event);
    }
    return LLCUDA_OK;
}

/* When there is no room for all gaps, those that are kept are of all times alike. */
static void test_kept_gaps_are_of_all_times(void **state)
{
    (void)state;
    static const struct driver_ops ops = {slowing_now, slowing_submit, slowing_wait};
    struct slowing engine = {.driver = {&ops}, .now_ns = 1};
    struct load_plan plan = {.parallel = 1,
                             .request_count = SLOWING_ANSWERS,
                             .duration_ns = UINT64_MAX,
                             .request = make_request,
                             .seed = 11};
    struct load_result result;
    struct llcuda_error error = {0};
    uint32_t kept[SLOWING_ANSWERS + 1] = {0};
    assert_ok(load_run(&engine.driver, &plan, &result, &error), error);
    assert_int_equal(result.gaps_seen, SLOWING_ANSWERS * (SLOWING_TOKENS - 1));
    for (uint32_t i = 0; i < result.gap_count; i++) {
        const double milliseconds = (double)result.gaps_us[i] / 1e3;
        assert_true(milliseconds > 0.5 && milliseconds < SLOWING_ANSWERS + 0.5);
        kept[lround(milliseconds)]++;
    }
    /* Drawn from SLOWING_ANSWERS heaps: 77 is one standard deviation. */
    for (uint32_t i = 1; i <= SLOWING_ANSWERS; i++) {
        assert_in_range(kept[i], LOAD_GAPS_MAX / SLOWING_ANSWERS - 385,
                        LOAD_GAPS_MAX / SLOWING_ANSWERS + 385);
    }
    load_result_deinit(&result);
}

static void test_arrivals(void **state)
{
    (void)state;
    const struct {
        enum arrival_kind kind;
        double shape, variation;
    } rows[] = {{ARRIVAL_POISSON, 1, 1},
                {ARRIVAL_CONSTANT, 1, 0},
                {ARRIVAL_GAMMA, 0.25, 2},
                {ARRIVAL_GAMMA, 4, 0.5}};
    for (size_t i = 0; i < 4; i++) {
        enum { COUNT = 40000 };
        static double gaps[COUNT];
        struct arrivals arrivals;
        uint64_t before = 0;
        arrivals_init(&arrivals, rows[i].kind, 100, rows[i].shape, 3 + i);
        for (size_t n = 0; n < COUNT; n++) {
            uint64_t at = arrivals_next(&arrivals);
            assert_true(at >= before);
            gaps[n] = (double)(at - before) / 1e6;
            before = at;
        }
        assert_true(fabs(stats_mean(gaps, COUNT) - 10) < 0.4);
        assert_true(fabs(stats_variation(gaps, COUNT) - rows[i].variation) < 0.08);
    }
}

/* Waves: the next begins when all of the last are done; a closed loop keeps its level. */
static void test_closed_loops(void **state)
{
    (void)state;
    struct simulated engine;
    struct load_result result;
    struct llcuda_error error;
    simulated_init(&engine, 11);
    struct load_plan plan = {.waves = true,
                             .parallel = 4,
                             .request_count = 12,
                             .duration_ns = UINT64_MAX,
                             .request = make_request};
    assert_ok(load_run(&engine.driver, &plan, &result, &error), error);
    for (uint32_t wave = 1; wave < 3; wave++) {
        for (uint32_t i = 0; i < 4; i++) {
            for (uint32_t j = 0; j < 4; j++) {
                const struct load_sample *before = load_sample_at(&result, wave * 4 - 4 + j);
                double end = (double)before->due_ns / 1e3 + (double)before->last_us;
                assert_true((double)load_sample_at(&result, wave * 4 + i)->due_ns / 1e3 >= end - 1);
            }
        }
    }
    load_result_deinit(&result);
    plan.waves = false;
    plan.request_count = UINT64_MAX;
    plan.duration_ns = 5000000000u;
    assert_ok(load_run(&engine.driver, &plan, &result, &error), error);
    assert_true(result.count > 80 && result.wall_ns > 5000000000u);
    load_result_deinit(&result);
    simulated_deinit(&engine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_recovers_truth),
        cmocka_unit_test(test_same_engine_twice),
        cmocka_unit_test(test_planted_difference),
        cmocka_unit_test(test_no_coordinated_omission),
        cmocka_unit_test(test_million_samples),
        cmocka_unit_test(test_kept_gaps_are_of_all_times),
        cmocka_unit_test(test_arrivals),
        cmocka_unit_test(test_closed_loops),
        cmocka_unit_test(test_runs_that_differ),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
