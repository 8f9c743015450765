/* Owns the tests behind `is`. Each gives a boolean. */
#include "text/template_engine.h"

/* values[0] is what is tested, values[1] the test's argument. */
#define TEST_FUNCTION(name)                                                   \
    static bool name(struct jinja_render *render, struct jinja_value *values, \
                     const struct jinja_call *call, struct jinja_value *out)

/* Tests that look at the value alone. */
#define SIMPLE_TEST(name, condition)          \
    TEST_FUNCTION(name)                       \
    {                                         \
        struct jinja_value value = values[0]; \
        (void)render;                         \
        (void)call;                           \
        *out = jinja_bool(condition);         \
        return true;                          \
    }

static bool is_sequence(struct jinja_value value)
{
    bool sized;
    jinja_length(value, &sized);
    return sized && value.kind != JINJA_VIEW;
}

SIMPLE_TEST(test_defined, value.kind != JINJA_UNDEFINED)
SIMPLE_TEST(test_undefined, value.kind == JINJA_UNDEFINED)
SIMPLE_TEST(test_none, value.kind == JINJA_NONE)
SIMPLE_TEST(test_boolean, value.kind == JINJA_BOOL)
SIMPLE_TEST(test_true, value.kind == JINJA_BOOL && value.boolean)
SIMPLE_TEST(test_false, value.kind == JINJA_BOOL && !value.boolean)
SIMPLE_TEST(test_integer, value.kind == JINJA_INTEGER)
SIMPLE_TEST(test_float, value.kind == JINJA_FLOAT)
SIMPLE_TEST(test_number,
            value.kind == JINJA_INTEGER || value.kind == JINJA_FLOAT || value.kind == JINJA_BOOL)
SIMPLE_TEST(test_string, value.kind == JINJA_STRING)
SIMPLE_TEST(test_mapping, value.kind == JINJA_DICT)
SIMPLE_TEST(test_sequence, is_sequence(value))
SIMPLE_TEST(test_iterable, jinja_is_iterable(value))
SIMPLE_TEST(test_callable, jinja_is_callable(value))
SIMPLE_TEST(test_escaped, value.kind == JINJA_STRING && value.string->markup)

static bool has_case(struct jinja_render *render, struct jinja_value value, bool upper,
                     struct jinja_value *out)
{
    if (!jinja_to_string(render, value, &value) ||
        !jinja_step_bytes(render, value.string->length)) {
        return false;
    }
    *out = jinja_bool(jinja_text_is_cased(jinja_text(value), upper));
    return true;
}

TEST_FUNCTION(test_lower)
{
    (void)call;
    return has_case(render, values[0], false, out);
}

TEST_FUNCTION(test_upper)
{
    (void)call;
    return has_case(render, values[0], true, out);
}

/* value % divisor == rest */
static bool leaves_rest(struct jinja_render *render, struct jinja_value value,
                        struct jinja_value divisor, int64_t rest, struct jinja_value *out)
{
    struct jinja_value remainder;
    bool equal;
    if (!jinja_binary(render, OPERATOR_MODULO, value, divisor, &remainder) ||
        !jinja_equal(render, remainder, jinja_integer(rest), &equal)) {
        return false;
    }
    *out = jinja_bool(equal);
    return true;
}

TEST_FUNCTION(test_odd)
{
    (void)call;
    return leaves_rest(render, values[0], jinja_integer(2), 1, out);
}

TEST_FUNCTION(test_even)
{
    (void)call;
    return leaves_rest(render, values[0], jinja_integer(2), 0, out);
}

TEST_FUNCTION(test_divisibleby)
{
    (void)call;
    return leaves_rest(render, values[0], values[1], 0, out);
}

TEST_FUNCTION(test_sameas)
{
    (void)call;
    *out = jinja_bool(jinja_same(values[0], values[1]));
    return values[0].kind != JINJA_STRING || jinja_step_bytes(render, values[0].string->length);
}

static bool compared(struct jinja_render *render, enum jinja_operator op,
                     const struct jinja_value *values, struct jinja_value *out)
{
    bool result;
    if (!jinja_comparison(render, op, values[0], values[1], &result)) {
        return false;
    }
    *out = jinja_bool(result);
    return true;
}

#define COMPARISON_TEST(name, op)                 \
    TEST_FUNCTION(name)                           \
    {                                             \
        (void)call;                               \
        return compared(render, op, values, out); \
    }

COMPARISON_TEST(test_eq, OPERATOR_EQ)
COMPARISON_TEST(test_ne, OPERATOR_NE)
COMPARISON_TEST(test_lt, OPERATOR_LT)
COMPARISON_TEST(test_le, OPERATOR_LE)
COMPARISON_TEST(test_gt, OPERATOR_GT)
COMPARISON_TEST(test_ge, OPERATOR_GE)
COMPARISON_TEST(test_in, OPERATOR_IN)

TEST_FUNCTION(test_filter)
{
    uint64_t hash;
    (void)call;
    if (!jinja_hash(render, values[0], &hash)) {
        return false; /* looked up in a table, so it must be hashable */
    }
    *out = jinja_bool(values[0].kind == JINJA_STRING &&
                      jinja_find_filter(jinja_text(values[0])) != NULL);
    return true;
}

TEST_FUNCTION(test_test)
{
    uint64_t hash;
    (void)call;
    if (!jinja_hash(render, values[0], &hash)) {
        return false; /* looked up in a table, so it must be hashable */
    }
    *out = jinja_bool(values[0].kind == JINJA_STRING &&
                      jinja_find_test(jinja_text(values[0])) != NULL);
    return true;
}

const struct jinja_builtin *jinja_find_test(struct text_view name)
{
    static const struct jinja_builtin tests[] = {
        {"defined", "", 0, test_defined},    {"undefined", "", 0, test_undefined},
        {"none", "", 0, test_none},          {"string", "", 0, test_string},
        {"mapping", "", 0, test_mapping},    {"iterable", "", 0, test_iterable},
        {"sequence", "", 0, test_sequence},  {"boolean", "", 0, test_boolean},
        {"true", "", 0, test_true},          {"false", "", 0, test_false},
        {"integer", "", 0, test_integer},    {"float", "", 0, test_float},
        {"number", "", 0, test_number},      {"callable", "", 0, test_callable},
        {"escaped", "", 0, test_escaped},    {"lower", "", 0, test_lower},
        {"upper", "", 0, test_upper},        {"odd", "", 0, test_odd},
        {"even", "", 0, test_even},          {"divisibleby", "num", 1, test_divisibleby},
        {"sameas", "other", 1, test_sameas}, {"in", "seq", 1, test_in},
        {"filter", "", 0, test_filter},      {"test", "", 0, test_test},
        {"eq", "/other", 1, test_eq},        {"equalto", "/other", 1, test_eq},
        {"==", "/other", 1, test_eq},        {"ne", "/other", 1, test_ne},
        {"!=", "/other", 1, test_ne},        {"lt", "/other", 1, test_lt},
        {"lessthan", "/other", 1, test_lt},  {"<", "/other", 1, test_lt},
        {"le", "/other", 1, test_le},        {"<=", "/other", 1, test_le},
        {"gt", "/other", 1, test_gt},        {"greaterthan", "/other", 1, test_gt},
        {">", "/other", 1, test_gt},         {"ge", "/other", 1, test_ge},
        {">=", "/other", 1, test_ge},
    };
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++) {
        if (text_view_is(name, tests[i].name)) {
            return &tests[i];
        }
    }
    return NULL;
}
