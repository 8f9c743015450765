/* What surrounds a request: checks of its options, stop strings, the event ring, tenants, sizes. */
#include "fake.h"

#include "engine/parameters.h"
#include "engine/sizing.h"

static llcuda_request_options valid_options(void)
{
    static const uint32_t prompt[] = {3, 4, 5};
    llcuda_request_options options;
    llcuda_request_options_init(&options, sizeof options);
    options.prompt_tokens = prompt;
    options.prompt_token_count = 3;
    return options;
}

static llcuda_status check(const llcuda_request_options *options, const char *expected)
{
    struct llcuda_error error = {0};
    llcuda_status status = parameters_check_request(options, 61, &error);
    if (expected && !strstr(error.message, expected)) {
        fail_msg("'%s' does not name '%s'", error.message, expected);
    }
    return status;
}

static void put(llcuda_request_options *options, const llcuda_parameter *row, double value)
{
    char *field = (char *)options + row->offset;
    switch (row->kind) {
    case LLCUDA_PARAMETER_DOUBLE:
        memcpy(field, &value, sizeof value);
        break;
    case LLCUDA_PARAMETER_U32:
        memcpy(field, &(uint32_t){(uint32_t)value}, 4);
        break;
    case LLCUDA_PARAMETER_I32:
        memcpy(field, &(int32_t){(int32_t)value}, 4);
        break;
    case LLCUDA_PARAMETER_U64:
        memcpy(field, &(uint64_t){(uint64_t)value}, 8);
        break;
    case LLCUDA_PARAMETER_BOOL:
        memcpy(field, &(unsigned char){(unsigned char)value}, 1);
        break;
    }
}

static void every_parameter_has_its_range(void **state)
{
    (void)state;
    uint32_t count;
    const llcuda_parameter *rows = llcuda_request_parameters(&count);
    llcuda_request_options options = valid_options();
    assert_int_equal(check(&options, NULL), LLCUDA_OK);
    for (uint32_t i = 0; i < count; i++) {
        const llcuda_parameter *row = &rows[i];
        assert_true(strlen(row->help) > 0);
        assert_true(row->minimum <= row->fallback && row->fallback <= row->maximum);
        options = valid_options();
        if (strcmp(row->name, "min_tokens") != 0) {
            put(&options, row, row->minimum);
            assert_int_equal(check(&options, NULL), LLCUDA_OK);
            if (row->kind != LLCUDA_PARAMETER_U64) {
                put(&options, row, row->maximum);
                assert_int_equal(check(&options, NULL), LLCUDA_OK);
            }
        }
        bool is_double = row->kind == LLCUDA_PARAMETER_DOUBLE;
        double above[] = {is_double ? row->maximum * 1.01 + 1e-3 : row->maximum + 1, NAN, INFINITY,
                          is_double ? row->minimum - 1e-3 : row->maximum + 7};
        for (int k = 0; k < (is_double ? 4 : 1); k++) {
            if (row->maximum >= 4e9) {
                break; /* all values of the type are valid, or nearly so */
            }
            options = valid_options();
            put(&options, row, above[k]);
            assert_int_equal(check(&options, row->name), LLCUDA_INVALID_ARGUMENT);
        }
    }
}

