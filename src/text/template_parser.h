/* The parser's state, shared by its two halves: statements (template_parser.c) and expressions
 * (template_expression.c). Functions return NULL or false after a failure, which is in
 * parser->status. */
#ifndef TEXT_TEMPLATE_PARSER_H
#define TEXT_TEMPLATE_PARSER_H

#include "text/template_lexer.h"
#include "text/template_node.h"

struct jinja_parser {
    struct template *template;
    struct llcuda_error *error;
    llcuda_status status;
    struct jinja_lexer lexer;
    struct jinja_token current;
    struct jinja_token ahead;
    bool has_ahead;
    uint32_t depth;
    uint32_t loop_depth; /* loops around, within the same function: what `break` may leave */
};

/* A list of nodes being made. */
struct jinja_node_list {
    struct jinja_node *first;
    struct jinja_node *last;
    uint32_t count;
};

/* --- tokens --- */
bool parser_advance(struct jinja_parser *parser);
/* Looks at the token after the current one; NULL after an error. */
const struct jinja_token *parser_peek(struct jinja_parser *parser);
bool parser_is_name(const struct jinja_parser *parser, const char *name);
bool parser_expect(struct jinja_parser *parser, enum jinja_token_kind kind, const char *what);
/* Skips the current token when it is of this kind; *skipped tells. False after an error only. */
bool parser_skip_if(struct jinja_parser *parser, enum jinja_token_kind kind, bool *skipped);
bool parser_skip_name(struct jinja_parser *parser, const char *name, bool *skipped);

/* Whether the current token is a name that may be assigned to: none of the constants. */
bool parser_is_assignable(const struct jinja_parser *parser);

/* --- failures: return false --- */
bool parser_fail(struct jinja_parser *parser, uint32_t offset, const char *format, ...)
    BASE_PRINTF(3, 4);
bool parser_fail_unsupported(struct jinja_parser *parser, uint32_t offset, const char *format, ...)
    BASE_PRINTF(3, 4);
bool parser_enter(struct jinja_parser *parser);

/* --- making nodes --- */
void *parser_alloc(struct jinja_parser *parser, size_t count, size_t size);
struct jinja_node *parser_node(struct jinja_parser *parser, enum jinja_node_kind kind,
                               uint32_t offset);
void parser_append(struct jinja_node_list *list, struct jinja_node *node);
struct jinja_name *parser_name(struct jinja_parser *parser, struct text_view text);
bool parser_constant_string(struct jinja_parser *parser, struct text_view text,
                            struct jinja_value *out);

/* --- expressions --- */
struct jinja_node *parse_expression(struct jinja_parser *parser);
/* What may stand in a tuple. */
struct jinja_tuple_rules {
    bool simplified;   /* names and literals only: the target of an assignment */
    bool namespaces;   /* a.b is a namespace attribute */
    bool no_condition; /* "x if y" is not part of it */
    bool parentheses;  /* an empty tuple is fine */
};
struct jinja_node *parse_tuple(struct jinja_parser *parser, struct jinja_tuple_rules rules);
/* A name, a tuple of names, with `namespaces` also a.b. */
struct jinja_node *parse_target(struct jinja_parser *parser, bool namespaces);
/* "| filter | filter …" on nothing, for set and filter blocks: a POSTFIX without a first node.
 * `inline_first`: the first name stands without its bar. */
struct jinja_node *parse_filters(struct jinja_parser *parser, bool inline_first);

#endif
