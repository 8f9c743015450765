/* The GPU device against a forward pass that shares no code with it: on the emulated driver, or on
 * a GPU. */
#include "cpu/toy.h"
#include "gpu/model.h"
#include "gpu_support.h"
#include "tensor/quant.h"

#define LENGTH_MAX 200u
#define BLOCKS     64u

struct emu {
    struct device *device;
    struct gpu_faults faults;
};

static void emu_open(struct emu *emu, const struct gpu_device_options *options)
{
    struct llcuda_error error;
    *emu = (struct emu){0};
    assert_ok(gpu_device_open(gpu_test_driver(&emu->faults), options, &emu->device, &error), error);
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

/* With so much shared memory a block as the device says it has, 0: what it has. */
static void check_within(const struct toy_options *options, enum gpu_linear_choice linear,
                         uint32_t length, uint32_t chunk, double limit, uint32_t shared_bytes)
{
    static struct toy_batch batch;
    struct emu emu;
    const struct gpu_device_options device_options = {.linear = linear, .cache = KERNEL_CACHE};
    uint32_t tokens[LENGTH_MAX];
    uint64_t count = (uint64_t)length * options->vocabulary;
    float *logits = floats(count);
    struct toy *toy = toy_create(options);
    emu_open(&emu, &device_options);
    if (shared_bytes) {
        ((struct gpu_device *)emu.device)->info.shared_bytes_block_max = shared_bytes;
    }
    struct device_model *model = load(emu.device, toy, DTYPE_F32);
    random_tokens(tokens, length, options->vocabulary);
    toy_batch_init(&batch, 2, BLOCKS);
    run_chunks(model, &batch, 1, tokens, length, chunk, logits);
    float *expected = toy_forward(toy, tokens, length);
    double distance = toy_distance(logits, expected, count);
    if (!(distance < limit)) {
        fail_msg("weights %s, %s, length %u by %u: distance %g", dtype_info(options->dtype)->name,
                 linear == GPU_LINEAR_PLAIN ? "plain" : "fast", length, chunk, distance);
    }
    free(expected);
    free(logits);
    device_model_unload(model);
    emu_close(&emu);
    toy_destroy(toy);
}

static void check_one(const struct toy_options *options, enum gpu_linear_choice linear,
                      uint32_t length, uint32_t chunk, double limit)
{
    check_within(options, linear, length, chunk, limit, 0);
}

static void agrees_with_the_plain_forward_pass(void **state)
{
    (void)state;
    struct toy_options options = toy_defaults();
    check_one(&options, GPU_LINEAR_PLAIN, 20, 20, 1e-5);
    check_one(&options, GPU_LINEAR_PLAIN, 20, 1, 1e-5);
    options.feed_forward = 51; /* units of 8, and what is left */
    check_one(&options, GPU_LINEAR_PLAIN, 20, 20, 1e-5);
    for (int round = 0; round < TEST_ROUNDS(3, 1); round++) {
        options = toy_random_options();
        uint32_t length = 1 + (uint32_t)test_random_below(60);
        check_one(&options, GPU_LINEAR_PLAIN, length, 1 + (uint32_t)test_random_below(length),
                  1e-5);
    }
}

/* Long steps where there is memory for them. */
static void steps_suit_the_memory(void **state)
{
    (void)state;
    static const struct {
        uint64_t gigabytes, limit;
        uint32_t rows;
    } cases[] = {{16, 0, 2048}, {15, 0, 512}, {80, 15, 512}, {80, 16, 2048}};
    struct emu emu;
    const struct gpu_device_options options = {.cache = KERNEL_CACHE};
    emu_open(&emu, &options);
    struct gpu_device *device = (struct gpu_device *)emu.device;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct device_info info;
        device->info.memory_bytes = cases[i].gigabytes << 30;
        device->options.memory_limit_bytes = cases[i].limit << 30;
        device_describe(emu.device, &info);
        assert_int_equal(info.step_rows, cases[i].rows);
    }
    emu_close(&emu);
}

