/* Owns attributes and elements, and the methods of everything but strings. The set is closed: a
 * name that is not listed here does not exist, a name that would change a value is hidden as the
 * immutable sandbox hides it, and names with underscores on both sides are hidden always. */
#include "text/template_engine.h"

#include <math.h>

/* --- dict methods --- */

static bool make_view(struct jinja_value dict, enum jinja_view view, struct jinja_value *out)
{
    *out = (struct jinja_value){.kind = JINJA_VIEW, .view = (uint8_t)view, .dict = dict.dict};
    return true;
}

static bool dict_items(struct jinja_render *render, struct jinja_value *values,
                       const struct jinja_call *call, struct jinja_value *out)
{
    (void)render;
    (void)call;
    return make_view(values[0], JINJA_ITEMS, out);
}

static bool dict_keys(struct jinja_render *render, struct jinja_value *values,
                      const struct jinja_call *call, struct jinja_value *out)
{
    (void)render;
    (void)call;
    return make_view(values[0], JINJA_KEYS, out);
}

static bool dict_values(struct jinja_render *render, struct jinja_value *values,
                        const struct jinja_call *call, struct jinja_value *out)
{
    (void)render;
    (void)call;
    return make_view(values[0], JINJA_VALUES, out);
}

static bool dict_get(struct jinja_render *render, struct jinja_value *values,
                     const struct jinja_call *call, struct jinja_value *out)
{
    struct jinja_entry *found;
    (void)call;
    if (!jinja_dict_find(render, values[0].dict, values[1], &found)) {
        return false;
    }
    *out = found ? found->value : values[2].kind == JINJA_MISSING ? jinja_none() : values[2];
    return true;
}

/* Values never change, so a copy is the value itself. */
static bool copy_itself(struct jinja_render *render, struct jinja_value *values,
                        const struct jinja_call *call, struct jinja_value *out)
{
    (void)render;
    (void)call;
    *out = values[0];
    return true;
}

/* --- list, tuple and range methods --- */

static bool list_count(struct jinja_render *render, struct jinja_value *values,
                       const struct jinja_call *call, struct jinja_value *out)
{
    struct jinja_iterator iterator;
    struct jinja_value item;
    int64_t count = 0;
    (void)call;
    if (!jinja_iterate(render, values[0], &iterator)) {
        return false;
    }
    enum jinja_advance advance;
    while ((advance = jinja_next(render, &iterator, &item)) == JINJA_ITEM) {
        bool equal;
        if (!jinja_equal(render, item, values[1], &equal)) {
            return false;
        }
        count += equal;
    }
    *out = jinja_integer(count);
    return advance == JINJA_END;
}

/* A bound of index(): negative counts from the end. */
static bool index_bound(struct jinja_render *render, struct jinja_value value, int64_t length,
                        int64_t fallback, int64_t *out)
{
    *out = fallback;
    if (value.kind == JINJA_MISSING) {
        return true;
    }
    if (!jinja_as_integer(value, out)) {
        return jinja_fail(render, "slice indices must be integers, not %s", jinja_type_name(value));
    }
    if (*out < 0) {
        *out = *out + length < 0 ? 0 : *out + length;
    }
    return true;
}

static bool list_index(struct jinja_render *render, struct jinja_value *values,
                       const struct jinja_call *call, struct jinja_value *out)
{
    struct jinja_iterator iterator;
    struct jinja_value item;
    bool sized;
    int64_t length = (int64_t)jinja_length(values[0], &sized);
    int64_t start;
    int64_t stop;
    (void)call;
    if (!index_bound(render, values[2], length, 0, &start) ||
        !index_bound(render, values[3], length, length, &stop) ||
        !jinja_iterate(render, values[0], &iterator)) {
        return false;
    }
    enum jinja_advance advance = JINJA_END;
    for (int64_t i = 0; i < stop; i++) {
        bool equal = false;
        advance = jinja_next(render, &iterator, &item);
        if (advance != JINJA_ITEM) {
            break;
        }
        if (i >= start && !jinja_equal(render, item, values[1], &equal)) {
            return false;
        }
        if (equal) {
            *out = jinja_integer(i);
            return true;
        }
    }
    return advance != JINJA_ERROR && jinja_fail(render, "the value is not in the list");
}

