/* Reading lists of sizes, and the statistics of a measurement. */
#include "support/test_support.h"

#include "bench/local.h"

static void test_lists(void **state)
{
    (void)state;
    struct local_list list;
    struct llcuda_error error = {0};
    assert_ok(local_list_read(&list, "--pp", "512", 0, &error), error);
    assert_int_equal(list.count, 1);
    assert_int_equal(list.values[0], 512);
    assert_ok(local_list_read(&list, "--pp", "0,16777216,7", 0, &error), error);
    assert_int_equal(list.count, 3);
    assert_int_equal(list.values[1], 16777216);
    static const char *const bad[] = {
        "", ",", "1,", "1,,2", "x", "-1", "16777217", "99999999999999999999999", "1 2", "1;2"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        error.message[0] = 0;
        assert_int_equal(local_list_read(&list, "--pp", bad[i], 0, &error),
                         LLCUDA_INVALID_ARGUMENT);
        assert_non_null(strstr(error.message, "--pp"));
    }
    assert_int_equal(local_list_read(&list, "--parallel", "0", 1, &error), LLCUDA_INVALID_ARGUMENT);
    /* One number more than there is room for. */
    char long_list[2 * (LOCAL_LIST_MAX + 1) + 1] = "";
    for (unsigned i = 0; i <= LOCAL_LIST_MAX; i++) {
        strcat(long_list, i ? ",1" : "1");
    }
    assert_int_equal(local_list_read(&list, "--pp", long_list, 0, &error), LLCUDA_INVALID_ARGUMENT);
    long_list[2 * LOCAL_LIST_MAX - 1] = 0;
    assert_ok(local_list_read(&list, "--pp", long_list, 0, &error), error);
    assert_int_equal(list.count, LOCAL_LIST_MAX);
}

static void test_statistics(void **state)
{
    (void)state;
    double rates[] = {4, 1, 3, 2};
    struct local_result result = {.repeats = 4, .rates = rates};
    struct local_summary summary = local_summarize(&result);
    assert_true(fabs(summary.mean - 2.5) < 1e-12);
    assert_true(fabs(summary.median - 2.5) < 1e-12);
    assert_true(fabs(summary.deviation - sqrt(5.0 / 3)) < 1e-12);
    assert_true(rates[0] == 4); /* the samples keep their order */
    result.repeats = 3;
    summary = local_summarize(&result);
    assert_true(summary.median == 3);
    result.repeats = 1;
    summary = local_summarize(&result);
    assert_true(summary.deviation == 0 && summary.mean == 4 && summary.median == 4);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_lists),
    cmocka_unit_test(test_statistics),
};

TEST_MAIN(tests)
