/* Owns the filters that work on text, and tojson. values[0] is what is filtered; most take anything
 * and look at its str(), as jinja2's soft_str does. */
#include "text/template_filter.h"

#include <stdio.h>

#include "base/limits.h"
#include "base/utf8.h"
#include "text/template_format.h"
#include "text/template_unicode.h"

bool jinja_integer_argument(struct jinja_render *render, struct jinja_value value, int64_t fallback,
                            int64_t *out)
{
    *out = fallback;
    return value.kind == JINJA_MISSING || jinja_as_integer(value, out) ||
           jinja_fail(render, "'%s' object cannot be interpreted as an integer",
                      jinja_type_name(value));
}

#define FILTER(name)                                                   \
    bool name(struct jinja_render *render, struct jinja_value *values, \
              const struct jinja_call *call, struct jinja_value *out)

/* --- case --- */

static bool change_case(struct jinja_render *render, struct jinja_value value,
                        enum jinja_case_mode mode, struct jinja_value *out)
{
    return jinja_to_string(render, value, &value) &&
           jinja_change_case(render, value.string, mode, out);
}

FILTER(filter_upper)
{
    (void)call;
    return change_case(render, values[0], CASE_UPPER, out);
}

FILTER(filter_lower)
{
    (void)call;
    return change_case(render, values[0], CASE_LOWER, out);
}

FILTER(filter_capitalize)
{
    (void)call;
    return change_case(render, values[0], CASE_CAPITALIZE, out);
}

static bool begins_word(uint32_t code)
{
    return code == '-' || code == '(' || code == '{' || code == '[' || code == '<' ||
           jinja_is_space(code);
}

/* Words begin after white space, '-' and opening brackets; runs of those stay as they are. */
FILTER(filter_title)
{
    size_t mark = jinja_capture(render);
    (void)call;
    struct jinja_value value;
    if (!jinja_to_string(render, values[0], &value) ||
        !jinja_step_bytes(render, value.string->length)) {
        return false;
    }
    struct text_view text = jinja_text(value);
    size_t position = 0;
    while (position < text.length) {
        uint32_t code;
        size_t begin = position;
        size_t first = utf8_decode(text.data + position, text.length - position, &code);
        bool separator = begins_word(code);
        position += first;
        while (position < text.length) {
            size_t length = utf8_decode(text.data + position, text.length - position, &code);
            if (begins_word(code) != separator) {
                break;
            }
            position += length;
        }
        struct text_view head = text_view_make(text.data + begin, first);
        struct text_view tail = text_view_make(text.data + begin + first, position - begin - first);
        if (!jinja_put_case(render, head, CASE_UPPER) ||
            !jinja_put_case(render, tail, CASE_LOWER)) {
            return false;
        }
    }
    return jinja_capture_end(render, mark, out);
}

/* --- simple ones --- */

FILTER(filter_string)
{
    (void)call;
    return jinja_to_string(render, values[0], out);
}

FILTER(filter_safe)
{
    (void)call;
    return jinja_to_string(render, values[0], out) && jinja_string_mark(render, *out, true, out);
}

static bool escape(struct jinja_render *render, struct jinja_value value, struct jinja_value *out)
{
    size_t mark = jinja_capture(render);
    return jinja_to_string(render, value, &value) &&
           jinja_print_escaped(render, jinja_text(value)) && jinja_capture_end(render, mark, out) &&
           jinja_string_mark(render, *out, true, out);
}

FILTER(filter_escape)
{
    (void)call;
    *out = values[0];
    if (values[0].kind == JINJA_STRING && values[0].string->markup) {
        return true;
    }
    return escape(render, values[0], out);
}

FILTER(filter_forceescape)
{
    (void)call;
    return escape(render, values[0], out);
}

FILTER(filter_trim)
{
    struct jinja_value value;
    (void)call;
    if (!jinja_to_string(render, values[0], &value) ||
        !jinja_step_bytes(render, value.string->length)) {
        return false;
    }
    bool has_characters = values[1].kind == JINJA_STRING;
    size_t times = has_characters ? 1 + values[1].string->length / 64 : 1;
    if (!jinja_step(render, value.string->length / 64 * times)) {
        return false;
    }
    if (!has_characters && values[1].kind != JINJA_MISSING && values[1].kind != JINJA_NONE) {
        return jinja_fail(render, "strip arg must be None or str");
    }
    struct text_view characters = has_characters ? jinja_text(values[1]) : text_view_make(NULL, 0);
    struct text_view text =
        jinja_strip(jinja_text(value), has_characters ? &characters : NULL, true, true);
    return jinja_string_borrow(render, text, out) &&
           jinja_string_mark(render, *out, value.string->markup, out);
}

