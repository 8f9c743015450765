/* The emulated driver: memory, copies, launches, streams, events, graphs, modules, matrix products;
 * and failures of every call, none of which may leave anything behind. */
#include "gpu_support.h"

#include <unistd.h>

#include "tensor/dtype.h"

enum { COUNT = 96 };

struct words_arguments {
    uint64_t in;
    uint64_t out;
    uint32_t count;
    uint32_t value;
};

static const struct gpu_launch three_blocks = {.grid = {3, 1, 1}, .block = {32, 1, 1}};
/* The binary of words.cu: compiled once. */
static struct buffer words;

static void open_with_words(struct gpu_bench *bench)
{
    gpu_bench_open(bench, GPU_EMU_FORWARD, 0);
    if (words.length == 0) {
        struct buffer log = {0};
        char *text = gpu_bench_text("words.cu", NULL, 0);
        const struct gpu_compile_request request = {.name = "words.cu",
                                                    .source = text_view_of(text)};
        assert_ok(bench->driver->compile(bench->driver, &request, &words, &log, &bench->error),
                  bench->error);
        buffer_deinit(&log);
        free(text);
    }
    assert_ok(bench->driver->module_load(bench->driver, words.data, words.length, &bench->module,
                                         &bench->error),
              bench->error);
}

static void checks_ranges_of_copies(void **state)
{
    (void)state;
    struct gpu_bench bench;
    struct gpu_driver *driver;
    char data[512] = {0};
    gpu_bench_open(&bench, GPU_EMU_FORWARD, 0);
    driver = bench.driver;
    const uint64_t a = gpu_bench_upload(&bench, data, 256);
    const uint64_t b = gpu_bench_upload(&bench, data, 256);
    assert_int_equal(a % 256, 0);
    struct llcuda_error *error = &bench.error;
    assert_int_equal(driver->copy(driver, bench.stream, a, b, 256, error), LLCUDA_OK);
    assert_int_equal(driver->copy(driver, bench.stream, a, b + 1, 256, error), LLCUDA_DEVICE);
    assert_int_equal(driver->copy(driver, bench.stream, a + 256, b, 1, error), LLCUDA_DEVICE);
    assert_int_equal(driver->copy_in(driver, bench.stream, a + 1, data, 256, error), LLCUDA_DEVICE);
    assert_int_equal(driver->copy_out(driver, bench.stream, data, a, 257, error), LLCUDA_DEVICE);
    assert_int_equal(driver->fill(driver, bench.stream, b, 3, UINT64_MAX, error), LLCUDA_DEVICE);
    assert_int_equal(driver->fill(driver, bench.stream, 4096, 3, 1, error), LLCUDA_DEVICE);
    assert_non_null(strstr(error->message, "not inside one device allocation"));
    assert_int_equal(driver->fill(driver, bench.stream, b + 16, 3, 16, error), LLCUDA_OK);
    gpu_bench_download(&bench, data, b, 256);
    for (uint32_t i = 0; i < 256; i++) {
        assert_int_equal(data[i], i >= 16 && i < 32 ? 3 : 0);
    }
    driver->memory_free(driver, a);
    assert_int_equal(driver->fill(driver, bench.stream, a, 3, 1, error), LLCUDA_DEVICE);
    driver->memory_free(driver, b);
    driver->memory_free(driver, 0);
    assert_int_equal(bench.faults.live_allocations, 0);
    gpu_bench_close(&bench);
}

