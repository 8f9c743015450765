/* Rows that leave the last layer of a step: the bits of what is wanted are those of a device where
 * all rows stay, plainly and as graphs; and the driver sees fewer rows there. */
#include "cpu/toy.h"
#include "gpu/model.h"
#include "gpu_support.h"

#define SEQUENCES 4u
#define BLOCKS    64u
#define LENGTH    64u
#define ROWS_MAX  128u

struct rig {
    struct device *device;
    struct device_model *model;
    struct gpu_faults faults;
};

static void rig_open(struct rig *rig, const struct plan *plan, enum dtype kv,
                     const struct gpu_device_options *base, bool all_rows)
{
    struct llcuda_error error;
    struct gpu_device_options options = *base;
    const struct device_model_options model_options = {
        .kv_block_count = BLOCKS, .kv_dtype = kv, .rows_max = ROWS_MAX, .logits_rows_max = 32};
    *rig = (struct rig){0};
    options.cache = KERNEL_CACHE;
    options.all_rows = all_rows;
    assert_ok(gpu_device_open(gpu_test_driver(&rig->faults), &options, &rig->device, &error),
              error);
    assert_ok(device_model_load(rig->device, plan, &model_options, NULL, &rig->model, &error),
              error);
}

static void rig_close(struct rig *rig)
{
    device_model_unload(rig->model);
    device_close(rig->device);
    assert_int_equal(rig->faults.live_allocations, 0);
    assert_int_equal(rig->faults.live_objects, 0);
}

/* --- steps ------------------------------------------------------------------------------------ */

/* Rows [begin, begin + count) of a sequence, of which the last `logits` want logits, and row
 * `hidden` of them, when it is one, its hidden state. */
struct piece {
    uint32_t sequence, begin, count, logits, hidden;
};
#define NO_HIDDEN UINT32_MAX

static const struct step {
    struct piece pieces[3];
    uint32_t count;
    bool leaves; /* rows leave the last layer */
} steps[] = {
    /* A whole prompt beside the beginning of another. */
    {{{0, 0, 40, 1, NO_HIDDEN}, {1, 0, 30, 0, NO_HIDDEN}}, 2, true},
    /* Its end, a row that decodes, and a hidden state in the middle. */
    {{{0, 40, 1, 1, NO_HIDDEN}, {1, 30, 16, 1, 5}}, 2, true},
    /* A run that attends in tiles, and one that is wanted before it. */
    {{{1, 46, 1, 1, NO_HIDDEN}, {2, 0, 32, 12, NO_HIDDEN}, {3, 0, 2, 0, NO_HIDDEN}}, 3, true},
    /* Nothing is wanted. */
    {{{3, 2, 20, 0, NO_HIDDEN}}, 1, true},
    /* The same row twice: logits and hidden state. */
    {{{3, 22, 12, 1, 11}, {2, 32, 1, 1, 0}}, 2, true},
    /* All of them are wanted, or most, or there are few. */
    {{{0, 41, 1, 1, NO_HIDDEN}, {1, 47, 1, 1, NO_HIDDEN}, {2, 33, 1, 1, NO_HIDDEN}}, 3, false},
    {{{3, 34, 10, 6, NO_HIDDEN}}, 1, false},
    {{{0, 42, 6, 1, NO_HIDDEN}}, 1, false},
};
#define STEP_COUNT (sizeof steps / sizeof *steps)

struct wanted {
    float *values; /* logits, then hidden states */
    uint64_t count;
};

static void step_fill(const struct step *step, const uint32_t *tokens, struct toy_batch *batch,
                      uint32_t hidden_rows[SEQUENCES])
{
    toy_batch_clear(batch);
    uint32_t logits = 0;
    batch->batch.hidden_count = 0;
    for (uint32_t i = 0; i < step->count; i++) {
        const struct piece *piece = &step->pieces[i];
        uint32_t first = batch->batch.row_count;
        toy_batch_add(batch, piece->sequence, tokens + (uint64_t)piece->sequence * LENGTH,
                      piece->begin, piece->count);
        for (uint32_t row = piece->count - piece->logits; row < piece->count; row++) {
            batch->logits_rows[logits++] = first + row;
        }
        if (piece->hidden != NO_HIDDEN) {
            hidden_rows[batch->batch.hidden_count++] = first + piece->hidden;
        }
    }
    batch->batch.logits_count = logits;
    batch->batch.hidden_rows = hidden_rows;
}

/* What a step gives, appended to `all`. */
static void step_run(struct rig *rig, const struct toy_batch *batch, struct wanted *all)
{
    const struct plan *plan = rig->model->plan;
    struct llcuda_error error;
    const float *logits;
    uint64_t stride;
    assert_ok(device_step(rig->model, &batch->batch, &logits, &error), error);
    uint64_t count = (uint64_t)batch->batch.logits_count * plan->vocabulary_size;
    uint64_t more = (uint64_t)batch->batch.hidden_count * plan->embedding_length;
    all->values = realloc(all->values, (all->count + count + more + 1) * sizeof(float));
    assert_non_null(all->values);
    if (count) {
        memcpy(all->values + all->count, logits, count * sizeof(float));
    }
    if (more) {
        const float *hidden = device_hidden(rig->model, &stride);
        assert_int_equal(stride, plan->embedding_length);
        memcpy(all->values + all->count + count, hidden, more * sizeof(float));
    }
    all->count += count + more;
}