/* --- loop, cycler --- */

static bool loop_cycle(struct jinja_render *render, struct jinja_value *values,
                       const struct jinja_call *call, struct jinja_value *out)
{
    if (call->count == 0 || call->keyword_count) {
        return jinja_fail(render, "no items for cycling given");
    }
    *out = call->positional[values[0].loop->index0 % call->count];
    return true;
}

static bool loop_changed(struct jinja_render *render, struct jinja_value *values,
                         const struct jinja_call *call, struct jinja_value *out)
{
    struct jinja_value now;
    bool equal = false;
    struct jinja_value *before = &values[0].loop->changed;
    if (!jinja_list_make(render, JINJA_TUPLE, call->positional, call->count, &now) ||
        (before->kind != JINJA_MISSING && !jinja_equal(render, *before, now, &equal))) {
        return false;
    }
    *before = now;
    *out = jinja_bool(!equal);
    return true;
}

static bool cycler_next(struct jinja_render *render, struct jinja_value *values,
                        const struct jinja_call *call, struct jinja_value *out)
{
    struct jinja_cycler *cycler = values[0].cycler;
    (void)render;
    (void)call;
    *out = cycler->items->items[cycler->position];
    cycler->position = (cycler->position + 1) % cycler->items->count;
    return true;
}

static bool cycler_reset(struct jinja_render *render, struct jinja_value *values,
                         const struct jinja_call *call, struct jinja_value *out)
{
    (void)render;
    (void)call;
    values[0].cycler->position = 0;
    *out = jinja_none();
    return true;
}

static bool is_integer(struct jinja_render *render, struct jinja_value *values,
                       const struct jinja_call *call, struct jinja_value *out)
{
    (void)render;
    (void)call;
    *out = jinja_bool(isfinite(values[0].number) && values[0].number == floor(values[0].number));
    return true;
}

static const struct jinja_builtin dict_methods[] = {
    {"copy", "", 0, copy_itself},   {"get", "/key,/default", 1, dict_get},
    {"items", "", 0, dict_items},   {"keys", "", 0, dict_keys},
    {"values", "", 0, dict_values}, {NULL, NULL, 0, NULL},
};
static const struct jinja_builtin list_methods[] = {
    {"copy", "", 0, copy_itself},
    {"count", "/value", 1, list_count},
    {"index", "/value,/start,/stop", 1, list_index},
    {NULL, NULL, 0, NULL},
};
static const struct jinja_builtin tuple_methods[] = {
    {"count", "/value", 1, list_count},
    {"index", "/value,/start,/stop", 1, list_index},
    {NULL, NULL, 0, NULL},
};
static const struct jinja_builtin range_methods[] = {
    {"count", "/value", 1, list_count},
    {"index", "/value", 1, list_index},
    {NULL, NULL, 0, NULL},
};
static const struct jinja_builtin loop_methods[] = {
    {"cycle", NULL, 0, loop_cycle},
    {"changed", NULL, 0, loop_changed},
    {NULL, NULL, 0, NULL},
};
static const struct jinja_builtin cycler_methods[] = {
    {"next", "", 0, cycler_next},
    {"reset", "", 0, cycler_reset},
    {NULL, NULL, 0, NULL},
};
static const struct jinja_builtin float_methods[] = {
    {"is_integer", "", 0, is_integer},
    {NULL, NULL, 0, NULL},
};

/* Methods that would change a value; the sandbox hides them. */
static const char *const dict_hidden[] = {"clear", "pop", "popitem", "setdefault", "update", NULL};
static const char *const list_hidden[] = {"append", "clear",   "extend", "insert", "pop",
                                          "remove", "reverse", "sort",   NULL};
static const char *const other_names[] = {
    "index0",   "revindex", "revindex0", "first",   "last",      "length", "previtem",
    "nextitem", "depth",    "depth0",    "current", "name",      "list",   "grouper",
    "start",    "stop",     "step",      "caller",  "arguments", "index",  NULL};

