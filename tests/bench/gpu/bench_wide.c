/* Times the kernels of linear layers beside their bounds, and beside the vendor's matrix product:
 *
 *     bench_wide [--device cuda|emu] [--index N] [--library-path FOLDERS] [--rows 33,128,2048]
 *         [--model 1b|8b|tiny] [--type bf16|q8_0|q4_k|…]
 *
 * Every shape of a model's layers, activations in bfloat16 (beside quantised weights in half, whose
 * blocks hold any bits), over weights that together are larger than the
 * second-level cache. The bound is the larger of the bytes of weights, inputs and results at the
 * read bandwidth and of the operations at the matrix rate, both measured first. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "gpu/jit.h"
#include "gpu/measure.h"
#include "gpu/program.h"
#include "kernels/arguments_linear.h"

#define LAUNCHES    8u
#define REPEATS     7u
#define TURN_BYTES  (256ull << 20)
#define BATCHES_MAX 16u

struct shape {
    const char *name;
    uint32_t rows, columns;
    bool is_pair;
};

static const struct shape shapes_1b[] = {{"qkv", 3072, 2048, false},
                                         {"output", 2048, 2048, false},
                                         {"gate and up", 8192, 2048, true},
                                         {"down", 2048, 8192, false},
                                         {"logits", 128256, 2048, false}};
static const struct shape shapes_8b[] = {{"qkv", 6144, 4096, false},
                                         {"output", 4096, 4096, false},
                                         {"gate and up", 14336, 4096, true},
                                         {"down", 4096, 14336, false},
                                         {"logits", 128256, 4096, false}};
static const struct shape shapes_tiny[] = {{"plain", 192, 256, false},
                                           {"gate and up", 96, 256, true},
                                           {"narrow", 40, 256, false},
                                           {"long", 32, 512, false},
                                           {"square", 128, 256, false}};
#define SHAPE_COUNT 5u

struct bench {
    const char *device_name, *library_path, *model;
    uint32_t index, batches[BATCHES_MAX], batch_count;
    struct gpu_driver *driver;
    struct gpu_stream *stream;
    struct gpu_event *events[2];
    struct gpu_module *module;
    struct gpu_device_info info;
    struct gpu_ceilings ceilings;
    uint64_t count, weights, input, output, workspace, partials;
    enum dtype dtype, act; /* of weights, of activations */
    struct llcuda_error error;
};

static bool fine(struct bench *bench, llcuda_status status)
{
    if (status != LLCUDA_OK) {
        printf("FAILED: %s: %s\n", llcuda_status_name(status), bench->error.message);
    }
    return status == LLCUDA_OK;
}

static bool open_all(struct bench *bench)
{
    const struct gpu_open_options open = {
        .index = bench->index, .library_path = bench->library_path, .emu_matmul = true};
    llcuda_status status = strcmp(bench->device_name, "emu") == 0
                               ? gpu_driver_open_emu(&open, &bench->driver, &bench->error)
                               : gpu_driver_open_cuda(&open, &bench->driver, &bench->error);
    if (!fine(bench, status)) {
        return false;
    }
    struct gpu_driver *driver = bench->driver;
    struct llcuda_error *error = &bench->error;
    driver->describe(driver, &bench->info);
    return fine(bench, driver->attach(driver, error)) &&
           fine(bench, driver->stream_create(driver, &bench->stream, error)) &&
           fine(bench, driver->event_create(driver, true, &bench->events[0], error)) &&
           fine(bench, driver->event_create(driver, true, &bench->events[1], error));
}

static bool load_kernels(struct bench *bench)
{
    const struct gpu_jit_options options = {0};
    struct gpu_jit_module module = {.name = "linear_wide", .files = gpu_wide_files};
    struct gpu_jit *jit = NULL;
    struct buffer prelude = {0};
    buffer_printf(&prelude, "#define KERNEL_POINTER(type) type *\n#define ACT_TYPE %s\n",
                  bench->act == DTYPE_BF16 ? "TYPE_BF16" : "TYPE_F16");
    bool wanted[DTYPE_COUNT] = {false};
    wanted[bench->dtype] = true;
    if (!gpu_wide_prelude(&bench->info, bench->act, wanted, &prelude)) {
        printf("no wide kernels for this device\n");
        buffer_deinit(&prelude);
        return false;
    }
    module.prelude = buffer_view(&prelude);
    while (gpu_wide_files[module.file_count]) {
        module.file_count++;
    }
    llcuda_status status = gpu_jit_create(bench->driver, &options, &jit, &bench->error);
    if (status == LLCUDA_OK) {
        status = gpu_jit_load(jit, &module, &bench->module, &bench->error);
    }
    gpu_jit_destroy(jit);
    buffer_deinit(&prelude);
    return fine(bench, status);
}

