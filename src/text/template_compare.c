/* Owns equality, order, membership and sorting, as Python has them: numbers of all kinds compare by
 * value, strings by code point, sequences item by item; anything else has no order. Recursion over
 * nested values is bounded by jinja_enter. */
#include "text/template_engine.h"

#include <math.h>

/* Exact, whatever the size of the integer: -1, 0, 1, or 2 when `number` is no number. */
static int compare_integer_float(int64_t integer, double number)
{
    if (isnan(number)) {
        return 2;
    }
    if (number >= 0x1p63) {
        return -1;
    }
    if (number < -0x1p63) {
        return 1;
    }
    int64_t whole = (int64_t)number;
    if (integer != whole) {
        return integer < whole ? -1 : 1;
    }
    double rest = number - (double)whole;
    return rest > 0 ? -1 : rest < 0 ? 1 : 0;
}

/* *comparable is false unless both are numbers; the result is as above. */
static int compare_numbers(struct jinja_value a, struct jinja_value b, bool *comparable)
{
    int64_t left;
    int64_t right;
    bool left_integer = jinja_as_integer(a, &left);
    bool right_integer = jinja_as_integer(b, &right);
    *comparable =
        (left_integer || a.kind == JINJA_FLOAT) && (right_integer || b.kind == JINJA_FLOAT);
    if (!*comparable) {
        return 2;
    }
    if (left_integer && right_integer) {
        return left < right ? -1 : left > right;
    }
    if (left_integer) {
        return compare_integer_float(left, b.number);
    }
    if (right_integer) {
        int reversed = compare_integer_float(right, a.number);
        return reversed == 2 ? 2 : -reversed;
    }
    if (isnan(a.number) || isnan(b.number)) {
        return 2;
    }
    return a.number < b.number ? -1 : a.number > b.number;
}

static int compare_text(struct text_view a, struct text_view b)
{
    size_t common = a.length < b.length ? a.length : b.length;
    int order = common ? memcmp(a.data, b.data, common) : 0;
    if (order == 0) {
        return a.length < b.length ? -1 : a.length > b.length;
    }
    return order < 0 ? -1 : 1;
}

bool jinja_same(struct jinja_value a, struct jinja_value b)
{
    if (a.kind != b.kind) {
        return false;
    }
    switch ((enum jinja_kind)a.kind) {
    case JINJA_MISSING:
    case JINJA_NONE:
        return true;
    case JINJA_BOOL:
        return a.boolean == b.boolean;
    case JINJA_INTEGER:
        /* CPython keeps one object for each small integer, and one a constant. */
        return a.integer == b.integer;
    case JINJA_FLOAT:
        return memcmp(&a.number, &b.number, sizeof a.number) == 0;
    case JINJA_STRING:
        return a.string == b.string || text_view_equal(jinja_text(a), jinja_text(b));
    default:
        return a.macro == b.macro && a.view == b.view;
    }
}

static bool equal_lists(struct jinja_render *render, const struct jinja_list *a,
                        const struct jinja_list *b, bool *equal)
{
    *equal = a->count == b->count;
    for (size_t i = 0; *equal && i < a->count; i++) {
        if (!jinja_equal(render, a->items[i], b->items[i], equal)) {
            return false;
        }
    }
    return true;
}

static bool equal_dicts(struct jinja_render *render, const struct jinja_dict *a,
                        const struct jinja_dict *b, bool *equal)
{
    *equal = a->count == b->count;
    for (uint32_t i = 0; *equal && i < a->count; i++) {
        struct jinja_entry *found;
        if (!jinja_dict_find(render, b, a->entries[i].key, &found)) {
            return false;
        }
        *equal = found != NULL;
        if (found && !jinja_equal(render, a->entries[i].value, found->value, equal)) {
            return false;
        }
    }
    return true;
}