/* Through tensor cores: alone with the norm fused, in widths of 8, 16 and 32, and beyond. */
static void agrees_in_sixteen_bits(void **state)
{
    (void)state;
    static const enum dtype dtypes[] = {DTYPE_F16, DTYPE_BF16};
    static const uint32_t chunks[] = {1, 7, 13, 25, 40};
    for (int i = 0; i < 2; i++) {
        struct toy_options options = toy_defaults();
        options.dtype = dtypes[i];
        options.embedding = 96;     /* a chunk of 32 each for three warps */
        options.feed_forward = 544; /* 17 chunks for 16 warps */
        for (int c = 0; c < 5; c++) {
            check_one(&options, GPU_LINEAR_FAST, 40, chunks[c], i ? 3e-2 : 4e-3);
        }
        check_one(&options, GPU_LINEAR_PLAIN, 40, 40, i ? 3e-2 : 4e-3);
    }
}

/* Every type that files have, decoded on the device. */
static void agrees_in_every_type(void **state)
{
    (void)state;
    for (int dtype = 0; dtype < DTYPE_COUNT; dtype++) {
        static const float zeros[256];
        unsigned char block[1024];
        if (!quantize_row((enum dtype)dtype, zeros, NULL, block, 256)) {
            continue; /* can only be read: no toy can be made of it */
        }
        struct toy_options options = toy_defaults();
        options.dtype = (enum dtype)dtype;
        options.embedding = options.feed_forward = 256;
        options.heads = 4;
        options.head_size = 64; /* H·D is a whole super-block */
        options.layers = 1;
        bool is_bf16 = dtype == DTYPE_BF16 || dtype == DTYPE_F8_BLOCK;
        check_one(&options, GPU_LINEAR_PLAIN, 6, 6, is_bf16 ? 3e-2 : 4e-3);
        if (dtype == DTYPE_Q4_K || dtype == DTYPE_Q6_K || dtype == DTYPE_MXFP4) {
            check_one(&options, GPU_LINEAR_FAST, 20, 20, 4e-3);
        }
    }
}

#define PACKED_WIDTHS TEST_ROUNDS(2, 1) /* that each packed type is tried in */

/* Types that kernels of few rows stream, in all widths; with tied embeddings and without. */
static void agrees_when_packed(void **state)
{
    (void)state;
    static const enum dtype dtypes[] = {DTYPE_MXFP4, DTYPE_Q4_0, DTYPE_Q8_0, DTYPE_Q4_K,
                                        DTYPE_Q5_K,  DTYPE_Q6_K, DTYPE_Q4_1, DTYPE_Q5_0,
                                        DTYPE_Q5_1,  DTYPE_Q2_K, DTYPE_Q3_K};
    static const uint32_t chunks[] = {1, 7, 13, 25, 40};
    for (int i = 0; i < 11; i++) {
        struct toy_options options = toy_defaults();
        options.dtype = dtypes[i];
        options.embedding = 256;
        options.feed_forward = 768; /* 6 units for 16 warps */
        options.heads = 4;
        options.head_size = 64;
        options.layers = 1;
        for (int c = 0; c < PACKED_WIDTHS; c++) { /* each width with two of the types at least */
            check_one(&options, GPU_LINEAR_FAST, 40, chunks[(i + 2 * c) % 5], 4e-3);
        }
        if (i == 1 || i == 5) { /* compute capability 7.5: no room for the sums */
            check_within(&options, GPU_LINEAR_FAST, 12, 5, 4e-3, 65536);
        }
    }
}

