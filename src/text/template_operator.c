/* Owns arithmetic, comparison operators and slices, with Python's rules: division and remainder
 * round down, `/` is never an integer, strings and lists repeat, integers that leave 64 bits are an
 * error. Knows nothing about the tree. */
#include "text/template_engine.h"

#include <math.h>

/* --- numbers --- */

static bool fail_operands(struct jinja_render *render, const char *sign, struct jinja_value a,
                          struct jinja_value b)
{
    if (a.kind == JINJA_UNDEFINED || b.kind == JINJA_UNDEFINED) {
        return jinja_fail_undefined(render, a.kind == JINJA_UNDEFINED ? a : b);
    }
    return jinja_fail(render, "unsupported operand type(s) for %s: '%s' and '%s'", sign,
                      jinja_type_name(a), jinja_type_name(b));
}

static bool fail_overflow(struct jinja_render *render)
{
    return jinja_fail(render, "the result does not fit a 64-bit integer");
}

static bool integer_power(struct jinja_render *render, int64_t base, int64_t exponent,
                          struct jinja_value *out)
{
    int64_t result = 1;
    while (exponent > 0) {
        if ((exponent & 1) && __builtin_mul_overflow(result, base, &result)) {
            return fail_overflow(render);
        }
        exponent >>= 1;
        if (exponent && __builtin_mul_overflow(base, base, &base)) {
            return fail_overflow(render);
        }
    }
    *out = jinja_integer(result);
    return true;
}

static bool float_power(struct jinja_render *render, double a, double b, struct jinja_value *out)
{
    if (a == 0 && b < 0) {
        return jinja_fail(render, "0.0 cannot be raised to a negative power");
    }
    if (a < 0 && isfinite(a) && isfinite(b) && b != floor(b)) {
        return jinja_fail(render, "a negative number has no real power of this exponent");
    }
    double result = pow(a, b);
    if (isinf(result) && isfinite(a) && isfinite(b)) {
        return jinja_fail(render, "the result is too large");
    }
    *out = jinja_float(result);
    return true;
}

static bool integer_arithmetic(struct jinja_render *render, enum jinja_operator op, int64_t a,
                               int64_t b, struct jinja_value *out)
{
    int64_t result = 0;
    bool overflow = false;
    switch (op) {
    case OPERATOR_ADD:
        overflow = __builtin_add_overflow(a, b, &result);
        break;
    case OPERATOR_SUBTRACT:
        overflow = __builtin_sub_overflow(a, b, &result);
        break;
    case OPERATOR_MULTIPLY:
        overflow = __builtin_mul_overflow(a, b, &result);
        break;
    case OPERATOR_POWER:
        return b >= 0 ? integer_power(render, a, b, out)
                      : float_power(render, (double)a, (double)b, out);
    default:
        if (b == 0) {
            return jinja_fail(render, "division by zero");
        }
        if (op == OPERATOR_DIVIDE) {
            *out = jinja_float((double)((long double)a / (long double)b));
            return true;
        }
        if (b == -1) {
            result = 0;
            overflow = op == OPERATOR_FLOOR_DIVIDE && __builtin_sub_overflow(0, a, &result);
        } else {
            bool adjust = a % b != 0 && (a % b < 0) != (b < 0);
            result = op == OPERATOR_FLOOR_DIVIDE ? a / b - adjust : a % b + (adjust ? b : 0);
        }
    }
    *out = jinja_integer(result);
    return !overflow || fail_overflow(render);
}

/* CPython's float_divmod: the quotient is derived from the remainder, both with the divisor's sign.
 */
static void float_divide(double a, double b, double *quotient, double *remainder)
{
    double mod = fmod(a, b);
    double div = (a - mod) / b;
    if (mod != 0) {
        if ((b < 0) != (mod < 0)) {
            mod += b;
            div -= 1;
        }
    } else {
        mod = copysign(0, b);
    }
    double floored = floor(div);
    if (div != 0) {
        floored += div - floored > 0.5;
    } else {
        floored = copysign(0, a / b);
    }
    *quotient = floored;
    *remainder = mod;
}

