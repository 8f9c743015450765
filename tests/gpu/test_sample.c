/* Sampling on the device against the host's sampler: the same settings, histories and logits give
 * the same tokens, log-probabilities and failures, and a row's token does not depend on the rows
 * beside it. Runs the launches of gpu/sample.c over logits that the test makes. */
#include "gpu_support.h"

#include "engine/sampler_step.h"
#include "gpu/model.h"

#define ROWS    32u
#define HISTORY 64u
#define WIDTHS  6u
#define FEW     5u
#define SMALL   150u
#define MEDIUM  1000u

static const uint32_t widths[WIDTHS] = {1, 63, 64, 150, 1000, 4101};

struct bench {
    struct gpu_driver *driver;
    struct gpu_jit *jit;
    struct gpu_module *module;
    struct gpu_device device;
    struct plan plan;
    struct gpu_model model;
    struct gpu_faults faults;
    uint64_t addresses[8];
    uint32_t address_count;
};

static uint64_t take(struct bench *bench, uint64_t bytes)
{
    struct llcuda_error error;
    uint64_t address = 0;
    assert_ok(bench->driver->memory_alloc(bench->driver, bytes, &address, &error), error);
    bench->addresses[bench->address_count++] = address;
    return address;
}

static void *pinned(struct bench *bench, uint64_t bytes)
{
    struct llcuda_error error;
    void *memory = NULL;
    assert_ok(bench->driver->host_alloc(bench->driver, bytes, &memory, &error), error);
    return memory;
}

static void load_kernels(struct bench *bench)
{
    static const char *const files[] = {"arguments_sample.h", "sample_select.cuh", "sample.cu"};
    static const char *const names[] = {"sample_edit", "sample_scan", "sample_draw",
                                        "sample_logprobs"};
    const struct gpu_jit_options options = {.cache = KERNEL_CACHE};
    const struct gpu_jit_module module = {
        .name = "sample",
        .prelude = text_view_of("#define KERNEL_POINTER(type) type *\n"),
        .files = files,
        .file_count = sizeof files / sizeof *files,
    };
    struct llcuda_error error;
    assert_ok(gpu_jit_create(bench->driver, &options, &bench->jit, &error), error);
    assert_ok(gpu_jit_load(bench->jit, &module, &bench->module, &error), error);
    for (int i = 0; i < 4; i++) {
        struct gpu_function **function =
            &bench->model.program.functions[GPU_KERNEL_SAMPLE_EDIT + i];
        assert_ok(
            bench->driver->function_get(bench->driver, bench->module, names[i], function, &error),
            error);
    }
}

/* A model of nothing but its vocabulary, and the memory that sampling uses. */
static void bench_open(struct bench *bench, uint32_t width)
{
    struct llcuda_error error;
    *bench = (struct bench){.plan = {.vocabulary_size = width}};
    struct gpu_model *model = &bench->model;
    const struct gpu_open_options emulated = {.faults = &bench->faults};
    const struct gpu_open_options real = {.library_path = getenv("LLCUDA_CUDA_PATH")};
    if (gpu_bench_is_emulated()) {
        assert_ok(gpu_driver_open_emu(&emulated, &bench->driver, &error), error);
    } else {
        assert_ok(gpu_driver_open_cuda(&real, &bench->driver, &error), error);
    }
    model->driver = bench->driver;
    model->device = &bench->device;
    model->base.plan = &bench->plan;
    model->base.options = (struct device_model_options){.rows_max = ROWS, .logits_rows_max = ROWS};
    assert_ok(bench->driver->stream_create(bench->driver, &model->stream, &error), error);
    load_kernels(bench);
    model->step_bytes = (1u << 20) + ROWS * (width / 8ull + 64);
    model->staging = pinned(bench, model->step_bytes);
    model->chosen = pinned(bench, ROWS * sizeof(uint32_t));
    model->logits = pinned(bench, ROWS * width * sizeof(float));
    model->buffers.step = take(bench, model->step_bytes);
    model->buffers.logits = take(bench, ROWS * width * sizeof(float));
    model->buffers.choices = take(bench, gpu_choices_bytes(ROWS));
    model->buffers.sampling = take(bench, gpu_sample_scratch_bytes(&bench->plan, ROWS));
}

