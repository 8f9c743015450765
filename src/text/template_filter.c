/* Owns the table of filters, and those that work on sequences. What jinja2 gives as generators is
 * lazy here too: it can be walked once, has no length, and an item that is never asked for is never
 * computed. Filters that are not in the table are refused when a template is loaded. */
#include "text/template_filter.h"

#include "base/limits.h"

#define FILTER(name)                                                          \
    static bool name(struct jinja_render *render, struct jinja_value *values, \
                     const struct jinja_call *call, struct jinja_value *out)

/* --- generators --- */

static bool make_generator(struct jinja_render *render, enum jinja_generator_kind kind,
                           struct jinja_value source, struct jinja_generator **generator,
                           struct jinja_value *out)
{
    *generator = jinja_alloc(render, 1, sizeof **generator);
    if (!*generator) {
        return false;
    }
    (*generator)->kind = kind;
    (*generator)->source = source;
    *out = (struct jinja_value){.kind = JINJA_GENERATOR, .generator = *generator};
    return true;
}

/* A generator that computes its whole list when the first item is asked for. */
static bool make_list_generator(struct jinja_render *render, const struct jinja_builtin *builtin,
                                struct jinja_value source, const struct jinja_call *call,
                                struct jinja_value *out)
{
    struct jinja_generator *generator;
    if (!make_generator(render, GENERATOR_LIST, source, &generator, out)) {
        return false;
    }
    generator->builtin = builtin;
    generator->call = *call;
    return true;
}

/* jinja2 looks at the truth of the source first: nothing comes from what is empty or undefined. */
static bool make_empty(struct jinja_render *render, struct jinja_generator *generator)
{
    generator->kind = GENERATOR_REVERSED;
    generator->builtin = NULL;
    return jinja_list_make(render, JINJA_LIST, NULL, 0, &generator->source);
}

static const struct jinja_keyword *find_keyword(const struct jinja_call *call, const char *name)
{
    for (size_t i = 0; i < call->keyword_count; i++) {
        if (text_view_is(call->keywords[i].name, name)) {
            return &call->keywords[i];
        }
    }
    return NULL;
}

static bool map_attribute(struct jinja_render *render, const struct jinja_call *call,
                          struct jinja_value path, struct jinja_generator *generator)
{
    const struct jinja_keyword *fallback = find_keyword(call, "default");
    generator->path = path;
    if (fallback && fallback->value.kind != JINJA_NONE) {
        generator->fallback = fallback->value;
    }
    return call->keyword_count == 1u + (fallback != NULL) ||
           jinja_fail(render, "map() got an unexpected keyword argument");
}

/* The rest of the arguments, behind `skip` positional ones. */
static struct jinja_call rest_of(const struct jinja_call *call, size_t skip)
{
    struct jinja_call rest = *call;
    rest.positional += skip;
    rest.count -= skip;
    return rest;
}

FILTER(filter_map)
{
    struct jinja_generator *generator;
    if (!make_generator(render, GENERATOR_MAP, values[0], &generator, out)) {
        return false;
    }
    if (!jinja_truth(values[0])) {
        return make_empty(render, generator);
    }
    const struct jinja_keyword *attribute = find_keyword(call, "attribute");
    if (call->count == 0 && attribute) {
        return map_attribute(render, call, attribute->value, generator);
    }
    if (call->count == 0) {
        return jinja_fail(render, "map requires a filter argument");
    }
    struct jinja_value name = call->positional[0];
    generator->builtin = name.kind == JINJA_STRING ? jinja_find_filter(jinja_text(name)) : NULL;
    generator->call = rest_of(call, 1);
    return generator->builtin || jinja_fail(render, "map: no such filter");
}

static bool make_selection(struct jinja_render *render, struct jinja_value source,
                           const struct jinja_call *call, bool by_attribute, bool negated,
                           struct jinja_value *out)
{
    struct jinja_generator *generator;
    if (!make_generator(render, GENERATOR_SELECT, source, &generator, out)) {
        return false;
    }
    if (!jinja_truth(source)) {
        return make_empty(render, generator);
    }
    size_t used = 0;
    if (by_attribute) {
        if (call->count == 0) {
            return jinja_fail(render, "Missing parameter for attribute name");
        }
        generator->path = call->positional[used++];
    }
    generator->negated = negated;
    if (call->count == used) {
        return true;
    }
    struct jinja_value name = call->positional[used++];
    generator->builtin = name.kind == JINJA_STRING ? jinja_find_test(jinja_text(name)) : NULL;
    generator->call = rest_of(call, used);
    return generator->builtin || jinja_fail(render, "there is no such test");
}