static bool float_arithmetic(struct jinja_render *render, enum jinja_operator op, double a,
                             double b, struct jinja_value *out)
{
    double quotient;
    double remainder;
    switch (op) {
    case OPERATOR_ADD:
        *out = jinja_float(a + b);
        return true;
    case OPERATOR_SUBTRACT:
        *out = jinja_float(a - b);
        return true;
    case OPERATOR_MULTIPLY:
        *out = jinja_float(a * b);
        return true;
    case OPERATOR_POWER:
        return float_power(render, a, b, out);
    default:
        break;
    }
    if (b == 0) {
        return jinja_fail(render, "float division by zero");
    }
    if (op == OPERATOR_DIVIDE) {
        *out = jinja_float(a / b);
        return true;
    }
    float_divide(a, b, &quotient, &remainder);
    *out = jinja_float(op == OPERATOR_MODULO ? remainder : quotient);
    return true;
}

/* --- sequences --- */

/* Python's Markup escapes what is joined to it. */
static bool markup_operand(struct jinja_render *render, struct jinja_value value,
                           struct jinja_value *out)
{
    if (value.kind == JINJA_STRING && value.string->markup) {
        *out = value;
        return true;
    }
    size_t mark = jinja_capture(render);
    return jinja_to_string(render, value, &value) &&
           jinja_print_escaped(render, jinja_text(value)) && jinja_capture_end(render, mark, out);
}

static bool add_strings(struct jinja_render *render, struct jinja_value a, struct jinja_value b,
                        struct jinja_value *out)
{
    if (!a.string->markup && !b.string->markup) {
        return jinja_string_join(render, a.string, b.string, out);
    }
    return markup_operand(render, a, &a) && markup_operand(render, b, &b) &&
           jinja_string_join(render, a.string, b.string, out) &&
           jinja_string_mark(render, *out, true, out);
}

static bool add_lists(struct jinja_render *render, struct jinja_value a, struct jinja_value b,
                      struct jinja_value *out)
{
    size_t count = a.list->count + b.list->count;
    struct jinja_value *items = jinja_alloc(render, count, sizeof *items);
    if (!items || !jinja_step(render, count)) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        items[i] = i < a.list->count ? a.list->items[i] : b.list->items[i - a.list->count];
    }
    return jinja_list_make(render, (enum jinja_kind)a.kind, items, count, out);
}

static bool add(struct jinja_render *render, struct jinja_value a, struct jinja_value b,
                struct jinja_value *out)
{
    if (a.kind == b.kind && a.kind == JINJA_STRING) {
        return add_strings(render, a, b, out);
    }
    if (a.kind == b.kind && (a.kind == JINJA_LIST || a.kind == JINJA_TUPLE)) {
        return add_lists(render, a, b, out);
    }
    if (a.kind == JINJA_UNDEFINED || b.kind == JINJA_UNDEFINED) {
        return jinja_fail_undefined(render, a.kind == JINJA_UNDEFINED ? a : b);
    }
    if (a.kind == JINJA_STRING) {
        return jinja_fail(render, "can only concatenate str (not \"%s\") to str",
                          jinja_type_name(b));
    }
    return fail_operands(render, "+", a, b);
}

/* A string or list `times` over; the output limit bounds strings, the memory limit lists. */
static bool repeat(struct jinja_render *render, struct jinja_value value, int64_t times,
                   struct jinja_value *out)
{
    size_t count = times > 0 ? (size_t)times : 0;
    if (value.kind == JINJA_STRING) {
        size_t mark = jinja_capture(render);
        return jinja_put_times(render, jinja_text(value), count) &&
               jinja_capture_end(render, mark, out) &&
               jinja_string_mark(render, *out, value.string->markup, out);
    }
    size_t length;
    if (__builtin_mul_overflow(count, value.list->count, &length) || !jinja_step(render, length)) {
        return jinja_fail_limit(render, "a repeated list is too long");
    }
    struct jinja_value *items = jinja_alloc(render, length, sizeof *items);
    if (!items) {
        return false;
    }
    for (size_t i = 0; i < length; i++) {
        items[i] = value.list->items[i % value.list->count];
    }
    return jinja_list_make(render, (enum jinja_kind)value.kind, items, length, out);
}

static bool is_repeatable(struct jinja_value value)
{
    return value.kind == JINJA_STRING || value.kind == JINJA_LIST || value.kind == JINJA_TUPLE;
}

