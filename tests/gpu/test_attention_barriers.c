/* Each barrier of the kernels of attention is taken away once: then a step must go wrong, in one of
 * two orders of its threads. */
#include "attention_support.h"

static const struct setup matrix = {
    .name = "matrix path",
    .head_count = 8,
    .kv_head_count = 2,
    .head_size = 64,
    .kv = DTYPE_BF16,
    .act = DTYPE_BF16,
    .rotary_kind = ROTARY_HALF,
    .rotary_size = 64,
};

static const struct setup plain = {
    .name = "plain path",
    .head_count = 6,
    .kv_head_count = 2,
    .head_size = 20,
    .kv = DTYPE_F32,
    .act = DTYPE_F32,
    .groups_max = 2,
    .rotary_kind = ROTARY_INTERLEAVED,
    .rotary_size = 12,
};

static const struct setup bytes = {
    .name = "cache of bytes",
    .head_count = 8,
    .kv_head_count = 2,
    .head_size = 64,
    .kv = DTYPE_Q8_0,
    .act = DTYPE_BF16,
    .rotary_kind = ROTARY_HALF,
    .rotary_size = 64,
};

/* Whether a step gives the same bits with a text that lacks one of its barriers. */
static bool survives_without(const struct setup *setup, enum gpu_emu_order order,
                             uint32_t occurrence, const struct world *world,
                             const struct rows *rows, const struct layer *layer,
                             const struct results *healthy)
{
    struct rig rig;
    struct results results;
    rig_open(&rig, setup, order, "__syncthreads();", occurrence);
    rig_layer_set(&rig, layer);
    results_make(&results, &rig);
    rig.tolerant = true;
    rig_run(&rig, world, rows, results.attended, results.cache);
    bool same = !rig.failed && memcmp(results.attended, healthy->attended,
                                      rows->count * attended_row_bytes(&rig)) == 0;
    results_destroy(&results);
    rig_close(&rig);
    return same;
}

static void check_barriers(const struct setup *setup, const uint32_t *counts,
                           const uint32_t *barriers, uint32_t barrier_count)
{
    struct rig rig;
    struct results healthy;
    struct world world;
    struct rows rows;
    rig_open(&rig, setup, GPU_EMU_REVERSE, NULL, 0);
    results_make(&healthy, &rig);
    world_make(&world, &rig, 2, 300);
    rows_make(&rows, &rig, &world, counts);
    rig_run(&rig, &world, &rows, healthy.attended, healthy.cache);
    for (uint32_t i = 0; i < barrier_count; i++) {
        if (survives_without(setup, GPU_EMU_REVERSE, barriers[i], &world, &rows, &rig.layer,
                             &healthy) &&
            survives_without(setup, GPU_EMU_FORWARD, barriers[i], &world, &rows, &rig.layer,
                             &healthy)) {
            fail_msg("%s: nothing fails without barrier %u", setup->name, barriers[i]);
        }
    }
    free(rows.raw);
    world_destroy(&world);
    results_destroy(&healthy);
    rig_close(&rig);
}

/* Barriers by their number in the joined text: qkv_finish has the first, then come those of decode,
 * first of the merge, then of the matrix path, then of the plain one, then those of prefill: where
 * bytes become halves, and of its loop. Two are
 * not seen here: one orders the merge of more groups than fit in shared memory at a time, and one
 * orders partial sums before the counter that another block reads, and the emulator runs blocks one
 * by one. */
static void test_barriers(void **state)
{
    (void)state;
    const uint32_t singles[SEQUENCES_MAX] = {1, 1};
    const uint32_t of_decode[] = {1, 2, 5, 6, 7, 8, 9};
    check_barriers(&matrix, singles, of_decode, sizeof of_decode / sizeof of_decode[0]);
    const uint32_t of_plain[] = {10, 11, 12, 13, 14};
    check_barriers(&plain, singles, of_plain, sizeof of_plain / sizeof of_plain[0]);
    const uint32_t prompt[SEQUENCES_MAX] = {0, 40};
    const uint32_t of_prefill[] = {0, 16};
    check_barriers(&matrix, prompt, of_prefill, sizeof of_prefill / sizeof of_prefill[0]);
    const uint32_t of_bytes[] = {15, 16};
    check_barriers(&bytes, prompt, of_bytes, sizeof of_bytes / sizeof of_bytes[0]);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_barriers),
};

TEST_MAIN(tests)
