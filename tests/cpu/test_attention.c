/* Attention at every level against the reference, over random shapes, with garbage in every slot
 * that a row may not see and nothing mapped behind the cache; and partitions spread over threads
 * against one thread, bit for bit. */
#include "cpu/attention.h"
#include "cpu/guard.h"
#include "cpu/ops.h"
#include "support/test_support.h"
#include "tensor/quant.h"
#include "tensor/reference.h"

#define TABLE_MAX 128u

struct scene {
    struct kv_layer layer;
    uint64_t cache_bytes;
    uint32_t block_count;
    uint32_t table[TABLE_MAX];
    struct attention_call call;
    float *query, *out, *scratch;
    uint64_t query_bytes, out_bytes, scratch_bytes;
    float sinks[160];
};

/* The tables of all levels above the scalar one that the machine has, and of its CPU. */
struct tables {
    const struct cpu_ops *ops[CPU_LEVEL_COUNT + 1];
    uint32_t count;
};

static struct tables tables_here(void)
{
    struct tables tables = {0};
    for (int level = CPU_AVX2; level <= (int)cpu_level_detect(); level++) {
        if (level_is_here((enum cpu_level)level)) {
            tables.ops[tables.count++] = cpu_ops_choose((enum cpu_level)level);
        }
    }
    struct cpu_features features;
    cpu_features_detect(&features);
    const struct cpu_ops *own = cpu_ops_of(&features);
    if (tables.count > 0 && own != tables.ops[tables.count - 1]) {
        tables.ops[tables.count++] = own;
    }
    return tables;
}

static const char *ops_name(const struct cpu_ops *ops)
{
    return ops == cpu_ops_choose(ops->level) ? cpu_level_name(ops->level) : "the CPU's own";
}

static uint32_t pick(const uint32_t *values, uint32_t count)
{
    return values[test_random_below(count)];
}

static void fill_cache(struct scene *s, const struct cpu_ops *ops)
{
    const struct kv_layer *layer = &s->layer;
    uint64_t width = (uint64_t)layer->kv_head_count * layer->head_size;
    float *key = malloc(width * sizeof *key);
    float *value = malloc(width * sizeof *value);
    uint16_t *half = malloc(width * sizeof *half);
    assert_true(key && value && half);
    /* All ones are NaN in every type. */
    memset(layer->data, 0xff, s->cache_bytes);
    uint32_t end = s->call.position + s->call.row_count;
    for (uint32_t p = 0; p < end; p++) {
        for (uint64_t i = 0; i < width; i++) {
            key[i] = test_random_normal();
            value[i] = test_random_normal();
        }
        /* Positions that the window has left behind are garbage too. */
        if (p >= attention_span(&s->call, 0).begin) {
            kv_write(layer, ops, s->table[p / KV_BLOCK_TOKENS], p % KV_BLOCK_TOKENS, key, value,
                     half);
        }
    }
    free(key);
    free(value);
    free(half);
}

static void setup(struct scene *s, const struct cpu_ops *ops)
{
    static const uint32_t sizes[] = {32, 64, 80, 96, 128, 256, 8, 20, 6};
    static const uint32_t groups[] = {1, 2, 4, 8, 3, 40};
    static const enum dtype dtypes[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16, DTYPE_Q8_0};
    memset(s, 0, sizeof *s);
    uint32_t size = pick(sizes, 9);
    uint32_t group = pick(groups, 6);
    uint32_t pairs = test_random_below(2) ? ATTENTION_PAIRS_MAX : ATTENTION_PAIRS;
    uint32_t rows = group > 32 ? 1 : 1 + (uint32_t)test_random_below(pairs / group);
    uint32_t together = 1 + (uint32_t)test_random_below(group * rows > 8 ? 2 : 5);
    uint32_t kv_heads = together + (uint32_t)test_random_below(2);
    uint32_t position =
        (uint32_t)test_random_below(test_random_below(3) ? 80 : TABLE_MAX * 16 - rows);
    s->block_count = (position + rows + 15) / 16;
    assert_true(s->block_count <= TABLE_MAX);
    for (uint32_t i = 0; i < TABLE_MAX; i++) {
        uint32_t other = (uint32_t)test_random_below(i + 1);
        s->table[i] = i < s->block_count ? s->table[other % (i + 1)] : UINT32_MAX;
        if (i < s->block_count) {
            s->table[i] = s->table[other];
            s->table[other] = i;
        }
    }
    s->layer = (struct kv_layer){
        .dtype = dtypes[test_random_below(4)], .kv_head_count = kv_heads, .head_size = size};
    s->layer.head_bytes = kv_head_bytes(s->layer.dtype, size);
    s->layer.block_bytes = s->layer.head_bytes * kv_heads;
    s->cache_bytes = s->layer.block_bytes * s->block_count;
    s->layer.data = guard_alloc(s->cache_bytes);
    uint64_t width = (uint64_t)together * group * size;
    uint64_t stride = width + test_random_below(20);
    s->query_bytes = ((rows - 1) * stride + width) * sizeof(float);
    s->query = guard_alloc(s->query_bytes);
    s->out_bytes = s->query_bytes;
    s->out = guard_alloc(s->out_bytes);
    uint64_t floats = attention_scratch_floats(together * rows * group, size, position + rows);
    s->scratch_bytes = (floats + 15) / 16 * 64;
    s->scratch = guard_alloc(s->scratch_bytes);
    for (uint64_t i = 0; i < s->query_bytes / sizeof(float); i++) {
        s->query[i] = 2 * test_random_normal();
    }
    for (uint32_t i = 0; i < together * group; i++) {
        s->sinks[i] = 3 * test_random_normal();
    }
    s->call = (struct attention_call){
        .query = s->query,
        .query_stride = stride,
        .out = s->out,
        .out_stride = stride,
        .row_count = rows,
        .head_count = group,
        .head_size = size,
        .position = position,
        .block_table = s->table,
        .layer = &s->layer,
        .kv_head = (uint32_t)test_random_below(kv_heads - together + 1),
        .kv_heads = together,
        .scale = 1.0f / sqrtf((float)size),
        .soft_cap = test_random_below(2) ? 5.0f : 0.0f,
        .window = test_random_below(2) ? 1 + (uint32_t)test_random_below(1200) : 0,
        .sinks = test_random_below(2) ? s->sinks : NULL,
        .scratch = s->scratch,
    };
    fill_cache(s, ops);
}

