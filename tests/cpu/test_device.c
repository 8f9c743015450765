/* The CPU device as its callers see it: refusals, what a step reads, cancelled loads, memory that
 * mapped files give back, copied blocks; and the words that name devices. */
#include <inttypes.h>
#include <sys/mman.h>

#include "base/limits.h"
#include "cpu/toy.h"
#include "device/spec.h"
#include "tensor/quant.h"

#define BLOCKS 16u

static struct device_model_options small_options(void)
{
    return (struct device_model_options){
        .kv_block_count = BLOCKS, .kv_dtype = DTYPE_F16, .rows_max = 32, .logits_rows_max = 8};
}

static struct device_model *load(struct device *device, const struct toy *toy)
{
    struct device_model *model;
    struct llcuda_error error;
    struct device_model_options options = small_options();
    assert_ok(device_model_load(device, toy->plan, &options, NULL, &model, &error), error);
    return model;
}

/* --- refusals ------------------------------------------------------------------------------- */

static void expect_refusal(struct device_model *model, struct toy_batch *batch, const char *word)
{
    struct llcuda_error error;
    const float *logits;
    llcuda_status status = device_step(model, &batch->batch, &logits, &error);
    if (status != LLCUDA_INVALID_ARGUMENT || !strstr(error.message, word)) {
        fail_msg("wanted a refusal with '%s', got %s: %s", word, llcuda_status_name(status),
                 status ? error.message : "");
    }
}

/* A valid batch of two sequences, four rows each. */
static void good_batch(struct toy_batch *batch)
{
    static const uint32_t tokens[] = {1, 2, 3, 4};
    toy_batch_init(batch, 2, BLOCKS);
    toy_batch_add(batch, 0, tokens, 0, 4);
    toy_batch_add(batch, 1, tokens, 0, 4);
}

static void bad_batches_are_refused(void **state)
{
    (void)state;
    static struct toy_batch batch;
    struct toy_options options = toy_defaults();
    struct toy *toy = toy_create(&options);
    struct device *device = toy_device(CPU_SCALAR, 1);
    struct device_model *model = load(device, toy);
    struct llcuda_error error;
    const float *logits;
    good_batch(&batch);
    assert_ok(device_step(model, &batch.batch, &logits, &error), error);
    batch.batch.row_count = 0;
    expect_refusal(model, &batch, "rows");
    batch.batch.row_count = 33;
    expect_refusal(model, &batch, "rows");
    good_batch(&batch);
    batch.batch.logits_count = 9;
    expect_refusal(model, &batch, "logits");
    good_batch(&batch);
    batch.logits_rows[3] = 2;
    expect_refusal(model, &batch, "ascend");
    good_batch(&batch);
    batch.logits_rows[7] = 8;
    expect_refusal(model, &batch, "ascend");
    good_batch(&batch);
    batch.tokens[5] = options.vocabulary;
    expect_refusal(model, &batch, "vocabulary");
    good_batch(&batch);
    batch.sequences[7] = 2;
    expect_refusal(model, &batch, "sequence 2 of 2");
    good_batch(&batch);
    batch.sequences[7] = 0;
    expect_refusal(model, &batch, "consecutive");
    good_batch(&batch);
    batch.positions[2] = 5;
    expect_refusal(model, &batch, "position");
    good_batch(&batch);
    batch.tables[TOY_TABLE_STRIDE] = BLOCKS;
    expect_refusal(model, &batch, "cache block");
    good_batch(&batch);
    for (uint32_t i = 0; i < 4; i++) {
        batch.positions[i] = BLOCKS * KV_BLOCK_TOKENS + i;
    }
    expect_refusal(model, &batch, "beyond");
    good_batch(&batch);
    batch.batch.block_table_stride = 0;
    expect_refusal(model, &batch, "beyond");
    good_batch(&batch);
    batch.batch.positions = NULL;
    expect_refusal(model, &batch, "missing");
    device_model_unload(model);
    device_close(device);
    toy_destroy(toy);
}

