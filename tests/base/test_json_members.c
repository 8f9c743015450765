/* The walk over members: what it finds, and that with json_parse it refuses what is no JSON. */
#include "support/test_support.h"

#include "base/json_members.h"

/* Walks all members and parses every key and value; the number of members, or -1. */
static int walk(const char *text)
{
    struct text_view view = text_view_of(text);
    struct json_members members;
    struct json_member member;
    struct llcuda_error error;
    struct arena arena;
    bool more = true;
    arena_init(&arena, 0);
    llcuda_status status = json_members_begin(&members, view, 0, &error);
    while (!status) {
        status = json_members_next(&members, &member, &more);
        if (status || !more) {
            break;
        }
        struct text_view key;
        struct json_document *document;
        status = json_string_at(view, member.key_begin, member.key_end, &arena, &key, &error);
        if (!status) {
            status =
                json_value_at(view, member.value_begin, member.value_end, 100, &document, &error);
        }
        if (!status) {
            json_destroy(document);
        }
    }
    arena_deinit(&arena);
    if (status) {
        assert_true(error.offset <= view.length);
    }
    return status ? -1 : (int)members.count;
}

static void walks_valid_objects(void **state)
{
    (void)state;
    assert_int_equal(walk("{}"), 0);
    assert_int_equal(walk(" \n{ } trailing bytes are the caller's"), 0);
    assert_int_equal(walk("{\"a\":1}"), 1);
    assert_int_equal(walk("{\"a\" : {\"x\":[1,2,{\"}\":\"]\"}]} , \"b\":\"\\\"}\",\"c\":null}"), 3);
    assert_int_equal(walk("{\"a\":1,\"a\":2}"), 2);
}

static void refuses_what_is_no_object(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        "[",
        "{",
        "{,}",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{\"a\":1 2}",
        "{\"a\":1;}",
        "{a:1}",
        "{\"a\":[}",
        "{\"a\":[1}}",
        "{\"a\":{]}",
        "{\"a",
        "{\"a\":\"b",
        "{\"a\":tru}",
        "{\"a\":01}",
        "{\"a\":\"\x01\"}",
        "{\"\\x\":1}",
        "{\"a\":1\"b\"}",
        "{\"a\":[1,]}",
        "{\"a\":\"\xff\"}",
        "{\"a\\",
        "{\"a\":{\"b\":1,\"b\":2}}",
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        if (walk(texts[i]) >= 0) {
            fail_msg("accepted %s", texts[i]);
        }
    }
}

static void decodes_strings(void **state)
{
    (void)state;
    struct text_view text = text_view_of("x\"plain\"y\"\\u0041\\n\" \"\"");
    struct text_view out;
    struct llcuda_error error;
    struct arena arena;
    arena_init(&arena, 0);
    assert_ok(json_string_at(text, 1, 8, &arena, &out, &error), error);
    assert_true(text_view_is(out, "plain"));
    assert_ptr_equal(out.data, text.data + 2);
    assert_ok(json_string_at(text, 9, 19, &arena, &out, &error), error);
    assert_true(text_view_is(out, "A\n"));
    assert_ok(json_string_at(text, 20, 22, &arena, &out, &error), error);
    assert_int_equal(out.length, 0);
    assert_int_equal(json_string_at(text, 0, 1, &arena, &out, &error), LLCUDA_BAD_FORMAT);
    assert_int_equal(json_string_at(text, 1, 2, &arena, &out, &error), LLCUDA_BAD_FORMAT);
    assert_int_equal(json_string_at(text, 1, 1, &arena, &out, &error), LLCUDA_BAD_FORMAT);
    arena_deinit(&arena);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(walks_valid_objects),
    cmocka_unit_test(refuses_what_is_no_object),
    cmocka_unit_test(decodes_strings),
};

TEST_MAIN(tests)
