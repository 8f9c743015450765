/* The values of the template language, a closed set, and the state of one rendering that owns them:
 * everything lives in the rendering's arena and is released with it. Strings, lists and dicts never
 * change once made; only namespaces, loops, cyclers, joiners and generators have state.
 *
 * Functions that can fail return false after filling in the rendering's error; the caller passes
 * false on at once. */
#ifndef TEXT_TEMPLATE_VALUE_H
#define TEXT_TEMPLATE_VALUE_H

#include "base/arena.h"
#include "base/buffer.h"
#include "base/error.h"
#include "base/json.h"

enum jinja_kind {
    JINJA_MISSING, /* internal: no value was bound; never reaches an expression */
    JINJA_UNDEFINED,
    JINJA_NONE,
    JINJA_BOOL,
    JINJA_INTEGER,
    JINJA_FLOAT,
    JINJA_STRING,
    JINJA_LIST,
    JINJA_TUPLE,
    JINJA_DICT,
    JINJA_VIEW, /* keys(), values() or items() of a dict */
    JINJA_RANGE,
    JINJA_NAMESPACE,
    JINJA_MACRO,
    JINJA_FUNCTION,
    JINJA_METHOD,
    JINJA_LOOP,
    JINJA_CYCLER,
    JINJA_JOINER,
    JINJA_GENERATOR, /* what lazy filters give: can be walked once */
};

enum jinja_view { JINJA_KEYS, JINJA_VALUES, JINJA_ITEMS };

struct jinja_value {
    uint8_t kind; /* enum jinja_kind */
    uint8_t view; /* of a JINJA_VIEW */
    union {
        bool boolean;
        int64_t integer;
        double number;
        const struct jinja_string *string;
        const struct jinja_list *list; /* LIST and TUPLE */
        struct jinja_dict *dict;       /* DICT, VIEW and NAMESPACE */
        const struct jinja_undefined *undefined;
        const struct jinja_range *range;
        const struct jinja_macro *macro;
        const struct jinja_builtin *builtin; /* FUNCTION */
        const struct jinja_method *method;
        struct jinja_loop *loop;
        struct jinja_cycler *cycler;
        struct jinja_joiner *joiner;
        struct jinja_generator *generator;
    };
};

struct jinja_room;

struct jinja_string {
    const char *data;        /* valid UTF-8, not NUL-terminated */
    size_t length;           /* bytes */
    size_t characters;       /* code points; equal to length exactly when it is ASCII */
    struct jinja_room *room; /* free memory behind the text, or NULL */
    bool markup;             /* marked as safe HTML: Python's Markup */
};

struct jinja_list {
    const struct jinja_value *items;
    size_t count;
    bool group; /* a tuple of groupby, which knows .grouper and .list */
};

struct jinja_entry {
    struct jinja_value key;
    struct jinja_value value;
    uint64_t hash;
};

/* In insertion order. `index` is an open-addressed table of entry numbers + 1, made when the dict
 * outgrows a linear search. */
struct jinja_dict {
    struct jinja_entry *entries;
    uint32_t count;
    uint32_t capacity;
    uint32_t *index;
    uint32_t index_mask;
};

struct jinja_undefined {
    const char *format; /* NULL: '`name`' is undefined; else with %.*s for the name */
    const char *type;   /* what has no such attribute, or NULL */
    struct text_view name;
};

struct jinja_range {
    int64_t start;
    int64_t step;
    int64_t count;
    int64_t stop; /* as it was given, for printing */
};

struct jinja_keyword {
    struct text_view name;
    struct jinja_value value;
};

/* The arguments of one call. */
struct jinja_call {
    struct jinja_value *positional;
    size_t count;
    struct jinja_keyword *keywords;
    size_t keyword_count;
};

struct jinja_render;

/* A filter, test, method or global function. `values` holds the filtered value or the receiver in
 * [0] and the bound parameters in [1 …], JINJA_MISSING where none was given. When `parameters` is
 * NULL nothing is bound and the function reads `call`. */
typedef bool jinja_function(struct jinja_render *render, struct jinja_value *values,
                            const struct jinja_call *call, struct jinja_value *out);

struct jinja_builtin {
    const char *name;
    const char *parameters; /* "width,first,blank"; a leading '/' forbids naming it */
    uint8_t required;       /* how many of them must be given */
    jinja_function *function;
};

#define JINJA_PARAMETERS_MAX 6

struct jinja_method {
    struct jinja_value receiver;
    const struct jinja_builtin *builtin;
};

