/* Layers shared by two devices: parts of a plan by hand on the CPU, to the bit; the CPU and a
 * GPU (the emulated one, or a real one) together against a forward pass that shares no code with
 * them. */
#include "cpu/toy.h"
#include "device/split.h"
#include "gpu/gpu.h"
#include "gpu_support.h"

#define LENGTH 60u
#define BLOCKS 64u
#define LAYERS 4u

static const struct device_model_options model_options = {
    .kv_block_count = BLOCKS, .kv_dtype = DTYPE_F32, .rows_max = 128, .logits_rows_max = 128};

struct shared {
    struct device *device;
    struct gpu_faults faults;
};

static void shared_open(struct shared *shared, uint32_t layers, uint64_t limit_bytes)
{
    struct llcuda_error error;
    struct device *gpu;
    *shared = (struct shared){0};
    const struct gpu_device_options options = {
        .cache = KERNEL_CACHE, .linear = GPU_LINEAR_PLAIN, .memory_limit_bytes = limit_bytes};
    assert_ok(gpu_device_open(gpu_test_driver(&shared->faults), &options, &gpu, &error), error);
    assert_ok(split_device_open(toy_device(cpu_level_detect(), 2), gpu, layers, NULL,
                                &shared->device, &error),
              error);
}

static void shared_close(struct shared *shared)
{
    device_close(shared->device);
    assert_int_equal(shared->faults.live_allocations, 0);
    assert_int_equal(shared->faults.live_objects, 0);
}

static struct device_model *load(struct device *device, const struct plan *plan)
{
    struct device_model *model;
    struct llcuda_error error;
    assert_ok(device_model_load(device, plan, &model_options, NULL, &model, &error), error);
    return model;
}

/* `vocabulary` 0: any. */
static struct toy *make_toy_of(uint32_t vocabulary)
{
    struct toy_options options = toy_random_options();
    options.layers = LAYERS;
    options.dtype = DTYPE_F32;
    options.vocabulary = vocabulary ? vocabulary : options.vocabulary;
    return toy_create(&options);
}

static struct toy *make_toy(void)
{
    return make_toy_of(0);
}

static void random_tokens(uint32_t *tokens, uint32_t count, uint32_t vocabulary)
{
    for (uint32_t i = 0; i < count; i++) {
        tokens[i] = (uint32_t)test_random_below(vocabulary);
    }
}

/* --- parts on the CPU ------------------------------------------------------------------------- */

/* The same rows through both parts. */
static void step_in_two(struct device_model *const parts[2], const struct step_batch *batch,
                        const float **logits)
{
    struct llcuda_error error;
    struct step_batch part = *batch;
    part.logits_count = 0;
    assert_ok(device_step(parts[0], &part, logits, &error), error);
    part = *batch;
    part.residual = device_residual(parts[0], &part.residual_stride);
    assert_ok(device_step(parts[1], &part, logits, &error), error);
}

static void check_parts(const struct toy *toy, uint32_t cut)
{
    static struct toy_batch batch;
    uint32_t tokens[LENGTH];
    struct llcuda_error error;
    struct device *device = toy_device(cpu_level_detect(), 2);
    struct plan *plans[2];
    assert_ok(plan_cut(toy->plan, cut, &plans[0], &plans[1], &error), error);
    assert_int_equal(plans[0]->layer_count, cut);
    assert_int_equal(plans[1]->layer_count, LAYERS - cut);
    struct device_model *whole = load(device, toy->plan);
    struct device_model *parts[2] = {load(device, plans[0]), load(device, plans[1])};
    random_tokens(tokens, LENGTH, toy->options.vocabulary);
    toy_batch_init(&batch, 2, BLOCKS);
    for (uint32_t begin = 0; begin < LENGTH;) {
        uint32_t rows = 1 + (uint32_t)test_random_below(LENGTH - begin);
        uint64_t bytes = (uint64_t)rows * toy->options.vocabulary * sizeof(float);
        float *expected = malloc(bytes);
        const float *logits;
        assert_non_null(expected);
        toy_batch_clear(&batch);
        toy_batch_add(&batch, 1, tokens, begin, rows);
        assert_ok(device_step(whole, &batch.batch, &logits, &error), error);
        memcpy(expected, logits, bytes);
        step_in_two(parts, &batch.batch, &logits);
        assert_memory_equal(logits, expected, bytes);
        free(expected);
        begin += rows;
    }
    /* A part cannot be run as if it were a whole. */
    const float *ignored;
    toy_batch_clear(&batch);
    toy_batch_add(&batch, 1, tokens, 0, 1);
    assert_int_equal(device_step(parts[0], &batch.batch, &ignored, &error),
                     LLCUDA_INVALID_ARGUMENT);
    assert_int_equal(device_step(parts[1], &batch.batch, &ignored, &error),
                     LLCUDA_INVALID_ARGUMENT);
    assert_non_null(strstr(error.message, "residual"));
    device_model_unload(parts[0]);
    device_model_unload(parts[1]);
    device_model_unload(whole);
    device_close(device);
    plan_destroy(plans[0]);
    plan_destroy(plans[1]);
}

