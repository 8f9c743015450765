/* The bytes of answers. */
#include "support/test_support.h"

#include "net/http_writer.h"

static void heads(void **state)
{
    (void)state;
    struct buffer out = {0};
    http_write_head(&out, 200, "text/plain", HTTP_BODY_SIZED, 5, true, text_view_of("A: b\r\n"));
    const char *text = buffer_text(&out);
    assert_memory_equal(text, "HTTP/1.1 200 OK\r\nDate: ", 23);
    assert_non_null(
        strstr(text, " GMT\r\nContent-Type: text/plain\r\nContent-Length: 5\r\nA: b\r\n\r\n"));
    buffer_clear(&out);
    http_write_head(&out, 429, NULL, HTTP_BODY_SIZED, 0, false, text_view_make(NULL, 0));
    assert_non_null(strstr(buffer_text(&out), "429 Too Many Requests\r\n"));
    assert_non_null(strstr(buffer_text(&out), "Content-Length: 0\r\nConnection: close\r\n\r\n"));
    buffer_clear(&out);
    http_write_head(&out, 200, "a/b", HTTP_BODY_UNTIL_CLOSE, 0, true, text_view_make(NULL, 0));
    assert_non_null(strstr(buffer_text(&out), "Connection: close\r\n\r\n"));
    assert_null(strstr(buffer_text(&out), "Content-Length"));
    buffer_deinit(&out);
}

static void header_values_hold_no_lines(void **state)
{
    (void)state;
    struct buffer out = {0};
    http_write_header(&out, "X", text_view_of("a\r\nSet-Cookie: b\x7f\x80 c"));
    assert_string_equal(buffer_text(&out), "X: aSet-Cookie: b c\r\n");
    buffer_deinit(&out);
}

static void chunks(void **state)
{
    (void)state;
    struct buffer out = {0};
    http_write_chunk(&out, text_view_of("0123456789abcdef!"));
    http_write_chunk(&out, text_view_of("")); /* would end the body */
    http_write_last_chunk(&out);
    assert_string_equal(buffer_text(&out), "11\r\n0123456789abcdef!\r\n0\r\n\r\n");
    buffer_deinit(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(heads),
        cmocka_unit_test(header_values_hold_no_lines),
        cmocka_unit_test(chunks),
    };
    test_seed_print();
    return cmocka_run_group_tests_name(__FILE__, tests, NULL, NULL);
}
