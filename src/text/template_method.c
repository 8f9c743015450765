/* Owns the methods of strings, as Python's str has them. values[0] is the receiver. Indices count
 * code points. Methods that make bytes or translation tables (encode, translate, maketrans) exist
 * but are refused when called. */
#include "text/template_engine.h"

#include "base/utf8.h"
#include "text/template_unicode.h"

#define METHOD(name)                                                          \
    static bool name(struct jinja_render *render, struct jinja_value *values, \
                     const struct jinja_call *call, struct jinja_value *out)

/* --- arguments --- */

static bool string_argument(struct jinja_render *render, struct jinja_value value,
                            struct text_view *out)
{
    bool is_string = value.kind == JINJA_STRING;
    *out = is_string ? jinja_text(value) : text_view_make("", 0);
    return is_string ||
           jinja_fail(render, "the argument must be str, not %s", jinja_type_name(value));
}

static bool integer_argument(struct jinja_render *render, struct jinja_value value,
                             int64_t fallback, int64_t *out)
{
    *out = fallback;
    return value.kind == JINJA_MISSING || jinja_as_integer(value, out) ||
           jinja_fail(render, "'%s' object cannot be interpreted as an integer",
                      jinja_type_name(value));
}

/* Text that keeps its markup mark. */
static bool part_of(struct jinja_render *render, struct jinja_value whole, struct text_view text,
                    struct jinja_value *out)
{
    return jinja_string_borrow(render, text, out) &&
           jinja_string_mark(render, *out, whole.string->markup, out);
}

/* --- case --- */

METHOD(method_upper)
{
    (void)call;
    return jinja_change_case(render, values[0].string, CASE_UPPER, out);
}

METHOD(method_lower)
{
    (void)call;
    return jinja_change_case(render, values[0].string, CASE_LOWER, out);
}

METHOD(method_title)
{
    (void)call;
    return jinja_change_case(render, values[0].string, CASE_TITLE, out);
}

METHOD(method_capitalize)
{
    (void)call;
    return jinja_change_case(render, values[0].string, CASE_CAPITALIZE, out);
}

METHOD(method_swapcase)
{
    (void)call;
    return jinja_change_case(render, values[0].string, CASE_SWAP, out);
}

/* --- stripping --- */

static bool strip(struct jinja_render *render, struct jinja_value *values, bool left, bool right,
                  struct jinja_value *out)
{
    struct text_view characters = {NULL, 0};
    bool given = values[1].kind != JINJA_MISSING && values[1].kind != JINJA_NONE;
    if ((given && !string_argument(render, values[1], &characters)) ||
        !jinja_step(render, 1 + values[0].string->length / 64 * (1 + characters.length / 64))) {
        return false;
    }
    return part_of(render, values[0],
                   jinja_strip(jinja_text(values[0]), given ? &characters : NULL, left, right),
                   out);
}

METHOD(method_strip)
{
    (void)call;
    return strip(render, values, true, true, out);
}

METHOD(method_lstrip)
{
    (void)call;
    return strip(render, values, true, false, out);
}

METHOD(method_rstrip)
{
    (void)call;
    return strip(render, values, false, true, out);
}

METHOD(method_removeprefix)
{
    struct text_view text = jinja_text(values[0]);
    struct text_view prefix;
    (void)call;
    if (!string_argument(render, values[1], &prefix)) {
        return false;
    }
    if (prefix.length <= text.length &&
        (prefix.length == 0 || memcmp(text.data, prefix.data, prefix.length) == 0)) {
        text.data += prefix.length;
        text.length -= prefix.length;
    }
    return part_of(render, values[0], text, out);
}

METHOD(method_removesuffix)
{
    struct text_view text = jinja_text(values[0]);
    struct text_view suffix;
    (void)call;
    if (!string_argument(render, values[1], &suffix)) {
        return false;
    }
    if (suffix.length && suffix.length <= text.length &&
        memcmp(text.data + text.length - suffix.length, suffix.data, suffix.length) == 0) {
        text.length -= suffix.length;
    }
    return part_of(render, values[0], text, out);
}

