/* The kernels of attention on the emulated device against tensor/reference.h: results, company,
 * replays, copies of blocks, and what the host derives for them. */
#include "attention_support.h"

#define PAST_MAX 530u

static const struct setup setups[] = {
    {.name = "1B, bf16",
     .head_count = 8,
     .kv_head_count = 2,
     .head_size = 64,
     .kv = DTYPE_BF16,
     .act = DTYPE_BF16,
     .rotary_kind = ROTARY_HALF,
     .rotary_size = 64},
    {.name = "8B, f16, window, few groups",
     .head_count = 4,
     .kv_head_count = 1,
     .head_size = 128,
     .kv = DTYPE_F16,
     .act = DTYPE_BF16,
     .groups_max = 2,
     .rotary_kind = ROTARY_INTERLEAVED,
     .rotary_size = 128,
     .window = 333},
    {.name = "odd group, partial rotary, norm, cap",
     .head_count = 6,
     .kv_head_count = 2,
     .head_size = 80,
     .kv = DTYPE_F16,
     .act = DTYPE_F32,
     .rotary_kind = ROTARY_HALF,
     .rotary_size = 32,
     .has_norm = true,
     .soft_cap = 3},
    {.name = "wide group, sinks, bias, two head tiles",
     .head_count = 20,
     .kv_head_count = 1,
     .head_size = 24,
     .kv = DTYPE_BF16,
     .act = DTYPE_F16,
     .groups_max = 3,
     .rotary_kind = ROTARY_HALF,
     .rotary_size = 24,
     .has_bias = true,
     .has_sinks = true},
    {.name = "large head",
     .head_count = 2,
     .kv_head_count = 1,
     .head_size = 256,
     .kv = DTYPE_BF16,
     .act = DTYPE_BF16,
     .groups_max = 3,
     .rotary_kind = ROTARY_HALF,
     .rotary_size = 256,
     .has_norm = true,
     .window = 100},
    {.name = "float cache, everything",
     .head_count = 6,
     .kv_head_count = 2,
     .head_size = 20,
     .kv = DTYPE_F32,
     .act = DTYPE_F32,
     .groups_max = 2,
     .rotary_kind = ROTARY_INTERLEAVED,
     .rotary_size = 12,
     .has_bias = true,
     .has_norm = true,
     .has_sinks = true,
     .soft_cap = 5,
     .window = 400},
    {.name = "float cache, no rotary",
     .head_count = 3,
     .kv_head_count = 3,
     .head_size = 6,
     .kv = DTYPE_F32,
     .act = DTYPE_F32},
    {.name = "16-bit cache of an odd size",
     .head_count = 4,
     .kv_head_count = 2,
     .head_size = 12,
     .kv = DTYPE_F16,
     .act = DTYPE_F16,
     .rotary_kind = ROTARY_HALF,
     .rotary_size = 8},
    {.name = "8-bit floats, values beyond their range",
     .head_count = 8,
     .kv_head_count = 2,
     .head_size = 64,
     .kv = DTYPE_F8_E4M3,
     .act = DTYPE_BF16,
     .size = 150,
     .groups_max = 3,
     .rotary_kind = ROTARY_HALF,
     .rotary_size = 64,
     .has_norm = true},
    {.name = "8-bit floats, large group, window",
     .head_count = 12,
     .kv_head_count = 1,
     .head_size = 128,
     .kv = DTYPE_F8_E4M3,
     .act = DTYPE_F16,
     .rotary_kind = ROTARY_INTERLEAVED,
     .rotary_size = 128,
     .window = 333,
     .has_sinks = true},
    {.name = "8-bit integers, odd pieces",
     .head_count = 6,
     .kv_head_count = 3,
     .head_size = 80,
     .kv = DTYPE_Q8_0,
     .act = DTYPE_F32,
     .groups_max = 2,
     .rotary_kind = ROTARY_HALF,
     .rotary_size = 32,
     .has_bias = true,
     .soft_cap = 3},
    {.name = "8-bit integers, small values",
     .head_count = 4,
     .kv_head_count = 1,
     .head_size = 128,
     .kv = DTYPE_Q8_0,
     .act = DTYPE_BF16,
     .size = 0.002f,
     .rotary_kind = ROTARY_HALF,
     .rotary_size = 128,
     .has_norm = true,
     .window = 300},
};
#define SETUP_COUNT (sizeof setups / sizeof setups[0])