FILTER(filter_select)
{
    return make_selection(render, values[0], call, false, false, out);
}

FILTER(filter_reject)
{
    return make_selection(render, values[0], call, false, true, out);
}

FILTER(filter_selectattr)
{
    return make_selection(render, values[0], call, true, false, out);
}

FILTER(filter_rejectattr)
{
    return make_selection(render, values[0], call, true, true, out);
}

FILTER(list_items)
{
    (void)call;
    if (values[0].kind == JINJA_UNDEFINED) {
        return jinja_list_make(render, JINJA_LIST, NULL, 0, out);
    }
    if (values[0].kind != JINJA_DICT) {
        return jinja_fail(render, "Can only get item pairs from a mapping.");
    }
    *out = (struct jinja_value){.kind = JINJA_VIEW, .view = JINJA_ITEMS, .dict = values[0].dict};
    return true;
}

FILTER(filter_items)
{
    static const struct jinja_builtin builtin = {"items", "", 0, list_items};
    return make_list_generator(render, &builtin, values[0], call, out);
}

/* Adds a list of `count` items from `items` on, padded with `fill` up to `width`. */
static bool add_group(struct jinja_render *render, struct jinja_items *groups,
                      const struct jinja_value *items, size_t count, size_t width,
                      struct jinja_value fill)
{
    size_t total =
        fill.kind != JINJA_MISSING && fill.kind != JINJA_NONE && count < width ? width : count;
    struct jinja_value *copy = jinja_alloc(render, total, sizeof *copy);
    struct jinja_value group;
    if (!copy || !jinja_step(render, total)) {
        return false;
    }
    for (size_t i = 0; i < total; i++) {
        copy[i] = i < count ? items[i] : fill;
    }
    return jinja_list_make(render, JINJA_LIST, copy, total, &group) &&
           jinja_items_add(render, groups, group);
}

FILTER(list_batch)
{
    int64_t width;
    struct jinja_items items;
    struct jinja_items groups = {0};
    (void)call;
    if (!jinja_integer_argument(render, values[1], 0, &width) ||
        !jinja_to_list(render, values[0], &items)) {
        return false;
    }
    /* A group is given out when an item finds it full: below width 1 one never is, except that
     * width 0 finds the empty one full at once. */
    size_t step = width > 0 ? (size_t)width : SIZE_MAX;
    if (width == 0 && items.count &&
        !add_group(render, &groups, NULL, 0, 0, (struct jinja_value){0})) {
        return false;
    }
    for (size_t i = 0; i < items.count;) {
        size_t count = items.count - i < step ? items.count - i : step;
        if (!add_group(render, &groups, items.items + i, count, width > 0 ? step : 0, values[2])) {
            return false;
        }
        i += count;
    }
    return jinja_list_make(render, JINJA_LIST, groups.items, groups.count, out);
}

FILTER(filter_batch)
{
    static const struct jinja_builtin builtin = {"batch", "linecount,fill_with", 1, list_batch};
    return make_list_generator(render, &builtin, values[0], call, out);
}

FILTER(list_slice)
{
    int64_t slices;
    struct jinja_items items;
    struct jinja_items groups = {0};
    (void)call;
    if (!jinja_integer_argument(render, values[1], 0, &slices) ||
        !jinja_to_list(render, values[0], &items)) {
        return false;
    }
    if (slices == 0) {
        return jinja_fail(render, "integer division or modulo by zero");
    }
    size_t count = slices > 0 ? (size_t)slices : 0;
    size_t each = count ? items.count / count : 0;
    size_t extra = count ? items.count % count : 0;
    size_t begin = 0;
    for (size_t i = 0; i < count; i++) {
        size_t length = each + (i < extra);
        if (!add_group(render, &groups, items.items + begin, length, i < extra ? 0 : length + 1,
                       values[2])) {
            return false;
        }
        begin += length;
    }
    return jinja_list_make(render, JINJA_LIST, groups.items, groups.count, out);
}

