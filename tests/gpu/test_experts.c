/* Blocks of experts on the emulated GPU, or on a real one: against a forward pass that shares no
 * code with the device, with every kind of kernel; alone and in company; replayed with other
 * routings. */
#include "cpu/toy.h"
#include "gpu/model.h"
#include "gpu_support.h"
#include "model/model_run.h"

#define LENGTH 120u
#define BLOCKS 160u

static struct toy_batch batch;

static struct device *open_device(struct gpu_faults *faults,
                                  const struct gpu_device_options *options)
{
    struct llcuda_error error;
    struct device *device;
    assert_ok(gpu_device_open(gpu_test_driver(faults), options, &device, &error), error);
    return device;
}

static struct device_model *load(struct device *device, const struct toy *toy)
{
    struct device_model *model;
    struct llcuda_error error;
    struct device_model_options options = {
        .kv_block_count = BLOCKS, .kv_dtype = DTYPE_F32, .rows_max = 160, .logits_rows_max = 160};
    assert_ok(device_model_load(device, toy->plan, &options, NULL, &model, &error), error);
    return model;
}

static void random_tokens(uint32_t *tokens, uint32_t count, uint32_t vocabulary)
{
    for (uint32_t i = 0; i < count; i++) {
        tokens[i] = (uint32_t)test_random_below(vocabulary);
    }
}

static float *floats(uint64_t count)
{
    float *values = malloc(count * sizeof *values);
    assert_non_null(values);
    return values;
}

/* One sequence in steps of `chunk` rows; the logits of all rows. */
static void run_chunks(struct device_model *model, uint32_t sequence, const uint32_t *tokens,
                       uint32_t count, uint32_t chunk, float *out)
{
    uint32_t width = model->plan->vocabulary_size;
    struct llcuda_error error;
    for (uint32_t begin = 0; begin < count; begin += chunk) {
        uint32_t rows = count - begin < chunk ? count - begin : chunk;
        const float *logits;
        toy_batch_clear(&batch);
        toy_batch_add(&batch, sequence, tokens, begin, rows);
        assert_ok(device_step(model, &batch.batch, &logits, &error), error);
        memcpy(out + (uint64_t)begin * width, logits, (uint64_t)rows * width * sizeof *out);
    }
}

static const struct plan_op *find_experts(const struct plan *plan)
{
    uint32_t i = 0;
    while (i < plan->op_count && plan->ops[i].kind != PLAN_EXPERTS) {
        i++;
    }
    assert_true(i < plan->op_count);
    return &plan->ops[i];
}

/* A sequence of `length` tokens by each of the chunks, until one is 0. */
static void check(const struct toy_options *options, enum gpu_linear_choice linear, uint32_t length,
                  const uint32_t *chunks, double limit)
{
    struct gpu_faults faults = {0};
    /* Two experts of 256 by 256 weights, gate and up, are unpacked together. */
    const struct gpu_device_options device_options = {
        .linear = linear, .cache = KERNEL_CACHE, .unpacked_bytes_max = 2 * 2 * 256 * 256 * 2};
    uint32_t tokens[LENGTH];
    uint64_t count = (uint64_t)length * options->vocabulary;
    float *logits = floats(count);
    struct toy *toy = toy_create(options);
    struct device *device = open_device(&faults, &device_options);
    struct device_model *model = load(device, toy);
    const struct plan_op *op = find_experts(toy->plan);
    const struct gpu_weight *down = &((struct gpu_model *)model)->weights[op->experts.down];
    assert_int_equal(down->is_packed, linear == GPU_LINEAR_FAST && gpu_dtype_packs(down->dtype));
    random_tokens(tokens, length, options->vocabulary);
    float *expected = toy_forward(toy, tokens, length);
    toy_batch_init(&batch, 2, BLOCKS);
    for (; *chunks != 0; chunks++) {
        run_chunks(model, 1, tokens, length, *chunks, logits);
        double distance = toy_distance(logits, expected, count);
        if (!(distance < limit)) {
            fail_msg("weights %s, %u of %u experts, length %u by %u: distance %g",
                     dtype_info(options->dtype)->name, options->experts_used, options->experts,
                     length, *chunks, distance);
        }
    }
    free(expected);
    free(logits);
    device_model_unload(model);
    device_close(device);
    assert_int_equal(faults.live_allocations, 0);
    assert_int_equal(faults.live_objects, 0);
    toy_destroy(toy);
}

/* Every choice and sum by chance, in float32: the experts are the same. */
static void routing_agrees_with_the_plain_forward_pass(void **state)
{
    (void)state;
    for (int round = 0; round < TEST_ROUNDS(5, 2); round++) {
        struct toy_options options = toy_random_options();
        uint32_t length = 1 + (uint32_t)test_random_below(60);
        const uint32_t chunks[] = {1 + (uint32_t)test_random_below(length), 1, 0};
        options.layers = 1 + (round == 0);
        options.embedding = options.embedding < 64 ? options.embedding : 64;
        toy_random_experts(&options);
        options.expert_width =
            round == 0 ? 51 : options.expert_width; /* units of 8, and what is left */
        check(&options, round % 2 ? GPU_LINEAR_PLAIN : GPU_LINEAR_FAST, length, chunks, 1e-5);
    }
}

