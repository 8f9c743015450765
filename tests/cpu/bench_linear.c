/* How close the matrix kernels come to the machine's ceilings: gigabytes of weights a second for
 * one token, GFLOP/s for 64 and 512, on the shapes of Llama-3.2-1B. Weights are repeated in memory
 * until they exceed any cache. Each kernel's ceiling is measured in turn with it; with one thread
 * time is processor time, so that the shares mean something on a busy machine too.
 *
 *     bench_linear [threads [kernel-name-prefix [tokens]]]
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/random.h"
#include "cpu/features.h"
#include "cpu/measure.h"
#include "cpu/memory.h"
#include "cpu/pool.h"
#include "cpu/topology.h"
#include "tensor/quant.h"

#define FOOTPRINT_BYTES (768ull << 20)
#define TOKENS_MAX      512u
#define SECONDS         0.8

struct shape {
    uint64_t rows, columns;
};

static const struct shape shapes[] = {{2048, 2048}, {8192, 2048}, {2048, 8192}, {128256, 2048}};

struct bench {
    const struct linear_kernel *kernel;
    struct linear_call call;
    const unsigned char *copies;
    uint64_t copy_bytes, copy_count, next_copy;
    uint64_t tile_rows;
    const struct measure_kernels *yardsticks;
    uint64_t next_read, flop;
    uint64_t sinks[LIMIT_THREADS * 16];
};

static void fill(struct region *region, uint64_t seed)
{
    float *values = region->data;
    for (uint64_t i = 0; i < region->bytes / sizeof(float); i++) {
        values[i] = (float)(random_mix(seed + i) >> 40) * 0x1p-24f - 0.5f;
    }
}

/* Rows of the weight in the file's own layout: a few random ones over and over. */
static bool make_source(struct region *source, enum dtype dtype, struct shape shape)
{
    uint64_t row_bytes;
    if (!dtype_row_bytes(dtype, shape.columns, &row_bytes) ||
        !region_map(source, shape.rows * row_bytes)) {
        return false;
    }
    struct region row;
    if (!region_map(&row, shape.columns * sizeof(float))) {
        return false;
    }
    unsigned char *data = source->data;
    for (uint64_t r = 0; r < shape.rows; r++) {
        if (r < 32) {
            fill(&row, r * shape.columns);
            if (!quantize_row(dtype, row.data, NULL, data + r * row_bytes, shape.columns)) {
                return false;
            }
        } else {
            memcpy(data + r * row_bytes, data + r % 32 * row_bytes, row_bytes);
        }
    }
    region_unmap(&row);
    return true;
}

static void run_item(void *context, uint32_t worker, uint64_t item)
{
    (void)worker;
    const struct bench *bench = context;
    struct linear_call call = bench->call;
    uint64_t tiles = (call.row_count + bench->tile_rows - 1) / bench->tile_rows;
    uint64_t copy = (bench->next_copy + item / tiles) % bench->copy_count;
    call.weight = bench->copies + copy * bench->copy_bytes;
    call.row_begin = item % tiles * bench->tile_rows;
    call.row_end = call.row_begin + bench->tile_rows;
    call.row_end = call.row_end < call.row_count ? call.row_end : call.row_count;
    bench->kernel->multiply(&call);
}

