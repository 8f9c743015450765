/* The monitor with a scripted NVML (fake_nvml.c, found through LD_LIBRARY_PATH as the real one
 * would be found in the system's folders): what it says arrives in the units of the report, heat
 * stops a run, and a GPU that stops answering is no figure instead of a wrong one. Energy is read
 * from a folder that looks like the system's. */
#include "support/test_support.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "bench/energy.h"
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
    assert_near(sample.gpu_share, 0.75, 1e-9);
    assert_near(sample.gpu_memory_bytes, 43e9, 1);
    assert_near(sample.gpu_power_w, 412.5, 1e-9);
    assert_near(sample.gpu_temperature_c, 55, 1e-9);
    assert_near(sample.gpu_clock_mhz, 1755, 1e-9);
    assert_near(sample.gpu_throttled, 0, 1e-9);
    *reasons = 0x1; /* idle is no throttling */
    monitor_gpu_read(gpu, &sample);
    assert_near(sample.gpu_throttled, 0, 1e-9);
    *reasons = 0x4; /* held down by the power limit */
    monitor_gpu_read(gpu, &sample);
    assert_near(sample.gpu_throttled, 1, 1e-9);
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
        .group = getpgrp(), .rate_hz = 100, .thermal_limit_c = thermal_limit_c, .gpu_count = 1};
    assert_ok(monitor_start(&options, &monitor, &error), error);
    return monitor;
}

/* What a host takes is read from the counters of all processors, whose names may go on. */
static void write_processors(const char *path, const char *line)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fprintf(file, "%s\ncpu0 9 9 9 9 9 9 9 9 0 0\n", line);
    assert_int_equal(fclose(file), 0);
}

static void test_stolen(void **state)
{
    (void)state;
    char path[] = "/tmp/llcuda-monitor-XXXXXX";
    struct llcuda_error error = {0};
    struct monitor *monitor = NULL;
    struct monitor_totals totals;
    struct monitor_options options = {.group = getpgrp(), .rate_hz = 100, .processors_file = path};
    assert_true(mkstemp(path) >= 0);
    write_processors(path, "cpu  100 1 10 500 5 1 2 30 0 0");
    assert_ok(monitor_start(&options, &monitor, &error), error);
    monitor_mark(monitor);
    write_processors(path, "cpu  140 1 20 525 5 1 2 55 0 0"); /* 100 ticks, 25 of them stolen */
    monitor_get_totals(monitor, &totals);
    assert_near(totals.stolen_share, 0.25, 1e-9);
    monitor_mark(monitor);
    write_processors(path, "cpu  150 1 20 526 5 1 2 55 0 0");
    monitor_get_totals(monitor, &totals);
    assert_near(totals.stolen_share, 0, 1e-9);
    assert_int_equal(remove(path), 0);
    monitor_get_totals(monitor, &totals);
    assert_true(isnan(totals.stolen_share));
    monitor_stop(monitor);
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
    assert_near(totals.gpu_mean, 0.75, 1e-9);
    assert_near(totals.gpu_power_mean_w, 412.5, 1e-9);
    assert_near(totals.gpu_memory_peak_bytes, 43e9, 1);
    assert_near(totals.gpu_throttled_share, 0, 1e-9);
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
    assert_true(monitor_is_hot(monitor));
    monitor_stop(monitor);
    *heat = 55;
}

/* 43 GB each, 412.5 W each; the second is the hotter one. */
static void test_two_gpus(void **state)
{
    (void)state;
    atomic_int *count = symbol("fake_nvml_count");
    struct llcuda_error error = {0};
    struct monitor *monitor = NULL;
    struct monitor_totals totals;
    struct monitor_sample samples[64];
    struct monitor_options options = {.group = getpgrp(),
                                      .rate_hz = 100,
                                      .memory_limit_bytes = 80e9,
                                      .gpus = {0, 1, 2},
                                      .gpu_count = 3};
    *count = 2;
    assert_ok(monitor_start(&options, &monitor, &error), error);
    for (int i = 0; i < 200 && monitor_copy(monitor, samples, 64) < 5; i++) {
        nap(10);
    }
    monitor_get_totals(monitor, &totals);
    assert_near(totals.gpu_mean, 0.75, 1e-9);
    assert_near(totals.gpu_power_mean_w, 825, 1e-9);
    assert_near(totals.gpu_memory_peak_bytes, 86e9, 1);
    assert_true(totals.temperature_peak_c >= 58);
    assert_null(monitor_alarm(monitor)); /* the engine does not use them */
    monitor_stop(monitor);
    options.gpu_memory_limited = true;
    assert_ok(monitor_start(&options, &monitor, &error), error);
    for (int i = 0; i < 200 && !monitor_alarm(monitor); i++) {
        nap(10);
    }
    assert_string_equal(monitor_alarm(monitor),
                        "stopped: 86.00 GB of GPU memory, above the limit of 80.00 GB");
    assert_false(monitor_is_hot(monitor));
    monitor_stop(monitor);
    *count = 1;
    assert_int_equal(*(atomic_int *)symbol("fake_nvml_open"), 0);
}

static char powercap[64];