FILTER(filter_center)
{
    int64_t width;
    struct jinja_value value;
    (void)call;
    return jinja_integer_argument(render, values[1], 80, &width) &&
           jinja_to_string(render, values[0], &value) &&
           jinja_center(render, value.string, width, ' ', out);
}

FILTER(filter_replace)
{
    int64_t limit = -1;
    struct jinja_value text;
    struct jinja_value old;
    struct jinja_value fresh;
    size_t mark = jinja_capture(render);
    (void)call;
    if (values[3].kind != JINJA_NONE && !jinja_integer_argument(render, values[3], -1, &limit)) {
        return false;
    }
    return jinja_to_string(render, values[0], &text) && jinja_to_string(render, values[1], &old) &&
           jinja_to_string(render, values[2], &fresh) &&
           jinja_put_replaced(render, jinja_text(text), jinja_text(old), jinja_text(fresh),
                              limit) &&
           jinja_capture_end(render, mark, out);
}

FILTER(filter_format)
{
    struct jinja_value arguments;
    struct jinja_value format;
    if (call->count && call->keyword_count) {
        return jinja_fail(render, "can't handle positional and keyword arguments at the same time");
    }
    if (call->keyword_count) {
        struct jinja_dict *dict;
        if (!jinja_build_dict(render, call, &dict)) {
            return false;
        }
        arguments = (struct jinja_value){.kind = JINJA_DICT, .dict = dict};
    } else if (!jinja_list_make(render, JINJA_TUPLE, call->positional, call->count, &arguments)) {
        return false;
    }
    return jinja_to_string(render, values[0], &format) &&
           jinja_percent_format(render, format.string, arguments, out);
}

FILTER(filter_wordcount)
{
    struct jinja_value value;
    (void)call;
    if (!jinja_to_string(render, values[0], &value) ||
        !jinja_step(render, 1 + value.string->length / 8)) {
        return false;
    }
    struct text_view text = jinja_text(value);
    int64_t count = 0;
    bool inside = false;
    size_t position = 0;
    while (position < text.length) {
        uint32_t code;
        position += utf8_decode(text.data + position, text.length - position, &code);
        bool word = code == '_' || jinja_is_alnum(code);
        count += word && !inside;
        inside = word;
    }
    *out = jinja_integer(count);
    return true;
}

/* --- indent, truncate --- */

struct indentation {
    struct text_view text;
    bool first;
    bool blank;
};

static bool put_indented(struct jinja_render *render, struct text_view rest,
                         const struct indentation *indentation)
{
    struct text_view line;
    size_t line_end;
    for (bool first = true; jinja_next_line(&rest, &line, &line_end); first = false) {
        bool indent = first ? indentation->first : indentation->blank || line.length > 0;
        if ((!first && !jinja_put(render, "\n", 1)) ||
            (indent && (!jinja_step_bytes(render, indentation->text.length) ||
                        !jinja_put(render, indentation->text.data, indentation->text.length))) ||
            !jinja_put(render, line.data, line.length)) {
            return false;
        }
    }
    return true;
}

FILTER(filter_indent)
{
    int64_t width = 4;
    struct jinja_value blanks;
    struct jinja_value text;
    struct jinja_value newline;
    size_t mark = jinja_capture(render);
    (void)call;
    if (values[0].kind == JINJA_UNDEFINED) {
        return jinja_fail_undefined(render, values[0]);
    }
    if (values[0].kind != JINJA_STRING) {
        return jinja_fail(render, "indent needs a string, not %s", jinja_type_name(values[0]));
    }
    if (values[1].kind == JINJA_STRING) {
        blanks = values[1];
    } else {
        struct jinja_value blank;
        if (!jinja_integer_argument(render, values[1], 4, &width) ||
            !jinja_string_borrow(render, text_view_of(" "), &blank) ||
            !jinja_binary(render, OPERATOR_MULTIPLY, blank, jinja_integer(width), &blanks)) {
            return false;
        }
    }
    struct indentation indentation = {jinja_text(blanks), jinja_truth(values[2]),
                                      jinja_truth(values[3])};
    /* The newline makes splitting in lines keep an empty last one. */
    return jinja_string_borrow(render, text_view_of("\n"), &newline) &&
           jinja_string_join(render, values[0].string, newline.string, &text) &&
           jinja_step_bytes(render, text.string->length) &&
           put_indented(render, jinja_text(text), &indentation) &&
           jinja_capture_like(render, mark, values[0].string, out);
}

