/* The GPU device on the emulated driver against a forward pass that shares no code with it. */
#include "cpu/toy.h"
#include "gpu/gpu.h"

#define LENGTH_MAX 200u
#define BLOCKS     64u

struct emu {
    struct device *device;
    struct gpu_faults faults;
};

static void emu_open(struct emu *emu, const struct gpu_device_options *options)
{
    struct llcuda_error error;
    struct gpu_driver *driver;
    *emu = (struct emu){0};
    const struct gpu_open_options open = {.faults = &emu->faults};
    assert_ok(gpu_driver_open_emu(&open, &driver, &error), error);
    assert_ok(gpu_device_open(driver, options, &emu->device, &error), error);
}

static void emu_close(struct emu *emu)
{
    device_close(emu->device);
    assert_int_equal(emu->faults.live_allocations, 0);
    assert_int_equal(emu->faults.live_objects, 0);
}

static struct device_model *load(struct device *device, const struct toy *toy, enum dtype kv)
{
    struct device_model *model;
    struct llcuda_error error;
    struct device_model_options options = {
        .kv_block_count = BLOCKS, .kv_dtype = kv, .rows_max = 256, .logits_rows_max = 256};
    assert_ok(device_model_load(device, toy->plan, &options, NULL, &model, &error), error);
    return model;
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

static void check_one(const struct toy_options *options, enum dtype kv, uint32_t length,
                      uint32_t chunk, double limit)
{
    static struct toy_batch batch;
    struct emu emu;
    const struct gpu_device_options device_options = {.linear = GPU_LINEAR_PLAIN,
                                                      .cache = KERNEL_CACHE};
    uint32_t tokens[LENGTH_MAX];
    uint64_t count = (uint64_t)length * options->vocabulary;
    float *logits = malloc(count * sizeof *logits);
    assert_non_null(logits);
    struct toy *toy = toy_create(options);
    emu_open(&emu, &device_options);
    struct device_model *model = load(emu.device, toy, kv);
    for (uint32_t i = 0; i < length; i++) {
        tokens[i] = (uint32_t)test_random_below(options->vocabulary);
    }
    toy_batch_init(&batch, 2, BLOCKS);
    run_chunks(model, &batch, 1, tokens, length, chunk, logits);
    float *expected = toy_forward(toy, tokens, length);
    double distance = toy_distance(logits, expected, count);
    if (!(distance < limit)) {
        fail_msg("weights %s, cache %s, length %u by %u: distance %g",
                 dtype_info(options->dtype)->name, dtype_info(kv)->name, length, chunk, distance);
    }
    free(expected);
    free(logits);
    device_model_unload(model);
    emu_close(&emu);
    toy_destroy(toy);
}

static void agrees_with_the_plain_forward_pass(void **state)
{
    (void)state;
    struct toy_options options = toy_defaults();
    check_one(&options, DTYPE_F32, 20, 20, 1e-5);
    check_one(&options, DTYPE_F32, 20, 1, 1e-5);
    for (int round = 0; round < 3; round++) {
        options = toy_random_options();
        uint32_t length = 1 + (uint32_t)test_random_below(60);
        check_one(&options, DTYPE_F32, length, 1 + (uint32_t)test_random_below(length), 1e-5);
    }
}

/* What the device chooses is where the largest of the logits is that it would have given. */
static void chooses_the_largest_logit(void **state)
{
    (void)state;
    enum { ROWS = 9 };
    static struct toy_batch batch;
    const struct gpu_device_options device_options = {.cache = KERNEL_CACHE};
    struct toy_options options = toy_defaults();
    struct llcuda_error error;
    struct emu emu;
    uint32_t tokens[ROWS];
    uint32_t expected[ROWS] = {0};
    const float *logits;
    struct toy *toy = toy_create(&options);
    emu_open(&emu, &device_options);
    struct device_model *model = load(emu.device, toy, DTYPE_F32);
    for (int round = 0; round < 4; round++) {
        for (uint32_t i = 0; i < ROWS; i++) {
            tokens[i] = (uint32_t)test_random_below(options.vocabulary);
        }
        toy_batch_init(&batch, 2, BLOCKS);
        toy_batch_add(&batch, 1, tokens, 0, ROWS);
        assert_ok(device_step(model, &batch.batch, &logits, &error), error);
        assert_null(device_chosen(model));
        for (uint32_t i = 0; i < ROWS; i++) {
            const float *row = logits + (uint64_t)i * options.vocabulary;
            expected[i] = 0;
            for (uint32_t t = 1; t < options.vocabulary; t++) {
                expected[i] = row[t] > row[expected[i]] ? t : expected[i];
            }
        }
        batch.batch.choose = true;
        assert_ok(device_step(model, &batch.batch, &logits, &error), error);
        assert_non_null(device_chosen(model));
        assert_memory_equal(device_chosen(model), expected, sizeof expected);
        batch.batch.choose = false;
    }
    device_model_unload(model);
    emu_close(&emu);
    toy_destroy(toy);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(chooses_the_largest_logit),
    cmocka_unit_test(agrees_with_the_plain_forward_pass),
};

TEST_MAIN(tests)
