/* Owns what values look like: str(), repr(), JSON. Floats print as the shortest digits that read
 * back, as Python has it, and do not depend on the program's locale: of what snprintf gives, only
 * the digits are used. Recursion over nested values is bounded by jinja_enter. */
#include "text/template_engine.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/utf8.h"
#include "text/template_unicode.h"

/* --- floats --- */

/* Collects the digits of "d.ddde±xx" whatever stands for the point; returns the exponent. */
static int digits_of(double value, int count, char digits[32])
{
    char text[64];
    int length = 0;
    snprintf(text, sizeof text, "%.*e", count - 1, value);
    char *c = text;
    for (; *c && *c != 'e'; c++) {
        if (*c >= '0' && *c <= '9' && length < 31) {
            digits[length++] = *c;
        }
    }
    digits[length] = 0;
    int exponent = 0;
    bool negative = *c && c[1] == '-';
    for (; *c; c++) {
        if (*c >= '0' && *c <= '9') {
            exponent = exponent * 10 + (*c - '0');
        }
    }
    return negative ? -exponent : exponent;
}

/* strtod of an integer with an exponent needs no decimal point, hence no locale. */
static bool reads_back(const char *digits, int exponent, double value)
{
    char text[64];
    int count = (int)strlen(digits);
    snprintf(text, sizeof text, "%se%d", digits, exponent - count + 1);
    return strtod(text, NULL) == value;
}

/* The next decimal of the same length; false when it would carry out of the first digit. */
static bool increment(char *digits)
{
    size_t i = strlen(digits);
    while (i > 0) {
        if (digits[i - 1] != '9') {
            digits[i - 1]++;
            return true;
        }
        digits[--i] = '0';
    }
    return false;
}

int jinja_float_digits(double value, char digits[32], int *point)
{
    value = fabs(value);
    int exponent = 0;
    for (int count = 1; count <= 17; count++) {
        exponent = digits_of(value, count, digits);
        if (reads_back(digits, exponent, value)) {
            break;
        }
        /* Above a power of two the gap is twice as wide as below: the shortest form may lie on the
         * wider side though the nearest decimal of its length does not read back. */
        char next[32];
        memcpy(next, digits, sizeof next);
        if (increment(next) && reads_back(next, exponent, value)) {
            memcpy(digits, next, sizeof next);
            break;
        }
    }
    int length = (int)strlen(digits);
    while (length > 1 && digits[length - 1] == '0') {
        digits[--length] = 0;
    }
    *point = exponent + 1;
    return length;
}

static bool put_zeros(struct jinja_render *render, int count)
{
    while (count-- > 0) {
        if (!jinja_put(render, "0", 1)) {
            return false;
        }
    }
    return true;
}

bool jinja_print_float(struct jinja_render *render, double value)
{
    if (isnan(value)) {
        return jinja_put_text(render, "nan");
    }
    if (signbit(value) && !jinja_put(render, "-", 1)) {
        return false;
    }
    if (isinf(value)) {
        return jinja_put_text(render, "inf");
    }
    char digits[32];
    int point;
    int count = jinja_float_digits(value, digits, &point);
    size_t length = (size_t)count;
    if (value == 0) {
        return jinja_put_text(render, "0.0");
    }
    if (point > 16 || point < -3) {
        char exponent[16];
        snprintf(exponent, sizeof exponent, "e%c%02d", point > 0 ? '+' : '-', abs(point - 1));
        return jinja_put(render, digits, 1) &&
               (length == 1 ||
                (jinja_put(render, ".", 1) && jinja_put(render, digits + 1, length - 1))) &&
               jinja_put_text(render, exponent);
    }
    if (point <= 0) {
        return jinja_put_text(render, "0.") && put_zeros(render, -point) &&
               jinja_put(render, digits, length);
    }
    if (point >= count) {
        return jinja_put(render, digits, length) && put_zeros(render, point - count) &&
               jinja_put_text(render, ".0");
    }
    return jinja_put(render, digits, (size_t)point) && jinja_put(render, ".", 1) &&
           jinja_put(render, digits + point, length - (size_t)point);
}

static bool is_word(struct text_view text, const char *word)
{
    if (text.length != strlen(word)) {
        return false;
    }
    for (size_t i = 0; i < text.length; i++) {
        if ((text.data[i] | 0x20) != word[i]) {
            return false;
        }
    }
    return true;
}

/* Copies digits without their underscores and point; *fraction counts those behind the point. */
static bool read_mantissa(struct text_view text, size_t *position, char *out, size_t *length,
                          int *fraction)
{
    bool point = false;
    bool any = false;
    bool after_digit = false;
    for (; *position < text.length; (*position)++) {
        char c = text.data[*position];
        if (c >= '0' && c <= '9') {
            any = true;
            after_digit = true;
            *fraction += point;
            if (*length > 700) {
                return false;
            }
            out[(*length)++] = c;
        } else if (c == '_' && after_digit && *position + 1 < text.length &&
                   text.data[*position + 1] >= '0' && text.data[*position + 1] <= '9') {
            after_digit = false;
        } else if (c == '.' && !point) {
            point = true;
            after_digit = false;
        } else {
            break;
        }
    }
    return any;
}

