/* Owns the two ways to fill in a text: "%s" % values and "{}".format(values). Widths and precisions
 * are bounded; nesting of a field inside a field's specification is one level, as in Python. */
#include "text/template_format.h"

#include <math.h>

#include "base/utf8.h"

/* A decimal number at *position. */
static bool read_count(struct jinja_render *render, struct text_view text, size_t *position,
                       size_t *out)
{
    size_t value = 0;
    while (*position < text.length && text.data[*position] >= '0' && text.data[*position] <= '9') {
        value = value * 10 + (size_t)(text.data[*position] - '0');
        if (value > JINJA_FORMAT_WIDTH_MAX) {
            return jinja_fail(render, "the width of this format is too large");
        }
        (*position)++;
    }
    *out = value;
    return true;
}

/* The text of a value for %s, %r, %a. A markup format escapes what it takes in. */
static bool value_text(struct jinja_render *render, struct jinja_value value, char conversion,
                       bool escape, struct jinja_value *out)
{
    if (conversion == 's') {
        if (!jinja_to_string(render, value, out)) {
            return false;
        }
    } else {
        size_t mark = jinja_capture(render);
        if (!jinja_print_repr(render, value) || !jinja_capture_end(render, mark, out)) {
            return false;
        }
    }
    size_t mark = jinja_capture(render);
    if (conversion == 'a' && !jinja_is_ascii(out->string)) {
        struct text_view text = jinja_text(*out);
        size_t position = 0;
        while (position < text.length) {
            uint32_t code;
            position += utf8_decode(text.data + position, text.length - position, &code);
            if (code < 0x80 ? !jinja_put_code(render, code)
                            : !buffer_printf(&render->out,
                                             code < 0x100     ? "\\x%02x"
                                             : code < 0x10000 ? "\\u%04x"
                                                              : "\\U%08x",
                                             code)) {
                return jinja_fail_limit(render, "the rendered text is too long");
            }
        }
        return jinja_capture_end(render, mark, out);
    }
    if (escape && !(value.kind == JINJA_STRING && value.string->markup)) {
        return jinja_print_escaped(render, jinja_text(*out)) &&
               jinja_capture_end(render, mark, out);
    }
    return true;
}

/* A text cut to spec->precision characters and padded. */
static bool put_text_field(struct jinja_render *render, struct jinja_value text,
                           const struct jinja_spec *spec, char default_align)
{
    const struct jinja_string *string = text.string;
    struct text_view view = jinja_text(text);
    if (spec->precision >= 0 && (size_t)spec->precision < string->characters) {
        view.length = jinja_byte_offset(string, (size_t)spec->precision);
    }
    return jinja_step_bytes(render, view.length) &&
           jinja_put_padded(render, text_view_make("", 0), view, spec, default_align);
}

/* --- % --- */

struct percent {
    struct jinja_render *render;
    struct text_view format;
    size_t position;
    struct jinja_value values;
    size_t next; /* of a tuple */
    bool is_mapping;
    bool escape;
};

static bool next_value(struct percent *percent, struct jinja_value *out)
{
    bool is_tuple = percent->values.kind == JINJA_TUPLE;
    size_t count = is_tuple ? percent->values.list->count : 1;
    if (percent->next >= count) {
        return jinja_fail(percent->render, "not enough arguments for format string");
    }
    *out = is_tuple ? percent->values.list->items[percent->next] : percent->values;
    percent->next++;
    return true;
}

/* "%(name)s": the value of the mapping; parentheses nest. */
static bool mapped_value(struct percent *percent, struct jinja_value *out)
{
    size_t begin = ++percent->position;
    int depth = 1;
    while (percent->position < percent->format.length) {
        char c = percent->format.data[percent->position];
        depth += c == '(' ? 1 : c == ')' ? -1 : 0;
        if (depth == 0) {
            break;
        }
        percent->position++;
    }
    if (depth) {
        return jinja_fail(percent->render, "incomplete format key");
    }
    struct text_view name = text_view_make(percent->format.data + begin, percent->position - begin);
    percent->position++;
    struct jinja_entry *entry =
        percent->values.kind == JINJA_DICT
            ? jinja_dict_find_text(percent->render, percent->values.dict, name)
            : NULL;
    if (!entry) {
        return jinja_fail(percent->render, "format key '%.*s' is not in the mapping",
                          TEXT_ARGUMENTS(name));
    }
    *out = entry->value;
    return true;
}

static char peek(const struct percent *percent)
{
    return percent->position < percent->format.length ? percent->format.data[percent->position] : 0;
}

