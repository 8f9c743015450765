/* The CUDA driver against a fake machine (fake_cuda.c): which function of which library each entry
 * of the table calls, with what, and that every failure becomes a sentence that names the call. */
#include "support/test_support.h"

#include "base/clock.h"
#include "fake_cuda.h"
#include "gpu/driver.h"
#include "gpu/measure.h"

#include <dlfcn.h>

#define FULL FAKE_FOLDER "/full"
#define BARE FAKE_FOLDER "/bare"
#define NONE FAKE_FOLDER "/none"

static fake_reset_function *reset;
static fake_fail_function *fail_call;
static fake_fail_at_function *fail_at;
static fake_log_function *calls;
static fake_live_function *live;

static const struct fake_machine healthy = {
    .driver_version = 13000, .device_count = 2, .capability = 90, .algorithm_count = 1};

static struct llcuda_error error;
static struct gpu_driver *driver;

static void *symbol(void *library, const char *name)
{
    void *address = dlsym(library, name);
    assert_non_null(address);
    return address;
}

static int load_fake(void **state)
{
    (void)state;
    void *library = dlopen(FULL "/libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    assert_non_null(library);
    *(void **)&reset = symbol(library, "fake_reset");
    *(void **)&fail_call = symbol(library, "fake_fail");
    *(void **)&fail_at = symbol(library, "fake_fail_at");
    *(void **)&calls = symbol(library, "fake_log");
    *(void **)&live = symbol(library, "fake_live");
    return 0;
}

static llcuda_status open_in(const char *folders, uint32_t index)
{
    const struct gpu_open_options options = {.index = index, .library_path = folders};
    return gpu_driver_open_cuda(&options, &driver, &error);
}

static int open_healthy(void **state)
{
    (void)state;
    reset(&healthy);
    assert_ok(open_in(FULL, 1), error);
    reset(&healthy);
    return 0;
}

static int close_all(void **state)
{
    (void)state;
    reset(&healthy);
    driver->close(driver);
    driver = NULL;
    assert_int_equal(live(), 0);
    return 0;
}

/* The calls since the last look are exactly these. */
static void assert_calls(const char *expected)
{
    assert_string_equal(calls(), expected);
    reset(&healthy);
}

static void assert_says(const char *words)
{
    if (!strstr(error.message, words)) {
        fail_msg("'%s' does not say '%s'", error.message, words);
    }
}

#define STREAM   ((struct gpu_stream *)0x51)
#define EVENT    ((struct gpu_event *)0xe1)
#define MODULE   ((struct gpu_module *)0x30d)
#define FUNCTION ((struct gpu_function *)0xf1)
#define GRAPH    ((struct gpu_graph *)0x65)
#define ENTER    "cuCtxSetCurrent(c0)\n"

static void test_open(void **state)
{
    (void)state;
    struct gpu_device_info info;
    reset(&healthy);
    assert_ok(open_in(FULL, 1), error);
    assert_non_null(strstr(calls(), "cuDriverGetVersion()\ncuInit(0)\ncuDeviceGetCount()\n"
                                    "cuDeviceGet(1)\ncuDeviceGetName("));
    assert_non_null(strstr(calls(), "cuDevicePrimaryCtxRetain(41)\n" ENTER "nvrtcVersion()\n"));
    /* cublasLt and NVML wait until they are needed. */
    assert_null(strstr(calls(), "cublasLt"));
    assert_null(strstr(calls(), "nvml"));
    driver->describe(driver, &info);
    assert_string_equal(info.name, "Fake H200");
    assert_string_equal(info.arch, "sm_90a");
    assert_string_equal(info.pci_bus_id, "0000:41:00.0");
    assert_int_equal(info.vendor, GPU_CUDA);
    assert_int_equal(info.capability, 90);
    assert_int_equal(info.multiprocessor_count, 132);
    assert_int_equal(info.warp_size, 32);
    assert_int_equal(info.shared_bytes_block_max, 232448);
    assert_int_equal(info.shared_bytes_multiprocessor, 233472);
    assert_int_equal(info.threads_multiprocessor_max, 2048);
    assert_int_equal(info.registers_multiprocessor, 65536);
    assert_int_equal(info.memory_bytes, 141ull << 30);
    assert_int_equal(info.l2_bytes, 60u << 20);
    assert_int_equal(info.driver_version, 13000);
    assert_int_equal(info.compiler_version, 13020);
    reset(&healthy);
    driver->close(driver);
    assert_calls(ENTER "cuCtxSetCurrent(0)\ncuDevicePrimaryCtxRelease_v2(41)\n");
    assert_int_equal(live(), 0);
}

static void test_refused_machines(void **state)
{
    (void)state;
    uint32_t count = 7;
    struct fake_machine machine = healthy;
    const struct gpu_open_options options = {.library_path = FULL};

    reset(&machine);
    assert_int_equal(open_in(FULL, 2), LLCUDA_NOT_FOUND);
    assert_says("no CUDA device 2: the machine has 2");
    assert_null(driver);

    machine.driver_version = 11080;
    reset(&machine);
    assert_int_equal(open_in(FULL, 0), LLCUDA_UNSUPPORTED);
    assert_says("knows CUDA 11.8 only: install version 525.60.13 or newer");

    machine.driver_version = 13000;
    machine.capability = 61;
    reset(&machine);
    assert_int_equal(open_in(FULL, 0), LLCUDA_UNSUPPORTED);
    assert_says("compute capability 6.1; kernels need 7.0");

    reset(&healthy);
    fail_call("cuInit", 100);
    assert_int_equal(gpu_driver_probe_cuda(&options, &count, &error), LLCUDA_NOT_FOUND);
    assert_int_equal(error.status, LLCUDA_NOT_FOUND);
    assert_int_equal(count, 0);
    assert_says("the NVIDIA driver sees no GPU: cuInit");
    assert_says("CUDA_VISIBLE_DEVICES");

    reset(&healthy);
    fail_call("cuInit", 802);
    assert_int_equal(gpu_driver_probe_cuda(&options, &count, &error), LLCUDA_DEVICE);
    assert_says("nvidia-fabricmanager");

    reset(&healthy);
    assert_ok(gpu_driver_probe_cuda(&options, &count, &error), error);
    assert_int_equal(count, 2);
    assert_int_equal(live(), 0);
}

static void test_no_driver(void **state)
{
    (void)state;
    void *real = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL);
    if (real) {
        skip();
    }
    reset(&healthy);
    assert_int_equal(open_in(NONE, 0), LLCUDA_UNSUPPORTED);
    assert_says("no NVIDIA driver on this machine");
    assert_int_equal(gpu_driver_count_cuda(), 0);
    assert_int_equal(open_in("relative/folder:" NONE ":" FULL, 9), LLCUDA_NOT_FOUND);
}