FILTER(filter_slice)
{
    static const struct jinja_builtin builtin = {"slice", "slices,fill_with", 1, list_slice};
    return make_list_generator(render, &builtin, values[0], call, out);
}

FILTER(filter_reverse)
{
    struct jinja_generator *generator;
    struct jinja_value source = values[0];
    (void)call;
    if (source.kind == JINJA_STRING) {
        const struct jinja_value bounds[3] = {{0}, {0}, jinja_integer(-1)};
        return jinja_slice(render, source, bounds, out);
    }
    if (!jinja_is_iterable(source)) {
        return jinja_fail(render, "argument must be iterable");
    }
    if (source.kind != JINJA_GENERATOR) {
        return make_generator(render, GENERATOR_REVERSED, source, &generator, out);
    }
    struct jinja_items items;
    if (!jinja_to_list(render, source, &items)) {
        return false;
    }
    for (size_t i = 0; i < items.count / 2; i++) {
        struct jinja_value swap = items.items[i];
        items.items[i] = items.items[items.count - 1 - i];
        items.items[items.count - 1 - i] = swap;
    }
    return jinja_list_make(render, JINJA_LIST, items.items, items.count, out);
}

/* --- keys --- */

/* What two strings are compared by unless case matters. */
static bool fold(struct jinja_render *render, bool case_sensitive, struct jinja_value *value)
{
    return case_sensitive || value->kind != JINJA_STRING ||
           jinja_change_case(render, value->string, CASE_LOWER, value);
}

static bool key_of(struct jinja_render *render, struct jinja_value item, struct jinja_value path,
                   struct jinja_value fallback, bool case_sensitive, struct jinja_value *key)
{
    return jinja_get_path(render, item, path, fallback, key) && fold(render, case_sensitive, key);
}

/* sort's key: a list with one entry for each of "a,b.c". */
static bool sort_key(struct jinja_render *render, struct jinja_value item,
                     struct jinja_value attribute, bool case_sensitive, struct jinja_value *key)
{
    struct jinja_items parts = {0};
    struct jinja_value nothing = {0};
    struct jinja_value part;
    if (attribute.kind != JINJA_STRING) {
        return key_of(render, item, attribute, nothing, case_sensitive, &part) &&
               jinja_items_add(render, &parts, part) &&
               jinja_list_make(render, JINJA_LIST, parts.items, parts.count, key);
    }
    struct text_view text = jinja_text(attribute);
    size_t begin = 0;
    while (begin <= text.length) {
        const char *comma = memchr(text.data + begin, ',', text.length - begin);
        size_t end = comma ? (size_t)(comma - text.data) : text.length;
        struct jinja_value path;
        if (!jinja_string_borrow(render, text_view_make(text.data + begin, end - begin), &path) ||
            !key_of(render, item, path, nothing, case_sensitive, &part) ||
            !jinja_items_add(render, &parts, part)) {
            return false;
        }
        begin = end + 1;
    }
    return jinja_list_make(render, JINJA_LIST, parts.items, parts.count, key);
}

FILTER(filter_sort)
{
    struct jinja_items items;
    (void)call;
    if (!jinja_to_list(render, values[0], &items)) {
        return false;
    }
    struct jinja_value *keys = jinja_alloc(render, items.count, sizeof *keys);
    if (!keys) {
        return false;
    }
    for (size_t i = 0; i < items.count; i++) {
        if (!sort_key(render, items.items[i], values[3], jinja_truth(values[2]), &keys[i])) {
            return false;
        }
    }
    return jinja_sort(render, items.items, keys, items.count, jinja_truth(values[1])) &&
           jinja_list_make(render, JINJA_LIST, items.items, items.count, out);
}