static void memory_has_a_size(void **state)
{
    (void)state;
    struct gpu_driver *driver;
    struct llcuda_error error;
    uint64_t address[2];
    uint64_t free_bytes;
    uint64_t total_bytes;
    const struct gpu_open_options options = {.emu_memory_bytes = 1u << 20};
    assert_ok(gpu_driver_open_emu(&options, &driver, &error), error);
    assert_ok(driver->memory_alloc(driver, 600000, &address[0], &error), error);
    assert_int_equal(driver->memory_alloc(driver, 600000, &address[1], &error),
                     LLCUDA_OUT_OF_MEMORY);
    assert_int_equal(driver->memory_alloc(driver, 0, &address[1], &error), LLCUDA_INVALID_ARGUMENT);
    assert_ok(driver->memory_info(driver, &free_bytes, &total_bytes, &error), error);
    assert_int_equal(total_bytes, 1u << 20);
    assert_int_equal(free_bytes, (1u << 20) - 600000);
    driver->memory_free(driver, address[0]);
    assert_ok(driver->memory_alloc(driver, 1u << 20, &address[0], &error), error);
    driver->memory_free(driver, address[0]);
    driver->close(driver);
    const struct gpu_open_options second = {.index = 1};
    assert_int_equal(gpu_driver_open_emu(&second, &driver, &error), LLCUDA_NOT_FOUND);
}

static void checks_launches(void **state)
{
    (void)state;
    struct gpu_bench bench;
    struct gpu_function *function;
    struct gpu_function_info info;
    open_with_words(&bench);
    struct gpu_driver *driver = bench.driver;
    struct llcuda_error *error = &bench.error;
    const struct words_arguments arguments = {0};
    assert_int_equal(driver->function_get(driver, bench.module, "no_such", &function, error),
                     LLCUDA_NOT_FOUND);
    assert_ok(driver->function_get(driver, bench.module, "reverse", &function, error), bench.error);
    assert_ok(driver->function_info(driver, function, &info, error), bench.error);
    assert_int_equal(info.threads_max, 256);
    static const struct gpu_launch bad[] = {
        {.grid = {1, 1, 1}, .block = {257, 1, 1}},
        {.grid = {1, 1, 1}, .block = {0, 1, 1}},
        {.grid = {1, 1, 1}, .block = {32, 2, 1}},
        {.grid = {0, 1, 1}, .block = {32, 1, 1}},
        {.grid = {1, 70000, 1}, .block = {32, 1, 1}},
        {.grid = {1, 1, 1}, .block = {32, 1, 1}, .shared_bytes = 49153},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(driver->launch(driver, bench.stream, function, &bad[i], &arguments,
                                        sizeof arguments, error),
                         LLCUDA_INVALID_ARGUMENT);
    }
    assert_int_equal(driver->launch(driver, bench.stream, function, &three_blocks, &arguments,
                                    sizeof arguments - 1, error),
                     LLCUDA_INVALID_ARGUMENT);
    uint32_t blocks = 0;
    assert_ok(driver->function_occupancy(driver, function, 256, 1024, &blocks, error), bench.error);
    assert_int_equal(blocks, 8);
    assert_int_equal(driver->function_occupancy(driver, function, 256, 100000, &blocks, error),
                     LLCUDA_INVALID_ARGUMENT);
    assert_ok(driver->function_shared_limit(driver, function, 100000, error), bench.error);
    assert_ok(driver->function_occupancy(driver, function, 256, 100000, &blocks, error),
              bench.error);
    assert_int_equal(blocks, 2);
    assert_int_equal(driver->function_shared_limit(driver, function, 1u << 20, error),
                     LLCUDA_INVALID_ARGUMENT);
    gpu_bench_close(&bench);
}

/* out = in · value + 3 by the kernel `indices`. */
static llcuda_status launch_indices(struct gpu_bench *bench, uint64_t out, uint64_t in,
                                    uint32_t value)
{
    struct gpu_function *function;
    llcuda_status status = bench->driver->function_get(bench->driver, bench->module, "indices",
                                                       &function, &bench->error);
    struct words_arguments arguments = {in, out, COUNT, value};
    if (status == LLCUDA_OK) {
        status = bench->driver->launch(bench->driver, bench->stream, function, &three_blocks,
                                       &arguments, sizeof arguments, &bench->error);
    }
    memset(&arguments, 0xee, sizeof arguments); /* they were copied */
    return status;
}