/* A number or '*', which takes a value. */
static bool read_star(struct percent *percent, int64_t *out)
{
    size_t count = 0;
    if (peek(percent) != '*') {
        if (!read_count(percent->render, percent->format, &percent->position, &count)) {
            return false;
        }
        *out = (int64_t)count;
        return true;
    }
    struct jinja_value value;
    percent->position++;
    if (!next_value(percent, &value)) {
        return false;
    }
    if (!jinja_as_integer(value, out)) {
        return jinja_fail(percent->render, "* wants int");
    }
    return (*out <= JINJA_FORMAT_WIDTH_MAX && *out >= -JINJA_FORMAT_WIDTH_MAX) ||
           jinja_fail(percent->render, "the width of this format is too large");
}

static bool read_percent_spec(struct percent *percent, struct jinja_spec *spec)
{
    bool zero = false;
    *spec = (struct jinja_spec){.fill = ' ', .precision = -1};
    for (;; percent->position++) {
        char c = peek(percent);
        if (c == '-') {
            spec->align = '<';
        } else if (c == '+') {
            spec->sign = '+';
        } else if (c == ' ') {
            spec->sign = spec->sign ? spec->sign : ' ';
        } else if (c == '#') {
            spec->alternate = true;
        } else if (c == '0') {
            zero = true;
        } else {
            break;
        }
    }
    int64_t number;
    if (!read_star(percent, &number)) {
        return false;
    }
    spec->align = number < 0 ? '<' : spec->align;
    spec->width = (size_t)(number < 0 ? -number : number);
    if (peek(percent) == '.') {
        percent->position++;
        if (!read_star(percent, &number)) {
            return false;
        }
        spec->precision = number < 0 ? 0 : (int)number;
    }
    while (peek(percent) == 'l' || peek(percent) == 'h' || peek(percent) == 'L') {
        percent->position++;
    }
    if (zero && !spec->align) {
        spec->fill = '0';
        spec->align = '=';
    }
    spec->type = peek(percent);
    percent->position += spec->type != 0;
    return spec->type || jinja_fail(percent->render, "incomplete format");
}

static bool put_percent_integer(struct percent *percent, struct jinja_spec spec,
                                struct jinja_value value)
{
    int64_t integer;
    bool decimal = strchr("diu", spec.type) != NULL;
    if (value.kind == JINJA_FLOAT && decimal && value.number > -0x1p63 && value.number < 0x1p63) {
        integer = (int64_t)value.number;
    } else if (value.kind == JINJA_FLOAT && decimal && isfinite(value.number)) {
        return jinja_fail(percent->render, "the number does not fit a 64-bit integer");
    } else if (!jinja_as_integer(value, &integer)) {
        return jinja_fail(percent->render, "%%%c format: a number is required, not %s", spec.type,
                          jinja_type_name(value));
    }
    spec.type = decimal ? 'd' : spec.type;
    return jinja_format_integer(percent->render, integer, spec);
}

static bool put_percent_character(struct percent *percent, struct jinja_spec spec,
                                  struct jinja_value value)
{
    int64_t code;
    char bytes[4];
    struct jinja_value text = value;
    spec.precision = -1;
    if (jinja_as_integer(value, &code)) {
        size_t length = code >= 0 && code <= 0x10FFFF ? utf8_encode((uint32_t)code, bytes) : 0;
        if (!length) {
            return jinja_fail(percent->render, "%%c arg is no character");
        }
        if (!jinja_string_copy(percent->render, text_view_make(bytes, length), &text)) {
            return false;
        }
    } else if (value.kind != JINJA_STRING || value.string->characters != 1) {
        return jinja_fail(percent->render, "%%c requires int or char");
    }
    return put_text_field(percent->render, text, &spec, '>');
}

static bool put_percent_field(struct percent *percent, struct jinja_spec spec,
                              struct jinja_value value)
{
    double number;
    switch (spec.type) {
    case 's':
    case 'r':
    case 'a':
        spec.fill = ' ';
        spec.align = spec.align == '=' ? 0 : spec.align;
        return value_text(percent->render, value, spec.type, percent->escape, &value) &&
               put_text_field(percent->render, value, &spec, '>');
    case 'd':
    case 'i':
    case 'u':
    case 'x':
    case 'X':
    case 'o':
        return put_percent_integer(percent, spec, value);
    case 'c':
        spec.fill = ' ';
        spec.align = spec.align == '=' ? 0 : spec.align;
        return put_percent_character(percent, spec, value);
    case 'e':
    case 'E':
    case 'f':
    case 'F':
    case 'g':
    case 'G':
        if (!jinja_as_number(value, &number)) {
            return jinja_fail(percent->render, "must be real number, not %s",
                              jinja_type_name(value));
        }
        if (!isfinite(number) && spec.align == '=') {
            spec.fill = ' ';
        }
        return jinja_format_float(percent->render, number, spec);
    default:
        return jinja_fail(percent->render, "unsupported format character '%c'", spec.type);
    }
}