static void lists_are_bounded(void **state)
{
    (void)state;
    static char huge[LIMIT_STOP_STRING_BYTES + 1];
    static uint32_t ids[20];
    static llcuda_logit_bias biases[LIMIT_LOGIT_BIAS + 1];
    static char name[200];
    memset(name, 'x', sizeof name - 1);
    llcuda_text stop = {huge, sizeof huge};
    llcuda_request_options o = valid_options();
    o.stop = &stop;
    o.stop_count = 1;
    assert_int_equal(check(&o, "stop[0]"), LLCUDA_LIMIT);
    stop.bytes = 2ull << 30; /* two gigabytes, by their own account */
    assert_int_equal(check(&o, "stop[0]"), LLCUDA_LIMIT);
    stop.bytes = 0;
    assert_int_equal(check(&o, "stop[0]"), LLCUDA_INVALID_ARGUMENT);
    stop = (llcuda_text){"\xC3", 1}; /* half a character can never be seen in the text */
    assert_int_equal(check(&o, "stop[0]"), LLCUDA_INVALID_ARGUMENT);
    o.stop_count = 17;
    assert_int_equal(check(&o, "stop"), LLCUDA_LIMIT);
    o.stop_count = 1;
    o.stop = NULL;
    assert_int_equal(check(&o, "stop"), LLCUDA_INVALID_ARGUMENT);
    o = valid_options();
    o.stop_tokens = ids;
    o.stop_token_count = 17;
    assert_int_equal(check(&o, "stop_tokens"), LLCUDA_LIMIT);
    o.stop_token_count = 2;
    ids[1] = 61;
    assert_int_equal(check(&o, "stop_tokens[1]"), LLCUDA_INVALID_ARGUMENT);
    o = valid_options();
    o.logit_bias = biases;
    o.logit_bias_count = LIMIT_LOGIT_BIAS + 1;
    assert_int_equal(check(&o, "logit_bias"), LLCUDA_LIMIT);
    o.logit_bias_count = 1;
    biases[0] = (llcuda_logit_bias){61, 0};
    assert_int_equal(check(&o, "logit_bias"), LLCUDA_INVALID_ARGUMENT);
    biases[0] = (llcuda_logit_bias){60, NAN};
    assert_int_equal(check(&o, "bias of token 60"), LLCUDA_INVALID_ARGUMENT);
    biases[0] = (llcuda_logit_bias){60, INFINITY};
    assert_int_equal(check(&o, "bias of token 60"), LLCUDA_INVALID_ARGUMENT);
    biases[0] = (llcuda_logit_bias){60, -INFINITY};
    assert_int_equal(check(&o, NULL), LLCUDA_OK);
    o = valid_options();
    o.tenant = name;
    assert_int_equal(check(&o, "tenant"), LLCUDA_LIMIT);
    o = valid_options();
    o.min_tokens = 5;
    o.max_tokens = 4;
    assert_int_equal(check(&o, "min_tokens"), LLCUDA_INVALID_ARGUMENT);
}

static void prompts_are_checked(void **state)
{
    (void)state;
    static const uint32_t ids[70] = {61};
    llcuda_request_options o = valid_options();
    o.prompt = "two prompts";
    assert_int_equal(check(&o, "exactly one"), LLCUDA_INVALID_ARGUMENT);
    o = valid_options();
    o.prompt_tokens = NULL;
    assert_int_equal(check(&o, "exactly one"), LLCUDA_INVALID_ARGUMENT);
    o.prompt = "";
    assert_int_equal(check(&o, NULL), LLCUDA_OK);
    o.prompt_bytes = SIZE_MAX;
    assert_int_equal(check(&o, "bytes"), LLCUDA_LIMIT);
    o = valid_options();
    o.prompt_tokens = ids;
    assert_int_equal(check(&o, "prompt_tokens[0]"), LLCUDA_INVALID_ARGUMENT);
    o.prompt_token_count = 0;
    assert_int_equal(check(&o, "prompt_token_count"), LLCUDA_INVALID_ARGUMENT);
    o.prompt_token_count = SIZE_MAX;
    assert_int_equal(check(&o, "prompt_token_count"), LLCUDA_INVALID_ARGUMENT);

    struct fake_engine engine;
    const struct scheduler_options options = {
        .block_count = 8, .running_max = 2, .rows_max = 24, .sequence_max = 4, .context_max = 64};
    assert_true(fake_engine_open(&engine, &options, 62));
    o = valid_options();
    o.prompt_tokens = ids;
    llcuda_status status;
    for (size_t length = 63; length < 66; length++) {
        o.prompt_token_count = length;
        llcuda_request *request = fake_submit(&engine, &o, &status);
        assert_int_equal(status, length < 64 ? LLCUDA_OK : LLCUDA_CONTEXT_FULL);
        llcuda_request_release(request);
    }
    core_take_mail(&engine.core);
    fake_engine_close(&engine);
}

