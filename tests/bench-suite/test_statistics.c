/* The statistics against what SciPy and NumPy make of the same numbers (reference.json). */
#include "support/test_support.h"

#include "base/file.h"
#include "base/json.h"
#include "bench/significance.h"

static struct buffer text;
static struct json_document *document;

static int set_up(void **state)
{
    (void)state;
    struct llcuda_error error = {0};
    char *path = test_source_path("tests/bench-suite/reference.json");
    assert_ok(file_read_all(path, 1u << 20, &text, &error), error);
    assert_ok(json_parse(buffer_view(&text), NULL, &document, &error), error);
    free(path);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    json_destroy(document);
    buffer_deinit(&text);
    return 0;
}

static const struct json_value *part(const char *name)
{
    const struct json_value *value = json_member(json_root(document), name);
    assert_true(json_is(value, JSON_ARRAY));
    return value;
}

static double number(const struct json_value *value)
{
    double result = NAN;
    assert_true(json_number(value, &result));
    return result;
}

static size_t numbers(const struct json_value *array, double *out, size_t capacity)
{
    size_t count = 0;
    JSON_EACH(value, array)
    {
        assert_true(count < capacity);
        out[count++] = number(value);
    }
    return count;
}

static void assert_close(double actual, double expected, double relative)
{
    if (!(fabs(actual - expected) <= relative * fabs(expected) + 1e-290)) {
        fail_msg("%.17g is not %.17g", actual, expected);
    }
}

static void test_distributions(void **state)
{
    (void)state;
    double row[4];
    size_t rows = 0;
    JSON_EACH(entry, part("beta"))
    {
        numbers(entry, row, 4);
        assert_close(stats_incomplete_beta(row[0], row[1], row[2]), row[3], 1e-9);
        rows++;
    }
    assert_true(rows > 100);
    JSON_EACH(entry_t, part("t_quantiles"))
    {
        numbers(entry_t, row, 4);
        assert_close(stats_t_quantile(row[0], row[1]), row[2], 1e-9);
    }
    JSON_EACH(entry_n, part("normal_quantiles"))
    {
        numbers(entry_n, row, 4);
        assert_true(fabs(stats_normal_quantile(row[0]) - row[1]) < 1e-11);
    }
}

static void test_pairs(void **state)
{
    (void)state;
    JSON_EACH(entry, part("pairs"))
    {
        double a[64];
        double b[64];
        size_t m = numbers(json_member(entry, "a"), a, 64);
        size_t n = numbers(json_member(entry, "b"), b, 64);
        struct mann_whitney normal = mann_whitney_normal(a, m, b, n);
        struct mann_whitney chosen = mann_whitney_test(a, m, b, n);
        struct welch welch = welch_test(a, m, b, n);
        const struct json_value *exact = json_member(entry, "p_exact");
        assert_close(normal.u, number(json_member(entry, "u")), 0);
        assert_close(normal.p, number(json_member(entry, "p_normal")), 1e-10);
        assert_int_equal(chosen.exact, !json_is(exact, JSON_NULL));
        if (chosen.exact) {
            assert_close(chosen.p, number(exact), 1e-10);
        }
        assert_close(welch.t, number(json_member(entry, "welch_t")), 1e-10);
        assert_close(welch.degrees, number(json_member(entry, "welch_df")), 1e-10);
        assert_close(welch.p, number(json_member(entry, "welch_p")), 1e-9);
        assert_close(hodges_lehmann(a, m, b, n, 0.95).median, number(json_member(entry, "shift")),
                     1e-12);
        assert_close(cohens_d(a, m, b, n), number(json_member(entry, "cohens_d")), 1e-10);
        assert_close(cliffs_delta(a, m, b, n), number(json_member(entry, "cliffs_delta")), 1e-12);
    }
}

static void test_singles(void **state)
{
    (void)state;
    JSON_EACH(entry, part("singles"))
    {
        double values[64];
        double ends[2];
        bool marks[64];
        size_t count = numbers(json_member(entry, "values"), values, 64);
        assert_close(stats_mean(values, count), number(json_member(entry, "mean")), 1e-14);
        assert_close(stats_deviation(values, count), number(json_member(entry, "deviation")),
                     1e-12);
        struct interval interval = stats_mean_interval(values, count, 0.95);
        numbers(json_member(entry, "interval"), ends, 2);
        assert_close(interval.low, ends[0], 1e-9);
        assert_close(interval.high, ends[1], 1e-9);
        size_t marked = stats_outliers(values, count, marks);
        size_t index = 0;
        JSON_EACH(expected, json_member(entry, "outliers"))
        {
            assert_int_equal(marks[index], json_bool(expected, false));
            marked -= marks[index];
            index++;
        }
        assert_int_equal(marked, 0);
        stats_sort(values, count);
        JSON_EACH(pair, json_member(entry, "quantiles"))
        {
            double both[2];
            numbers(pair, both, 2);
            assert_close(stats_quantile(values, count, both[0]), both[1], 1e-12);
        }
    }
}

static void test_holm(void **state)
{
    (void)state;
    JSON_EACH(entry, part("holm"))
    {
        double p[8];
        double corrected[8];
        size_t count = numbers(json_member(entry, "p"), p, 8);
        numbers(json_member(entry, "corrected"), corrected, 8);
        assert_true(holm_correct(p, count));
        for (size_t i = 0; i < count; i++) {
            assert_close(p[i], corrected[i], 1e-12);
        }
    }
    double some[3] = {0.02, NAN, 0.03};
    assert_true(holm_correct(some, 3));
    assert_close(some[0], 0.04, 1e-12);
    assert_true(isnan(some[1]));
}

