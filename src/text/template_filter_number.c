/* Owns the filters that make and round numbers, with Python's int(), float(), abs() and round(). */
#include "text/template_filter.h"

#include <math.h>

#define FILTER(name)                                                   \
    bool name(struct jinja_render *render, struct jinja_value *values, \
              const struct jinja_call *call, struct jinja_value *out)

FILTER(filter_abs)
{
    (void)call;
    int64_t integer;
    if (values[0].kind == JINJA_FLOAT) {
        *out = jinja_float(fabs(values[0].number));
        return true;
    }
    if (!jinja_as_integer(values[0], &integer)) {
        return jinja_fail(render, "bad operand type for abs(): '%s'", jinja_type_name(values[0]));
    }
    if (integer < 0) {
        return jinja_negate(render, jinja_integer(integer), true, out);
    }
    *out = jinja_integer(integer);
    return true;
}

/* --- int --- */

static int digit_of(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'z' ? c - 'a' + 10 : 99;
}

enum parsed { PARSED, NOT_A_NUMBER, TOO_LARGE };

/* Skips "0x" and its like when the base allows it; base 0 takes the base from it. */
static size_t skip_prefix(struct text_view text, size_t position, int64_t *base)
{
    char mark = (char)(position + 1 < text.length ? text.data[position + 1] | 0x20 : 0);
    int64_t marked = mark == 'x' ? 16 : mark == 'o' ? 8 : mark == 'b' ? 2 : 0;
    if (position < text.length && text.data[position] == '0' && marked &&
        (*base == marked || *base == 0)) {
        *base = marked;
        position += 2;
        return position + (position < text.length && text.data[position] == '_');
    }
    *base = *base ? *base : 10;
    return position;
}

/* int(text, base) */
static enum parsed parse_integer(struct text_view text, int64_t base, int64_t *out)
{
    text = jinja_strip(text, NULL, true, true);
    bool negative = text.length && text.data[0] == '-';
    size_t position = text.length && (text.data[0] == '-' || text.data[0] == '+');
    bool strict = base == 0; /* then "012" is no number, but "0_0" is */
    position = skip_prefix(text, position, &base);
    size_t begin = position;
    int64_t value = 0;
    bool overflow = false;
    for (; position < text.length; position++) {
        if (text.data[position] == '_' && position > begin && position + 1 < text.length &&
            text.data[position - 1] != '_') {
            continue;
        }
        int digit = digit_of(text.data[position]);
        if (digit >= base) {
            return NOT_A_NUMBER;
        }
        overflow = overflow || __builtin_mul_overflow(value, base, &value) ||
                   __builtin_add_overflow(value, negative ? -digit : digit, &value);
    }
    if (position == begin ||
        (strict && base == 10 && text.data[begin] == '0' && (value || overflow))) {
        return NOT_A_NUMBER;
    }
    *out = value;
    return overflow ? TOO_LARGE : PARSED;
}

static enum parsed float_to_integer(double number, int64_t *out)
{
    if (isnan(number)) {
        return NOT_A_NUMBER;
    }
    if (!(number > -0x1p63 && number < 0x1p63)) {
        return TOO_LARGE;
    }
    *out = (int64_t)number;
    return PARSED;
}

