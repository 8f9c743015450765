/* The profile of the GPU device, on the emulated driver or a GPU: what it counts, and that steps do
 * not change under it. */
#include "base/json.h"
#include "bench/local_operations.h"
#include "bench/operations.h"
#include "cpu/toy.h"
#include "gpu/model.h"
#include "gpu_support.h"

#define BLOCKS 16u
#define ROWS   20u /* many enough for kernels of many rows */

struct fixture {
    struct gpu_faults faults;
    struct device *device;
    struct toy *toy;
    struct device_model *model;
};

static llcuda_status load(struct fixture *fixture, struct llcuda_error *error)
{
    const struct device_model_options options = {
        .kv_block_count = BLOCKS, .kv_dtype = DTYPE_F16, .rows_max = 32, .logits_rows_max = 32};
    return device_model_load(fixture->device, fixture->toy->plan, &options, NULL, &fixture->model,
                             error);
}

static void open_fixture(struct fixture *fixture)
{
    struct llcuda_error error;
    *fixture = (struct fixture){0};
    struct toy_options toy = toy_defaults();
    toy.dtype = DTYPE_F16;
    const struct gpu_device_options options = {.cache = KERNEL_CACHE};
    fixture->toy = toy_create(&toy);
    assert_ok(
        gpu_device_open(gpu_test_driver(&fixture->faults), &options, &fixture->device, &error),
        error);
    assert_ok(load(fixture, &error), error);
}

static void close_fixture(struct fixture *fixture)
{
    device_model_unload(fixture->model);
    device_close(fixture->device);
    toy_destroy(fixture->toy);
    assert_int_equal(fixture->faults.live_allocations, 0);
    assert_int_equal(fixture->faults.live_objects, 0);
}

/* Rows [begin, begin + count) of one sequence; the logits of all. */
static llcuda_status step(struct fixture *fixture, struct toy_batch *batch, uint32_t begin,
                          uint32_t count, float *out, struct llcuda_error *error)
{
    static const uint32_t tokens[ROWS + 8] = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7,
                                              9, 3, 2, 3, 8, 4, 6, 2, 6, 4, 3, 3, 8, 3};
    const float *logits;
    toy_batch_clear(batch);
    toy_batch_add(batch, 0, tokens, begin, count);
    llcuda_status status = device_step(fixture->model, &batch->batch, &logits, error);
    if (status == LLCUDA_OK) {
        memcpy(out, logits, (uint64_t)count * fixture->toy->plan->vocabulary_size * sizeof *out);
    }
    return status;
}

/* A prompt and four tokens. */
static void steps(struct fixture *fixture, float *out)
{
    static struct toy_batch batch;
    struct llcuda_error error;
    uint64_t width = fixture->toy->plan->vocabulary_size;
    toy_batch_init(&batch, 1, BLOCKS);
    assert_ok(step(fixture, &batch, 0, ROWS, out, &error), error);
    for (uint32_t i = 0; i < 4; i++) {
        assert_ok(step(fixture, &batch, ROWS + i, 1, out + (ROWS + i) * width, &error), error);
    }
}

static void results_stay(void **state)
{
    (void)state;
    struct fixture fixture;
    open_fixture(&fixture);
    uint64_t bytes = (ROWS + 4ull) * fixture.toy->plan->vocabulary_size * sizeof(float);
    float *plain = malloc(bytes);
    float *profiled = malloc(bytes);
    steps(&fixture, plain);
    assert_int_equal(device_profile(fixture.model, NULL, 0), 0);
    steps(&fixture, profiled);
    assert_memory_equal(plain, profiled, bytes);
    free(plain);
    free(profiled);
    close_fixture(&fixture);
}

static const struct device_profile_row *row_of(const struct device_profile_row *rows,
                                               uint32_t count, const char *name)
{
    uint32_t i = 0;
    while (i < count && strcmp(rows[i].operation, name) != 0) {
        i++;
    }
    if (i == count) {
        fail_msg("no row of %s", name);
    }
    return &rows[i];
}