static bool equal_nested(struct jinja_render *render, struct jinja_value a, struct jinja_value b,
                         bool *equal)
{
    if (!jinja_enter(render) || !jinja_step(render, 1)) {
        return false;
    }
    bool ok = a.kind == JINJA_DICT ? equal_dicts(render, a.dict, b.dict, equal)
                                   : equal_lists(render, a.list, b.list, equal);
    jinja_leave(render);
    return ok;
}

bool jinja_equal(struct jinja_render *render, struct jinja_value a, struct jinja_value b,
                 bool *equal)
{
    bool comparable;
    int order = compare_numbers(a, b, &comparable);
    if (comparable) {
        *equal = order == 0;
        return true;
    }
    *equal = false;
    if (a.kind != b.kind) {
        return true;
    }
    switch ((enum jinja_kind)a.kind) {
    case JINJA_UNDEFINED:
        *equal = true;
        return true;
    case JINJA_STRING:
        *equal = text_view_equal(jinja_text(a), jinja_text(b));
        return a.string->length != b.string->length || jinja_step(render, a.string->length / 64);
    case JINJA_LIST:
    case JINJA_TUPLE:
    case JINJA_DICT:
        return equal_nested(render, a, b, equal);
    case JINJA_RANGE:
        *equal = a.range->count == b.range->count &&
                 (a.range->count == 0 || (a.range->start == b.range->start &&
                                          (a.range->count == 1 || a.range->step == b.range->step)));
        return true;
    default:
        *equal = jinja_same(a, b);
        return true;
    }
}

static bool holds(enum jinja_order order, int sign)
{
    switch (order) {
    case JINJA_LT:
        return sign < 0;
    case JINJA_LE:
        return sign <= 0;
    case JINJA_GT:
        return sign > 0;
    case JINJA_GE:
        break;
    }
    return sign >= 0;
}

/* The first pair that differs decides; without one, the lengths do. */
static bool compare_lists(struct jinja_render *render, enum jinja_order order,
                          const struct jinja_list *a, const struct jinja_list *b, bool *result)
{
    if (!jinja_enter(render) || !jinja_step(render, 1)) {
        return false;
    }
    bool ok = true;
    size_t i = 0;
    for (; ok && i < a->count && i < b->count; i++) {
        bool equal;
        ok = jinja_equal(render, a->items[i], b->items[i], &equal);
        if (ok && !equal) {
            ok = jinja_compare(render, order, a->items[i], b->items[i], result);
            jinja_leave(render);
            return ok;
        }
    }
    *result = holds(order, a->count < b->count ? -1 : a->count > b->count);
    jinja_leave(render);
    return ok;
}

bool jinja_compare(struct jinja_render *render, enum jinja_order order, struct jinja_value a,
                   struct jinja_value b, bool *result)
{
    static const char *const signs[] = {"<", "<=", ">", ">="};
    bool comparable;
    int sign = compare_numbers(a, b, &comparable);
    if (comparable) {
        *result = sign != 2 && holds(order, sign);
        return true;
    }
    if (a.kind == JINJA_STRING && b.kind == JINJA_STRING) {
        *result = holds(order, compare_text(jinja_text(a), jinja_text(b)));
        return jinja_step(render, a.string->length / 64);
    }
    if (a.kind == b.kind && (a.kind == JINJA_LIST || a.kind == JINJA_TUPLE)) {
        return compare_lists(render, order, a.list, b.list, result);
    }
    if (a.kind == JINJA_UNDEFINED || b.kind == JINJA_UNDEFINED) {
        return jinja_fail_undefined(render, a.kind == JINJA_UNDEFINED ? a : b);
    }
    return jinja_fail(render, "'%s' not supported between instances of '%s' and '%s'", signs[order],
                      jinja_type_name(a), jinja_type_name(b));
}

/* --- membership --- */

size_t jinja_find(struct text_view text, struct text_view wanted, size_t from)
{
    if (from > text.length || text.length - from < wanted.length) {
        return SIZE_MAX;
    }
    if (wanted.length == 0) {
        return from;
    }
    const char *found = memmem(text.data + from, text.length - from, wanted.data, wanted.length);
    return found ? (size_t)(found - text.data) : SIZE_MAX;
}