FILTER(filter_truncate)
{
    int64_t length;
    int64_t leeway = 5;
    struct jinja_value end = values[3];
    struct jinja_value head;
    (void)call;
    bool sized;
    size_t have = jinja_length(values[0], &sized);
    if (!sized) {
        return jinja_fail(render, "object of type '%s' has no len()", jinja_type_name(values[0]));
    }
    if (end.kind == JINJA_MISSING && !jinja_string_borrow(render, text_view_of("..."), &end)) {
        return false;
    }
    if (!jinja_integer_argument(render, values[1], 255, &length) ||
        (values[4].kind != JINJA_NONE && !jinja_integer_argument(render, values[4], 5, &leeway))) {
        return false;
    }
    if (end.kind != JINJA_STRING || length < (int64_t)end.string->characters || leeway < 0) {
        return jinja_fail(render, "truncate: expected length >= len(end) and leeway >= 0");
    }
    *out = values[0];
    if (leeway >= INT64_MAX - length || (int64_t)have <= length + leeway) {
        return true; /* whatever it is */
    }
    if (values[0].kind != JINJA_STRING) {
        return jinja_fail(render, "truncate needs a string, not %s", jinja_type_name(values[0]));
    }
    const struct jinja_string *string = values[0].string;
    size_t keep = (size_t)length - end.string->characters;
    if (!jinja_substring(render, string, 0, keep, &head)) {
        return false;
    }
    if (!jinja_truth(values[2])) {
        const char *space = memrchr(head.string->data, ' ', head.string->length);
        struct text_view cut = jinja_text(head);
        cut.length = space ? (size_t)(space - cut.data) : cut.length;
        if (!jinja_string_borrow(render, cut, &head)) {
            return false;
        }
    }
    return jinja_string_join(render, head.string, end.string, out) &&
           jinja_string_mark(render, *out, string->markup, out);
}

/* --- encodings --- */

static bool put_url(struct jinja_render *render, struct jinja_value value, bool query)
{
    struct jinja_value text;
    if (!jinja_to_string(render, value, &text) || !jinja_step_bytes(render, text.string->length)) {
        return false;
    }
    for (size_t i = 0; i < text.string->length; i++) {
        unsigned char c = (unsigned char)text.string->data[i];
        char code[4];
        bool plain = c < 0x80 && (jinja_is_alnum(c) || strchr("_.-~", c) || (c == '/' && !query));
        if (plain && c) {
            code[0] = (char)c;
            code[1] = 0;
        } else if (c == ' ' && query) {
            memcpy(code, "+", 2);
        } else {
            snprintf(code, sizeof code, "%%%02X", c);
        }
        if (!jinja_put_text(render, code)) {
            return false;
        }
    }
    return true;
}

FILTER(filter_urlencode)
{
    struct jinja_iterator iterator;
    struct jinja_value pair;
    struct jinja_value source = values[0];
    size_t mark = jinja_capture(render);
    (void)call;
    if (source.kind == JINJA_STRING || !jinja_is_iterable(source)) {
        return put_url(render, source, false) && jinja_capture_end(render, mark, out);
    }
    if (source.kind == JINJA_DICT) {
        source = (struct jinja_value){.kind = JINJA_VIEW, .view = JINJA_ITEMS, .dict = source.dict};
    }
    if (!jinja_iterate(render, source, &iterator)) {
        return false;
    }
    enum jinja_advance advance;
    while ((advance = jinja_next(render, &iterator, &pair)) == JINJA_ITEM) {
        struct jinja_items items;
        if (!jinja_to_list(render, pair, &items)) {
            return false;
        }
        if (items.count != 2) {
            return jinja_fail(render, "urlencode needs pairs");
        }
        if ((render->out.length > mark && !jinja_put(render, "&", 1)) ||
            !put_url(render, items.items[0], true) || !jinja_put(render, "=", 1) ||
            !put_url(render, items.items[1], true)) {
            return false;
        }
    }
    return advance == JINJA_END && jinja_capture_end(render, mark, out);
}

FILTER(filter_xmlattr)
{
    size_t mark = jinja_capture(render);
    bool space = values[1].kind == JINJA_MISSING || jinja_truth(values[1]);
    (void)call;
    if (values[0].kind != JINJA_DICT) {
        return jinja_fail(render, "xmlattr needs a dict, not %s", jinja_type_name(values[0]));
    }
    const struct jinja_dict *dict = values[0].dict;
    for (uint32_t i = 0; i < dict->count; i++) {
        const struct jinja_entry *entry = &dict->entries[i];
        struct jinja_value value = entry->value;
        if (value.kind == JINJA_NONE || value.kind == JINJA_UNDEFINED) {
            continue;
        }
        if (entry->key.kind != JINJA_STRING) {
            return jinja_fail(render, "expected string, got %s", jinja_type_name(entry->key));
        }
        for (size_t k = 0; k < entry->key.string->length; k++) {
            if (strchr(" \t\n\r\f\v/>=", entry->key.string->data[k])) {
                return jinja_fail(render, "Invalid character in attribute name");
            }
        }
        bool escaped = value.kind == JINJA_STRING && value.string->markup;
        if (!jinja_to_string(render, value, &value) ||
            ((space || render->out.length > mark) && !jinja_put(render, " ", 1)) ||
            !jinja_print_escaped(render, jinja_text(entry->key)) || !jinja_put(render, "=\"", 2) ||
            !(escaped ? jinja_print(render, value)
                      : jinja_print_escaped(render, jinja_text(value))) ||
            !jinja_put(render, "\"", 1)) {
            return false;
        }
    }
    return jinja_capture_end(render, mark, out);
}