bool jinja_binary(struct jinja_render *render, enum jinja_operator op, struct jinja_value a,
                  struct jinja_value b, struct jinja_value *out)
{
    static const char *const signs[] = {"+", "-", "*", "/", "//", "%", "**"};
    int64_t left;
    int64_t right;
    double x;
    double y;
    bool left_integer = jinja_as_integer(a, &left);
    bool right_integer = jinja_as_integer(b, &right);
    if (left_integer && right_integer) {
        return integer_arithmetic(render, op, left, right, out);
    }
    if (jinja_as_number(a, &x) && jinja_as_number(b, &y)) {
        return float_arithmetic(render, op, x, y, out);
    }
    if (op == OPERATOR_ADD) {
        return add(render, a, b, out);
    }
    if (op == OPERATOR_MULTIPLY && is_repeatable(a) && right_integer) {
        return repeat(render, a, right, out);
    }
    if (op == OPERATOR_MULTIPLY && is_repeatable(b) && left_integer) {
        return repeat(render, b, left, out);
    }
    if (op == OPERATOR_MODULO && a.kind == JINJA_STRING) {
        return jinja_percent_format(render, a.string, b, out);
    }
    return fail_operands(render, signs[op], a, b);
}

bool jinja_comparison(struct jinja_render *render, enum jinja_operator op, struct jinja_value a,
                      struct jinja_value b, bool *out)
{
    switch (op) {
    case OPERATOR_EQ:
    case OPERATOR_NE:
        if (!jinja_equal(render, a, b, out)) {
            return false;
        }
        *out = *out == (op == OPERATOR_EQ);
        return true;
    case OPERATOR_IN:
    case OPERATOR_NOT_IN:
        if (!jinja_contains(render, b, a, out)) {
            return false;
        }
        *out = *out == (op == OPERATOR_IN);
        return true;
    case OPERATOR_LT:
        return jinja_compare(render, JINJA_LT, a, b, out);
    case OPERATOR_LE:
        return jinja_compare(render, JINJA_LE, a, b, out);
    case OPERATOR_GT:
        return jinja_compare(render, JINJA_GT, a, b, out);
    default:
        return jinja_compare(render, JINJA_GE, a, b, out);
    }
}

bool jinja_negate(struct jinja_render *render, struct jinja_value value, bool minus,
                  struct jinja_value *out)
{
    int64_t integer;
    if (value.kind == JINJA_FLOAT) {
        *out = jinja_float(minus ? -value.number : value.number);
        return true;
    }
    if (jinja_as_integer(value, &integer)) {
        if (minus && __builtin_sub_overflow(0, integer, &integer)) {
            return fail_overflow(render);
        }
        *out = jinja_integer(integer);
        return true;
    }
    if (value.kind == JINJA_UNDEFINED) {
        return jinja_fail_undefined(render, value);
    }
    return jinja_fail(render, "bad operand type for unary %s: '%s'", minus ? "-" : "+",
                      jinja_type_name(value));
}

/* --- slices --- */

struct slice {
    int64_t start;
    int64_t step;
    int64_t count;
};

static bool slice_bound(struct jinja_render *render, struct jinja_value value, bool *given,
                        int64_t *out)
{
    *given = jinja_as_integer(value, out);
    if (!*given && value.kind != JINJA_MISSING && value.kind != JINJA_NONE) {
        return jinja_fail(render, "slice indices must be integers or None, not %s",
                          jinja_type_name(value));
    }
    return true;
}

/* An index counted from the end when negative, clamped to [low, high]. */
static int64_t clamp(int64_t index, int64_t length, int64_t low, int64_t high)
{
    if (index < 0) {
        index += length;
    }
    return index < low ? low : index > high ? high : index;
}

static bool adjust_slice(struct jinja_render *render, const struct jinja_value bounds[3],
                         int64_t length, struct slice *slice)
{
    int64_t start;
    int64_t stop;
    bool has_start;
    bool has_stop;
    bool has_step;
    if (!slice_bound(render, bounds[0], &has_start, &start) ||
        !slice_bound(render, bounds[1], &has_stop, &stop) ||
        !slice_bound(render, bounds[2], &has_step, &slice->step)) {
        return false;
    }
    slice->step = has_step ? slice->step : 1;
    if (slice->step == 0) {
        return jinja_fail(render, "slice step cannot be zero");
    }
    bool down = slice->step < 0;
    int64_t low = down ? -1 : 0;
    int64_t high = down ? length - 1 : length;
    start = has_start ? clamp(start, length, low, high) : down ? high : low;
    stop = has_stop ? clamp(stop, length, low, high) : down ? low : high;
    slice->start = start;
    /* A step of INT64_MIN or so moves past everything at once. */
    uint64_t width = down ? 0 - (uint64_t)slice->step : (uint64_t)slice->step;
    int64_t distance = down ? start - stop : stop - start;
    slice->count = distance > 0 ? (int64_t)(((uint64_t)distance - 1) / width) + 1 : 0;
    return true;
}