/* Turns the toy's blocks into what a file holds: values here, scales there. */
static void take_apart(struct toy *toy)
{
    for (uint32_t i = 0; i < toy->plan->weight_count; i++) {
        struct plan_weight *weight = &toy->plan->weights[i];
        if (weight->dtype != DTYPE_F8_BLOCK) {
            continue;
        }
        uint64_t count = weight->rows * weight->columns / 128;
        unsigned char *values = malloc(count * 132);
        assert_non_null(values);
        for (uint64_t b = 0; b < count; b++) {
            const unsigned char *block = (const unsigned char *)weight->data + b * 132;
            memcpy(values + b * 128, block + 4, 128);
            memcpy(values + count * 128 + b * 4, block, 4);
        }
        toy->blobs[toy->blob_count++] = values;
        weight->dtype = DTYPE_F8_E4M3;
        weight->data = values;
        weight->bytes = count * 128;
        weight->scales = (struct plan_scales){.data = values + count * 128,
                                              .dtype = DTYPE_F32,
                                              .rows_each = 1,
                                              .columns_each = 128,
                                              .columns = weight->columns / 128};
    }
}

/* 8-bit floats with their scales in a tensor of their own: the same bits as in blocks. */
static void scales_go_beside_their_values(void **state)
{
    (void)state;
    static struct toy_batch batch;
    static uint32_t tokens[20];
    struct toy_options options = toy_defaults();
    options.dtype = DTYPE_F8_BLOCK;
    options.embedding = options.feed_forward = 256;
    options.heads = 4;
    options.head_size = 64;
    options.layers = 1;
    struct toy *toy = toy_create(&options);
    uint64_t count = 20ull * options.vocabulary;
    float *logits[2] = {floats(count), floats(count)};
    random_tokens(tokens, 20, options.vocabulary);
    toy_batch_init(&batch, 1, BLOCKS);
    for (int apart = 0; apart < 2; apart++) {
        struct emu emu;
        const struct gpu_device_options device_options = {.cache = KERNEL_CACHE};
        emu_open(&emu, &device_options);
        if (apart) {
            take_apart(toy);
        }
        struct device_model *model = load(emu.device, toy, DTYPE_F32);
        run_chunks(model, &batch, 0, tokens, 20, 20, logits[apart]);
        device_model_unload(model);
        emu_close(&emu);
    }
    assert_memory_equal(logits[0], logits[1], count * sizeof(float));
    free(logits[0]);
    free(logits[1]);
    toy_destroy(toy);
}

/* Caches of bytes are as long as the plan says, near what floats give, and, deterministic, the same
 * to the bit however a prompt was cut. */
static void caches_of_bytes(void **state)
{
    (void)state;
    static const struct {
        enum dtype kv;
        double limit; /* steps of 1 in 254 of the largest, and of 1 in 16 */
    } caches[] = {{DTYPE_Q8_0, 2e-2}, {DTYPE_F8_E4M3, 0.15}};
    static struct toy_batch batch;
    static uint32_t tokens[60];
    struct toy_options options = toy_defaults();
    options.head_size = 32;
    struct toy *toy = toy_create(&options);
    uint64_t count = 60ull * options.vocabulary;
    random_tokens(tokens, 60, options.vocabulary);
    float *expected = toy_forward(toy, tokens, 60);
    float *logits[2] = {floats(count), floats(count)};
    toy_batch_init(&batch, 1, BLOCKS);
    for (int i = 0; i < 4; i++) {
        struct emu emu;
        const struct gpu_device_options device_options = {.cache = KERNEL_CACHE,
                                                          .deterministic = i % 2 == 1};
        emu_open(&emu, &device_options);
        struct device_model *model = load(emu.device, toy, caches[i / 2].kv);
        assert_int_equal(((struct gpu_model *)model)->block_bytes * options.layers,
                         device_kv_block_bytes(toy->plan, caches[i / 2].kv));
        run_chunks(model, &batch, 0, tokens, 60, 60, logits[0]);
        run_chunks(model, &batch, 0, tokens, 60, 7, logits[1]);
        for (int cut = 0; cut < 2; cut++) {
            double distance = toy_distance(logits[cut], expected, count);
            if (!(distance < caches[i / 2].limit && distance > 1e-5)) {
                fail_msg("a cache of %s: distance %g", dtype_info(caches[i / 2].kv)->name,
                         distance);
            }
        }
        if (device_options.deterministic) {
            assert_memory_equal(logits[0], logits[1], count * sizeof(float));
        }
        device_model_unload(model);
        emu_close(&emu);
    }
    free(logits[0]);
    free(logits[1]);
    free(expected);
    toy_destroy(toy);
}