/* One step against the reference, then each row that may run alone, to the bit. */
static void check_step(struct rig *rig, struct results *results, const uint32_t *counts,
                       uint32_t sequence_count, uint32_t past_max, bool alone)
{
    struct world world;
    struct rows rows;
    world_make(&world, rig, sequence_count, past_max);
    rows_make(&rows, rig, &world, counts);
    rig_run(rig, &world, &rows, results->attended, results->cache);
    reference_run(rig, &world, &rows, results->cache, results->expected, results->expected_cache);
    results_compare(rig, &world, &rows, results->attended, results->expected, results->cache,
                    results->expected_cache);
    uint64_t row_bytes = attended_row_bytes(rig);
    uint8_t *one_attended = malloc(row_bytes);
    uint8_t *one_cache = malloc(rig->cache_bytes);
    for (uint32_t row = 0; alone && row < rows.count; row++) {
        struct rows one = rows_one(rig, &rows, row);
        rig_run(rig, &world, &one, one_attended, one_cache);
        assert_memory_equal(one_attended, results->attended + row * row_bytes, row_bytes);
    }
    free(one_attended);
    free(one_cache);
    free(rows.raw);
    world_destroy(&world);
}

static void test_steps(void **state)
{
    (void)state;
    for (size_t i = 0; i < SETUP_COUNT; i++) {
        struct rig rig;
        struct results results;
        rig_open(&rig, &setups[i], GPU_EMU_RANDOM, NULL, 0);
        results_make(&results, &rig);
        const uint32_t singles[SEQUENCES_MAX] = {1, 1, 1, 1};
        check_step(&rig, &results, singles, 1, 0, false);
        check_step(&rig, &results, singles, 2, 15, false);
        check_step(&rig, &results, singles, 4, PAST_MAX, true);
        const uint32_t ragged[SEQUENCES_MAX] = {1, 21, 3, 1, 12};
        check_step(&rig, &results, ragged, 5, PAST_MAX, false);
        const uint32_t prompt[SEQUENCES_MAX] = {33};
        check_step(&rig, &results, prompt, 1, 0, false);
        results_destroy(&results);
        rig_close(&rig);
    }
}

/* A prompt in one step, and in pieces after a prefix: the cache holds the same bits, and where sums
 * are exact the results are the same bits too. */
static void check_pieces(struct rig *rig, struct results *results, uint32_t past, uint32_t piece)
{
    struct world world;
    struct rows rows;
    const uint32_t counts[SEQUENCES_MAX] = {40};
    const uint64_t row_bytes = attended_row_bytes(rig);
    uint8_t *attended = malloc(ROWS_MAX * row_bytes);
    world_make(&world, rig, 1, past);
    rows_make(&rows, rig, &world, counts);
    rig_run(rig, &world, &rows, results->attended, results->cache);
    reference_run(rig, &world, &rows, results->cache, results->expected, results->expected_cache);
    results_compare(rig, &world, &rows, results->attended, results->expected, results->cache,
                    results->expected_cache);
    for (uint32_t row = 0; row < rows.count; row += piece) {
        uint32_t rest = rows.count - row;
        struct rows some = rows_some(rig, &rows, row, rest < piece ? rest : piece);
        rig_run(rig, &world, &some, attended, results->expected_cache);
        memcpy(world.cache, results->expected_cache, world.cache_bytes);
        assert_memory_equal(attended, results->attended + row * row_bytes, some.count * row_bytes);
    }
    assert_memory_equal(results->cache, results->expected_cache, world.cache_bytes);
    free(attended);
    free(rows.raw);
    world_destroy(&world);
}

static void exact_open(struct rig *rig, struct results *results, const struct setup *source)
{
    struct setup setup = *source;
    setup.exact = true;
    setup.groups_max = 0;
    setup.partials_max = test_random_below(2) ? 0 : 100; /* few: rows take turns */
    rig_open(rig, &setup, GPU_EMU_RANDOM, NULL, 0);
    results_make(results, rig);
}

static void test_chunks(void **state)
{
    (void)state;
    for (size_t i = 0; i < SETUP_COUNT; i++) {
        static const uint32_t pieces[] = {1, 7, 31};
        struct rig rig;
        struct results results;
        exact_open(&rig, &results, &setups[i]);
        for (size_t p = 0; p < 3; p++) {
            check_pieces(&rig, &results, p == 2 ? 300 : (uint32_t)test_random_below(200),
                         pieces[p]);
        }
        results_destroy(&results);
        rig_close(&rig);
    }
}