/* --- splitting and joining --- */

static bool add_part(struct jinja_render *render, struct jinja_value whole,
                     struct jinja_items *items, struct text_view text)
{
    struct jinja_value part;
    return part_of(render, whole, text, &part) && jinja_items_add(render, items, part);
}

/* From one end of the text to the other: the next run of characters that are (not) white space. */
static size_t run_length(struct text_view text, bool space, bool from_right)
{
    size_t length = 0;
    while (length < text.length) {
        uint32_t code;
        size_t at = from_right ? text.length - length - 1 : length;
        while (from_right && at > 0 && ((unsigned char)text.data[at] & 0xC0) == 0x80) {
            at--;
        }
        size_t width = utf8_decode(text.data + at, text.length - at, &code);
        if (jinja_is_space(code) != space) {
            break;
        }
        length += width;
    }
    return length;
}

static void drop(struct text_view *text, size_t length, bool from_right)
{
    text->data += from_right ? 0 : length;
    text->length -= length;
}

static bool split_space(struct jinja_render *render, struct jinja_value whole, int64_t limit,
                        bool from_right, struct jinja_items *items)
{
    struct text_view rest = jinja_text(whole);
    for (;;) {
        drop(&rest, run_length(rest, true, from_right), from_right);
        if (rest.length == 0) {
            return true;
        }
        if (limit-- == 0) {
            return add_part(render, whole, items, rest);
        }
        limit = limit < 0 ? -1 : limit;
        size_t length = run_length(rest, false, from_right);
        const char *begin = from_right ? rest.data + rest.length - length : rest.data;
        if (!add_part(render, whole, items, text_view_make(begin, length))) {
            return false;
        }
        drop(&rest, length, from_right);
    }
}

/* Counts the work of looking for `wanted` from the right, which compares at every place. */
static bool step_find_last(struct jinja_render *render, size_t length, struct text_view wanted)
{
    return jinja_step(render, (1 + length / 64) * (1 + wanted.length / 64));
}

/* The last occurrence that ends at or before the end of the text. */
static size_t find_last(struct text_view text, struct text_view wanted)
{
    if (wanted.length > text.length) {
        return SIZE_MAX;
    }
    for (size_t at = text.length - wanted.length + 1; at > 0; at--) {
        if (wanted.length == 0 || memcmp(text.data + at - 1, wanted.data, wanted.length) == 0) {
            return at - 1;
        }
    }
    return SIZE_MAX;
}

static bool split_at(struct jinja_render *render, struct jinja_value whole,
                     struct text_view separator, int64_t limit, bool from_right,
                     struct jinja_items *items)
{
    struct text_view rest = jinja_text(whole);
    while (limit != 0) {
        size_t found = from_right ? find_last(rest, separator) : jinja_find(rest, separator, 0);
        if (found == SIZE_MAX) {
            break;
        }
        size_t after = found + separator.length;
        struct text_view part = from_right ? text_view_make(rest.data + after, rest.length - after)
                                           : text_view_make(rest.data, found);
        if (!add_part(render, whole, items, part)) {
            return false;
        }
        drop(&rest, from_right ? rest.length - found : after, from_right);
        limit -= limit > 0;
    }
    return add_part(render, whole, items, rest);
}