static void rows_say_what_ran(void **state)
{
    (void)state;
    gpu_test_needs_emulation();
    static struct toy_batch batch;
    struct device_profile_row rows[64];
    struct device_profile_kernel kernels[64];
    struct device_profile_steps whole;
    struct llcuda_error error;
    float logits[128];
    struct fixture fixture;
    open_fixture(&fixture);
    const struct plan *plan = fixture.toy->plan;
    toy_batch_init(&batch, 1, BLOCKS);
    uint64_t launches = fixture.faults.launches;
    assert_ok(step(&fixture, &batch, 0, 1, logits, &error), error);
    launches = fixture.faults.launches - launches;
    assert_int_equal(device_profile_kernels(fixture.model, &whole, kernels, 64), 0);
    device_profile(fixture.model, NULL, 0);
    for (uint32_t i = 1; i < 4; i++) {
        assert_ok(step(&fixture, &batch, i, 1, logits, &error), error);
    }
    uint32_t kernel_count = device_profile_kernels(fixture.model, &whole, kernels, 64);
    uint32_t count = device_profile(fixture.model, rows, 64);
    assert_int_equal(whole.step_count, 3);
    assert_int_equal(whole.launches, 3 * launches);
    assert_true(whole.has_graphs && whole.graph_ns > 0 && whole.plain_ns > 0);
    assert_true(whole.plan_operations > whole.launches); /* kernels are fused */
    /* Both tables hold all time and all launches. */
    uint64_t ns[2] = {0};
    uint64_t of_kernels = 0;
    for (uint32_t i = 0; i < count; i++) {
        ns[0] += rows[i].ns;
    }
    for (uint32_t i = 0; i < kernel_count; i++) {
        ns[1] += kernels[i].ns;
        of_kernels += kernels[i].launches;
        assert_true(kernels[i].is_known && kernels[i].threads > 0 && kernels[i].blocks > 0);
        assert_true(kernels[i].blocks_resident > 0);
        assert_true(kernels[i].occupancy > 0 && kernels[i].occupancy <= 1);
        assert_null(strstr(kernels[i].kernel, "another"));
    }
    assert_int_equal(ns[0], whole.kernel_ns);
    assert_int_equal(ns[1], whole.kernel_ns);
    assert_int_equal(of_kernels, whole.launches);
    /* Three steps of two layers; what they read and multiply follows from the shapes. */
    const struct device_profile_row *down = row_of(rows, count, "down");
    assert_int_equal(down->count, 6);
    assert_int_equal(down->dtype, DTYPE_F16);
    assert_int_equal(down->bytes, 6 * 96 * 64 * 2);
    assert_int_equal(down->operations, 6 * 96 * 64 * 2);
    const struct device_profile_row *attention = row_of(rows, count, "attention");
    /* Positions 1, 2, 3 see 2, 3 and 4; two layers, two heads of 16, keys and values of halves. */
    assert_int_equal(attention->bytes, (2 + 3 + 4) * 2 * 2 * 16 * 2 * 2);
    assert_int_equal(attention->operations, (2 + 3 + 4) * 2 * 4 * 4 * 16);
    assert_int_equal(row_of(rows, count, "logits")->count, 3);
    assert_int_equal(row_of(rows, count, "logits")->operations,
                     3ull * 2 * plan->vocabulary_size * 64);
    /* Memory is the model's. */
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < whole.memory_count; i++) {
        bytes += whole.memory[i].bytes;
    }
    assert_int_equal(bytes, device_model_memory_bytes(fixture.model));
    /* And the next profile begins anew. */
    assert_int_equal(device_profile(fixture.model, rows, 64), 0);
    close_fixture(&fixture);
}

/* The kernel that chooses has a row of its own, and chooses the same. */
static void choosing_has_a_row(void **state)
{
    (void)state;
    static struct toy_batch batch;
    static const uint32_t token = 3;
    uint32_t chosen[2];
    struct device_profile_row rows[64];
    struct llcuda_error error;
    struct fixture fixture;
    open_fixture(&fixture);
    toy_batch_init(&batch, 1, BLOCKS);
    for (int profiled = 0; profiled < 2; profiled++) {
        const float *logits;
        toy_batch_clear(&batch);
        toy_batch_add(&batch, 0, &token, 0, 1);
        batch.batch.choose = true;
        assert_ok(device_step(fixture.model, &batch.batch, &logits, &error), error);
        const uint32_t *ids = device_chosen(fixture.model);
        assert_non_null(ids);
        chosen[profiled] = ids ? *ids : 0;
        if (!profiled) {
            device_profile(fixture.model, NULL, 0);
        }
    }
    uint32_t count = device_profile(fixture.model, rows, 64);
    assert_int_equal(row_of(rows, count, "choose")->count, 1);
    assert_int_equal(chosen[0], chosen[1]);
    close_fixture(&fixture);
}

/* As `bench --mode kernels` prints it: the kernels' times are the stages', and so are the launches.
 */
static void kernels_are_printed(void **state)
{
    (void)state;
    static uint32_t blocks[BLOCKS];
    const struct device_ceilings ceilings = {.read_bytes_per_second = 1e9, .flop_per_second = 1e9};
    const struct local_options options = {
        .prompts = {{0}, 1}, .generations = {{2}, 1}, .depths = {{5}, 1}, .repeats = 1};
    struct fixture fixture;
    struct buffer out = {0};
    struct json_document *document;
    struct llcuda_error error;
    open_fixture(&fixture);
    for (uint32_t i = 0; i < BLOCKS; i++) {
        blocks[i] = i;
    }
    assert_ok(local_kernels(fixture.model, blocks, &ceilings, &options, true, &out, &error), error);
    assert_ok(json_parse(buffer_view(&out), NULL, &document, &error), error);
    uint32_t profiles = 0;
    JSON_EACH(profile, json_member(json_root(document), "profiles"))
    {
        double wanted[2] = {0};
        double sums[2] = {0};
        profiles++;
        json_number(json_member(profile, "ns"), &wanted[0]);
        json_number(json_member(json_member(profile, "steps"), "launches"), &wanted[1]);
        JSON_EACH(kernel, json_member(profile, "kernels"))
        {
            double ns = 0;
            double launches = 0;
            json_number(json_member(kernel, "ns"), &ns);
            json_number(json_member(kernel, "launches"), &launches);
            sums[0] += ns;
            sums[1] += launches;
        }
        assert_true(wanted[0] > 0 && wanted[1] > 0);
        assert_true(fabs(sums[0] - wanted[0]) < 0.5); /* whole numbers */
        assert_true(fabs(sums[1] - wanted[1]) < 0.5);
    }
    assert_int_equal(profiles, 1);
    json_destroy(document);
    buffer_deinit(&out);
    close_fixture(&fixture);
}