/* Rows of tiles, of short runs and single ones in one step: each as if it had decoded alone. */
static void test_company(void **state)
{
    (void)state;
    for (size_t i = 0; i < SETUP_COUNT; i++) {
        struct rig rig;
        struct results results;
        struct world world;
        struct rows rows;
        exact_open(&rig, &results, &setups[i]);
        world_make(&world, &rig, 5, PAST_MAX);
        const uint32_t ragged[SEQUENCES_MAX] = {21, 1, 3, 1, 20};
        rows_make(&rows, &rig, &world, ragged);
        rig_run(&rig, &world, &rows, results.attended, results.cache);
        /* Alone, a row finds in the cache what those before it have written. */
        memcpy(world.cache, results.cache, world.cache_bytes);
        const uint64_t row_bytes = attended_row_bytes(&rig);
        uint8_t *attended = malloc(row_bytes);
        for (uint32_t row = 0; row < rows.count; row++) {
            struct rows one = rows_one(&rig, &rows, row);
            rig_run(&rig, &world, &one, attended, results.expected_cache);
            assert_memory_equal(attended, results.attended + row * row_bytes, row_bytes);
        }
        free(attended);
        free(rows.raw);
        world_destroy(&world);
        results_destroy(&results);
        rig_close(&rig);
    }
}

/* The bucket that all steps of a replay share: how a past is cut depends on it. */
static void widen(const struct rig *rig, struct gpu_attention_call *call)
{
    call->rows = call->decode_rows_max = call->tiles_max = ROWS_MAX;
    call->groups = rig->groups;
}

/* A decode step and a mixed one are captured, and replayed with other rows, lengths and tables: as
 * if launched. A decode step is one launch. */
static void check_replay(struct rig *rig, struct results *results, const uint32_t *first_counts,
                         const uint32_t *counts, bool is_decode)
{
    struct gpu_driver *driver = rig->bench.driver;
    struct llcuda_error *error = &rig->bench.error;
    struct gpu_attention_call captured;
    struct gpu_attention_call call;
    struct gpu_graph *graph = NULL;
    struct world worlds[2];
    struct rows rows[2];
    world_make(&worlds[0], rig, 2, 40);
    world_make(&worlds[1], rig, 4, PAST_MAX);
    rows_make(&rows[0], rig, &worlds[0], first_counts);
    rows_make(&rows[1], rig, &worlds[1], counts);
    rig_upload(rig, &worlds[0], &rows[0], &captured);
    assert_int_equal(captured.decode, is_decode);
    widen(rig, &captured);
    assert_ok(driver->capture_begin(driver, rig->bench.stream, error), *error);
    assert_ok(gpu_attention_launch(driver, rig->bench.stream, &rig->config, &rig->kernels,
                                   &captured, error),
              *error);
    assert_ok(driver->capture_end(driver, rig->bench.stream, &graph, error), *error);
    for (uint32_t i = 2; i-- > 0;) {
        rig_upload(rig, &worlds[i], &rows[i], &call);
        uint64_t launches = rig->bench.faults.launches;
        assert_ok(driver->graph_launch(driver, rig->bench.stream, graph, error), *error);
        assert_int_equal(rig->bench.faults.launches, launches);
        rig_download(rig, &worlds[i], &rows[i], results->attended, results->cache);
        uint8_t *attended = malloc(ROWS_MAX * attended_row_bytes(rig));
        launches = rig->bench.faults.launches;
        rig_upload(rig, &worlds[i], &rows[i], &call);
        widen(rig, &call);
        assert_ok(gpu_attention_launch(driver, rig->bench.stream, &rig->config, &rig->kernels,
                                       &call, error),
                  *error);
        rig_download(rig, &worlds[i], &rows[i], attended, results->expected_cache);
        assert_true(!is_decode || !gpu_bench_is_emulated() ||
                    rig->bench.faults.launches == launches + 1);
        assert_memory_equal(attended, results->attended, rows[i].count * attended_row_bytes(rig));
        assert_memory_equal(results->cache, results->expected_cache, worlds[i].cache_bytes);
        free(attended);
    }
    driver->graph_destroy(driver, graph);
    for (uint32_t i = 0; i < 2; i++) {
        free(rows[i].raw);
        world_destroy(&worlds[i]);
    }
}

