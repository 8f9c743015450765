/* A parsed template: its syntax tree, its names, and the functions and scopes that the names were
 * resolved to. Immutable once template_parse has returned it. */
#ifndef TEXT_TEMPLATE_NODE_H
#define TEXT_TEMPLATE_NODE_H

#include "base/arena.h"
#include "text/template_value.h"

enum jinja_node_kind {
    /* expressions */
    NODE_CONSTANT,
    NODE_NAME,
    NODE_TUPLE,
    NODE_LIST,
    NODE_DICT,    /* keys and values alternate */
    NODE_BINARY,  /* first, then OPERANDs, from left to right */
    NODE_COMPARE, /* the same, chained as Python chains comparisons */
    NODE_CONCAT,  /* a ~ b ~ c */
    NODE_AND,
    NODE_OR,
    NODE_NOT,
    NODE_NEGATE,
    NODE_PLUS,
    NODE_CONDITION, /* then if test else otherwise */
    NODE_POSTFIX,   /* first, then the steps below in turn */
    /* parts of expressions */
    NODE_OPERAND,
    NODE_KEYWORD,
    NODE_ATTRIBUTE,
    NODE_ITEM,
    NODE_SLICE,
    NODE_CALL,
    NODE_FILTER,
    NODE_TEST,
    /* targets of assignments: these, and TUPLEs of them */
    NODE_STORE,
    NODE_STORE_ATTRIBUTE, /* of a namespace */
    /* statements */
    NODE_TEXT,
    NODE_OUTPUT,
    NODE_DO,
    NODE_IF,
    NODE_FOR,
    NODE_SET,
    NODE_SET_BLOCK,
    NODE_MACRO,
    NODE_CALL_BLOCK,
    NODE_FILTER_BLOCK,
    NODE_WITH,
    NODE_SCOPE,
    NODE_BREAK,
    NODE_CONTINUE,
};

enum jinja_operator {
    OPERATOR_ADD,
    OPERATOR_SUBTRACT,
    OPERATOR_MULTIPLY,
    OPERATOR_DIVIDE,
    OPERATOR_FLOOR_DIVIDE,
    OPERATOR_MODULO,
    OPERATOR_POWER,
    OPERATOR_EQ,
    OPERATOR_NE,
    OPERATOR_LT,
    OPERATOR_LE,
    OPERATOR_GT,
    OPERATOR_GE,
    OPERATOR_IN,
    OPERATOR_NOT_IN,
};

/* One name of the template, wherever it occurs. */
struct jinja_name {
    struct jinja_value string;
    struct jinja_value undefined; /* what it is when nothing is bound to it */
    uint32_t id;
    bool builtin_attribute;         /* some builtin type has an attribute of this name */
    struct jinja_name *next;        /* in its hash chain */
    struct jinja_symbol *innermost; /* while scopes are being resolved */
};

/* Where a variable lives: `hops` functions outwards, in slot `slot`. */
struct jinja_place {
    uint32_t hops;
    uint32_t slot;
};

enum jinja_load {
    LOAD_PARAMETER, /* bound by the statement itself */
    LOAD_RESOLVE,   /* from the context or the globals */
    LOAD_ALIAS,     /* starts with the value of the same name further out */
    LOAD_UNDEFINED,
};

/* A variable of a scope, and how it starts each time the scope is entered. */
struct jinja_symbol {
    struct jinja_name *name;
    struct jinja_scope *scope;
    struct jinja_symbol *shadowed; /* while resolving: the next one out */
    struct jinja_symbol *next;     /* in its scope */
    struct jinja_place source;     /* of an ALIAS */
    uint32_t slot;
    uint8_t load; /* enum jinja_load */
};

struct jinja_scope {
    struct jinja_symbol *symbols;
    struct jinja_symbol **tail;
    struct jinja_scope *outer;
    struct jinja_body *function;
    uint32_t count;
};

/* A body of code with variables of its own: the template, a macro, a call block, a loop's filter.
 * Each call of it makes one activation with `slot_count` slots. */
struct jinja_body {
    struct jinja_body *outer;
    uint32_t slot_count;
};

struct jinja_arguments {
    struct jinja_node *positional;
    struct jinja_node *keywords;
    struct jinja_node *star;
    struct jinja_node *star_star;
    uint32_t positional_count;
    uint32_t keyword_count;
};

struct jinja_for {
    struct jinja_node *target;
    struct jinja_node *iterable;
    struct jinja_node *test;
    struct jinja_node *body;
    struct jinja_node *otherwise;
    struct jinja_node *test_target; /* the same target, bound in the filter's own scope */
    struct jinja_scope *scope;
    struct jinja_scope *else_scope;
    struct jinja_scope *test_scope;
    struct jinja_body *test_body;
    bool extended; /* the body speaks of `loop` */
    uint32_t loop_slot;
};

