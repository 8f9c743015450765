/* How close decoding's attention comes to the machine's read bandwidth: one row of each sequence
 * against a cache too large for any level of cache, one thread, each type of cache, the best of
 * many passes in turn with a plain read. Times are processor time, so that shares mean something on
 * a busy machine.
 *
 *     bench_decode_attention [positions [heads-a-group [head-size [rows]]]]
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/random.h"
#include "cpu/measure.h"
#include "cpu/memory.h"
#include "cpu/ops.h"
#include "tensor/quant.h"

#define KV_HEADS 8u
#define SECONDS  1.5

static double seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
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

static void bench(enum dtype dtype, uint32_t positions, uint32_t group, uint32_t size,
                  uint32_t rows)
{
    const struct cpu_ops *ops = cpu_ops_choose(cpu_level_detect());
    const struct measure_kernels *yard = ops->level == CPU_AVX512 ? &measure_avx512
                                         : ops->level == CPU_AVX2 ? &measure_avx2
                                                                  : &measure_scalar;
    struct kv_layer layer = {.dtype = dtype, .kv_head_count = KV_HEADS, .head_size = size};
    layer.head_bytes = kv_head_bytes(dtype, size);
    layer.block_bytes = layer.head_bytes * KV_HEADS;
    uint32_t blocks = positions / KV_BLOCK_TOKENS;
    uint64_t bytes = layer.block_bytes * blocks;
    uint32_t pairs = group * rows;
    struct region cache;
    struct region scratch;
    struct region rest;
    if (!region_map(&cache, bytes) ||
        !region_map(&scratch, attention_scratch_floats(pairs, size, positions) * sizeof(float)) ||
        !region_map(&rest, 2ull * pairs * size * sizeof(float) + blocks * sizeof(uint32_t))) {
        return;
    }
    layer.data = cache.data;
    fill(&layer, ops, positions);
    float *query = rest.data;
    uint32_t *table = (uint32_t *)(void *)(query + 2ull * pairs * size);
    for (uint32_t i = 0; i < blocks; i++) {
        table[i] = i;
    }
    for (uint32_t i = 0; i < pairs * size; i++) {
        query[i] = 0.01f * (float)(i % 7);
    }
    struct attention_call call = {.query = query,
                                  .query_stride = (uint64_t)group * size,
                                  .out = query + (uint64_t)pairs * size,
                                  .out_stride = (uint64_t)group * size,
                                  .row_count = rows,
                                  .head_count = group,
                                  .head_size = size,
                                  .position = positions - rows,
                                  .block_table = table,
                                  .layer = &layer,
                                  .scale = 0.125f,
                                  .scratch = scratch.data};
    double best = 1e30;
    double best_read = 1e30;
    uint64_t sink = 0;
    double begin = seconds_now();
    while (seconds_now() - begin < SECONDS) {
        double start = seconds_now();
        for (uint32_t head = 0; head < KV_HEADS; head++) {
            call.kv_head = head;
            attention_run(&call, ops);
        }
        double middle = seconds_now();
        sink += yard->read(cache.data, bytes / 4096 * 4096);
        double end = seconds_now();
        best = middle - start < best ? middle - start : best;
        best_read = end - middle < best_read ? end - middle : best_read;
    }
    double flop = 4.0 * pairs * KV_HEADS * size * positions;
    printf("%-5s %u positions, %u heads a group of %u, %u rows: %6.2f GB/s of %.2f (%.0f %%), %.1f "
           "GFLOP/s%s\n",
           dtype_info(dtype)->name, positions, group, size, rows, (double)bytes / best / 1e9,
           (double)bytes / best_read / 1e9, best_read / best * 100, flop / best / 1e9,
           sink == 1 ? "." : "");
    region_unmap(&cache);
    region_unmap(&scratch);
    region_unmap(&rest);
}

int main(int count, char **arguments)
{
    static const enum dtype dtypes[] = {DTYPE_F16, DTYPE_BF16, DTYPE_Q8_0, DTYPE_F32};
    uint32_t numbers[4] = {65536, 4, 64, 1};
    for (int i = 1; i < count && i <= 4; i++) {
        numbers[i - 1] = (uint32_t)strtoul(arguments[i], NULL, 10);
    }
    if (numbers[0] < 1024 || numbers[1] == 0 || numbers[2] == 0 || numbers[3] == 0) {
        return 2;
    }
    for (int i = 0; i < 4; i++) {
        bench(dtypes[i], numbers[0] / KV_BLOCK_TOKENS * KV_BLOCK_TOKENS, numbers[1], numbers[2],
              numbers[3]);
    }
    return 0;
}