static void test_replay(void **state)
{
    (void)state;
    struct rig rig;
    struct results results;
    rig_open(&rig, &setups[0], GPU_EMU_FORWARD, NULL, 0);
    results_make(&results, &rig);
    const uint32_t singles[SEQUENCES_MAX] = {1, 1, 1, 1};
    check_replay(&rig, &results, singles, singles, true);
    const uint32_t first[SEQUENCES_MAX] = {11, 1};
    const uint32_t second[SEQUENCES_MAX] = {1, 3, 24, 9};
    check_replay(&rig, &results, first, second, false);
    results_destroy(&results);
    rig_close(&rig);
}

static void check_copy_blocks(const struct setup *setup)
{
    struct rig rig;
    struct results results;
    struct world world;
    rig_open(&rig, setup, GPU_EMU_FORWARD, NULL, 0);
    results_make(&results, &rig);
    world_make(&world, &rig, 2, PAST_MAX);
    struct gpu_driver *driver = rig.bench.driver;
    struct llcuda_error *error = &rig.bench.error;
    /* The cache taken as three layers of a third of the blocks. */
    const uint64_t block_bytes = gpu_attention_block_bytes(&rig.config);
    const uint64_t layer_bytes = world.cache_bytes / 3 / block_bytes * block_bytes;
    const uint32_t from[] = {3, 0, 40};
    const uint32_t to[] = {7, 100, 1};
    const struct gpu_copy_blocks_call call = {
        .cache = rig.cache,
        .layer_bytes = layer_bytes,
        .layer_count = 3,
        .from = rig.positions,
        .to = rig.sequences,
        .count = 3,
    };
    struct gpu_stream *stream = rig.bench.stream;
    assert_ok(driver->copy_in(driver, stream, rig.cache, world.cache, world.cache_bytes, error),
              *error);
    assert_ok(driver->copy_in(driver, stream, rig.positions, from, sizeof from, error), *error);
    assert_ok(driver->copy_in(driver, stream, rig.sequences, to, sizeof to, error), *error);
    assert_ok(gpu_attention_copy_blocks(driver, stream, &rig.config, &rig.kernels, &call, error),
              *error);
    gpu_bench_download(&rig.bench, results.cache, rig.cache, world.cache_bytes);
    for (uint32_t layer = 0; layer < 3; layer++) {
        for (uint32_t i = 0; i < 3; i++) {
            uint8_t *base = world.cache + layer * layer_bytes;
            memcpy(base + to[i] * block_bytes, base + from[i] * block_bytes, block_bytes);
        }
    }
    assert_memory_equal(results.cache, world.cache, world.cache_bytes);
    world_destroy(&world);
    results_destroy(&results);
    rig_close(&rig);
}

static void test_copy_blocks(void **state)
{
    (void)state;
    check_copy_blocks(&setups[1]);
    check_copy_blocks(&setups[9]);
    check_copy_blocks(&setups[10]);
}

static struct gpu_attention_config configured(uint32_t head_count, uint32_t kv_head_count,
                                              uint32_t head_size, enum dtype kv, bool exact)
{
    struct gpu_attention_config config;
    struct llcuda_error error;
    const struct gpu_attention_shape shape = {head_count, kv_head_count, head_size,
                                              kv,         DTYPE_BF16,    exact};
    const struct gpu_device_info device = {.shared_bytes_block_max = 232448};
    assert_ok(gpu_attention_configure(&shape, &device, &config, &error), error);
    return config;
}

/* Every position is in one group, groups are as many as the grid has, whatever the window. */
static void test_spans(void **state)
{
    (void)state;
    for (uint32_t round = 0; round < 20000; round++) {
        static const uint32_t kv_heads[] = {1, 2, 8, 32};
        bool exact = test_random_below(4) == 0;
        struct gpu_attention_config config =
            configured(32, kv_heads[test_random_below(4)], 128, DTYPE_BF16, exact);
        uint32_t position = (uint32_t)test_random_below(1u << (1 + test_random_below(20)));
        uint32_t window =
            test_random_below(2) ? 0 : 1 + (uint32_t)test_random_below(2 * position + 2);
        uint32_t rows = 1 + (uint32_t)test_random_below(100);
        struct gpu_attention_span span = gpu_attention_span(&config, position, window, rows);
        assert_int_equal(span.end, position + 1);
        assert_int_equal(span.end - span.begin, window && window < span.end ? window : span.end);
        uint64_t group = (uint64_t)span.group_partitions * config.partition;
        uint64_t first = (uint64_t)span.first_partition * config.partition;
        assert_true(first <= span.begin && span.begin < first + config.partition);
        assert_true(first + span.group_count * group >= span.end);
        assert_true(first + (span.group_count - 1) * group < span.end);
        assert_true(span.group_count <= config.groups_max);
        assert_true(span.group_count <= gpu_attention_groups(&config, position, rows));
        assert_true(gpu_attention_groups(&config, position, rows) <=
                    gpu_attention_groups(&config, position, 1));
        assert_true(!exact || span.group_partitions == 1);
        assert_true(gpu_attention_groups(&config, position, rows) <=
                    gpu_attention_groups(&config, position + 1, rows));
    }
}