static bool split(struct jinja_render *render, struct jinja_value *values, bool from_right,
                  struct jinja_value *out)
{
    struct text_view separator;
    struct jinja_items items = {0};
    int64_t limit;
    bool ok;
    if (!integer_argument(render, values[2], -1, &limit) ||
        !jinja_step(render, 1 + values[0].string->length / 8)) {
        return false;
    }
    limit = limit < 0 ? -1 : limit;
    if (values[1].kind == JINJA_MISSING || values[1].kind == JINJA_NONE) {
        ok = split_space(render, values[0], limit, from_right, &items);
    } else {
        if (!string_argument(render, values[1], &separator)) {
            return false;
        }
        if (separator.length == 0) {
            return jinja_fail(render, "empty separator");
        }
        if (!step_find_last(render, values[0].string->length, separator)) {
            return false;
        }
        ok = split_at(render, values[0], separator, limit, from_right, &items);
    }
    for (size_t i = 0; ok && from_right && i < items.count / 2; i++) {
        struct jinja_value swap = items.items[i];
        items.items[i] = items.items[items.count - 1 - i];
        items.items[items.count - 1 - i] = swap;
    }
    return ok && jinja_list_make(render, JINJA_LIST, items.items, items.count, out);
}

METHOD(method_split)
{
    (void)call;
    return split(render, values, false, out);
}

METHOD(method_rsplit)
{
    (void)call;
    return split(render, values, true, out);
}

METHOD(method_splitlines)
{
    struct jinja_items items = {0};
    struct text_view rest = jinja_text(values[0]);
    struct text_view line;
    size_t line_end;
    bool keep = jinja_truth(values[1]);
    (void)call;
    if (!jinja_step(render, 1 + rest.length / 8)) {
        return false;
    }
    while (jinja_next_line(&rest, &line, &line_end)) {
        line.length += keep ? line_end : 0;
        if (!add_part(render, values[0], &items, line)) {
            return false;
        }
    }
    return jinja_list_make(render, JINJA_LIST, items.items, items.count, out);
}

static bool partition(struct jinja_render *render, struct jinja_value *values, bool last,
                      struct jinja_value *out)
{
    struct text_view separator;
    struct text_view text = jinja_text(values[0]);
    struct jinja_items items = {0};
    if (!string_argument(render, values[1], &separator) || !jinja_step_bytes(render, text.length)) {
        return false;
    }
    if (separator.length == 0) {
        return jinja_fail(render, "empty separator");
    }
    size_t found = last ? find_last(text, separator) : jinja_find(text, separator, 0);
    struct text_view parts[3] = {text, {"", 0}, {"", 0}};
    if (found == SIZE_MAX && last) {
        parts[0].length = 0;
        parts[2] = text;
    } else if (found != SIZE_MAX) {
        size_t after = found + separator.length;
        parts[0].length = found;
        parts[1] = text_view_make(text.data + found, separator.length);
        parts[2] = text_view_make(text.data + after, text.length - after);
    }
    for (int i = 0; i < 3; i++) {
        if (!add_part(render, values[0], &items, parts[i])) {
            return false;
        }
    }
    return jinja_list_make(render, JINJA_TUPLE, items.items, items.count, out);
}

METHOD(method_partition)
{
    (void)call;
    return partition(render, values, false, out);
}

METHOD(method_rpartition)
{
    (void)call;
    return partition(render, values, true, out);
}

METHOD(method_join)
{
    struct jinja_iterator iterator;
    struct jinja_value item;
    size_t index = 0;
    size_t mark = jinja_capture(render);
    bool markup = values[0].string->markup;
    (void)call;
    if (!jinja_iterate(render, values[1], &iterator)) {
        return false;
    }
    enum jinja_advance advance;
    while ((advance = jinja_next(render, &iterator, &item)) == JINJA_ITEM) {
        bool escape = markup && !(item.kind == JINJA_STRING && item.string->markup);
        if (item.kind != JINJA_STRING && !markup) {
            return jinja_fail(render, "sequence item %zu: expected str instance, %s found", index,
                              jinja_type_name(item));
        }
        if ((index++ && !jinja_print(render, values[0])) || !jinja_to_string(render, item, &item) ||
            !(escape ? jinja_print_escaped(render, jinja_text(item)) : jinja_print(render, item))) {
            return false;
        }
    }
    return advance == JINJA_END && jinja_capture_like(render, mark, values[0].string, out);
}

/* --- searching --- */

