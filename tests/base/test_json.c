/* JSON reading and writing: what must be read, what must be refused and where. */
#include "support/test_support.h"

#include "base/json.h"

static struct json_document *parse(const char *text)
{
    struct json_document *document;
    struct llcuda_error error;
    assert_ok(json_parse(text_view_of(text), NULL, &document, &error), error);
    return document;
}

static void reads_every_kind(void **state)
{
    (void)state;
    struct json_document *document =
        parse(" {\"a\": [1, -2.5e3, true, false, null], \"s\": \"x\\n\\u00e9\\ud83d\\ude00\"} ");
    const struct json_value *root = json_root(document);
    assert_int_equal(root->kind, JSON_OBJECT);
    assert_int_equal(root->count, 2);
    const struct json_value *array = json_member(root, "a");
    assert_int_equal(array->count, 5);
    int64_t integer;
    assert_true(json_integer(json_first(array), 0, 10, &integer));
    assert_int_equal(integer, 1);
    assert_false(json_integer(json_first(array), 2, 10, &integer));
    double number;
    assert_true(json_number(json_next(json_first(array)), &number));
    assert_true(number == -2500.0);
    assert_true(text_view_is(json_text(json_member(root, "s")), "x\n\xC3\xA9\xF0\x9F\x98\x80"));
    assert_null(json_member(root, "missing"));
    assert_null(json_text(json_member(root, "a")).data);
    json_destroy(document);
}

static void iterates_in_order(void **state)
{
    (void)state;
    struct json_document *document = parse("{\"x\": [[], {}], \"y\": {\"z\": 3}, \"w\": []}");
    int keys = 0;
    JSON_EACH_KEY(key, json_root(document))
    {
        assert_true(text_view_is(json_text(key), keys == 0 ? "x" : keys == 1 ? "y" : "w"));
        keys++;
    }
    assert_int_equal(keys, 3);
    int elements = 0;
    JSON_EACH(element, json_member(json_root(document), "x"))
    {
        assert_int_equal(element->kind, elements == 0 ? JSON_ARRAY : JSON_OBJECT);
        elements++;
    }
    assert_int_equal(elements, 2);
    JSON_EACH(element, json_member(json_root(document), "absent"))
    {
        fail();
    }
    JSON_EACH(element, json_member(json_root(document), "w"))
    {
        fail();
    }
    json_destroy(document);
}

static void refuses_with_a_place(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t offset;
    } cases[] = {
        {"", 0},      {"{", 1},    {"[1,]", 3},     {"{\"a\" 1}", 5}, {"[1 2]", 3},
        {"01", 2},    {"1.", 2},   {"-", 1},        {"\"abc", 4},     {"\"a\nb\"", 2},
        {"tru", 0},   {"[1]x", 3}, {"\"\xff\"", 3}, {"\"\\x\"", 1},   {"\"\\u12g4\"", 1},
        {"{1:2}", 1}, {"1e", 2},   {"nul", 0},      {"[\"a\"", 4},    {"\xEF\xBB\xBF{}", 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct json_document *document;
        struct llcuda_error error = {0};
        llcuda_status status = json_parse(text_view_of(cases[i].text), NULL, &document, &error);
        if (status != LLCUDA_BAD_FORMAT) {
            fail_msg("'%s' gave %s", cases[i].text, llcuda_status_name(status));
        }
        assert_null(document);
        if (strcmp(cases[i].text, "\"\xff\"") != 0) {
            assert_int_equal(error.offset, cases[i].offset);
        }
    }
}

static void bounds_depth_and_duplicates(void **state)
{
    (void)state;
    char deep[2000];
    memset(deep, '[', sizeof deep);
    struct json_document *document;
    struct llcuda_error error;
    assert_int_equal(json_parse(text_view_make(deep, sizeof deep), NULL, &document, &error),
                     LLCUDA_LIMIT);
    struct json_options unique = {.unique_keys = true};
    assert_int_equal(
        json_parse(text_view_of("{\"a\":1,\"b\":2,\"\\u0061\":3}"), &unique, &document, &error),
        LLCUDA_BAD_FORMAT);
    assert_int_equal(error.offset, 13);
    document = parse("{\"a\":1,\"a\":2}");
    int64_t last;
    assert_true(json_integer(json_member(json_root(document), "a"), 0, 9, &last));
    assert_int_equal(last, 2);
    json_destroy(document);
}

static void begins_where_it_is_told(void **state)
{
    (void)state;
    struct json_document *document;
    struct llcuda_error error;
    struct json_options options = {.begin = 4};
    assert_ok(json_parse(text_view_of("\x01\x02{}[7]"), &options, &document, &error), error);
    assert_int_equal(json_first(json_root(document))->offset, 5);
    json_destroy(document);
    assert_int_equal(json_parse(text_view_of("1234[7"), &options, &document, &error),
                     LLCUDA_BAD_FORMAT);
    assert_int_equal(error.offset, 6);
    options.begin = 1000;
    assert_int_equal(json_parse(text_view_of("1234[7"), &options, &document, &error),
                     LLCUDA_BAD_FORMAT);
    assert_int_equal(error.offset, 6);
}

static void numbers_survive_a_round_trip(void **state)
{
    (void)state;
    for (int i = 0; i < 20000; i++) {
        uint64_t bits = test_random();
        double value;
        memcpy(&value, &bits, sizeof value);
        if (!isfinite(value)) {
            continue;
        }
        struct buffer text = {0};
        json_format_number(&text, value, false);
        struct json_document *document = parse(buffer_text(&text));
        double again;
        assert_true(json_number(json_root(document), &again));
        if (again != value) {
            fail_msg("%s came back as %.17g", text.data, again);
        }
        json_destroy(document);
        buffer_deinit(&text);
    }
}

static void writes_nested_values(void **state)
{
    (void)state;
    struct buffer out = {0};
    struct json_writer writer;
    json_writer_init(&writer, &out, 0);
    json_begin_object(&writer);
    json_key(&writer, "a");
    json_begin_array(&writer);
    json_write_integer(&writer, -3);
    json_write_number(&writer, 0.1);
    json_write_number(&writer, (double)NAN);
    json_begin_object(&writer);
    json_end_object(&writer);
    json_end_array(&writer);
    json_key(&writer, "t");
    json_write_text(&writer, text_view_make("\"\\\n\x01\xff", 5));
    json_end_object(&writer);
    assert_string_equal(buffer_text(&out), "{\"a\": [-3, 0.1, null, {}], "
                                           "\"t\": \"\\\"\\\\\\n\\u0001\xEF\xBF\xBD\"}");
    buffer_deinit(&out);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(reads_every_kind),        cmocka_unit_test(iterates_in_order),
    cmocka_unit_test(refuses_with_a_place),    cmocka_unit_test(bounds_depth_and_duplicates),
    cmocka_unit_test(begins_where_it_is_told), cmocka_unit_test(numbers_survive_a_round_trip),
    cmocka_unit_test(writes_nested_values),
};

TEST_MAIN(tests)