static void parts_give_the_bits_of_the_whole(void **state)
{
    (void)state;
    for (uint32_t cut = 1; cut < LAYERS; cut++) {
        struct toy *toy = make_toy();
        check_parts(toy, cut);
        toy_destroy(toy);
    }
}

/* --- two devices ------------------------------------------------------------------------------ */

/* Two sequences: one in chunks, the other row by row beside it. */
static void run_both(struct device_model *model, const uint32_t *tokens, float *out)
{
    static struct toy_batch batch;
    struct llcuda_error error;
    uint64_t width = model->plan->vocabulary_size;
    toy_batch_init(&batch, 2, BLOCKS);
    for (uint32_t begin = 0, single = 0; begin < LENGTH; single++) {
        uint32_t rows = 1 + (uint32_t)test_random_below(20);
        rows = rows < LENGTH - begin ? rows : LENGTH - begin;
        const float *logits;
        toy_batch_clear(&batch);
        toy_batch_add(&batch, 0, tokens, begin, rows);
        toy_batch_add(&batch, 1, tokens, single, 1);
        assert_ok(device_step(model, &batch.batch, &logits, &error), error);
        memcpy(out + begin * width, logits, rows * width * sizeof *out);
        assert_true(toy_distance(logits + rows * width, out + single * width, width) < 1e-4);
        begin += rows;
    }
}

static void shared_layers_agree_with_the_plain_forward_pass(void **state)
{
    (void)state;
    for (uint32_t layers = 0; layers <= LAYERS; layers++) {
        uint32_t tokens[LENGTH];
        struct shared shared;
        struct toy *toy = make_toy();
        uint64_t count = (uint64_t)LENGTH * toy->options.vocabulary;
        float *logits = malloc(count * sizeof *logits);
        assert_non_null(logits);
        random_tokens(tokens, LENGTH, toy->options.vocabulary);
        shared_open(&shared, layers, 0);
        struct device_model *model = load(shared.device, toy->plan);
        assert_int_equal(device_gpu_layers(model), layers);
        run_both(model, tokens, logits);
        float *expected = toy_forward(toy, tokens, LENGTH);
        double distance = toy_distance(logits, expected, count);
        if (!(distance < 1e-5)) {
            fail_msg("%u layers on the GPU: distance %g", layers, distance);
        }
        free(expected);
        free(logits);
        device_model_unload(model);
        shared_close(&shared);
        toy_destroy(toy);
    }
}

/* Greedy tokens and hidden states come from the side that has the logits. */
static void check_last_side(uint32_t vocabulary)
{
    static struct toy_batch batch;
    static const uint32_t rows[] = {3, 6};
    uint32_t tokens[7];
    struct shared shared;
    struct llcuda_error error;
    struct toy *toy = make_toy_of(vocabulary);
    uint32_t width = toy->options.vocabulary;
    const float *logits;
    uint64_t stride = 0;
    random_tokens(tokens, 7, width);
    shared_open(&shared, 2, 0);
    struct device_model *model = load(shared.device, toy->plan);
    toy_batch_init(&batch, 1, BLOCKS);
    toy_batch_add(&batch, 0, tokens, 0, 7);
    assert_ok(device_step(model, &batch.batch, &logits, &error), error);
    uint32_t best = 0;
    for (uint32_t i = 0; i < width; i++) {
        best = logits[6 * (uint64_t)width + i] > logits[6 * (uint64_t)width + best] ? i : best;
    }
    assert_null(device_chosen(model));
    batch.batch.choose = true;
    batch.batch.hidden_count = 2;
    batch.batch.hidden_rows = rows;
    assert_true(device_runs_ahead(model));
    assert_ok(device_step_begin(model, &batch.batch, &error), error);
    assert_ok(device_step_end(model, &logits, &error), error);
    const uint32_t *chosen = device_chosen(model);
    assert_true(chosen && chosen[6] == best);
    const float *hidden = device_hidden(model, &stride);
    assert_true(stride >= toy->options.embedding);
    assert_true(hidden && hidden[0] != 0 && hidden[stride] != 0);
    assert_true(device_samples(model));
    device_model_unload(model);
    shared_close(&shared);
    toy_destroy(toy);
}

/* Also of vocabularies smaller than the slices that the choice is made in. */
static void tokens_and_hidden_states_come_from_the_last_side(void **state)
{
    (void)state;
    check_last_side(3);
    check_last_side(10);
    check_last_side(200);
}