static double told_ns(const struct operation_answer *answer, enum operation_test test)
{
    double sum = 0;
    for (int o = 0; o < OPERATION_OTHER; o++) {
        sum += answer->tests[test].operations[o].ns;
    }
    return sum;
}

/* Kernels in the words that engines share: what one does for another stage is said, and nothing of
 * the steps is lost. */
static void kernels_have_shared_words(void **state)
{
    (void)state;
    gpu_test_needs_emulation();
    static uint32_t blocks[BLOCKS];
    static struct operation_answer told;
    const struct config_analysis asked = {
        .profile_prompt = 12, .profile_generate = 2, .profile_depth = 5};
    const struct local_options options = {.repeats = 1, .greedy = true};
    struct local_tests tests;
    struct fixture fixture;
    struct buffer request = {0};
    struct buffer out = {0};
    struct json_document *asking;
    struct json_document *answer;
    struct llcuda_error error;
    open_fixture(&fixture);
    for (uint32_t i = 0; i < BLOCKS; i++) {
        blocks[i] = i;
    }
    operations_request(&asked, &request);
    assert_ok(json_parse(buffer_view(&request), NULL, &asking, &error), error);
    assert_ok(local_tests_read(json_root(asking), &tests, &error), error);
    assert_int_equal(tests.positions, 12);
    struct json_writer writer;
    json_writer_init(&writer, &out, 0);
    json_begin_object(&writer);
    json_key(&writer, "tests");
    assert_ok(local_operations(fixture.model, blocks, &options, &tests, &writer, &error), error);
    json_end_object(&writer);
    assert_ok(json_parse(buffer_view(&out), NULL, &answer, &error), error);
    assert_ok(operations_read(json_root(answer), &asked, &told, &error), error);
    for (int t = 0; t < OPERATION_TEST_COUNT; t++) {
        static const enum operation always[] = {
            OPERATION_EMBED,   OPERATION_QKV,  OPERATION_ATTENTION, OPERATION_OUTPUT,
            OPERATION_GATE_UP, OPERATION_DOWN, OPERATION_LOGITS,    OPERATION_SAMPLING};
        const struct operation_time *operations = told.tests[t].operations;
        for (size_t i = 0; i < sizeof always / sizeof always[0]; i++) {
            assert_true(operations[always[i]].ns > 0);
        }
        /* Every kernel has a word, but for the one that moves rows together behind a prompt. */
        assert_int_equal(operations[OPERATION_OTHER].times, t == OPERATION_PROMPT);
        assert_true(told_ns(&told, (enum operation_test)t) <= told.tests[t].ns);
    }
    const struct operation_time *attention =
        &told.tests[OPERATION_GENERATE].operations[OPERATION_ATTENTION];
    assert_int_equal(attention->with, 1u << OPERATION_ROTARY | 1u << OPERATION_CACHE);
    attention = &told.tests[OPERATION_PROMPT].operations[OPERATION_ATTENTION];
    assert_int_equal(attention->with, 0);
    assert_int_equal(told.tests[OPERATION_PROMPT].operations[OPERATION_ROTARY].with,
                     1u << OPERATION_CACHE);
    json_destroy(asking);
    json_destroy(answer);
    buffer_deinit(&request);
    buffer_deinit(&out);
    close_fixture(&fixture);
}

/* Any call that fails ends the step with its status, and all is given back. */
static void failures_leak_nothing(void **state)
{
    (void)state;
    gpu_test_needs_emulation();
    static struct toy_batch batch;
    struct llcuda_error error;
    float logits[128];
    bool failed = true;
    for (uint64_t at = 1; failed; at += 7) {
        struct fixture fixture;
        open_fixture(&fixture);
        toy_batch_init(&batch, 1, BLOCKS);
        device_profile(fixture.model, NULL, 0);
        fixture.faults.fail_at = fixture.faults.calls + at;
        failed = step(&fixture, &batch, 0, 1, logits, &error) != LLCUDA_OK;
        fixture.faults.fail_at = 0;
        close_fixture(&fixture);
        assert_true(at < 2000);
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(results_stay),
    cmocka_unit_test(rows_say_what_ran),
    cmocka_unit_test(choosing_has_a_row),
    cmocka_unit_test(kernels_are_printed),
    cmocka_unit_test(kernels_have_shared_words),
    cmocka_unit_test(failures_leak_nothing),
};

TEST_MAIN(tests)
