/* Owns calls: binding arguments to the parameters of built-in functions, calling macros, and the
 * global functions of the language. Follows Python's rules for arguments and jinja2's for macros.
 */
#include "text/template_engine.h"

#include "base/limits.h"

/* --- binding --- */

/* The next name of "a,/b,c"; *positional_only for those with '/'. */
static struct text_view next_parameter(const char **list, bool *positional_only)
{
    const char *begin = *list;
    const char *end = strchr(begin, ',');
    size_t length = end ? (size_t)(end - begin) : strlen(begin);
    *list = end ? end + 1 : begin + length;
    *positional_only = length > 0 && *begin == '/';
    return text_view_make(begin + *positional_only, length - *positional_only);
}

static bool bind_keyword(struct jinja_render *render, const struct jinja_builtin *builtin,
                         const struct jinja_keyword *keyword, struct jinja_value *values)
{
    const char *list = builtin->parameters;
    for (size_t i = 1; *list; i++) {
        bool positional_only;
        struct text_view name = next_parameter(&list, &positional_only);
        if (positional_only || !text_view_equal(name, keyword->name)) {
            continue;
        }
        if (values[i].kind != JINJA_MISSING) {
            return jinja_fail(render, "%s() got multiple values for argument '%.*s'", builtin->name,
                              TEXT_ARGUMENTS(keyword->name));
        }
        values[i] = keyword->value;
        return true;
    }
    return jinja_fail(render, "%s() got an unexpected keyword argument '%.*s'", builtin->name,
                      TEXT_ARGUMENTS(keyword->name));
}

bool jinja_invoke(struct jinja_render *render, const struct jinja_builtin *builtin,
                  struct jinja_value subject, const struct jinja_call *call,
                  struct jinja_value *out)
{
    struct jinja_value values[1 + JINJA_PARAMETERS_MAX] = {subject};
    if (!builtin->parameters) {
        return builtin->function(render, values, call, out);
    }
    const char *list = builtin->parameters;
    size_t parameter_count = 0;
    while (*list) {
        bool ignored;
        next_parameter(&list, &ignored);
        parameter_count++;
    }
    if (call->count > parameter_count) {
        return jinja_fail(render, "%s() takes at most %zu arguments (%zu given)", builtin->name,
                          parameter_count, call->count);
    }
    for (size_t i = 0; i < call->count; i++) {
        values[1 + i] = call->positional[i];
    }
    for (size_t i = 0; i < call->keyword_count; i++) {
        if (!bind_keyword(render, builtin, &call->keywords[i], values)) {
            return false;
        }
    }
    for (size_t i = 1; i <= builtin->required; i++) {
        if (values[i].kind == JINJA_MISSING) {
            return jinja_fail(render, "%s() is missing argument %zu", builtin->name, i);
        }
    }
    return builtin->function(render, values, call, out);
}

/* --- macros --- */

static struct jinja_keyword *find_keyword(const struct jinja_call *call, struct text_view name)
{
    for (size_t i = 0; i < call->keyword_count; i++) {
        if (text_view_equal(call->keywords[i].name, name)) {
            return &call->keywords[i];
        }
    }
    return NULL;
}

/* Takes a keyword out of the call: JINJA_MISSING when it is not there. */
static struct jinja_value take_keyword(struct jinja_call *call, struct text_view name)
{
    struct jinja_value value = {0};
    struct jinja_keyword *keyword = find_keyword(call, name);
    if (keyword) {
        value = keyword->value;
        call->keyword_count--;
        memmove(keyword, keyword + 1,
                (size_t)(call->keywords + call->keyword_count - keyword) * sizeof *keyword);
    }
    return value;
}