static void structs_of_other_sizes_are_read(void **state)
{
    (void)state;
    struct {
        llcuda_request_options options;
        uint64_t future;
    } newer = {.options = valid_options()};
    llcuda_request_options read;
    struct llcuda_error error;
    newer.options.size = sizeof newer;
    assert_ok(parameters_read_request(&newer.options, &read, &error), error);
    assert_int_equal(read.size, sizeof read);
    assert_int_equal(read.prompt_token_count, 3);
    newer.future = 1;
    assert_int_equal(parameters_read_request(&newer.options, &read, &error), LLCUDA_UNSUPPORTED);
    llcuda_request_options older = valid_options();
    older.top_k = 77; /* lies behind what the older header knew */
    older.size = offsetof(llcuda_request_options, logit_bias);
    assert_ok(parameters_read_request(&older, &read, &error), error);
    assert_int_equal(read.top_k, 0);
    assert_int_equal(read.choice_count, 1);
    older.size = 0;
    assert_int_equal(parameters_read_request(&older, &read, &error), LLCUDA_INVALID_ARGUMENT);
    unsigned char small[64];
    memset(small, 0xAA, sizeof small);
    llcuda_request_options_init((llcuda_request_options *)(void *)small, 16);
    assert_int_equal(small[16], 0xAA); /* nothing beyond the caller's struct is touched */
}

/* ------------------------------------------------------------------ stop strings */

static void stop_strings_do_not_depend_on_cuts(void **state)
{
    (void)state;
    for (int round = 0; round < 3000; round++) {
        char text[60];
        char strings[3][6];
        llcuda_text stops[3];
        uint32_t count = 1 + (uint32_t)test_random_below(3);
        for (uint32_t i = 0; i < count; i++) {
            stops[i] = (llcuda_text){strings[i], 1 + test_random_below(6)};
            for (size_t k = 0; k < stops[i].bytes; k++) {
                strings[i][k] = (char)('a' + test_random_below(2));
            }
        }
        for (size_t i = 0; i < sizeof text; i++) {
            text[i] = (char)('a' + test_random_below(2u + (unsigned)round % 2));
        }
        /* The slow way: the first end, and the longest string there. */
        size_t end = 0;
        int32_t expected = -1;
        while (end < sizeof text && expected < 0) {
            end++;
            for (uint32_t i = 0; i < count; i++) {
                if (stops[i].bytes <= end &&
                    memcmp(text + end - stops[i].bytes, stops[i].data, stops[i].bytes) == 0 &&
                    (expected < 0 || stops[i].bytes > stops[expected].bytes)) {
                    expected = (int32_t)i;
                }
            }
        }
        struct arena arena;
        struct stop_set set;
        struct stop_state matched = {0};
        arena_init(&arena, 0);
        assert_true(stop_set_init(&set, stops, count, &arena));
        size_t at = 0;
        int32_t found = -1;
        while (at < sizeof text && found < 0) {
            size_t piece = 1 + test_random_below(7);
            piece = piece < sizeof text - at ? piece : sizeof text - at;
            size_t consumed;
            found = stop_set_feed(&set, &matched, text + at, piece, &consumed);
            at += consumed;
            /* What is held back is the longest beginning of a string at the end. */
            size_t held = 0;
            for (uint32_t i = 0; i < count && found < 0; i++) {
                for (size_t k = 1; k < stops[i].bytes && k <= at; k++) {
                    if (memcmp(text + at - k, stops[i].data, k) == 0 && k > held) {
                        held = k;
                    }
                }
            }
            assert_true(found >= 0 || stop_set_held(&set, &matched) == held);
        }
        assert_int_equal(found, expected);
        assert_int_equal(at, end);
        arena_deinit(&arena);
    }
}

/* ------------------------------------------------------------------ the ring */

static void the_ring_keeps_every_byte(void **state)
{
    (void)state;
    char data[512];
    struct event_ring ring;
    event_ring_init(&ring, data, sizeof data);
    uint32_t written = 0;
    uint32_t read = 0;
    for (int round = 0; round < 20000; round++) {
        struct event_record record = {
            .kind = RECORD_TOKEN,
            .token = written,
            .top_count = (uint8_t)(written % 4),
            .text_bytes = written % 50,
        };
        llcuda_top_logprob top[4];
        char text[50];
        for (uint32_t i = 0; i < 4; i++) {
            top[i] = (llcuda_top_logprob){written + i, (float)i};
        }
        memset(text, (int)('a' + written % 26), sizeof text);
        size_t needed = sizeof record + record.top_count * sizeof top[0] + record.text_bytes;
        if (test_random_below(2) && event_ring_room(&ring) >= needed) {
            event_ring_write(&ring, &record, top, text_view_make(text, record.text_bytes));
            if (written % 3 == 0) {
                event_ring_publish(&ring);
            }
            written++;
        } else if (event_ring_peek(&ring, &record)) {
            assert_int_equal(record.token, read);
            assert_int_equal(record.text_bytes, read % 50);
            event_ring_pop(&ring, &record, top, text);
            for (uint32_t i = 0; i < record.top_count; i++) {
                assert_int_equal(top[i].token, read + i);
            }
            for (uint32_t i = 0; i < record.text_bytes; i++) {
                assert_int_equal(text[i], 'a' + read % 26);
            }
            read++;
        } else {
            event_ring_publish(&ring);
        }
    }
    assert_true(read > 1000);
}