/* Opening fails at every single call in turn: nothing is left behind, and the sentence names it. */
static void test_open_fails_everywhere(void **state)
{
    (void)state;
    for (int n = 1;; n++) {
        reset(&healthy);
        fail_at(n, 999);
        llcuda_status status = open_in(FULL, 0);
        if (!status) {
            const char *last = calls();
            struct gpu_device_info info;
            driver->describe(driver, &info);
            driver->close(driver);
            assert_int_equal(live(), 0);
            /* The place on the bus and the compiler are not needed to open. */
            if (info.compiler_version && *info.pci_bus_id) {
                assert_true(n >= 20);
                assert_non_null(last);
                return;
            }
            continue;
        }
        assert_int_equal(status, LLCUDA_DEVICE);
        assert_says("CUDA_ERROR_FAKE (fake trouble): is the kernel module loaded");
        assert_true(strncmp(error.message, "cu", 2) == 0);
        assert_null(driver);
        assert_int_equal(live(), 0);
    }
}

static void test_memory(void **state)
{
    (void)state;
    uint64_t a = 1, b = 1;
    void *host = NULL;
    assert_ok(driver->attach(driver, &error), error);
    assert_calls(ENTER);
    assert_ok(driver->memory_info(driver, &a, &b, &error), error);
    assert_int_equal(a, 1000);
    assert_int_equal(b, 5000);
    assert_calls(ENTER "cuMemGetInfo_v2()\n");
    assert_ok(driver->memory_alloc(driver, 4096, &a, &error), error);
    assert_int_equal(a, 0xd00000);
    assert_calls(ENTER "cuMemAlloc_v2(4096)\n");
    driver->memory_free(driver, a);
    driver->memory_free(driver, 0);
    assert_calls(ENTER "cuMemFree_v2(d00000)\n");
    assert_ok(driver->host_alloc(driver, 512, &host, &error), error);
    assert_calls(ENTER "cuMemHostAlloc(512, 1)\n");
    driver->host_free(driver, host);
    driver->host_free(driver, NULL);
    assert_calls(ENTER "cuMemFreeHost(b00000)\n");

    fail_call("cuMemAlloc_v2", 2);
    assert_int_equal(driver->memory_alloc(driver, 3 << 20, &a, &error), LLCUDA_OUT_OF_MEMORY);
    assert_int_equal(a, 0);
    assert_says("no 3.0 MiB of device memory (0.0 of the device's 0.0 MiB are free): "
                "cuMemAlloc_v2: CUDA_ERROR_OUT_OF_MEMORY (out of memory)");
    fail_call("cuMemHostAlloc", 2);
    assert_int_equal(driver->host_alloc(driver, 1 << 20, &host, &error), LLCUDA_OUT_OF_MEMORY);
    assert_says("no 1.0 MiB of pinned host memory");
}