struct window {
    struct text_view text;
    size_t begin; /* in characters, of the whole string */
    bool empty;   /* the bounds cross: nothing is found, not even nothing */
};

static bool window_bound(struct jinja_render *render, struct jinja_value value, int64_t length,
                         int64_t fallback, int64_t *out)
{
    if (value.kind == JINJA_NONE) {
        value.kind = JINJA_MISSING;
    }
    if (!integer_argument(render, value, fallback, out)) {
        return false;
    }
    *out += *out < 0 ? length : 0;
    *out = *out < 0 ? 0 : *out;
    return true;
}

/* string[start:end], as find and its like search it. */
static bool make_window(struct jinja_render *render, struct jinja_value *values,
                        struct window *window)
{
    const struct jinja_string *string = values[0].string;
    int64_t length = (int64_t)string->characters;
    int64_t start;
    int64_t end;
    if (!window_bound(render, values[2], length, 0, &start) ||
        !window_bound(render, values[3], length, length, &end) ||
        !jinja_step_bytes(render, string->length)) {
        return false;
    }
    end = end > length ? length : end;
    window->empty = start > end;
    if (window->empty) {
        start = end;
    }
    size_t first = jinja_byte_offset(string, (size_t)start);
    size_t last = jinja_byte_offset(string, (size_t)end);
    window->begin = (size_t)start;
    window->text = text_view_make(string->data + first, last - first);
    return true;
}

static bool find(struct jinja_render *render, struct jinja_value *values, bool last, bool must,
                 struct jinja_value *out)
{
    struct window window;
    struct text_view wanted;
    if (!string_argument(render, values[1], &wanted) || !make_window(render, values, &window) ||
        !step_find_last(render, last ? window.text.length : 0, wanted)) {
        return false;
    }
    size_t found = window.empty ? SIZE_MAX
                   : last       ? find_last(window.text, wanted)
                                : jinja_find(window.text, wanted, 0);
    if (found == SIZE_MAX) {
        *out = jinja_integer(-1);
        return !must || jinja_fail(render, "substring not found");
    }
    size_t index = window.begin + jinja_count_characters(window.text.data, found);
    *out = jinja_integer((int64_t)index);
    return true;
}

METHOD(method_find)
{
    (void)call;
    return find(render, values, false, false, out);
}

METHOD(method_rfind)
{
    (void)call;
    return find(render, values, true, false, out);
}

METHOD(method_index)
{
    (void)call;
    return find(render, values, false, true, out);
}

METHOD(method_rindex)
{
    (void)call;
    return find(render, values, true, true, out);
}

METHOD(method_count)
{
    struct window window;
    struct text_view wanted;
    int64_t count = 0;
    (void)call;
    if (!string_argument(render, values[1], &wanted) || !make_window(render, values, &window)) {
        return false;
    }
    if (wanted.length == 0) {
        count = (int64_t)jinja_count_characters(window.text.data, window.text.length) + 1;
        *out = jinja_integer(window.empty ? 0 : count);
        return true;
    }
    size_t position = 0;
    while ((position = jinja_find(window.text, wanted, position)) != SIZE_MAX) {
        position += wanted.length;
        count++;
    }
    *out = jinja_integer(count);
    return true;
}

static bool has_affix(const struct window *window, struct text_view affix, bool end)
{
    struct text_view text = window->text;
    if (window->empty || affix.length > text.length) {
        return false;
    }
    const char *at = end ? text.data + text.length - affix.length : text.data;
    return affix.length == 0 || memcmp(at, affix.data, affix.length) == 0;
}

/* startswith and endswith take one text or a tuple of them. */
static bool affixed(struct jinja_render *render, struct jinja_value *values, bool end,
                    struct jinja_value *out)
{
    struct window window;
    struct text_view affix;
    if (!make_window(render, values, &window)) {
        return false;
    }
    *out = jinja_bool(false);
    if (values[1].kind != JINJA_TUPLE) {
        if (!string_argument(render, values[1], &affix)) {
            return false;
        }
        *out = jinja_bool(has_affix(&window, affix, end));
        return true;
    }
    for (size_t i = 0; i < values[1].list->count && !out->boolean; i++) {
        if (!string_argument(render, values[1].list->items[i], &affix)) {
            return false;
        }
        *out = jinja_bool(has_affix(&window, affix, end));
    }
    return true;
}

