/* Owns numbers as text where a program chose the form: %f, %e, %g, rounding to decimals, and
 * Python's format specifications ("{:>8.2f}"). Of what snprintf gives only digits are used, so a
 * locale with another decimal point changes nothing. */
#include "text/template_format.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/utf8.h"

#define DIGITS_MAX 1500

/* --- floats --- */

/* The digits of |value| in %.*f, point left out; their number. */
static size_t fixed_digits(double value, int precision, char digits[DIGITS_MAX])
{
    char text[DIGITS_MAX];
    size_t length = 0;
    snprintf(text, sizeof text, "%.*f", precision, fabs(value));
    for (const char *c = text; *c; c++) {
        if (*c >= '0' && *c <= '9') {
            digits[length++] = *c;
        }
    }
    return length;
}

double jinja_round_float(double value, int64_t digits)
{
    char text[DIGITS_MAX];
    char number[DIGITS_MAX + 16];
    if (!isfinite(value) || value == 0 || digits > 323) {
        return value;
    }
    if (digits < -308) {
        return copysign(0, value);
    }
    size_t length = fixed_digits(value, digits > 0 ? (int)digits : 0, text);
    if (digits < 0) {
        /* Above the units the decimal digits are exact: round half to even by hand. */
        double power = pow(10, (double)-digits);
        double rest = fmod(fabs(value), power);
        double whole = fabs(value) - rest;
        bool odd = fmod(whole / power, 2) == 1;
        whole += rest > power / 2 || (rest == power / 2 && odd) ? power : 0;
        return copysign(whole, value);
    }
    snprintf(number, sizeof number, "%.*se-%d", (int)length, text, (int)digits);
    return copysign(strtod(number, NULL), value);
}

static bool put_point(struct jinja_buffer *out, int decimals, bool alternate)
{
    return (decimals == 0 && !alternate) || jinja_buffer_put(out, ".", 1);
}

static bool print_exponent(struct jinja_buffer *out, double value, char letter, int precision,
                           bool alternate, bool strip)
{
    char text[DIGITS_MAX];
    char digits[DIGITS_MAX];
    char exponent[16];
    size_t length = 0;
    snprintf(text, sizeof text, "%.*e", precision, fabs(value));
    const char *c = text;
    for (; *c && *c != 'e'; c++) {
        if (*c >= '0' && *c <= '9') {
            digits[length++] = *c;
        }
    }
    while (strip && length > 1 && digits[length - 1] == '0') {
        length--;
    }
    snprintf(exponent, sizeof exponent, "%c%s", letter, *c ? c + 1 : "+00");
    return jinja_buffer_put(out, digits, 1) && put_point(out, (int)length - 1, alternate) &&
           jinja_buffer_put(out, digits + 1, length - 1) &&
           jinja_buffer_put(out, exponent, strlen(exponent));
}

static bool print_plain(struct jinja_buffer *out, double value, int precision, bool alternate,
                        bool strip)
{
    char digits[DIGITS_MAX];
    size_t length = fixed_digits(value, precision, digits);
    size_t whole = length - (size_t)precision;
    while (strip && length > whole && digits[length - 1] == '0') {
        length--;
    }
    return jinja_buffer_put(out, digits, whole) &&
           put_point(out, (int)(length - whole), alternate) &&
           jinja_buffer_put(out, digits + whole, length - whole);
}

/* The decimal exponent that %.*e shows. */
static int exponent_of(double value, int precision)
{
    char text[DIGITS_MAX];
    snprintf(text, sizeof text, "%.*e", precision, fabs(value));
    const char *e = strchr(text, 'e');
    if (!e) {
        return 0;
    }
    int exponent = 0;
    for (const char *c = e + 2; *c >= '0' && *c <= '9'; c++) {
        exponent = exponent * 10 + (*c - '0');
    }
    return e[1] == '-' ? -exponent : exponent;
}

