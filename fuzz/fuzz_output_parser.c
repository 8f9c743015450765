/* Answers of a model: however they are cut, the same calls come out, and nothing is lost without a
 * call to show for it. The first byte chooses the format and whether reasoning is split. */
#include "fuzz.h"

#include <stdlib.h>

#include "base/buffer.h"
#include "server/output_parser.h"

struct seen {
    struct buffer content, reasoning, calls;
};

static void on_content(void *user, struct text_view text)
{
    buffer_append_view(&((struct seen *)user)->content, text);
}

static void on_reasoning(void *user, struct text_view text)
{
    buffer_append_view(&((struct seen *)user)->reasoning, text);
}

static void on_call(void *user, struct text_view name, struct text_view arguments)
{
    struct seen *seen = user;
    if (name.length == 0 || arguments.length == 0 || arguments.data[0] != '{') {
        abort();
    }
    buffer_append_view(&seen->calls, name);
    buffer_append_byte(&seen->calls, '\n');
    buffer_append_view(&seen->calls, arguments);
    buffer_append_byte(&seen->calls, '\n');
}

static void parse(const uint8_t *data, size_t size, size_t step, struct seen *seen)
{
    struct output_parser parser;
    const struct output_sink sink = {on_content, on_reasoning, on_call, seen};
    uint8_t flags = data[0];
    *seen = (struct seen){0};
    output_parser_init(&parser, (enum tool_format)(flags % 5), (flags & 8) != 0, (flags & 16) != 0);
    for (size_t at = 1; at < size; at += step) {
        size_t bytes = size - at < step ? size - at : step;
        output_parser_feed(&parser, text_view_make((const char *)data + at, bytes), &sink);
    }
    output_parser_finish(&parser, &sink);
    output_parser_deinit(&parser);
}

static void require_equal(const struct buffer *a, const struct buffer *b)
{
    if (!text_view_equal(buffer_view(a), buffer_view(b))) {
        abort();
    }
}

static void forget(struct seen *seen)
{
    buffer_deinit(&seen->content);
    buffer_deinit(&seen->reasoning);
    buffer_deinit(&seen->calls);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct seen whole, pieces;
    if (size == 0) {
        return 0;
    }
    parse(data, size, size, &whole);
    parse(data, size, 1 + data[0] / 32u, &pieces);
    require_equal(&whole.content, &pieces.content);
    require_equal(&whole.reasoning, &pieces.reasoning);
    require_equal(&whole.calls, &pieces.calls);
    forget(&whole);
    forget(&pieces);
    return 0;
}