struct jinja_cycler {
    const struct jinja_list *items;
    size_t position;
};

struct jinja_joiner {
    struct jinja_value separator;
    bool used;
};

struct jinja_macro {
    const struct jinja_function_node *node;
    struct jinja_activation *outer; /* the variables around its definition */
};

struct template;

/* One rendering. */
struct jinja_render {
    const struct template *template;
    const struct json_value *context; /* object or NULL */
    struct jinja_value *globals;      /* by name id; MISSING: not looked up yet */
    bool *globals_known;
    struct arena arena;
    struct buffer out; /* finished text, then the pieces being captured */
    struct llcuda_error *error;
    llcuda_status status; /* the first failure */
    uint64_t steps_left;
    uint32_t depth;
    uint32_t at;   /* offset of the node at work, for messages */
    uint64_t seed; /* of hashes */
    int64_t now_unix;
};

/* --- failures; each returns false --- */
bool jinja_fail(struct jinja_render *render, const char *format, ...) BASE_PRINTF(2, 3);
bool jinja_fail_limit(struct jinja_render *render, const char *what);
bool jinja_fail_memory(struct jinja_render *render);
/* The template's own words, nothing around them. */
bool jinja_refuse(struct jinja_render *render, struct text_view message);
/* What using an undefined value raises. */
bool jinja_fail_undefined(struct jinja_render *render, struct jinja_value value);

/* Counts work: about one step a node, one more for each 64 bytes touched. */
bool jinja_step(struct jinja_render *render, uint64_t steps);
static inline bool jinja_step_bytes(struct jinja_render *render, size_t bytes)
{
    return jinja_step(render, 1 + bytes / 64);
}
/* Around every recursion over values or nodes. */
bool jinja_enter(struct jinja_render *render);
static inline void jinja_leave(struct jinja_render *render)
{
    render->depth--;
}

/* Zeroed memory of the rendering, or NULL after a failure. */
void *jinja_alloc(struct jinja_render *render, size_t count, size_t size);

/* --- making values --- */
static inline struct jinja_value jinja_none(void)
{
    return (struct jinja_value){.kind = JINJA_NONE};
}
static inline struct jinja_value jinja_bool(bool value)
{
    return (struct jinja_value){.kind = JINJA_BOOL, .boolean = value};
}
static inline struct jinja_value jinja_integer(int64_t value)
{
    return (struct jinja_value){.kind = JINJA_INTEGER, .integer = value};
}
static inline struct jinja_value jinja_float(double value)
{
    return (struct jinja_value){.kind = JINJA_FLOAT, .number = value};
}
static inline struct jinja_value jinja_string_value(const struct jinja_string *string)
{
    return (struct jinja_value){.kind = JINJA_STRING, .string = string};
}
bool jinja_undefined_hint(struct jinja_render *render, const char *hint, struct jinja_value *out);
bool jinja_undefined_name(struct jinja_render *render, struct text_view name,
                          struct jinja_value *out);
/* `object` has no attribute or element `key`. */
bool jinja_undefined_member(struct jinja_render *render, struct jinja_value object,
                            struct jinja_value key, struct jinja_value *out);
/* An attribute that the sandbox hides; using it is an error, asking for it is not. */
bool jinja_undefined_unsafe(struct jinja_render *render, struct jinja_value object,
                            struct text_view name, struct jinja_value *out);

/* A string over memory that outlives the rendering. */
bool jinja_string_borrow(struct jinja_render *render, struct text_view text,
                         struct jinja_value *out);
/* A string whose bytes are copied. */
bool jinja_string_copy(struct jinja_render *render, struct text_view text, struct jinja_value *out);
/* a + b without looking at markup. Appends in place when `a` was itself just built so: repeated
 * accumulation stays linear. */
bool jinja_string_join(struct jinja_render *render, const struct jinja_string *a,
                       const struct jinja_string *b, struct jinja_value *out);
/* The same text with the markup flag set or not. */
bool jinja_string_mark(struct jinja_render *render, struct jinja_value string, bool markup,
                       struct jinja_value *out);

/* Building text: begin, append to render->out, end. */
static inline size_t jinja_capture(const struct jinja_render *render)
{
    return render->out.length;
}
bool jinja_capture_end(struct jinja_render *render, size_t mark, struct jinja_value *out);
bool jinja_put(struct jinja_render *render, const char *data, size_t length);
bool jinja_put_text(struct jinja_render *render, const char *text);
/* `count` times the same; what is too long is refused at once. */
bool jinja_put_times(struct jinja_render *render, struct text_view text, size_t count);
bool jinja_put_code(struct jinja_render *render, uint32_t code);