/* kwargs: what no parameter took. */
static bool bind_rest(struct jinja_render *render, const struct jinja_function_node *function,
                      const struct jinja_call *call, struct jinja_value *slots)
{
    if (function->takes_kwargs) {
        struct jinja_dict *dict = jinja_dict_make(render, call->keyword_count);
        if (!dict) {
            return false;
        }
        for (size_t i = 0; i < call->keyword_count; i++) {
            struct jinja_value name;
            if (!jinja_string_borrow(render, call->keywords[i].name, &name) ||
                !jinja_dict_set(render, dict, name, call->keywords[i].value)) {
                return false;
            }
        }
        slots[function->kwargs_slot] = (struct jinja_value){.kind = JINJA_DICT, .dict = dict};
    } else if (call->keyword_count) {
        return jinja_fail(render, "the macro takes no keyword argument '%.*s'",
                          TEXT_ARGUMENTS(call->keywords[0].name));
    }
    size_t taken =
        call->count < function->parameter_count ? call->count : function->parameter_count;
    if (function->takes_varargs) {
        return jinja_list_make(render, JINJA_TUPLE, call->positional + taken, call->count - taken,
                               &slots[function->varargs_slot]);
    }
    return call->count <= function->parameter_count ||
           jinja_fail(render, "the macro takes not more than %u argument(s)",
                      function->parameter_count);
}

static bool bind_caller(struct jinja_render *render, const struct jinja_function_node *function,
                        struct jinja_call *call, struct jinja_value *slots)
{
    if (!function->takes_caller || function->explicit_caller) {
        return true;
    }
    struct jinja_value caller = take_keyword(call, text_view_of("caller"));
    if (caller.kind == JINJA_MISSING || caller.kind == JINJA_NONE) {
        return jinja_undefined_hint(render, "No caller defined", &slots[function->caller_slot]);
    }
    slots[function->caller_slot] = caller;
    return true;
}

/* Defaults are evaluated in the macro's own scope, in order, so that they may use earlier
 * parameters. */
static bool fill_defaults(struct jinja_render *render, struct jinja_activation *activation,
                          const struct jinja_function_node *function)
{
    for (uint32_t i = 0; i < function->parameter_count; i++) {
        const struct jinja_parameter *parameter = &function->parameters[i];
        struct jinja_value *slot = &activation->slots[parameter->slot];
        if (slot->kind != JINJA_MISSING) {
            continue;
        }
        if (!parameter->fallback) {
            *slot = parameter->undefined;
        } else if (!jinja_evaluate(render, activation, parameter->fallback, slot)) {
            return false;
        }
    }
    return true;
}

static bool call_macro(struct jinja_render *render, const struct jinja_macro *macro,
                       const struct jinja_call *given, struct jinja_value *out)
{
    const struct jinja_function_node *function = macro->node;
    struct jinja_call call = *given;
    struct jinja_activation *activation = jinja_activate(render, macro->outer, &function->body);
    if (!activation) {
        return false;
    }
    for (uint32_t i = 0; i < function->parameter_count; i++) {
        struct jinja_value *slot = &activation->slots[function->parameters[i].slot];
        struct text_view name = jinja_text(function->parameters[i].name->string);
        *slot = i < call.count ? call.positional[i] : take_keyword(&call, name);
    }
    if (!bind_caller(render, function, &call, activation->slots) ||
        !bind_rest(render, function, &call, activation->slots)) {
        return false;
    }
    enum jinja_flow flow = JINJA_NEXT;
    size_t mark = jinja_capture(render);
    return jinja_enter_scope(render, activation, function->scope) &&
           fill_defaults(render, activation, function) &&
           jinja_execute(render, activation, function->body_nodes, &flow) &&
           jinja_capture_end(render, mark, out);
}

/* --- calling values --- */

static bool call_joiner(struct jinja_render *render, struct jinja_joiner *joiner,
                        const struct jinja_call *call, struct jinja_value *out)
{
    if (call->count || call->keyword_count) {
        return jinja_fail(render, "a joiner takes no arguments");
    }
    if (!joiner->used) {
        joiner->used = true;
        return jinja_string_borrow(render, text_view_make("", 0), out);
    }
    *out = joiner->separator;
    return true;
}

bool jinja_is_callable(struct jinja_value value)
{
    switch ((enum jinja_kind)value.kind) {
    case JINJA_UNDEFINED:
    case JINJA_MACRO:
    case JINJA_FUNCTION:
    case JINJA_METHOD:
    case JINJA_LOOP:
    case JINJA_JOINER:
        return true;
    default:
        return false;
    }
}