static void bench_close(struct bench *bench)
{
    struct gpu_driver *driver = bench->driver;
    struct gpu_model *model = &bench->model;
    driver->host_free(driver, model->staging);
    driver->host_free(driver, model->chosen);
    driver->host_free(driver, model->logits);
    driver->host_free(driver, model->logprobs);
    for (uint32_t i = 0; i < bench->address_count; i++) {
        driver->memory_free(driver, bench->addresses[i]);
    }
    driver->stream_destroy(driver, model->stream);
    driver->module_unload(driver, bench->module);
    gpu_jit_destroy(bench->jit);
    driver->close(driver);
    assert_int_equal(bench->faults.live_allocations, 0);
    assert_int_equal(bench->faults.live_objects, 0);
}

/* Draws a token for each of `count` rows; they are in model.chosen. */
static void draw(struct bench *bench, const float *logits, const struct step_sampling *samplings,
                 uint32_t count)
{
    struct llcuda_error error;
    struct gpu_model *model = &bench->model;
    struct gpu_driver *driver = bench->driver;
    const struct step_batch batch = {.logits_count = count, .sampling = samplings};
    model->shape = (struct gpu_step_shape){.logits_rows = ROWS, .samples = 1};
    gpu_step_layout_of(&model->shape, &model->layout);
    struct step_state state = {.logits_count = count};
    memcpy(model->staging + model->layout.state, &state, sizeof state);
    uint64_t bytes = gpu_sample_fill(model, &batch, model->layout.block_tables);
    assert_true(bytes <= model->layout.block_tables + gpu_sample_step_bytes(model, &batch));
    assert_true(bytes <= model->step_bytes);
    memset(model->chosen, 0xA5, ROWS * sizeof(uint32_t));
    assert_ok(
        driver->copy_in(driver, model->stream, model->buffers.step, model->staging, bytes, &error),
        error);
    assert_ok(driver->copy_in(driver, model->stream, model->buffers.logits, logits,
                              (uint64_t)count * bench->plan.vocabulary_size * sizeof(float),
                              &error),
              error);
    assert_ok(gpu_sample_launch(model, &error), error);
    assert_ok(gpu_sample_copy(model, &batch, &error), error);
    assert_ok(driver->stream_wait(driver, model->stream, 10000, &error), error);
}

/* --- random settings ------------------------------------------------------------------------- */

/* A choice with its history, and room for its edits. */
struct row {
    struct sampler_params params;
    struct sampler sampler;
    struct arena arena;
    uint32_t tokens[HISTORY];
    uint32_t known, prompt_count;
    struct llcuda_logit_bias bias[8];
    uint32_t ends[2];
    struct step_edit edits[256];
    struct step_sampling sampling;
};

static double uniform(void)
{
    return (double)(test_random() >> 11) * 0x1p-53;
}

static double chance(double value, double neutral)
{
    return test_random_below(2) ? value : neutral;
}

static void random_params(struct row *row, uint32_t width)
{
    struct sampler_params *p = &row->params;
    *p = (struct sampler_params){
        .vocabulary_size = width,
        .temperature = test_random_below(6) == 0 ? 0 : 0.2 + uniform() * 1.5,
        .top_p = chance(0.05 + 0.95 * uniform(), 1),
        .typical_p = test_random_below(4) == 0 ? 0.05 + 0.95 * uniform() : 1,
        .min_p = test_random_below(3) == 0 ? uniform() * 0.4 : 0,
        .top_k = test_random_below(2) ? (uint32_t)(1 + test_random_below(80)) : 0,
        .repetition_penalty = chance(0.7 + uniform(), 1),
        .presence_penalty = chance(uniform() * 2, 0),
        .frequency_penalty = chance(uniform(), 0),
        .dry_multiplier = test_random_below(3) == 0 ? 0.8 : 0,
        .dry_base = 1.75,
        .dry_allowed_length = 1,
        .penalty_window = test_random_below(2) ? (uint32_t)(1 + test_random_below(40)) : 0,
        .logprobs = test_random_below(3) == 0,
    };
    p->top_logprobs = p->logprobs ? (uint32_t)test_random_below(21) : 0;
    p->bias = row->bias;
    p->bias_count = test_random_below(2) ? (uint32_t)test_random_below(width < 8 ? width : 8) : 0;
    for (uint32_t i = 0; i < p->bias_count; i++) {
        row->bias[i] = (struct llcuda_logit_bias){
            (i * 7919u) % width, test_random_below(4) ? (float)(uniform() * 10 - 5) : -INFINITY};
    }
    p->bias_count = width == 150 || width >= 1000 ? p->bias_count : p->bias_count > 0;
    row->ends[0] = 0;
    row->ends[1] = width - 1;
    p->end_tokens = row->ends;
    p->end_count = width > 1 ? 2 : 0;
    p->min_tokens = test_random_below(4) == 0 ? HISTORY : 0;
}