/* Random bfloat16 values between 2⁻⁴ and 2⁻³ of either sign: real clocks need real bits. */
static bool fill(struct bench *bench, uint64_t address, uint64_t bytes)
{
    uint64_t size = bytes < (4u << 20) ? bytes : 4u << 20;
    uint16_t *values = malloc(size);
    bool good = values != NULL;
    for (uint64_t i = 0; good && i < size / 2; i++) {
        values[i] = (uint16_t)((random_mix(i) & 0x807F) | 0x3D80);
    }
    for (uint64_t at = 0; at < bytes && good; at += size) {
        good = fine(bench,
                    bench->driver->copy_in(bench->driver, bench->stream, address + at, values,
                                           bytes - at < size ? bytes - at : size, &bench->error));
    }
    good = good &&
           fine(bench, bench->driver->stream_wait(bench->driver, bench->stream, 0, &bench->error));
    free(values);
    return good;
}

static bool allocate(struct bench *bench, uint64_t bytes, uint64_t *address)
{
    return fine(bench, bench->driver->memory_alloc(bench->driver, bytes, address, &bench->error)) &&
           fill(bench, *address, bytes);
}

/* One layer at `n` rows: tile `tile` of ours, or the vendor's product. */
struct subject {
    const struct shape *shape;
    uint32_t n, tile;
    uint32_t splits; /* blocks that share a tile */
    struct gpu_function *function;
    struct gpu_matmul *matmul; /* or NULL */
};

static uint64_t row_bytes(const struct bench *bench, const struct shape *shape)
{
    uint64_t bytes = 0;
    dtype_row_bytes(bench->dtype, shape->columns, &bytes);
    return bytes;
}

static llcuda_status run_once(struct bench *bench, const struct subject *subject, uint32_t turn)
{
    const struct shape *shape = subject->shape;
    uint64_t rows = shape->is_pair ? 2ull * shape->rows : shape->rows;
    uint64_t bytes = rows * row_bytes(bench, shape);
    uint64_t weights = bench->weights + turn * bytes % TURN_BYTES / bytes * bytes;
    if (subject->matmul) {
        return bench->driver->matmul_run(bench->driver, bench->stream, subject->matmul,
                                         bench->output, bench->input, weights, bench->workspace,
                                         &bench->error);
    }
    const struct linear_wide_arguments arguments = {
        .count = bench->count,
        .weights = {weights, weights + bytes / 2},
        .input = bench->input,
        .output = bench->output,
        .row_bytes = row_bytes(bench, shape),
        .rows = {shape->rows, shape->is_pair ? shape->rows : 0},
        .columns = shape->columns,
        .output_stride = shape->rows,
        .kind = shape->is_pair ? ACTIVATION_SILU : LINEAR_STORE,
    };
    struct gpu_launch launch;
    gpu_wide_launch(&bench->info, bench->dtype, subject->tile, shape->is_pair, arguments.rows,
                    shape->is_pair ? 2 : 1, subject->n, &launch);
    launch.grid[2] = subject->splits;
    if (gpu_wide_is_quad(subject->tile)) {
        const struct gpu_wide_quad quad = {
            .tile = subject->tile,
            .act = bench->act,
            .is_pair = shape->is_pair,
            .n = subject->n,
            .multiprocessors = bench->info.multiprocessor_count,
            .partials = bench->partials,
            .launch = launch,
        };
        return gpu_wide_quad_run(bench->driver, bench->stream, subject->function, &quad, &arguments,
                                 &bench->error);
    }
    return bench->driver->launch(bench->driver, bench->stream, subject->function, &launch,
                                 &arguments, sizeof arguments, &bench->error);
}

/* Microseconds a layer, the best of some runs; negative when a call failed. */
static double time_of(struct bench *bench, const struct subject *subject)
{
    struct gpu_driver *driver = bench->driver;
    double best = 1e30;
    for (uint32_t repeat = 0; repeat < REPEATS; repeat++) {
        double took = 0;
        llcuda_status status =
            driver->event_record(driver, bench->events[0], bench->stream, &bench->error);
        for (uint32_t i = 0; i < LAUNCHES && status == LLCUDA_OK; i++) {
            status = run_once(bench, subject, repeat * LAUNCHES + i);
        }
        if (status == LLCUDA_OK) {
            status = driver->event_record(driver, bench->events[1], bench->stream, &bench->error);
        }
        if (status == LLCUDA_OK) {
            status = driver->event_wait(driver, bench->events[1], 60000, &bench->error);
        }
        if (status == LLCUDA_OK) {
            status = driver->event_elapsed(driver, bench->events[0], bench->events[1], &took,
                                           &bench->error);
        }
        if (!fine(bench, status)) {
            return -1;
        }
        took *= 1e3 / LAUNCHES;
        best = took < best ? took : best;
    }
    return best;
}