/* A sequence goes on from copies of another's blocks, as after a fork: the same bits, so that both
 * sides have copied theirs. */
static void blocks_are_copied_on_both_sides(void **state)
{
    (void)state;
    static struct toy_batch batch;
    uint32_t tokens[21];
    struct shared shared;
    struct llcuda_error error;
    struct toy *toy = make_toy();
    uint32_t width = toy->options.vocabulary;
    const float *logits;
    random_tokens(tokens, 21, width);
    shared_open(&shared, 2, 0);
    struct device_model *model = load(shared.device, toy->plan);
    toy_batch_init(&batch, 2, BLOCKS);
    toy_batch_add(&batch, 0, tokens, 0, 20);
    assert_ok(device_step(model, &batch.batch, &logits, &error), error);
    assert_ok(device_copy_blocks(model, batch.tables, batch.tables + TOY_TABLE_STRIDE, 2, &error),
              error);
    float *expected = malloc(width * sizeof *expected);
    assert_non_null(expected);
    for (uint32_t sequence = 0; sequence < 2; sequence++) {
        toy_batch_clear(&batch);
        toy_batch_add(&batch, sequence, tokens, 20, 1);
        assert_ok(device_step(model, &batch.batch, &logits, &error), error);
        if (sequence == 0) {
            memcpy(expected, logits, width * sizeof *expected);
        }
    }
    assert_memory_equal(logits, expected, width * sizeof *expected);
    free(expected);
    const uint32_t none = BLOCKS;
    assert_int_equal(device_copy_blocks(model, &none, batch.tables, 1, &error),
                     LLCUDA_INVALID_ARGUMENT);
    device_model_unload(model);
    shared_close(&shared);
    toy_destroy(toy);
}

/* --- how many layers -------------------------------------------------------------------------- */

/* With room for exactly so many layers as device_place says they take, and with a byte less. */
static void auto_takes_what_fits(void **state)
{
    (void)state;
    struct llcuda_error error;
    struct toy *toy = make_toy();
    for (uint32_t layers = 1; layers <= LAYERS; layers++) {
        struct device_part parts[DEVICE_PARTS_MAX];
        struct shared shared;
        uint32_t count;
        shared_open(&shared, layers, 0);
        assert_ok(device_place(shared.device, toy->plan, &model_options, parts, &count, &error),
                  error);
        shared_close(&shared);
        assert_int_equal(count, layers < LAYERS ? 2 : 1);
        assert_int_equal(parts[count - 1].layer_begin, LAYERS - layers);
        assert_int_equal(parts[count - 1].layer_end, LAYERS);
        assert_true(parts[count - 1].gives_logits);
        assert_true(parts[0].embeds);
        uint64_t need = device_part_bytes(&parts[count - 1]);
        for (uint32_t less = 0; less < 2; less++) {
            shared_open(&shared, SPLIT_AUTO, need - less);
            assert_ok(device_place(shared.device, toy->plan, &model_options, parts, &count, &error),
                      error);
            bool is_gpu = strcmp(parts[count - 1].kind, "cpu") != 0;
            assert_int_equal(is_gpu ? LAYERS - parts[count - 1].layer_begin : 0, layers - less);
            struct device_model *model = load(shared.device, toy->plan);
            assert_int_equal(device_gpu_layers(model), layers - less);
            device_model_unload(model);
            shared_close(&shared);
        }
    }
    toy_destroy(toy);
}

/* What was counted before is what the loaded model holds, on both sides together. */
static void counts_are_what_is_held(void **state)
{
    (void)state;
    struct llcuda_error error;
    struct toy *toy = make_toy();
    for (uint32_t layers = 0; layers <= LAYERS; layers += 2) {
        struct device_part parts[DEVICE_PARTS_MAX];
        struct shared shared;
        uint32_t count;
        shared_open(&shared, layers, 0);
        assert_ok(device_place(shared.device, toy->plan, &model_options, parts, &count, &error),
                  error);
        struct device_model *model = load(shared.device, toy->plan);
        uint64_t counted = 0;
        struct device_memory memory;
        uint64_t cache = 0;
        for (uint32_t i = 0; i < count; i++) {
            counted += device_part_bytes(&parts[i]);
            cache += parts[i].bytes[DEVICE_MEMORY_CACHE];
        }
        device_model_memory(model, &memory);
        assert_true(memory.bytes[DEVICE_MEMORY_CACHE] >= cache);
        assert_true(memory.bytes[DEVICE_MEMORY_CACHE] <= cache + 4096);
        assert_int_equal(memory.limit_bytes, 0);
        uint64_t held = device_model_memory_bytes(model);
        /* The CPU maps whole pages, the GPU's rotary frequencies are small. */
        assert_true(held + 4096 >= counted);
        assert_true(held <= counted + 64 * 4096 + 4 * (2 << 20));
        device_model_unload(model);
        shared_close(&shared);
    }
    toy_destroy(toy);
}

