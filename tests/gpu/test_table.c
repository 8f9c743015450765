/* What every filling of the driver table must do alike, on the emulated device, and on a real GPU
 * with LLCUDA_TEST_DEVICE=cuda: copies, launches, overlap, graphs, events, matrix products. */
#include "gpu_support.h"

#include "tensor/dtype.h"

struct table_arguments {
    uint64_t data;
    uint32_t count;
    uint32_t value;
};

static struct gpu_bench bench;

#define DRIVER bench.driver
#define COUNT  5000u

static struct gpu_function *function_of(const char *name)
{
    struct gpu_function *function;
    assert_ok(DRIVER->function_get(DRIVER, bench.module, name, &function, &bench.error),
              bench.error);
    return function;
}

static void launch(struct gpu_function *function, uint64_t data, uint32_t count, uint32_t value,
                   bool overlap)
{
    const struct table_arguments arguments = {data, count, value};
    const struct gpu_launch shape = {
        .grid = {(count + 127) / 128, 1, 1}, .block = {128, 1, 1}, .overlap = overlap};
    assert_ok(DRIVER->launch(DRIVER, bench.stream, function, &shape, &arguments, sizeof arguments,
                             &bench.error),
              bench.error);
}

static void test_copies(void **state)
{
    (void)state;
    uint8_t in[4096], out[4096];
    for (size_t i = 0; i < sizeof in; i++) {
        in[i] = (uint8_t)test_random();
    }
    uint64_t a = gpu_bench_upload(&bench, in, sizeof in);
    uint64_t b = gpu_bench_upload(&bench, NULL, sizeof in);
    assert_int_equal(a % 256, 0);
    assert_ok(DRIVER->fill(DRIVER, bench.stream, b, 0xa5, sizeof in, &bench.error), bench.error);
    assert_ok(DRIVER->copy(DRIVER, bench.stream, b + 3, a + 1, 100, &bench.error), bench.error);
    gpu_bench_download(&bench, out, b, sizeof out);
    for (size_t i = 0; i < sizeof out; i++) {
        assert_int_equal(out[i], i >= 3 && i < 103 ? in[i - 2] : 0xa5);
    }
    DRIVER->memory_free(DRIVER, a);
    DRIVER->memory_free(DRIVER, b);
}

static void test_memory(void **state)
{
    (void)state;
    uint64_t before, after, total, address;
    void *host;
    assert_ok(DRIVER->memory_info(DRIVER, &before, &total, &bench.error), bench.error);
    assert_true(before <= total && total > 0);
    assert_ok(DRIVER->memory_alloc(DRIVER, 64 << 20, &address, &bench.error), bench.error);
    assert_ok(DRIVER->memory_info(DRIVER, &after, &total, &bench.error), bench.error);
    assert_true(after < before);
    DRIVER->memory_free(DRIVER, address);
    assert_int_equal(DRIVER->memory_alloc(DRIVER, 1ull << 46, &address, &bench.error),
                     LLCUDA_OUT_OF_MEMORY);
    assert_ok(DRIVER->host_alloc(DRIVER, 1 << 20, &host, &bench.error), bench.error);
    memset(host, 7, 1 << 20);
    DRIVER->host_free(DRIVER, host);
    /* What failed before is forgotten. */
    address = gpu_bench_upload(&bench, NULL, 4096);
    DRIVER->memory_free(DRIVER, address);
}

static void test_order(void **state)
{
    (void)state;
    static uint32_t data[COUNT], got[COUNT];
    struct gpu_function *step = function_of("step");
    for (int overlap = 0; overlap < 2; overlap++) {
        for (uint32_t i = 0; i < COUNT; i++) {
            data[i] = (uint32_t)test_random();
        }
        uint64_t address = gpu_bench_upload(&bench, data, sizeof data);
        for (uint32_t n = 0; n < 20; n++) {
            launch(step, address, COUNT, n, overlap);
        }
        gpu_bench_download(&bench, got, address, sizeof got);
        for (uint32_t i = 0; i < COUNT; i++) {
            uint32_t expected = data[i];
            for (uint32_t n = 0; n < 20; n++) {
                expected = expected * 3u + n;
            }
            assert_int_equal(got[i], expected);
        }
        DRIVER->memory_free(DRIVER, address);
    }
}

static void mix(const uint32_t *from, uint32_t *to, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        uint32_t sum = 0;
        for (uint32_t j = 0; j < 8; j++) {
            sum = sum * 5u + from[(i * 37u + j * 1001u) % count];
        }
        to[i] = sum;
    }
}