FILTER(filter_filesizeformat)
{
    static const char *const decimal[] = {"kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"};
    static const char *const binary[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"};
    struct jinja_value number;
    struct jinja_value arguments[3] = {values[0], {0}, {0}};
    bool is_binary = jinja_truth(values[1]);
    double base = is_binary ? 1024 : 1000;
    size_t mark = jinja_capture(render);
    arguments[1] = jinja_none(); /* what filter_float gives for what is no number */
    if (!filter_float(render, arguments, call, &number)) {
        return false;
    }
    if (number.kind != JINJA_FLOAT) {
        return jinja_fail(render, "filesizeformat needs a number");
    }
    double bytes = number.number;
    if (bytes == 1) {
        return jinja_string_borrow(render, text_view_of("1 Byte"), out);
    }
    if (bytes < base) {
        char text[48];
        snprintf(text, sizeof text, "%lld Bytes", (long long)bytes);
        return jinja_string_copy(render, text_view_of(text), out);
    }
    double unit = base * base;
    size_t i = 0;
    while (i < 7 && bytes >= unit) {
        unit *= base;
        i++;
    }
    struct jinja_spec spec = {.fill = ' ', .precision = 1, .type = 'f'};
    return jinja_format_float(render, base * bytes / unit, spec) && jinja_put(render, " ", 1) &&
           jinja_put_text(render, is_binary ? binary[i] : decimal[i]) &&
           jinja_capture_end(render, mark, out);
}

/* --- JSON --- */

static bool json_separators(struct jinja_render *render, struct jinja_value value,
                            struct jinja_json_style *style)
{
    struct jinja_items items;
    if (value.kind == JINJA_MISSING || value.kind == JINJA_NONE) {
        return true;
    }
    if (!jinja_to_list(render, value, &items)) {
        return false;
    }
    if (items.count != 2 || items.items[0].kind != JINJA_STRING ||
        items.items[1].kind != JINJA_STRING) {
        return jinja_fail(render, "separators must be two strings");
    }
    style->item_separator = jinja_text(items.items[0]);
    style->key_separator = jinja_text(items.items[1]);
    return true;
}

FILTER(filter_tojson)
{
    struct jinja_value blanks = values[2];
    size_t mark = jinja_capture(render);
    (void)call;
    struct jinja_json_style style = {
        .ascii = jinja_truth(values[1]),
        .sort_keys = jinja_truth(values[4]),
        .indented = blanks.kind != JINJA_MISSING && blanks.kind != JINJA_NONE,
        .key_separator = text_view_of(": "),
    };
    style.item_separator = text_view_of(style.indented ? "," : ", ");
    int64_t width;
    if (style.indented && blanks.kind != JINJA_STRING) {
        struct jinja_value blank;
        if (!jinja_integer_argument(render, blanks, 0, &width) ||
            !jinja_string_borrow(render, text_view_of(" "), &blank) ||
            !jinja_binary(render, OPERATOR_MULTIPLY, blank, jinja_integer(width), &blanks)) {
            return false;
        }
    }
    if (style.indented) {
        style.indent = jinja_text(blanks);
    }
    return json_separators(render, values[3], &style) &&
           jinja_print_json(render, values[0], &style) && jinja_capture_end(render, mark, out);
}

/* Not Jinja's, but templates that come with GGUF files use it: the value that a JSON text means. */
FILTER(filter_from_json)
{
    struct json_document *document;
    struct llcuda_error ignored;
    struct json_options options = {.depth_max = LIMIT_TEMPLATE_DEPTH};
    (void)call;
    if (values[0].kind != JINJA_STRING) {
        return jinja_fail(render, "from_json needs a string, not %s", jinja_type_name(values[0]));
    }
    if (!jinja_step(render, 1 + values[0].string->length / 8)) {
        return false;
    }
    if (json_parse(jinja_text(values[0]), &options, &document, &ignored)) {
        return jinja_fail(render, "from_json: the text is not valid JSON");
    }
    bool ok = jinja_from_json(render, json_root(document), true, out);
    json_destroy(document);
    return ok;
}