/* All steps three times with other tokens: new, captured, replayed. */
static void run_all(struct rig *rig, const uint32_t *tokens, const float *residual,
                    bool expects_leaving, struct wanted *all)
{
    static struct toy_batch batch;
    uint32_t hidden_rows[SEQUENCES];
    const struct gpu_model *model = (const struct gpu_model *)rig->model;
    toy_batch_init(&batch, SEQUENCES, BLOCKS);
    for (uint32_t round = 0; round < 3; round++) {
        for (size_t i = 0; i < STEP_COUNT; i++) {
            uint64_t graphs = rig->faults.graph_launches;
            step_fill(&steps[i], tokens + round, &batch, hidden_rows);
            batch.batch.residual = residual;
            batch.batch.residual_stride = residual ? rig->model->plan->embedding_length : 0;
            step_run(rig, &batch, all);
            assert_int_equal(model->shape.narrows, expects_leaving && steps[i].leaves);
            if (gpu_bench_is_emulated() && round > 0) {
                assert_int_equal(rig->faults.graph_launches, graphs + 1);
            }
        }
    }
}

static void check_plan(const struct plan *plan, enum dtype kv,
                       const struct gpu_device_options *options)
{
    static uint32_t tokens[SEQUENCES * LENGTH + 3];
    struct wanted all[2] = {{0}};
    float *residual = NULL;
    uint64_t width = plan->embedding_length;
    for (uint32_t i = 0; i < SEQUENCES * LENGTH + 3; i++) {
        tokens[i] = (uint32_t)test_random_below(plan->vocabulary_size);
    }
    if (plan->takes_residual) {
        residual = malloc(ROWS_MAX * width * sizeof *residual);
        assert_non_null(residual);
        for (uint64_t i = 0; i < ROWS_MAX * width; i++) {
            residual[i] = (float)test_random_below(2000) / 1000.0f - 1.0f;
        }
    }
    for (int all_rows = 0; all_rows < 2; all_rows++) {
        struct rig rig;
        rig_open(&rig, plan, kv, options, all_rows == 1);
        run_all(&rig, tokens, residual, all_rows == 0, &all[all_rows]);
        rig_close(&rig);
    }
    assert_int_equal(all[0].count, all[1].count);
    assert_memory_equal(all[0].values, all[1].values, all[0].count * sizeof(float));
    free(all[0].values);
    free(all[1].values);
    free(residual);
}

static void check_toy(const struct toy_options *options, enum dtype kv, bool deterministic)
{
    struct toy *toy = toy_create(options);
    check_plan(toy->plan, kv, &(struct gpu_device_options){.deterministic = deterministic});
    toy_destroy(toy);
}

/* Shapes of other tests, whose compiled kernels serve here. */
static void bits_of_wanted_rows_stay(void **state)
{
    (void)state;
    struct toy_options options = toy_defaults();
    check_toy(&options, DTYPE_F32, false);
    options.head_size = 32;
    check_toy(&options, DTYPE_Q8_0, true);
    options = toy_defaults();
    options.dtype = DTYPE_BF16;
    check_toy(&options, DTYPE_F16, true);
}

static void bits_stay_with_experts(void **state)
{
    (void)state;
    struct toy_options options = toy_defaults();
    options.dtype = DTYPE_BF16;
    options.embedding = 96;
    options.head_size = 24;
    options.normalised = true;
    options.experts = 5;
    options.experts_used = 2;
    options.expert_width = 160;
    options.shared_width = 64;
    check_toy(&options, DTYPE_F16, true);
}

/* The second part of a cut plan takes the residual stream of all rows, and leaves out the same. The
 * first gives it, so that none of its rows may go. */
static void a_part_that_takes_the_residual_stream_leaves_rows_out(void **state)
{
    (void)state;
    struct llcuda_error error;
    struct plan *first, *second;
    struct toy_options options = toy_defaults();
    options.dtype = DTYPE_BF16;
    struct toy *toy = toy_create(&options);
    assert_ok(plan_cut(toy->plan, 1, &first, &second, &error), error);
    assert_int_equal(first->last_cache_op, PLAN_NONE);
    assert_int_not_equal(second->last_cache_op, PLAN_NONE);
    check_plan(second, DTYPE_F16, &(struct gpu_device_options){.deterministic = true});
    plan_destroy(first);
    plan_destroy(second);
    toy_destroy(toy);
}

/* --- what the driver sees --------------------------------------------------------------------- */

/* Launches of a step in order, as the driver's table gets them. */
static struct counted {
    llcuda_status (*launch)(struct gpu_driver *, struct gpu_stream *, struct gpu_function *,
                            const struct gpu_launch *, const void *, uint32_t,
                            struct llcuda_error *);
    const struct gpu_function *functions[256];
    uint32_t grids[256][3];
    uint32_t count;
} counted;

