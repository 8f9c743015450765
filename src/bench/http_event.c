/* Owns the reading of events. An event that has the bytes of one that was parsed before its text
 * and behind it, and between them plain characters or what is one string with the quotes around it,
 * is that event with another text: no parser could find anything else in it. */
#include "bench/http_event.h"

#include "base/json.h"

static void take_usage(const struct json_value *usage, struct http_event *event)
{
    int64_t number;
    if (json_integer(json_member(usage, "completion_tokens"), 0, UINT32_MAX, &number)) {
        event->has_output_tokens = true;
        event->output_tokens = (uint32_t)number;
    }
    if (json_integer(json_member(usage, "prompt_tokens"), 0, UINT32_MAX, &number)) {
        event->has_prompt_tokens = true;
        event->prompt_tokens = (uint32_t)number;
    }
}

/* Characters that stand for themselves in JSON and need no look at their encoding. */
static bool is_plain(char c)
{
    return c >= 0x20 && c != '"' && c != '\\' && c != 0x7f;
}

/* Keeps an event to compare others with; only one whose text is not decoded can serve. */
static void remember(struct http_event_reader *reader, struct text_view data, struct text_view text)
{
    bool inside = text.length && text.data >= data.data && text.data < data.data + data.length;
    buffer_clear(&reader->last);
    reader->text_begin = reader->text_end = 0;
    if (inside && buffer_append_view(&reader->last, data)) {
        reader->text_begin = (size_t)(text.data - data.data);
        reader->text_end = reader->text_begin + text.length;
    }
}

/* A text that is not plain, parsed by itself: with its quotes. */
static bool read_quoted(struct http_event_reader *reader, struct text_view quoted,
                        struct http_event *event)
{
    json_destroy(reader->document);
    reader->document = NULL;
    event->text = json_parse(quoted, NULL, &reader->document, NULL)
                      ? (struct text_view){0}
                      : json_text(json_root(reader->document));
    return event->text.length != 0;
}

static bool read_alike(struct http_event_reader *reader, struct text_view data,
                       struct http_event *event)
{
    const struct buffer *last = &reader->last;
    const size_t begin = reader->text_begin;
    const size_t rest = last->length - reader->text_end;
    if (reader->text_end == 0 || data.length <= begin + rest ||
        memcmp(data.data, last->data, begin) != 0 ||
        memcmp(data.data + data.length - rest, last->data + reader->text_end, rest) != 0) {
        return false;
    }
    struct text_view text = text_view_make(data.data + begin, data.length - rest - begin);
    for (size_t i = 0; i < text.length; i++) {
        if (!is_plain(text.data[i])) {
            return read_quoted(reader, text_view_make(text.data - 1, text.length + 2), event);
        }
    }
    event->text = text;
    return true;
}

void http_event_read(struct http_event_reader *reader, struct text_view data,
                     struct http_event *event)
{
    *event = (struct http_event){0};
    if (read_alike(reader, data, event)) {
        return;
    }
    json_destroy(reader->document);
    reader->document = NULL;
    reader->parsed++;
    if (json_parse(data, NULL, &reader->document, NULL)) {
        return;
    }
    const struct json_value *root = json_root(reader->document);
    const struct json_value *choices = json_member(root, "choices");
    const struct json_value *usage = json_member(root, "usage");
    if (json_is(choices, JSON_ARRAY) && choices->count) {
        event->text = json_text(json_member(json_first(choices), "text"));
    }
    if (json_is(usage, JSON_OBJECT)) {
        take_usage(usage, event);
    } else {
        remember(reader, data, event->text);
    }
}

void http_event_reader_deinit(struct http_event_reader *reader)
{
    json_destroy(reader->document);
    buffer_deinit(&reader->last);
    *reader = (struct http_event_reader){0};
}