/* ------------------------------------------------------------------ tenants and sizes */

static void many_tenants_are_told_apart(void **state)
{
    (void)state;
    struct tenant_table table;
    struct llcuda_error error;
    assert_ok(tenant_table_init(&table, 8, &error), error);
    uint32_t held[8];
    for (uint32_t i = 0; i < 500; i++) {
        char name[16];
        snprintf(name, sizeof name, "tenant %u", i);
        uint32_t index = tenant_acquire(&table, text_view_of(name));
        assert_int_equal(tenant_acquire(&table, text_view_of(name)), index);
        tenant_release(&table, index);
        table.entries[index].finish += i;
        if (i >= 8) {
            tenant_release(&table, held[i % 8]);
        }
        held[i % 8] = index;
        for (uint32_t k = 0; k < 8 && k < i; k++) {
            assert_true(k == i % 8 || held[k] != index);
        }
    }
    assert_int_equal(table.live, 8);
    tenant_table_deinit(&table);
}

static void sizes_follow_options(void **state)
{
    (void)state;
    llcuda_engine_options options;
    llcuda_engine_options_init(&options, sizeof options);
    struct sizing_input input = {
        .options = &options,
        .kv_block_bytes = 16 * 32768,
        .weight_bytes = 2ull << 30,
        .model_context_length = 131072,
        .vocabulary_size = 128256,
        .piece_bytes_max = 500,
        .memory_free_bytes = 18ull << 30,
        .step_rows = 300,
    };
    struct sizing sizing;
    struct llcuda_error error;
    assert_ok(sizing_compute(&input, &sizing, &error), error);
    assert_int_equal(sizing.context_length, 131072); /* a quarter of 16 GiB is its cache exactly */
    assert_int_equal(sizing.kv_bytes, 4ull << 30);
    assert_true(sizing.total_bytes >= sizing.kv_bytes + sizing.logits_bytes);
    assert_int_equal(sizing.rows_max, 300);
    input.memory_free_bytes = 10ull << 30;
    assert_ok(sizing_compute(&input, &sizing, &error), error);
    assert_int_equal(sizing.context_length, 65536);
    options.context_length = 2048;
    options.kv_bytes = 64ull << 20;
    assert_ok(sizing_compute(&input, &sizing, &error), error);
    assert_int_equal(sizing.kv_block_count, 128);
    assert_int_equal(sizing.context_length, 2048);
    options.context_length = 2049;
    assert_int_equal(sizing_compute(&input, &sizing, &error), LLCUDA_LIMIT);
    assert_non_null(strstr(error.message, "2049"));
    options.context_length = 0;
    options.kv_bytes = 1000;
    assert_int_equal(sizing_compute(&input, &sizing, &error), LLCUDA_LIMIT);
    options.running_max = 200;
    options.step_tokens = 8;
    options.queue_max = 1;
    options.kv_bytes = 1ull << 30;
    assert_ok(sizing_compute(&input, &sizing, &error), error);
    assert_int_equal(sizing.rows_max, 200 + SCHEDULER_PREFILL_ROWS_MIN);
    assert_int_equal(sizing.sequence_max, 200);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_parameter_has_its_range),
        cmocka_unit_test(lists_are_bounded),
        cmocka_unit_test(prompts_are_checked),
        cmocka_unit_test(structs_of_other_sizes_are_read),
        cmocka_unit_test(stop_strings_do_not_depend_on_cuts),
        cmocka_unit_test(the_ring_keeps_every_byte),
        cmocka_unit_test(many_tenants_are_told_apart),
        cmocka_unit_test(sizes_follow_options),
    };
    test_seed_print();
    return cmocka_run_group_tests_name("request", tests, NULL, NULL);
}