/* --- graphs, company, faults ------------------------------------------------------------------ */

/* One row of each sequence at a step of its own, from random positions on. */
static void decode_rows(struct device_model *model, struct toy_batch *batch, const uint32_t *tokens,
                        const uint32_t *positions, uint32_t count, float *out)
{
    struct llcuda_error error;
    const float *logits;
    toy_batch_clear(batch);
    for (uint32_t s = 0; s < count; s++) {
        toy_batch_add(batch, s, tokens + (uint64_t)s * LENGTH_MAX, positions[s], 1);
    }
    assert_ok(device_step(model, &batch->batch, &logits, &error), error);
    memcpy(out, logits, (uint64_t)count * model->plan->vocabulary_size * sizeof *out);
}

/* Captured at one batch, replayed with other ids, lengths and block tables; and against plain
 * launches, to the bit. */
static void replayed_steps_equal_plain_ones(void **state)
{
    (void)state;
    static struct toy_batch batch;
    static uint32_t tokens[4 * LENGTH_MAX];
    static const uint32_t lengths[4] = {5, 40, 17, 60};
    struct toy_options options = toy_defaults();
    options.dtype = DTYPE_F16;
    struct toy *toy = toy_create(&options);
    uint32_t width = options.vocabulary;
    float *results[2] = {floats(6ull * 4 * width), floats(6ull * 4 * width)};
    float *ignored = floats(LENGTH_MAX * (uint64_t)width);
    random_tokens(tokens, 4 * LENGTH_MAX, width);
    toy_batch_init(&batch, 4, BLOCKS);
    for (int plain = 0; plain < 2; plain++) {
        struct emu emu;
        const struct gpu_device_options device_options = {.cache = KERNEL_CACHE,
                                                          .no_graphs = plain == 1};
        emu_open(&emu, &device_options);
        struct device_model *model = load(emu.device, toy, DTYPE_F16);
        for (uint32_t s = 0; s < 4; s++) {
            run_chunks(model, &batch, s, tokens + s * LENGTH_MAX, lengths[s], lengths[s], ignored);
        }
        for (uint32_t step = 0; step < 6; step++) {
            uint32_t positions[4];
            for (uint32_t s = 0; s < 4; s++) {
                positions[s] = lengths[s] + step;
            }
            uint64_t graphs = emu.faults.graph_launches;
            uint64_t launches = emu.faults.launches;
            decode_rows(model, &batch, tokens, positions, 4, results[plain] + step * 4ull * width);
            if (plain) {
                assert_int_equal(emu.faults.graph_launches, 0);
            } else if (step >= 1 && gpu_bench_is_emulated()) {
                assert_int_equal(emu.faults.graph_launches, graphs + 1);
                assert_int_equal(emu.faults.launches, launches);
            }
        }
        device_model_unload(model);
        emu_close(&emu);
    }
    assert_memory_equal(results[0], results[1], 6ull * 4 * width * sizeof(float));
    free(ignored);
    free(results[0]);
    free(results[1]);
    toy_destroy(toy);
}

/* Settings that differ from step to step and from row to row. */
static void settings_of(uint32_t step, struct step_sampling *samplings, uint32_t count,
                        const struct step_edit *edits)
{
    for (uint32_t i = 0; i < count; i++) {
        uint32_t kind = step + i;
        samplings[i] = (struct step_sampling){
            .logprobs = kind % 3 == 0,
            .top_logprobs = kind % 3 == 0 ? kind % 5 : 0,
            .temperature = kind % 5 == 0 ? 0 : 0.4 + 0.3 * (kind % 4),
            .top_p = kind % 2 ? 0.7 : 1,
            .typical_p = kind % 4 == 1 ? 0.6 : 1,
            .min_p = kind % 4 == 2 ? 0.1 : 0,
            .top_k = kind % 3 == 1 ? 3 + kind : 0,
            .repetition_penalty = 1.2,
            .seed = 77 + i,
            .position = step,
            .edits = edits + i,
        };
        samplings[i].edit_counts[STEP_EDIT_PENALISE] = kind % 4;
        samplings[i].edit_counts[STEP_EDIT_ADD] = kind % 2;
    }
}