static void graphs_replay_with_other_data(void **state)
{
    (void)state;
    struct gpu_bench bench;
    struct gpu_graph *graph;
    uint32_t host[COUNT];
    uint32_t got[COUNT];
    open_with_words(&bench);
    struct gpu_driver *driver = bench.driver;
    const uint64_t a = gpu_bench_upload(&bench, NULL, sizeof host);
    const uint64_t b = gpu_bench_upload(&bench, NULL, sizeof host);
    const uint64_t c = gpu_bench_upload(&bench, NULL, sizeof host);
    memset(got, 0, sizeof got);
    assert_ok(driver->fill(driver, bench.stream, c, 0, sizeof host, &bench.error), bench.error);
    assert_ok(driver->capture_begin(driver, bench.stream, &bench.error), bench.error);
    assert_ok(driver->copy_in(driver, bench.stream, a, host, sizeof host, &bench.error),
              bench.error);
    assert_ok(launch_indices(&bench, b, a, 5), bench.error);
    assert_ok(launch_indices(&bench, c, b, 7), bench.error);
    assert_ok(driver->fill(driver, bench.stream, c, 0xab, 4, &bench.error), bench.error);
    assert_ok(driver->copy_out(driver, bench.stream, got, c, sizeof got, &bench.error),
              bench.error);
    assert_int_equal(driver->stream_wait(driver, bench.stream, 0, &bench.error), LLCUDA_DEVICE);
    assert_ok(driver->capture_end(driver, bench.stream, &graph, &bench.error), bench.error);
    assert_int_equal(got[5], 0); /* nothing has run */
    assert_int_equal(bench.faults.launches, 0);
    for (uint32_t round = 0; round < 3; round++) {
        for (uint32_t i = 0; i < COUNT; i++) {
            host[i] = (uint32_t)test_random();
        }
        assert_ok(driver->graph_launch(driver, bench.stream, graph, &bench.error), bench.error);
        assert_int_equal(got[0], 0xabababab);
        for (uint32_t i = 1; i < COUNT; i++) {
            assert_int_equal(got[i], (host[i] * 5u + 3u) * 7u + 3u);
        }
    }
    assert_int_equal(bench.faults.graph_launches, 3);
    assert_int_equal(bench.faults.launches, 0);
    driver->graph_destroy(driver, graph);
    driver->memory_free(driver, a);
    driver->memory_free(driver, b);
    driver->memory_free(driver, c);
    gpu_bench_close(&bench);
}

static void events_and_time_outs(void **state)
{
    (void)state;
    struct gpu_bench bench;
    struct gpu_event *from;
    struct gpu_event *to;
    struct gpu_event *plain;
    double milliseconds = -1;
    gpu_bench_open(&bench, GPU_EMU_FORWARD, 0);
    struct gpu_driver *driver = bench.driver;
    struct llcuda_error *error = &bench.error;
    assert_ok(driver->event_create(driver, true, &from, error), bench.error);
    assert_ok(driver->event_create(driver, true, &to, error), bench.error);
    assert_ok(driver->event_create(driver, false, &plain, error), bench.error);
    assert_ok(driver->event_record(driver, from, bench.stream, error), bench.error);
    assert_int_equal(driver->event_elapsed(driver, from, to, &milliseconds, error),
                     LLCUDA_INVALID_ARGUMENT);
    usleep(2000);
    assert_ok(driver->event_record(driver, to, bench.stream, error), bench.error);
    assert_ok(driver->event_elapsed(driver, from, to, &milliseconds, error), bench.error);
    assert_true(milliseconds >= 2 && milliseconds < 60000);
    assert_ok(driver->event_record(driver, plain, bench.stream, error), bench.error);
    assert_int_equal(driver->event_elapsed(driver, from, plain, &milliseconds, error),
                     LLCUDA_INVALID_ARGUMENT);
    assert_ok(driver->event_wait(driver, to, 10, error), bench.error);
    bench.faults.hang = true;
    assert_int_equal(driver->event_wait(driver, to, 10, error), LLCUDA_TIMEOUT);
    assert_int_equal(driver->stream_wait(driver, bench.stream, 10, error), LLCUDA_TIMEOUT);
    bench.faults.hang = false;
    driver->event_destroy(driver, from);
    driver->event_destroy(driver, to);
    driver->event_destroy(driver, plain);
    driver->event_destroy(driver, NULL);
    gpu_bench_close(&bench);
}