METHOD(method_startswith)
{
    (void)call;
    return affixed(render, values, false, out);
}

METHOD(method_endswith)
{
    (void)call;
    return affixed(render, values, true, out);
}

METHOD(method_replace)
{
    struct text_view old;
    struct text_view fresh;
    int64_t limit;
    size_t mark = jinja_capture(render);
    (void)call;
    return string_argument(render, values[1], &old) && string_argument(render, values[2], &fresh) &&
           integer_argument(render, values[3], -1, &limit) &&
           jinja_put_replaced(render, jinja_text(values[0]), old, fresh, limit) &&
           jinja_capture_like(render, mark, values[0].string, out);
}

/* --- padding --- */

static bool fill_argument(struct jinja_render *render, struct jinja_value value, uint32_t *fill)
{
    *fill = ' ';
    if (value.kind == JINJA_MISSING) {
        return true;
    }
    if (value.kind != JINJA_STRING || value.string->characters != 1) {
        return jinja_fail(render, "The fill character must be exactly one character long");
    }
    utf8_decode(value.string->data, value.string->length, fill);
    return true;
}

METHOD(method_center)
{
    int64_t width;
    uint32_t fill;
    (void)call;
    return integer_argument(render, values[1], 0, &width) &&
           fill_argument(render, values[2], &fill) &&
           jinja_center(render, values[0].string, width, fill, out);
}

static bool pad(struct jinja_render *render, struct jinja_value *values, uint32_t fill, bool left,
                struct jinja_value *out)
{
    int64_t width;
    const struct jinja_string *string = values[0].string;
    size_t mark = jinja_capture(render);
    if (!integer_argument(render, values[1], 0, &width)) {
        return false;
    }
    size_t wide = width > 0 ? (size_t)width : 0;
    size_t padding = wide > string->characters ? wide - string->characters : 0;
    if (!left && !jinja_put(render, string->data, string->length)) {
        return false;
    }
    for (size_t i = 0; i < padding; i++) {
        if (!jinja_step(render, (i & 15) == 0) || !jinja_put_code(render, fill)) {
            return false;
        }
    }
    return (!left || jinja_put(render, string->data, string->length)) &&
           jinja_capture_like(render, mark, string, out);
}

METHOD(method_ljust)
{
    uint32_t fill;
    (void)call;
    return fill_argument(render, values[2], &fill) && pad(render, values, fill, false, out);
}

METHOD(method_rjust)
{
    uint32_t fill;
    (void)call;
    return fill_argument(render, values[2], &fill) && pad(render, values, fill, true, out);
}

/* Zeros go behind a sign. */
METHOD(method_zfill)
{
    const struct jinja_string *string = values[0].string;
    struct jinja_value rest[3] = {values[0], values[1], {0}};
    struct jinja_value sign;
    int64_t width;
    (void)call;
    bool has_sign = string->length && (string->data[0] == '-' || string->data[0] == '+');
    if (!has_sign) {
        return pad(render, rest, '0', true, out);
    }
    if (!integer_argument(render, values[1], 0, &width) ||
        !jinja_substring(render, string, 0, 1, &sign) ||
        !jinja_substring(render, string, 1, string->characters - 1, &rest[0])) {
        return false;
    }
    rest[1] = jinja_integer(width > 0 ? width - 1 : 0);
    return pad(render, rest, '0', true, out) &&
           jinja_string_join(render, sign.string, out->string, out) &&
           jinja_string_mark(render, *out, string->markup, out);
}

