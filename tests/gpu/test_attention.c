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
};
#define SETUP_COUNT (sizeof setups / sizeof setups[0])

struct results {
    uint8_t *attended, *cache, *expected_cache;
    float *expected;
};

static void results_make(struct results *results, const struct rig *rig)
{
    results->attended = malloc(ROWS_MAX * attended_row_bytes(rig));
    results->cache = malloc(rig->cache_bytes);
    results->expected_cache = malloc(rig->cache_bytes);
    results->expected =
        malloc(sizeof(float) * ROWS_MAX * rig->setup.head_count * rig->setup.head_size);
}

static void results_destroy(struct results *results)
{
    free(results->attended);
    free(results->cache);
    free(results->expected_cache);
    free(results->expected);
}

/* One step against the reference, then each row that may run alone, to the bit. */
static void check_step(struct rig *rig, struct results *results, const uint32_t *counts,
                       uint32_t sequence_count, uint32_t past_max, bool alone)
{
    struct world world;
    struct rows rows;
    world_make(&world, rig, sequence_count, past_max);
    rows_make(&rows, rig, &world, counts);
    rig_run(rig, &world, &rows, results->attended, results->cache);
    reference_run(rig, &world, &rows, results->expected, results->expected_cache);
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

static void test_decode(void **state)
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
        results_destroy(&results);
        rig_close(&rig);
    }
}

static void test_mixed(void **state)
{
    (void)state;
    for (size_t i = 0; i < SETUP_COUNT; i++) {
        struct rig rig;
        struct results results;
        rig_open(&rig, &setups[i], GPU_EMU_REVERSE, NULL, 0);
        results_make(&results, &rig);
        const uint32_t ragged[SEQUENCES_MAX] = {1, 21, 3, 1, 12};
        check_step(&rig, &results, ragged, 5, PAST_MAX, false);
        const uint32_t prompt[SEQUENCES_MAX] = {33};
        check_step(&rig, &results, prompt, 1, 0, false);
        results_destroy(&results);
        rig_close(&rig);
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_decode),
    cmocka_unit_test(test_mixed),
};

TEST_MAIN(tests)