bool jinja_call_value(struct jinja_render *render, struct jinja_value callee,
                      const struct jinja_call *call, struct jinja_value *out)
{
    struct jinja_value nothing = {0};
    switch ((enum jinja_kind)callee.kind) {
    case JINJA_MACRO:
        return call_macro(render, callee.macro, call, out);
    case JINJA_FUNCTION:
        return jinja_invoke(render, callee.builtin, nothing, call, out);
    case JINJA_METHOD:
        return jinja_invoke(render, callee.method->builtin, callee.method->receiver, call, out);
    case JINJA_JOINER:
        return call_joiner(render, callee.joiner, call, out);
    case JINJA_UNDEFINED:
        return jinja_fail_undefined(render, callee);
    case JINJA_LOOP:
        return jinja_fail(render, "the loop must have the 'recursive' marker to be called");
    default:
        return jinja_fail(render, "'%s' object is not callable", jinja_type_name(callee));
    }
}

/* --- global functions --- */

static bool range_function(struct jinja_render *render, struct jinja_value *values,
                           const struct jinja_call *call, struct jinja_value *out)
{
    int64_t numbers[3] = {0, 0, 1};
    for (size_t i = 0; i < call->count; i++) {
        if (!jinja_as_integer(values[1 + i], &numbers[i])) {
            return jinja_fail(render, "'%s' object cannot be interpreted as an integer",
                              jinja_type_name(values[1 + i]));
        }
    }
    int64_t start = call->count > 1 ? numbers[0] : 0;
    int64_t stop = call->count > 1 ? numbers[1] : numbers[0];
    int64_t step = numbers[2];
    if (step == 0) {
        return jinja_fail(render, "range() arg 3 must not be zero");
    }
    uint64_t distance = 0;
    if (step > 0 ? start < stop : start > stop) {
        distance = step > 0 ? (uint64_t)stop - (uint64_t)start : (uint64_t)start - (uint64_t)stop;
    }
    uint64_t width = step > 0 ? (uint64_t)step : 0 - (uint64_t)step;
    uint64_t count = distance ? (distance - 1) / width + 1 : 0;
    if (count > LIMIT_TEMPLATE_RANGE) {
        return jinja_fail_limit(render, "a range has more than 100000 items");
    }
    struct jinja_range *range = jinja_alloc(render, 1, sizeof *range);
    if (!range) {
        return false;
    }
    *range = (struct jinja_range){start, step, (int64_t)count, stop};
    *out = (struct jinja_value){.kind = JINJA_RANGE, .range = range};
    return true;
}

/* Items of dict([(k, v), …]). */
static bool add_pairs(struct jinja_render *render, struct jinja_dict *dict,
                      struct jinja_value pairs)
{
    struct jinja_iterator iterator;
    struct jinja_value pair;
    if (!jinja_iterate(render, pairs, &iterator)) {
        return false;
    }
    enum jinja_advance advance;
    while ((advance = jinja_next(render, &iterator, &pair)) == JINJA_ITEM) {
        struct jinja_items items;
        if (!jinja_to_list(render, pair, &items)) {
            return false;
        }
        if (items.count != 2) {
            return jinja_fail(render,
                              "dictionary update sequence element has length %zu; 2 is "
                              "required",
                              items.count);
        }
        if (!jinja_dict_set(render, dict, items.items[0], items.items[1])) {
            return false;
        }
    }
    return advance == JINJA_END;
}

bool jinja_build_dict(struct jinja_render *render, const struct jinja_call *call,
                      struct jinja_dict **out)
{
    struct jinja_dict *dict = jinja_dict_make(render, call->keyword_count);
    if (!dict) {
        return false;
    }
    *out = dict;
    if (call->count > 1) {
        return jinja_fail(render, "dict expected at most 1 argument, got %zu", call->count);
    }
    if (call->count == 1 && call->positional[0].kind == JINJA_DICT) {
        const struct jinja_dict *source = call->positional[0].dict;
        for (uint32_t i = 0; i < source->count; i++) {
            if (!jinja_step(render, 1) ||
                !jinja_dict_set(render, dict, source->entries[i].key, source->entries[i].value)) {
                return false;
            }
        }
    } else if (call->count == 1 && !add_pairs(render, dict, call->positional[0])) {
        return false;
    }
    for (size_t i = 0; i < call->keyword_count; i++) {
        struct jinja_value name;
        if (!jinja_string_borrow(render, call->keywords[i].name, &name) ||
            !jinja_dict_set(render, dict, name, call->keywords[i].value)) {
            return false;
        }
    }
    return true;
}

