/* The CPU device against a forward pass that shares no code with it, at every level; and idea 7:
 * what a row gives does not depend on how its prompt was cut, who ran beside it, or on threads. */
#include "cpu/guard.h"
#include "cpu/toy.h"

#define LENGTH_MAX 700u
#define BLOCKS     192u

static const enum cpu_level levels[] = {CPU_SCALAR, CPU_AVX2, CPU_AVX512, CPU_NEON};
#define LEVEL_COUNT (sizeof levels / sizeof levels[0])

static struct device_model *load(struct device *device, const struct toy *toy, enum dtype kv)
{
    struct device_model *model;
    struct llcuda_error error;
    struct device_model_options options = {
        .kv_block_count = BLOCKS, .kv_dtype = kv, .rows_max = 1024, .logits_rows_max = 1024};
    assert_ok(device_model_load(device, toy->plan, &options, NULL, &model, &error), error);
    return model;
}

static void random_tokens(const struct toy *toy, uint32_t *tokens, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        tokens[i] = (uint32_t)test_random_below(toy->options.vocabulary);
    }
}

/* Runs one sequence in steps of `chunk` rows and collects the logits of all rows. */
static void run_chunks(struct device_model *model, struct toy_batch *batch, uint32_t sequence,
                       const uint32_t *tokens, uint32_t count, uint32_t chunk, float *out)
{
    uint32_t width = model->plan->vocabulary_size;
    struct llcuda_error error;
    for (uint32_t begin = 0; begin < count; begin += chunk) {
        uint32_t rows = count - begin < chunk ? count - begin : chunk;
        const float *logits;
        toy_batch_clear(batch);
        toy_batch_add(batch, sequence, tokens, begin, rows);
        assert_ok(device_step(model, &batch->batch, &logits, &error), error);
        memcpy(out + (uint64_t)begin * width, logits, (uint64_t)rows * width * sizeof *out);
    }
}

static float *floats(uint64_t count)
{
    float *values = malloc(count * sizeof *values);
    assert_non_null(values);
    return values;
}

static void check_one(enum cpu_level level, const struct toy_options *options, enum dtype kv,
                      uint32_t length, double limit)
{
    struct device *device = toy_device(level, 1 + (uint32_t)test_random_below(3));
    if (!device) {
        return;
    }
    struct toy *toy = toy_create(options);
    struct device_model *model = load(device, toy, kv);
    static struct toy_batch batch;
    uint32_t tokens[LENGTH_MAX];
    uint64_t count = (uint64_t)length * options->vocabulary;
    float *logits = floats(count);
    random_tokens(toy, tokens, length);
    toy_batch_init(&batch, 2, BLOCKS);
    run_chunks(model, &batch, 1, tokens, length, length, logits);
    float *expected = toy_forward(toy, tokens, length);
    double distance = toy_distance(logits, expected, count);
    if (!(distance < limit)) {
        fail_msg("level %s, weights %s, cache %s, length %u: distance %g", cpu_level_name(level),
                 dtype_info(options->dtype)->name, dtype_info(kv)->name, length, distance);
    }
    free(expected);
    free(logits);
    device_model_unload(model);
    device_close(device);
    toy_destroy(toy);
}

/* Small enough for hundreds of steps. */
static struct toy_options small_random_options(void)
{
    struct toy_options options = toy_random_options();
    options.embedding = 32;
    options.feed_forward = 64;
    options.vocabulary = 37;
    options.layers = 2;
    options.kv_heads = 1 + (uint32_t)test_random_below(2);
    options.heads = 2 * options.kv_heads;
    options.head_size = test_random_below(2) ? 8 : 20;
    return options;
}

static void agrees_with_the_plain_forward_pass(void **state)
{
    (void)state;
    for (int round = 0; round < 12; round++) {
        struct toy_options options = toy_random_options();
        if (round % 2 == 1) {
            toy_random_experts(&options);
        }
        uint32_t length = 1 + (uint32_t)test_random_below(60);
        for (size_t i = 0; i < LEVEL_COUNT; i++) {
            check_one(levels[i], &options, DTYPE_F32, length, 1e-5);
        }
    }
}

/* Longer than a partition of attention; the scalar level has none. */
static void agrees_over_long_contexts(void **state)
{
    (void)state;
    struct toy_options options = small_random_options();
    uint32_t length = LENGTH_MAX - (uint32_t)test_random_below(150);
    for (size_t i = 1; i < LEVEL_COUNT; i++) {
        check_one(levels[i], &options, DTYPE_F32, length, 1e-5);
    }
}

static void agrees_in_sixteen_bits(void **state)
{
    (void)state;
    static const enum dtype dtypes[] = {DTYPE_F16, DTYPE_BF16};
    for (int round = 0; round < 6; round++) {
        struct toy_options options = toy_random_options();
        options.dtype = dtypes[round % 2];
        uint32_t length = 1 + (uint32_t)test_random_below(80);
        for (size_t i = 0; i < LEVEL_COUNT; i++) {
            check_one(levels[i], &options, DTYPE_F32, length, 1e-5);
            check_one(levels[i], &options, DTYPE_F16, length, 5e-3);
            check_one(levels[i], &options, DTYPE_BF16, length, 5e-2);
            check_one(levels[i], &options, DTYPE_Q8_0, length, 5e-2);
        }
    }
}

/* --- idea 7 --------------------------------------------------------------------------------- */

struct company {
    struct device_model *model;
    struct toy_batch *batch;
    uint32_t *tokens;
    uint32_t lengths[3];
    float *expected[3]; /* each sequence by itself, in one block */
};

