/* How close decoding's attention comes to the machine's read bandwidth: one row of each sequence
 * against as many layers' caches in turn as fit no level of cache, each type of cache, the best of
 * many passes in turn with a plain read. One thread: times are processor time, so that shares mean
 * something on a busy machine. More: by the clock, cut into partitions and sets of heads as the
 * device does.
 *
 *     bench_decode_attention [positions [heads-a-group [head-size [rows [threads [kv-heads
 *         [types]]]]]]]
 *
 * kv-heads: how many an item reads together; 0: as many as there is scratch for. types: the first
 * so many of F16, BF16, Q8_0 and F32.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/random.h"
#include "cpu/measure.h"
#include "cpu/memory.h"
#include "cpu/ops.h"
#include "cpu/pool.h"
#include "tensor/quant.h"

#define KV_HEADS 8u
#define SECONDS  1.5

#define READ_BYTES (1ull << 20)
/* Of all layers together: larger than the caches of today's servers. */
#define CACHE_BYTES (1ull << 30)

static bool by_clock;

static double seconds_now(void)
{
    struct timespec now;
    clock_gettime(by_clock ? CLOCK_MONOTONIC : CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* What the items of a loop share. */
struct loop {
    const struct cpu_ops *ops;
    const struct measure_kernels *yard;
    struct attention_call call; /* of no heads */
    struct kv_layer layer;
    uint64_t width; /* floats of one kv head's queries */
    uint32_t heads;
    float *scratch, *partials;
    uint64_t scratch_floats, partial_floats; /* of a worker, of a kv head */
    unsigned char *cache;
    uint64_t sinks[64];
};

static struct attention_call of_heads(const struct loop *loop, uint32_t worker, uint32_t head,
                                      uint32_t heads)
{
    struct attention_call call = loop->call;
    call.kv_head = head;
    call.kv_heads = heads;
    uint64_t own = (uint64_t)call.head_count * call.head_size; /* of a row */
    call.query += head * own;
    call.out += head * own;
    call.scratch = loop->scratch + worker * loop->scratch_floats;
    return call;
}

/* As the device's: items are heads of partitions, and those of a range are computed together. */
static void run_heads(void *context, uint32_t worker, uint64_t begin, uint64_t end)
{
    const struct loop *loop = context;
    while (begin < end) {
        uint32_t partition = (uint32_t)(begin / KV_HEADS);
        uint32_t head = (uint32_t)(begin % KV_HEADS);
        uint32_t count = KV_HEADS - head < loop->heads ? KV_HEADS - head : loop->heads;
        count = end - begin < count ? (uint32_t)(end - begin) : count;
        struct attention_call call = of_heads(loop, worker, head, count);
        loop->ops->attention_partition(&call, partition,
                                       loop->partials + begin * loop->partial_floats);
        begin += count;
    }
}

static void combine_pair(void *context, uint32_t worker, uint64_t pair)
{
    const struct loop *loop = context;
    struct attention_call call = of_heads(loop, worker, 0, KV_HEADS);
    attention_combine(&call, (uint32_t)pair, loop->partials, KV_HEADS * loop->partial_floats);
}

static void read_item(void *context, uint32_t worker, uint64_t item)
{
    struct loop *loop = context;
    loop->sinks[worker] += loop->yard->read(loop->cache + item * READ_BYTES, READ_BYTES);
}

static void fill(const struct kv_layer *layer, const struct cpu_ops *ops, uint32_t positions)
{
    uint64_t width = (uint64_t)layer->kv_head_count * layer->head_size;
    float *key = malloc(width * sizeof *key);
    uint16_t *half = malloc(width * sizeof *half);
    for (uint32_t p = 0; key && half && p < positions; p++) {
        for (uint64_t i = 0; i < width; i++) {
            key[i] = (float)(random_mix(p * width + i) >> 40) * 0x1p-24f - 0.5f;
        }
        kv_write(layer, ops, p / KV_BLOCK_TOKENS, p % KV_BLOCK_TOKENS, key, key, half);
    }
    free(key);
    free(half);
}

static void fill_call(struct loop *loop, float *query, uint32_t blocks)
{
    uint64_t floats = KV_HEADS * loop->width;
    uint32_t *table = (uint32_t *)(void *)(query + 2 * floats);
    for (uint32_t i = 0; i < blocks; i++) {
        table[i] = i;
    }
    for (uint64_t i = 0; i < floats; i++) {
        query[i] = 0.01f * (float)(i % 7);
    }
    loop->call.query = query;
    loop->call.out = query + floats;
    loop->call.block_table = table;
}

/* `bytes` of one layer. */
static void measure(struct loop *loop, struct pool *pool, uint64_t bytes, uint64_t layers,
                    double *best, double *best_read)
{
    uint64_t items = (uint64_t)KV_HEADS * attention_partition_end(&loop->call);
    uint64_t pairs = (uint64_t)KV_HEADS * loop->call.row_count * loop->call.head_count;
    *best = *best_read = 1e30;
    double begin = seconds_now();
    while (seconds_now() - begin < SECONDS) {
        double start = seconds_now();
        for (uint64_t i = 0; i < layers; i++) {
            loop->layer.data = loop->cache + i * bytes;
            pool_run_ranges(pool, items, loop->heads, run_heads, loop);
            pool_run(pool, pairs, combine_pair, loop);
        }
        double middle = seconds_now();
        pool_run(pool, layers * bytes / READ_BYTES, read_item, loop);
        double end = seconds_now();
        *best = middle - start < *best ? middle - start : *best;
        *best_read = end - middle < *best_read ? end - middle : *best_read;
    }
}

/* `numbers`: as on the command line. */
static void bench(enum dtype dtype, const uint32_t *numbers, struct pool *pool)
{
    uint32_t positions = numbers[0] / KV_BLOCK_TOKENS * KV_BLOCK_TOKENS;
    uint32_t group = numbers[1];
    uint32_t size = numbers[2];
    uint32_t rows = numbers[3];
    struct cpu_features features;
    cpu_features_detect(&features);
    const struct cpu_ops *ops = cpu_ops_of(&features);
    struct kv_layer layer = {.dtype = dtype, .kv_head_count = KV_HEADS, .head_size = size};
    layer.head_bytes = kv_head_bytes(dtype, size);
    layer.block_bytes = layer.head_bytes * KV_HEADS;
    uint32_t blocks = positions / KV_BLOCK_TOKENS;
    uint64_t bytes = layer.block_bytes * blocks;
    uint64_t layers = bytes < CACHE_BYTES ? CACHE_BYTES / bytes : 1;
    uint32_t pairs = group * rows;
    uint32_t heads = numbers[5] ? numbers[5] : ATTENTION_PAIRS / pairs;
    heads = heads < 1 ? 1 : heads > KV_HEADS ? KV_HEADS : heads;
    struct loop loop = {
        .ops = ops,
        .yard = ops->level == CPU_AVX512 ? &measure_avx512
                : ops->level == CPU_AVX2 ? &measure_avx2
                                         : &measure_scalar,
        .width = (uint64_t)pairs * size,
        .heads = heads,
        .scratch_floats = (attention_scratch_floats(pairs * heads, size, positions) + 63) / 64 * 64,
        .partial_floats = (uint64_t)pairs * attention_partial_floats(size),
        .call = {.query_stride = (uint64_t)KV_HEADS * group * size,
                 .out_stride = (uint64_t)KV_HEADS * group * size,
                 .row_count = rows,
                 .head_count = group,
                 .head_size = size,
                 .position = positions - rows,
                 .scale = 0.125f},
    };
    struct region cache = {0};
    struct region scratch = {0};
    struct region partials = {0};
    struct region rest = {0};
    uint64_t partial_bytes = (positions / ATTENTION_PARTITION_TOKENS + 1) * KV_HEADS *
                             loop.partial_floats * sizeof(float);
    if (region_map(&cache, layers * bytes) &&
        region_map(&scratch, numbers[4] * loop.scratch_floats * sizeof(float)) &&
        region_map(&partials, partial_bytes) &&
        region_map(&rest, 2 * KV_HEADS * loop.width * sizeof(float) + blocks * sizeof(uint32_t))) {
        double best;
        double best_read;
        loop.cache = layer.data = cache.data;
        loop.layer = layer;
        loop.call.layer = &loop.layer;
        loop.scratch = scratch.data;
        loop.partials = partials.data;
        fill(&layer, ops, positions);
        for (uint64_t i = 1; i < layers; i++) {
            memcpy(loop.cache + i * bytes, loop.cache, bytes);
        }
        fill_call(&loop, rest.data, blocks);
        measure(&loop, pool, bytes, layers, &best, &best_read);
        double flop = 4.0 * pairs * KV_HEADS * size * positions * (double)layers;
        printf("%-5s %u positions, %u heads a group of %u, %u rows, %u threads, %u kv heads: "
               "%6.2f GB/s of %.2f (%.0f %%), %.1f GFLOP/s\n",
               dtype_info(dtype)->name, positions, group, size, rows, numbers[4], heads,
               (double)(layers * bytes) / best / 1e9, (double)(layers * bytes) / best_read / 1e9,
               best_read / best * 100, flop / best / 1e9);
    }
    region_unmap(&cache);
    region_unmap(&scratch);
    region_unmap(&partials);
    region_unmap(&rest);
}

int main(int count, char **arguments)
{
    static const enum dtype dtypes[] = {DTYPE_F16, DTYPE_BF16, DTYPE_Q8_0, DTYPE_F32};
    uint32_t numbers[7] = {65536, 4, 64, 1, 1, 0, 4};
    for (int i = 1; i < count && i <= 7; i++) {
        numbers[i - 1] = (uint32_t)strtoul(arguments[i], NULL, 10);
    }
    struct pool *pool;
    if (numbers[0] < 64 || numbers[1] == 0 || numbers[2] == 0 || numbers[3] == 0 ||
        numbers[4] > 64 || pool_create(numbers[4], NULL, 0, &pool, NULL) != LLCUDA_OK) {
        return 2;
    }
    by_clock = numbers[4] > 1;
    for (uint32_t i = 0; i < numbers[6] && i < 4; i++) {
        bench(dtypes[i], numbers, pool);
    }
    pool_destroy(pool);
    return 0;
}