static bool dict_function(struct jinja_render *render, struct jinja_value *values,
                          const struct jinja_call *call, struct jinja_value *out)
{
    struct jinja_dict *dict;
    (void)values;
    if (!jinja_build_dict(render, call, &dict)) {
        return false;
    }
    *out = (struct jinja_value){.kind = JINJA_DICT, .dict = dict};
    return true;
}

static bool namespace_function(struct jinja_render *render, struct jinja_value *values,
                               const struct jinja_call *call, struct jinja_value *out)
{
    struct jinja_dict *dict;
    (void)values;
    if (!jinja_build_dict(render, call, &dict)) {
        return false;
    }
    *out = (struct jinja_value){.kind = JINJA_NAMESPACE, .dict = dict};
    return true;
}

static bool cycler_function(struct jinja_render *render, struct jinja_value *values,
                            const struct jinja_call *call, struct jinja_value *out)
{
    struct jinja_value items;
    (void)values;
    if (call->count == 0 || call->keyword_count) {
        return jinja_fail(render, "at least one item has to be provided");
    }
    struct jinja_cycler *cycler = jinja_alloc(render, 1, sizeof *cycler);
    if (!cycler || !jinja_list_make(render, JINJA_TUPLE, call->positional, call->count, &items)) {
        return false;
    }
    cycler->items = items.list;
    *out = (struct jinja_value){.kind = JINJA_CYCLER, .cycler = cycler};
    return true;
}

static bool joiner_function(struct jinja_render *render, struct jinja_value *values,
                            const struct jinja_call *call, struct jinja_value *out)
{
    (void)call;
    struct jinja_joiner *joiner = jinja_alloc(render, 1, sizeof *joiner);
    if (!joiner) {
        return false;
    }
    joiner->separator = values[1];
    *out = (struct jinja_value){.kind = JINJA_JOINER, .joiner = joiner};
    return values[1].kind != JINJA_MISSING ||
           jinja_string_borrow(render, text_view_of(", "), &joiner->separator);
}

static bool raise_exception(struct jinja_render *render, struct jinja_value *values,
                            const struct jinja_call *call, struct jinja_value *out)
{
    struct jinja_value message;
    (void)call;
    (void)out;
    return jinja_to_string(render, values[1], &message) &&
           jinja_refuse(render, jinja_text(message));
}

static bool strftime_now(struct jinja_render *render, struct jinja_value *values,
                         const struct jinja_call *call, struct jinja_value *out)
{
    (void)call;
    if (values[1].kind != JINJA_STRING) {
        return jinja_fail(render, "strftime_now() argument must be str, not %s",
                          jinja_type_name(values[1]));
    }
    size_t mark = jinja_capture(render);
    return jinja_print_time(render, render->now_unix, jinja_text(values[1])) &&
           jinja_capture_end(render, mark, out);
}

const struct jinja_builtin *jinja_find_global(struct text_view name)
{
    static const struct jinja_builtin globals[] = {
        {"range", "/start,/stop,/step", 1, range_function},
        {"dict", NULL, 0, dict_function},
        {"namespace", NULL, 0, namespace_function},
        {"cycler", NULL, 0, cycler_function},
        {"joiner", "sep", 0, joiner_function},
        {"raise_exception", "message", 1, raise_exception},
        {"strftime_now", "format", 1, strftime_now},
    };
    for (size_t i = 0; i < sizeof globals / sizeof *globals; i++) {
        if (text_view_is(name, globals[i].name)) {
            return &globals[i];
        }
    }
    return NULL;
}