static void bad_options_are_refused(void **state)
{
    (void)state;
    struct toy_options toy_options = toy_defaults();
    struct toy *toy = toy_create(&toy_options);
    struct device *device = toy_device(CPU_SCALAR, 1);
    struct device_model *model;
    struct llcuda_error error;
    struct device_model_options options = small_options();
    options.kv_dtype = DTYPE_Q4_0;
    assert_int_equal(device_model_load(device, toy->plan, &options, NULL, &model, &error),
                     LLCUDA_UNSUPPORTED);
    options = small_options();
    options.rows_max = 0;
    assert_int_equal(device_model_load(device, toy->plan, &options, NULL, &model, &error),
                     LLCUDA_INVALID_ARGUMENT);
    options = small_options();
    options.kv_block_count = UINT32_MAX;
    assert_int_equal(device_model_load(device, toy->plan, &options, NULL, &model, &error),
                     LLCUDA_LIMIT);
    options.kv_block_count = 1u << 27; /* as large as it may be: terabytes */
    options.kv_dtype = DTYPE_F32;
    assert_int_equal(device_model_load(device, toy->plan, &options, NULL, &model, &error),
                     LLCUDA_OUT_OF_MEMORY);
    options = small_options();
    const void *data = toy->plan->weights[3].data;
    toy->plan->weights[3].data = NULL;
    assert_int_equal(device_model_load(device, toy->plan, &options, NULL, &model, &error),
                     LLCUDA_INVALID_ARGUMENT);
    toy->plan->weights[3].data = data;
    device_close(device);
    toy_destroy(toy);
    struct cpu_options too_many = {.thread_count = LIMIT_THREADS + 1};
    assert_int_equal(cpu_device_open(&too_many, &device, &error), LLCUDA_LIMIT);
}

/* --- what a step reads ---------------------------------------------------------------------- */

/* Packed bytes of every weight that a stage multiplies with, as the kernel counts them. */
static uint64_t packed_bytes(const struct toy *toy, const struct device_model *model)
{
    (void)model;
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < toy->plan->op_count; i++) {
        const struct plan_op *op = &toy->plan->ops[i];
        struct plan_op_weight used[PLAN_OP_WEIGHTS_MAX];
        uint32_t count = plan_op_weights(op, used);
        for (uint32_t j = 0; j < count && op->kind != PLAN_EMBED; j++) {
            const struct plan_weight *weight = &toy->plan->weights[used[j].weight];
            if (used[j].is_matrix) {
                /* Groups of 32 rows at the vector levels. */
                bytes += (weight->rows + 31) / 32 * 32 * (weight->bytes / weight->rows);
            }
        }
    }
    return bytes;
}