/* With a history in which little differs, so that it repeats. */
static void row_init(struct row *row, uint32_t width)
{
    struct llcuda_error error;
    uint32_t distinct = width < 5 ? width : 5;
    row->known = (uint32_t)(1 + test_random_below(HISTORY - 1));
    row->prompt_count = (uint32_t)(1 + test_random_below(row->known));
    for (uint32_t i = 0; i < row->known; i++) {
        row->tokens[i] = (uint32_t)test_random_below(distinct);
    }
    arena_init(&row->arena, 0);
    assert_ok(sampler_init(&row->sampler, &row->params, test_random(), row->tokens,
                           row->prompt_count, HISTORY, &row->arena, &error),
              error);
    for (uint32_t known = row->prompt_count + 1; known <= row->known; known++) {
        sampler_accept(&row->sampler, row->tokens, known, row->prompt_count);
    }
}

static void describe(struct row *row, struct sampler_workspace *workspace)
{
    assert_true(sampler_describe(&row->sampler, workspace, row->tokens, row->known,
                                 row->prompt_count, row->edits, 256, &row->sampling));
}

enum look { LOOK_NORMAL, LOOK_FLAT, LOOK_PEAKED, LOOK_TIED, LOOK_COUNT };

static void random_logits(float *logits, uint32_t count, enum look look)
{
    float spread = look == LOOK_FLAT ? 0.1f : look == LOOK_PEAKED ? 9.0f : 2.5f;
    for (uint32_t i = 0; i < count; i++) {
        logits[i] = spread * test_random_normal();
        if (look == LOOK_TIED) {
            logits[i] = rintf(logits[i]);
        }
    }
}

static bool is_near(float a, float b)
{
    return fabsf(a - b) <= 2e-5f * (1 + fabsf(b));
}

static void check_logprob(const struct device_logprob *got, const llcuda_token_logprob *expected)
{
    assert_int_equal(got->token, expected->token);
    assert_int_equal(got->rank, expected->rank);
    assert_true(is_near(got->logprob, expected->logprob));
    assert_int_equal(got->top_count, expected->top_count);
    for (uint32_t i = 0; i < expected->top_count; i++) {
        assert_int_equal(got->top[i].token, expected->top[i].token);
        assert_true(is_near(got->top[i].logprob, expected->top[i].logprob));
    }
}

/* Rows of random settings over random logits; how many tokens differ from the host's. */
static uint32_t compare_rows(struct bench *bench, struct sampler_workspace *workspace,
                             struct row *rows, float *logits, uint32_t count)
{
    uint32_t width = bench->plan.vocabulary_size;
    struct step_sampling samplings[ROWS];
    uint32_t differing = 0;
    for (uint32_t i = 0; i < count; i++) {
        random_logits(logits + (uint64_t)i * width, width,
                      (enum look)test_random_below(LOOK_COUNT));
        random_params(&rows[i], width);
        row_init(&rows[i], width);
        describe(&rows[i], workspace);
        samplings[i] = rows[i].sampling;
    }
    draw(bench, logits, samplings, count);
    for (uint32_t i = 0; i < count; i++) {
        struct llcuda_error error;
        uint32_t token = DEVICE_REFUSED;
        llcuda_token_logprob expected;
        llcuda_status status = sampler_choose(
            &rows[i].sampler, workspace, logits + (uint64_t)i * width, rows[i].tokens,
            rows[i].known, rows[i].prompt_count, &token, &expected, &error);
        assert_true(status == LLCUDA_OK || status == LLCUDA_REFUSED);
        differing += bench->model.chosen[i] != token;
        if (bench->model.chosen[i] == token && rows[i].params.logprobs && status == LLCUDA_OK) {
            check_logprob(&gpu_model_logprobs(&bench->model.base)[i], &expected);
        }
        arena_deinit(&rows[i].arena);
    }
    return differing;
}