/* What a step with sampling gives. */
struct drawn {
    uint32_t tokens[4];
    struct device_logprob logprobs[4];
};

static void draw_rows(struct device_model *model, struct toy_batch *batch, const uint32_t *tokens,
                      uint32_t step, const struct step_edit *edits, struct drawn *drawn)
{
    struct step_sampling samplings[4];
    struct llcuda_error error;
    const float *logits;
    toy_batch_clear(batch);
    for (uint32_t s = 0; s < 4; s++) {
        toy_batch_add(batch, s, tokens + (uint64_t)s * LENGTH_MAX, step, 1);
    }
    settings_of(step, samplings, 4, edits);
    batch->batch.sampling = samplings;
    assert_ok(device_step(model, &batch->batch, &logits, &error), error);
    batch->batch.sampling = NULL;
    for (uint32_t s = 0; s < 4; s++) {
        drawn->tokens[s] = device_chosen(model)[s];
        assert_true(drawn->tokens[s] < model->plan->vocabulary_size);
        if (samplings[s].logprobs) {
            const struct device_logprob *from = &device_logprobs(model)[s];
            drawn->logprobs[s].token = from->token;
            drawn->logprobs[s].logprob = from->logprob;
            drawn->logprobs[s].top_count = from->top_count;
            assert_int_equal(from->token, drawn->tokens[s]);
        }
    }
}

/* One graph serves any settings: the tokens are those of plain launches. */
static void replayed_draws_equal_plain_ones(void **state)
{
    (void)state;
    static struct toy_batch batch;
    static uint32_t tokens[4 * LENGTH_MAX];
    static struct drawn results[2][12];
    struct toy_options options = toy_defaults();
    options.dtype = DTYPE_F16;
    struct toy *toy = toy_create(&options);
    const struct step_edit edits[8] = {{3, 0, 0.5}, {1, 0, 0.1}, {4, 0, 1}, {2, 0, 0.3},
                                       {5, 0, 2},   {7, 0, -1},  {6, 0, 3}, {8, 0, 0.2}};
    random_tokens(tokens, 4 * LENGTH_MAX, options.vocabulary);
    toy_batch_init(&batch, 4, BLOCKS);
    memset(results, 0, sizeof results);
    for (int plain = 0; plain < 2; plain++) {
        struct emu emu;
        const struct gpu_device_options device_options = {.cache = KERNEL_CACHE,
                                                          .no_graphs = plain == 1};
        emu_open(&emu, &device_options);
        struct device_model *model = load(emu.device, toy, DTYPE_F16);
        for (uint32_t step = 0; step < 12; step++) {
            uint64_t graphs = emu.faults.graph_launches;
            uint64_t launches = emu.faults.launches;
            draw_rows(model, &batch, tokens, step, edits, &results[plain][step]);
            if (!plain && step >= 1 && gpu_bench_is_emulated()) {
                assert_int_equal(emu.faults.graph_launches, graphs + 1);
                assert_int_equal(emu.faults.launches, launches);
            }
        }
        device_model_unload(model);
        emu_close(&emu);
    }
    assert_memory_equal(results[0], results[1], sizeof results[0]);
    toy_destroy(toy);
}