FILTER(filter_dictsort)
{
    struct jinja_items items;
    bool by_value = false;
    (void)call;
    if (values[2].kind != JINJA_MISSING) {
        by_value = values[2].kind == JINJA_STRING && text_view_is(jinja_text(values[2]), "value");
        if (!by_value &&
            !(values[2].kind == JINJA_STRING && text_view_is(jinja_text(values[2]), "key"))) {
            return jinja_fail(render, "You can only sort by either \"key\" or \"value\"");
        }
    }
    if (values[0].kind != JINJA_DICT) {
        return values[0].kind == JINJA_UNDEFINED
                   ? jinja_fail_undefined(render, values[0])
                   : jinja_fail(render, "dictsort needs a dict, not %s",
                                jinja_type_name(values[0]));
    }
    struct jinja_value view = {.kind = JINJA_VIEW, .view = JINJA_ITEMS, .dict = values[0].dict};
    if (!jinja_to_list(render, view, &items)) {
        return false;
    }
    struct jinja_value *keys = jinja_alloc(render, items.count, sizeof *keys);
    for (size_t i = 0; keys && i < items.count; i++) {
        keys[i] = items.items[i].list->items[by_value];
        if (!fold(render, jinja_truth(values[1]), &keys[i])) {
            return false;
        }
    }
    return keys && jinja_sort(render, items.items, keys, items.count, jinja_truth(values[3])) &&
           jinja_list_make(render, JINJA_LIST, items.items, items.count, out);
}

static bool make_group(struct jinja_render *render, struct jinja_value key,
                       const struct jinja_value *items, size_t count, struct jinja_value *out)
{
    struct jinja_list *list = jinja_alloc(render, 1, sizeof *list);
    struct jinja_value *pair = jinja_alloc(render, 2, sizeof *pair);
    if (!list || !pair) {
        return false;
    }
    pair[0] = key;
    *list = (struct jinja_list){pair, 2, true};
    *out = (struct jinja_value){.kind = JINJA_TUPLE, .list = list};
    return jinja_list_make(render, JINJA_LIST, items, count, &pair[1]);
}

FILTER(filter_groupby)
{
    struct jinja_items items;
    struct jinja_items groups = {0};
    bool case_sensitive = jinja_truth(values[3]);
    struct jinja_value fallback =
        values[2].kind == JINJA_NONE ? (struct jinja_value){0} : values[2];
    (void)call;
    if (!jinja_to_list(render, values[0], &items)) {
        return false;
    }
    struct jinja_value *keys = jinja_alloc(render, items.count, sizeof *keys);
    for (size_t i = 0; keys && i < items.count; i++) {
        if (!key_of(render, items.items[i], values[1], fallback, case_sensitive, &keys[i])) {
            return false;
        }
    }
    if (!keys || !jinja_sort(render, items.items, keys, items.count, false)) {
        return false;
    }
    for (size_t begin = 0; begin < items.count;) {
        size_t end = begin + 1;
        bool equal = true;
        struct jinja_value key;
        struct jinja_value group;
        while (end < items.count) {
            if (!jinja_equal(render, keys[begin], keys[end], &equal)) {
                return false;
            }
            if (!equal) {
                break;
            }
            end++;
        }
        if (!key_of(render, items.items[begin], values[1], fallback, true, &key) ||
            !make_group(render, key, items.items + begin, end - begin, &group) ||
            !jinja_items_add(render, &groups, group)) {
            return false;
        }
        begin = end;
    }
    return jinja_list_make(render, JINJA_LIST, groups.items, groups.count, out);
}

FILTER(list_unique)
{
    struct jinja_items items;
    struct jinja_items kept = {0};
    struct jinja_dict *seen = jinja_dict_make(render, 0);
    (void)call;
    if (!seen || !jinja_to_list(render, values[0], &items)) {
        return false;
    }
    for (size_t i = 0; i < items.count; i++) {
        struct jinja_value key;
        struct jinja_entry *found;
        if (!key_of(render, items.items[i], values[2], (struct jinja_value){0},
                    jinja_truth(values[1]), &key) ||
            !jinja_dict_find(render, seen, key, &found)) {
            return false;
        }
        if (!found && (!jinja_dict_set(render, seen, key, jinja_none()) ||
                       !jinja_items_add(render, &kept, items.items[i]))) {
            return false;
        }
    }
    return jinja_list_make(render, JINJA_LIST, kept.items, kept.count, out);
}

FILTER(filter_unique)
{
    static const struct jinja_builtin builtin = {"unique", "case_sensitive,attribute", 0,
                                                 list_unique};
    return make_list_generator(render, &builtin, values[0], call, out);
}

/* --- one value out of many --- */