bool jinja_substring(struct jinja_render *render, const struct jinja_string *string, size_t first,
                     size_t count, struct jinja_value *out)
{
    size_t begin = jinja_byte_offset(string, first);
    struct jinja_string rest = {.data = string->data + begin,
                                .length = string->length - begin,
                                .characters = string->characters - first};
    size_t length = jinja_byte_offset(&rest, count);
    /* The text of a string never moves or changes: a part of it may share it. */
    return jinja_step_bytes(render, string->length) &&
           jinja_string_borrow(render, text_view_make(rest.data, length), out) &&
           jinja_string_mark(render, *out, string->markup, out);
}

static bool slice_string(struct jinja_render *render, const struct jinja_string *string,
                         const struct slice *slice, struct jinja_value *out)
{
    if (slice->step == 1 || slice->count <= 1) {
        size_t start = slice->count ? (size_t)slice->start : 0;
        return jinja_substring(render, string, start, (size_t)slice->count, out);
    }
    size_t mark = jinja_capture(render);
    size_t position = jinja_byte_offset(string, (size_t)slice->start);
    uint64_t skip = slice->step < 0 ? 0 - (uint64_t)slice->step : (uint64_t)slice->step;
    if (!jinja_step(render, string->length)) {
        return false;
    }
    for (int64_t i = 0; i < slice->count; i++) {
        size_t end = position + 1;
        while (end < string->length && ((unsigned char)string->data[end] & 0xC0) == 0x80) {
            end++;
        }
        if (!jinja_put(render, string->data + position, end - position)) {
            return false;
        }
        for (uint64_t k = 0; k < skip && i + 1 < slice->count; k++) {
            do {
                position = slice->step < 0 ? position - 1 : position + 1;
            } while (((unsigned char)string->data[position] & 0xC0) == 0x80);
        }
    }
    return jinja_capture_end(render, mark, out) &&
           jinja_string_mark(render, *out, string->markup, out);
}

static bool slice_list(struct jinja_render *render, struct jinja_value list,
                       const struct slice *slice, struct jinja_value *out)
{
    size_t count = (size_t)slice->count;
    if (slice->step == 1) {
        const struct jinja_value *items = list.list->items + (count ? slice->start : 0);
        return jinja_list_make(render, (enum jinja_kind)list.kind, items, count, out);
    }
    struct jinja_value *items = jinja_alloc(render, count, sizeof *items);
    if (!items || !jinja_step(render, count)) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        items[i] = list.list->items[slice->start + (int64_t)i * slice->step];
    }
    return jinja_list_make(render, (enum jinja_kind)list.kind, items, count, out);
}

static bool slice_range(struct jinja_render *render, const struct jinja_range *range,
                        const struct slice *slice, struct jinja_value *out)
{
    struct jinja_range *made = jinja_alloc(render, 1, sizeof *made);
    if (!made) {
        return false;
    }
    made->start = range->start + slice->start * range->step;
    made->count = slice->count;
    int64_t last;
    if (__builtin_mul_overflow(range->step, slice->step, &made->step) ||
        __builtin_mul_overflow(made->step, made->count, &last) ||
        __builtin_add_overflow(made->start, last, &made->stop)) {
        return fail_overflow(render);
    }
    *out = (struct jinja_value){.kind = JINJA_RANGE, .range = made};
    return true;
}

bool jinja_slice(struct jinja_render *render, struct jinja_value object,
                 const struct jinja_value bounds[3], struct jinja_value *out)
{
    bool sized;
    struct slice slice;
    size_t length = jinja_length(object, &sized);
    if (object.kind == JINJA_UNDEFINED) {
        return jinja_fail_undefined(render, object);
    }
    if (object.kind != JINJA_RANGE && !is_repeatable(object)) {
        return jinja_fail(render, "'%s' object cannot be sliced", jinja_type_name(object));
    }
    if (!adjust_slice(render, bounds, (int64_t)length, &slice)) {
        return false;
    }
    if (object.kind == JINJA_STRING) {
        return slice_string(render, object.string, &slice, out);
    }
    return object.kind == JINJA_RANGE ? slice_range(render, object.range, &slice, out)
                                      : slice_list(render, object, &slice, out);
}