/* `items` is kept, not copied. */
bool jinja_list_make(struct jinja_render *render, enum jinja_kind kind,
                     const struct jinja_value *items, size_t count, struct jinja_value *out);

/* A list that grows while it is being made. Zero it first. */
struct jinja_items {
    struct jinja_value *items;
    size_t count;
    size_t capacity;
};
bool jinja_items_add(struct jinja_render *render, struct jinja_items *items,
                     struct jinja_value value);

struct jinja_dict *jinja_dict_make(struct jinja_render *render, size_t capacity);
/* Adds or replaces; an unhashable key is an error. */
bool jinja_dict_set(struct jinja_render *render, struct jinja_dict *dict, struct jinja_value key,
                    struct jinja_value value);
/* *found is NULL when the key is not there; an unhashable key is an error. */
bool jinja_dict_find(struct jinja_render *render, const struct jinja_dict *dict,
                     struct jinja_value key, struct jinja_entry **found);
struct jinja_entry *jinja_dict_find_text(struct jinja_render *render, const struct jinja_dict *dict,
                                         struct text_view key);

/* A parsed JSON value and its children as template values. Strings are borrowed unless `copy` says
 * that the document will not outlive the rendering. */
bool jinja_from_json(struct jinja_render *render, const struct json_value *json, bool copy,
                     struct jinja_value *out);

/* --- asking values --- */
static inline struct text_view jinja_text(struct jinja_value value)
{
    return text_view_make(value.string->data, value.string->length);
}
static inline bool jinja_is_ascii(const struct jinja_string *string)
{
    return string->characters == string->length;
}
bool jinja_truth(struct jinja_value value);
/* True and *out set for integers and booleans. */
bool jinja_as_integer(struct jinja_value value, int64_t *out);
/* True and *out set for integers, booleans and floats. */
bool jinja_as_number(struct jinja_value value, double *out);
/* Python's name of the type. */
const char *jinja_type_name(struct jinja_value value);
/* len(): false in *sized when the value has none. */
size_t jinja_length(struct jinja_value value, bool *sized);
size_t jinja_count_characters(const char *data, size_t length);
/* The byte offset of character `index`, which is at most string->characters. */
size_t jinja_byte_offset(const struct jinja_string *string, size_t index);

/* --- comparing --- */
enum jinja_order { JINJA_LT, JINJA_LE, JINJA_GT, JINJA_GE };

bool jinja_hash(struct jinja_render *render, struct jinja_value value, uint64_t *hash);
bool jinja_equal(struct jinja_render *render, struct jinja_value a, struct jinja_value b,
                 bool *equal);
bool jinja_compare(struct jinja_render *render, enum jinja_order order, struct jinja_value a,
                   struct jinja_value b, bool *result);
/* `is`: the very same object. */
bool jinja_same(struct jinja_value a, struct jinja_value b);
/* item in container */
bool jinja_contains(struct jinja_render *render, struct jinja_value container,
                    struct jinja_value item, bool *result);
/* Sorts `count` values by their keys, stably, as sorted() does with `<` alone. */
bool jinja_sort(struct jinja_render *render, struct jinja_value *values, struct jinja_value *keys,
                size_t count, bool reverse);

/* --- printing; all append to render->out --- */
bool jinja_print(struct jinja_render *render, struct jinja_value value); /* str() */
bool jinja_print_repr(struct jinja_render *render, struct jinja_value value);
bool jinja_print_float(struct jinja_render *render, double value);
bool jinja_print_escaped(struct jinja_render *render, struct text_view text); /* HTML */
/* str() as a string value; strings pass through unchanged. */
bool jinja_to_string(struct jinja_render *render, struct jinja_value value,
                     struct jinja_value *out);

struct jinja_json_style {
    bool ascii; /* \uXXXX for everything else */
    bool sort_keys;
    bool indented;
    struct text_view indent;
    struct text_view item_separator;
    struct text_view key_separator;
};
bool jinja_print_json(struct jinja_render *render, struct jinja_value value,
                      const struct jinja_json_style *style);

/* Decimal digits of a finite double, without sign and point: the shortest that read back as the
 * same value. value = 0.DIGITS * 10^*point. Returns their number, at most 17. */
int jinja_float_digits(double value, char digits[32], int *point);
/* Reads a number as float() does: no leading or trailing space; "1_000.5e3", "inf", "nan". */
bool jinja_parse_float(struct text_view text, double *out);

#endif
