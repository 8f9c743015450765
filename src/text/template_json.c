/* Owns `tojson`: JSON exactly as Python's json.dumps writes it. Unlike base/json.h's writer it must
 * match another program byte for byte: separators, indentation, which characters are escaped, how
 * keys of other types become strings. Recursion is bounded by jinja_enter. */
#include "text/template_engine.h"

#include <math.h>
#include <stdio.h>

#include "base/utf8.h"

static bool put_unicode_escape(struct jinja_render *render, uint32_t code)
{
    char text[16];
    if (code >= 0x10000) {
        code -= 0x10000;
        snprintf(text, sizeof text, "\\u%04x\\u%04x", 0xD800 + (code >> 10),
                 0xDC00 + (code & 0x3FF));
    } else {
        snprintf(text, sizeof text, "\\u%04x", code);
    }
    return jinja_put_text(render, text);
}

static bool put_json_character(struct jinja_render *render, uint32_t code, bool ascii)
{
    static const char names[] = "btn?fr"; /* 8 … 13; 11 has no short form */
    if (code == '"' || code == '\\') {
        char text[2] = {'\\', (char)code};
        return jinja_put(render, text, 2);
    }
    if (code >= 8 && code <= 13 && code != 11) {
        char text[2] = {'\\', names[code - 8]};
        return jinja_put(render, text, 2);
    }
    if (code < 0x20 || (ascii && code > 0x7E)) {
        return put_unicode_escape(render, code);
    }
    return jinja_put_code(render, code);
}

static bool put_json_string(struct jinja_render *render, struct text_view text, bool ascii)
{
    if (!jinja_step_bytes(render, text.length) || !jinja_put(render, "\"", 1)) {
        return false;
    }
    size_t plain = 0;
    size_t position = 0;
    while (position < text.length) {
        unsigned char c = (unsigned char)text.data[position];
        if (c >= 0x20 && c != '"' && c != '\\' && (!ascii || c < 0x7F)) {
            position++;
            continue;
        }
        uint32_t code;
        size_t length = utf8_decode(text.data + position, text.length - position, &code);
        if (!jinja_put(render, text.data + plain, position - plain) ||
            !put_json_character(render, code, ascii)) {
            return false;
        }
        position += length;
        plain = position;
    }
    return jinja_put(render, text.data + plain, position - plain) && jinja_put(render, "\"", 1);
}

static bool put_json_float(struct jinja_render *render, double number)
{
    if (isnan(number) || isinf(number)) {
        return jinja_put_text(render, isnan(number) ? "NaN"
                                      : number > 0  ? "Infinity"
                                                    : "-Infinity");
    }
    return jinja_print_float(render, number);
}

static bool put_view(struct jinja_render *render, struct text_view text)
{
    return jinja_put(render, text.data, text.length);
}

struct json_printer {
    struct jinja_render *render;
    const struct jinja_json_style *style;
    uint32_t level;
};

static bool new_line(struct json_printer *printer)
{
    if (!printer->style->indented) {
        return true;
    }
    if (!jinja_put(printer->render, "\n", 1)) {
        return false;
    }
    return jinja_put_times(printer->render, printer->style->indent, printer->level);
}

static bool print_value(struct json_printer *printer, struct jinja_value value);

static bool print_array(struct json_printer *printer, const struct jinja_list *list)
{
    struct jinja_render *render = printer->render;
    if (list->count == 0) {
        return jinja_put(render, "[]", 2);
    }
    printer->level++;
    for (size_t i = 0; i < list->count; i++) {
        if (!(i ? put_view(render, printer->style->item_separator) : jinja_put(render, "[", 1)) ||
            !new_line(printer) || !print_value(printer, list->items[i])) {
            return false;
        }
    }
    printer->level--;
    return new_line(printer) && jinja_put(render, "]", 1);
}

static bool print_key(struct json_printer *printer, struct jinja_value key)
{
    struct jinja_render *render = printer->render;
    if (key.kind == JINJA_STRING) {
        return put_json_string(render, jinja_text(key), printer->style->ascii);
    }
    if (key.kind != JINJA_NONE && key.kind != JINJA_BOOL && key.kind != JINJA_INTEGER &&
        key.kind != JINJA_FLOAT) {
        return jinja_fail(render, "keys must be str, int, float, bool or None, not %s",
                          jinja_type_name(key));
    }
    return jinja_put(render, "\"", 1) && print_value(printer, key) && jinja_put(render, "\"", 1);
}

/* The entries in the order that is asked for; NULL after a failure. */
static const struct jinja_entry *ordered(struct json_printer *printer,
                                         const struct jinja_dict *dict)
{
    struct jinja_render *render = printer->render;
    if (!printer->style->sort_keys) {
        return dict->entries;
    }
    struct jinja_value *keys = jinja_alloc(render, dict->count, sizeof *keys);
    struct jinja_value *places = jinja_alloc(render, dict->count, sizeof *places);
    struct jinja_entry *entries = jinja_alloc(render, dict->count, sizeof *entries);
    if (!keys || !places || !entries) {
        return NULL;
    }
    for (uint32_t i = 0; i < dict->count; i++) {
        keys[i] = dict->entries[i].key;
        places[i] = jinja_integer(i);
    }
    if (!jinja_sort(render, places, keys, dict->count, false)) {
        return NULL;
    }
    for (uint32_t i = 0; i < dict->count; i++) {
        entries[i] = dict->entries[places[i].integer];
    }
    return entries;
}

static bool print_object(struct json_printer *printer, const struct jinja_dict *dict)
{
    struct jinja_render *render = printer->render;
    if (dict->count == 0) {
        return jinja_put(render, "{}", 2);
    }
    const struct jinja_entry *entries = ordered(printer, dict);
    if (!entries) {
        return false;
    }
    printer->level++;
    for (uint32_t i = 0; i < dict->count; i++) {
        if (!(i ? put_view(render, printer->style->item_separator) : jinja_put(render, "{", 1)) ||
            !new_line(printer) || !print_key(printer, entries[i].key) ||
            !put_view(render, printer->style->key_separator) ||
            !print_value(printer, entries[i].value)) {
            return false;
        }
    }
    printer->level--;
    return new_line(printer) && jinja_put(render, "}", 1);
}

static bool print_nested(struct json_printer *printer, struct jinja_value value)
{
    if (!jinja_enter(printer->render)) {
        return false;
    }
    bool ok = value.kind == JINJA_DICT ? print_object(printer, value.dict)
                                       : print_array(printer, value.list);
    jinja_leave(printer->render);
    return ok;
}

static bool print_value(struct json_printer *printer, struct jinja_value value)
{
    struct jinja_render *render = printer->render;
    if (!jinja_step(render, 1)) {
        return false;
    }
    switch ((enum jinja_kind)value.kind) {
    case JINJA_NONE:
        return jinja_put_text(render, "null");
    case JINJA_BOOL:
        return jinja_put_text(render, value.boolean ? "true" : "false");
    case JINJA_INTEGER:
        return jinja_print_repr(render, value);
    case JINJA_FLOAT:
        return put_json_float(render, value.number);
    case JINJA_STRING:
        return put_json_string(render, jinja_text(value), printer->style->ascii);
    case JINJA_LIST:
    case JINJA_TUPLE:
    case JINJA_DICT:
        return print_nested(printer, value);
    default:
        return jinja_fail(render, "Object of type %s is not JSON serializable",
                          jinja_type_name(value));
    }
}

bool jinja_print_json(struct jinja_render *render, struct jinja_value value,
                      const struct jinja_json_style *style)
{
    struct json_printer printer = {render, style, 0};
    return print_value(&printer, value);
}