static void test_copies(void **state)
{
    (void)state;
    const void *from = (const void *)0x1000;
    void *to = (void *)0x2000;
    assert_ok(driver->copy_in(driver, STREAM, 0xd0, from, 8, &error), error);
    assert_ok(driver->copy_out(driver, STREAM, to, 0xd0, 9, &error), error);
    assert_ok(driver->copy(driver, STREAM, 0xd0, 0xd8, 10, &error), error);
    assert_ok(driver->fill(driver, STREAM, 0xd0, 255, 11, &error), error);
    assert_ok(driver->fill(driver, STREAM, 0xd0, 255, 0, &error), error);
    assert_calls("cuMemcpyHtoDAsync_v2(d0, 1000, 8, 51)\ncuMemcpyDtoHAsync_v2(2000, d0, 9, 51)\n"
                 "cuMemcpyDtoDAsync_v2(d0, d8, 10, 51)\ncuMemsetD8Async(d0, 255, 11, 51)\n");
}

static void test_streams_and_events(void **state)
{
    (void)state;
    struct gpu_stream *stream;
    struct gpu_event *event, *timed;
    double milliseconds = 0;
    assert_ok(driver->stream_create(driver, &stream, &error), error);
    assert_ptr_equal(stream, STREAM);
    assert_ok(driver->event_create(driver, false, &event, &error), error);
    assert_ok(driver->event_create(driver, true, &timed, &error), error);
    assert_calls(ENTER "cuStreamCreate(1)\n" ENTER "cuEventCreate(2)\n" ENTER "cuEventCreate(0)\n");
    assert_ok(driver->event_record(driver, event, stream, &error), error);
    assert_ok(driver->stream_wait_event(driver, stream, event, &error), error);
    assert_ok(driver->stream_wait(driver, stream, 0, &error), error);
    assert_ok(driver->event_wait(driver, event, 0, &error), error);
    assert_ok(driver->event_elapsed(driver, event, timed, &milliseconds, &error), error);
    assert_true(milliseconds == 2.5);
    assert_calls("cuEventRecord(e1, 51)\ncuStreamWaitEvent(51, e1, 0)\ncuStreamQuery(51)\n"
                 "cuEventQuery(e1)\ncuEventElapsedTime(e1, e1)\n");
    driver->event_destroy(driver, event);
    driver->event_destroy(driver, timed);
    driver->event_destroy(driver, NULL);
    driver->stream_destroy(driver, stream);
    driver->stream_destroy(driver, NULL);
    assert_calls(ENTER "cuEventDestroy_v2(e1)\n" ENTER "cuEventDestroy_v2(e1)\n" ENTER
                       "cuStreamDestroy_v2(51)\n");
}

static void test_waits(void **state)
{
    (void)state;
    struct fake_machine busy = healthy;
    busy.not_ready = 3;
    reset(&busy);
    assert_ok(driver->stream_wait(driver, STREAM, 1000, &error), error);
    assert_calls("cuStreamQuery(51)\ncuStreamQuery(51)\ncuStreamQuery(51)\ncuStreamQuery(51)\n");

    busy.not_ready = -1; /* a device that stopped answering */
    reset(&busy);
    uint64_t start = clock_now_ns();
    assert_int_equal(driver->stream_wait(driver, STREAM, 60, &error), LLCUDA_TIMEOUT);
    assert_says("cuStreamQuery: the device did not finish within 60 ms");
    assert_int_equal(driver->event_wait(driver, EVENT, 5, &error), LLCUDA_TIMEOUT);
    double waited = clock_ms(clock_now_ns() - start);
    assert_true(waited >= 65 && waited < 5000);

    reset(&healthy);
    fail_call("cuEventQuery", 700);
    assert_int_equal(driver->event_wait(driver, EVENT, 0, &error), LLCUDA_DEVICE);
    assert_says("cuEventQuery: CUDA_ERROR_FAKE (fake trouble): the device's context is lost");
}