/* Kernels of a pack serve a machine that cannot compile, and one without its pack says so. */
static void a_pack_replaces_the_compiler(void **state)
{
    (void)state;
    gpu_test_needs_emulation();
    static struct toy_batch batch;
    const uint32_t tokens[4] = {1, 2, 3, 4};
    struct toy_options options = toy_defaults();
    struct toy *toy = toy_create(&options);
    const char *folder = test_folder_make();
    char *path = test_file_write(folder, "kernels.pack", "", 0);
    const struct device_model_options model_options = {
        .kv_block_count = BLOCKS, .kv_dtype = DTYPE_F32, .rows_max = 32, .logits_rows_max = 32};
    struct llcuda_error error;
    struct emu emu;
    const struct gpu_device_options compiling = {.cache = KERNEL_CACHE};
    emu_open(&emu, &compiling);
    assert_ok(gpu_device_pack(emu.device, toy->plan, &model_options, path, &error), error);
    emu_close(&emu);
    toy_batch_init(&batch, 1, BLOCKS);
    toy_batch_add(&batch, 0, tokens, 0, 4);
    for (int with = 0; with < 2; with++) {
        struct gpu_driver *driver;
        struct device *device;
        struct device_model *model = NULL;
        const float *logits;
        const struct gpu_open_options open = {.compiler = "/nowhere/c++"};
        const struct gpu_device_options packed = {.pack = with ? path : NULL};
        assert_ok(gpu_driver_open_emu(&open, &driver, &error), error);
        assert_ok(gpu_device_open(driver, &packed, &device, &error), error);
        llcuda_status status =
            device_model_load(device, toy->plan, &model_options, NULL, &model, &error);
        assert_int_equal(status, with ? LLCUDA_OK : LLCUDA_UNSUPPORTED);
        if (with) {
            assert_ok(device_step(model, &batch.batch, &logits, &error), error);
            device_model_unload(model);
        }
        device_close(device);
    }
    free(path);
    test_folder_remove(folder);
    toy_destroy(toy);
}

/* A row alone, and the same row as one of 3, 12 and 20: the same bits. */
static void rows_do_not_depend_on_company(void **state)
{
    (void)state;
    static struct toy_batch batch;
    static uint32_t tokens[16 * LENGTH_MAX];
    static const uint32_t counts[] = {1, 3, 12, 16};
    struct toy_options options = toy_defaults();
    options.dtype = DTYPE_BF16;
    struct toy *toy = toy_create(&options);
    uint32_t width = options.vocabulary;
    float *alone = floats(width);
    float *together = floats(16ull * width);
    struct emu emu;
    const struct gpu_device_options device_options = {.cache = KERNEL_CACHE, .deterministic = true};
    emu_open(&emu, &device_options);
    struct device_model *model = load(emu.device, toy, DTYPE_F16);
    random_tokens(tokens, 16 * LENGTH_MAX, width);
    toy_batch_init(&batch, 16, BLOCKS);
    for (size_t i = 0; i < 4; i++) {
        for (uint32_t position = 0; position < 3; position++) {
            uint32_t positions[16];
            for (uint32_t s = 0; s < 16; s++) {
                positions[s] = position;
            }
            decode_rows(model, &batch, tokens, positions, counts[i], together);
        }
        if (i == 0) {
            memcpy(alone, together, width * sizeof *alone);
        }
        assert_memory_equal(alone, together, width * sizeof *alone);
    }
    device_model_unload(model);
    emu_close(&emu);
    free(alone);
    free(together);
    toy_destroy(toy);
}

/* A prompt in one step, in pieces that take other kernels, and row by row: the same bits. */
static void check_cuts(enum dtype dtype)
{
    static struct toy_batch batch;
    static const uint32_t chunks[] = {70, 35, 20, 7, 1};
    uint32_t tokens[LENGTH_MAX];
    struct toy_options options = toy_defaults();
    options.dtype = dtype;
    options.feed_forward = 544;
    struct toy *toy = toy_create(&options);
    uint64_t count = 70ull * options.vocabulary;
    float *first = floats(count);
    float *other = floats(count);
    struct emu emu;
    const struct gpu_device_options device_options = {.cache = KERNEL_CACHE, .deterministic = true};
    emu_open(&emu, &device_options);
    struct device_model *model = load(emu.device, toy, DTYPE_F16);
    random_tokens(tokens, 70, options.vocabulary);
    toy_batch_init(&batch, 1, BLOCKS);
    for (size_t i = 0; i < sizeof chunks / sizeof *chunks; i++) {
        run_chunks(model, &batch, 0, tokens, 70, chunks[i], i ? other : first);
        assert_memory_equal(first, i ? other : first, count * sizeof *first);
    }
    device_model_unload(model);
    emu_close(&emu);
    free(first);
    free(other);
    toy_destroy(toy);
}