/* A module that is loaded after another one was unloaded is itself, not the other. */
static void modules_do_not_mix(void **state)
{
    (void)state;
    struct gpu_bench bench;
    struct gpu_function *function;
    struct buffer other = {0};
    struct buffer log = {0};
    open_with_words(&bench);
    struct gpu_driver *driver = bench.driver;
    char *text = gpu_bench_text("barriers.cu", NULL, 0);
    const struct gpu_compile_request request = {.name = "barriers.cu",
                                                .source = text_view_of(text)};
    assert_ok(driver->compile(driver, &request, &other, &log, &bench.error), bench.error);
    for (uint32_t round = 0; round < 3; round++) {
        driver->module_unload(driver, bench.module);
        assert_ok(
            driver->module_load(driver, other.data, other.length, &bench.module, &bench.error),
            bench.error);
        assert_ok(driver->function_get(driver, bench.module, "tile_loop", &function, &bench.error),
                  bench.error);
        assert_int_equal(
            driver->function_get(driver, bench.module, "indices", &function, &bench.error),
            LLCUDA_NOT_FOUND);
        driver->module_unload(driver, bench.module);
        assert_ok(
            driver->module_load(driver, words.data, words.length, &bench.module, &bench.error),
            bench.error);
        assert_ok(driver->function_get(driver, bench.module, "indices", &function, &bench.error),
                  bench.error);
    }
    struct gpu_module *broken;
    assert_int_equal(driver->module_load(driver, "no module", 9, &broken, &bench.error),
                     LLCUDA_DEVICE);
    buffer_deinit(&other);
    buffer_deinit(&log);
    free(text);
    gpu_bench_close(&bench);
}

static void compiler_errors_are_told(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "extern \"C\" __global__ void k(const struct nothing arguments) { }\n",
        "int f() { return undefined_name; }\n",
        "__global__ ;\n",
    };
    struct gpu_bench bench;
    gpu_bench_open(&bench, GPU_EMU_FORWARD, 0);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct buffer binary = {0};
        struct buffer log = {0};
        const struct gpu_compile_request request = {.name = "bad.cu",
                                                    .source = text_view_of(bad[i])};
        assert_int_equal(bench.driver->compile(bench.driver, &request, &binary, &log, &bench.error),
                         LLCUDA_BAD_FORMAT);
        assert_int_equal(binary.length, 0);
        assert_true(i == 2 || strstr(buffer_text(&log), "bad.cu:1:"));
        buffer_deinit(&binary);
        buffer_deinit(&log);
    }
    gpu_bench_close(&bench);
    /* Without a compiler, and with one that is none. */
    static const char *const none[] = {"/nowhere/c++", "/bin/false"};
    for (size_t i = 0; i < 2; i++) {
        struct gpu_driver *driver;
        struct gpu_device_info info;
        struct buffer binary = {0};
        struct buffer log = {0};
        const struct gpu_open_options options = {.compiler = none[i]};
        const struct gpu_compile_request request = {.name = "any.cu", .source = text_view_of("")};
        assert_ok(gpu_driver_open_emu(&options, &driver, &bench.error), bench.error);
        driver->describe(driver, &info);
        assert_int_equal(info.compiler_version, 0);
        assert_int_equal(driver->compile(driver, &request, &binary, &log, &bench.error),
                         LLCUDA_UNSUPPORTED);
        driver->close(driver);
    }
}