static void a_step_reads_each_weight_once(void **state)
{
    (void)state;
    if (cpu_level_detect() == CPU_SCALAR) {
        skip();
    }
    static struct toy_batch batch;
    static const uint32_t tokens[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
    struct toy_options options = toy_defaults();
    options.dtype = DTYPE_F16;
    options.vocabulary = 333;
    struct toy *toy = toy_create(&options);
    for (uint32_t threads = 1; threads <= 3; threads++) {
        struct device *device = toy_device(cpu_level_detect(), threads);
        struct device_model *model = load(device, toy);
        struct llcuda_error error;
        const float *logits;
        uint64_t once = packed_bytes(toy, model);
        assert_int_equal(device_weight_bytes_read(model), 0);
        toy_batch_init(&batch, 1, BLOCKS);
        toy_batch_add(&batch, 0, tokens, 0, 1);
        assert_ok(device_step(model, &batch.batch, &logits, &error), error);
        assert_int_equal(device_weight_bytes_read(model), once);
        toy_batch_clear(&batch);
        toy_batch_add(&batch, 0, tokens, 0, 16);
        batch.batch.logits_count = 8;
        assert_ok(device_step(model, &batch.batch, &logits, &error), error);
        assert_int_equal(device_weight_bytes_read(model), 2 * once);
        assert_true(device_model_memory_bytes(model) >
                    once + BLOCKS * device_kv_block_bytes(toy->plan, DTYPE_F16));
        device_model_unload(model);
        device_close(device);
    }
    toy_destroy(toy);
}

/* Products of a step of 16 rows in the operation that `name` begins with. */
static uint64_t operations(struct device_model *model, struct toy_batch *batch, uint32_t wanted,
                           const char *name)
{
    static const uint32_t tokens[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
    struct device_profile_row rows[64];
    struct llcuda_error error;
    const float *logits;
    toy_batch_clear(batch);
    toy_batch_add(batch, 0, tokens, 0, 16);
    uint32_t hidden[16];
    for (uint32_t i = 0; i < wanted; i++) {
        hidden[i] = 16 - wanted + i;
    }
    batch->batch.logits_count = 0;
    batch->batch.hidden_count = wanted;
    batch->batch.hidden_rows = hidden;
    assert_ok(device_step(model, &batch->batch, &logits, &error), error);
    uint32_t count = device_profile(model, rows, 64);
    uint64_t found = 0;
    for (uint32_t i = 0; i < count; i++) {
        found += strcmp(rows[i].operation, name) == 0 ? rows[i].operations : 0;
    }
    return found;
}

/* Of the last layer, rows that nobody wants get their keys and values and nothing else. */
static void unwanted_rows_leave_the_last_layer(void **state)
{
    (void)state;
    static struct toy_batch batch;
    struct toy_options options = toy_defaults();
    struct toy *toy = toy_create(&options);
    struct device *device = toy_device(cpu_level_detect(), 2);
    struct device_model *model = load(device, toy);
    assert_int_equal(options.layers, 2);
    toy_batch_init(&batch, 1, BLOCKS);
    (void)operations(model, &batch, 16, "down"); /* the first profile turns it on */
    uint64_t all = operations(model, &batch, 16, "down");
    assert_true(all > 0);
    assert_int_equal(operations(model, &batch, 1, "down") * 32, all * 17);
    assert_int_equal(operations(model, &batch, 3, "down") * 32, all * 19);
    assert_int_equal(operations(model, &batch, 0, "down") * 2, all);
    all = operations(model, &batch, 16, "attention");
    uint64_t products = 4ull * options.heads * options.head_size;
    assert_int_equal(all, 2 * (16 * 17 / 2) * products);
    assert_int_equal(operations(model, &batch, 1, "attention"), (16 * 17 / 2 + 16) * products);
    all = operations(model, &batch, 16, "qkv");
    uint64_t kv = 2ull * options.kv_heads;
    assert_int_equal(operations(model, &batch, 0, "qkv") * 2 * (options.heads + kv),
                     all * (options.heads + 2 * kv));
    device_model_unload(model);
    device_close(device);
    toy_destroy(toy);
}

/* Hidden states times the output matrix are the logits; in company they are the same bits; and what
 * was not asked for is not given. */
static void hidden_states_give_the_logits(void **state)
{
    (void)state;
    static struct toy_batch batch;
    static const uint32_t tokens[] = {5, 6, 7, 8, 9, 10};
    static const uint32_t wanted[] = {1, 3, 4};
    struct toy_options options = toy_defaults();
    struct toy *toy = toy_create(&options);
    struct device *device = toy_device(cpu_level_detect(), 2);
    struct device_model *model = load(device, toy);
    struct llcuda_error error;
    const float *logits;
    uint64_t stride;
    float kept[4][512];
    assert_true(device_gives_hidden(device) && options.embedding <= 512);
    const struct plan_op *last = &toy->plan->ops[toy->plan->op_count - 1];
    const unsigned char *weight = toy->plan->weights[last->logits.weight].data;
    assert_int_equal(toy->plan->weights[last->logits.weight].dtype, DTYPE_F32);
    toy_batch_init(&batch, 2, BLOCKS);
    toy_batch_add(&batch, 0, tokens, 0, 4);
    toy_batch_add(&batch, 1, tokens + 4, 0, 2);
    batch.batch.hidden_count = 3;
    batch.batch.hidden_rows = wanted;
    assert_ok(device_step(model, &batch.batch, &logits, &error), error);
    const float *hidden = device_hidden(model, &stride);
    for (uint32_t i = 0; i < 3; i++) {
        const float *row = hidden + i * stride;
        memcpy(kept[i], row, options.embedding * sizeof *row);
        for (uint32_t v = 0; v < options.vocabulary; v++) {
            double sum = 0;
            for (uint32_t k = 0; k < options.embedding; k++) {
                float w; /* weights lie at any address */
                memcpy(&w, weight + (v * options.embedding + k) * sizeof w, sizeof w);
                sum += (double)row[k] * (double)w;
            }
            float given = logits[wanted[i] * options.vocabulary + v];
            assert_true(fabs(sum - (double)given) < 1e-4 * (1 + fabs(sum)));
        }
    }
    toy_batch_clear(&batch);
    toy_batch_add(&batch, 0, tokens, 0, 4);
    batch.batch.logits_count = 0;
    batch.batch.hidden_count = 2;
    assert_ok(device_step(model, &batch.batch, &logits, &error), error);
    hidden = device_hidden(model, &stride);
    assert_memory_equal(hidden, kept[0], options.embedding * sizeof *hidden);
    assert_memory_equal(hidden + stride, kept[1], options.embedding * sizeof *hidden);
    batch.batch.hidden_count = 3; /* row 4 is not there any more */
    expect_refusal(model, &batch, "hidden");
    batch.batch.hidden_rows = NULL;
    expect_refusal(model, &batch, "missing");
    device_model_unload(model);
    device_close(device);
    toy_destroy(toy);
}

static void blocks_are_counted_in_bytes(void **state)
{
    (void)state;
    struct toy_options options = toy_defaults();
    struct toy *toy = toy_create(&options);
    /* keys and values × layers × positions × heads × size × bytes */
    assert_int_equal(device_kv_block_bytes(toy->plan, DTYPE_F16), 2 * 2 * 16 * 2 * 16 * 2);
    assert_int_equal(device_kv_block_bytes(toy->plan, DTYPE_F32), 2 * 2 * 16 * 2 * 16 * 4);
    toy_destroy(toy);
}

static void copied_blocks_hold_the_same(void **state)
{
    (void)state;
    static struct toy_batch batch;
    static const uint32_t tokens[] = {5, 6, 7, 8, 9};
    struct toy_options options = toy_defaults();
    struct toy *toy = toy_create(&options);
    struct device *device = toy_device(cpu_level_detect(), 2);
    struct device_model *model = load(device, toy);
    struct llcuda_error error;
    const float *logits;
    float expected[101];
    toy_batch_init(&batch, 2, BLOCKS);
    toy_batch_add(&batch, 0, tokens, 0, 4);
    assert_ok(device_step(model, &batch.batch, &logits, &error), error);
    uint32_t from = batch.tables[0];
    uint32_t to = batch.tables[TOY_TABLE_STRIDE];
    assert_ok(device_copy_blocks(model, &from, &to, 1, &error), error);
    for (uint32_t sequence = 0; sequence < 2; sequence++) {
        toy_batch_clear(&batch);
        toy_batch_add(&batch, sequence, tokens, 4, 1);
        assert_ok(device_step(model, &batch.batch, &logits, &error), error);
        if (sequence == 0) {
            memcpy(expected, logits, sizeof expected);
        }
        assert_memory_equal(logits, expected, sizeof expected);
    }
    to = BLOCKS;
    assert_int_equal(device_copy_blocks(model, &from, &to, 1, &error), LLCUDA_INVALID_ARGUMENT);
    device_model_unload(model);
    device_close(device);
    toy_destroy(toy);
}

/* --- loading -------------------------------------------------------------------------------- */

/* Resident kilobytes of the map that begins at `address`. */
static uint64_t resident_kb(const void *address)
{
    char line[512];
    uint64_t begin;
    uint64_t end;
    uint64_t kilobytes = 0;
    bool inside = false;
    FILE *stream = fopen("/proc/self/smaps", "r");
    assert_non_null(stream);
    while (fgets(line, sizeof line, stream)) {
        uint64_t value;
        if (sscanf(line, "%" SCNx64 "-%" SCNx64 " ", &begin, &end) == 2) {
            inside = begin <= (uint64_t)(uintptr_t)address && (uint64_t)(uintptr_t)address < end;
        } else if (inside && sscanf(line, "Rss: %" SCNu64, &value) == 1) {
            kilobytes += value;
        }
    }
    fclose(stream);
    return kilobytes;
}

struct watch {
    const void *map;
    uint64_t largest_kb, last_done, calls, cancel_at;
};

static bool watch_progress(void *user, uint64_t done_bytes, uint64_t total_bytes)
{
    struct watch *watch = user;
    uint64_t kilobytes = watch->map ? resident_kb(watch->map) : 0;
    watch->largest_kb = kilobytes > watch->largest_kb ? kilobytes : watch->largest_kb;
    assert_true(done_bytes <= total_bytes && done_bytes > watch->last_done);
    watch->last_done = done_bytes;
    watch->calls++;
    return watch->calls != watch->cancel_at;
}

/* A plan whose output weight lies in a mapped file of `rows` × 1024 F16 values. */
static void mapped_pages_are_given_back(void **state)
{
    (void)state;
    if (cpu_level_detect() == CPU_SCALAR) {
        skip(); /* the scalar level reads weights in place */
    }
    struct toy_options options = toy_defaults();
    options.dtype = DTYPE_F16;
    options.embedding = 1024;
    options.vocabulary = 40000; /* 80 MB */
    options.layers = 1;
    options.tied = true;
    struct toy *toy = toy_create(&options);
    struct plan_weight *weight = &toy->plan->weights[toy->plan->ops[0].embed.weight];
    FILE *file = tmpfile();
    assert_non_null(file);
    assert_int_equal(fwrite(weight->data, 1, weight->bytes, file), weight->bytes);
    fflush(file);
    void *map = mmap(NULL, weight->bytes, PROT_READ, MAP_PRIVATE, fileno(file), 0);
    assert_true(map != MAP_FAILED);
    weight->data = map;
    struct device *device = toy_device(cpu_level_detect(), 2);
    struct device_model_options model_options = small_options();
    struct watch watch = {.map = map};
    struct device_progress progress = {watch_progress, &watch};
    struct device_model *model;
    struct llcuda_error error;
    toy->plan->weights_mapped = false;
    assert_ok(device_model_load(device, toy->plan, &model_options, &progress, &model, &error),
              error);
    device_model_unload(model);
    assert_true(resident_kb(map) > 70000); /* the measurement can see pages at all */
    /* The toy's other weights are not in a file: only this one may be dropped. */
    struct plan_weight kept = *weight;
    for (uint32_t i = 0; i < toy->plan->weight_count; i++) {
        struct plan_weight *other = &toy->plan->weights[i];
        if (other != weight) {
            void *copy =
                mmap(NULL, other->bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
            assert_true(copy != MAP_FAILED);
            memcpy(copy, other->data, other->bytes);
            other->data = copy; /* shared pages come back as they were; leaked by the test */
        }
    }
    assert_memory_equal(&kept, weight, sizeof kept);
    toy->plan->weights_mapped = true;
    watch = (struct watch){.map = map};
    assert_int_equal(madvise(map, weight->bytes, MADV_DONTNEED), 0);
    assert_ok(device_model_load(device, toy->plan, &model_options, &progress, &model, &error),
              error);
    assert_true(resident_kb(map) < 1024);
    assert_true(watch.largest_kb < 40000);
    static struct toy_batch batch;
    uint32_t tokens[32];
    const float *logits;
    toy_batch_init(&batch, 1, BLOCKS);
    /* Looking up rows touches pages again, but not for ever. */
    for (uint32_t step = 0; step < 40; step++) {
        for (uint32_t i = 0; i < 32; i++) {
            tokens[i] = (uint32_t)test_random_below(options.vocabulary);
        }
        toy_batch_clear(&batch);
        toy_batch_add(&batch, 0, tokens, 0, 32);
        batch.batch.logits_count = 1;
        assert_ok(device_step(model, &batch.batch, &logits, &error), error);
        assert_true(resident_kb(map) < 1024);
    }
    device_model_unload(model);
    device_close(device);
    munmap(map, weight->bytes);
    fclose(file);
    toy_destroy(toy);
}

static void loading_can_be_cancelled(void **state)
{
    (void)state;
    struct toy_options options = toy_defaults();
    struct toy *toy = toy_create(&options);
    struct device *device = toy_device(cpu_level_detect(), 2);
    struct device_model_options model_options = small_options();
    struct watch watch = {.cancel_at = 3};
    struct device_progress progress = {watch_progress, &watch};
    struct device_model *model;
    struct llcuda_error error;
    assert_int_equal(
        device_model_load(device, toy->plan, &model_options, &progress, &model, &error),
        LLCUDA_CANCELLED);
    assert_int_equal(watch.calls, 3);
    device_close(device);
    toy_destroy(toy);
}

/* --- the machine ---------------------------------------------------------------------------- */

static void the_machine_is_described_and_measured(void **state)
{
    (void)state;
    struct device *device = toy_device(cpu_level_detect(), 1);
    struct device_info info;
    struct device_ceilings ceilings;
    struct llcuda_error error;
    device_describe(device, &info);
    assert_string_equal(info.kind, "cpu");
    assert_int_equal(info.thread_count, 1);
    assert_non_null(strstr(info.name, cpu_level_name(cpu_level_detect())));
    assert_true(info.memory_bytes >= info.memory_free_bytes && info.memory_free_bytes > 0);
    assert_ok(device_measure(device, &ceilings, &error), error);
    assert_true(ceilings.read_bytes_per_second > 1e8 && ceilings.read_bytes_per_second < 1e13);
    assert_true(ceilings.copy_bytes_per_second > 1e8);
    assert_true(ceilings.flop_per_second > 1e8);
    device_close(device);
}

static void a_mask_lowers_the_level(void **state)
{
    (void)state;
    for (int level = CPU_SCALAR; level <= (int)cpu_level_detect(); level++) {
        struct device *device = toy_device((enum cpu_level)level, 1);
        if (!device) {
            continue;
        }
        struct device_info info;
        device_describe(device, &info);
        assert_non_null(strstr(info.name, cpu_level_name((enum cpu_level)level)));
        device_close(device);
    }
}

/* --- names ---------------------------------------------------------------------------------- */

static void device_names_are_read(void **state)
{
    (void)state;
    struct device_spec spec;
    struct llcuda_error error;
    assert_ok(device_spec_parse(text_view_of(""), &spec, &error), error);
    assert_int_equal(spec.kind, DEVICE_AUTO);
    assert_ok(device_spec_parse(text_view_of("cpu"), &spec, &error), error);
    assert_int_equal(spec.kind, DEVICE_CPU);
    assert_ok(device_spec_parse(text_view_of("hip:7"), &spec, &error), error);
    assert_int_equal(spec.kind, DEVICE_HIP);
    assert_int_equal(spec.count, 1);
    assert_int_equal(spec.indices[0], 7);
    assert_ok(device_spec_parse(text_view_of("cuda:0,1,12"), &spec, &error), error);
    assert_int_equal(spec.count, 3);
    assert_int_equal(spec.indices[2], 12);
    assert_string_equal(device_kind_name(spec.kind), "cuda");
    static const char *const wrong[] = {"gpu",      "cuda:",      "cuda:a", "cuda:1,", "cuda:1,1",
                                        "cuda:1 2", "cuda:99999", "cpu:0",  "Cpu",     "cuda:-1"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_int_equal(device_spec_parse(text_view_of(wrong[i]), &spec, &error),
                         LLCUDA_INVALID_ARGUMENT);
        assert_non_null(strstr(error.message, wrong[i]));
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(bad_batches_are_refused),
    cmocka_unit_test(bad_options_are_refused),
    cmocka_unit_test(a_step_reads_each_weight_once),
    cmocka_unit_test(unwanted_rows_leave_the_last_layer),
    cmocka_unit_test(hidden_states_give_the_logits),
    cmocka_unit_test(blocks_are_counted_in_bytes),
    cmocka_unit_test(copied_blocks_hold_the_same),
    cmocka_unit_test(mapped_pages_are_given_back),
    cmocka_unit_test(loading_can_be_cancelled),
    cmocka_unit_test(the_machine_is_described_and_measured),
    cmocka_unit_test(a_mask_lowers_the_level),
    cmocka_unit_test(device_names_are_read),
};

TEST_MAIN(tests)