static void cuts_do_not_change_results(void **state)
{
    (void)state;
    check_cuts(DTYPE_BF16);
    check_cuts(DTYPE_Q8_0);
}

/* Loads, steps, copies blocks, unloads; the status of the first failure. */
static llcuda_status one_life(struct emu *emu, const struct toy *toy, struct toy_batch *batch,
                              const uint32_t *tokens, struct llcuda_error *error)
{
    struct device_model *model = NULL;
    const struct device_model_options options = {
        .kv_block_count = BLOCKS, .kv_dtype = DTYPE_F16, .rows_max = 32, .logits_rows_max = 32};
    const float *logits;
    llcuda_status status = device_model_load(emu->device, toy->plan, &options, NULL, &model, error);
    for (uint32_t i = 0; i < 3 && status == LLCUDA_OK; i++) {
        toy_batch_clear(batch);
        toy_batch_add(batch, 0, tokens, i, 1);
        status = device_step(model, &batch->batch, &logits, error);
    }
    const uint32_t from = 1;
    const uint32_t to = 2;
    if (status == LLCUDA_OK) {
        status = device_copy_blocks(model, &from, &to, 1, error);
    }
    device_model_unload(model);
    return status;
}

static void every_failing_call_leaks_nothing(void **state)
{
    (void)state;
    gpu_test_needs_emulation();
    static struct toy_batch batch;
    uint32_t tokens[LENGTH_MAX];
    struct toy_options options = toy_defaults();
    options.layers = 1;
    options.dtype = DTYPE_F16;
    struct toy *toy = toy_create(&options);
    random_tokens(tokens, LENGTH_MAX, options.vocabulary);
    toy_batch_init(&batch, 1, BLOCKS);
    bool finished = false;
    uint32_t failures = 0;
    for (uint64_t at = 1; !finished; at++) {
        struct emu emu;
        struct llcuda_error error;
        const struct gpu_device_options device_options = {.cache = KERNEL_CACHE};
        emu_open(&emu, &device_options);
        emu.faults.fail_at = emu.faults.calls + at;
        uint64_t last = emu.faults.fail_at;
        llcuda_status status = one_life(&emu, toy, &batch, tokens, &error);
        finished = emu.faults.calls < last;
        if (status != LLCUDA_OK) {
            assert_int_equal(status, LLCUDA_DEVICE);
            assert_int_not_equal(error.message[0], 0);
            failures++;
        }
        emu_close(&emu);
    }
    assert_true(failures > 50);
    toy_destroy(toy);
}

static void hang_is_a_status(void **state)
{
    (void)state;
    gpu_test_needs_emulation();
    static struct toy_batch batch;
    uint32_t tokens[4] = {1, 2, 3, 4};
    struct toy_options options = toy_defaults();
    struct toy *toy = toy_create(&options);
    struct emu emu;
    struct llcuda_error error;
    const float *logits;
    const struct gpu_device_options device_options = {.cache = KERNEL_CACHE};
    emu_open(&emu, &device_options);
    struct device_model *model = load(emu.device, toy, DTYPE_F32);
    toy_batch_init(&batch, 1, BLOCKS);
    toy_batch_clear(&batch);
    toy_batch_add(&batch, 0, tokens, 0, 4);
    emu.faults.hang = true;
    assert_int_equal(device_step(model, &batch.batch, &logits, &error), LLCUDA_DEVICE);
    assert_non_null(strstr(error.message, "stopped answering"));
    emu.faults.hang = false;
    assert_int_equal(device_step(model, &batch.batch, &logits, &error), LLCUDA_DEVICE);
    device_model_unload(model);
    emu_close(&emu);
    toy_destroy(toy);
}

