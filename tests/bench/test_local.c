/* Reading lists of sizes, and the statistics of a measurement. */
#include "support/test_support.h"

#include "bench/local.h"
#include "bench/local_launches.h"

static void test_lists(void **state)
{
    (void)state;
    struct local_list list;
    struct llcuda_error error = {0};
    assert_ok(local_list_read(&list, "--pp", "512", 0, &error), error);
    assert_int_equal(list.count, 1);
    assert_int_equal(list.values[0], 512);
    assert_ok(local_list_read(&list, "--pp", "0,16777216,7", 0, &error), error);
    assert_int_equal(list.count, 3);
    assert_int_equal(list.values[1], 16777216);
    static const char *const bad[] = {
        "", ",", "1,", "1,,2", "x", "-1", "16777217", "99999999999999999999999", "1 2", "1;2"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        error.message[0] = 0;
        assert_int_equal(local_list_read(&list, "--pp", bad[i], 0, &error),
                         LLCUDA_INVALID_ARGUMENT);
        assert_non_null(strstr(error.message, "--pp"));
    }
    assert_int_equal(local_list_read(&list, "--parallel", "0", 1, &error), LLCUDA_INVALID_ARGUMENT);
    /* One number more than there is room for. */
    char long_list[2 * (LOCAL_LIST_MAX + 1) + 1] = "";
    for (unsigned i = 0; i <= LOCAL_LIST_MAX; i++) {
        strcat(long_list, i ? ",1" : "1");
    }
    assert_int_equal(local_list_read(&list, "--pp", long_list, 0, &error), LLCUDA_INVALID_ARGUMENT);
    long_list[2 * LOCAL_LIST_MAX - 1] = 0;
    assert_ok(local_list_read(&list, "--pp", long_list, 0, &error), error);
    assert_int_equal(list.count, LOCAL_LIST_MAX);
}

static void test_statistics(void **state)
{
    (void)state;
    double rates[] = {4, 1, 3, 2};
    struct local_result result = {.repeats = 4, .rates = rates};
    struct local_summary summary = local_summarize(&result);
    assert_true(fabs(summary.mean - 2.5) < 1e-12);
    assert_true(fabs(summary.median - 2.5) < 1e-12);
    assert_true(fabs(summary.deviation - sqrt(5.0 / 3)) < 1e-12);
    assert_true(rates[0] == 4); /* the samples keep their order */
    result.repeats = 3;
    summary = local_summarize(&result);
    assert_true(summary.median == 3);
    result.repeats = 1;
    summary = local_summarize(&result);
    assert_true(summary.deviation == 0 && summary.mean == 4 && summary.median == 4);
}

/* What a device says of its launches, as people and programs read it. */
static void test_launches(void **state)
{
    (void)state;
    static const struct device_ceilings ceilings = {.read_bytes_per_second = 4e12,
                                                    .flop_per_second = 8e14};
    struct local_launches launches = {
        .steps = {.step_count = 2,
                  .launches = 20,
                  .plan_operations = 70,
                  .has_graphs = true,
                  .graph_ns = 110000,
                  .plain_ns = 200000,
                  .kernel_ns = 100000,
                  .memory = {{"weights", 3 << 20}},
                  .memory_count = 1},
        .kernels = {{.kernel = "attention_decode_fused",
                     .operation = "attention",
                     .is_known = true,
                     .launches = 10,
                     .ns = 50000,
                     .threads = 256,
                     .blocks = 64,
                     .registers = 128,
                     .local_bytes = 8,
                     .shared_bytes = 6376,
                     .blocks_resident = 2,
                     .occupancy = 0.25,
                     .bytes = 100000000,
                     .arithmetic_operations = 4000000000},
                    {.kernel = "norm_rows", .operation = "qkv", .launches = 10, .ns = 50000}},
        .count = 2,
    };
    struct buffer out = {0};
    struct json_writer writer;
    struct json_document *document;
    struct llcuda_error error = {0};
    double value = 0;
    assert_true(fabs(local_launches_saved(&launches.steps) - 0.9) < 1e-12);
    local_launches_text(&launches, &ceilings, &out);
    buffer_append_byte(&out, 0);
    assert_non_null(strstr(out.data, "10.0 launches, 3.5 operations"));
    assert_non_null(strstr(out.data, "-90.0 %"));
    assert_non_null(strstr(out.data, "50.0%  10.0%      64   128     6376      8    2  25.0%"));
    out.length = 0;
    json_writer_init(&writer, &out, 0);
    json_begin_object(&writer);
    local_launches_json(&launches, &ceilings, &writer);
    json_end_object(&writer);
    assert_ok(json_parse(buffer_view(&out), NULL, &document, &error), error);
    const struct json_value *steps = json_member(json_root(document), "steps");
    assert_true(json_number(json_member(steps, "launch_overhead_saved"), &value));
    assert_true(fabs(value - 0.9) < 1e-12);
    uint32_t index = 0;
    JSON_EACH(kernel, json_member(json_root(document), "kernels"))
    {
        assert_int_equal(json_member(kernel, "memory_share") != NULL, index == 0);
        assert_int_equal(json_member(kernel, "registers") != NULL, index == 0);
        index++;
    }
    assert_int_equal(index, 2);
    json_destroy(document);
    /* Launches that add nothing leave nothing to save. */
    launches.steps.plain_ns = 90000;
    assert_true(isnan(local_launches_saved(&launches.steps)));
    out.length = 0;
    launches.count = 0;
    local_launches_text(&launches, &ceilings, &out);
    assert_int_equal(out.length, 0);
    buffer_deinit(&out);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_lists),
    cmocka_unit_test(test_statistics),
    cmocka_unit_test(test_launches),
};

TEST_MAIN(tests)