/* Every row is in one tile or in the list, and tiles are of one sequence. */
static void test_cut(void **state)
{
    (void)state;
    struct gpu_attention_config config = configured(32, 8, 64, DTYPE_BF16, false);
    assert_true(config.tile_rows >= 64);
    for (uint32_t round = 0; round < 500; round++) {
        enum { N = 1000 };
        static uint32_t positions[N], sequences[N], seen[N], decode_rows[N];
        static struct attention_tile tiles[N];
        struct step_batch batch = {.positions = positions, .sequences = sequences};
        bool single = test_random_below(3) == 0;
        while (batch.row_count < N / 2) {
            uint32_t run = single ? 1 : 1 + (uint32_t)test_random_below(1u << test_random_below(9));
            uint32_t first = (uint32_t)test_random_below(5000);
            for (uint32_t i = 0; i < run; i++) {
                positions[batch.row_count] = first + i;
                sequences[batch.row_count++] = batch.sequence_count;
            }
            batch.sequence_count++;
        }
        struct gpu_attention_cut cut;
        gpu_attention_cut(&config, &batch, tiles, decode_rows, &cut);
        assert_int_equal(cut.decode, batch.sequence_count == batch.row_count);
        if (cut.decode) {
            assert_int_equal(cut.decode_count + cut.tile_count, 0);
        }
        memset(seen, 0, sizeof seen);
        for (uint32_t i = 0; i < cut.decode_count; i++) {
            seen[decode_rows[i]]++;
            assert_true(positions[decode_rows[i]] <= cut.position_max);
        }
        for (uint32_t i = 0; i < cut.tile_count; i++) {
            assert_in_range(tiles[i].row_count, 1, config.tile_rows);
            for (uint32_t r = 0; r < tiles[i].row_count; r++) {
                uint32_t row = tiles[i].row_begin + r;
                seen[row]++;
                assert_int_equal(sequences[row], tiles[i].sequence);
                assert_int_equal(positions[row], tiles[i].position + r);
            }
        }
        for (uint32_t row = 0; row < batch.row_count; row++) {
            assert_int_equal(seen[row], cut.decode ? 0 : 1);
        }
    }
}

static void test_refused(void **state)
{
    (void)state;
    const struct gpu_device_info small = {.shared_bytes_block_max = 49152};
    const struct gpu_device_info large = {.shared_bytes_block_max = 232448};
    const struct {
        struct gpu_attention_shape shape;
        const struct gpu_device_info *device;
    } refused[] = {
        {{7, 2, 64, DTYPE_F16, DTYPE_F16, false}, &large},
        {{8, 0, 64, DTYPE_F16, DTYPE_F16, false}, &large},
        {{8, 2, 63, DTYPE_F16, DTYPE_F16, false}, &large},
        {{8, 2, 0, DTYPE_F16, DTYPE_F16, false}, &large},
        {{8, 2, 64, DTYPE_Q4_0, DTYPE_F16, false}, &large},
        {{8, 2, 72, DTYPE_Q8_0, DTYPE_F16, false}, &large},
        {{8, 2, 8, DTYPE_F8_E4M3, DTYPE_F16, false}, &large},
        {{16, 1, 512, DTYPE_F32, DTYPE_F32, false}, &small},
    };
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        struct gpu_attention_config config;
        struct llcuda_error error;
        assert_int_equal(
            gpu_attention_configure(&refused[i].shape, refused[i].device, &config, &error),
            LLCUDA_UNSUPPORTED);
        assert_non_null(strstr(error.message, "attention"));
    }
}

/* The preludes that `make check-kernels` compiles with are those of the shapes they stand for. */
static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_steps),   cmocka_unit_test(test_chunks),
    cmocka_unit_test(test_replay),  cmocka_unit_test(test_copy_blocks),
    cmocka_unit_test(test_spans),   cmocka_unit_test(test_cut),
    cmocka_unit_test(test_refused), cmocka_unit_test(test_company),
};

TEST_MAIN(tests)