/* Weights of every kind of kernel, in steps that give an expert one row, a few, and more than a
 * tile. Rounded activations may choose other experts where two are nearly as good: all are used. */
static struct toy_options rounded_options(enum dtype dtype)
{
    bool is_float = dtype == DTYPE_F16 || dtype == DTYPE_BF16;
    struct toy_options options = toy_defaults();
    options.dtype = dtype;
    options.layers = 1;
    options.experts = options.experts_used = 3;
    options.embedding = is_float ? 96 : 256;
    options.expert_width = is_float ? 160 : 256;
    options.heads = 4;
    options.head_size = is_float ? 16 : 64;
    return options;
}

static void every_kernel_agrees_in_sixteen_bits(void **state)
{
    (void)state;
    static const uint32_t chunks[] = {1, 7, 29, 120, 0};
    struct toy_options options = rounded_options(DTYPE_F16);
    options.normalised = true;
    check(&options, GPU_LINEAR_FAST, LENGTH, chunks, 4e-3);
    options = rounded_options(DTYPE_BF16);
    options.expert_biases = true;
    options.shared_width = 64;
    options.shared_router = true;
    check(&options, GPU_LINEAR_FAST, LENGTH, chunks, 3e-2);
    static const uint32_t few[] = {5, 0};
    check(&options, GPU_LINEAR_PLAIN, 20, few, 3e-2);
}

static void every_kernel_agrees_when_quantised(void **state)
{
    (void)state;
    static const enum dtype dtypes[] = {DTYPE_Q8_0, DTYPE_Q4_K, DTYPE_Q6_K, DTYPE_MXFP4};
    for (int i = 0; i < 4; i++) {
        const uint32_t chunks[] = {i % 2 ? 1 : 40, i % 2 ? 40 : 9, 0};
        struct toy_options options = rounded_options(dtypes[i]);
        options.activation = i == 3 ? PLAN_SWIGLU_CLAMPED : PLAN_SILU;
        options.expert_biases = i == 3;
        options.shared_width = i == 1 ? 256 : 0;
        check(&options, GPU_LINEAR_FAST, 40, chunks, 5e-3);
    }
}

/* So many rows an expert that packed weights are unpacked, by parts of the experts; types that no
 * other matrix has; gate and up apart. */
static void many_rows_agree_when_packed(void **state)
{
    (void)state;
    static const uint32_t chunks[] = {LENGTH, 0};
    for (int i = 0; i < 3; i++) {
        struct toy_options options = rounded_options(DTYPE_Q4_K);
        options.dtype = i == 1 ? DTYPE_F16 : DTYPE_Q4_K;
        options.expert_dtype = i == 1 ? DTYPE_MXFP4 : i == 2 ? DTYPE_Q5_1 : DTYPE_F32;
        options.experts = options.experts_used = 3 + (uint32_t)i;
        options.expert_biases = i == 2;
        check(&options, GPU_LINEAR_FAST, LENGTH, chunks, 5e-3);
    }
}

/* A row's routing and its sums are its own: a prompt in one step, in pieces that take other kernels
 * and tiles, and row by row; and the last rows beside those of other sequences. To the bit. */
static void check_company(enum dtype dtype, uint32_t embedding, uint32_t width)
{
    static const uint32_t chunks[] = {110, 35, 20, 7, 1};
    static uint32_t tokens[8 * LENGTH];
    struct toy_options options = toy_defaults();
    options.dtype = dtype;
    options.embedding = embedding;
    options.experts = 5;
    options.experts_used = 2;
    options.expert_width = width;
    options.normalised = true;
    options.heads = 4;
    options.head_size = embedding / 4;
    struct toy *toy = toy_create(&options);
    uint64_t count = 110ull * options.vocabulary;
    float *first = floats(count);
    float *other = floats(count);
    struct gpu_faults faults = {0};
    struct llcuda_error error;
    const struct gpu_device_options device_options = {.cache = KERNEL_CACHE, .deterministic = true};
    struct device *device = open_device(&faults, &device_options);
    struct device_model *model = load(device, toy);
    random_tokens(tokens, 8 * LENGTH, options.vocabulary);
    toy_batch_init(&batch, 8, BLOCKS);
    for (size_t i = 0; i < sizeof chunks / sizeof *chunks; i++) {
        run_chunks(model, 0, tokens, 110, chunks[i], i ? other : first);
        assert_memory_equal(first, i ? other : first, count * sizeof *first);
    }
    for (uint32_t s = 1; s < 8; s++) {
        run_chunks(model, s, tokens + s * LENGTH, s, s, other);
    }
    const float *logits;
    toy_batch_clear(&batch);
    for (uint32_t s = 8; s-- > 0;) {
        toy_batch_add(&batch, s, tokens + s * LENGTH, s ? s : 109, 1);
    }
    assert_ok(device_step(model, &batch.batch, &logits, &error), error);
    assert_memory_equal(logits + 7ull * options.vocabulary, first + 109ull * options.vocabulary,
                        options.vocabulary * sizeof *first);
    device_model_unload(model);
    device_close(device);
    free(first);
    free(other);
    toy_destroy(toy);
}