static void draws_what_the_host_draws(void **state)
{
    (void)state;
    static struct row rows[ROWS];
    uint32_t differing = 0;
    for (uint32_t w = 0; w < WIDTHS; w++) {
        struct bench bench;
        struct sampler_workspace workspace;
        struct llcuda_error error;
        float *logits = malloc((uint64_t)ROWS * widths[w] * sizeof *logits);
        assert_non_null(logits);
        assert_ok(sampler_workspace_init(&workspace, widths[w], HISTORY, &error), error);
        bench_open(&bench, widths[w]);
        for (int round = 0; round < 4; round++) {
            differing += compare_rows(&bench, &workspace, rows, logits, ROWS);
        }
        bench_close(&bench);
        sampler_workspace_deinit(&workspace);
        free(logits);
    }
    /* 768 draws, of which one in a million may fall beside a boundary. */
    if (differing > 1) {
        fail_msg("%u of %u tokens differ from the host's", differing, 4 * ROWS * WIDTHS);
    }
}

/* --- one stage at a time ---------------------------------------------------------------------- */

/* Temperature alone over a few tokens: frequencies near the probabilities. */
static void temperature_draws_by_weight(void **state)
{
    (void)state;
    const uint32_t rounds = 64;
    static const float row[FEW] = {0.0f, 1.0f, -1.0f, 2.0f, 0.5f};
    float logits[ROWS * FEW];
    struct step_sampling samplings[ROWS];
    uint32_t counts[FEW] = {0};
    struct bench bench;
    double sum = 0;
    for (uint32_t i = 0; i < ROWS * FEW; i++) {
        logits[i] = row[i % FEW];
    }
    for (uint32_t i = 0; i < FEW; i++) {
        sum += exp((double)row[i] / 0.8);
    }
    bench_open(&bench, FEW);
    for (uint32_t round = 0; round < rounds; round++) {
        for (uint32_t i = 0; i < ROWS; i++) {
            samplings[i] = (struct step_sampling){.temperature = 0.8,
                                                  .top_p = 1,
                                                  .typical_p = 1,
                                                  .repetition_penalty = 1,
                                                  .seed = test_random(),
                                                  .position = i};
        }
        draw(&bench, logits, samplings, ROWS);
        for (uint32_t i = 0; i < ROWS; i++) {
            assert_true(bench.model.chosen[i] < FEW);
            counts[bench.model.chosen[i]]++;
        }
    }
    double draws = (double)ROWS * rounds;
    for (uint32_t i = 0; i < FEW; i++) {
        double p = exp((double)row[i] / 0.8) / sum;
        assert_true(fabs(counts[i] - p * draws) < 5.5 * sqrt(draws * p * (1 - p)));
    }
    bench_close(&bench);
}

/* A grammar's mask equals biases that forbid the same tokens. */
static void masks_forbid(void **state)
{
    (void)state;
    struct bench bench;
    float logits[ROWS * SMALL];
    uint32_t masks[ROWS][(SMALL + 31) / 32];
    struct step_edit edits[ROWS][SMALL];
    struct step_sampling samplings[ROWS];
    uint32_t tokens[ROWS];
    bench_open(&bench, SMALL);
    random_logits(logits, ROWS * SMALL, LOOK_NORMAL);
    for (uint32_t i = 0; i < ROWS; i++) {
        samplings[i] = (struct step_sampling){
            .temperature = i % 4 ? 0.9 : 0,
            .top_p = i % 3 ? 0.9 : 1,
            .typical_p = 1,
            .top_k = i % 5 ? 0 : 7,
            .repetition_penalty = 1,
            .logprobs = i % 2 == 0,
            .top_logprobs = 3,
            .seed = test_random(),
            .position = i,
            .mask = masks[i],
        };
        for (uint32_t t = 0; t < SMALL; t++) {
            bool allowed = i != 7 && test_random_below(10) == 0;
            masks[i][t / 32] = t % 32 == 0 ? 0 : masks[i][t / 32];
            masks[i][t / 32] |= (uint32_t)allowed << t % 32;
        }
    }
    draw(&bench, logits, samplings, ROWS);
    memcpy(tokens, bench.model.chosen, sizeof tokens);
    assert_int_equal(tokens[7], DEVICE_REFUSED);
    for (uint32_t i = 0; i < ROWS; i++) {
        uint32_t count = 0;
        for (uint32_t t = 0; t < SMALL; t++) {
            if ((masks[i][t / 32] >> t % 32 & 1) == 0) {
                edits[i][count++] = (struct step_edit){.token = t, .amount = -INFINITY};
            }
        }
        samplings[i].mask = NULL;
        samplings[i].edits = edits[i];
        samplings[i].edit_counts[STEP_EDIT_ADD] = count;
    }
    draw(&bench, logits, samplings, ROWS);
    assert_memory_equal(tokens, bench.model.chosen, sizeof tokens);
    bench_close(&bench);
}

