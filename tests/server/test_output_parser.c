/* Answers taken apart: every way of cutting the text gives the same parts. */
#include "support/test_support.h"

#include "base/buffer.h"
#include "server/output_parser.h"

/* What came out, as text: R(…) C(…) T(name arguments); neighbours of a kind are joined. */
struct parts {
    struct buffer text;
    char open;
};

static void put(struct parts *parts, char kind, struct text_view text)
{
    if (parts->open != kind) {
        buffer_append_text(&parts->text, parts->open ? ")" : "");
        buffer_append_byte(&parts->text, kind);
        buffer_append_byte(&parts->text, '(');
        parts->open = kind;
    }
    buffer_append_view(&parts->text, text);
}

static void on_content(void *user, struct text_view text)
{
    assert_true(text.length > 0);
    put(user, 'C', text);
}

static void on_reasoning(void *user, struct text_view text)
{
    assert_true(text.length > 0);
    put(user, 'R', text);
}

static void on_call(void *user, struct text_view name, struct text_view arguments)
{
    struct parts *parts = user;
    buffer_append_text(&parts->text, parts->open ? ")" : "");
    parts->open = 0;
    put(parts, 'T', name);
    buffer_append_byte(&parts->text, ' ');
    buffer_append_view(&parts->text, arguments);
    buffer_append_byte(&parts->text, ')');
    parts->open = 0;
}

/* Feeds pieces of random length up to `piece_max`. */
static void check_cut(enum tool_format format, bool begun, const char *text, const char *expected,
                      size_t piece_max)
{
    struct output_parser parser;
    struct parts parts = {0};
    const struct output_sink sink = {on_content, on_reasoning, on_call, &parts};
    size_t length = strlen(text);
    output_parser_init(&parser, format, true, begun);
    for (size_t at = 0; at < length;) {
        size_t piece = 1 + test_random() % piece_max;
        piece = piece < length - at ? piece : length - at;
        /* A copy of its own, so that reading beyond the piece is seen. */
        char *copy = malloc(piece);
        assert_non_null(copy);
        memcpy(copy, text + at, piece);
        output_parser_feed(&parser, text_view_make(copy, piece), &sink);
        free(copy);
        at += piece;
    }
    output_parser_finish(&parser, &sink);
    buffer_append_text(&parts.text, parts.open ? ")" : "");
    assert_string_equal(buffer_text(&parts.text), expected);
    assert_false(parser.failed);
    buffer_deinit(&parts.text);
    output_parser_deinit(&parser);
}

static void check(enum tool_format format, bool begun, const char *text, const char *expected)
{
    check_cut(format, begun, text, expected, 1);
    check_cut(format, begun, text, expected, 100000);
    for (int i = 0; i < 50; i++) {
        check_cut(format, begun, text, expected, 1 + test_random() % 12);
    }
}

static void splits_reasoning(void **state)
{
    (void)state;
    check(TOOLS_NONE, false, "<think>\nabc < d\n\n</think>\n\nAnswer</think>",
          "R(abc < d)C(Answer</think>)");
    check(TOOLS_NONE, true, "\nso it is\n</think>\n\n 4 \n", "R(so it is)C(4 \n)");
    check(TOOLS_NONE, true, "never closed </thin", "R(never closed </thin)");
    check(TOOLS_NONE, false, "plain <think>no</think>", "C(plain <think>no</think>)");
    check(TOOLS_NONE, false, " \n<think></think>x", "C(x)");
    check(TOOLS_NONE, false, " \n<thin", "C( \n<thin)");
    check(TOOLS_NONE, false, "", "");
}

static void reads_tagged_calls(void **state)
{
    (void)state;
    check(TOOLS_TAGGED, false,
          "<think>hm</think>I look.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 1}}\n"
          "</tool_call>\n<tool_call>{\"name\":\"g\",\"arguments\":{}}</tool_call>\n",
          "R(hm)C(I look.)T(f {\"a\": 1})T(g {})");
    check(TOOLS_TAGGED, false,
          "<tool_call>\n<function=f>\n<parameter=city>\nPa ris\n</parameter>\n<parameter=n>\n3\n"
          "</parameter>\n</function>\n</tool_call>",
          "T(f {\"city\": \"Pa ris\", \"n\": 3})");
    check(TOOLS_TAGGED, false, "<tool_call>{\"name\":\"f\",\"arguments\":{}}", "T(f {})");
    check(TOOLS_TAGGED, false, "a <tool_call>no json</tool_call> b",
          "C(a<tool_call>no json</tool_call> b)");
    check(TOOLS_TAGGED, false, "a <tool_c", "C(a <tool_c)");
    check(TOOLS_NONE, false, "<tool_call>{\"name\":\"f\"}</tool_call>",
          "C(<tool_call>{\"name\":\"f\"}</tool_call>)");
}

static void reads_mistral_calls(void **state)
{
    (void)state;
    check(TOOLS_MISTRAL, false,
          "[TOOL_CALLS][{\"name\": \"f\", \"arguments\": {\"a\": [1]}}, {\"name\": \"g\", "
          "\"arguments\": {}}]",
          "T(f {\"a\": [1]})T(g {})");
    check(TOOLS_MISTRAL, false, "ok [TOOL_CALLS]f[ARGS]{\"a\": 1}[TOOL_CALLS]g[ARGS]{}",
          "C(ok)T(f {\"a\": 1})T(g {})");
    check(TOOLS_MISTRAL, false, "[TOOL_CALLS]broken", "C([TOOL_CALLS]broken)");
    check(TOOLS_MISTRAL, false, "[TOOL] x", "C([TOOL] x)");
}

