/* Owns JSON writing. Invariant: whatever is passed in, the output is valid UTF-8 JSON as long as
 * containers are closed and keys and values alternate. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/json.h"
#include "base/utf8.h"

#define JSON_WRITER_DEPTH 64u

void json_writer_init(struct json_writer *writer, struct buffer *out, int indent)
{
    *writer = (struct json_writer){.out = out, .indent = indent};
}

static void new_line(struct json_writer *writer)
{
    if (writer->indent > 0) {
        buffer_append_byte(writer->out, '\n');
        for (uint32_t i = 0; i < writer->depth * (uint32_t)writer->indent; i++) {
            buffer_append_byte(writer->out, ' ');
        }
    }
}

static void begin_value(struct json_writer *writer)
{
    if (writer->after_key) {
        writer->after_key = false;
        return;
    }
    uint64_t bit = 1ull << writer->depth;
    if (writer->has_item & bit) {
        buffer_append_text(writer->out, writer->indent > 0 || writer->depth == 0 ? "," : ", ");
    }
    writer->has_item |= bit;
    if (writer->depth > 0) {
        new_line(writer);
    }
}

static void open_level(struct json_writer *writer, char bracket)
{
    begin_value(writer);
    buffer_append_byte(writer->out, bracket);
    if (writer->depth + 1 >= JSON_WRITER_DEPTH) {
        writer->out->failed = true;
        return;
    }
    writer->depth++;
    writer->has_item &= ~(1ull << writer->depth);
}

static void close_level(struct json_writer *writer, char bracket)
{
    bool filled = writer->has_item >> writer->depth & 1;
    if (writer->depth > 0) {
        writer->depth--;
    }
    if (filled) {
        new_line(writer);
    }
    buffer_append_byte(writer->out, bracket);
}

void json_begin_object(struct json_writer *writer)
{
    open_level(writer, '{');
}

void json_end_object(struct json_writer *writer)
{
    close_level(writer, '}');
}

void json_begin_array(struct json_writer *writer)
{
    open_level(writer, '[');
}

void json_end_array(struct json_writer *writer)
{
    close_level(writer, ']');
}

void json_key_view(struct json_writer *writer, struct text_view key)
{
    begin_value(writer);
    json_quote(writer->out, key);
    buffer_append_text(writer->out, ": ");
    writer->after_key = true;
}

void json_key(struct json_writer *writer, const char *key)
{
    json_key_view(writer, text_view_of(key));
}

void json_write_text(struct json_writer *writer, struct text_view text)
{
    begin_value(writer);
    json_quote(writer->out, text);
}

void json_write_string(struct json_writer *writer, const char *text)
{
    json_write_text(writer, text_view_of(text));
}

void json_write_integer(struct json_writer *writer, int64_t value)
{
    begin_value(writer);
    buffer_printf(writer->out, "%lld", (long long)value);
}

void json_write_unsigned(struct json_writer *writer, uint64_t value)
{
    begin_value(writer);
    buffer_append_unsigned(writer->out, value);
}

void json_write_unsigned_array(struct json_writer *writer, const uint32_t *values, size_t count)
{
    begin_value(writer);
    buffer_append_byte(writer->out, '[');
    buffer_append_list(writer->out, values, count);
    buffer_append_byte(writer->out, ']');
}

void json_write_number(struct json_writer *writer, double value)
{
    if (!isfinite(value)) {
        json_write_null(writer);
        return;
    }
    begin_value(writer);
    json_format_number(writer->out, value, false);
}

void json_write_bool(struct json_writer *writer, bool value)
{
    begin_value(writer);
    buffer_append_text(writer->out, value ? "true" : "false");
}

void json_write_null(struct json_writer *writer)
{
    begin_value(writer);
    buffer_append_text(writer->out, "null");
}

static void write_scalar(struct json_writer *writer, const struct json_value *value)
{
    switch ((enum json_kind)value->kind) {
    case JSON_FALSE:
    case JSON_TRUE:
        json_write_bool(writer, value->kind == JSON_TRUE);
        break;
    case JSON_INTEGER:
        json_write_integer(writer, value->integer);
        break;
    case JSON_NUMBER:
        json_write_number(writer, value->number);
        break;
    case JSON_STRING:
        json_write_text(writer, json_text(value));
        break;
    default:
        json_write_null(writer);
        break;
    }
}

/* Depth is bounded by the parser's own limit and by JSON_WRITER_DEPTH. */
void json_write_value(struct json_writer *writer, const struct json_value *value)
{
    if (json_is(value, JSON_ARRAY)) {
        json_begin_array(writer);
        JSON_EACH(element, value)
        {
            if (!writer->out->failed) {
                json_write_value(writer, element);
            }
        }
        json_end_array(writer);
    } else if (json_is(value, JSON_OBJECT)) {
        json_begin_object(writer);
        JSON_EACH_KEY(key, value)
        {
            if (!writer->out->failed) {
                json_key_view(writer, json_text(key));
                json_write_value(writer, json_next(key));
            }
        }
        json_end_object(writer);
    } else {
        write_scalar(writer, value);
    }
}

static void quote_byte(struct buffer *out, unsigned char c)
{
    static const char names[] = "btn?fr"; /* 8 … 13; 11 has no short form */
    if (c == '"' || c == '\\') {
        buffer_append_byte(out, '\\');
        buffer_append_byte(out, (char)c);
    } else if (c >= 8 && c <= 13 && c != 11) {
        buffer_append_byte(out, '\\');
        buffer_append_byte(out, names[c - 8]);
    } else if (c < 0x20 || c == 0x7f) {
        buffer_printf(out, "\\u%04x", c);
    } else {
        buffer_append_byte(out, (char)c);
    }
}

void json_quote(struct buffer *out, struct text_view text)
{
    buffer_append_byte(out, '"');
    size_t position = 0;
    while (position < text.length) {
        uint32_t code_point;
        const char *at = text.data + position;
        size_t left = text.length - position;
        size_t length = utf8_decode(at, left, &code_point);
        if (length == 0) {
            buffer_append_text(out, "\xEF\xBF\xBD");
            length = utf8_invalid_length(at, left);
        } else if (length == 1) {
            quote_byte(out, (unsigned char)*at);
        } else {
            buffer_append(out, at, length);
        }
        position += length;
    }
    buffer_append_byte(out, '"');
}

void json_format_number(struct buffer *out, double value, bool keep_point)
{
    char text[40];
    for (int precision = 15; precision <= 17; precision++) {
        snprintf(text, sizeof text, "%.*g", precision, value);
        if (strtod(text, NULL) == value) {
            break;
        }
    }
    /* A host locale may have put a comma: JSON wants a point. */
    bool looks_integral = true;
    for (char *c = text; *c; c++) {
        if (*c == ',') {
            *c = '.';
        }
        looks_integral = looks_integral && ((*c >= '0' && *c <= '9') || *c == '-');
    }
    buffer_append_text(out, text);
    if (keep_point && looks_integral) {
        buffer_append_text(out, ".0");
    }
}
