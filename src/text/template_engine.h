/* Inside the evaluator: what its parts call of each other. Everything works on one rendering and
 * returns false after a failure. */
#ifndef TEXT_TEMPLATE_ENGINE_H
#define TEXT_TEMPLATE_ENGINE_H

#include "text/template_node.h"

/* The variables of one call of a body. */
struct jinja_activation {
    struct jinja_activation *outer;
    struct jinja_value slots[];
};

/* --- statements (template_execute.c) --- */
bool jinja_run(struct jinja_render *render);

enum jinja_flow { JINJA_NEXT, JINJA_BREAK, JINJA_CONTINUE };
bool jinja_execute(struct jinja_render *render, struct jinja_activation *activation,
                   const struct jinja_node *nodes, enum jinja_flow *flow);
struct jinja_activation *jinja_activate(struct jinja_render *render, struct jinja_activation *outer,
                                        const struct jinja_body *body);
bool jinja_enter_scope(struct jinja_render *render, struct jinja_activation *activation,
                       const struct jinja_scope *scope);
void jinja_leave_scope(struct jinja_activation *activation, const struct jinja_scope *scope);
/* Assigns to a STORE, STORE_ATTRIBUTE or TUPLE of them. */
bool jinja_assign(struct jinja_render *render, struct jinja_activation *activation,
                  const struct jinja_node *target, struct jinja_value value);

/* --- expressions (template_evaluate.c) --- */
bool jinja_evaluate(struct jinja_render *render, struct jinja_activation *activation,
                    const struct jinja_node *node, struct jinja_value *out);
/* The steps of a POSTFIX on `value`; `caller` (or NULL) goes to the last call. */
bool jinja_apply_steps(struct jinja_render *render, struct jinja_activation *activation,
                       const struct jinja_node *steps, const struct jinja_value *caller,
                       struct jinja_value *value);
/* A variable of the context or a global function; JINJA_MISSING when there is none. */
bool jinja_resolve_global(struct jinja_render *render, const struct jinja_name *name,
                          struct jinja_value *out);

/* --- calls (template_call.c) --- */
bool jinja_call_value(struct jinja_render *render, struct jinja_value callee,
                      const struct jinja_call *call, struct jinja_value *out);
/* A filter, test or method on `subject`. */
bool jinja_invoke(struct jinja_render *render, const struct jinja_builtin *builtin,
                  struct jinja_value subject, const struct jinja_call *call,
                  struct jinja_value *out);
bool jinja_is_callable(struct jinja_value value);
/* dict(), and what namespace() starts with. */
bool jinja_build_dict(struct jinja_render *render, const struct jinja_call *call,
                      struct jinja_dict **out);

/* --- operators (template_operator.c) --- */
bool jinja_binary(struct jinja_render *render, enum jinja_operator op, struct jinja_value a,
                  struct jinja_value b, struct jinja_value *out);
bool jinja_comparison(struct jinja_render *render, enum jinja_operator op, struct jinja_value a,
                      struct jinja_value b, bool *out);
bool jinja_negate(struct jinja_render *render, struct jinja_value value, bool minus,
                  struct jinja_value *out);
/* The bounds are integers, none, or JINJA_MISSING. */
bool jinja_slice(struct jinja_render *render, struct jinja_value object,
                 const struct jinja_value bounds[3], struct jinja_value *out);
/* Characters first … of a string, `count` of them, `step` apart. */
bool jinja_substring(struct jinja_render *render, const struct jinja_string *string, size_t first,
                     size_t count, struct jinja_value *out);

/* --- attributes and elements (template_attribute.c) --- */
/* object.name: the attribute first, then the element. */
bool jinja_get_attribute(struct jinja_render *render, struct jinja_value object,
                         const struct jinja_name *name, struct jinja_value *out);
/* object[key]: the element first, then the attribute. Undefined when there is neither. */
bool jinja_get_item(struct jinja_render *render, struct jinja_value object, struct jinja_value key,
                    struct jinja_value *out);
/* The attribute alone; *found false when there is none. */
bool jinja_find_attribute(struct jinja_render *render, struct jinja_value object,
                          struct text_view name, struct jinja_value *out, bool *found);
/* "a.b.0,c" as filters take it: one path of it applied to an item. `fallback` (or JINJA_MISSING)
 * stands for every undefined on the way. */
bool jinja_get_path(struct jinja_render *render, struct jinja_value object, struct jinja_value path,
                    struct jinja_value fallback, struct jinja_value *out);

/* The methods of strings (template_method.c) and of everything else (template_attribute.c), both
 * sorted by name. */
const struct jinja_builtin *jinja_find_string_method(struct text_view name);