static void test_kernels(void **state)
{
    (void)state;
    static const char cubin[80] = "\177ELF";
    struct gpu_module *module;
    struct gpu_function *function;
    struct gpu_function_info info;
    uint32_t blocks = 0;
    assert_ok(driver->module_load(driver, cubin, sizeof cubin, &module, &error), error);
    assert_ok(driver->function_get(driver, module, "kernel", &function, &error), error);
    assert_calls(ENTER "cuModuleLoadDataEx(ELF, 2, 5, 6, 512)\n" ENTER
                       "cuModuleGetFunction(30d, kernel)\n");
    assert_int_equal(driver->function_get(driver, module, "absent", &function, &error),
                     LLCUDA_NOT_FOUND);
    assert_null(function);
    assert_says("the module has no kernel 'absent'");
    reset(&healthy);
    assert_ok(driver->function_info(driver, FUNCTION, &info, &error), error);
    assert_int_equal(info.threads_max, 100);
    assert_int_equal(info.shared_bytes, 101);
    assert_int_equal(info.local_bytes, 103);
    assert_int_equal(info.registers, 104);
    reset(&healthy);
    assert_ok(driver->function_shared_limit(driver, FUNCTION, 99328, &error), error);
    assert_ok(driver->function_occupancy(driver, FUNCTION, 256, 1024, &blocks, &error), error);
    assert_int_equal(blocks, 3);
    driver->module_unload(driver, module);
    driver->module_unload(driver, NULL);
    assert_calls("cuFuncSetAttribute(f1, 8, 99328)\n"
                 "cuOccupancyMaxActiveBlocksPerMultiprocessor(f1, 256, 1024)\n" ENTER
                 "cuModuleUnload(30d)\n");

    assert_int_equal(driver->module_load(driver, "//", 2, &module, &error), LLCUDA_BAD_FORMAT);
    fail_call("cuModuleLoadDataEx", 209);
    assert_int_equal(driver->module_load(driver, cubin, sizeof cubin, &module, &error),
                     LLCUDA_DEVICE);
    assert_says("words of the loader: cuModuleLoadDataEx");
    assert_says("compiled for another GPU");
}

static void test_launches(void **state)
{
    (void)state;
    const struct {
        uint64_t value;
        uint64_t more;
    } arguments = {0xabc, 2};
    struct gpu_launch shape = {.grid = {7, 8, 9}, .block = {256, 1, 1}, .shared_bytes = 2048};
    assert_ok(
        driver->launch(driver, STREAM, FUNCTION, &shape, &arguments, sizeof arguments, &error),
        error);
    assert_calls("cuLaunchKernel(f1, 7 8 9, 256 1 1, 2048, 51, abc, 0)\n");
    shape.overlap = true;
    assert_ok(
        driver->launch(driver, STREAM, FUNCTION, &shape, &arguments, sizeof arguments, &error),
        error);
    assert_calls("cuLaunchKernelEx(f1, 7 8 9, 256 1 1, 2048, 51, abc, 0, 1: 6 = 1)\n");
}

static void test_tensor_maps(void **state)
{
    (void)state;
    const struct gpu_tensor_shape shape = {.address = 0xd0010,
                                           .type = DTYPE_BF16,
                                           .columns = 96,
                                           .rows = {300, 1, 1},
                                           .row_strides = {192},
                                           .box_rows = {128, 1, 1},
                                           .dimensions = 2};
    uint64_t map[17] = {0};
    assert_ok(driver->tensor_map(driver, &shape, map + 1, &error), error); /* at any address */
    assert_calls("cuTensorMapEncodeTiled(9, 2, d0010, 96 300, 192, 64 128, 1 1, 0 3 3 0)\n");
    assert_true(map[0] == 0 && map[1] == 0x7a7a7a7a7a7a7a7au && map[16] == map[1]);
    fail_call("cuTensorMapEncodeTiled", 1);
    assert_int_equal(driver->tensor_map(driver, &shape, map, &error), LLCUDA_DEVICE);
}

/* Where an architecture or a driver has no dependent launches, an overlapping launch is a plain
 * one.
 */