/* R 4: wilcox.test(c(1.1,2.3,3.2,4.8,5.9), c(2.2,4.1,6.6,7.5,8.1), conf.int = TRUE) cuts 3 of the
 * 25 differences at each end: qwilcox(0.025, 5, 5) is 3. */
static void test_shift_interval(void **state)
{
    (void)state;
    const double a[] = {1.1, 2.3, 3.2, 4.8, 5.9};
    const double b[] = {2.2, 4.1, 6.6, 7.5, 8.1};
    double differences[25];
    for (size_t i = 0; i < 25; i++) {
        differences[i] = b[i % 5] - a[i / 5];
    }
    stats_sort(differences, 25);
    struct shift shift = hodges_lehmann(a, 5, b, 5, 0.95);
    assert_close(shift.interval.low, differences[2], 1e-14);
    assert_close(shift.interval.high, differences[22], 1e-14);
    /* Three a side never reach 95 %. */
    assert_true(isnan(hodges_lehmann(a, 3, b, 3, 0.95).interval.low));
}

/* The closed form against drawn resamples. */
static void test_bootstrap(void **state)
{
    (void)state;
    enum { COUNT = 101, RESAMPLES = 4000 };
    static double medians[RESAMPLES];
    double values[COUNT];
    double resample[COUNT];
    for (size_t i = 0; i < COUNT; i++) {
        values[i] = exp(test_random_normal());
    }
    stats_sort(values, COUNT);
    for (size_t r = 0; r < RESAMPLES; r++) {
        for (size_t i = 0; i < COUNT; i++) {
            resample[i] = values[test_random_below(COUNT)];
        }
        stats_sort(resample, COUNT);
        medians[r] = stats_quantile(resample, COUNT, 0.5);
    }
    stats_sort(medians, RESAMPLES);
    struct interval interval = stats_quantile_interval(values, COUNT, 0.5, 0.9);
    /* Drawing has an error of its own: the share of drawn medians inside is near 90 %. */
    size_t inside = 0;
    for (size_t r = 0; r < RESAMPLES; r++) {
        inside += medians[r] >= interval.low && medians[r] <= interval.high;
    }
    double share = (double)inside / RESAMPLES;
    assert_true(share > 0.88 && share < 0.95);
}

static struct interval of_runs(const char *runs, const double *values, double confidence)
{
    struct stats_sample samples[32];
    size_t count = strlen(runs);
    for (size_t i = 0; i < count; i++) {
        samples[i] = (struct stats_sample){values[i], (uint32_t)(runs[i] - 'a')};
    }
    stats_sort_samples(samples, count);
    return stats_quantile_interval_runs(samples, count, 4, 0.5, confidence);
}

/* Whole runs as the unit: by hand with two runs, where Student's t is tan(π confidence / 2), with
 * runs that are copies, with one run, and with none. */
static void test_interval_of_runs(void **state)
{
    (void)state;
    const double values[] = {1, 2, 3, 2, 3, 4, 5, 6, 7};
    /* Below 1 or above 4 the sum over runs is 2 from 0, and its deviation 1: t 1.9, then 2.1. */
    struct interval interval = of_runs("aaaccc", values, 0.69);
    assert_true(interval.low == 2 && interval.high == 3);
    interval = of_runs("aaaccc", values, 0.72);
    assert_true(interval.low == 1 && interval.high == 4);
    const double copies[] = {1, 2, 3, 1, 2, 3, 1, 2, 3};
    interval = of_runs("aaabbbccc", copies, 0.99);
    assert_true(interval.low == 2 && interval.high == 2);
    interval = of_runs("bbbbbbbbb", values, 0.9);
    double sorted[] = {1, 2, 2, 3, 3, 4, 5, 6, 7};
    struct interval one = stats_quantile_interval(sorted, 9, 0.5, 0.9);
    assert_true(interval.low == one.low && interval.high == one.high);
    assert_true(isnan(of_runs("", values, 0.9).low) && isnan(of_runs("a", values, 0.9).high));
}

/* Under no difference a test at 5 % calls one in about 5 % of comparisons, never in many more. */
static void test_level(void **state)
{
    (void)state;
    enum { TRIALS = 2000, COUNT = 6 };
    size_t mann = 0;
    size_t welch = 0;
    for (size_t trial = 0; trial < TRIALS; trial++) {
        double a[COUNT];
        double b[COUNT];
        for (size_t i = 0; i < COUNT; i++) {
            a[i] = 10 + test_random_normal();
            b[i] = 10 + test_random_normal();
        }
        mann += mann_whitney_test(a, COUNT, b, COUNT).p < 0.05;
        welch += welch_test(a, COUNT, b, COUNT).p < 0.05;
    }
    /* 5 % of 2,000 is 100; six deviations of the binomial more is 158. */
    assert_true(mann > 20 && mann < 158);
    assert_true(welch > 40 && welch < 158);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_distributions),    cmocka_unit_test(test_pairs),
        cmocka_unit_test(test_singles),          cmocka_unit_test(test_holm),
        cmocka_unit_test(test_shift_interval),   cmocka_unit_test(test_bootstrap),
        cmocka_unit_test(test_interval_of_runs), cmocka_unit_test(test_level),
    };
    test_seed_print();
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