static bool is_listed(const char *const *list, struct text_view name)
{
    for (; *list; list++) {
        if (text_view_is(name, *list)) {
            return true;
        }
    }
    return false;
}

static const struct jinja_builtin *find_method(const struct jinja_builtin *methods,
                                               struct text_view name)
{
    for (; methods->name; methods++) {
        if (text_view_is(name, methods->name)) {
            return methods;
        }
    }
    return NULL;
}

static bool is_dunder(struct text_view name)
{
    return name.length >= 2 && name.data[0] == '_' && name.data[1] == '_';
}

bool jinja_is_builtin_attribute(struct text_view name)
{
    return is_dunder(name) || is_listed(dict_hidden, name) || is_listed(list_hidden, name) ||
           is_listed(other_names, name) || find_method(dict_methods, name) ||
           find_method(list_methods, name) || find_method(loop_methods, name) ||
           find_method(cycler_methods, name) || find_method(float_methods, name) ||
           jinja_find_string_method(name);
}

/* --- properties --- */

static bool loop_neighbour(struct jinja_render *render, struct jinja_loop *loop, bool next,
                           struct jinja_value *out)
{
    if (!next) {
        *out = loop->before;
        return loop->index0 > 0 || jinja_undefined_hint(render, "there is no previous item", out);
    }
    enum jinja_advance advance = jinja_loop_peek(render, loop);
    if (advance == JINJA_ITEM) {
        *out = loop->after;
        return true;
    }
    return advance == JINJA_END && jinja_undefined_hint(render, "there is no next item", out);
}

static bool loop_property(struct jinja_render *render, struct jinja_loop *loop,
                          struct text_view name, struct jinja_value *out, bool *found)
{
    size_t length;
    if (text_view_is(name, "index") || text_view_is(name, "index0")) {
        *out = jinja_integer((int64_t)loop->index0 + (name.length == 5));
    } else if (text_view_is(name, "first")) {
        *out = jinja_bool(loop->index0 == 0);
    } else if (text_view_is(name, "last")) {
        enum jinja_advance advance = jinja_loop_peek(render, loop);
        *out = jinja_bool(advance == JINJA_END);
        return advance != JINJA_ERROR;
    } else if (text_view_is(name, "length")) {
        if (!jinja_loop_length(render, loop, &length)) {
            return false;
        }
        *out = jinja_integer((int64_t)length);
    } else if (text_view_is(name, "revindex") || text_view_is(name, "revindex0")) {
        if (!jinja_loop_length(render, loop, &length)) {
            return false;
        }
        *out = jinja_integer((int64_t)length - (int64_t)loop->index0 - (name.length == 9));
    } else if (text_view_is(name, "previtem") || text_view_is(name, "nextitem")) {
        return loop_neighbour(render, loop, name.data[0] == 'n', out);
    } else if (text_view_is(name, "depth") || text_view_is(name, "depth0")) {
        *out = jinja_integer(name.length == 5);
    } else {
        *found = false;
    }
    return true;
}

static bool macro_property(struct jinja_render *render, const struct jinja_macro *macro,
                           struct text_view name, struct jinja_value *out, bool *found)
{
    const struct jinja_function_node *node = macro->node;
    if (text_view_is(name, "name")) {
        *out = node->name ? node->name->string : jinja_none();
        return true;
    }
    if (text_view_is(name, "arguments")) {
        struct jinja_value *items = jinja_alloc(render, node->parameter_count, sizeof *items);
        for (uint32_t i = 0; items && i < node->parameter_count; i++) {
            items[i] = node->parameters[i].name->string;
        }
        return items && jinja_list_make(render, JINJA_TUPLE, items, node->parameter_count, out);
    }
    *found = text_view_is(name, "caller");
    *out = jinja_bool(node->takes_caller);
    return true;
}