bool jinja_print_magnitude(struct jinja_buffer *out, double value, char conversion, int precision,
                           bool alternate)
{
    bool upper = conversion < 'a';
    char lower = (char)(conversion | 0x20);
    if (!isfinite(value)) {
        const char *word = isnan(value) ? upper ? "NAN" : "nan" : upper ? "INF" : "inf";
        return jinja_buffer_put(out, word, 3);
    }
    if (lower == 'f') {
        return print_plain(out, value, precision, alternate, false);
    }
    if (lower == 'e') {
        return print_exponent(out, value, upper ? 'E' : 'e', precision, alternate, false);
    }
    precision = precision == 0 ? 1 : precision;
    int exponent = value == 0 ? 0 : exponent_of(value, precision - 1);
    if (exponent >= -4 && exponent < precision) {
        return print_plain(out, value, precision - 1 - exponent, alternate, !alternate);
    }
    return print_exponent(out, value, upper ? 'E' : 'e', precision - 1, alternate, !alternate);
}

/* --- fields --- */

bool jinja_buffer_put(struct jinja_buffer *out, const char *data, size_t length)
{
    if (length > sizeof out->data - out->length) {
        return false;
    }
    memcpy(out->data + out->length, data, length);
    out->length += length;
    return true;
}

static bool put_fill(struct jinja_render *render, uint32_t fill, size_t count)
{
    char bytes[4];
    size_t length = utf8_encode(fill, bytes);
    return jinja_put_times(render, text_view_make(bytes, length), count);
}

bool jinja_put_padded(struct jinja_render *render, struct text_view prefix, struct text_view body,
                      const struct jinja_spec *spec, char default_align)
{
    size_t length = jinja_count_characters(prefix.data, prefix.length) +
                    jinja_count_characters(body.data, body.length);
    size_t padding = spec->width > length ? spec->width - length : 0;
    char align = spec->align ? spec->align : default_align;
    size_t left = align == '>' ? padding : align == '^' ? padding / 2 : 0;
    size_t middle = align == '=' ? padding : 0;
    size_t right = padding - left - middle;
    return put_fill(render, spec->fill, left) && jinja_put(render, prefix.data, prefix.length) &&
           put_fill(render, spec->fill, middle) && jinja_put(render, body.data, body.length) &&
           put_fill(render, spec->fill, right);
}

/* Digits in groups of `size` from the right. With zeros for fill, the zeros are grouped too, which
 * is what `minimum` characters asks for. */
static bool group_digits(struct jinja_buffer *out, struct text_view digits, char separator,
                         size_t size, size_t minimum)
{
    size_t count = digits.length;
    while (count + (count - 1) / size < minimum) {
        count++;
    }
    for (size_t i = 0; i < count; i++) {
        size_t zeros = count - digits.length;
        if ((i && (count - i) % size == 0 && !jinja_buffer_put(out, &separator, 1)) ||
            !jinja_buffer_put(out, i < zeros ? "0" : digits.data + i - zeros, 1)) {
            return false;
        }
    }
    return true;
}

static size_t write_integer(uint64_t value, unsigned base, bool upper, char text[72])
{
    static const char *const sets[] = {"0123456789abcdef", "0123456789ABCDEF"};
    char reversed[72];
    size_t length = 0;
    do {
        reversed[length++] = sets[upper][value % base];
        value /= base;
    } while (value);
    for (size_t i = 0; i < length; i++) {
        text[i] = reversed[length - 1 - i];
    }
    return length;
}

static size_t put_sign(bool negative, char sign, char *prefix)
{
    if (negative) {
        *prefix = '-';
    } else if (sign == '+' || sign == ' ') {
        *prefix = sign;
    } else {
        return 0;
    }
    return 1;
}