static void report(const struct bench *bench, const struct subject *subject, const char *kernel,
                   double us)
{
    const struct shape *shape = subject->shape;
    double rows = shape->is_pair ? 2.0 * shape->rows : shape->rows;
    double flop = 2 * rows * shape->columns * subject->n;
    double bytes = rows * (double)row_bytes(bench, shape) + 2.0 * subject->n * shape->columns +
                   (shape->is_pair ? 2.0 : 4.0) * subject->n * shape->rows;
    double bound = bytes / (bench->ceilings.read_bytes_per_second / 1e6);
    double matrix = flop / (bench->ceilings.matrix_flop_per_second / 1e6);
    bound = matrix > bound ? matrix : bound;
    printf("%-12s n %-5u %-14s %9.1f us  %7.1f TFLOP/s  %7.0f GB/s  %5.1f %% of its bound\n",
           shape->name, subject->n, kernel, us, flop / us / 1e6, bytes / us / 1e3,
           100 * bound / us);
    fflush(stdout);
}

static bool run_shape(struct bench *bench, const struct shape *shape, uint32_t n)
{
    struct gpu_driver *driver = bench->driver;
    struct subject subject = {.shape = shape, .n = n};
    bool good = fine(bench, driver->copy_in(driver, bench->stream, bench->count, &n, sizeof n,
                                            &bench->error)) &&
                fine(bench, driver->stream_wait(driver, bench->stream, 0, &bench->error));
    for (; subject.tile < GPU_WIDE_ALL_TILE_COUNT && good; subject.tile++) {
        const struct gpu_wide_tile *tile = &gpu_wide_tiles[subject.tile];
        char name[40], label[32];
        struct gpu_launch launch;
        if (!gpu_wide_launch(&bench->info, bench->dtype, subject.tile, shape->is_pair, &shape->rows,
                             1, n, &launch) ||
            8 * tile->token_tiles * tile->warps_tokens > 2 * n) {
            continue; /* does not fit this device, or is far too large */
        }
        gpu_wide_name(bench->dtype, shape->is_pair, subject.tile, name);
        snprintf(label, sizeof label, "wide %u x %u", 16 * tile->row_tiles * tile->warps_rows,
                 8 * tile->token_tiles * tile->warps_tokens);
        good = fine(bench, driver->function_get(driver, bench->module, name, &subject.function,
                                                &bench->error)) &&
               fine(bench, driver->function_shared_limit(driver, subject.function,
                                                         launch.shared_bytes, &bench->error));
        const uint32_t most = gpu_wide_can_split(subject.tile, &launch) ? GPU_WIDE_SPLITS_MAX : 1;
        for (subject.splits = 1; subject.splits <= most && good; subject.splits *= 2) {
            if (subject.splits > 1) {
                snprintf(label, sizeof label, "%u x %u by %u",
                         16 * tile->row_tiles * tile->warps_rows,
                         8 * tile->token_tiles * tile->warps_tokens, subject.splits);
            }
            double us = time_of(bench, &subject);
            good = us >= 0;
            if (good) {
                report(bench, &subject, label, us);
            }
        }
    }
    const struct gpu_matmul_shape matmul = {.weight = DTYPE_BF16,
                                            .output = DTYPE_F32,
                                            .n = n,
                                            .rows = shape->is_pair ? 2 * shape->rows : shape->rows,
                                            .columns = shape->columns,
                                            .output_stride =
                                                shape->is_pair ? 2 * shape->rows : shape->rows};
    if (good && driver->matmul_create && bench->dtype == DTYPE_BF16 &&
        fine(bench, driver->matmul_create(driver, &matmul, &subject.matmul, &bench->error))) {
        double us = time_of(bench, &subject);
        if (us >= 0) {
            report(bench, &subject, shape->is_pair ? "vendor's, raw" : "vendor's", us);
        }
        driver->matmul_destroy(driver, subject.matmul);
    }
    return good;
}