FILTER(filter_int)
{
    int64_t base;
    int64_t integer = 0;
    double number;
    enum parsed parsed = NOT_A_NUMBER;
    (void)call;
    if (!jinja_integer_argument(render, values[2], 10, &base)) {
        return false;
    }
    struct jinja_value value = values[0];
    if (value.kind == JINJA_UNDEFINED) {
        return jinja_fail_undefined(render, value);
    }
    if (value.kind == JINJA_STRING) {
        if (!jinja_step_bytes(render, value.string->length)) {
            return false;
        }
        bool valid_base = base == 0 || (base >= 2 && base <= 36);
        parsed = valid_base ? parse_integer(jinja_text(value), base, &integer) : NOT_A_NUMBER;
        if (parsed == NOT_A_NUMBER &&
            jinja_parse_float(jinja_strip(jinja_text(value), NULL, true, true), &number)) {
            parsed = float_to_integer(number, &integer);
            /* "inf" gives the default; a number that is merely large would be an integer. */
            parsed = isinf(number) ? NOT_A_NUMBER : parsed;
        }
    } else if (value.kind == JINJA_FLOAT) {
        parsed = float_to_integer(value.number, &integer);
    } else if (jinja_as_integer(value, &integer)) {
        parsed = PARSED;
    }
    if (parsed == TOO_LARGE) {
        return jinja_fail(render, "the number does not fit a 64-bit integer");
    }
    *out = parsed == PARSED                  ? jinja_integer(integer)
           : values[1].kind == JINJA_MISSING ? jinja_integer(0)
                                             : values[1];
    return true;
}

FILTER(filter_float)
{
    double number;
    (void)call;
    struct jinja_value value = values[0];
    if (value.kind == JINJA_UNDEFINED) {
        return jinja_fail_undefined(render, value);
    }
    bool parsed =
        value.kind == JINJA_STRING
            ? jinja_step_bytes(render, value.string->length) &&
                  jinja_parse_float(jinja_strip(jinja_text(value), NULL, true, true), &number)
            : jinja_as_number(value, &number);
    *out = parsed                            ? jinja_float(number)
           : values[1].kind == JINJA_MISSING ? jinja_float(0)
                                             : values[1];
    return render->status == LLCUDA_OK;
}

/* --- round --- */

/* round() of an integer to tens, hundreds …, half to even. */
static bool round_integer(struct jinja_render *render, int64_t value, int64_t digits,
                          struct jinja_value *out)
{
    if (digits >= 0) {
        *out = jinja_integer(value);
        return true;
    }
    int64_t power = 1;
    for (int64_t i = digits; i < 0; i++) {
        if (__builtin_mul_overflow(power, 10, &power)) {
            *out = jinja_integer(0);
            return true;
        }
    }
    int64_t rest = value % power;
    int64_t low = value - rest;
    int64_t magnitude = rest < 0 ? -rest : rest;
    bool odd = (low / power) % 2 != 0;
    bool up = magnitude > power / 2 || (magnitude == power / 2 && odd);
    int64_t step = value < 0 ? -power : power;
    if (up && __builtin_add_overflow(low, step, &low)) {
        return jinja_fail(render, "the result does not fit a 64-bit integer");
    }
    *out = jinja_integer(low);
    return true;
}

FILTER(filter_round)
{
    int64_t digits;
    int64_t integer;
    double number;
    struct jinja_value method = values[2];
    (void)call;
    bool common = method.kind == JINJA_MISSING ||
                  (method.kind == JINJA_STRING && text_view_is(jinja_text(method), "common"));
    bool ceiling = method.kind == JINJA_STRING && text_view_is(jinja_text(method), "ceil");
    if (!common && !ceiling &&
        !(method.kind == JINJA_STRING && text_view_is(jinja_text(method), "floor"))) {
        return jinja_fail(render, "method must be common, ceil or floor");
    }
    if (common && values[1].kind == JINJA_NONE) {
        return jinja_fail(render, "rounding needs a number of digits");
    }
    if (!jinja_integer_argument(render, values[1], 0, &digits)) {
        return false;
    }
    if (common && jinja_as_integer(values[0], &integer)) {
        return round_integer(render, integer, digits, out);
    }
    if (!jinja_as_number(values[0], &number)) {
        return jinja_fail(render, "type %s doesn't define __round__ method",
                          jinja_type_name(values[0]));
    }
    if (common) {
        *out = jinja_float(jinja_round_float(number, digits));
        return true;
    }
    double power = pow(10, (double)digits);
    if (!isfinite(number) || !isfinite(number * power) || power == 0) {
        return jinja_fail(render, "cannot convert float infinity or NaN to integer");
    }
    *out = jinja_float((ceiling ? ceil(number * power) : floor(number * power)) / power);
    return true;
}
