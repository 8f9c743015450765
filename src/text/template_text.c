/* Owns Python's text operations that filters and methods share: case, stripping, replacing, lines.
 * All of them work on code points of valid UTF-8. */
#include "text/template_engine.h"

#include "base/utf8.h"
#include "text/template_unicode.h"

bool jinja_capture_like(struct jinja_render *render, size_t mark, const struct jinja_string *source,
                        struct jinja_value *out)
{
    return jinja_capture_end(render, mark, out) &&
           jinja_string_mark(render, *out, source->markup, out);
}

/* --- case --- */

static bool is_cased(uint32_t code)
{
    return jinja_is_lower(code) || jinja_is_upper(code) || jinja_is_title(code);
}

/* A capital sigma ends a word: something cased before it, nothing cased behind it, ignorable
 * characters aside. */
static bool is_final_sigma(struct text_view text, size_t position)
{
    uint32_t code;
    size_t at = position;
    bool before = false;
    while (at > 0 && !before) {
        at--;
        while (at > 0 && ((unsigned char)text.data[at] & 0xC0) == 0x80) {
            at--;
        }
        utf8_decode(text.data + at, text.length - at, &code);
        if (!jinja_is_ignorable(code)) {
            before = is_cased(code);
            break;
        }
    }
    if (!before) {
        return false;
    }
    at = position + 2;
    while (at < text.length) {
        at += utf8_decode(text.data + at, text.length - at, &code);
        if (!jinja_is_ignorable(code)) {
            return !is_cased(code);
        }
    }
    return true;
}

static bool put_mapped(struct jinja_render *render, struct text_view text, size_t position,
                       uint32_t code, enum jinja_case to)
{
    uint32_t mapped[3];
    if (to == JINJA_LOWER && code == 0x3A3) {
        return jinja_put_code(render, is_final_sigma(text, position) ? 0x3C2 : 0x3C3);
    }
    size_t count = jinja_map_case(to, code, mapped);
    for (size_t i = 0; i < count; i++) {
        if (!jinja_put_code(render, mapped[i])) {
            return false;
        }
    }
    return true;
}

bool jinja_put_case(struct jinja_render *render, struct text_view text, enum jinja_case_mode mode)
{
    bool after_cased = false;
    size_t position = 0;
    if (!jinja_step(render, 1 + text.length / 8)) {
        return false;
    }
    while (position < text.length) {
        uint32_t code;
        size_t length = utf8_decode(text.data + position, text.length - position, &code);
        enum jinja_case to = JINJA_LOWER;
        switch (mode) {
        case CASE_LOWER:
            break;
        case CASE_UPPER:
            to = JINJA_UPPER;
            break;
        case CASE_TITLE:
            to = after_cased ? JINJA_LOWER : JINJA_TITLE;
            break;
        case CASE_CAPITALIZE:
            to = position ? JINJA_LOWER : JINJA_TITLE;
            break;
        case CASE_SWAP:
            to = jinja_is_upper(code) ? JINJA_LOWER : JINJA_UPPER;
            break;
        }
        bool change = mode != CASE_SWAP || jinja_is_upper(code) || jinja_is_lower(code);
        if (change ? !put_mapped(render, text, position, code, to)
                   : !jinja_put_code(render, code)) {
            return false;
        }
        after_cased = is_cased(code);
        position += length;
    }
    return true;
}

bool jinja_change_case(struct jinja_render *render, const struct jinja_string *string,
                       enum jinja_case_mode mode, struct jinja_value *out)
{
    size_t mark = jinja_capture(render);
    return jinja_put_case(render, text_view_make(string->data, string->length), mode) &&
           jinja_capture_like(render, mark, string, out);
}

bool jinja_text_is_cased(struct text_view text, bool upper)
{
    bool any = false;
    size_t position = 0;
    while (position < text.length) {
        uint32_t code;
        position += utf8_decode(text.data + position, text.length - position, &code);
        if (jinja_is_title(code) || (upper ? jinja_is_lower(code) : jinja_is_upper(code))) {
            return false;
        }
        any = any || (upper ? jinja_is_upper(code) : jinja_is_lower(code));
    }
    return any;
}

/* --- stripping --- */