static void set_file(const char *zone, const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", powercap, zone);
    mkdir(path, 0755);
    snprintf(path, sizeof path, "%s/%s/%s", powercap, zone, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

static void set_zone(const char *zone, const char *name, const char *energy_uj)
{
    set_file(zone, "name", name);
    set_file(zone, "max_energy_range_uj", "262143328850\n");
    set_file(zone, "energy_uj", energy_uj);
}

/* In place and at once, as the kernel would: the monitor may be reading. */
static void set_counter(const char *zone, unsigned long long microjoules)
{
    char text[256];
    snprintf(text, sizeof text, "%s/%s/energy_uj", powercap, zone);
    int descriptor = open(text, O_WRONLY);
    int length = snprintf(text, sizeof text, "%020llu\n", microjoules);
    assert_int_equal(pwrite(descriptor, text, (size_t)length, 0), length);
    close(descriptor);
}

static bool is_near(double value, double truth)
{
    return fabs(value - truth) < 1e-6;
}

/* Two sockets with memory, and everything that must not be counted again. */
static int make_powercap(void **state)
{
    (void)state;
    snprintf(powercap, sizeof powercap, "/tmp/llcuda-powercap-XXXXXX");
    assert_non_null(mkdtemp(powercap));
    set_zone("intel-rapl:0", "package-0\n", "1000000\n");
    set_zone("intel-rapl:0:0", "core\n", "500000\n");
    set_zone("intel-rapl:0:1", "dram\n", "200000\n");
    set_zone("intel-rapl:1", "package-1\n", "262143000000\n");
    set_zone("intel-rapl:1:0", "dram\n", "300000\n");
    set_zone("intel-rapl:2", "psys\n", "7000000\n");
    set_zone("intel-rapl-mmio:0", "package-0\n", "1000000\n");
    set_file("intel-rapl", "enabled", "1\n");
    return 0;
}

static int remove_powercap(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -r %s", powercap);
    return system(command);
}

static void test_energy_of_a_machine(void **state)
{
    (void)state;
    struct energy energy;
    energy_open(&energy, powercap);
    assert_int_equal(energy.zone_count, 4);
    assert_true(is_near(energy_read(&energy), 0));
    set_counter("intel-rapl:0", 4000000);      /* + 3 J */
    set_counter("intel-rapl:0:0", 3000000);    /* in the package */
    set_counter("intel-rapl:0:1", 700000);     /* + 0.5 J */
    set_counter("intel-rapl:2", 90000000);     /* all of it again */
    set_counter("intel-rapl-mmio:0", 4000000); /* by another way */
    assert_true(is_near(energy_read(&energy), 3.5));
    set_counter("intel-rapl:1", 1671150); /* wrapped: + 0.32885 + 1.67115 J */
    assert_true(is_near(energy_read(&energy), 5.5));
    set_counter("intel-rapl:1", 262143000000ull);
    energy_read(&energy);
    set_counter("intel-rapl:1", 0); /* and again: sums of wraps are no difference */
    assert_true(is_near(energy_read(&energy), 5.5 + 262141.32885 + 0.32885));
    energy_close(&energy);
}

static void test_energy_that_is_not_known(void **state)
{
    (void)state;
    struct energy energy;
    energy_open(&energy, "/nowhere/at/all");
    assert_true(isnan(energy_read(&energy)));
    energy_close(&energy);
    set_file("intel-rapl:1", "max_energy_range_uj", "");
    energy_open(&energy, powercap);
    assert_true(is_near(energy_read(&energy), 0));
    set_counter("intel-rapl:1", 5); /* wrapped, nobody knows where */
    assert_true(isnan(energy_read(&energy)));
    assert_true(isnan(energy_read(&energy))); /* for good: the sum has a gap */
    energy_close(&energy);
    set_file("intel-rapl:0:1", "energy_uj", ""); /* a part that may not be read */
    energy_open(&energy, powercap);
    assert_true(isnan(energy_read(&energy)));
    energy_close(&energy);
}

/* What a run took counts from its mark, and the thread reads counters before they wrap twice. */
static void test_energy_since_the_mark(void **state)
{
    (void)state;
    struct llcuda_error error = {0};
    struct monitor *monitor = NULL;
    struct monitor_totals totals;
    struct monitor_sample samples[256];
    struct monitor_options options = {
        .group = getpgrp(), .rate_hz = 100, .energy_folder = powercap};
    assert_ok(monitor_start(&options, &monitor, &error), error);
    set_counter("intel-rapl:0", 9000000);
    monitor_mark(monitor);
    set_counter("intel-rapl:1", 0); /* + 0.32885 J */
    size_t before = monitor_copy(monitor, samples, 256);
    for (int i = 0; i < 300 && monitor_copy(monitor, samples, 256) < before + 70; i++) {
        nap(10); /* 0.7 s: the machine is looked at twice a second */
    }
    set_counter("intel-rapl:1", 262143328849ull);
    for (int i = 0; i < 300 && monitor_copy(monitor, samples, 256) < before + 140; i++) {
        nap(10);
    }
    set_counter("intel-rapl:1", 1000000);
    monitor_get_totals(monitor, &totals);
    assert_true(is_near(totals.cpu_energy_j, 262143.32885 + 1.32885));
    monitor_stop(monitor);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_units),
        cmocka_unit_test(test_absent),
        cmocka_unit_test(test_stolen),
        cmocka_unit_test(test_totals),
        cmocka_unit_test(test_heat_stops),
        cmocka_unit_test(test_two_gpus),
        cmocka_unit_test_setup_teardown(test_energy_of_a_machine, make_powercap, remove_powercap),
        cmocka_unit_test_setup_teardown(test_energy_that_is_not_known, make_powercap,
                                        remove_powercap),
        cmocka_unit_test_setup_teardown(test_energy_since_the_mark, make_powercap, remove_powercap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
