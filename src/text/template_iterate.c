/* Owns walking over values: iterators, the generators that lazy filters give, and the items of a
 * running loop with its look-ahead. Invariant: an iterator over a generator moves the generator
 * itself, so that two walks over one share its items, as in Python. Chains of generators recurse;
 * jinja_enter bounds them. */
#include "text/template_engine.h"

bool jinja_is_iterable(struct jinja_value value)
{
    switch ((enum jinja_kind)value.kind) {
    case JINJA_UNDEFINED:
    case JINJA_STRING:
    case JINJA_LIST:
    case JINJA_TUPLE:
    case JINJA_DICT:
    case JINJA_VIEW:
    case JINJA_RANGE:
    case JINJA_GENERATOR:
    case JINJA_LOOP:
        return true;
    default:
        return false;
    }
}

bool jinja_iterate(struct jinja_render *render, struct jinja_value value,
                   struct jinja_iterator *iterator)
{
    *iterator = (struct jinja_iterator){.source = value};
    if (value.kind == JINJA_LOOP) {
        return jinja_fail(render, "walking over 'loop' itself is not supported");
    }
    return jinja_is_iterable(value) ||
           jinja_fail(render, "'%s' object is not iterable", jinja_type_name(value));
}

static bool view_item(struct jinja_render *render, struct jinja_value view, size_t index,
                      struct jinja_value *out)
{
    const struct jinja_entry *entry = &view.dict->entries[index];
    if (view.kind == JINJA_DICT || view.view == JINJA_KEYS) {
        *out = entry->key;
        return true;
    }
    if (view.view == JINJA_VALUES) {
        *out = entry->value;
        return true;
    }
    struct jinja_value *pair = jinja_alloc(render, 2, sizeof *pair);
    if (!pair) {
        return false;
    }
    pair[0] = entry->key;
    pair[1] = entry->value;
    return jinja_list_make(render, JINJA_TUPLE, pair, 2, out);
}

static bool string_item(struct jinja_render *render, struct jinja_iterator *iterator,
                        struct jinja_value *out)
{
    const struct jinja_string *string = iterator->source.string;
    size_t begin = iterator->position;
    size_t end = begin + 1;
    while (end < string->length && ((unsigned char)string->data[end] & 0xC0) == 0x80) {
        end++;
    }
    iterator->position = end;
    return jinja_string_borrow(render, text_view_make(string->data + begin, end - begin), out);
}

static enum jinja_advance generator_next(struct jinja_render *render,
                                         struct jinja_generator *generator,
                                         struct jinja_value *out);

enum jinja_advance jinja_next(struct jinja_render *render, struct jinja_iterator *iterator,
                              struct jinja_value *out)
{
    bool sized;
    struct jinja_value source = iterator->source;
    if (!jinja_step(render, 1)) {
        return JINJA_ERROR;
    }
    if (source.kind == JINJA_GENERATOR) {
        if (!jinja_enter(render)) {
            return JINJA_ERROR;
        }
        enum jinja_advance advance = generator_next(render, source.generator, out);
        jinja_leave(render);
        return advance;
    }
    if (source.kind == JINJA_STRING) {
        if (iterator->position >= source.string->length) {
            return JINJA_END;
        }
        return string_item(render, iterator, out) ? JINJA_ITEM : JINJA_ERROR;
    }
    size_t length = jinja_length(source, &sized);
    if (iterator->position >= length) {
        return JINJA_END;
    }
    size_t index = iterator->position++;
    index = iterator->backwards ? length - 1 - index : index;
    switch ((enum jinja_kind)source.kind) {
    case JINJA_LIST:
    case JINJA_TUPLE:
        *out = source.list->items[index];
        return JINJA_ITEM;
    case JINJA_RANGE:
        *out = jinja_integer(source.range->start + (int64_t)index * source.range->step);
        return JINJA_ITEM;
    case JINJA_DICT:
    case JINJA_VIEW:
        return view_item(render, source, index, out) ? JINJA_ITEM : JINJA_ERROR;
    default:
        return JINJA_END;
    }
}

bool jinja_to_list(struct jinja_render *render, struct jinja_value value, struct jinja_items *items)
{
    struct jinja_iterator iterator;
    struct jinja_value item;
    *items = (struct jinja_items){0};
    if (!jinja_iterate(render, value, &iterator)) {
        return false;
    }
    enum jinja_advance advance;
    while ((advance = jinja_next(render, &iterator, &item)) == JINJA_ITEM) {
        if (!jinja_items_add(render, items, item)) {
            return false;
        }
    }
    return advance == JINJA_END;
}

/* --- generators --- */

static bool start_generator(struct jinja_render *render, struct jinja_generator *generator)
{
    struct jinja_value source = generator->source;
    generator->started = true;
    if (generator->kind == GENERATOR_LIST &&
        !jinja_invoke(render, generator->builtin, source, &generator->call, &source)) {
        return false;
    }
    if (!jinja_iterate(render, source, &generator->iterator)) {
        return false;
    }
    generator->iterator.backwards = generator->kind == GENERATOR_REVERSED;
    return true;
}