bool jinja_parse_float(struct text_view text, double *out)
{
    char copy[800];
    size_t length = 0;
    size_t position = 0;
    bool negative = text.length && text.data[0] == '-';
    position += text.length && (text.data[0] == '-' || text.data[0] == '+');
    struct text_view rest = text_view_make(text.data + position, text.length - position);
    if (is_word(rest, "inf") || is_word(rest, "infinity") || is_word(rest, "nan")) {
        *out = (rest.data[0] | 0x20) == 'n' ? NAN : INFINITY;
        *out = negative ? -*out : *out;
        return true;
    }
    int fraction = 0;
    if (!read_mantissa(text, &position, copy, &length, &fraction)) {
        return false;
    }
    long exponent = 0;
    if (position < text.length && (text.data[position] | 0x20) == 'e') {
        position++;
        bool down = position < text.length && text.data[position] == '-';
        position +=
            position < text.length && (text.data[position] == '-' || text.data[position] == '+');
        char digits[700 + 8];
        size_t count = 0;
        int ignored = 0;
        size_t begin = position;
        if (!read_mantissa(text, &position, digits, &count, &ignored) || ignored ||
            memchr(text.data + begin, '.', position - begin)) {
            return false;
        }
        for (size_t i = 0; i < count; i++) {
            exponent = exponent > 100000 ? exponent : exponent * 10 + (digits[i] - '0');
        }
        exponent = down ? -exponent : exponent;
    }
    if (position != text.length) {
        return false;
    }
    snprintf(copy + length, sizeof copy - length, "e%ld", exponent - fraction);
    *out = strtod(copy, NULL);
    *out = negative ? -*out : *out;
    return true;
}

/* --- repr --- */

static bool print_escape(struct jinja_render *render, uint32_t code)
{
    char text[16];
    if (code == '\n' || code == '\r' || code == '\t') {
        return jinja_put_text(render, code == '\n' ? "\\n" : code == '\r' ? "\\r" : "\\t");
    }
    snprintf(text, sizeof text,
             code < 0x100     ? "\\x%02x"
             : code < 0x10000 ? "\\u%04x"
                              : "\\U%08x",
             code);
    return jinja_put_text(render, text);
}

static bool print_quoted(struct jinja_render *render, struct text_view text)
{
    bool has_single = memchr(text.data, '\'', text.length) != NULL;
    char quote = has_single && !memchr(text.data, '"', text.length) ? '"' : '\'';
    if (!jinja_step_bytes(render, text.length) || !jinja_put(render, &quote, 1)) {
        return false;
    }
    size_t position = 0;
    while (position < text.length) {
        uint32_t code;
        size_t length = utf8_decode(text.data + position, text.length - position, &code);
        bool ok;
        if (code == (uint32_t)quote || code == '\\') {
            ok = jinja_put(render, "\\", 1) && jinja_put(render, text.data + position, length);
        } else if (jinja_is_printable(code)) {
            ok = jinja_put(render, text.data + position, length);
        } else {
            ok = print_escape(render, code);
        }
        if (!ok) {
            return false;
        }
        position += length;
    }
    return jinja_put(render, &quote, 1);
}

static bool print_items(struct jinja_render *render, const struct jinja_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        if ((i && !jinja_put(render, ", ", 2)) || !jinja_print_repr(render, list->items[i])) {
            return false;
        }
    }
    return true;
}

static bool print_dict(struct jinja_render *render, const struct jinja_dict *dict)
{
    if (!jinja_put(render, "{", 1)) {
        return false;
    }
    for (uint32_t i = 0; i < dict->count; i++) {
        if ((i && !jinja_put(render, ", ", 2)) || !jinja_print_repr(render, dict->entries[i].key) ||
            !jinja_put(render, ": ", 2) || !jinja_print_repr(render, dict->entries[i].value)) {
            return false;
        }
    }
    return jinja_put(render, "}", 1);
}

static bool print_view(struct jinja_render *render, struct jinja_value view)
{
    if (!jinja_put_text(render, jinja_type_name(view)) || !jinja_put(render, "([", 2)) {
        return false;
    }
    for (uint32_t i = 0; i < view.dict->count; i++) {
        const struct jinja_entry *entry = &view.dict->entries[i];
        bool items = view.view == JINJA_ITEMS;
        if ((i && !jinja_put(render, ", ", 2)) || (items && !jinja_put(render, "(", 1)) ||
            (view.view != JINJA_VALUES && !jinja_print_repr(render, entry->key)) ||
            (items && !jinja_put(render, ", ", 2)) ||
            (view.view != JINJA_KEYS && !jinja_print_repr(render, entry->value)) ||
            (items && !jinja_put(render, ")", 1))) {
            return false;
        }
    }
    return jinja_put(render, "])", 2);
}

static bool print_range(struct jinja_render *render, const struct jinja_range *range)
{
    char text[96];
    int64_t stop = range->stop;
    if (range->step == 1) {
        snprintf(text, sizeof text, "range(%lld, %lld)", (long long)range->start, (long long)stop);
    } else {
        snprintf(text, sizeof text, "range(%lld, %lld, %lld)", (long long)range->start,
                 (long long)stop, (long long)range->step);
    }
    return jinja_put_text(render, text);
}