/* A chain of overlapping launches, one by one and captured, replayed with other data. */
static void test_graph(void **state)
{
    (void)state;
    enum { WORDS = 128 * 264, CHAIN = 12 };
    static uint32_t data[2][WORDS], got[2 * WORDS];
    struct gpu_graph *graph;
    struct gpu_function *function = function_of("mix");
    uint64_t address = gpu_bench_upload(&bench, NULL, sizeof data);
    assert_ok(DRIVER->capture_begin(DRIVER, bench.stream, &bench.error), bench.error);
    for (uint32_t n = 0; n < CHAIN; n++) {
        launch(function, address, WORDS, n % 2, true);
    }
    assert_ok(DRIVER->capture_end(DRIVER, bench.stream, &graph, &bench.error), bench.error);
    for (int replay = 0; replay < 4; replay++) {
        for (uint32_t i = 0; i < WORDS; i++) {
            data[0][i] = (uint32_t)test_random();
        }
        assert_ok(
            DRIVER->copy_in(DRIVER, bench.stream, address, data[0], sizeof data[0], &bench.error),
            bench.error);
        if (replay < 3) {
            assert_ok(DRIVER->graph_launch(DRIVER, bench.stream, graph, &bench.error), bench.error);
        } else {
            for (uint32_t n = 0; n < CHAIN; n++) {
                launch(function, address, WORDS, n % 2, true);
            }
        }
        gpu_bench_download(&bench, got, address, sizeof got);
        for (uint32_t n = 0; n < CHAIN; n++) {
            mix(data[n % 2], data[1 - n % 2], WORDS);
        }
        assert_memory_equal(got, data[0], sizeof data[0]);
    }
    DRIVER->graph_destroy(DRIVER, graph);
    DRIVER->memory_free(DRIVER, address);
}

static void test_functions(void **state)
{
    (void)state;
    static uint32_t data[16384], got[16384];
    struct gpu_device_info device;
    struct gpu_function_info info;
    struct gpu_function *function;
    uint32_t blocks = 0;
    DRIVER->describe(DRIVER, &device);
    assert_int_equal(DRIVER->function_get(DRIVER, bench.module, "absent", &function, &bench.error),
                     LLCUDA_NOT_FOUND);
    function = function_of("large");
    assert_ok(DRIVER->function_info(DRIVER, function, &info, &bench.error), bench.error);
    assert_true(info.threads_max >= 256);
    uint32_t bytes = device.shared_bytes_block_max < sizeof data
                         ? device.shared_bytes_block_max / 16 * 16
                         : (uint32_t)sizeof data;
    assert_ok(DRIVER->function_shared_limit(DRIVER, function, bytes, &bench.error), bench.error);
    assert_ok(DRIVER->function_occupancy(DRIVER, function, 256, bytes, &blocks, &bench.error),
              bench.error);
    assert_true(blocks >= 1);
    for (uint32_t i = 0; i < bytes / 4; i++) {
        data[i] = (uint32_t)test_random();
    }
    const struct table_arguments arguments = {gpu_bench_upload(&bench, data, bytes), bytes / 4, 0};
    assert_ok(gpu_bench_launch(&bench, "large", 1, 256, bytes, &arguments, sizeof arguments),
              bench.error);
    gpu_bench_download(&bench, got, arguments.data, bytes);
    for (uint32_t i = 0; i < bytes / 4; i++) {
        assert_int_equal(got[i], data[bytes / 4 - 1 - i]);
    }
    DRIVER->memory_free(DRIVER, arguments.data);
}

static void test_events(void **state)
{
    (void)state;
    struct gpu_event *from, *to;
    struct gpu_stream *other;
    double milliseconds = -1;
    uint32_t data[128] = {1}, got[128];
    uint64_t address = gpu_bench_upload(&bench, data, sizeof data);
    assert_ok(DRIVER->stream_create(DRIVER, &other, &bench.error), bench.error);
    assert_ok(DRIVER->event_create(DRIVER, true, &from, &bench.error), bench.error);
    assert_ok(DRIVER->event_create(DRIVER, true, &to, &bench.error), bench.error);
    assert_ok(DRIVER->event_record(DRIVER, from, bench.stream, &bench.error), bench.error);
    launch(function_of("step"), address, 128, 9, false);
    assert_ok(DRIVER->event_record(DRIVER, to, bench.stream, &bench.error), bench.error);
    assert_ok(DRIVER->stream_wait_event(DRIVER, other, to, &bench.error), bench.error);
    assert_ok(DRIVER->copy_out(DRIVER, other, got, address, sizeof got, &bench.error), bench.error);
    assert_ok(DRIVER->stream_wait(DRIVER, other, 5000, &bench.error), bench.error);
    assert_int_equal(got[0], 12);
    assert_ok(DRIVER->event_wait(DRIVER, to, 5000, &bench.error), bench.error);
    assert_ok(DRIVER->event_elapsed(DRIVER, from, to, &milliseconds, &bench.error), bench.error);
    assert_true(milliseconds >= 0 && milliseconds < 5000);
    DRIVER->event_destroy(DRIVER, from);
    DRIVER->event_destroy(DRIVER, to);
    DRIVER->stream_destroy(DRIVER, other);
    DRIVER->memory_free(DRIVER, address);
}

/* A value that its type holds exactly. */
static float half_value(enum dtype dtype, uint16_t *bits)
{
    float value = (float)((int)test_random_below(33) - 16) / 16;
    *bits = dtype == DTYPE_F16 ? float_to_f16(value) : float_to_bf16(value);
    return value;
}