METHOD(method_expandtabs)
{
    int64_t size;
    int64_t column = 0;
    size_t mark = jinja_capture(render);
    (void)call;
    if (!integer_argument(render, values[1], 8, &size)) {
        return false;
    }
    for (size_t i = 0; i < values[0].string->length; i++) {
        char c = values[0].string->data[i];
        int64_t blanks = c == '\t' && size > 0 ? size - column % size : 0;
        column = c == '\n' || c == '\r' ? 0 : column + (((unsigned char)c & 0xC0) != 0x80);
        if (c == '\t') {
            column += blanks - 1;
            for (int64_t k = 0; k < blanks; k++) {
                if (!jinja_step(render, (k & 15) == 0) || !jinja_put(render, " ", 1)) {
                    return false;
                }
            }
        } else if (!jinja_put(render, &c, 1)) {
            return false;
        }
    }
    return jinja_step_bytes(render, values[0].string->length) &&
           jinja_capture_like(render, mark, values[0].string, out);
}

/* --- asking --- */

static bool all_are(struct jinja_render *render, struct jinja_value string,
                    bool (*predicate)(uint32_t), bool when_empty, struct jinja_value *out)
{
    struct text_view text = jinja_text(string);
    bool all = text.length > 0 || when_empty;
    size_t position = 0;
    while (all && position < text.length) {
        uint32_t code;
        position += utf8_decode(text.data + position, text.length - position, &code);
        all = predicate(code);
    }
    *out = jinja_bool(all);
    return jinja_step(render, 1 + text.length / 8);
}

static bool is_ascii_code(uint32_t code)
{
    return code < 0x80;
}

static bool is_name_code(uint32_t code)
{
    return code == '_' || jinja_is_alnum(code);
}

#define ASKING_METHOD(name, predicate, when_empty)                     \
    METHOD(name)                                                       \
    {                                                                  \
        (void)call;                                                    \
        return all_are(render, values[0], predicate, when_empty, out); \
    }

ASKING_METHOD(method_isalpha, jinja_is_alpha, false)
ASKING_METHOD(method_isalnum, jinja_is_alnum, false)
ASKING_METHOD(method_isdigit, jinja_is_digit, false)
ASKING_METHOD(method_isdecimal, jinja_is_decimal, false)
ASKING_METHOD(method_isnumeric, jinja_is_numeric, false)
ASKING_METHOD(method_isspace, jinja_is_space, false)
ASKING_METHOD(method_isprintable, jinja_is_printable, true)
ASKING_METHOD(method_isascii, is_ascii_code, true)

METHOD(method_isidentifier)
{
    const struct jinja_string *string = values[0].string;
    (void)call;
    bool digit = string->length && string->data[0] >= '0' && string->data[0] <= '9';
    if (!all_are(render, values[0], is_name_code, false, out)) {
        return false;
    }
    *out = jinja_bool(out->boolean && !digit);
    return true;
}

METHOD(method_islower)
{
    (void)call;
    *out = jinja_bool(jinja_text_is_cased(jinja_text(values[0]), false));
    return jinja_step(render, 1 + values[0].string->length / 8);
}

METHOD(method_isupper)
{
    (void)call;
    *out = jinja_bool(jinja_text_is_cased(jinja_text(values[0]), true));
    return jinja_step(render, 1 + values[0].string->length / 8);
}

/* Capitals only at the beginning of words, small letters only inside them, and some of either. */
METHOD(method_istitle)
{
    struct text_view text = jinja_text(values[0]);
    bool inside = false;
    bool any = false;
    bool ok = true;
    size_t position = 0;
    (void)call;
    while (ok && position < text.length) {
        uint32_t code;
        position += utf8_decode(text.data + position, text.length - position, &code);
        bool capital = jinja_is_upper(code) || jinja_is_title(code);
        bool small = jinja_is_lower(code);
        ok = !(capital && inside) && !(small && !inside);
        inside = capital || small;
        any = any || inside;
    }
    *out = jinja_bool(ok && any);
    return jinja_step(render, 1 + text.length / 8);
}