static void matrix_products(void **state)
{
    (void)state;
    enum { N = 5, ROWS = 7, COLUMNS = 19, STRIDE = 9 };
    struct gpu_bench bench;
    uint16_t x[N * COLUMNS];
    uint16_t w[ROWS * COLUMNS];
    float y[N * STRIDE];
    float got[N * STRIDE];
    struct gpu_matmul *matmul;
    for (uint32_t i = 0; i < N * COLUMNS; i++) {
        x[i] = float_to_bf16(test_random_normal());
    }
    for (uint32_t i = 0; i < ROWS * COLUMNS; i++) {
        w[i] = float_to_bf16(test_random_normal());
    }
    for (uint32_t i = 0; i < N * STRIDE; i++) {
        y[i] = test_random_normal();
    }
    gpu_bench_open(&bench, GPU_EMU_FORWARD, 0);
    struct gpu_driver *driver = bench.driver;
    const uint64_t on_device[4] = {gpu_bench_upload(&bench, y, sizeof y),
                                   gpu_bench_upload(&bench, x, sizeof x),
                                   gpu_bench_upload(&bench, w, sizeof w),
                                   gpu_bench_upload(&bench, NULL, GPU_MATMUL_WORKSPACE_BYTES)};
    struct gpu_matmul_shape shape = {.weight = DTYPE_BF16,
                                     .output = DTYPE_F32,
                                     .n = N,
                                     .rows = ROWS,
                                     .columns = COLUMNS,
                                     .output_stride = STRIDE,
                                     .accumulate = true};
    assert_ok(driver->matmul_create(driver, &shape, &matmul, &bench.error), bench.error);
    assert_ok(driver->matmul_run(driver, bench.stream, matmul, on_device[0], on_device[1],
                                 on_device[2], on_device[3], &bench.error),
              bench.error);
    gpu_bench_download(&bench, got, on_device[0], sizeof got);
    for (uint32_t i = 0; i < N * STRIDE; i++) {
        double sum = (double)y[i];
        for (uint32_t k = 0; i % STRIDE < ROWS && k < COLUMNS; k++) {
            sum += (double)float_from_bf16(x[i / STRIDE * COLUMNS + k]) *
                   (double)float_from_bf16(w[i % STRIDE * COLUMNS + k]);
        }
        assert_true(fabs(sum - (double)got[i]) < 1e-4);
    }
    driver->matmul_destroy(driver, matmul);
    shape.weight = DTYPE_Q8_0;
    assert_int_equal(driver->matmul_create(driver, &shape, &matmul, &bench.error),
                     LLCUDA_UNSUPPORTED);
    for (uint32_t i = 0; i < 4; i++) {
        driver->memory_free(driver, on_device[i]);
    }
    gpu_bench_close(&bench);
}