static bool contains_by_walking(struct jinja_render *render, struct jinja_value container,
                                struct jinja_value item, bool *result)
{
    struct jinja_iterator iterator;
    struct jinja_value element;
    *result = false;
    if (!jinja_is_iterable(container)) {
        return jinja_fail(render, "argument of type '%s' is not iterable",
                          jinja_type_name(container));
    }
    if (!jinja_iterate(render, container, &iterator)) {
        return false;
    }
    enum jinja_advance advance;
    while ((advance = jinja_next(render, &iterator, &element)) == JINJA_ITEM) {
        if (!jinja_equal(render, element, item, result)) {
            return false;
        }
        if (*result) {
            return true;
        }
    }
    return advance == JINJA_END;
}

bool jinja_contains(struct jinja_render *render, struct jinja_value container,
                    struct jinja_value item, bool *result)
{
    struct jinja_entry *found;
    switch ((enum jinja_kind)container.kind) {
    case JINJA_STRING:
        if (item.kind != JINJA_STRING) {
            return jinja_fail(render, "'in <string>' requires string as left operand, not %s",
                              jinja_type_name(item));
        }
        *result = jinja_find(jinja_text(container), jinja_text(item), 0) != SIZE_MAX;
        return jinja_step_bytes(render, container.string->length);
    case JINJA_VIEW:
        if (container.view != JINJA_KEYS) {
            return contains_by_walking(render, container, item, result);
        }
        /* fall through */
    case JINJA_DICT:
        if (!jinja_dict_find(render, container.dict, item, &found)) {
            return false;
        }
        *result = found != NULL;
        return true;
    default:
        return contains_by_walking(render, container, item, result);
    }
}

/* --- sorting --- */

/* One merge of sorted neighbours; `<` is asked of the right one, so that equals keep their order.
 * Reversed, sorted() still keeps the order of equals. */
static bool merge(struct jinja_render *render, const struct jinja_value *keys, const uint32_t *from,
                  uint32_t *to, size_t left, size_t middle, size_t right, bool reverse)
{
    size_t a = left;
    size_t b = middle;
    for (size_t k = left; k < right; k++) {
        bool take_right = a == middle;
        if (a < middle && b < right) {
            struct jinja_value x = keys[from[a]];
            struct jinja_value y = keys[from[b]];
            if (!jinja_step(render, 1) ||
                !jinja_compare(render, JINJA_LT, reverse ? x : y, reverse ? y : x, &take_right)) {
                return false;
            }
        }
        to[k] = take_right ? from[b++] : from[a++];
    }
    return true;
}

bool jinja_sort(struct jinja_render *render, struct jinja_value *values, struct jinja_value *keys,
                size_t count, bool reverse)
{
    if (count > UINT32_MAX / 2) {
        return jinja_fail_limit(render, "a list is too long to be sorted");
    }
    uint32_t *order = jinja_alloc(render, count, sizeof *order);
    uint32_t *other = jinja_alloc(render, count, sizeof *other);
    struct jinja_value *sorted = jinja_alloc(render, count, sizeof *sorted);
    if (!order || !other || !sorted) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        order[i] = (uint32_t)i;
    }
    for (size_t width = 1; width < count; width *= 2) {
        for (size_t left = 0; left < count; left += 2 * width) {
            size_t middle = left + width < count ? left + width : count;
            size_t right = middle + width < count ? middle + width : count;
            if (!merge(render, keys, order, other, left, middle, right, reverse)) {
                return false;
            }
        }
        uint32_t *swap = order;
        order = other;
        other = swap;
    }
    for (size_t i = 0; i < count; i++) {
        sorted[i] = values[order[i]];
    }
    if (count) {
        memcpy(values, sorted, count * sizeof *sorted);
        for (size_t i = 0; i < count; i++) {
            sorted[i] = keys[order[i]];
        }
        memcpy(keys, sorted, count * sizeof *sorted);
    }
    return true;
}
