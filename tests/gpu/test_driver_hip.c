/* The HIP driver against a fake machine (fake_hip.c): what differs from CUDA, and a compiler that
 * aborts, hangs or leaves without costing more than its child process. */
#include "support/test_support.h"

#include "base/clock.h"
#include "gpu/driver.h"
#include "gpu/hip_compile.h"

#include <dlfcn.h>

static struct llcuda_error error;
static struct gpu_driver *driver;
static void (*set_devices)(int);
static unsigned long (*launched)(void);

static const struct gpu_open_options options = {.library_path = FAKE_FOLDER};

static int open_fake(void **state)
{
    (void)state;
    void *library = dlopen(FAKE_FOLDER "/libamdhip64.so.5", RTLD_NOW | RTLD_LOCAL);
    assert_non_null(library);
    *(void **)&set_devices = dlsym(library, "fake_hip_devices");
    *(void **)&launched = dlsym(library, "fake_hip_launched");
    assert_true(set_devices && launched);
    assert_ok(gpu_driver_open_hip(&options, &driver, &error), error);
    return 0;
}

static int close_fake(void **state)
{
    (void)state;
    driver->close(driver);
    return 0;
}

static void assert_says(const char *words)
{
    if (!strstr(error.message, words)) {
        fail_msg("'%s' does not say '%s'", error.message, words);
    }
}

static void test_describe(void **state)
{
    (void)state;
    struct gpu_device_info info;
    struct gpu_telemetry telemetry;
    driver->describe(driver, &info);
    assert_int_equal(info.vendor, GPU_HIP);
    assert_string_equal(info.name, "Fake Instinct");
    assert_string_equal(info.arch, "gfx90a");
    assert_string_equal(info.pci_bus_id, "0000:83:00.0");
    assert_int_equal(info.capability, 0);
    assert_int_equal(info.warp_size, 32);
    assert_int_equal(info.multiprocessor_count, 63);
    assert_int_equal(info.l2_bytes, 19);
    assert_int_equal(info.shared_bytes_block_max, 65536);
    assert_int_equal(info.shared_bytes_multiprocessor, 10002);
    assert_int_equal(info.driver_version, 6030);
    assert_int_equal(info.compiler_version, 9010);
    assert_null(driver->matmul_create);
    assert_ok(driver->telemetry(driver, &telemetry, &error), error);
    assert_true(isnan(telemetry.power_w));
    assert_int_equal(telemetry.memory_used_bytes, 20);
}

static void test_calls(void **state)
{
    (void)state;
    uint64_t address = 0;
    const uint64_t arguments = 0;
    const struct gpu_launch shape = {.grid = {5, 3, 2}, .block = {64, 1, 1}, .overlap = true};
    assert_ok(driver->memory_alloc(driver, 100, &address, &error), error);
    assert_int_equal(address, 0x4000);
    assert_int_equal(driver->memory_alloc(driver, 5000, &address, &error), LLCUDA_OUT_OF_MEMORY);
    assert_says("hipMalloc: hipErrorOutOfMemory (out of memory)");
    driver->memory_free(driver, address);
    assert_ok(driver->launch(driver, NULL, NULL, &shape, &arguments, 8, &error), error);
    assert_int_equal(launched(), 30);
    assert_ok(driver->function_shared_limit(driver, NULL, 65536, &error), error);
    assert_int_equal(driver->function_shared_limit(driver, NULL, 65537, &error),
                     LLCUDA_UNSUPPORTED);
}

static void test_no_device(void **state)
{
    (void)state;
    uint32_t count = 3;
    struct gpu_driver *other;
    const struct gpu_open_options second = {.index = 1, .library_path = FAKE_FOLDER};
    assert_int_equal(gpu_driver_open_hip(&second, &other, &error), LLCUDA_NOT_FOUND);
    assert_says("no HIP device 1: the machine has 1");
    set_devices(0);
    assert_int_equal(gpu_driver_probe_hip(&options, &count, &error), LLCUDA_NOT_FOUND);
    assert_says("the AMD driver sees no GPU");
    assert_int_equal(count, 0);
    set_devices(1);
    assert_ok(gpu_driver_probe_hip(&options, &count, &error), error);
    assert_int_equal(count, 1);
}

static llcuda_status compile(const char *text, const char *arch, struct buffer *binary,
                             struct buffer *log)
{
    const struct gpu_compile_request request = {
        .name = "k.cu", .source = text_view_of(text), .arch = arch};
    return driver->compile(driver, &request, binary, log, &error);
}

static void test_compile(void **state)
{
    (void)state;
    struct buffer binary = {0}, log = {0};
    assert_ok(compile("fine", NULL, &binary, &log), error);
    assert_int_equal(binary.length, 100000);
    assert_int_equal(binary.data[99999], 'c');
    assert_string_equal(buffer_text(&log), "1:1: error: no words");
    buffer_clear(&binary);
    buffer_clear(&log);
    assert_int_equal(compile("error", NULL, &binary, &log), LLCUDA_BAD_FORMAT);
    assert_says("k.cu does not compile for gfx90a: 1:1: error: no words");
    assert_string_equal(buffer_text(&log), "1:1: error: no words");
    assert_int_equal(binary.length, 0);
    assert_int_equal(compile("abort", NULL, &binary, &log), LLCUDA_DEVICE);
    assert_says("hipRTC was ended by signal 6 while it compiled k.cu for gfx90a");
    assert_int_equal(compile("leave", NULL, &binary, &log), LLCUDA_DEVICE);
    assert_says("hipRTC gave no answer for k.cu");
    assert_int_equal(compile("fine", "sm_90", &binary, &log), LLCUDA_INVALID_ARGUMENT);
    assert_int_equal(compile("fine", "gfx90a;rm", &binary, &log), LLCUDA_INVALID_ARGUMENT);
    assert_int_equal(binary.length, 0);
    buffer_deinit(&binary);
    buffer_deinit(&log);
}

static void test_hang(void **state)
{
    (void)state;
    struct buffer binary = {0}, log = {0};
    struct rtc_api api;
    const struct gpu_compile_request request = {.name = "k.cu", .source = text_view_of("hang")};
    assert_ok(hiprtc_load(FAKE_FOLDER "/libamdhip64.so.5", NULL, &api, &error), error);
    uint64_t start = clock_now_ns();
    assert_int_equal(hip_compile_in_child(&api, &request, "gfx90a", 100, &binary, &log, &error),
                     LLCUDA_TIMEOUT);
    assert_true(clock_ms(clock_now_ns() - start) < 10000);
    buffer_deinit(&binary);
    buffer_deinit(&log);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_describe),  cmocka_unit_test(test_calls),
        cmocka_unit_test(test_no_device), cmocka_unit_test(test_compile),
        cmocka_unit_test(test_hang),
    };
    test_seed_print();
    return cmocka_run_group_tests_name(__FILE__, tests, open_fake, close_fake);
}