static bool range_property(const struct jinja_range *range, struct text_view name,
                           struct jinja_value *out)
{
    if (text_view_is(name, "start")) {
        *out = jinja_integer(range->start);
    } else if (text_view_is(name, "stop")) {
        *out = jinja_integer(range->stop);
    } else if (text_view_is(name, "step")) {
        *out = jinja_integer(range->step);
    } else {
        return false;
    }
    return true;
}

static bool find_property(struct jinja_render *render, struct jinja_value object,
                          struct text_view name, struct jinja_value *out, bool *found)
{
    *found = true;
    switch ((enum jinja_kind)object.kind) {
    case JINJA_NAMESPACE: {
        struct jinja_entry *entry = jinja_dict_find_text(render, object.dict, name);
        *found = entry != NULL;
        *out = entry ? entry->value : jinja_none();
        return true;
    }
    case JINJA_LOOP:
        return loop_property(render, object.loop, name, out, found);
    case JINJA_MACRO:
        return macro_property(render, object.macro, name, out, found);
    case JINJA_RANGE:
        *found = range_property(object.range, name, out);
        return true;
    case JINJA_CYCLER:
        *found = text_view_is(name, "current");
        *out = object.cycler->items->items[object.cycler->position];
        return true;
    case JINJA_TUPLE:
        *found =
            object.list->group && (text_view_is(name, "grouper") || text_view_is(name, "list"));
        if (*found) {
            *out = object.list->items[name.data[0] == 'l'];
        }
        return true;
    default:
        *found = false;
        return true;
    }
}

static const struct jinja_builtin *method_of(struct jinja_value object, struct text_view name,
                                             const char *const **hidden)
{
    *hidden = NULL;
    switch ((enum jinja_kind)object.kind) {
    case JINJA_STRING:
        return jinja_find_string_method(name);
    case JINJA_DICT:
        *hidden = dict_hidden;
        return find_method(dict_methods, name);
    case JINJA_LIST:
        *hidden = list_hidden;
        return find_method(list_methods, name);
    case JINJA_TUPLE:
        return find_method(tuple_methods, name);
    case JINJA_RANGE:
        return find_method(range_methods, name);
    case JINJA_LOOP:
        return find_method(loop_methods, name);
    case JINJA_CYCLER:
        return find_method(cycler_methods, name);
    case JINJA_FLOAT:
        return find_method(float_methods, name);
    default:
        return NULL;
    }
}

bool jinja_find_attribute(struct jinja_render *render, struct jinja_value object,
                          struct text_view name, struct jinja_value *out, bool *found)
{
    const char *const *hidden;
    *found = true;
    if (is_dunder(name)) {
        return jinja_undefined_unsafe(render, object, name, out);
    }
    const struct jinja_builtin *builtin = method_of(object, name, &hidden);
    if (hidden && is_listed(hidden, name)) {
        return jinja_undefined_unsafe(render, object, name, out);
    }
    if (!builtin) {
        return find_property(render, object, name, out, found);
    }
    struct jinja_method *method = jinja_alloc(render, 1, sizeof *method);
    if (!method) {
        return false;
    }
    method->receiver = object;
    method->builtin = builtin;
    *out = (struct jinja_value){.kind = JINJA_METHOD, .method = method};
    return true;
}

/* --- elements --- */

/* Deeper than anybody nests keys, jinja_hash has the last word. */
static bool is_hashable(struct jinja_value key, int depth)
{
    if (key.kind == JINJA_TUPLE && depth < 16) {
        for (size_t i = 0; i < key.list->count; i++) {
            if (!is_hashable(key.list->items[i], depth + 1)) {
                return false;
            }
        }
    }
    return key.kind != JINJA_LIST && key.kind != JINJA_DICT && key.kind != JINJA_VIEW;
}