struct jinja_parameter {
    struct jinja_name *name;
    struct jinja_node *fallback;  /* default value or NULL */
    struct jinja_value undefined; /* what it is without one */
    uint32_t slot;
};

/* A macro or the body of a call block. */
struct jinja_function_node {
    struct jinja_name *name; /* NULL: the body of a call block */
    struct jinja_parameter *parameters;
    uint32_t parameter_count;
    struct jinja_node *body_nodes;
    struct jinja_scope *scope;
    struct jinja_body body;
    bool takes_caller;
    bool takes_kwargs;
    bool takes_varargs;
    bool explicit_caller; /* `caller` is an ordinary parameter */
    uint32_t caller_slot;
    uint32_t kwargs_slot;
    uint32_t varargs_slot;
    struct jinja_place place; /* of the variable that holds the macro */
    uint32_t offset;
};

struct jinja_node {
    uint8_t kind;    /* enum jinja_node_kind */
    uint8_t op;      /* enum jinja_operator; of a TEST 1: negated; of a NAME 1: never missing */
    uint32_t offset; /* in the normalised source */
    struct jinja_node *next;
    union {
        struct jinja_value constant;
        struct {
            struct jinja_name *name;
            struct jinja_place place;
        } name; /* NAME, STORE */
        struct {
            struct jinja_name *name;
            struct jinja_name *attribute;
            struct jinja_place place;
        } store_attribute;
        struct {
            struct jinja_node *first;
            uint32_t count;
        } list; /* TUPLE, LIST, DICT, CONCAT, AND, OR */
        struct {
            struct jinja_node *first;
            struct jinja_node *rest;
        } chain;                    /* BINARY, COMPARE, POSTFIX */
        struct jinja_node *operand; /* NOT, NEGATE, PLUS, OPERAND, ITEM, OUTPUT, DO */
        struct {
            struct jinja_node *test;
            struct jinja_node *then;
            struct jinja_node *otherwise;
        } condition; /* CONDITION; IF: then and otherwise are statements */
        struct {
            struct jinja_node *start;
            struct jinja_node *stop;
            struct jinja_node *step;
        } slice;
        struct jinja_name *attribute;
        struct {
            const struct jinja_builtin *builtin; /* NULL of a CALL */
            struct jinja_arguments *arguments;
        } invoke; /* CALL, FILTER, TEST */
        struct {
            struct jinja_name *name;
            struct jinja_node *value;
        } keyword;
        struct text_view text;
        struct {
            struct jinja_node *target;
            struct jinja_node *value; /* SET_BLOCK: filters as a POSTFIX whose first is NULL */
            struct jinja_node *body;
            struct jinja_scope *scope;
        } set; /* SET, SET_BLOCK; FILTER_BLOCK has value, body and scope */
        struct jinja_for *loop;
        struct jinja_function_node *macro;
        struct {
            struct jinja_function_node *function;
            struct jinja_node *call; /* a POSTFIX that ends with the CALL */
        } call_block;
        struct {
            struct jinja_node *targets;
            struct jinja_node *values;
            struct jinja_node *body;
            struct jinja_scope *scope;
        } with; /* WITH, SCOPE */
    };
};

#define JINJA_NAME_BUCKETS 256u
#define JINJA_NAMES_MAX    16384u
#define JINJA_KEYWORDS_MAX 256u

struct template
{
    struct arena arena;
    struct text_view original; /* the source as it was given */
    struct text_view source;   /* newlines normalised, one trailing newline dropped */
    uint64_t seed;
    struct jinja_name *names[JINJA_NAME_BUCKETS];
    struct jinja_name **name_list; /* by id, made at the end */
    uint32_t name_count;
    struct jinja_node *nodes;
    struct jinja_scope *scope;
    struct jinja_body body;
};

struct template_position {
    uint64_t offset; /* in the original source */
    uint32_t line;   /* from 1 */
    uint32_t column; /* in characters, from 1 */
};

/* Where an offset of the normalised source lies for the author. */
struct template_position template_position(const struct template *template, uint32_t offset);

/* Builds the tree from template->source. */
llcuda_status template_parse_nodes(struct template *template, struct llcuda_error *error);
/* Names variables with their places: fills in every NAME, STORE and scope of the tree. */
llcuda_status template_resolve(struct template *template, struct llcuda_error *error);

/* The filter, test or global function of this name, or NULL. */
const struct jinja_builtin *jinja_find_filter(struct text_view name);
const struct jinja_builtin *jinja_find_test(struct text_view name);
const struct jinja_builtin *jinja_find_global(struct text_view name);
/* Whether some builtin type has an attribute of this name. */
bool jinja_is_builtin_attribute(struct text_view name);

#endif