static bool put_percent(struct percent *percent)
{
    struct jinja_spec spec;
    struct jinja_value value;
    bool mapped = false;
    percent->position++;
    if (peek(percent) == '(') {
        if (!mapped_value(percent, &value)) {
            return false;
        }
        mapped = true;
    }
    if (!read_percent_spec(percent, &spec)) {
        return false;
    }
    if (spec.type == '%') {
        return jinja_put(percent->render, "%", 1);
    }
    return (mapped || next_value(percent, &value)) && put_percent_field(percent, spec, value);
}

bool jinja_percent_format(struct jinja_render *render, const struct jinja_string *format,
                          struct jinja_value values, struct jinja_value *out)
{
    struct percent percent = {
        .render = render,
        .format = text_view_make(format->data, format->length),
        .values = values,
        .is_mapping = values.kind == JINJA_DICT || values.kind == JINJA_LIST ||
                      values.kind == JINJA_RANGE || values.kind == JINJA_UNDEFINED,
        .escape = format->markup,
    };
    size_t mark = jinja_capture(render);
    while (percent.position < format->length) {
        const char *begin = format->data + percent.position;
        const char *sign = memchr(begin, '%', format->length - percent.position);
        size_t plain = sign ? (size_t)(sign - begin) : format->length - percent.position;
        percent.position += plain;
        if (!jinja_step_bytes(render, plain) || !jinja_put(render, begin, plain) ||
            (sign && !put_percent(&percent))) {
            return false;
        }
    }
    size_t count = values.kind == JINJA_TUPLE ? values.list->count : 1;
    if (percent.next < count && !percent.is_mapping) {
        return jinja_fail(render, "not all arguments converted during string formatting");
    }
    return jinja_capture_end(render, mark, out) &&
           jinja_string_mark(render, *out, format->markup, out);
}

/* --- str.format --- */

struct braces {
    struct jinja_render *render;
    const struct jinja_call *call;
    size_t next;
    bool automatic; /* "{}" was seen */
    bool manual;    /* "{0}" was seen */
    bool escape;
};

static bool read_spec(struct braces *braces, struct text_view text, struct jinja_spec *spec)
{
    static const char aligns[] = "<>^=";
    struct jinja_render *render = braces->render;
    size_t position = 0;
    uint32_t code = 0;
    size_t first = text.length ? utf8_decode(text.data, text.length, &code) : 0;
    bool has_fill = false;
    *spec = (struct jinja_spec){.fill = ' ', .precision = -1};
    if (first && first < text.length && memchr(aligns, text.data[first], 4)) {
        has_fill = true;
        spec->fill = code;
        spec->align = text.data[first];
        position = first + 1;
    } else if (text.length && memchr(aligns, text.data[0], 4)) {
        spec->align = text.data[position++];
    }
    if (position < text.length && memchr("+- ", text.data[position], 3)) {
        spec->sign = text.data[position++];
        spec->has_minus = spec->sign == '-';
        spec->sign = spec->has_minus ? 0 : spec->sign;
    }
    if (position < text.length && text.data[position] == '#') {
        spec->alternate = true;
        position++;
    }
    if (position < text.length && text.data[position] == '0') {
        position++;
        spec->fill = has_fill ? spec->fill : '0';
        spec->zero = !spec->align;
    }
    if (!read_count(render, text, &position, &spec->width)) {
        return false;
    }
    if (position < text.length && (text.data[position] == ',' || text.data[position] == '_')) {
        spec->grouping = text.data[position++];
    }
    if (position < text.length && text.data[position] == '.') {
        size_t precision = 0;
        size_t before = ++position;
        if (!read_count(render, text, &position, &precision)) {
            return false;
        }
        if (position == before) {
            return jinja_fail(render, "Format specifier missing precision");
        }
        spec->precision = (int)precision;
    }
    if (position < text.length) {
        spec->type = text.data[position++];
    }
    return position == text.length || jinja_fail(render, "Invalid format specifier");
}

static bool fail_code(struct braces *braces, char type, struct jinja_value value)
{
    return jinja_fail(braces->render, "Unknown format code '%c' for object of type '%s'", type,
                      jinja_type_name(value));
}