METHOD(method_format)
{
    return jinja_brace_format(render, values[0].string, call, out);
}

METHOD(method_format_map)
{
    struct jinja_call inner = {0};
    (void)call;
    if (values[1].kind != JINJA_DICT) {
        return jinja_fail(render, "format_map() needs a mapping, not %s",
                          jinja_type_name(values[1]));
    }
    const struct jinja_dict *dict = values[1].dict;
    inner.keywords = jinja_alloc(render, dict->count, sizeof *inner.keywords);
    if (!inner.keywords) {
        return false;
    }
    for (uint32_t i = 0; i < dict->count; i++) {
        if (dict->entries[i].key.kind == JINJA_STRING) {
            inner.keywords[inner.keyword_count++] =
                (struct jinja_keyword){jinja_text(dict->entries[i].key), dict->entries[i].value};
        }
    }
    return jinja_brace_format(render, values[0].string, &inner, out);
}

METHOD(method_refused)
{
    (void)values;
    (void)call;
    (void)out;
    return jinja_fail(render, "this string method is not supported");
}

const struct jinja_builtin *jinja_find_string_method(struct text_view name)
{
    static const struct jinja_builtin methods[] = {
        {"capitalize", "", 0, method_capitalize},
        {"casefold", "", 0, method_lower},
        {"center", "/width,/fillchar", 1, method_center},
        {"count", "/sub,/start,/end", 1, method_count},
        {"encode", NULL, 0, method_refused},
        {"endswith", "/suffix,/start,/end", 1, method_endswith},
        {"expandtabs", "tabsize", 0, method_expandtabs},
        {"find", "/sub,/start,/end", 1, method_find},
        {"format", NULL, 0, method_format},
        {"format_map", "/mapping", 1, method_format_map},
        {"index", "/sub,/start,/end", 1, method_index},
        {"isalnum", "", 0, method_isalnum},
        {"isalpha", "", 0, method_isalpha},
        {"isascii", "", 0, method_isascii},
        {"isdecimal", "", 0, method_isdecimal},
        {"isdigit", "", 0, method_isdigit},
        {"isidentifier", "", 0, method_isidentifier},
        {"islower", "", 0, method_islower},
        {"isnumeric", "", 0, method_isnumeric},
        {"isprintable", "", 0, method_isprintable},
        {"isspace", "", 0, method_isspace},
        {"istitle", "", 0, method_istitle},
        {"isupper", "", 0, method_isupper},
        {"join", "/iterable", 1, method_join},
        {"ljust", "/width,/fillchar", 1, method_ljust},
        {"lower", "", 0, method_lower},
        {"lstrip", "/chars", 0, method_lstrip},
        {"maketrans", NULL, 0, method_refused},
        {"partition", "/sep", 1, method_partition},
        {"removeprefix", "/prefix", 1, method_removeprefix},
        {"removesuffix", "/suffix", 1, method_removesuffix},
        {"replace", "/old,/new,/count", 2, method_replace},
        {"rfind", "/sub,/start,/end", 1, method_rfind},
        {"rindex", "/sub,/start,/end", 1, method_rindex},
        {"rjust", "/width,/fillchar", 1, method_rjust},
        {"rpartition", "/sep", 1, method_rpartition},
        {"rsplit", "sep,maxsplit", 0, method_rsplit},
        {"rstrip", "/chars", 0, method_rstrip},
        {"split", "sep,maxsplit", 0, method_split},
        {"splitlines", "keepends", 0, method_splitlines},
        {"startswith", "/prefix,/start,/end", 1, method_startswith},
        {"strip", "/chars", 0, method_strip},
        {"swapcase", "", 0, method_swapcase},
        {"title", "", 0, method_title},
        {"translate", NULL, 0, method_refused},
        {"upper", "", 0, method_upper},
        {"zfill", "/width", 1, method_zfill},
    };
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
        if (text_view_is(name, methods[i].name)) {
            return &methods[i];
        }
    }
    return NULL;
}
