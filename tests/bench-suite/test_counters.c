/* Counters of a GPU against a scripted CUPTI: values, passes, refusals in words, nothing left. */
#include "support/test_support.h"

#include <dlfcn.h>
#include <math.h>
#include <stdlib.h>

#include "bench/gpu_counters.h"

static int *fake(const char *name)
{
    static void *library;
    if (!library) {
        library = dlopen("libcupti.so.13", RTLD_NOW);
    }
    assert_non_null(library);
    return dlsym(library, name);
}

static llcuda_status count_up(void *user, struct llcuda_error *error)
{
    (void)error;
    ++*(int *)user;
    return LLCUDA_OK;
}

static llcuda_status fail_twice(void *user, struct llcuda_error *error)
{
    return ++*(int *)user == 2 ? error_set(error, LLCUDA_DEVICE, "the work failed") : LLCUDA_OK;
}

static int reset(void **state)
{
    (void)state;
    *fake("fake_cupti_refuse_enable") = 0;
    *fake("fake_cupti_passes") = 2;
    *fake("fake_cupti_ranges") = 0;
    const char *nothing = "";
    memcpy(fake("fake_cupti_unknown"), &nothing, sizeof nothing);
    return *fake("fake_cupti_open");
}

static void test_values(void **state)
{
    (void)state;
    struct gpu_counters counters;
    struct llcuda_error error = {0};
    int done = 0;
    assert_ok(gpu_counters_measure(0, count_up, &done, &counters, &error), error);
    assert_int_equal(done, 2);
    assert_int_equal(counters.passes, 2);
    assert_int_equal(*fake("fake_cupti_ranges"), 2);
    assert_true(counters.occupancy == 0.75);
    assert_true(counters.tensor_share == 0.625);
    assert_true(counters.sectors_per_request == 4);
    assert_int_equal(*fake("fake_cupti_open"), 0);
}

static void test_unknown_metric(void **state)
{
    (void)state;
    struct gpu_counters counters;
    struct llcuda_error error = {0};
    const char *missing = "tensor";
    int done = 0;
    memcpy(fake("fake_cupti_unknown"), &missing, sizeof missing);
    assert_ok(gpu_counters_measure(0, count_up, &done, &counters, &error), error);
    assert_true(isnan(counters.tensor_share));
    assert_true(counters.occupancy == 0.75);
    assert_true(counters.sectors_per_request == 4);
    missing = "_";
    memcpy(fake("fake_cupti_unknown"), &missing, sizeof missing);
    assert_int_equal(gpu_counters_measure(0, count_up, &done, &counters, &error),
                     LLCUDA_UNSUPPORTED);
    assert_non_null(strstr(error.message, "knows none of them for fake"));
    assert_int_equal(*fake("fake_cupti_open"), 0);
}

/* What a driver refuses is a sentence that an operator can act on. */
static void test_refusals(void **state)
{
    (void)state;
    const struct {
        int code;
        const char *words;
    } rows[] = {{35, "administrators only (NVreg_RestrictProfilingToAdminUsers)"},
                {33, "virtual GPUs"},
                {43, "MIG"},
                {999, "code 999"}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct gpu_counters counters;
        struct llcuda_error error = {0};
        int done = 0;
        *fake("fake_cupti_refuse_enable") = rows[i].code;
        assert_int_equal(gpu_counters_measure(0, count_up, &done, &counters, &error),
                         LLCUDA_UNSUPPORTED);
        assert_non_null(strstr(error.message, rows[i].words));
        assert_int_equal(done, 0);
        assert_true(isnan(counters.occupancy));
        assert_int_equal(*fake("fake_cupti_open"), 0);
    }
}

static void test_no_such_device(void **state)
{
    (void)state;
    struct gpu_counters counters;
    struct llcuda_error error = {0};
    int done = 0;
    assert_int_equal(gpu_counters_measure(3, count_up, &done, &counters, &error),
                     LLCUDA_UNSUPPORTED);
    assert_non_null(strstr(error.message, "device 3"));
}

static void test_failing_work(void **state)
{
    (void)state;
    struct gpu_counters counters;
    struct llcuda_error error = {0};
    int done = 0;
    *fake("fake_cupti_passes") = 5;
    assert_int_equal(gpu_counters_measure(0, fail_twice, &done, &counters, &error), LLCUDA_DEVICE);
    assert_string_equal(error.message, "the work failed");
    assert_int_equal(done, 2);
    assert_int_equal(*fake("fake_cupti_open"), 0);
    done = 2;
    *fake("fake_cupti_passes") = 1000;
    assert_int_equal(gpu_counters_measure(0, count_up, &done, &counters, &error),
                     LLCUDA_UNSUPPORTED);
    assert_non_null(strstr(error.message, "more than 64 passes"));
    assert_int_equal(*fake("fake_cupti_open"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_values, reset),
        cmocka_unit_test_setup(test_unknown_metric, reset),
        cmocka_unit_test_setup(test_refusals, reset),
        cmocka_unit_test_setup(test_no_such_device, reset),
        cmocka_unit_test_setup(test_failing_work, reset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