static void test_launch_without_overlap(void **state)
{
    (void)state;
    const uint64_t arguments = 1;
    const struct gpu_launch shape = {.grid = {1, 1, 1}, .block = {32, 1, 1}, .overlap = true};
    for (int i = 0; i < 2; i++) {
        struct fake_machine machine = healthy;
        machine.capability = i ? 90 : 89;
        machine.driver_version = i ? 12020 : 13000;
        reset(&machine);
        assert_ok(open_in(FULL, 0), error);
        reset(&healthy);
        assert_ok(
            driver->launch(driver, STREAM, FUNCTION, &shape, &arguments, sizeof arguments, &error),
            error);
        assert_calls("cuLaunchKernel(f1, 1 1 1, 32 1 1, 0, 51, 1, 0)\n");
        driver->close(driver);
    }
}

static void test_graphs(void **state)
{
    (void)state;
    struct gpu_graph *graph;
    assert_ok(driver->capture_begin(driver, STREAM, &error), error);
    assert_ok(driver->capture_end(driver, STREAM, &graph, &error), error);
    assert_ok(driver->graph_launch(driver, STREAM, graph, &error), error);
    driver->graph_destroy(driver, graph);
    driver->graph_destroy(driver, NULL);
    assert_calls(
        "cuStreamBeginCapture_v2(51, 1)\ncuStreamEndCapture(51)\n"
        "cuGraphInstantiateWithFlags(64, 0)\ncuGraphDestroy(64)\ncuGraphLaunch(65, 51)\n" ENTER
        "cuGraphExecDestroy(65)\n");
    fail_call("cuGraphInstantiateWithFlags", 1);
    assert_int_equal(driver->capture_end(driver, STREAM, &graph, &error), LLCUDA_DEVICE);
    assert_null(graph);
}

static void test_compile(void **state)
{
    (void)state;
    static const char *const more[] = {"--generate-line-info"};
    struct buffer binary = {0}, log = {0};
    struct gpu_compile_request request = {.name = "k.cu",
                                          .source = text_view_make("text behind", 4),
                                          .options = more,
                                          .option_count = 1};
    assert_ok(driver->compile(driver, &request, &binary, &log, &error), error);
    assert_int_equal(binary.length, 80);
    assert_memory_equal(binary.data, "\177ELF", 4);
    assert_non_null(strstr(buffer_text(&log), "a remark"));
    assert_int_equal(log.length, strlen(buffer_text(&log)));
    assert_non_null(strstr(calls(), "nvrtcCreateProgram(text, k.cu, 0, 0, 0)\n"
                                    "nvrtcCompileProgram(70, --gpu-architecture=sm_90a --std=c++17 "
                                    "--device-as-default-execution-space --generate-line-info)\n"));

    struct fake_machine broken = healthy;
    broken.compile_result = 6;
    reset(&broken);
    buffer_clear(&binary);
    request.arch = "sm_80";
    assert_int_equal(driver->compile(driver, &request, &binary, &log, &error), LLCUDA_BAD_FORMAT);
    assert_says("k.cu does not compile for sm_80: kernel.cu(7): error: no such word");
    assert_int_equal(binary.length, 0);
    assert_non_null(strstr(buffer_text(&log), "more"));

    request.arch = "sm_120";
    assert_int_equal(driver->compile(driver, &request, &binary, &log, &error), LLCUDA_UNSUPPORTED);
    assert_says("NVRTC 13.2 does not compile for sm_120, only sm_75 to sm_90: install a newer one");
    static const char *const nonsense[] = {"gfx90a", "sm_", "sm_9x", "sm_90ab", ""};
    for (size_t i = 0; i < sizeof nonsense / sizeof *nonsense; i++) {
        request.arch = nonsense[i];
        assert_int_equal(driver->compile(driver, &request, &binary, &log, &error),
                         LLCUDA_INVALID_ARGUMENT);
    }
    buffer_deinit(&binary);
    buffer_deinit(&log);
}

/* A real NVRTC looks for it by name when it compiles. */
static void test_what_the_compiler_loads_is_loaded(void **state)
{
    (void)state;
    static const char name[] = "libnvrtc-builtins.so.13.2";
    assert_null(dlopen(name, RTLD_LAZY | RTLD_NOLOAD));
    reset(&healthy);
    assert_ok(open_in(BARE, 0), error);
    driver->close(driver);
    assert_null(dlopen(name, RTLD_LAZY | RTLD_NOLOAD));
    assert_ok(open_in(FULL, 0), error);
    driver->close(driver);
    void *library = dlopen(name, RTLD_LAZY | RTLD_NOLOAD);
    assert_non_null(library);
    dlclose(library);
}