static bool extreme(struct jinja_render *render, const struct jinja_value *values,
                    enum jinja_order order, struct jinja_value *out)
{
    struct jinja_iterator iterator;
    struct jinja_value item;
    struct jinja_value best = {0};
    if (!jinja_iterate(render, values[0], &iterator)) {
        return false;
    }
    enum jinja_advance advance;
    while ((advance = jinja_next(render, &iterator, &item)) == JINJA_ITEM) {
        struct jinja_value key;
        bool better = true;
        if (!key_of(render, item, values[2], (struct jinja_value){0}, jinja_truth(values[1]),
                    &key) ||
            (best.kind != JINJA_MISSING && !jinja_compare(render, order, key, best, &better))) {
            return false;
        }
        if (better) {
            best = key;
            *out = item;
        }
    }
    if (best.kind == JINJA_MISSING && advance == JINJA_END) {
        return jinja_undefined_hint(render, "No aggregated item, sequence was empty.", out);
    }
    return advance == JINJA_END;
}

FILTER(filter_min)
{
    (void)call;
    return extreme(render, values, JINJA_LT, out);
}

FILTER(filter_max)
{
    (void)call;
    return extreme(render, values, JINJA_GT, out);
}

FILTER(filter_sum)
{
    struct jinja_iterator iterator;
    struct jinja_value item;
    struct jinja_value sum = values[2].kind == JINJA_MISSING ? jinja_integer(0) : values[2];
    (void)call;
    if (sum.kind == JINJA_STRING) {
        return jinja_fail(render, "sum() can't sum strings");
    }
    if (!jinja_iterate(render, values[0], &iterator)) {
        return false;
    }
    enum jinja_advance advance;
    while ((advance = jinja_next(render, &iterator, &item)) == JINJA_ITEM) {
        if (!jinja_get_path(render, item, values[1], (struct jinja_value){0}, &item) ||
            !jinja_binary(render, OPERATOR_ADD, sum, item, &sum)) {
            return false;
        }
    }
    *out = sum;
    return advance == JINJA_END;
}

FILTER(filter_first)
{
    struct jinja_iterator iterator;
    (void)call;
    if (!jinja_iterate(render, values[0], &iterator)) {
        return false;
    }
    enum jinja_advance advance = jinja_next(render, &iterator, out);
    return advance == JINJA_END
               ? jinja_undefined_hint(render, "No first item, sequence was empty.", out)
               : advance == JINJA_ITEM;
}

FILTER(filter_last)
{
    struct jinja_iterator iterator;
    (void)call;
    if (values[0].kind == JINJA_GENERATOR) {
        return jinja_fail(render, "'generator' object is not reversible");
    }
    if (values[0].kind == JINJA_STRING) {
        bool empty = values[0].string->length == 0;
        return empty ? jinja_undefined_hint(render, "No last item, sequence was empty.", out)
                     : jinja_get_item(render, values[0], jinja_integer(-1), out);
    }
    if (!jinja_iterate(render, values[0], &iterator)) {
        return false;
    }
    iterator.backwards = true;
    enum jinja_advance advance = jinja_next(render, &iterator, out);
    return advance == JINJA_END
               ? jinja_undefined_hint(render, "No last item, sequence was empty.", out)
               : advance == JINJA_ITEM;
}

FILTER(filter_length)
{
    bool sized;
    size_t length = jinja_length(values[0], &sized);
    (void)call;
    if (values[0].kind == JINJA_LOOP) {
        if (!jinja_loop_length(render, values[0].loop, &length)) {
            return false;
        }
        sized = true;
    }
    *out = jinja_integer((int64_t)length);
    return sized ||
           jinja_fail(render, "object of type '%s' has no len()", jinja_type_name(values[0]));
}

FILTER(filter_list)
{
    struct jinja_items items;
    (void)call;
    return jinja_to_list(render, values[0], &items) &&
           jinja_list_make(render, JINJA_LIST, items.items, items.count, out);
}

FILTER(filter_default)
{
    (void)call;
    *out = values[0];
    if (values[0].kind != JINJA_UNDEFINED && !(jinja_truth(values[2]) && !jinja_truth(values[0]))) {
        return true;
    }
    *out = values[1];
    return values[1].kind != JINJA_MISSING ||
           jinja_string_borrow(render, text_view_make("", 0), out);
}