/* object[key] alone; *found false when there is no such element, for whatever reason. */
static bool find_item(struct jinja_render *render, struct jinja_value object,
                      struct jinja_value key, struct jinja_value *out, bool *found)
{
    bool sized;
    int64_t index;
    struct jinja_entry *entry;
    *found = false;
    if (object.kind == JINJA_DICT) {
        if (!is_hashable(key, 0)) {
            return true; /* no such element, then */
        }
        if (!jinja_dict_find(render, object.dict, key, &entry)) {
            return false;
        }
        *found = entry != NULL;
        *out = entry ? entry->value : *out;
        return true;
    }
    bool sequence = object.kind == JINJA_LIST || object.kind == JINJA_TUPLE ||
                    object.kind == JINJA_STRING || object.kind == JINJA_RANGE;
    if (!sequence || !jinja_as_integer(key, &index)) {
        return true;
    }
    int64_t length = (int64_t)jinja_length(object, &sized);
    index += index < 0 ? length : 0;
    if (index < 0 || index >= length) {
        return true;
    }
    *found = true;
    if (object.kind == JINJA_STRING) {
        return jinja_substring(render, object.string, (size_t)index, 1, out);
    }
    *out = object.kind == JINJA_RANGE
               ? jinja_integer(object.range->start + index * object.range->step)
               : object.list->items[index];
    return true;
}

bool jinja_get_attribute(struct jinja_render *render, struct jinja_value object,
                         const struct jinja_name *name, struct jinja_value *out)
{
    bool found = false;
    struct text_view text = jinja_text(name->string);
    if (object.kind == JINJA_UNDEFINED && !text_view_is(text, "__class__")) {
        return jinja_fail_undefined(render, object);
    }
    if ((name->builtin_attribute || object.kind == JINJA_NAMESPACE) &&
        !jinja_find_attribute(render, object, text, out, &found)) {
        return false;
    }
    if (!found && object.kind == JINJA_DICT) {
        struct jinja_entry *entry = jinja_dict_find_text(render, object.dict, text);
        found = entry != NULL;
        if (found) {
            *out = entry->value;
        }
    }
    return found || jinja_undefined_member(render, object, name->string, out);
}

bool jinja_get_item(struct jinja_render *render, struct jinja_value object, struct jinja_value key,
                    struct jinja_value *out)
{
    bool found;
    if (object.kind == JINJA_UNDEFINED) {
        return jinja_fail_undefined(render, object);
    }
    if (!find_item(render, object, key, out, &found)) {
        return false;
    }
    if (!found && key.kind == JINJA_STRING &&
        !jinja_find_attribute(render, object, jinja_text(key), out, &found)) {
        return false;
    }
    return found || jinja_undefined_member(render, object, key, out);
}

/* A part of digits is an index, as in jinja2's attribute paths. */
static bool path_key(struct jinja_render *render, struct text_view part, struct jinja_value *key)
{
    int64_t index = 0;
    for (size_t i = 0; i < part.length; i++) {
        if (part.data[i] < '0' || part.data[i] > '9' || index > INT64_MAX / 10 - 9) {
            return jinja_string_borrow(render, part, key);
        }
        index = index * 10 + (part.data[i] - '0');
    }
    *key = jinja_integer(index);
    return part.length > 0 || jinja_string_borrow(render, part, key);
}

bool jinja_get_path(struct jinja_render *render, struct jinja_value object, struct jinja_value path,
                    struct jinja_value fallback, struct jinja_value *out)
{
    *out = object;
    if (path.kind == JINJA_MISSING || path.kind == JINJA_NONE) {
        return true;
    }
    if (path.kind != JINJA_STRING) {
        if (!jinja_get_item(render, object, path, out)) {
            return false;
        }
        if (out->kind == JINJA_UNDEFINED && fallback.kind != JINJA_MISSING) {
            *out = fallback;
        }
        return true;
    }
    struct text_view text = jinja_text(path);
    size_t begin = 0;
    while (begin <= text.length) {
        const char *dot = memchr(text.data + begin, '.', text.length - begin);
        size_t end = dot ? (size_t)(dot - text.data) : text.length;
        struct jinja_value key;
        if (!path_key(render, text_view_make(text.data + begin, end - begin), &key) ||
            !jinja_get_item(render, *out, key, out)) {
            return false;
        }
        if (out->kind == JINJA_UNDEFINED && fallback.kind != JINJA_MISSING) {
            *out = fallback;
        }
        begin = end + 1;
    }
    return true;
}