/* --- iteration (template_iterate.c) --- */
enum jinja_advance { JINJA_ITEM, JINJA_END, JINJA_ERROR };

struct jinja_iterator {
    struct jinja_value source;
    size_t position; /* items, or bytes of a string */
    bool backwards;
};

/* An error when the value cannot be iterated over. */
bool jinja_iterate(struct jinja_render *render, struct jinja_value value,
                   struct jinja_iterator *iterator);
bool jinja_is_iterable(struct jinja_value value);
enum jinja_advance jinja_next(struct jinja_render *render, struct jinja_iterator *iterator,
                              struct jinja_value *out);
/* list(value) */
bool jinja_to_list(struct jinja_render *render, struct jinja_value value,
                   struct jinja_items *items);

enum jinja_generator_kind {
    GENERATOR_MAP,    /* items through `builtin` or an attribute path */
    GENERATOR_SELECT, /* items for which a test, or their truth, is not `negated` */
    GENERATOR_LIST,   /* `builtin` on the source gives a list when the first item is asked for */
    GENERATOR_REVERSED,
};

struct jinja_generator {
    enum jinja_generator_kind kind;
    const struct jinja_builtin *builtin;
    struct jinja_call call; /* for the builtin, without the item */
    struct jinja_value source;
    struct jinja_iterator iterator;
    struct jinja_value path; /* attribute to look at, or JINJA_MISSING */
    struct jinja_value fallback;
    bool negated;
    bool started;
};

/* A loop that is running; also the value of `loop`. */
struct jinja_loop {
    struct jinja_iterator iterator;
    const struct jinja_for *node;
    struct jinja_activation *test_activation; /* NULL: no filter */
    struct jinja_value iterable;
    struct jinja_value current;
    struct jinja_value before;
    struct jinja_value after;   /* looked at before its time, or JINJA_MISSING */
    struct jinja_value changed; /* the arguments of the last loop.changed() */
    size_t index0;
    size_t length;
    bool length_known;
};
enum jinja_advance jinja_loop_next(struct jinja_render *render, struct jinja_loop *loop);
enum jinja_advance jinja_loop_peek(struct jinja_render *render, struct jinja_loop *loop);
bool jinja_loop_length(struct jinja_render *render, struct jinja_loop *loop, size_t *length);

/* --- text (template_format.c, template_time.c) --- */
/* format % values, and format.format(…). */
bool jinja_percent_format(struct jinja_render *render, const struct jinja_string *format,
                          struct jinja_value values, struct jinja_value *out);
bool jinja_brace_format(struct jinja_render *render, const struct jinja_string *format,
                        const struct jinja_call *call, struct jinja_value *out);
bool jinja_print_time(struct jinja_render *render, int64_t unix_time, struct text_view format);
/* Rounds half to even in decimal, as round() does. */
double jinja_round_float(double value, int64_t digits);
/* Whether a UTF-8 text occurs in another from `from` on: its offset, or SIZE_MAX. */
size_t jinja_find(struct text_view text, struct text_view wanted, size_t from);

/* --- Python's text operations (template_text.c) --- */
enum jinja_case_mode { CASE_LOWER, CASE_UPPER, CASE_TITLE, CASE_CAPITALIZE, CASE_SWAP };
bool jinja_put_case(struct jinja_render *render, struct text_view text, enum jinja_case_mode mode);
bool jinja_change_case(struct jinja_render *render, const struct jinja_string *string,
                       enum jinja_case_mode mode, struct jinja_value *out);
/* str.strip on a view; a NULL `characters` means white space. */
struct text_view jinja_strip(struct text_view text, const struct text_view *characters, bool left,
                             bool right);
/* Every `old`, or the first `limit` of them, replaced; a negative limit means all. */
bool jinja_put_replaced(struct jinja_render *render, struct text_view text, struct text_view old,
                        struct text_view fresh, int64_t limit);
/* Cuts the next line off *rest without its end, as str.splitlines does; false at the end.
 * *line_end gets the bytes of the line's end. */
bool jinja_next_line(struct text_view *rest, struct text_view *line, size_t *line_end);
/* `string` between blanks so that it is `width` wide, as str.center places it. */
bool jinja_center(struct jinja_render *render, const struct jinja_string *string, int64_t width,
                  uint32_t fill, struct jinja_value *out);
/* Ends a capture whose text stays markup when `source` was. */
bool jinja_capture_like(struct jinja_render *render, size_t mark, const struct jinja_string *source,
                        struct jinja_value *out);
/* What str.islower and its like say. */
bool jinja_text_is_cased(struct text_view text, bool upper);

#endif