static void test_no_compiler(void **state)
{
    (void)state;
    struct gpu_device_info info;
    struct buffer binary = {0}, log = {0};
    const struct gpu_compile_request request = {.name = "k.cu", .source = text_view_of("text")};
    reset(&healthy);
    assert_ok(open_in(BARE, 0), error);
    driver->describe(driver, &info);
    if (!info.compiler_version) { /* else this machine has an NVRTC of its own */
        assert_int_equal(driver->compile(driver, &request, &binary, &log, &error),
                         LLCUDA_UNSUPPORTED);
        assert_says("no NVRTC (libnvrtc.so)");
        assert_says("LLCUDA_CUDA_PATH");
    }
    driver->close(driver);
    assert_int_equal(binary.length, 0);
}

static const struct gpu_matmul_shape product = {.weight = DTYPE_BF16,
                                                .output = DTYPE_F32,
                                                .n = 5,
                                                .rows = 48,
                                                .columns = 64,
                                                .output_stride = 100,
                                                .accumulate = true};

static void test_matmul(void **state)
{
    (void)state;
    struct gpu_matmul *matmul;
    assert_ok(driver->matmul_create(driver, &product, &matmul, &error), error);
    assert_calls(ENTER "cublasLtCreate()\ncublasLtMatmulDescCreate(68, 0)\n"
                       "cublasLtMatmulDescSetAttribute(de, 3, 1, 4)\n"
                       "cublasLtMatrixLayoutCreate(14, 64, 48, 64)\n"
                       "cublasLtMatrixLayoutCreate(14, 64, 5, 64)\n"
                       "cublasLtMatrixLayoutCreate(0, 48, 5, 100)\n"
                       "cublasLtMatmulPreferenceCreate()\n"
                       "cublasLtMatmulPreferenceSetAttribute(9f, 1, 33554432, 8)\n"
                       "cublasLtMatmulPreferenceSetAttribute(9f, 5, 16, 4)\n"
                       "cublasLtMatmulPreferenceSetAttribute(9f, 6, 16, 4)\n"
                       "cublasLtMatmulPreferenceSetAttribute(9f, 7, 16, 4)\n"
                       "cublasLtMatmulPreferenceSetAttribute(9f, 8, 16, 4)\n"
                       "cublasLtMatmulAlgoGetHeuristic(17, de, 1a, 1a, 1a, 1a, 9f, 1)\n"
                       "cublasLtMatmulPreferenceDestroy(9f)\n");
    assert_ok(driver->matmul_run(driver, STREAM, matmul, 0xd1, 0xd2, 0xd3, 0xd4, &error), error);
    assert_calls("cuThreadExchangeStreamCaptureMode(2)\n"
                 "cublasLtMatmul(17, de, 1, d3, d2, 1, d1, d1, a190, d4, 33554432, 51)\n"
                 "cuThreadExchangeStreamCaptureMode(0)\n");
    fail_call("cublasLtMatmul", 14);
    assert_int_equal(driver->matmul_run(driver, STREAM, matmul, 1, 2, 3, 4, &error), LLCUDA_DEVICE);
    assert_says("cublasLtMatmul: CUBLAS_STATUS_FAKE");
    driver->matmul_destroy(driver, matmul);
    driver->matmul_destroy(driver, NULL);
}

static void test_matmul_refused(void **state)
{
    (void)state;
    struct gpu_matmul *matmul;
    struct gpu_matmul_shape shape = product;
    struct fake_machine machine = healthy;
    shape.weight = DTYPE_Q8_0;
    assert_int_equal(driver->matmul_create(driver, &shape, &matmul, &error), LLCUDA_UNSUPPORTED);
    shape = product;
    shape.output_stride = 47;
    assert_int_equal(driver->matmul_create(driver, &shape, &matmul, &error),
                     LLCUDA_INVALID_ARGUMENT);
    machine.algorithm_count = 0;
    reset(&machine);
    assert_int_equal(driver->matmul_create(driver, &product, &matmul, &error), LLCUDA_UNSUPPORTED);
    assert_says("no algorithm");
    assert_null(matmul);
    /* Making one fails at every call in turn. */
    for (int n = 1; n < 40; n++) {
        int before = live();
        reset(&healthy);
        fail_at(n, 15);
        if (!driver->matmul_create(driver, &product, &matmul, &error)) {
            driver->matmul_destroy(driver, matmul);
            assert_true(n > 10);
            return;
        }
        assert_null(matmul);
        assert_int_equal(live(), before);
    }
    fail_msg("never succeeded");
}

