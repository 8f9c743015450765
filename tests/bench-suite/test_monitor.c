/* The monitor with a scripted NVML (fake_nvml.c, found through LD_LIBRARY_PATH as the real one
 * would be found in the system's folders): what it says arrives in the units of the report, heat
 * stops a run, and a GPU that stops answering is no figure instead of a wrong one. */
#include "support/test_support.h"

#include <dlfcn.h>
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "bench/monitor.h"
#include "bench/monitor_gpu.h"

static void *symbol(const char *name)
{
    void *library = dlopen("libnvidia-ml.so.1", RTLD_NOW);
    void *found = library ? dlsym(library, name) : NULL;
    if (!found) {
        print_error("the scripted NVML is not on LD_LIBRARY_PATH: %s\n", dlerror());
        exit(1);
    }
    return found;
}

static void nap(long ms)
{
    const struct timespec time = {0, ms * 1000000};
    nanosleep(&time, NULL);
}

static void test_units(void **state)
{
    (void)state;
    atomic_int *fail = symbol("fake_nvml_fail");
    _Atomic unsigned long long *reasons = symbol("fake_nvml_reasons");
    struct monitor_sample sample;
    char text[200];
    struct monitor_gpu *gpu = monitor_gpu_open(0);
    assert_non_null(gpu);
    monitor_gpu_read(gpu, &sample);
    assert_float_equal(sample.gpu_share, 0.75, 1e-9);
    assert_float_equal(sample.gpu_memory_bytes, 43e9, 1);
    assert_float_equal(sample.gpu_power_w, 412.5, 1e-9);
    assert_float_equal(sample.gpu_temperature_c, 55, 1e-9);
    assert_float_equal(sample.gpu_clock_mhz, 1755, 1e-9);
    assert_float_equal(sample.gpu_throttled, 0, 1e-9);
    *reasons = 0x1; /* idle is no throttling */
    monitor_gpu_read(gpu, &sample);
    assert_float_equal(sample.gpu_throttled, 0, 1e-9);
    *reasons = 0x4; /* held down by the power limit */
    monitor_gpu_read(gpu, &sample);
    assert_float_equal(sample.gpu_throttled, 1, 1e-9);
    *reasons = 0;
    monitor_gpu_describe(gpu, text, sizeof text);
    assert_string_equal(text,
                        "NVIDIA Test 100, driver 580.1, power limit 700 W, clocks up to 1980 MHz");
    *fail = 1;
    monitor_gpu_read(gpu, &sample);
    assert_true(isnan(sample.gpu_share) && isnan(sample.gpu_memory_bytes) &&
                isnan(sample.gpu_power_w) && isnan(sample.gpu_temperature_c) &&
                isnan(sample.gpu_clock_mhz) && isnan(sample.gpu_throttled));
    *fail = 0;
    monitor_gpu_close(gpu);
    assert_int_equal(*(atomic_int *)symbol("fake_nvml_open"), 0);
}

static void test_absent(void **state)
{
    (void)state;
    assert_null(monitor_gpu_open(-1));
    assert_null(monitor_gpu_open(1)); /* there is one GPU only */
    assert_int_equal(*(atomic_int *)symbol("fake_nvml_open"), 0);
}

static struct monitor *start(double thermal_limit_c)
{
    struct llcuda_error error = {0};
    struct monitor *monitor = NULL;
    struct monitor_options options = {
        .group = getpgrp(), .rate_hz = 100, .thermal_limit_c = thermal_limit_c, .gpu_index = 0};
    assert_ok(monitor_start(&options, &monitor, &error), error);
    return monitor;
}

static void test_totals(void **state)
{
    (void)state;
    struct monitor_totals totals;
    struct monitor_sample samples[64];
    struct monitor *monitor = start(90);
    monitor_mark(monitor);
    for (int i = 0; i < 200 && monitor_copy(monitor, samples, 64) < 5; i++) {
        nap(10);
    }
    monitor_get_totals(monitor, &totals);
    assert_float_equal(totals.gpu_mean, 0.75, 1e-9);
    assert_float_equal(totals.gpu_power_mean_w, 412.5, 1e-9);
    assert_float_equal(totals.gpu_memory_peak_bytes, 43e9, 1);
    assert_float_equal(totals.gpu_throttled_share, 0, 1e-9);
    assert_true(totals.temperature_peak_c >= 55);
    assert_true(totals.memory_peak_bytes > 100000); /* this process is in the group */
    assert_null(monitor_alarm(monitor));
    monitor_stop(monitor);
}

static void test_heat_stops(void **state)
{
    (void)state;
    _Atomic unsigned *heat = symbol("fake_nvml_heat");
    struct monitor *monitor = start(90);
    *heat = 93;
    for (int i = 0; i < 300 && !monitor_alarm(monitor); i++) {
        nap(10);
    }
    assert_non_null(monitor_alarm(monitor));
    assert_string_equal(monitor_alarm(monitor), "stopped: 93 °C, above the thermal limit of 90 °C");
    monitor_stop(monitor);
    *heat = 55;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_units),
        cmocka_unit_test(test_absent),
        cmocka_unit_test(test_totals),
        cmocka_unit_test(test_heat_stops),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