FILTER(filter_join)
{
    struct jinja_iterator iterator;
    struct jinja_value item;
    struct jinja_value separator = values[1];
    (void)call;
    if ((separator.kind == JINJA_MISSING &&
         !jinja_string_borrow(render, text_view_make("", 0), &separator)) ||
        !jinja_to_string(render, separator, &separator) ||
        !jinja_iterate(render, values[0], &iterator)) {
        return false;
    }
    size_t mark = jinja_capture(render);
    bool first = true;
    enum jinja_advance advance;
    while ((advance = jinja_next(render, &iterator, &item)) == JINJA_ITEM) {
        if ((!first && !jinja_print(render, separator)) ||
            !jinja_get_path(render, item, values[2], (struct jinja_value){0}, &item) ||
            !jinja_print(render, item)) {
            return false;
        }
        first = false;
    }
    return advance == JINJA_END && jinja_capture_end(render, mark, out);
}

FILTER(filter_attr)
{
    bool found;
    (void)call;
    if (values[0].kind == JINJA_UNDEFINED) {
        return jinja_fail_undefined(render, values[0]);
    }
    if (values[1].kind != JINJA_STRING) {
        return jinja_fail(render, "attribute name must be string, not '%s'",
                          jinja_type_name(values[1]));
    }
    if (!jinja_find_attribute(render, values[0], jinja_text(values[1]), out, &found)) {
        return false;
    }
    return found || jinja_undefined_member(render, values[0], values[1], out);
}

const struct jinja_builtin *jinja_find_filter(struct text_view name)
{
    static const struct jinja_builtin filters[] = {
        {"abs", "", 0, filter_abs},
        {"attr", "name", 1, filter_attr},
        {"batch", "linecount,fill_with", 1, filter_batch},
        {"capitalize", "", 0, filter_capitalize},
        {"center", "width", 0, filter_center},
        {"count", "", 0, filter_length},
        {"d", "default_value,boolean", 0, filter_default},
        {"default", "default_value,boolean", 0, filter_default},
        {"dictsort", "case_sensitive,by,reverse", 0, filter_dictsort},
        {"e", "", 0, filter_escape},
        {"escape", "", 0, filter_escape},
        {"filesizeformat", "binary", 0, filter_filesizeformat},
        {"first", "", 0, filter_first},
        {"float", "default", 0, filter_float},
        {"forceescape", "", 0, filter_forceescape},
        {"format", NULL, 0, filter_format},
        {"from_json", "", 0, filter_from_json},
        {"groupby", "attribute,default,case_sensitive", 1, filter_groupby},
        {"indent", "width,first,blank", 0, filter_indent},
        {"int", "default,base", 0, filter_int},
        {"items", "", 0, filter_items},
        {"join", "d,attribute", 0, filter_join},
        {"last", "", 0, filter_last},
        {"length", "", 0, filter_length},
        {"list", "", 0, filter_list},
        {"lower", "", 0, filter_lower},
        {"map", NULL, 0, filter_map},
        {"max", "case_sensitive,attribute", 0, filter_max},
        {"min", "case_sensitive,attribute", 0, filter_min},
        {"reject", NULL, 0, filter_reject},
        {"rejectattr", NULL, 0, filter_rejectattr},
        {"replace", "old,new,count", 2, filter_replace},
        {"reverse", "", 0, filter_reverse},
        {"round", "precision,method", 0, filter_round},
        {"safe", "", 0, filter_safe},
        {"select", NULL, 0, filter_select},
        {"selectattr", NULL, 0, filter_selectattr},
        {"slice", "slices,fill_with", 1, filter_slice},
        {"sort", "reverse,case_sensitive,attribute", 0, filter_sort},
        {"string", "", 0, filter_string},
        {"sum", "attribute,start", 0, filter_sum},
        {"title", "", 0, filter_title},
        {"tojson", "ensure_ascii,indent,separators,sort_keys", 0, filter_tojson},
        {"trim", "chars", 0, filter_trim},
        {"truncate", "length,killwords,end,leeway", 0, filter_truncate},
        {"unique", "case_sensitive,attribute", 0, filter_unique},
        {"upper", "", 0, filter_upper},
        {"urlencode", "", 0, filter_urlencode},
        {"wordcount", "", 0, filter_wordcount},
        {"xmlattr", "autospace", 0, filter_xmlattr},
    };
    for (size_t i = 0; i < sizeof filters / sizeof *filters; i++) {
        if (text_view_is(name, filters[i].name)) {
            return &filters[i];
        }
    }
    return NULL;
}
