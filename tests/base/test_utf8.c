/* UTF-8: every code point both ways, everything that is no UTF-8, and streaming cuts. */
#include "support/test_support.h"

#include "base/utf8.h"

static void every_code_point_round_trips(void **state)
{
    (void)state;
    for (uint32_t code = 0; code <= 0x110000; code++) {
        char bytes[4];
        size_t length = utf8_encode(code, bytes);
        bool scalar = code <= 0x10FFFF && !(code >= 0xD800 && code <= 0xDFFF);
        assert_int_equal(length > 0, scalar);
        if (scalar) {
            uint32_t again = ~code;
            assert_int_equal(utf8_decode(bytes, length, &again), length);
            assert_int_equal(again, code);
            assert_int_equal(utf8_decode(bytes, length - 1, &again), 0);
        }
    }
}

static void refuses_what_is_not_utf8(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "\x80",         "\xC0\x80",         "\xC1\xBF",         "\xE0\x80\x80",
        "\xED\xA0\x80", "\xF0\x80\x80\x80", "\xF4\x90\x80\x80", "\xF5\x80\x80\x80",
        "\xFF",         "abcdefgh\xE2\x82", "\xE2\x28\xA1"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_false(utf8_valid(text_view_of(bad[i])));
    }
    assert_int_equal(utf8_invalid_length("\xE2\x82", 2), 2);
    assert_int_equal(utf8_invalid_length("\xE2\x28", 2), 1);
    assert_int_equal(utf8_invalid_length("\xF0\x9F\x98x", 4), 3);
    assert_int_equal(utf8_invalid_length("\xED\xA0\x80", 3), 1);
}

static void a_stream_never_cuts_a_character(void **state)
{
    (void)state;
    const char text[] = "a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80z";
    const size_t boundary[] = {0, 1, 1, 3, 3, 3, 6, 6, 6, 6, 10, 11};
    for (size_t length = 0; length <= 11; length++) {
        assert_int_equal(utf8_complete_length(text_view_make(text, length)), boundary[length]);
    }
    /* Bytes that can never become a character are not held back. */
    assert_int_equal(utf8_complete_length(text_view_make("a\x80", 2)), 2);
    assert_int_equal(utf8_complete_length(text_view_make("\xED\xA0", 2)), 2);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(every_code_point_round_trips),
    cmocka_unit_test(refuses_what_is_not_utf8),
    cmocka_unit_test(a_stream_never_cuts_a_character),
};

TEST_MAIN(tests)