static bool run_all(struct bench *bench)
{
    const struct shape *shapes = strcmp(bench->model, "8b") == 0     ? shapes_8b
                                 : strcmp(bench->model, "tiny") == 0 ? shapes_tiny
                                                                     : shapes_1b;
    uint64_t input = 0, output = 0, weights = TURN_BYTES, n_max = 1;
    for (uint32_t i = 0; i < bench->batch_count; i++) {
        n_max = bench->batches[i] > n_max ? bench->batches[i] : n_max;
    }
    for (uint32_t i = 0; i < SHAPE_COUNT; i++) {
        uint64_t rows = shapes[i].is_pair ? 2ull * shapes[i].rows : shapes[i].rows;
        uint64_t in = n_max * shapes[i].columns * 2, out = n_max * rows * 4;
        input = in > input ? in : input;
        output = out > output ? out : output;
        weights = rows * shapes[i].columns * 4 > weights ? rows * shapes[i].columns * 4 : weights;
    }
    /* A turn may begin anywhere below TURN_BYTES. */
    bool good = allocate(bench, weights + TURN_BYTES, &bench->weights) &&
                allocate(bench, input, &bench->input) && allocate(bench, output, &bench->output) &&
                allocate(bench, 256, &bench->count) &&
                allocate(bench, GPU_MATMUL_WORKSPACE_BYTES, &bench->workspace) &&
                allocate(bench, GPU_WIDE_PARTIAL_BYTES, &bench->partials) &&
                fine(bench, bench->driver->fill(bench->driver, bench->stream, bench->partials, 0,
                                                GPU_WIDE_PARTIAL_BYTES, &bench->error));
    for (uint32_t i = 0; i < SHAPE_COUNT && good; i++) {
        for (uint32_t j = 0; j < bench->batch_count && good; j++) {
            good = run_shape(bench, &shapes[i], bench->batches[j]);
        }
    }
    return good;
}

static void close_all(struct bench *bench)
{
    struct gpu_driver *driver = bench->driver;
    const uint64_t memory[] = {bench->weights, bench->input,     bench->output,
                               bench->count,   bench->workspace, bench->partials};
    for (size_t i = 0; driver && i < sizeof memory / sizeof *memory; i++) {
        driver->memory_free(driver, memory[i]);
    }
    if (driver) {
        driver->module_unload(driver, bench->module);
        driver->event_destroy(driver, bench->events[0]);
        driver->event_destroy(driver, bench->events[1]);
        driver->stream_destroy(driver, bench->stream);
        driver->close(driver);
    }
}

static void read_batches(struct bench *bench, const char *text)
{
    bench->batch_count = 0;
    while (*text && bench->batch_count < BATCHES_MAX) {
        char *end;
        bench->batches[bench->batch_count++] = (uint32_t)strtoul(text, &end, 10);
        text = *end == ',' ? end + 1 : "";
    }
}

static bool read_type(struct bench *bench, const char *name)
{
    for (int i = 0; i < DTYPE_COUNT; i++) {
        const struct dtype_info *info = dtype_info((enum dtype)i);
        if (strcmp(info->name, name) == 0 && (info->block_elements > 1 || i == DTYPE_BF16)) {
            bench->dtype = (enum dtype)i;
            bench->act = i == DTYPE_BF16 || i == DTYPE_F8_BLOCK ? DTYPE_BF16 : DTYPE_F16;
            return true;
        }
    }
    return false;
}

int main(int count, char **words)
{
    struct bench bench = {
        .device_name = "cuda", .model = "1b", .dtype = DTYPE_BF16, .act = DTYPE_BF16};
    read_batches(&bench, "33,64,128,256,512,2048");
    for (int i = 1; i < count; i += 2) {
        const char *value = i + 1 < count ? words[i + 1] : NULL;
        if (value && strcmp(words[i], "--device") == 0) {
            bench.device_name = value;
        } else if (value && strcmp(words[i], "--index") == 0) {
            bench.index = (uint32_t)atoi(value);
        } else if (value && strcmp(words[i], "--library-path") == 0) {
            bench.library_path = value;
        } else if (value && strcmp(words[i], "--rows") == 0) {
            read_batches(&bench, value);
        } else if (value && strcmp(words[i], "--model") == 0) {
            bench.model = value;
        } else if (value && strcmp(words[i], "--type") == 0 && read_type(&bench, value)) {
            continue;
        } else {
            printf("usage: bench_wide [--device cuda|emu] [--index N] [--library-path FOLDERS] "
                   "[--rows 33,2048] [--model 1b|8b|tiny] [--type bf16|q4_k]\n");
            return 2;
        }
    }
    const struct gpu_measure_options small = {
        .bytes = 1u << 20, .matrix_size = 64, .repetitions = 1};
    bool emulated = strcmp(bench.device_name, "emu") == 0; /* shows only that it runs */
    bool good = open_all(&bench) && load_kernels(&bench) &&
                fine(&bench, gpu_measure(bench.driver, emulated ? &small : NULL, &bench.ceilings,
                                         &bench.error));
    if (good) {
        printf("%s: read %.0f GB/s, matrix product %.0f TFLOP/s\n", bench.info.name,
               bench.ceilings.read_bytes_per_second / 1e9,
               bench.ceilings.matrix_flop_per_second / 1e12);
        good = run_all(&bench);
    }
    close_all(&bench);
    return good ? 0 : 1;
}
