/* Owns the state of a rendering and the making of its values: failures, budgets, strings, lists.
 * Invariants: every string is valid UTF-8 with its characters counted; values are never changed
 * after they are made, except that a string may grow into the free room behind it, which no other
 * string sees. One thread a rendering. */
#include "text/template_value.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/limits.h"
#include "base/utf8.h"
#include "text/template_node.h"

/* Memory behind a string that was built by joining. Whoever holds the string that ends at `end`
 * may append up to `limit`. */
struct jinja_room {
    char *end;
    char *limit;
};

/* --- failures --- */

static bool fail_at(struct jinja_render *render, llcuda_status status, const char *message)
{
    if (render->status) {
        return false;
    }
    struct template_position position = template_position(render->template, render->at);
    render->status =
        error_set_at(render->error, status, position.offset, "template line %u, column %u: %s",
                     position.line, position.column, message);
    return false;
}

bool jinja_fail(struct jinja_render *render, const char *format, ...)
{
    char message[LLCUDA_ERROR_MESSAGE_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    return fail_at(render, LLCUDA_BAD_FORMAT, message);
}

bool jinja_fail_limit(struct jinja_render *render, const char *what)
{
    return fail_at(render, LLCUDA_LIMIT, what);
}

bool jinja_fail_memory(struct jinja_render *render)
{
    if (!render->status) {
        render->status = error_no_memory(render->error, "a chat template's rendering", 0);
    }
    return false;
}

bool jinja_refuse(struct jinja_render *render, struct text_view message)
{
    if (!render->status) {
        render->status = error_set(render->error, LLCUDA_REFUSED, "%.*s", TEXT_ARGUMENTS(message));
    }
    return false;
}

bool jinja_fail_undefined(struct jinja_render *render, struct jinja_value value)
{
    const struct jinja_undefined *undefined = value.undefined;
    if (!undefined->format) {
        return jinja_fail(render, "'%.*s' is undefined", TEXT_ARGUMENTS(undefined->name));
    }
    if (!undefined->type) {
        return jinja_fail(render, "%s", undefined->format);
    }
    return jinja_fail(render, "'%s' has no %s '%.*s'", undefined->type, undefined->format,
                      TEXT_ARGUMENTS(undefined->name));
}

/* --- budgets --- */

bool jinja_step(struct jinja_render *render, uint64_t steps)
{
    if (render->steps_left < steps) {
        render->steps_left = 0;
        return jinja_fail_limit(render, "the rendering takes too many steps");
    }
    render->steps_left -= steps;
    return true;
}

bool jinja_enter(struct jinja_render *render)
{
    if (render->depth >= LIMIT_TEMPLATE_CALL_DEPTH) {
        return jinja_fail_limit(render, "the rendering is nested too deeply");
    }
    render->depth++;
    return true;
}

void *jinja_alloc(struct jinja_render *render, size_t count, size_t size)
{
    void *memory = arena_alloc(&render->arena, count, size);
    if (!memory) {
        uint64_t left = render->arena.limit_bytes - render->arena.allocated_bytes;
        if (size && count >= left / size) {
            jinja_fail_limit(render, "the rendering needs too much memory");
        } else {
            jinja_fail_memory(render);
        }
    }
    return memory;
}

/* --- undefined values --- */

static bool make_undefined(struct jinja_render *render, struct jinja_undefined description,
                           struct jinja_value *out)
{
    struct jinja_undefined *undefined = jinja_alloc(render, 1, sizeof *undefined);
    if (!undefined) {
        return false;
    }
    *undefined = description;
    *out = (struct jinja_value){.kind = JINJA_UNDEFINED, .undefined = undefined};
    return true;
}

bool jinja_undefined_hint(struct jinja_render *render, const char *hint, struct jinja_value *out)
{
    return make_undefined(render, (struct jinja_undefined){.format = hint}, out);
}

bool jinja_undefined_name(struct jinja_render *render, struct text_view name,
                          struct jinja_value *out)
{
    return make_undefined(render, (struct jinja_undefined){.name = name}, out);
}

/* jinja2 says "dict object", "list object" …, but None for none. */
static const char *described_type(struct jinja_value object)
{
    switch ((enum jinja_kind)object.kind) {
    case JINJA_NONE:
        return "None";
    case JINJA_BOOL:
        return "bool object";
    case JINJA_INTEGER:
        return "int object";
    case JINJA_FLOAT:
        return "float object";
    case JINJA_STRING:
        return "str object";
    case JINJA_LIST:
        return "list object";
    case JINJA_TUPLE:
        return "tuple object";
    case JINJA_DICT:
        return "dict object";
    case JINJA_NAMESPACE:
        return "namespace object";
    case JINJA_LOOP:
        return "loop object";
    default:
        return "object";
    }
}

bool jinja_undefined_member(struct jinja_render *render, struct jinja_value object,
                            struct jinja_value key, struct jinja_value *out)
{
    struct jinja_undefined undefined = {.format = "attribute", .type = described_type(object)};
    if (key.kind == JINJA_STRING) {
        undefined.name = jinja_text(key);
    } else if (key.kind == JINJA_INTEGER) {
        char digits[32];
        int length = snprintf(digits, sizeof digits, "%lld", (long long)key.integer);
        undefined.name = arena_copy_text(&render->arena, text_view_make(digits, (size_t)length));
        undefined.format = "element";
    } else {
        undefined.name = text_view_of(jinja_type_name(key));
        undefined.format = "element of type";
    }
    return make_undefined(render, undefined, out);
}

bool jinja_undefined_unsafe(struct jinja_render *render, struct jinja_value object,
                            struct text_view name, struct jinja_value *out)
{
    size_t mark = jinja_capture(render);
    if (!jinja_put_text(render, "access to attribute '") ||
        !jinja_put(render, name.data, name.length) || !jinja_put_text(render, "' of '") ||
        !jinja_put_text(render, jinja_type_name(object)) ||
        !jinja_put_text(render, "' object is unsafe: values are immutable here") ||
        !jinja_put(render, "", 1)) {
        return false;
    }
    struct jinja_value hint;
    return jinja_capture_end(render, mark, &hint) &&
           jinja_undefined_hint(render, hint.string->data, out);
}

/* --- strings --- */

size_t jinja_count_characters(const char *data, size_t length)
{
    size_t count = 0;
    for (size_t i = 0; i < length; i++) {
        count += ((unsigned char)data[i] & 0xC0) != 0x80;
    }
    return count;
}

size_t jinja_byte_offset(const struct jinja_string *string, size_t index)
{
    if (jinja_is_ascii(string)) {
        return index;
    }
    size_t position = 0;
    while (index > 0 && position < string->length) {
        position++;
        while (position < string->length &&
               ((unsigned char)string->data[position] & 0xC0) == 0x80) {
            position++;
        }
        index--;
    }
    return position;
}

static struct jinja_string *make_string(struct jinja_render *render, const char *data,
                                        size_t length, size_t characters)
{
    struct jinja_string *string = jinja_alloc(render, 1, sizeof *string);
    if (string) {
        string->data = data;
        string->length = length;
        string->characters = characters;
    }
    return string;
}

bool jinja_string_borrow(struct jinja_render *render, struct text_view text,
                         struct jinja_value *out)
{
    struct jinja_string *string = make_string(render, text.length ? text.data : "", text.length,
                                              jinja_count_characters(text.data, text.length));
    *out = jinja_string_value(string);
    return string && jinja_step(render, text.length / 64);
}

bool jinja_string_copy(struct jinja_render *render, struct text_view text, struct jinja_value *out)
{
    char *copy = jinja_alloc(render, text.length ? text.length : 1, 1);
    if (!copy) {
        return false;
    }
    if (text.length) {
        memcpy(copy, text.data, text.length);
    }
    return jinja_string_borrow(render, text_view_make(copy, text.length), out);
}

/* Nobody has written behind `a` yet, and there is room: the text grows where it lies. */
static bool can_grow(const struct jinja_string *a, const struct jinja_string *b)
{
    return a->room && a->room->end == a->data + a->length &&
           (size_t)(a->room->limit - a->room->end) >= b->length;
}

/* Fresh memory for `length` bytes, with free room behind longer texts: short ones are mostly
 * printed at once, longer ones are often being accumulated. */
static char *make_room(struct jinja_render *render, size_t length, struct jinja_room **room)
{
    size_t capacity = length < 64 ? length : length + length / 2;
    char *data = jinja_alloc(render, capacity ? capacity : 1, 1);
    *room = NULL;
    if (data && capacity > length) {
        *room = jinja_alloc(render, 1, sizeof **room);
        if (!*room) {
            return NULL;
        }
        (*room)->end = data + length;
        (*room)->limit = data + capacity;
    }
    return data;
}

bool jinja_string_join(struct jinja_render *render, const struct jinja_string *a,
                       const struct jinja_string *b, struct jinja_value *out)
{
    size_t length = a->length + b->length;
    struct jinja_room *room = a->room;
    char *data;
    if (can_grow(a, b)) {
        data = room->end - a->length;
        room->end += b->length;
    } else {
        data = make_room(render, length, &room);
        if (!data || !jinja_step_bytes(render, a->length)) {
            return false;
        }
        if (a->length) {
            memcpy(data, a->data, a->length);
        }
    }
    if (b->length) {
        memcpy(data + a->length, b->data, b->length);
    }
    struct jinja_string *string = make_string(render, data, length, a->characters + b->characters);
    if (!string || !jinja_step_bytes(render, b->length)) {
        return false;
    }
    string->room = room;
    *out = jinja_string_value(string);
    return true;
}

bool jinja_string_mark(struct jinja_render *render, struct jinja_value string, bool markup,
                       struct jinja_value *out)
{
    *out = string;
    if (string.string->markup == markup) {
        return true;
    }
    struct jinja_string *copy =
        make_string(render, string.string->data, string.string->length, string.string->characters);
    if (!copy) {
        return false;
    }
    copy->markup = markup;
    *out = jinja_string_value(copy);
    return true;
}

/* --- building text --- */

bool jinja_put(struct jinja_render *render, const char *data, size_t length)
{
    if (buffer_append(&render->out, data, length)) {
        return true;
    }
    if (length > render->out.limit_bytes || render->out.length > render->out.limit_bytes - length) {
        return jinja_fail_limit(render, "the rendered text is too long");
    }
    return jinja_fail_memory(render);
}

bool jinja_put_text(struct jinja_render *render, const char *text)
{
    return jinja_put(render, text, strlen(text));
}

bool jinja_put_code(struct jinja_render *render, uint32_t code)
{
    char bytes[4];
    return jinja_put(render, bytes, utf8_encode(code, bytes));
}

bool jinja_capture_end(struct jinja_render *render, size_t mark, struct jinja_value *out)
{
    size_t length = render->out.length - mark;
    if (!jinja_step_bytes(render, length) ||
        !jinja_string_copy(render, text_view_make(buffer_text(&render->out) + mark, length), out)) {
        return false;
    }
    render->out.length = mark;
    return true;
}

/* --- lists --- */

bool jinja_list_make(struct jinja_render *render, enum jinja_kind kind,
                     const struct jinja_value *items, size_t count, struct jinja_value *out)
{
    struct jinja_list *list = jinja_alloc(render, 1, sizeof *list);
    if (!list) {
        return false;
    }
    list->items = items;
    list->count = count;
    *out = (struct jinja_value){.kind = (uint8_t)kind, .list = list};
    return true;
}

bool jinja_items_add(struct jinja_render *render, struct jinja_items *items,
                     struct jinja_value value)
{
    if (items->count == items->capacity) {
        size_t capacity = items->capacity ? items->capacity * 2 : 8;
        struct jinja_value *grown = jinja_alloc(render, capacity, sizeof *grown);
        if (!grown || !jinja_step(render, items->count)) {
            return false;
        }
        if (items->count) {
            memcpy(grown, items->items, items->count * sizeof *grown);
        }
        items->items = grown;
        items->capacity = capacity;
    }
    items->items[items->count++] = value;
    return true;
}

/* --- asking --- */

bool jinja_truth(struct jinja_value value)
{
    bool sized;
    switch ((enum jinja_kind)value.kind) {
    case JINJA_MISSING:
    case JINJA_UNDEFINED:
    case JINJA_NONE:
        return false;
    case JINJA_BOOL:
        return value.boolean;
    case JINJA_INTEGER:
        return value.integer != 0;
    case JINJA_FLOAT:
        return value.number != 0;
    default:
        return jinja_length(value, &sized) > 0 || !sized;
    }
}

size_t jinja_length(struct jinja_value value, bool *sized)
{
    *sized = true;
    switch ((enum jinja_kind)value.kind) {
    case JINJA_UNDEFINED:
        return 0;
    case JINJA_STRING:
        return value.string->characters;
    case JINJA_LIST:
    case JINJA_TUPLE:
        return value.list->count;
    case JINJA_DICT:
    case JINJA_VIEW:
        return value.dict->count;
    case JINJA_RANGE:
        return (size_t)value.range->count;
    default:
        *sized = false;
        return 0;
    }
}

bool jinja_as_integer(struct jinja_value value, int64_t *out)
{
    if (value.kind == JINJA_BOOL) {
        *out = value.boolean;
    } else if (value.kind == JINJA_INTEGER) {
        *out = value.integer;
    } else {
        return false;
    }
    return true;
}

bool jinja_as_number(struct jinja_value value, double *out)
{
    int64_t integer;
    if (value.kind == JINJA_FLOAT) {
        *out = value.number;
    } else if (jinja_as_integer(value, &integer)) {
        *out = (double)integer;
    } else {
        return false;
    }
    return true;
}

const char *jinja_type_name(struct jinja_value value)
{
    static const char *const views[] = {"dict_keys", "dict_values", "dict_items"};
    static const char *const names[] = {
        [JINJA_MISSING] = "missing",     [JINJA_UNDEFINED] = "Undefined",
        [JINJA_NONE] = "NoneType",       [JINJA_BOOL] = "bool",
        [JINJA_INTEGER] = "int",         [JINJA_FLOAT] = "float",
        [JINJA_STRING] = "str",          [JINJA_LIST] = "list",
        [JINJA_TUPLE] = "tuple",         [JINJA_DICT] = "dict",
        [JINJA_RANGE] = "range",         [JINJA_NAMESPACE] = "Namespace",
        [JINJA_MACRO] = "Macro",         [JINJA_FUNCTION] = "function",
        [JINJA_METHOD] = "method",       [JINJA_LOOP] = "LoopContext",
        [JINJA_CYCLER] = "Cycler",       [JINJA_JOINER] = "Joiner",
        [JINJA_GENERATOR] = "generator",
    };
    return value.kind == JINJA_VIEW ? views[value.view] : names[value.kind];
}