bool jinja_format_integer(struct jinja_render *render, int64_t value, struct jinja_spec spec)
{
    char type = spec.type ? spec.type : 'd';
    unsigned base = type == 'b' ? 2 : type == 'o' ? 8 : (type | 0x20) == 'x' ? 16 : 10;
    char digits[72];
    char prefix[4];
    struct jinja_buffer grouped = {.length = 0};
    uint64_t magnitude = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    size_t length = write_integer(magnitude, base, type == 'X', digits);
    size_t prefix_length = put_sign(value < 0, spec.sign, prefix);
    if (spec.alternate && base != 10) {
        prefix[prefix_length++] = '0';
        prefix[prefix_length++] = type;
    }
    struct text_view body = text_view_make(digits, length);
    size_t minimum = spec.precision > 0 ? (size_t)spec.precision : 0;
    bool zeros = spec.fill == '0' && (spec.align == '=' || !spec.align);
    if (spec.grouping) {
        minimum = zeros && spec.width > prefix_length ? spec.width - prefix_length : 0;
    }
    if (spec.grouping || minimum > length) {
        if (minimum > 1000 || !group_digits(&grouped, body, spec.grouping ? spec.grouping : ',',
                                            !spec.grouping ? SIZE_MAX
                                            : base == 10   ? 3
                                                           : 4,
                                            minimum)) {
            return jinja_fail(render, "the width of this format is too large");
        }
        body = text_view_make(grouped.data, grouped.length);
    }
    return jinja_put_padded(render, text_view_make(prefix, prefix_length), body, &spec, '>');
}

/* The text of a float without its sign. */
static bool float_body(struct jinja_render *render, double value, const struct jinja_spec *spec,
                       struct jinja_buffer *body)
{
    char type = spec->type;
    int precision = spec->precision < 0 ? 6 : spec->precision;
    if (precision > 1000) {
        return jinja_fail(render, "the precision of this format is too large");
    }
    if (type == '%') {
        return jinja_print_magnitude(body, value * 100, 'f', precision, spec->alternate) &&
               jinja_buffer_put(body, "%", 1);
    }
    if (type) {
        return jinja_print_magnitude(body, value, type == 'n' ? 'g' : type, precision,
                                     spec->alternate);
    }
    if (spec->precision < 0) {
        size_t mark = jinja_capture(render);
        if (!jinja_print_float(render, fabs(value)) ||
            !jinja_buffer_put(body, render->out.data + mark, render->out.length - mark)) {
            return false;
        }
        render->out.length = mark;
        return true;
    }
    /* Like 'g', but a whole number keeps ".0", which needs one digit of precision more. */
    precision = precision == 0 ? 1 : precision;
    int exponent = value == 0 ? 0 : exponent_of(value, precision - 1);
    if (isfinite(value) && exponent == precision - 1) {
        return print_exponent(body, value, 'e', precision - 1, spec->alternate, true);
    }
    if (!jinja_print_magnitude(body, value, 'g', precision, spec->alternate)) {
        return false;
    }
    return memchr(body->data, '.', body->length) || memchr(body->data, 'e', body->length) ||
           !isfinite(value) || jinja_buffer_put(body, ".0", 2);
}

bool jinja_format_float(struct jinja_render *render, double value, struct jinja_spec spec)
{
    struct jinja_buffer body = {.length = 0};
    struct jinja_buffer grouped = {.length = 0};
    char prefix[2];
    if (!float_body(render, value, &spec, &body)) {
        return jinja_fail(render, "the width of this format is too large");
    }
    size_t prefix_length = put_sign(signbit(value) && !isnan(value), spec.sign, prefix);
    struct text_view text = text_view_make(body.data, body.length);
    if (spec.grouping && isfinite(value)) {
        size_t whole = 0;
        while (whole < body.length && body.data[whole] >= '0' && body.data[whole] <= '9') {
            whole++;
        }
        size_t rest = body.length - whole;
        bool zeros = spec.fill == '0' && (spec.align == '=' || !spec.align);
        size_t minimum =
            zeros && spec.width > prefix_length + rest ? spec.width - prefix_length - rest : 0;
        if (minimum > 1000 ||
            !group_digits(&grouped, text_view_make(body.data, whole), spec.grouping, 3, minimum) ||
            !jinja_buffer_put(&grouped, body.data + whole, rest)) {
            return jinja_fail(render, "the width of this format is too large");
        }
        text = text_view_make(grouped.data, grouped.length);
    }
    return jinja_put_padded(render, text_view_make(prefix, prefix_length), text, &spec, '>');
}
