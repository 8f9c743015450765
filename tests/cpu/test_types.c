/* Whole models of every type of weight on the CPU device, at every level that this machine has:
 * logits against a forward pass in double precision over the same dequantised weights. What may
 * differ is what the device rounds: activations to 8 bits or to BF16, the cache to F16. */
#include "cpu/guard.h"
#include "cpu/linear.h"
#include "cpu/toy.h"

#define LENGTH 24u
#define BLOCKS 8u
#define LIMIT  2e-2

/* Blocks of trained models add little to the residual. With random ones as strong as it is, what
 * two layers round adds up to 2.5 % of the logits. */
#define GAIN 1.0f

static const enum cpu_level levels[] = {CPU_SCALAR, CPU_AVX2,        CPU_AVX512,
                                        CPU_NEON,   CPU_AVX512_BF16, CPU_AMX};

static void run_whole(struct device_model *model, const uint32_t *tokens, float *out)
{
    static struct toy_batch batch;
    struct llcuda_error error;
    const float *logits;
    toy_batch_init(&batch, 1, BLOCKS);
    toy_batch_add(&batch, 0, tokens, 0, LENGTH);
    assert_ok(device_step(model, &batch.batch, &logits, &error), error);
    memcpy(out, logits, (uint64_t)LENGTH * model->plan->vocabulary_size * sizeof *out);
}

static void check_level(enum cpu_level level, const struct toy *toy, const uint32_t *tokens,
                        const float *expected)
{
    struct device *device = toy_device(level, 2);
    if (!device) {
        return;
    }
    struct device_model_options options = {.kv_block_count = BLOCKS,
                                           .kv_dtype = DTYPE_F16,
                                           .rows_max = LENGTH,
                                           .logits_rows_max = LENGTH};
    struct device_model *model;
    struct llcuda_error error;
    uint64_t count = (uint64_t)LENGTH * toy->options.vocabulary;
    float *logits = malloc(count * sizeof *logits);
    assert_non_null(logits);
    assert_ok(device_model_load(device, toy->plan, &options, NULL, &model, &error), error);
    run_whole(model, tokens, logits);
    double distance = toy_distance(logits, expected, count);
    if (!(distance < LIMIT)) {
        fail_msg("level %s, weights %s: logits off by %g of their norm", cpu_level_name(level),
                 dtype_info(toy->options.dtype)->name, distance);
    }
    device_model_unload(model);
    device_close(device);
    free(logits);
}

static void every_type_gives_the_logits_of_its_weights(void **state)
{
    (void)state;
    uint32_t tokens[LENGTH];
    for (int dtype = 0; dtype < DTYPE_COUNT; dtype++) {
        struct toy_options options = toy_defaults();
        options.embedding = 256;
        options.heads = 4;
        options.kv_heads = 2;
        options.head_size = 64;
        options.feed_forward = 512;
        options.vocabulary = 301;
        options.layers = 2;
        options.dtype = (enum dtype)dtype;
        options.gain = GAIN;
        struct toy *toy = toy_create(&options);
        for (uint32_t i = 0; i < LENGTH; i++) {
            tokens[i] = (uint32_t)test_random_below(options.vocabulary);
        }
        float *expected = toy_forward(toy, tokens, LENGTH);
        for (size_t i = 0; i < sizeof levels / sizeof *levels; i++) {
            check_level(levels[i], toy, tokens, expected);
        }
        free(expected);
        toy_destroy(toy);
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(every_type_gives_the_logits_of_its_weights),
};

TEST_MAIN(tests)