static void reads_llama_calls(void **state)
{
    (void)state;
    check(TOOLS_LLAMA, false, " {\"name\": \"f\", \"parameters\": {\"a\": \"{}\"}}",
          "T(f {\"a\": \"{}\"})");
    check(TOOLS_LLAMA, false,
          "<|python_tag|>{\"name\": \"f\", \"parameters\": {}}; {\"name\": \"g\", \"parameters\": "
          "{\"b\": \";\"}}",
          "T(f {})T(g {\"b\": \";\"})");
    check(TOOLS_LLAMA, false, "{\"a\": 1}", "C({\"a\": 1})");
    check(TOOLS_LLAMA, false, "It is {warm}.", "C(It is {warm}.)");
}

static void limits_calls(void **state)
{
    (void)state;
    struct buffer text = {0};
    struct buffer expected = {0};
    for (uint32_t i = 0; i < OUTPUT_CALLS_MAX; i++) {
        buffer_append_text(&text, "<tool_call>{\"name\":\"f\"}</tool_call>");
        buffer_append_text(&expected, "T(f {})");
    }
    buffer_append_text(&text, "<tool_call>{\"name\":\"f\"}</tool_call>");
    buffer_append_text(&expected, "C(<tool_call>{\"name\":\"f\"}</tool_call>)");
    check_cut(TOOLS_TAGGED, false, buffer_text(&text), buffer_text(&expected), 100);
    buffer_deinit(&text);
    buffer_deinit(&expected);
}

/* An answer that was cut inside a call, full of semicolons, and one of white space only: neither
 * may take a time that grows with the square of its length. The first took minutes once. */
static void long_answers_are_cheap(void **state)
{
    (void)state;
    struct buffer text = {0};
    struct buffer expected = {0};
    buffer_append_text(&text, "{\"name\":\"f\",\"parameters\":{\"a\":\"");
    for (uint32_t i = 0; i < 400000; i++) {
        buffer_append_byte(&text, ';');
    }
    buffer_printf(&expected, "C(%s)", buffer_text(&text));
    check_cut(TOOLS_LLAMA, false, buffer_text(&text), buffer_text(&expected), 100000);
    buffer_deinit(&text);
    buffer_deinit(&expected);

    const enum tool_format formats[] = {TOOLS_NONE, TOOLS_TAGGED, TOOLS_MISTRAL, TOOLS_LLAMA};
    for (size_t i = 0; i < 2 * sizeof formats / sizeof formats[0]; i++) {
        struct output_parser parser;
        struct parts parts = {0};
        const struct output_sink sink = {on_content, on_reasoning, on_call, &parts};
        static const char spaces[] = "\n       ";
        output_parser_init(&parser, formats[i / 2], true, false);
        if (i % 2 == 0) {
            output_parser_feed(&parser, text_view_of("<think>it"), &sink);
        }
        for (uint32_t piece = 0; piece < 4096; piece++) {
            output_parser_feed(&parser, text_view_of(spaces), &sink);
        }
        assert_true(parser.held.length < 8192);
        output_parser_finish(&parser, &sink);
        assert_true(parts.text.length > 4096 * (sizeof spaces - 1));
        buffer_deinit(&parts.text);
        output_parser_deinit(&parser);
    }
}

static void recognises_formats(void **state)
{
    (void)state;
    const struct {
        const char *with_tool, *with_call;
        enum tool_format format;
    } rows[] = {
        {"user a", "user a", TOOLS_NONE},
        {"tools: " TOOL_FORMAT_TOOL " as <tool_call>", "", TOOLS_TAGGED},
        {"x " TOOL_FORMAT_TOOL, "<tool_call>\n{\"name\": \"" TOOL_FORMAT_CALL "\"", TOOLS_TAGGED},
        {"x " TOOL_FORMAT_TOOL,
         TOOL_FORMAT_CALL " [TOOL_CALLS][{\"name\": \"" TOOL_FORMAT_CALL "\"", TOOLS_MISTRAL},
        {"x " TOOL_FORMAT_TOOL, "{\"name\": \"" TOOL_FORMAT_CALL "\", \"parameters\": {}}",
         TOOLS_LLAMA},
        {"x " TOOL_FORMAT_TOOL, "call " TOOL_FORMAT_CALL "()", TOOLS_UNKNOWN},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_int_equal(
            tool_format_recognise(text_view_of(rows[i].with_tool), text_view_of(rows[i].with_call)),
            rows[i].format);
    }
    assert_true(output_prompt_opens_reasoning(text_view_of("assistant\n<think>\n")));
    assert_false(output_prompt_opens_reasoning(text_view_of("<think>\n</think>\n")));
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(splits_reasoning),    cmocka_unit_test(reads_tagged_calls),
    cmocka_unit_test(reads_mistral_calls), cmocka_unit_test(reads_llama_calls),
    cmocka_unit_test(limits_calls),        cmocka_unit_test(long_answers_are_cheap),
    cmocka_unit_test(recognises_formats),
};

TEST_MAIN(tests)