static void teardown(struct scene *s)
{
    guard_free(s->layer.data, s->cache_bytes);
    guard_free(s->query, s->query_bytes);
    guard_free(s->out, s->out_bytes);
    guard_free(s->scratch, s->scratch_bytes);
}

static void run(struct scene *s, const struct cpu_ops *ops, float *out)
{
    for (uint64_t i = 0; i < s->out_bytes / sizeof(float); i++) {
        s->out[i] = -12345.0f;
    }
    memset(s->scratch, 0xff, s->scratch_bytes);
    attention_run(&s->call, ops);
    memcpy(out, s->out, s->out_bytes);
}

static void check_close(const struct scene *s, const float *fast, const float *exact,
                        const struct cpu_ops *ops)
{
    uint64_t width = (uint64_t)s->call.kv_heads * s->call.head_count * s->call.head_size;
    for (uint64_t i = 0; i < s->out_bytes / sizeof(float); i++) {
        bool gap = i % s->call.out_stride >= width;
        double difference = fabs((double)fast[i] - (double)exact[i]);
        if (gap ? fast[i] != -12345.0f : !(difference < 2e-5)) {
            fail_msg("%s, cache %s, size %u, %u times %u heads, %u rows at %u, window %u, cap %g: "
                     "%g instead of %g",
                     ops_name(ops), dtype_info(s->layer.dtype)->name, s->call.head_size,
                     s->call.kv_heads, s->call.head_count, s->call.row_count, s->call.position,
                     s->call.window, (double)s->call.soft_cap, (double)fast[i], (double)exact[i]);
        }
    }
}

/* Partitions in a random order with other scratch, combined afterwards. */
static void check_spread(struct scene *s, const struct cpu_ops *ops, const float *whole)
{
    uint32_t begin = attention_partition_begin(&s->call);
    uint32_t count = attention_partition_end(&s->call) - begin;
    uint64_t floats =
        (uint64_t)attention_pairs(&s->call) * attention_partial_floats(s->call.head_size);
    float *partials = guard_alloc(count * floats * sizeof *partials);
    uint32_t first = (uint32_t)test_random_below(count);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t partition = (first + i) % count;
        memset(s->scratch, 0xff, s->scratch_bytes);
        ops->attention_partition(&s->call, begin + partition, partials + partition * floats);
    }
    for (uint32_t pair = 0; pair < attention_pairs(&s->call); pair++) {
        attention_combine(&s->call, pair, partials, floats);
    }
    assert_memory_equal(s->out, whole, s->out_bytes);
    guard_free(partials, count * floats * sizeof *partials);
}