/* Whether the character at text[begin, end) is one of `characters`, or white space. */
static bool is_stripped(struct text_view text, size_t begin, size_t end,
                        const struct text_view *characters)
{
    if (characters) {
        return jinja_find(*characters, text_view_make(text.data + begin, end - begin), 0) !=
               SIZE_MAX;
    }
    uint32_t code;
    utf8_decode(text.data + begin, end - begin, &code);
    return jinja_is_space(code);
}

struct text_view jinja_strip(struct text_view text, const struct text_view *characters, bool left,
                             bool right)
{
    size_t begin = 0;
    size_t end = text.length;
    while (left && begin < end) {
        size_t next = begin + 1;
        while (next < end && ((unsigned char)text.data[next] & 0xC0) == 0x80) {
            next++;
        }
        if (!is_stripped(text, begin, next, characters)) {
            break;
        }
        begin = next;
    }
    while (right && begin < end) {
        size_t last = end - 1;
        while (last > begin && ((unsigned char)text.data[last] & 0xC0) == 0x80) {
            last--;
        }
        if (!is_stripped(text, last, end, characters)) {
            break;
        }
        end = last;
    }
    return text_view_make(text.data + begin, end - begin);
}

/* --- replacing --- */

/* An empty `old` lies before every character and at the end. */
static bool put_interleaved(struct jinja_render *render, struct text_view text,
                            struct text_view fresh, int64_t limit)
{
    size_t position = 0;
    for (;;) {
        if (limit-- != 0 && (!jinja_step_bytes(render, fresh.length) ||
                             !jinja_put(render, fresh.data, fresh.length))) {
            return false;
        }
        limit = limit < 0 ? -1 : limit;
        if (position >= text.length) {
            return true;
        }
        size_t next = position + 1;
        while (next < text.length && ((unsigned char)text.data[next] & 0xC0) == 0x80) {
            next++;
        }
        if (!jinja_put(render, text.data + position, next - position)) {
            return false;
        }
        position = next;
        if (limit == 0) {
            return jinja_put(render, text.data + position, text.length - position);
        }
    }
}

bool jinja_put_replaced(struct jinja_render *render, struct text_view text, struct text_view old,
                        struct text_view fresh, int64_t limit)
{
    size_t position = 0;
    if (!jinja_step_bytes(render, text.length)) {
        return false;
    }
    if (limit == 0) {
        return jinja_put(render, text.data, text.length);
    }
    if (old.length == 0) {
        return put_interleaved(render, text, fresh, limit);
    }
    while (limit != 0) {
        size_t found = jinja_find(text, old, position);
        if (found == SIZE_MAX) {
            break;
        }
        if (!jinja_step_bytes(render, fresh.length) ||
            !jinja_put(render, text.data + position, found - position) ||
            !jinja_put(render, fresh.data, fresh.length)) {
            return false;
        }
        position = found + old.length;
        limit -= limit > 0;
    }
    return jinja_put(render, text.data + position, text.length - position);
}

/* --- lines and padding --- */

bool jinja_next_line(struct text_view *rest, struct text_view *line, size_t *line_end)
{
    if (rest->length == 0) {
        return false;
    }
    size_t position = 0;
    size_t length = 0;
    while (position < rest->length) {
        uint32_t code;
        length = utf8_decode(rest->data + position, rest->length - position, &code);
        if (jinja_is_line_break(code)) {
            bool pair =
                code == '\r' && position + 1 < rest->length && rest->data[position + 1] == '\n';
            length += pair;
            break;
        }
        position += length;
        length = 0;
    }
    *line = text_view_make(rest->data, position);
    *line_end = length;
    rest->data += position + length;
    rest->length -= position + length;
    return true;
}

static bool put_repeated(struct jinja_render *render, uint32_t code, size_t count)
{
    char bytes[4];
    return jinja_put_times(render, text_view_make(bytes, utf8_encode(code, bytes)), count);
}

bool jinja_center(struct jinja_render *render, const struct jinja_string *string, int64_t width,
                  uint32_t fill, struct jinja_value *out)
{
    size_t wide = width > 0 ? (size_t)width : 0;
    size_t padding = wide > string->characters ? wide - string->characters : 0;
    size_t left = padding / 2 + (padding & wide & 1);
    size_t mark = jinja_capture(render);
    return put_repeated(render, fill, left) && jinja_put(render, string->data, string->length) &&
           put_repeated(render, fill, padding - left) &&
           jinja_capture_like(render, mark, string, out);
}