static void check_matmul(const struct gpu_matmul_shape *shape)
{
    size_t x_count = (size_t)shape->n * shape->columns;
    size_t w_count = (size_t)shape->rows * shape->columns;
    size_t y_count = (size_t)shape->n * shape->output_stride;
    size_t y_bytes = shape->output == DTYPE_F32 ? 4 : 2;
    uint16_t *bits = calloc(x_count + w_count, 2);
    float *values = calloc(x_count + w_count, sizeof *values);
    uint8_t *y = calloc(y_count, y_bytes);
    assert_true(bits && values && y);
    for (size_t i = 0; i < x_count + w_count; i++) {
        values[i] = half_value(shape->weight, &bits[i]);
    }
    for (size_t i = 0; i < y_count; i++) {
        float start = 3;
        uint16_t half = float_to_bf16(3);
        half = shape->output == DTYPE_F16 ? float_to_f16(3) : half;
        memcpy(y + i * y_bytes, y_bytes == 4 ? (void *)&start : (void *)&half, y_bytes);
    }
    struct gpu_matmul *matmul;
    uint64_t x = gpu_bench_upload(&bench, bits, x_count * 2);
    uint64_t w = gpu_bench_upload(&bench, bits + x_count, w_count * 2);
    uint64_t out = gpu_bench_upload(&bench, y, y_count * y_bytes);
    uint64_t workspace = gpu_bench_upload(&bench, NULL, GPU_MATMUL_WORKSPACE_BYTES);
    assert_ok(DRIVER->matmul_create(DRIVER, shape, &matmul, &bench.error), bench.error);
    assert_ok(DRIVER->matmul_run(DRIVER, bench.stream, matmul, out, x, w, workspace, &bench.error),
              bench.error);
    gpu_bench_download(&bench, y, out, y_count * y_bytes);
    for (size_t i = 0; i < y_count; i++) {
        size_t n = i / shape->output_stride, row = i % shape->output_stride;
        uint16_t half;
        float got;
        memcpy(y_bytes == 4 ? (void *)&got : (void *)&half, y + i * y_bytes, y_bytes);
        if (y_bytes == 2) {
            got = shape->output == DTYPE_F16 ? float_from_f16(half) : float_from_bf16(half);
        }
        double sum = shape->accumulate || row >= shape->rows ? 3 : 0;
        for (uint32_t k = 0; row < shape->rows && k < shape->columns; k++) {
            sum += (double)values[n * shape->columns + k] *
                   (double)values[x_count + row * shape->columns + k];
        }
        double bound = y_bytes == 4 ? 1e-4 : fabs(sum) / 100 + 1e-3;
        assert_true(fabs((double)got - sum) <= bound);
    }
    DRIVER->matmul_destroy(DRIVER, matmul);
    const uint64_t addresses[] = {x, w, out, workspace};
    for (size_t i = 0; i < 4; i++) {
        DRIVER->memory_free(DRIVER, addresses[i]);
    }
    free(bits);
    free(values);
    free(y);
}

static void test_matmul(void **state)
{
    (void)state;
    if (!DRIVER->matmul_create) {
        skip();
    }
    const struct gpu_matmul_shape shapes[] = {
        {DTYPE_BF16, DTYPE_F32, 33, 96, 128, 96, false},
        {DTYPE_F16, DTYPE_F32, 16, 64, 256, 72, true},
        {DTYPE_BF16, DTYPE_BF16, 70, 200, 64, 208, false},
        {DTYPE_F16, DTYPE_F16, 8, 40, 72, 40, true},
        {DTYPE_BF16, DTYPE_F32, 130, 136, 512, 136, true},
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        check_matmul(&shapes[i]);
    }
}

static void test_compile_error(void **state)
{
    (void)state;
    struct buffer binary = {0}, log = {0};
    const struct gpu_compile_request request = {
        .name = "broken.cu", .source = text_view_of("extern \"C\" void f() { nonsense; }\n")};
    assert_int_equal(DRIVER->compile(DRIVER, &request, &binary, &log, &bench.error),
                     LLCUDA_BAD_FORMAT);
    assert_non_null(strstr(bench.error.message, "broken.cu"));
    assert_non_null(strstr(buffer_text(&log), "nonsense"));
    buffer_deinit(&binary);
    buffer_deinit(&log);
}

static int set_up(void **state)
{
    (void)state;
    char *text = gpu_bench_text("table.cu", NULL, 0);
    gpu_bench_open(&bench, GPU_EMU_RANDOM, test_random());
    gpu_bench_load(&bench, text);
    free(text);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    gpu_bench_close(&bench);
    return bench.faults.live_allocations != 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_copies),    cmocka_unit_test(test_memory),
        cmocka_unit_test(test_order),     cmocka_unit_test(test_graph),
        cmocka_unit_test(test_functions), cmocka_unit_test(test_events),
        cmocka_unit_test(test_matmul),    cmocka_unit_test(test_compile_error),
    };
    test_seed_print();
    return cmocka_run_group_tests_name(__FILE__, tests, set_up, tear_down);
}