/* Each row and head by itself. */
static void check_alone(struct scene *s, const struct cpu_ops *ops, const float *whole)
{
    struct attention_call all = s->call;
    uint32_t row = (uint32_t)test_random_below(all.row_count);
    uint32_t head = (uint32_t)test_random_below(all.kv_heads * all.head_count);
    uint64_t offset = row * all.query_stride + (uint64_t)head * all.head_size;
    s->call.query += offset;
    s->call.out += offset;
    s->call.position += row;
    s->call.row_count = 1;
    s->call.head_count = 1;
    s->call.kv_head += head / all.head_count;
    s->call.kv_heads = 1;
    s->call.sinks = all.sinks ? all.sinks + head : NULL;
    attention_run(&s->call, ops);
    assert_memory_equal(s->out + offset, whole + offset, all.head_size * sizeof *whole);
    s->call = all;
}

static void every_level_agrees_with_the_reference(void **state)
{
    (void)state;
    for (int round = 0; round < 60; round++) {
        struct scene scene;
        enum cpu_level best = cpu_level_detect();
        setup(&scene, cpu_ops_choose(round % 2 ? best : CPU_SCALAR));
        float *exact = malloc(scene.out_bytes);
        float *fast = malloc(scene.out_bytes);
        assert_true(exact && fast);
        run(&scene, &cpu_ops_scalar, exact);
        struct tables tables = tables_here();
        for (uint32_t i = 0; i < tables.count; i++) {
            const struct cpu_ops *ops = tables.ops[i];
            run(&scene, ops, fast);
            check_close(&scene, fast, exact, ops);
            check_spread(&scene, ops, fast);
            check_alone(&scene, ops, fast);
        }
        free(exact);
        free(fast);
        teardown(&scene);
    }
}

/* A NaN in the last row's key or value reaches that row and no other, though their tile reads it.
 */
static void a_later_nan_reaches_no_earlier_row(void **state)
{
    (void)state;
    for (int round = 0; round < 40; round++) {
        struct scene scene;
        enum cpu_level best = cpu_level_detect();
        setup(&scene, cpu_ops_choose(best));
        const struct attention_call *call = &scene.call;
        uint32_t last = call->position + call->row_count - 1;
        uint64_t width = (uint64_t)scene.layer.kv_head_count * call->head_size;
        float *nan = malloc(width * sizeof *nan);
        float *fine = calloc(width, sizeof *fine);
        uint16_t *half = malloc(width * sizeof *half);
        float *out = malloc(scene.out_bytes);
        assert_true(nan && fine && half && out);
        for (uint64_t i = 0; i < width; i++) {
            nan[i] = NAN;
        }
        kv_write(&scene.layer, cpu_ops_choose(best), scene.table[last / KV_BLOCK_TOKENS],
                 last % KV_BLOCK_TOKENS, round % 2 ? nan : fine, round % 2 ? fine : nan, half);
        struct tables tables = tables_here();
        for (uint32_t t = 0; t < tables.count; t++) {
            run(&scene, tables.ops[t], out);
            uint64_t row_width = (uint64_t)call->kv_heads * call->head_count * call->head_size;
            for (uint32_t row = 0; row < call->row_count; row++) {
                for (uint64_t i = 0; i < row_width; i++) {
                    bool is_nan = isnan(out[row * call->out_stride + i]);
                    assert_int_equal(is_nan, row == call->row_count - 1);
                }
            }
        }
        free(nan);
        free(fine);
        free(half);
        free(out);
        teardown(&scene);
    }
}

/* What the reference itself does, on numbers that can be worked out by hand. */
static void read_by_hand(void *user, uint64_t position, float *key, float *value)
{
    (void)user;
    if (key) {
        key[0] = (float)position;
    }
    if (value) {
        value[0] = position == 3 ? 10.0f : 1.0f;
    }
}

static void the_reference_is_softmax(void **state)
{
    (void)state;
    float query = 0;
    float scores[4];
    float out;
    float sink = 0;
    struct reference_attention call = {.query = &query,
                                       .head_size = 1,
                                       .begin = 0,
                                       .end = 4,
                                       .scale = 1,
                                       .cache = {read_by_hand, NULL},
                                       .scores = scores};
    reference_attention(&call, &out);
    assert_near(out, (1 + 1 + 1 + 10) / 4.0f, 1e-6f);
    call.sink = &sink; /* a fifth equal part that adds nothing */
    reference_attention(&call, &out);
    assert_near(out, (1 + 1 + 1 + 10) / 5.0f, 1e-6f);
    call.sink = NULL;
    call.begin = 2;
    query = (float)log(3.0); /* weights 3² and 3³ */
    reference_attention(&call, &out);
    assert_near(out, (1 + 3 * 10) / 4.0f, 1e-5f);
    call.soft_cap = 1e-6f; /* flattens all scores */
    reference_attention(&call, &out);
    assert_near(out, 5.5f, 1e-4f);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(every_level_agrees_with_the_reference),
    cmocka_unit_test(a_later_nan_reaches_no_earlier_row),
    cmocka_unit_test(the_reference_is_softmax),
};

TEST_MAIN(tests)
