#include "gpu_support.h"

#include "base/file.h"
#include "gpu/kernel_sources.h"

bool gpu_bench_is_emulated(void)
{
    const char *device = getenv("LLCUDA_TEST_DEVICE");
    return !device || strcmp(device, "cuda") != 0;
}

struct gpu_driver *gpu_test_driver(struct gpu_faults *faults)
{
    const struct gpu_open_options emulated = {.faults = faults};
    const struct gpu_open_options real = {.library_path = getenv("LLCUDA_CUDA_PATH")};
    struct gpu_driver *driver = NULL;
    struct llcuda_error error;
    llcuda_status status = gpu_bench_is_emulated() ? gpu_driver_open_emu(&emulated, &driver, &error)
                                                   : gpu_driver_open_cuda(&real, &driver, &error);
    assert_ok(status, error);
    return driver;
}

void gpu_test_needs_emulation(void)
{
    if (!gpu_bench_is_emulated()) {
        skip();
    }
}

void gpu_bench_open(struct gpu_bench *bench, enum gpu_emu_order order, uint64_t seed)
{
    *bench = (struct gpu_bench){0};
    const struct gpu_open_options options = {
        .faults = &bench->faults, .emu_order = order, .emu_seed = seed, .emu_matmul = true};
    const struct gpu_open_options real = {.library_path = getenv("LLCUDA_CUDA_PATH")};
    if (!gpu_bench_is_emulated()) {
        assert_ok(gpu_driver_open_cuda(&real, &bench->driver, &bench->error), bench->error);
    } else {
        assert_ok(gpu_driver_open_emu(&options, &bench->driver, &bench->error), bench->error);
    }
    assert_ok(bench->driver->stream_create(bench->driver, &bench->stream, &bench->error),
              bench->error);
}

void gpu_bench_close(struct gpu_bench *bench)
{
    bench->driver->module_unload(bench->driver, bench->module);
    bench->driver->stream_destroy(bench->driver, bench->stream);
    bench->driver->close(bench->driver);
    assert_int_equal(bench->faults.live_objects, 0);
}

void gpu_bench_append(struct buffer *text, const char *source)
{
    while (*source) {
        const size_t length = strcspn(source, "\n") + 1;
        if (strncmp(source, "#include", 8) != 0) {
            buffer_append(text, source, length);
        }
        source += source[length - 1] ? length : length - 1;
    }
}

void gpu_bench_append_words(struct buffer *text)
{
    if (gpu_bench_is_emulated()) {
        gpu_bench_append(text, kernel_source_find("emu_abi.h")->text);
        gpu_bench_append(text, kernel_source_find("vendor_emu.cuh")->text);
    } else {
        gpu_bench_append(text, kernel_source_find("vendor_nvidia.cuh")->text);
    }
}

char *gpu_bench_text(const char *file, const char *without, uint32_t occurrence)
{
    struct buffer text = {0};
    struct llcuda_error error;
    char name[128];
    gpu_bench_append_words(&text);
    snprintf(name, sizeof name, "tests/gpu/%s", file);
    char *path = test_source_path(name);
    buffer_printf(&text, "# 1 \"%s\"\n", file);
    const size_t start = text.length;
    assert_ok(file_read_all(path, 1u << 20, &text, &error), error);
    free(path);
    if (without) {
        char *at = strstr(text.data + start, without);
        for (uint32_t i = 0; at && i < occurrence; i++) {
            at = strstr(at + 1, without);
        }
        assert_non_null(at);
        memset(at, ' ', strlen(without));
    }
    assert_false(text.failed);
    return text.data;
}

/* Texts and what became of them: tests load one text into several devices. */
#define COMPILED_MAX 64u
static struct {
    struct buffer text, binary;
} compiled[COMPILED_MAX];
static uint32_t compiled_count;

static const struct buffer *compiled_find(const char *text)
{
    for (uint32_t i = 0; i < compiled_count; i++) {
        if (strcmp(buffer_text(&compiled[i].text), text) == 0) {
            return &compiled[i].binary;
        }
    }
    return NULL;
}

/* Where there is no more room the last text gives way. */
static const struct buffer *compile_text(struct gpu_bench *bench, const char *text)
{
    struct buffer log = {0};
    const struct gpu_compile_request request = {.name = "test.cu", .source = text_view_of(text)};
    const uint32_t place = compiled_count < COMPILED_MAX ? compiled_count++ : COMPILED_MAX - 1;
    struct buffer *binary = &compiled[place].binary;
    buffer_deinit(&compiled[place].text);
    buffer_deinit(binary);
    llcuda_status status =
        bench->driver->compile(bench->driver, &request, binary, &log, &bench->error);
    if (status != LLCUDA_OK || log.length) {
        print_message("%s\n", buffer_text(&log));
    }
    assert_ok(status, bench->error);
    buffer_append_text(&compiled[place].text, text);
    buffer_deinit(&log);
    return binary;
}

void gpu_bench_load(struct gpu_bench *bench, const char *text)
{
    struct gpu_driver *driver = bench->driver;
    const struct buffer *binary = compiled_find(text);
    if (!binary) {
        binary = compile_text(bench, text);
    }
    driver->module_unload(driver, bench->module);
    bench->module = NULL;
    assert_ok(
        driver->module_load(driver, binary->data, binary->length, &bench->module, &bench->error),
        bench->error);
}

llcuda_status gpu_bench_launch(struct gpu_bench *bench, const char *kernel, uint32_t blocks,
                               uint32_t threads, uint32_t shared_bytes, const void *arguments,
                               uint32_t argument_bytes)
{
    struct gpu_function *function;
    assert_ok(
        bench->driver->function_get(bench->driver, bench->module, kernel, &function, &bench->error),
        bench->error);
    const struct gpu_launch launch = {
        .grid = {blocks, 1, 1}, .block = {threads, 1, 1}, .shared_bytes = shared_bytes};
    return bench->driver->launch(bench->driver, bench->stream, function, &launch, arguments,
                                 argument_bytes, &bench->error);
}

uint64_t gpu_bench_upload(struct gpu_bench *bench, const void *data, uint64_t bytes)
{
    uint64_t address;
    assert_ok(bench->driver->memory_alloc(bench->driver, bytes, &address, &bench->error),
              bench->error);
    if (data) {
        assert_ok(bench->driver->copy_in(bench->driver, bench->stream, address, data, bytes,
                                         &bench->error),
                  bench->error);
    }
    return address;
}

void gpu_bench_download(struct gpu_bench *bench, void *data, uint64_t address, uint64_t bytes)
{
    assert_ok(
        bench->driver->copy_out(bench->driver, bench->stream, data, address, bytes, &bench->error),
        bench->error);
    assert_ok(bench->driver->stream_wait(bench->driver, bench->stream, 1000, &bench->error),
              bench->error);
}