static void expect_same(const float *a, const float *b, uint64_t count, const char *what,
                        enum cpu_level level)
{
    if (memcmp(a, b, count * sizeof *a) != 0) {
        fail_msg("%s at level %s: not the same bits (distance %g)", what, cpu_level_name(level),
                 toy_distance(a, b, count));
    }
}

/* Leaves the wanted rows by chance: all, none, or any; and asks for hidden states of any. */
static uint32_t want_some(struct step_batch *batch, uint32_t *logits_rows, uint32_t *hidden_rows)
{
    uint32_t kind = (uint32_t)test_random_below(4);
    batch->logits_count = 0;
    batch->hidden_count = 0;
    batch->hidden_rows = hidden_rows;
    for (uint32_t row = 0; row < batch->row_count; row++) {
        if (kind == 0 || (kind < 3 && test_random_below(kind == 1 ? 2 : 20) == 0)) {
            logits_rows[batch->logits_count++] = row;
        }
        if (test_random_below(8) == 0) {
            hidden_rows[batch->hidden_count++] = row;
        }
    }
    return batch->logits_count;
}

/* Several sequences advance together by chunks of random sizes, and some of their rows are wanted.
 */
static void run_ragged(struct company *c, enum cpu_level level)
{
    uint32_t width = c->model->plan->vocabulary_size;
    uint32_t done[3] = {0};
    struct llcuda_error error;
    for (;;) {
        toy_batch_clear(c->batch);
        for (uint32_t s = 0; s < 3; s++) {
            uint32_t rest = c->lengths[s] - done[s];
            uint32_t chunk = (uint32_t)test_random_below(test_random_below(2) ? 4 : 60);
            uint32_t count = chunk < rest ? chunk : rest;
            toy_batch_add(c->batch, s, c->tokens + s * LENGTH_MAX, done[s], count);
            done[s] += count;
        }
        if (c->batch->batch.row_count == 0) {
            if (done[0] == c->lengths[0] && done[1] == c->lengths[1] && done[2] == c->lengths[2]) {
                return;
            }
            continue;
        }
        const float *logits;
        static uint32_t hidden_rows[3 * LENGTH_MAX];
        const struct step_batch *batch = &c->batch->batch;
        uint32_t wanted = want_some(&c->batch->batch, c->batch->logits_rows, hidden_rows);
        assert_ok(device_step(c->model, batch, &logits, &error), error);
        c->batch->batch.hidden_count = 0;
        for (uint32_t i = 0; i < wanted; i++) {
            uint32_t row = batch->logits_rows[i];
            const float *expected = c->expected[batch->sequences[row]];
            expect_same(logits + (uint64_t)i * width,
                        expected + (uint64_t)batch->positions[row] * width, width,
                        "a row in company", level);
        }
    }
}

static void check_company(enum cpu_level level, const struct toy *toy, enum dtype kv)
{
    static struct toy_batch batch;
    static uint32_t tokens[3 * LENGTH_MAX];
    struct company c = {.batch = &batch, .tokens = tokens, .lengths = {0}};
    bool is_scalar = level == CPU_SCALAR; /* slow, and without partitions */
    uint32_t width = toy->options.vocabulary;
    for (uint32_t s = 0; s < 3; s++) {
        c.lengths[s] = 1 + (uint32_t)test_random_below(40);
        if (s < 2 && !is_scalar) {
            c.lengths[s] += LENGTH_MAX - 100 - s * 80; /* partitions are spread over threads */
        }
        c.expected[s] = floats((uint64_t)c.lengths[s] * width);
    }
    random_tokens(toy, tokens, 3 * LENGTH_MAX);
    toy_batch_init(&batch, 3, BLOCKS);
    float *again = floats((uint64_t)LENGTH_MAX * width);
    for (uint32_t threads = 1; threads <= 3; threads++) {
        struct device *device = toy_device(level, threads);
        c.model = load(device, toy, kv);
        for (uint32_t s = 0; s < 3; s++) {
            uint64_t count = (uint64_t)c.lengths[s] * width;
            const uint32_t *own = tokens + s * LENGTH_MAX;
            run_chunks(c.model, &batch, s, own, c.lengths[s], c.lengths[s], again);
            if (threads == 1) {
                memcpy(c.expected[s], again, count * sizeof *again);
            }
            expect_same(again, c.expected[s], count, "another number of threads", level);
            run_chunks(c.model, &batch, s, own, c.lengths[s], 7, again);
            expect_same(again, c.expected[s], count, "blocks of 7", level);
            if (s > 1 || threads == 2) {
                run_chunks(c.model, &batch, s, own, c.lengths[s], 1, again);
                expect_same(again, c.expected[s], count, "token by token", level);
            }
        }
        run_ragged(&c, level);
        device_model_unload(c.model);
        device_close(device);
    }
    free(again);
    for (uint32_t s = 0; s < 3; s++) {
        free(c.expected[s]);
    }
}

static void results_do_not_depend_on_company(void **state)
{
    (void)state;
    static const enum dtype dtypes[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16};
    static const enum dtype kv[] = {DTYPE_F16, DTYPE_F32, DTYPE_Q8_0};
    for (int round = 0; round < 6; round++) {
        struct toy_options options = small_random_options();
        options.dtype = dtypes[round % 3];
        if (round >= 3) {
            toy_random_experts(&options);
            options.expert_width = 32;
        }
        struct toy *toy = toy_create(&options);
        for (size_t i = 0; i < LEVEL_COUNT; i++) {
            if (level_is_here(levels[i])) {
                check_company(levels[i], toy, kv[round % 3]);
            }
        }
        toy_destroy(toy);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_with_the_plain_forward_pass),
        cmocka_unit_test(agrees_over_long_contexts),
        cmocka_unit_test(agrees_in_sixteen_bits),
        cmocka_unit_test(results_do_not_depend_on_company),
    };
    test_seed_print();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
