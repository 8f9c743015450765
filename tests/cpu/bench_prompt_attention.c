/* How close a prompt's attention comes to the machine's multiply-add peak: the tiles of one
 * key-value head one after another, as the device cuts them, on one thread, the best of many passes
 * in turn with multiply-adds from registers. Times are processor time, so that shares mean
 * something on a busy machine. Only positions that a row attends to count as work.
 *
 *     bench_prompt_attention [rows [heads-a-group  [positions-before [pairs-a-tile
 *         [type [head-size]]]]]]
 *
 * type: 1 … 4 for F16, BF16, Q8_0 and F32; 0: all.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/random.h"
#include "cpu/measure.h"
#include "cpu/memory.h"
#include "cpu/ops.h"

#define SECONDS     0.4
#define PEAK_ROUNDS 20000u

struct numbers {
    uint32_t rows, group, before, pairs, type, size;
};

struct scene {
    const struct cpu_ops *ops;
    const struct measure_kernels *yard;
    struct attention_call call;
    struct kv_layer layer;
    struct region cache, query, out, scratch, table;
};

static double seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static float number(uint64_t i)
{
    return (float)(random_mix(i) >> 40) * 0x1p-24f - 0.5f;
}

static bool setup(struct scene *s, enum dtype dtype, uint32_t size, const struct numbers *n)
{
    uint32_t positions = n->before + n->rows;
    uint32_t blocks = (positions + KV_BLOCK_TOKENS - 1) / KV_BLOCK_TOKENS;
    uint64_t width = (uint64_t)n->group * size;
    s->layer = (struct kv_layer){.dtype = dtype, .kv_head_count = 1, .head_size = size};
    s->layer.block_bytes = s->layer.head_bytes = kv_head_bytes(dtype, size);
    if (!region_map(&s->cache, blocks * s->layer.block_bytes) ||
        !region_map(&s->query, n->rows * width * sizeof(float)) ||
        !region_map(&s->out, n->rows * width * sizeof(float)) ||
        !region_map(&s->table, blocks * sizeof(uint32_t)) ||
        !region_map(&s->scratch,
                    sizeof(float) * attention_scratch_floats(n->pairs, size, positions))) {
        return false;
    }
    s->layer.data = s->cache.data;
    float row[256];
    uint16_t half[256];
    for (uint32_t p = 0; p < positions; p++) {
        for (uint32_t i = 0; i < size; i++) {
            row[i] = number((uint64_t)p * size + i);
        }
        kv_write(&s->layer, s->ops, p / KV_BLOCK_TOKENS, p % KV_BLOCK_TOKENS, row, row, half);
    }
    for (uint64_t i = 0; i < n->rows * width; i++) {
        ((float *)s->query.data)[i] = number(i);
    }
    for (uint32_t i = 0; i < blocks; i++) {
        ((uint32_t *)s->table.data)[i] = i;
    }
    s->call = (struct attention_call){
        .query_stride = width,
        .out_stride = width,
        .head_count = n->group,
        .head_size = size,
        .block_table = s->table.data,
        .layer = &s->layer,
        .kv_heads = 1,
        .scale = 0.125f,
        .scratch = s->scratch.data,
    };
    return true;
}

static void teardown(struct scene *s)
{
    region_unmap(&s->cache);
    region_unmap(&s->query);
    region_unmap(&s->out);
    region_unmap(&s->scratch);
    region_unmap(&s->table);
}

/* All rows; returns the operations. */
static double run(struct scene *s, const struct numbers *n)
{
    uint32_t tile = n->pairs / n->group ? n->pairs / n->group : 1;
    double operations = 0;
    for (uint32_t row = 0; row < n->rows; row += tile) {
        struct attention_call call = s->call;
        call.row_count = n->rows - row < tile ? n->rows - row : tile;
        call.position = n->before + row;
        call.query = (const float *)s->query.data + row * call.query_stride;
        call.out = (float *)s->out.data + row * call.out_stride;
        attention_run(&call, s->ops);
        for (uint32_t r = 0; r < call.row_count; r++) {
            struct attention_span span = attention_span(&call, r);
            operations += 4.0 * n->group * call.head_size * (span.end - span.begin);
        }
    }
    return operations;
}

static void bench(enum dtype dtype, uint32_t size, const struct numbers *n)
{
    struct cpu_features features;
    cpu_features_detect(&features);
    struct scene s = {.ops = cpu_ops_of(&features)};
    s.yard = s.ops->level == CPU_AVX512 ? &measure_avx512
             : s.ops->level == CPU_AVX2 ? &measure_avx2
                                        : &measure_scalar;
    double best = 0;
    double peak = 0;
    float sink = 0;
    if (setup(&s, dtype, size, n)) {
        double begin = seconds_now();
        while (seconds_now() - begin < SECONDS) {
            double start = seconds_now();
            double done = run(&s, n);
            double middle = seconds_now();
            double yard = (double)s.yard->multiply_add(PEAK_ROUNDS, &sink);
            double end = seconds_now();
            best = done / (middle - start) > best ? done / (middle - start) : best;
            peak = yard / (end - middle) > peak ? yard / (end - middle) : peak;
        }
        printf("%-5s head size %3u: %6.1f of %.1f GFLOP/s (%.0f %%)\n", dtype_info(dtype)->name,
               size, best / 1e9, peak / 1e9, best / peak * 100);
    }
    teardown(&s);
}

int main(int count, char **arguments)
{
    static const enum dtype dtypes[] = {DTYPE_F16, DTYPE_BF16, DTYPE_Q8_0, DTYPE_F32};
    static const uint32_t sizes[] = {32, 64, 128};
    struct numbers n = {.rows = 384, .group = 2, .pairs = ATTENTION_PAIRS};
    uint32_t *fields[] = {&n.rows, &n.group, &n.before, &n.pairs, &n.type, &n.size};
    for (int i = 1; i < count && i <= 6; i++) {
        *fields[i - 1] = (uint32_t)strtoul(arguments[i], NULL, 10);
    }
    if (n.rows == 0 || n.group == 0 || n.pairs < n.group) {
        return 2;
    }
    printf("%u rows after %u, %u heads a group, tiles of %u pairs\n", n.rows, n.before, n.group,
           n.pairs);
    for (uint32_t d = 0; d < 4; d++) {
        for (uint32_t i = 0; i < 3; i++) {
            if ((n.type == 0 || n.type == d + 1) && (n.size == 0 || n.size == sizes[i])) {
                bench(dtypes[d], sizes[i], &n);
            }
        }
    }
    return 0;
}