static llcuda_status count_launch(struct gpu_driver *driver, struct gpu_stream *stream,
                                  struct gpu_function *function, const struct gpu_launch *launch,
                                  const void *arguments, uint32_t argument_bytes,
                                  struct llcuda_error *error)
{
    assert_true(counted.count < 256);
    counted.functions[counted.count] = function;
    memcpy(counted.grids[counted.count++], launch->grid, sizeof launch->grid);
    return counted.launch(driver, stream, function, launch, arguments, argument_bytes, error);
}

/* Rows of the launches of a kernel, one after another, at axis `axis` of their grids. */
static void check_grids(const struct gpu_function *function, uint32_t axis,
                        const uint32_t *expected, uint32_t count)
{
    uint32_t found = 0;
    for (uint32_t i = 0; i < counted.count; i++) {
        if (counted.functions[i] == function) {
            assert_true(found < count);
            assert_int_equal(counted.grids[i][axis], expected[found++]);
        }
    }
    assert_int_equal(found, count);
}

static void run_counted(struct rig *rig, const struct piece *piece, bool hidden_of_all)
{
    static struct toy_batch batch;
    static uint32_t tokens[SEQUENCES * LENGTH];
    uint32_t hidden_rows[LENGTH];
    const struct step step = {.pieces = {*piece}, .count = 1};
    struct wanted ignored = {0};
    toy_batch_init(&batch, SEQUENCES, BLOCKS);
    step_fill(&step, tokens, &batch, hidden_rows);
    for (uint32_t i = 0; hidden_of_all && i < piece->count; i++) {
        hidden_rows[batch.batch.hidden_count++] = i;
    }
    counted.count = 0;
    step_run(rig, &batch, &ignored);
    free(ignored.values);
}

static void fewer_rows_go_through_the_last_layer(void **state)
{
    (void)state;
    struct toy_options options = toy_defaults();
    struct toy *toy = toy_create(&options);
    const struct gpu_device_options device_options = {.no_graphs = true};
    uint32_t launches[2];
    for (int all_rows = 0; all_rows < 2; all_rows++) {
        struct rig rig;
        rig_open(&rig, toy->plan, DTYPE_F32, &device_options, all_rows == 1);
        struct gpu_model *model = (struct gpu_model *)rig.model;
        const struct gpu_program *program = &model->program;
        struct gpu_driver *driver = model->driver;
        counted.launch = driver->launch;
        driver->launch = count_launch;
        /* 40 rows, of which one is wanted, by layers: activations, keys and values, attention. */
        run_counted(&rig, &(struct piece){0, 0, 40, 1, NO_HIDDEN}, false);
        launches[all_rows] = counted.count;
        const uint32_t last = all_rows ? 64 : 1;
        check_grids(program->functions[GPU_KERNEL_ACTIVATE], 1, (uint32_t[]){64, last}, 2);
        check_grids(program->attention.qkv_finish, 0, (uint32_t[]){64, 64}, 2);
        check_grids(program->attention.decode, 2, (uint32_t[]){64, last}, 2);
        check_grids(program->functions[GPU_KERNEL_GATHER_ROWS], 0, &last, all_rows ? 0 : 1);
        /* Norms: before projections, before the feed-forward, of two layers; of the logits. */
        check_grids(program->functions[GPU_KERNEL_NORM_ROWS], 0, (uint32_t[]){64, 64, 64, last, 1},
                    5);
        /* Nothing is wanted: the step ends with keys and values. */
        run_counted(&rig, &(struct piece){0, 0, 40, 0, NO_HIDDEN}, false);
        check_grids(program->functions[GPU_KERNEL_ACTIVATE], 1, (uint32_t[]){64, 64},
                    all_rows ? 2 : 1);
        check_grids(program->attention.qkv_finish, 0, (uint32_t[]){64, 64}, 2);
        check_grids(program->attention.decode, 2, (uint32_t[]){64, 64}, all_rows ? 2 : 1);
        assert_ptr_equal(counted.functions[counted.count - 1],
                         all_rows ? program->functions[GPU_KERNEL_LINEAR_PLAIN + DTYPE_F32]
                                  : program->attention.qkv_finish);
        /* All hidden states are: an embedding of every token. */
        run_counted(&rig, &(struct piece){0, 0, 40, 0, NO_HIDDEN}, true);
        check_grids(program->functions[GPU_KERNEL_ACTIVATE], 1, (uint32_t[]){64, 64}, 2);
        check_grids(program->functions[GPU_KERNEL_GATHER_ROWS], 0, NULL, 0);
        driver->launch = counted.launch;
        rig_close(&rig);
    }
    assert_int_equal(launches[0], launches[1] + 1); /* what moves the rows together */
    toy_destroy(toy);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(bits_of_wanted_rows_stay),
    cmocka_unit_test(bits_stay_with_experts),
    cmocka_unit_test(a_part_that_takes_the_residual_stream_leaves_rows_out),
    cmocka_unit_test(fewer_rows_go_through_the_last_layer),
};

TEST_MAIN(tests)
