/* Decode and prefill of a whole random model of the shapes of Llama-3.2-1B, beside what the machine
 * could do at best: bytes read a second against a read of memory, FLOP/s against multiply-adds.
 * The ceilings are measured in turn with the steps; with one thread time is processor time, so that
 * the shares mean something on a busy machine too.
 *
 *     bench_model [threads [layers [type [context]]]]
 */
#include <time.h>

#include "base/clock.h"
#include "cpu/features.h"
#include "cpu/measure.h"
#include "cpu/memory.h"
#include "cpu/pool.h"
#include "cpu/topology.h"
#include "cpu/toy.h"

#define READ_BYTES   (256ull << 20) /* a piece of what the ceiling reads */
#define BUFFER_BYTES (768ull << 20)
#define PREFILL_ROWS 256u
#define DECODE_STEPS 48

struct bench {
    struct pool *pool;
    const struct measure_kernels *yardsticks;
    struct region buffer;
    uint64_t next, flop;
    uint64_t sinks[LIMIT_THREADS * 16];
};

static double seconds_now(const struct pool *pool)
{
    struct timespec now;
    clock_gettime(pool_thread_count(pool) == 1 ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void read_item(void *context, uint32_t worker, uint64_t item)
{
    struct bench *bench = context;
    const unsigned char *data = bench->buffer.data;
    bench->sinks[worker * 16] +=
        bench->yardsticks->read(data + bench->next + (item << 20), 1 << 20);
}

static double read_rate(struct bench *bench)
{
    double start = seconds_now(bench->pool);
    pool_run(bench->pool, READ_BYTES >> 20, read_item, bench);
    double seconds = seconds_now(bench->pool) - start;
    bench->next = (bench->next + READ_BYTES) % BUFFER_BYTES;
    return (double)READ_BYTES / seconds;
}

static void flop_item(void *context, uint32_t worker, uint64_t item)
{
    (void)item;
    struct bench *bench = context;
    float sink = 0.999f;
    bench->flop = bench->yardsticks->multiply_add(100000, &sink);
    bench->sinks[worker * 16] += (uint64_t)sink;
}

static double flop_rate(struct bench *bench)
{
    uint32_t threads = pool_thread_count(bench->pool);
    double start = seconds_now(bench->pool);
    pool_run(bench->pool, threads * 4, flop_item, bench);
    double seconds = seconds_now(bench->pool) - start;
    return 4.0 * threads * (double)bench->flop / seconds;
}

static double step_seconds(const struct bench *bench, struct device_model *model,
                           struct toy_batch *batch)
{
    struct llcuda_error error;
    const float *logits;
    double start = seconds_now(bench->pool);
    if (device_step(model, &batch->batch, &logits, &error) != LLCUDA_OK) {
        fprintf(stderr, "%s\n", error.message);
        exit(1);
    }
    return seconds_now(bench->pool) - start;
}

static uint32_t tokens[TOY_TABLE_STRIDE * KV_BLOCK_TOKENS];

static int in_order(const void *a, const void *b)
{
    double difference = *(const double *)a - *(const double *)b;
    return (difference > 0) - (difference < 0);
}

/* Steps and readings in turn: the best of each, and their medians. */
static void decode(struct bench *bench, struct device_model *model, struct toy_batch *batch,
                   uint32_t context, enum dtype kv)
{
    double seconds[DECODE_STEPS];
    double read[DECODE_STEPS];
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < DECODE_STEPS; i++) {
        toy_batch_clear(batch);
        toy_batch_add(batch, 0, tokens, context + i, 1);
        uint64_t before = device_weight_bytes_read(model);
        seconds[i] = step_seconds(bench, model, batch);
        struct plan_cost cost = plan_step_cost(model->plan, 1, context + i + 1, 1, kv);
        bytes = device_weight_bytes_read(model) - before + cost.cache_bytes;
        read[i] = 1 / read_rate(bench);
    }
    qsort(seconds, DECODE_STEPS, sizeof *seconds, in_order);
    qsort(read, DECODE_STEPS, sizeof *read, in_order);
    printf("decode at %u: %.1f MB a token", context, (double)bytes / 1e6);
    for (uint32_t i = 0; i <= DECODE_STEPS / 2; i += DECODE_STEPS / 2) {
        double rate = (double)bytes / seconds[i];
        printf("; %s %.2f ms, %.2f of %.2f GB/s: %.1f %%", i ? "median" : "best", seconds[i] * 1e3,
               rate / 1e9, 1e-9 / read[i], rate * read[i] * 100);
    }
    printf("\n");
}

static void prefill(struct bench *bench, struct device_model *model, struct toy_batch *batch,
                    uint32_t begin)
{
    double best = 1e30;
    double ceiling = 0;
    struct plan_cost cost = plan_step_cost(model->plan, PREFILL_ROWS,
                                           PREFILL_ROWS * (PREFILL_ROWS + 1) / 2, 1, DTYPE_F16);
    for (uint32_t i = 0; i < 4; i++) {
        toy_batch_clear(batch);
        toy_batch_add(batch, 0, tokens, begin, PREFILL_ROWS);
        batch->batch.logits_count = 1;
        double seconds = step_seconds(bench, model, batch);
        best = seconds < best ? seconds : best;
        double rate = flop_rate(bench);
        ceiling = rate > ceiling ? rate : ceiling;
    }
    printf("prefill of %u at %u: %.0f ms, %.1f of %.1f GFLOP/s: %.1f %%\n", PREFILL_ROWS, begin,
           best * 1e3, (double)cost.flop / best / 1e9, ceiling / 1e9,
           (double)cost.flop / best / ceiling * 100);
}

static void run(struct device *device, struct bench *bench, const struct toy_options *options,
                uint32_t context)
{
    static struct toy_batch batch;
    struct llcuda_error error;
    struct device_model *model;
    struct toy *toy = toy_create(options);
    struct device_model_options model_options = {.kv_block_count = TOY_TABLE_STRIDE,
                                                 .kv_dtype = DTYPE_F16,
                                                 .rows_max = PREFILL_ROWS,
                                                 .logits_rows_max = PREFILL_ROWS};
    uint64_t start = clock_now_ns();
    if (device_model_load(device, toy->plan, &model_options, NULL, &model, &error) != LLCUDA_OK) {
        fprintf(stderr, "%s\n", error.message);
        exit(1);
    }
    printf("loaded in %.0f ms, %.0f MB\n", clock_ms(clock_now_ns() - start),
           (double)device_model_memory_bytes(model) / 1e6);
    for (uint32_t i = 0; i < sizeof tokens / sizeof *tokens; i++) {
        tokens[i] = (uint32_t)test_random_below(options->vocabulary);
    }
    toy_batch_init(&batch, 1, TOY_TABLE_STRIDE);
    prefill(bench, model, &batch, 0);
    prefill(bench, model, &batch, 700);
    decode(bench, model, &batch, 16, DTYPE_F16);
    decode(bench, model, &batch, context, DTYPE_F16);
    device_model_unload(model);
    toy_destroy(toy);
}

int main(int count, char **arguments)
{
    uint32_t threads = count > 1 ? (uint32_t)strtoul(arguments[1], NULL, 10) : 0;
    struct toy_options options = {
        .embedding = 2048,
        .heads = 32,
        .kv_heads = 8,
        .head_size = 64,
        .feed_forward = 8192,
        .vocabulary = 32768,
        .layers = count > 2 ? (uint32_t)strtoul(arguments[2], NULL, 10) : 4,
        .dtype = DTYPE_F16,
        .rotary = PLAN_ROTARY_HALF,
        .tied = true,
    };
    for (int i = 0; count > 3 && i < DTYPE_COUNT; i++) {
        if (strcmp(dtype_info((enum dtype)i)->name, arguments[3]) == 0) {
            options.dtype = (enum dtype)i;
        }
    }
    uint32_t context = count > 4 ? (uint32_t)strtoul(arguments[4], NULL, 10) : 900;
    struct cpu_options cpu_options = {.thread_count = threads, .level_max = CPU_LEVEL_COUNT};
    struct llcuda_error error;
    struct device *device;
    struct device_info info;
    struct topology topology;
    struct cpu_features features;
    static struct bench bench;
    topology_read(&topology);
    cpu_features_detect(&features);
    if (cpu_device_open(&cpu_options, &device, &error) != LLCUDA_OK) {
        fprintf(stderr, "%s\n", error.message);
        return 1;
    }
    device_describe(device, &info);
    if (pool_create(info.thread_count, topology.cpus, topology.cpu_count, &bench.pool, &error) !=
            LLCUDA_OK ||
        !region_map(&bench.buffer, BUFFER_BYTES)) {
        fprintf(stderr, "not enough memory\n");
        return 1;
    }
    memset(bench.buffer.data, 1, BUFFER_BYTES);
    bench.yardsticks = features.avx512          ? &measure_avx512
                       : features.avx2_fma_f16c ? &measure_avx2
                                                : &measure_scalar;
    printf("%s\n", info.name);
    run(device, &bench, &options, context);
    pool_destroy(bench.pool);
    region_unmap(&bench.buffer);
    device_close(device);
    return 0;
}