static void test_telemetry(void **state)
{
    (void)state;
    struct gpu_telemetry telemetry;
    struct fake_machine machine = healthy;
    assert_ok(driver->telemetry(driver, &telemetry, &error), error);
    assert_non_null(strstr(calls(), "nvmlInit_v2()\n"
                                    "nvmlDeviceGetHandleByPciBusId_v2(0000:41:00.0)\n"));
    assert_true(telemetry.utilisation == 0.42);
    assert_true(telemetry.temperature_c == 54);
    assert_true(telemetry.power_w == 612.5);
    assert_true(telemetry.power_limit_w == 700);
    assert_true(telemetry.clock_mhz == 1980);
    assert_true(telemetry.memory_clock_mhz == 3201);
    assert_int_equal(telemetry.memory_used_bytes, 2000);
    machine.nvml_fails = 3;
    reset(&machine);
    assert_ok(driver->telemetry(driver, &telemetry, &error), error);
    assert_true(isnan(telemetry.temperature_c));
    assert_null(strstr(calls(), "nvmlInit"));
}

static void test_surroundings(void **state)
{
    (void)state;
    struct gpu_surroundings around;
    struct fake_machine machine = healthy;
    machine.memory_errors = 3;
    reset(&machine);
    driver->surroundings(driver, &around);
    assert_string_equal(around.driver_name, "580.65.06");
    assert_int_equal(around.pcie_generation, 5);
    assert_int_equal(around.pcie_lanes, 16);
    assert_true(around.errors_known);
    assert_int_equal(around.uncorrected_errors, 3);
    assert_non_null(strstr(calls(), "nvmlDeviceGetTotalEccErrors(33, 1, 0)"));
    assert_int_equal(around.link_count, 5);
    assert_true(around.link_bytes_per_second == 26562e6);
    assert_int_equal(around.peer_count, 2);
    assert_string_equal(around.peers[0].pci_bus_id, "0000:42:00.0");
    assert_int_equal(around.peers[0].link_count, 2);
    assert_false(around.peers[0].is_switch);
    assert_string_equal(around.peers[1].pci_bus_id, "0000:a5:00.0");
    assert_int_equal(around.peers[1].link_count, 3);
    assert_true(around.peers[1].is_switch);
}

/* Whatever is not told is unknown, and nothing else is. */
static void test_surroundings_in_part(void **state)
{
    (void)state;
    struct gpu_surroundings around;
    fail_call("nvmlDeviceGetTotalEccErrors", 3);
    driver->surroundings(driver, &around);
    assert_false(around.errors_known);
    assert_int_equal(around.link_count, 5);
    fail_call("nvmlDeviceGetNvLinkRemotePciInfo_v2", 3);
    driver->surroundings(driver, &around);
    assert_int_equal(around.link_count, 5);
    assert_int_equal(around.peer_count, 0);
    fail_call("nvmlDeviceGetFieldValues", 3);
    driver->surroundings(driver, &around);
    assert_true(isnan(around.link_bytes_per_second));
    assert_int_equal(around.peer_count, 2);
    fail_call("nvmlDeviceGetNvLinkState", 3); /* a GPU without NVLink */
    driver->surroundings(driver, &around);
    assert_int_equal(around.link_count, 0);
    assert_int_equal(around.pcie_lanes, 16);
    fail_call("nvmlDeviceGetCurrPcieLinkWidth", 3);
    driver->surroundings(driver, &around);
    assert_int_equal(around.pcie_lanes, 0);
}

static void test_telemetry_without_monitor(void **state)
{
    (void)state;
    struct gpu_telemetry telemetry;
    fail_call("nvmlInit_v2", 9);
    assert_ok(driver->telemetry(driver, &telemetry, &error), error);
    assert_true(isnan(telemetry.power_w) && isnan(telemetry.utilisation));
    assert_int_equal(telemetry.memory_used_bytes, 4000);
}