/* A little of everything; gives back what it has made, wherever it fails. */
static llcuda_status scenario(struct gpu_faults *faults, struct llcuda_error *error)
{
    struct gpu_driver *d = NULL;
    struct gpu_stream *stream = NULL;
    struct gpu_event *event = NULL;
    struct gpu_event *later = NULL;
    struct gpu_module *module = NULL;
    struct gpu_function *function = NULL;
    struct gpu_graph *graph = NULL;
    struct gpu_matmul *matmul = NULL;
    struct gpu_telemetry telemetry;
    uint64_t a = 0;
    uint64_t b = 0;
    void *host = NULL;
    bool captures = false;
    double milliseconds;
    const struct gpu_matmul_shape shape = {DTYPE_F16, DTYPE_F32, 1, 1, 8, 1, false};
    const struct gpu_open_options options = {
        .faults = faults, .emu_matmul = true, .compiler = "/nowhere"};
    llcuda_status status = gpu_driver_open_emu(&options, &d, error);
    assert_int_equal(status, LLCUDA_OK);
#define STEP(call)       \
    do {                 \
        status = (call); \
        if (status) {    \
            goto done;   \
        }                \
    } while (0)
    STEP(d->attach(d, error));
    STEP(d->telemetry(d, &telemetry, error));
    STEP(d->memory_info(d, &a, &b, error));
    a = b = 0;
    STEP(d->memory_alloc(d, sizeof(uint32_t) * COUNT, &a, error));
    STEP(d->memory_alloc(d, GPU_MATMUL_WORKSPACE_BYTES, &b, error));
    STEP(d->host_alloc(d, sizeof(uint32_t) * COUNT, &host, error));
    STEP(d->stream_create(d, &stream, error));
    STEP(d->event_create(d, true, &event, error));
    STEP(d->event_create(d, true, &later, error));
    STEP(d->module_load(d, words.data, words.length, &module, error));
    STEP(d->function_get(d, module, "indices", &function, error));
    memset(host, 1, sizeof(uint32_t) * COUNT);
    const struct words_arguments arguments = {a, b, COUNT, 9};
    STEP(d->capture_begin(d, stream, error));
    captures = true;
    STEP(d->copy_in(d, stream, a, host, sizeof(uint32_t) * COUNT, error));
    STEP(d->launch(d, stream, function, &three_blocks, &arguments, sizeof arguments, error));
    captures = false;
    STEP(d->capture_end(d, stream, &graph, error));
    STEP(d->event_record(d, event, stream, error));
    STEP(d->graph_launch(d, stream, graph, error));
    STEP(d->copy_out(d, stream, host, b, sizeof(uint32_t) * COUNT, error));
    STEP(d->matmul_create(d, &shape, &matmul, error));
    STEP(d->fill(d, stream, a, 0, 64, error));
    STEP(d->matmul_run(d, stream, matmul, a, a + 64, a + 128, b, error));
    STEP(d->launch(d, stream, function, &three_blocks, &arguments, sizeof arguments, error));
    STEP(d->event_record(d, later, stream, error));
    STEP(d->stream_wait_event(d, stream, later, error));
    STEP(d->event_wait(d, later, 100, error));
    STEP(d->event_elapsed(d, event, later, &milliseconds, error));
    STEP(d->stream_wait(d, stream, 100, error));
#undef STEP
done:
    if (captures) {
        d->capture_end(d, stream, &graph, NULL);
    }
    d->matmul_destroy(d, matmul);
    d->graph_destroy(d, graph);
    d->module_unload(d, module);
    d->event_destroy(d, later);
    d->event_destroy(d, event);
    d->stream_destroy(d, stream);
    d->host_free(d, host);
    d->memory_free(d, b);
    d->memory_free(d, a);
    d->close(d);
    return status;
}

static void no_failure_leaves_anything(void **state)
{
    (void)state;
    struct gpu_bench bench;
    struct gpu_faults plain = {0};
    open_with_words(&bench); /* compiles when this test runs alone */
    gpu_bench_close(&bench);
    assert_ok(scenario(&plain, &bench.error), bench.error);
    assert_int_equal(plain.live_allocations + plain.live_objects, 0);
    assert_true(plain.calls > 25);
    assert_int_equal(plain.allocations, 3);
    for (uint64_t i = 1; i <= plain.calls; i++) {
        struct gpu_faults faults = {.fail_at = i};
        assert_int_equal(scenario(&faults, &bench.error), LLCUDA_DEVICE);
        assert_non_null(strstr(bench.error.message, "injected"));
        assert_int_equal(faults.live_allocations, 0);
        assert_int_equal(faults.live_objects, 0);
    }
    for (uint64_t i = 1; i <= plain.allocations; i++) {
        struct gpu_faults faults = {.fail_alloc_at = i};
        assert_int_equal(scenario(&faults, &bench.error), LLCUDA_OUT_OF_MEMORY);
        assert_int_equal(faults.live_allocations, 0);
        assert_int_equal(faults.live_objects, 0);
    }
    struct gpu_faults hang = {.hang = true};
    assert_int_equal(scenario(&hang, &bench.error), LLCUDA_TIMEOUT);
    assert_int_equal(hang.live_allocations + hang.live_objects, 0);
}

static int forget_words(void **state)
{
    (void)state;
    buffer_deinit(&words);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(checks_ranges_of_copies),
        cmocka_unit_test(memory_has_a_size),
        cmocka_unit_test(checks_launches),
        cmocka_unit_test(graphs_replay_with_other_data),
        cmocka_unit_test(events_and_time_outs),
        cmocka_unit_test(modules_do_not_mix),
        cmocka_unit_test(compiler_errors_are_told),
        cmocka_unit_test(matrix_products),
        cmocka_unit_test(no_failure_leaves_anything),
    };
    test_seed_print();
    return cmocka_run_group_tests(tests, NULL, forget_words);
}