static void too_little_memory_names_the_need(void **state)
{
    (void)state;
    struct toy_options options = toy_defaults();
    struct toy *toy = toy_create(&options);
    struct emu emu;
    struct llcuda_error error;
    struct device_model *model = NULL;
    const struct gpu_device_options device_options = {.cache = KERNEL_CACHE,
                                                      .memory_limit_bytes = 100000};
    const struct device_model_options model_options = {
        .kv_block_count = BLOCKS, .kv_dtype = DTYPE_F16, .rows_max = 32, .logits_rows_max = 32};
    emu_open(&emu, &device_options);
    assert_int_equal(device_model_load(emu.device, toy->plan, &model_options, NULL, &model, &error),
                     LLCUDA_OUT_OF_MEMORY);
    assert_non_null(strstr(error.message, "are left of the limit"));
    assert_non_null(strstr(error.message, "weights"));
    emu_close(&emu);
    toy_destroy(toy);
}

static void note_warning(void *user, enum log_level level, const char *message)
{
    uint32_t *warnings = user;
    *warnings += level == LOG_WARN && strstr(message, "of the GPU's memory that may be used");
}

/* Once when a model leaves little of the limit, again when another one does after it has gone, and
 * not when there is room. */
static void a_limit_nearly_reached_is_told(void **state)
{
    (void)state;
    struct toy_options options = toy_defaults();
    struct toy *toy = toy_create(&options);
    const struct device_model_options model_options = {
        .kv_block_count = BLOCKS, .kv_dtype = DTYPE_F16, .rows_max = 32, .logits_rows_max = 32};
    struct device_part parts[DEVICE_PARTS_MAX];
    struct llcuda_error error;
    uint64_t need = 0;
    for (uint64_t spare = 0; spare < 3; spare++) {
        static const uint32_t wanted[] = {0, 2, 0};
        uint32_t warnings = 0;
        uint32_t count;
        const struct log_sink log = {note_warning, &warnings, LOG_WARN};
        const struct gpu_device_options device_options = {.cache = KERNEL_CACHE,
                                                          .log = &log,
                                                          .memory_limit_bytes =
                                                              spare == 1   ? need * 101 / 100
                                                              : spare == 2 ? need * 2
                                                                           : 0};
        struct emu emu;
        emu_open(&emu, &device_options);
        assert_ok(device_place(emu.device, toy->plan, &model_options, parts, &count, &error),
                  error);
        need = device_part_bytes(&parts[0]);
        for (int again = 0; again < 2; again++) {
            struct device_model *model;
            assert_ok(
                device_model_load(emu.device, toy->plan, &model_options, NULL, &model, &error),
                error);
            device_model_unload(model);
        }
        assert_int_equal(warnings, wanted[spare]);
        emu_close(&emu);
    }
    toy_destroy(toy);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(agrees_with_the_plain_forward_pass),
    cmocka_unit_test(agrees_in_sixteen_bits),
    cmocka_unit_test(steps_suit_the_memory),
    cmocka_unit_test(replayed_steps_equal_plain_ones),
    cmocka_unit_test(replayed_draws_equal_plain_ones),
    cmocka_unit_test(a_pack_replaces_the_compiler),
    cmocka_unit_test(rows_do_not_depend_on_company),
    cmocka_unit_test(cuts_do_not_change_results),
    cmocka_unit_test(scales_go_beside_their_values),
    cmocka_unit_test(caches_of_bytes),
    cmocka_unit_test(hang_is_a_status),
    cmocka_unit_test(too_little_memory_names_the_need),
    cmocka_unit_test(a_limit_nearly_reached_is_told),
    cmocka_unit_test(agrees_in_every_type),
    cmocka_unit_test(agrees_when_packed),
    cmocka_unit_test(every_failing_call_leaks_nothing),
};

TEST_MAIN(tests)