static bool print_container(struct jinja_render *render, struct jinja_value value)
{
    switch ((enum jinja_kind)value.kind) {
    case JINJA_LIST:
        return jinja_put(render, "[", 1) && print_items(render, value.list) &&
               jinja_put(render, "]", 1);
    case JINJA_TUPLE:
        return jinja_put(render, "(", 1) && print_items(render, value.list) &&
               jinja_put_text(render, value.list->count == 1 ? ",)" : ")");
    case JINJA_DICT:
        return print_dict(render, value.dict);
    case JINJA_VIEW:
        return print_view(render, value);
    default: /* a namespace */
        return jinja_put_text(render, "<Namespace ") && print_dict(render, value.dict) &&
               jinja_put(render, ">", 1);
    }
}

static bool print_loop(struct jinja_render *render, struct jinja_loop *loop)
{
    char text[64];
    size_t length;
    if (!jinja_loop_length(render, loop, &length)) {
        return false;
    }
    snprintf(text, sizeof text, "<LoopContext %zu/%zu>", loop->index0 + 1, length);
    return jinja_put_text(render, text);
}

/* What Python prints with an address is printed without one. */
static bool print_opaque(struct jinja_render *render, struct jinja_value value)
{
    if (value.kind == JINJA_MACRO) {
        const struct jinja_name *name = value.macro->node->name;
        return name
                   ? jinja_put_text(render, "<Macro ") &&
                         print_quoted(render, jinja_text(name->string)) && jinja_put(render, ">", 1)
                   : jinja_put_text(render, "<Macro anonymous>");
    }
    if (value.kind == JINJA_LOOP) {
        return print_loop(render, value.loop);
    }
    return jinja_put(render, "<", 1) && jinja_put_text(render, jinja_type_name(value)) &&
           jinja_put(render, ">", 1);
}

static bool print_string_repr(struct jinja_render *render, const struct jinja_string *string)
{
    struct text_view text = text_view_make(string->data, string->length);
    if (!string->markup) {
        return print_quoted(render, text);
    }
    return jinja_put_text(render, "Markup(") && print_quoted(render, text) &&
           jinja_put(render, ")", 1);
}

bool jinja_print_repr(struct jinja_render *render, struct jinja_value value)
{
    char text[32];
    if (!jinja_step(render, 1)) {
        return false;
    }
    switch ((enum jinja_kind)value.kind) {
    case JINJA_MISSING:
    case JINJA_UNDEFINED:
        return jinja_put_text(render, "Undefined");
    case JINJA_NONE:
        return jinja_put_text(render, "None");
    case JINJA_BOOL:
        return jinja_put_text(render, value.boolean ? "True" : "False");
    case JINJA_INTEGER:
        snprintf(text, sizeof text, "%lld", (long long)value.integer);
        return jinja_put_text(render, text);
    case JINJA_FLOAT:
        return jinja_print_float(render, value.number);
    case JINJA_STRING:
        return print_string_repr(render, value.string);
    case JINJA_RANGE:
        return print_range(render, value.range);
    case JINJA_LIST:
    case JINJA_TUPLE:
    case JINJA_DICT:
    case JINJA_VIEW:
    case JINJA_NAMESPACE: {
        if (!jinja_enter(render)) {
            return false;
        }
        bool ok = print_container(render, value);
        jinja_leave(render);
        return ok;
    }
    default:
        return print_opaque(render, value);
    }
}

bool jinja_print(struct jinja_render *render, struct jinja_value value)
{
    if (value.kind == JINJA_STRING) {
        return jinja_step_bytes(render, value.string->length) &&
               jinja_put(render, value.string->data, value.string->length);
    }
    return value.kind == JINJA_UNDEFINED || jinja_print_repr(render, value);
}

bool jinja_to_string(struct jinja_render *render, struct jinja_value value, struct jinja_value *out)
{
    *out = value;
    if (value.kind == JINJA_STRING) {
        return true;
    }
    size_t mark = jinja_capture(render);
    return jinja_print(render, value) && jinja_capture_end(render, mark, out);
}

bool jinja_print_escaped(struct jinja_render *render, struct text_view text)
{
    size_t plain = 0;
    if (!jinja_step_bytes(render, text.length)) {
        return false;
    }
    for (size_t i = 0; i < text.length; i++) {
        const char *entity = NULL;
        switch (text.data[i]) {
        case '&':
            entity = "&amp;";
            break;
        case '<':
            entity = "&lt;";
            break;
        case '>':
            entity = "&gt;";
            break;
        case '\'':
            entity = "&#39;";
            break;
        case '"':
            entity = "&#34;";
            break;
        default:
            continue;
        }
        if (!jinja_put(render, text.data + plain, i - plain) || !jinja_put_text(render, entity)) {
            return false;
        }
        plain = i + 1;
    }
    return jinja_put(render, text.data + plain, text.length - plain);
}