static bool select_item(struct jinja_render *render, struct jinja_generator *generator,
                        struct jinja_value item, bool *selected)
{
    struct jinja_value value = item;
    if (generator->path.kind != JINJA_MISSING &&
        !jinja_get_path(render, item, generator->path, (struct jinja_value){0}, &value)) {
        return false;
    }
    if (generator->builtin &&
        !jinja_invoke(render, generator->builtin, value, &generator->call, &value)) {
        return false;
    }
    *selected = jinja_truth(value) != generator->negated;
    return true;
}

static bool map_item(struct jinja_render *render, struct jinja_generator *generator,
                     struct jinja_value item, struct jinja_value *out)
{
    if (generator->builtin) {
        return jinja_invoke(render, generator->builtin, item, &generator->call, out);
    }
    return jinja_get_path(render, item, generator->path, generator->fallback, out);
}

static enum jinja_advance generator_next(struct jinja_render *render,
                                         struct jinja_generator *generator, struct jinja_value *out)
{
    struct jinja_value item;
    if (!generator->started && !start_generator(render, generator)) {
        return JINJA_ERROR;
    }
    for (;;) {
        enum jinja_advance advance = jinja_next(render, &generator->iterator, &item);
        if (advance != JINJA_ITEM) {
            return advance;
        }
        bool selected = true;
        if (generator->kind == GENERATOR_MAP) {
            if (!map_item(render, generator, item, &item)) {
                return JINJA_ERROR;
            }
        } else if (generator->kind == GENERATOR_SELECT &&
                   !select_item(render, generator, item, &selected)) {
            return JINJA_ERROR;
        }
        if (selected) {
            *out = item;
            return JINJA_ITEM;
        }
    }
}

/* --- loops --- */

/* What a filter's target holds: jinja2 hands its loop the unpacked values as tuples. */
static bool read_target(struct jinja_render *render, const struct jinja_activation *activation,
                        const struct jinja_node *target, struct jinja_value *out)
{
    if (target->kind == NODE_STORE) {
        *out = activation->slots[target->name.place.slot];
        return true;
    }
    struct jinja_value *items = jinja_alloc(render, target->list.count, sizeof *items);
    size_t count = 0;
    if (!items || !jinja_enter(render)) {
        return false;
    }
    for (const struct jinja_node *part = target->list.first; part; part = part->next) {
        if (!read_target(render, activation, part, &items[count++])) {
            return false;
        }
    }
    jinja_leave(render);
    return jinja_list_make(render, JINJA_TUPLE, items, count, out);
}

/* The next item that the loop's filter lets pass. */
static enum jinja_advance next_passing(struct jinja_render *render, struct jinja_loop *loop,
                                       struct jinja_value *out)
{
    for (;;) {
        enum jinja_advance advance = jinja_next(render, &loop->iterator, out);
        if (advance != JINJA_ITEM || !loop->test_activation) {
            return advance;
        }
        struct jinja_value pass;
        if (!jinja_assign(render, loop->test_activation, loop->node->test_target, *out) ||
            !jinja_evaluate(render, loop->test_activation, loop->node->test, &pass)) {
            return JINJA_ERROR;
        }
        if (jinja_truth(pass)) {
            return read_target(render, loop->test_activation, loop->node->test_target, out)
                       ? JINJA_ITEM
                       : JINJA_ERROR;
        }
    }
}

enum jinja_advance jinja_loop_peek(struct jinja_render *render, struct jinja_loop *loop)
{
    if (loop->after.kind != JINJA_MISSING) {
        return JINJA_ITEM;
    }
    enum jinja_advance advance = next_passing(render, loop, &loop->after);
    if (advance != JINJA_ITEM) {
        loop->after = (struct jinja_value){0};
    }
    return advance;
}

enum jinja_advance jinja_loop_next(struct jinja_render *render, struct jinja_loop *loop)
{
    struct jinja_value item = loop->after;
    if (item.kind == JINJA_MISSING) {
        enum jinja_advance advance = next_passing(render, loop, &item);
        if (advance != JINJA_ITEM) {
            return advance;
        }
    }
    loop->after = (struct jinja_value){0};
    loop->before = loop->current;
    loop->current = item;
    loop->index0++;
    return JINJA_ITEM;
}

/* Without a length of its own, the rest is read ahead and counted. */
bool jinja_loop_length(struct jinja_render *render, struct jinja_loop *loop, size_t *length)
{
    if (!loop->length_known) {
        bool sized;
        loop->length = jinja_length(loop->iterable, &sized);
        if (!sized || loop->test_activation) {
            struct jinja_items rest = {0};
            struct jinja_value item;
            enum jinja_advance advance;
            while ((advance = next_passing(render, loop, &item)) == JINJA_ITEM) {
                if (!jinja_items_add(render, &rest, item)) {
                    return false;
                }
            }
            struct jinja_value list;
            if (advance == JINJA_ERROR ||
                !jinja_list_make(render, JINJA_LIST, rest.items, rest.count, &list) ||
                !jinja_iterate(render, list, &loop->iterator)) {
                return false;
            }
            loop->test_activation = NULL;
            loop->length = rest.count + loop->index0 + 1 + (loop->after.kind != JINJA_MISSING);
        }
        loop->length_known = true;
    }
    *length = loop->length;
    return true;
}