static double seconds_now(const struct pool *pool)
{
    struct timespec now;
    clock_gettime(pool_thread_count(pool) == 1 ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static double timed(struct pool *pool, uint64_t items,
                    void (*task)(void *context, uint32_t worker, uint64_t item), void *context)
{
    double start = seconds_now(pool);
    pool_run(pool, items, task, context);
    return seconds_now(pool) - start;
}

static void read_item(void *context, uint32_t worker, uint64_t item)
{
    struct bench *bench = context;
    bench->sinks[worker * 16] +=
        bench->yardsticks->read(bench->copies + ((bench->next_read + item) << 20), 1 << 20);
}

static void flop_item(void *context, uint32_t worker, uint64_t item)
{
    (void)item;
    struct bench *bench = context;
    float sink = 0.999f;
    bench->flop = bench->yardsticks->multiply_add(100000, &sink);
    bench->sinks[worker * 16] += (uint64_t)sink;
}

struct result {
    double seconds; /* best of one product */
    double ceiling; /* best bytes or FLOP a second, in turn with it */
};

static struct result measure(struct bench *bench, struct pool *pool, uint32_t tokens)
{
    uint64_t tiles = (bench->call.row_count + bench->tile_rows - 1) / bench->tile_rows;
    /* Enough products in a pass for threads to start and stop unnoticed. */
    uint64_t products = 1 + (tokens < 8 ? (64ull << 20) / bench->copy_bytes : 0);
    uint64_t read_items = 64;
    uint64_t read_count = bench->copy_count * bench->copy_bytes >> 20;
    struct result result = {1e30, 0};
    bench->call.token_count = tokens;
    uint64_t begin = clock_now_ns();
    while ((double)(clock_now_ns() - begin) < SECONDS * 1e9) {
        double taken = timed(pool, tiles * products, run_item, bench) / (double)products;
        result.seconds = taken < result.seconds ? taken : result.seconds;
        bench->next_copy = (bench->next_copy + products) % bench->copy_count;
        double rate;
        if (tokens == 1) {
            bench->next_read = (bench->next_read + read_items) % (read_count - read_items);
            rate = (double)(read_items << 20) / timed(pool, read_items, read_item, bench);
        } else {
            uint32_t threads = pool_thread_count(pool);
            double seconds = timed(pool, threads * 4, flop_item, bench);
            rate = 4.0 * threads * (double)bench->flop / seconds;
        }
        result.ceiling = rate > result.ceiling ? rate : result.ceiling;
    }
    return result;
}

static void bench_shape(const struct linear_kernel *kernel, struct shape shape, struct pool *pool,
                        const struct cpu_features *features, uint32_t only_tokens)
{
    static const uint32_t token_counts[] = {1, 4, 16, 64, 512};
    struct region source = {0};
    struct region packed = {0};
    struct region inputs = {0};
    struct region activations = {0};
    struct region out = {0};
    uint64_t stride = activation_row_bytes(kernel->activation, shape.columns);
    uint64_t out_stride = activation_row_bytes(ACTIVATION_F32, shape.rows) / sizeof(float);
    uint64_t bytes = kernel->packed_bytes(shape.rows, shape.columns);
    if (!make_source(&source, kernel->dtype, shape)) {
        return;
    }
    static struct bench bench;
    bench = (struct bench){.kernel = kernel};
    bench.yardsticks = features->avx512          ? &measure_avx512
                       : features->avx2_fma_f16c ? &measure_avx2
                                                 : &measure_scalar;
    bench.copy_bytes = bytes ? bytes : source.bytes;
    bench.copy_count = 1 + FOOTPRINT_BYTES / bench.copy_bytes;
    if (!region_map(&packed, bench.copy_bytes * bench.copy_count) ||
        !region_map(&inputs, TOKENS_MAX * shape.columns * sizeof(float)) ||
        !region_map(&activations, TOKENS_MAX * stride) ||
        !region_map(&out, TOKENS_MAX * out_stride * sizeof(float))) {
        return;
    }
    for (uint64_t i = 0; i < bench.copy_count; i++) {
        unsigned char *copy = (unsigned char *)packed.data + i * bench.copy_bytes;
        if (bytes && i == 0) {
            kernel->pack(source.data, shape.rows, shape.columns, 0, shape.rows, copy);
        } else {
            memcpy(copy, bytes ? packed.data : source.data, bench.copy_bytes);
        }
    }
    fill(&inputs, 7);
    for (uint32_t t = 0; t < TOKENS_MAX; t++) {
        activation_prepare(kernel->activation, (float *)inputs.data + t * shape.columns,
                           shape.columns, (unsigned char *)activations.data + t * stride, features);
    }
    bench.copies = packed.data;
    bench.call = (struct linear_call){.columns = shape.columns,
                                      .row_count = shape.rows,
                                      .activations = activations.data,
                                      .activation_stride = stride,
                                      .out = out.data,
                                      .out_stride = out_stride};
    uint64_t row_bytes = bench.copy_bytes / shape.rows;
    uint64_t group = kernel->row_group;
    bench.tile_rows = ((256ull << 10) / row_bytes + group - 1) / group * group;
    printf("%-34s %7llux%-5llu", kernel->name, (unsigned long long)shape.rows,
           (unsigned long long)shape.columns);
    for (size_t i = 0; i < sizeof token_counts / sizeof *token_counts; i++) {
        uint32_t tokens = token_counts[i];
        if (only_tokens && tokens != only_tokens) {
            continue;
        }
        struct result result = measure(&bench, pool, tokens);
        double amount = tokens == 1 ? (double)bench.copy_bytes
                                    : 2.0 * (double)shape.rows * (double)shape.columns * tokens;
        double rate = amount / result.seconds;
        printf(" | %u: %6.1f %s %3.0f %%", tokens, rate / 1e9, tokens == 1 ? "GB/s" : "GFLOP/s",
               rate / result.ceiling * 100);
        fflush(stdout);
    }
    printf("\n");
    region_unmap(&source);
    region_unmap(&packed);
    region_unmap(&inputs);
    region_unmap(&activations);
    region_unmap(&out);
}

int main(int count, char **arguments)
{
    uint32_t threads = count > 1 ? (uint32_t)strtoul(arguments[1], NULL, 10) : 0;
    const char *prefix = count > 2 ? arguments[2] : "";
    uint32_t tokens = count > 3 ? (uint32_t)strtoul(arguments[3], NULL, 10) : 0;
    struct llcuda_error error;
    struct device *device;
    struct device_ceilings ceilings;
    struct device_info info;
    struct cpu_options options = {.thread_count = threads, .level_max = CPU_LEVEL_COUNT};
    if (cpu_device_open(&options, &device, &error) != LLCUDA_OK ||
        device_measure(device, &ceilings, &error) != LLCUDA_OK) {
        fprintf(stderr, "%s\n", error.message);
        return 1;
    }
    device_describe(device, &info);
    device_close(device);
    printf("%s\nread %.2f GB/s, copy %.2f GB/s, fp32 %.1f GFLOP/s, int8 %.1f Gop/s\n", info.name,
           ceilings.read_bytes_per_second / 1e9, ceilings.copy_bytes_per_second / 1e9,
           ceilings.flop_per_second / 1e9, ceilings.integer_op_per_second / 1e9);
    struct topology topology;
    struct cpu_features features;
    struct pool *pool;
    topology_read(&topology);
    cpu_features_detect(&features);
    if (!cpu_features_request_amx()) {
        features.amx_int8 = features.amx_bf16 = false;
    }
    if (pool_create(info.thread_count, topology.cpus, topology.cpu_count, &pool, &error) !=
        LLCUDA_OK) {
        fprintf(stderr, "%s\n", error.message);
        return 1;
    }
    uint32_t kernel_count;
    const struct linear_kernel *const *kernels = linear_kernels(&kernel_count);
    for (uint32_t i = 0; i < kernel_count; i++) {
        bool scalar = strstr(kernels[i]->name, "_scalar") != NULL;
        if (strncmp(kernels[i]->name, prefix, strlen(prefix)) != 0 ||
            !kernels[i]->available(&features) || (scalar && !*prefix)) {
            continue;
        }
        for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
            bench_shape(kernels[i], shapes[s], pool, &features, tokens);
        }
    }
    pool_destroy(pool);
    return 0;
}