/* Watching a GPU takes nothing of it: no context, no compiler. */
static void test_watch(void **state)
{
    (void)state;
    const struct gpu_open_options options = {.index = 1, .library_path = FULL};
    struct gpu_telemetry telemetry;
    struct gpu_device_info info;
    reset(&healthy);
    assert_ok(gpu_driver_watch_cuda(&options, &driver, &error), error);
    driver->describe(driver, &info);
    assert_string_equal(info.pci_bus_id, "0000:41:00.0");
    assert_ok(driver->telemetry(driver, &telemetry, &error), error);
    assert_true(telemetry.utilisation == 0.42 && telemetry.temperature_c == 54);
    assert_true(telemetry.power_w == 612.5 && telemetry.memory_used_bytes == 2000);
    assert_false(telemetry.lost);
    assert_null(strstr(calls(), "Ctx"));
    assert_null(strstr(calls(), "nvrtc"));
    fail_call("nvmlDeviceGetPowerUsage", 3); /* not supported here: the rest is known */
    assert_ok(driver->telemetry(driver, &telemetry, &error), error);
    assert_true(isnan(telemetry.power_w) && telemetry.temperature_c == 54 && !telemetry.lost);
    fail_call("nvmlDeviceGetUtilizationRates", 15);
    assert_ok(driver->telemetry(driver, &telemetry, &error), error);
    assert_true(telemetry.lost);
    close_all(NULL);
}

static void test_watch_without_monitor(void **state)
{
    (void)state;
    const struct gpu_open_options options = {.index = 1, .library_path = FULL};
    struct gpu_telemetry telemetry;
    reset(&healthy);
    assert_ok(gpu_driver_watch_cuda(&options, &driver, &error), error);
    fail_call("nvmlInit_v2", 9);
    assert_int_equal(driver->telemetry(driver, &telemetry, &error), LLCUDA_UNSUPPORTED);
    assert_says("NVML");
    assert_null(strstr(calls(), "Ctx"));
    close_all(NULL);
    const struct gpu_open_options third = {.index = 3, .library_path = FULL};
    reset(&healthy);
    assert_int_equal(gpu_driver_watch_cuda(&third, &driver, &error), LLCUDA_NOT_FOUND);
    assert_null(driver);
    assert_int_equal(live(), 0);
}

/* Measuring makes a lot of calls: each of them may fail, and nothing is left behind. */
static void test_measure_fails_everywhere(void **state)
{
    (void)state;
    const struct gpu_measure_options options = {.repetitions = 1};
    struct gpu_ceilings ceilings;
    int before = live();
    for (int n = 1; n < 400; n++) {
        reset(&healthy);
        fail_at(n, 999);
        llcuda_status status = gpu_measure(driver, &options, &ceilings, &error);
        if (n == 1) {
            assert_int_equal(status, LLCUDA_DEVICE);
        }
        /* The handle of cublasLt stays with the driver once it is made. */
        assert_in_range(live() - before, 0, 1);
    }
    reset(&healthy);
    assert_ok(gpu_measure(driver, &options, &ceilings, &error), error);
    /* 2.5 ms each for what a quarter of 1000 bytes, rounded up to one unit, holds. */
    const double unit = 16.0 * 8 * 512 * 4 * 132;
    assert_true(fabs(ceilings.read_bytes_per_second - unit / 2.5e-3) < 1);
    assert_true(fabs(ceilings.copy_bytes_per_second - unit / 2.5e-3) < 1);
    assert_true(ceilings.matrix_flop_per_second > 0 && !ceilings.matrix_vendor);
}

int main(void)
{
#define WITH_DRIVER(test) cmocka_unit_test_setup_teardown(test, open_healthy, close_all)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_the_compiler_loads_is_loaded),
        cmocka_unit_test(test_no_driver),
        cmocka_unit_test(test_open),
        cmocka_unit_test(test_refused_machines),
        cmocka_unit_test(test_open_fails_everywhere),
        cmocka_unit_test(test_no_compiler),
        cmocka_unit_test(test_launch_without_overlap),
        cmocka_unit_test(test_watch),
        cmocka_unit_test(test_watch_without_monitor),
        WITH_DRIVER(test_memory),
        WITH_DRIVER(test_copies),
        WITH_DRIVER(test_streams_and_events),
        WITH_DRIVER(test_waits),
        WITH_DRIVER(test_kernels),
        WITH_DRIVER(test_launches),
        WITH_DRIVER(test_tensor_maps),
        WITH_DRIVER(test_graphs),
        WITH_DRIVER(test_compile),
        WITH_DRIVER(test_matmul),
        WITH_DRIVER(test_matmul_refused),
        WITH_DRIVER(test_telemetry),
        WITH_DRIVER(test_surroundings),
        WITH_DRIVER(test_surroundings_in_part),
        WITH_DRIVER(test_telemetry_without_monitor),
        WITH_DRIVER(test_measure_fails_everywhere),
    };
    test_seed_print();
    return cmocka_run_group_tests_name(__FILE__, tests, load_fake, NULL);
}