/* --- failures --------------------------------------------------------------------------------- */

static llcuda_status one_life(struct shared *shared, const struct toy *toy, struct toy_batch *batch,
                              const uint32_t *tokens, struct llcuda_error *error)
{
    struct device_model *model = NULL;
    const float *logits;
    const uint32_t from = 1;
    const uint32_t to = 2;
    llcuda_status status =
        device_model_load(shared->device, toy->plan, &model_options, NULL, &model, error);
    for (uint32_t i = 0; i < 3 && status == LLCUDA_OK; i++) {
        toy_batch_clear(batch);
        toy_batch_add(batch, 0, tokens, i, 1);
        status = device_step(model, &batch->batch, &logits, error);
    }
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
    uint32_t tokens[4];
    struct toy_options options = toy_defaults();
    struct toy *toy = toy_create(&options);
    uint32_t failures[2] = {0};
    random_tokens(tokens, 4, options.vocabulary);
    toy_batch_init(&batch, 1, BLOCKS);
    for (int allocation = 0; allocation < 2; allocation++) {
        bool finished = false;
        for (uint64_t at = 1; !finished; at++) {
            struct shared shared;
            struct llcuda_error error;
            shared_open(&shared, 1, 0);
            uint64_t *counter = allocation ? &shared.faults.allocations : &shared.faults.calls;
            uint64_t last = *counter + at;
            *(allocation ? &shared.faults.fail_alloc_at : &shared.faults.fail_at) = last;
            llcuda_status status = one_life(&shared, toy, &batch, tokens, &error);
            finished = *counter < last;
            if (status != LLCUDA_OK) {
                assert_int_equal(status, allocation ? LLCUDA_OUT_OF_MEMORY : LLCUDA_DEVICE);
                failures[allocation]++;
            }
            shared_close(&shared);
        }
    }
    assert_true(failures[0] > 50);
    assert_true(failures[1] > 10);
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
    struct shared shared;
    struct llcuda_error error;
    const float *logits;
    shared_open(&shared, 1, 0);
    struct device_model *model = load(shared.device, toy->plan);
    toy_batch_init(&batch, 1, BLOCKS);
    toy_batch_add(&batch, 0, tokens, 0, 4);
    shared.faults.hang = true;
    assert_int_equal(device_step(model, &batch.batch, &logits, &error), LLCUDA_DEVICE);
    assert_non_null(strstr(error.message, "stopped answering"));
    device_model_unload(model);
    shared_close(&shared);
    toy_destroy(toy);
}

static bool count_report(void *user, uint64_t done_bytes, uint64_t total_bytes)
{
    uint64_t *last = user;
    assert_true(done_bytes >= last[0] && done_bytes <= total_bytes);
    last[0] = done_bytes;
    last[1] = total_bytes;
    return ++last[2] < last[3];
}

/* Progress goes up over both parts to its end, and cancels either. */
static void progress_goes_over_both_parts(void **state)
{
    (void)state;
    struct toy *toy = make_toy();
    struct llcuda_error error;
    struct device_model *model = NULL;
    uint64_t seen[4] = {0, 0, 0, UINT64_MAX};
    const struct device_progress progress = {count_report, seen};
    struct shared shared;
    shared_open(&shared, 2, 0);
    assert_ok(
        device_model_load(shared.device, toy->plan, &model_options, &progress, &model, &error),
        error);
    device_model_unload(model);
    assert_int_equal(seen[0], seen[1]);
    uint64_t reports = seen[2];
    for (uint64_t stop = 1; stop <= reports; stop++) {
        uint64_t again[4] = {0, 0, 0, stop};
        const struct device_progress cancelling = {count_report, again};
        assert_int_equal(device_model_load(shared.device, toy->plan, &model_options, &cancelling,
                                           &model, &error),
                         LLCUDA_CANCELLED);
    }
    shared_close(&shared);
    toy_destroy(toy);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(parts_give_the_bits_of_the_whole),
    cmocka_unit_test(shared_layers_agree_with_the_plain_forward_pass),
    cmocka_unit_test(tokens_and_hidden_states_come_from_the_last_side),
    cmocka_unit_test(blocks_are_copied_on_both_sides),
    cmocka_unit_test(auto_takes_what_fits),
    cmocka_unit_test(counts_are_what_is_held),
    cmocka_unit_test(every_failing_call_leaks_nothing),
    cmocka_unit_test(hang_is_a_status),
    cmocka_unit_test(progress_goes_over_both_parts),
};

TEST_MAIN(tests)