static void company_changes_no_bit(void **state)
{
    (void)state;
    check_company(DTYPE_BF16, 96, 160);
    check_company(DTYPE_Q8_0, 128, 96);
}

/* Captured with one routing, replayed with others, against plain launches: to the bit. */
static void replayed_routings_equal_plain_ones(void **state)
{
    (void)state;
    static uint32_t tokens[4 * LENGTH];
    struct toy_options options = toy_defaults();
    options.dtype = DTYPE_F16;
    options.experts = 8;
    options.experts_used = 2;
    options.expert_width = 64;
    options.shared_width = 64;
    struct toy *toy = toy_create(&options);
    uint64_t count = 4ull * options.vocabulary;
    float *results[2] = {floats(8 * count), floats(8 * count)};
    random_tokens(tokens, 4 * LENGTH, options.vocabulary);
    toy_batch_init(&batch, 4, BLOCKS);
    for (int plain = 0; plain < 2; plain++) {
        struct gpu_faults faults = {0};
        struct llcuda_error error;
        const struct gpu_device_options device_options = {.cache = KERNEL_CACHE,
                                                          .no_graphs = plain == 1};
        struct device *device = open_device(&faults, &device_options);
        struct device_model *model = load(device, toy);
        for (uint32_t step = 0; step < 8; step++) {
            const float *logits;
            uint64_t graphs = faults.graph_launches;
            uint64_t launches = faults.launches;
            toy_batch_clear(&batch);
            for (uint32_t s = 0; s < 4; s++) {
                toy_batch_add(&batch, s, tokens + s * LENGTH, step, 1);
            }
            assert_ok(device_step(model, &batch.batch, &logits, &error), error);
            memcpy(results[plain] + step * count, logits, count * sizeof *logits);
            if (!plain && step >= 2 && gpu_bench_is_emulated()) {
                assert_int_equal(faults.graph_launches, graphs + 1);
                assert_int_equal(faults.launches, launches);
            }
        }
        device_model_unload(model);
        device_close(device);
    }
    assert_memory_equal(results[0], results[1], 8 * count * sizeof(float));
    free(results[0]);
    free(results[1]);
    toy_destroy(toy);
}

/* Whole models against PyTorch and transformers. Activations are halves here, and now and then that
 * tips the choice of an expert: nearly all rows must agree. */
static void models_agree_with_the_reference(void **state)
{
    (void)state;
    static const char *const names[] = {"mixtral", "qwen2moe", "qwen3moe", "gpt-oss"};
    enum { TOKENS = 48, VOCABULARY = 96 };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[128];
        snprintf(path, sizeof path, "tests/oracle/data/%s", names[i]);
        char *folder = test_source_path(path);
        snprintf(path, sizeof path, "tests/oracle/data/%s/model.gguf", names[i]);
        char *file = test_source_path(path);
        struct model_run run;
        model_run_open(&run, file);
        uint32_t *tokens = model_run_npy(folder, "tokens.npy", "<i4", TOKENS);
        float *expected = model_run_npy(folder, "logits.npy", "<f4", TOKENS * VOCABULARY);
        float *logits = floats(TOKENS * VOCABULARY);
        struct gpu_faults faults = {0};
        const struct gpu_device_options options = {.cache = KERNEL_CACHE};
        struct device *device = open_device(&faults, &options);
        const struct toy toy = {.plan = run.plan};
        struct device_model *model = load(device, &toy);
        toy_batch_init(&batch, 1, BLOCKS);
        run_chunks(model, 0, tokens, TOKENS, 20, logits);
        uint32_t close = 0;
        for (uint32_t t = 0; t < TOKENS; t++) {
            close +=
                toy_distance(logits + t * VOCABULARY, expected + t * VOCABULARY, VOCABULARY) < 0.02;
        }
        printf("%-10s %u of %u rows agree\n", names[i], close, TOKENS);
        if (close < TOKENS * 9 / 10) {
            fail_msg("%s: only %u of %u rows agree", names[i], close, TOKENS);
        }
        device_model_unload(model);
        device_close(device);
        model_run_close(&run);
        free(logits);
        free(expected);
        free(tokens);
        free(folder);
        free(file);
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(routing_agrees_with_the_plain_forward_pass),
    cmocka_unit_test(every_kernel_agrees_in_sixteen_bits),
    cmocka_unit_test(every_kernel_agrees_when_quantised),
    cmocka_unit_test(many_rows_agree_when_packed),
    cmocka_unit_test(models_agree_with_the_reference),
    cmocka_unit_test(company_changes_no_bit),
    cmocka_unit_test(replayed_routings_equal_plain_ones),
};

TEST_MAIN(tests)