/* What Python refuses in a number's specification. */
static bool check_number_spec(struct braces *braces, const struct jinja_spec *spec)
{
    char type = spec->type ? spec->type : 'd';
    if (spec->grouping &&
        (strchr("cns", type) || (spec->grouping == ',' && strchr("boxX", type)))) {
        return jinja_fail(braces->render, "Cannot specify '%c' with '%c'.", spec->grouping, type);
    }
    if (type == 'c' && (spec->sign || spec->has_minus || spec->alternate)) {
        return jinja_fail(braces->render, "Sign or '#' not allowed with format specifier 'c'");
    }
    return true;
}

static bool put_number(struct braces *braces, struct jinja_value value, struct jinja_spec spec)
{
    int64_t integer;
    double number;
    spec.align = spec.align ? spec.align : spec.zero ? '=' : 0;
    if (!check_number_spec(braces, &spec)) {
        return false;
    }
    if (jinja_as_integer(value, &integer) && (!spec.type || strchr("bcdoxXn", spec.type))) {
        if (spec.precision >= 0) {
            return jinja_fail(braces->render, "Precision not allowed in integer format specifier");
        }
        if (spec.type == 'c') {
            char bytes[4];
            size_t length =
                integer >= 0 && integer <= 0x10FFFF ? utf8_encode((uint32_t)integer, bytes) : 0;
            return length ? jinja_put_padded(braces->render, text_view_make("", 0),
                                             text_view_make(bytes, length), &spec, '<')
                          : jinja_fail(braces->render, "%%c arg not in range(0x110000)");
        }
        spec.type = spec.type == 'n' ? 'd' : spec.type;
        return jinja_format_integer(braces->render, integer, spec);
    }
    if (!jinja_as_number(value, &number) || (spec.type && !strchr("eEfFgGn%", spec.type))) {
        return fail_code(braces, spec.type, value);
    }
    return jinja_format_float(braces->render, number, spec);
}

/* format(value, spec) */
static bool put_formatted(struct braces *braces, struct jinja_value value, struct text_view text)
{
    struct jinja_render *render = braces->render;
    struct jinja_spec spec;
    struct jinja_value string;
    if (text.length == 0) {
        return value_text(render, value, 's', braces->escape, &string) &&
               jinja_print(render, string);
    }
    if (!read_spec(braces, text, &spec)) {
        return false;
    }
    double number;
    if (jinja_as_number(value, &number)) {
        return put_number(braces, value, spec);
    }
    if (value.kind != JINJA_STRING) {
        return jinja_fail(render, "unsupported format string passed to %s.__format__",
                          jinja_type_name(value));
    }
    if (spec.type && spec.type != 's') {
        return fail_code(braces, spec.type, value);
    }
    if (spec.sign || spec.has_minus || spec.alternate || spec.grouping || spec.align == '=') {
        return jinja_fail(render, "this format specifier does not go with a string");
    }
    return value_text(render, value, 's', braces->escape, &string) &&
           put_text_field(render, string, &spec, '<');
}

static bool numbered_value(struct braces *braces, size_t index, struct jinja_value *out)
{
    if (index >= braces->call->count) {
        return jinja_fail(braces->render, "Replacement index %zu out of range", index);
    }
    *out = braces->call->positional[index];
    return true;
}

/* The value that a field's name begins with: nothing, a number, or a keyword. */
static bool first_value(struct braces *braces, struct text_view name, struct jinja_value *out)
{
    bool digits = name.length > 0;
    for (size_t i = 0; i < name.length; i++) {
        digits = digits && name.data[i] >= '0' && name.data[i] <= '9';
    }
    if (name.length == 0 || digits) {
        braces->automatic = braces->automatic || name.length == 0;
        braces->manual = braces->manual || digits;
        if (braces->automatic && braces->manual) {
            return jinja_fail(braces->render,
                              "cannot mix manual and automatic numbering of fields");
        }
        size_t index = 0;
        size_t position = 0;
        if (!read_count(braces->render, name, &position, &index)) {
            return false;
        }
        return numbered_value(braces, digits ? index : braces->next++, out);
    }
    for (size_t i = 0; i < braces->call->keyword_count; i++) {
        if (text_view_equal(braces->call->keywords[i].name, name)) {
            *out = braces->call->keywords[i].value;
            return true;
        }
    }
    return jinja_fail(braces->render, "no argument is named '%.*s'", TEXT_ARGUMENTS(name));
}