/* Rows alone and in company; rows of the host stay as they are and come back. */
static void company_changes_nothing(void **state)
{
    (void)state;
    static struct row rows[ROWS];
    static float logits[ROWS * MEDIUM];
    struct step_sampling samplings[ROWS];
    uint32_t tokens[ROWS];
    struct bench bench;
    struct sampler_workspace workspace;
    struct llcuda_error error;
    assert_ok(sampler_workspace_init(&workspace, MEDIUM, HISTORY, &error), error);
    bench_open(&bench, MEDIUM);
    random_logits(logits, ROWS * MEDIUM, LOOK_NORMAL);
    for (uint32_t i = 0; i < ROWS; i++) {
        random_params(&rows[i], MEDIUM);
        row_init(&rows[i], MEDIUM);
        describe(&rows[i], &workspace);
        samplings[i] = rows[i].sampling;
        samplings[i].on_host = i % 8 == 3;
    }
    draw(&bench, logits, samplings, ROWS);
    memcpy(tokens, bench.model.chosen, sizeof tokens);
    for (uint32_t i = 0; i < ROWS; i++) {
        if (samplings[i].on_host) {
            assert_memory_equal(bench.model.logits + i * MEDIUM, logits + i * MEDIUM,
                                MEDIUM * sizeof(float));
        }
    }
    for (uint32_t i = 0; i < ROWS; i++) {
        if (!samplings[i].on_host) {
            draw(&bench, logits + i * MEDIUM, &samplings[i], 1);
            assert_int_equal(bench.model.chosen[0], tokens[i]);
        }
        arena_deinit(&rows[i].arena);
    }
    bench_close(&bench);
    sampler_workspace_deinit(&workspace);
}

/* A value that is not finite is seen wherever it is, also where an edit or a mask hides it. */
static void what_is_not_finite_is_told(void **state)
{
    (void)state;
    static const float wrong[3] = {NAN, INFINITY, -INFINITY};
    struct bench bench;
    float logits[ROWS * SMALL];
    struct step_sampling samplings[ROWS];
    const struct step_edit forbid = {.token = 70};
    uint32_t mask[(SMALL + 31) / 32] = {0, 2};
    bench_open(&bench, SMALL);
    random_logits(logits, ROWS * SMALL, LOOK_NORMAL);
    for (uint32_t i = 0; i < ROWS; i++) {
        samplings[i] = (struct step_sampling){.temperature = i % 2 ? 0 : 1,
                                              .top_p = 1,
                                              .typical_p = 1,
                                              .repetition_penalty = 1,
                                              .edits = &forbid,
                                              .mask = i % 3 == 1 ? mask : NULL};
        samplings[i].edit_counts[STEP_EDIT_FORBID] = i % 4 < 2;
        if (i % 3 != 2) {
            logits[i * SMALL + (i % 5 ? 70 : test_random_below(SMALL))] = wrong[i / 3 % 3];
        }
    }
    draw(&bench, logits, samplings, ROWS);
    for (uint32_t i = 0; i < ROWS; i++) {
        bool is_none = bench.model.chosen[i] == DEVICE_NOT_FINITE;
        assert_int_equal(is_none, i % 3 != 2);
    }
    bench_close(&bench);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(draws_what_the_host_draws),
    cmocka_unit_test(temperature_draws_by_weight),
    cmocka_unit_test(masks_forbid),
    cmocka_unit_test(company_changes_nothing),
    cmocka_unit_test(what_is_not_finite_is_told),
};

TEST_MAIN(tests)