/* ".name" and "[key]" behind it. */
static bool follow_path(struct braces *braces, struct text_view path, struct jinja_value *value)
{
    size_t position = 0;
    while (position < path.length) {
        bool dot = path.data[position] == '.';
        size_t begin = position + 1;
        size_t end = begin;
        while (end < path.length &&
               (dot ? path.data[end] != '.' && path.data[end] != '[' : path.data[end] != ']')) {
            end++;
        }
        if ((!dot && (path.data[position] != '[' || end == path.length)) || end == begin) {
            return jinja_fail(braces->render, "this field name is malformed");
        }
        struct text_view key = text_view_make(path.data + begin, end - begin);
        struct jinja_value name;
        bool ok;
        if (!jinja_string_borrow(braces->render, key, &name)) {
            return false;
        }
        if (dot) {
            bool found;
            ok = value->kind == JINJA_UNDEFINED
                     ? jinja_fail_undefined(braces->render, *value)
                     : jinja_find_attribute(braces->render, *value, key, value, &found) &&
                           (found || jinja_get_item(braces->render, *value, name, value));
        } else {
            ok = jinja_get_path(braces->render, *value, name, (struct jinja_value){0}, value);
        }
        if (!ok) {
            return false;
        }
        position = dot ? end : end + 1;
    }
    return true;
}

static bool fill(struct braces *braces, struct text_view format, bool nested);

/* "name!r:spec" between its braces. */
static bool put_field(struct braces *braces, struct text_view field, bool nested)
{
    struct jinja_render *render = braces->render;
    struct jinja_value value;
    size_t name_end = 0;
    while (name_end < field.length && !memchr(".[!:", field.data[name_end], 4)) {
        name_end++;
    }
    size_t path_end = name_end;
    bool bracket = false;
    while (path_end < field.length && (bracket || !memchr("!:", field.data[path_end], 2))) {
        bracket = field.data[path_end] == '[' || (bracket && field.data[path_end] != ']');
        path_end++;
    }
    if (!first_value(braces, text_view_make(field.data, name_end), &value) ||
        !follow_path(braces, text_view_make(field.data + name_end, path_end - name_end), &value)) {
        return false;
    }
    size_t position = path_end;
    if (position < field.length && field.data[position] == '!') {
        char conversion = position + 1 < field.length ? field.data[position + 1] : 0;
        if (!conversion || !memchr("sra", conversion, 3) ||
            (position + 2 < field.length && field.data[position + 2] != ':')) {
            return jinja_fail(render, "this conversion is unknown");
        }
        if (!value_text(render, value, conversion, false, &value)) {
            return false;
        }
        position += 2;
    }
    position += position < field.length;
    struct text_view spec = text_view_make(field.data + position, field.length - position);
    if (!memchr(spec.data, '{', spec.length)) {
        return put_formatted(braces, value, spec);
    }
    struct jinja_value expanded;
    size_t mark = jinja_capture(render);
    if (nested) {
        return jinja_fail(render, "Max string recursion exceeded");
    }
    return fill(braces, spec, true) && jinja_capture_end(render, mark, &expanded) &&
           put_formatted(braces, value, jinja_text(expanded));
}

/* The end of the field that begins at `position`, behind its brace; fields nest in specs. */
static size_t field_end(struct text_view format, size_t position)
{
    int depth = 1;
    for (; position < format.length; position++) {
        depth += format.data[position] == '{' ? 1 : format.data[position] == '}' ? -1 : 0;
        if (depth == 0) {
            return position;
        }
    }
    return SIZE_MAX;
}

static bool fill(struct braces *braces, struct text_view format, bool nested)
{
    struct jinja_render *render = braces->render;
    size_t position = 0;
    while (position < format.length) {
        char c = format.data[position];
        bool brace = c == '{' || c == '}';
        if (!jinja_step(render, 1)) {
            return false;
        }
        if (!brace || (position + 1 < format.length && format.data[position + 1] == c)) {
            if (!jinja_put(render, &c, 1)) {
                return false;
            }
            position += brace ? 2 : 1;
            continue;
        }
        size_t end = c == '{' ? field_end(format, position + 1) : SIZE_MAX;
        if (end == SIZE_MAX) {
            return jinja_fail(render, "Single '%c' encountered in format string", c);
        }
        if (!put_field(braces, text_view_make(format.data + position + 1, end - position - 1),
                       nested)) {
            return false;
        }
        position = end + 1;
    }
    return true;
}

bool jinja_brace_format(struct jinja_render *render, const struct jinja_string *format,
                        const struct jinja_call *call, struct jinja_value *out)
{
    struct braces braces = {.render = render, .call = call, .escape = format->markup};
    size_t mark = jinja_capture(render);
    return fill(&braces, text_view_make(format->data, format->length), false) &&
           jinja_capture_end(render, mark, out) &&
           jinja_string_mark(render, *out, format->markup, out);
}
