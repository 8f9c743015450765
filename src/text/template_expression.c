/* Owns the grammar of expressions. Follows jinja2's parser, precedence by precedence. Chains of
 * one precedence (a + b + c, x.y[z](w)|f) become one node with a list, so that only true nesting
 * costs depth. Recursion is bounded by parser_enter in parse_condition, parse_not and parse_unary,
 * through which every recursion passes. */
#include "text/template_parser.h"

static struct jinja_node *parse_primary(struct jinja_parser *parser, bool namespaces);
static struct jinja_node *parse_unary(struct jinja_parser *parser, bool with_filter);

/* --- chains --- */

/* Adds an OPERAND to a chain node, which is made around `*left` when there is none yet. */
static bool add_operand(struct jinja_parser *parser, enum jinja_node_kind kind,
                        struct jinja_node **left, struct jinja_node_list *rest,
                        enum jinja_operator op, uint32_t offset, struct jinja_node *right)
{
    struct jinja_node *operand = parser_node(parser, NODE_OPERAND, offset);
    if (!operand || !right) {
        return false;
    }
    if (!rest->first) {
        struct jinja_node *chain = parser_node(parser, kind, (*left)->offset);
        if (!chain) {
            return false;
        }
        chain->chain.first = *left;
        chain->chain.rest = operand;
        *left = chain;
    }
    operand->op = (uint8_t)op;
    operand->operand = right;
    parser_append(rest, operand);
    return true;
}

/* --- calls, filters, tests --- */

static bool parse_argument(struct jinja_parser *parser, struct jinja_arguments *arguments,
                           struct jinja_node_list *positional, struct jinja_node_list *keywords)
{
    uint32_t offset = parser->current.offset;
    if (parser->current.kind == TOKEN_MULTIPLY || parser->current.kind == TOKEN_POWER) {
        bool twice = parser->current.kind == TOKEN_POWER;
        if (arguments->star_star || (!twice && arguments->star)) {
            return parser_fail(parser, offset, "this argument is out of order");
        }
        struct jinja_node **slot = twice ? &arguments->star_star : &arguments->star;
        return parser_advance(parser) && (*slot = parse_expression(parser)) != NULL;
    }
    const struct jinja_token *ahead =
        parser->current.kind == TOKEN_NAME ? parser_peek(parser) : &parser->current;
    if (!ahead) {
        return false;
    }
    if (parser->current.kind == TOKEN_NAME && ahead->kind == TOKEN_ASSIGN) {
        struct jinja_node *keyword = parser_node(parser, NODE_KEYWORD, offset);
        if (arguments->star_star) {
            return parser_fail(parser, offset, "this argument is out of order");
        }
        if (!keyword || !(keyword->keyword.name = parser_name(parser, parser->current.text)) ||
            !parser_advance(parser) || !parser_advance(parser) ||
            !(keyword->keyword.value = parse_expression(parser))) {
            return false;
        }
        for (struct jinja_node *other = keywords->first; other; other = other->next) {
            if (other->keyword.name == keyword->keyword.name) {
                return parser_fail(parser, offset, "this keyword is given twice");
            }
        }
        parser_append(keywords, keyword);
        return true;
    }
    if (arguments->star || arguments->star_star || keywords->count) {
        return parser_fail(parser, offset, "this argument is out of order");
    }
    struct jinja_node *value = parse_expression(parser);
    if (value) {
        parser_append(positional, value);
    }
    return value != NULL;
}

/* "(a, b, c=1, *d, **e)" */
static struct jinja_arguments *parse_arguments(struct jinja_parser *parser)
{
    struct jinja_arguments *arguments = parser_alloc(parser, 1, sizeof *arguments);
    struct jinja_node_list positional = {0};
    struct jinja_node_list keywords = {0};
    if (!arguments || !parser_expect(parser, TOKEN_LEFT_PAREN, "'('")) {
        return NULL;
    }
    bool comma = false;
    while (parser->current.kind != TOKEN_RIGHT_PAREN) {
        if (comma && !parser_expect(parser, TOKEN_COMMA, "a comma or ')'")) {
            return NULL;
        }
        if (comma && parser->current.kind == TOKEN_RIGHT_PAREN) {
            break;
        }
        if (!parse_argument(parser, arguments, &positional, &keywords)) {
            return NULL;
        }
        if (keywords.count > JINJA_KEYWORDS_MAX) {
            parser_fail(parser, parser->current.offset, "too many keyword arguments");
            return NULL;
        }
        comma = true;
    }
    arguments->positional = positional.first;
    arguments->positional_count = positional.count;
    arguments->keywords = keywords.first;
    arguments->keyword_count = keywords.count;
    return parser_advance(parser) ? arguments : NULL;
}

static struct jinja_node *parse_call(struct jinja_parser *parser)
{
    struct jinja_node *node = parser_node(parser, NODE_CALL, parser->current.offset);
    if (!node || !(node->invoke.arguments = parse_arguments(parser))) {
        return NULL;
    }
    return node;
}

/* The current token is the filter's name. */
static struct jinja_node *parse_filter(struct jinja_parser *parser)
{
    struct jinja_token name = parser->current;
    struct jinja_node *node = parser_node(parser, NODE_FILTER, name.offset);
    if (!node || !parser_expect(parser, TOKEN_NAME, "the name of a filter")) {
        return NULL;
    }
    node->invoke.builtin = jinja_find_filter(name.text);
    if (!node->invoke.builtin || parser->current.kind == TOKEN_DOT) {
        parser_fail_unsupported(parser, name.offset, "no filter named '%.*s' is supported",
                                TEXT_ARGUMENTS(name.text));
        return NULL;
    }
    if (parser->current.kind == TOKEN_LEFT_PAREN &&
        !(node->invoke.arguments = parse_arguments(parser))) {
        return NULL;
    }
    return node;
}

static struct jinja_node *parse_postfix(struct jinja_parser *parser, struct jinja_node *node);

/* A test's argument may stand without parentheses: "is divisibleby 3". */
static bool has_bare_argument(const struct jinja_parser *parser)
{
    switch (parser->current.kind) {
    case TOKEN_NAME:
        return !parser_is_name(parser, "else") && !parser_is_name(parser, "or") &&
               !parser_is_name(parser, "and");
    case TOKEN_STRING:
    case TOKEN_INTEGER:
    case TOKEN_FLOAT:
    case TOKEN_LEFT_BRACKET:
    case TOKEN_LEFT_BRACE:
        return true;
    default:
        return false;
    }
}

/* The current token is "is". */
static struct jinja_node *parse_test(struct jinja_parser *parser)
{
    struct jinja_node *node = parser_node(parser, NODE_TEST, parser->current.offset);
    bool negated;
    if (!node || !parser_advance(parser) || !parser_skip_name(parser, "not", &negated)) {
        return NULL;
    }
    node->op = negated;
    struct jinja_token name = parser->current;
    if (!parser_expect(parser, TOKEN_NAME, "the name of a test")) {
        return NULL;
    }
    node->invoke.builtin = jinja_find_test(name.text);
    if (!node->invoke.builtin || parser->current.kind == TOKEN_DOT) {
        parser_fail_unsupported(parser, name.offset, "no test named '%.*s' is supported",
                                TEXT_ARGUMENTS(name.text));
        return NULL;
    }
    if (parser->current.kind == TOKEN_LEFT_PAREN) {
        node->invoke.arguments = parse_arguments(parser);
        return node->invoke.arguments ? node : NULL;
    }
    if (!has_bare_argument(parser)) {
        return node;
    }
    if (parser_is_name(parser, "is")) {
        parser_fail(parser, parser->current.offset, "tests cannot be chained with 'is'");
        return NULL;
    }
    struct jinja_node *argument = parse_primary(parser, false);
    struct jinja_arguments *arguments = parser_alloc(parser, 1, sizeof *arguments);
    if (!argument || !arguments || !(argument = parse_postfix(parser, argument))) {
        return NULL;
    }
    arguments->positional = argument;
    arguments->positional_count = 1;
    node->invoke.arguments = arguments;
    return node;
}

/* --- subscripts --- */

/* One piece of "[…]": an expression or a slice. */
static struct jinja_node *parse_subscribed(struct jinja_parser *parser)
{
    uint32_t offset = parser->current.offset;
    struct jinja_node *start = NULL;
    if (parser->current.kind != TOKEN_COLON) {
        start = parse_expression(parser);
        if (!start || parser->current.kind != TOKEN_COLON) {
            return start;
        }
    }
    struct jinja_node *slice = parser_node(parser, NODE_SLICE, offset);
    if (!slice || !parser_advance(parser)) {
        return NULL;
    }
    slice->slice.start = start;
    if (parser->current.kind != TOKEN_COLON && parser->current.kind != TOKEN_RIGHT_BRACKET &&
        parser->current.kind != TOKEN_COMMA && !(slice->slice.stop = parse_expression(parser))) {
        return NULL;
    }
    if (parser->current.kind == TOKEN_COLON) {
        if (!parser_advance(parser)) {
            return NULL;
        }
        if (parser->current.kind != TOKEN_RIGHT_BRACKET && parser->current.kind != TOKEN_COMMA &&
            !(slice->slice.step = parse_expression(parser))) {
            return NULL;
        }
    }
    return slice;
}

static struct jinja_node *parse_bracket(struct jinja_parser *parser, uint32_t offset)
{
    struct jinja_node_list list = {0};
    bool has_slice = false;
    while (parser->current.kind != TOKEN_RIGHT_BRACKET) {
        if (list.count && !parser_expect(parser, TOKEN_COMMA, "a comma or ']'")) {
            return NULL;
        }
        struct jinja_node *piece = parse_subscribed(parser);
        if (!piece) {
            return NULL;
        }
        has_slice = has_slice || piece->kind == NODE_SLICE;
        parser_append(&list, piece);
    }
    if (!parser_advance(parser)) {
        return NULL;
    }
    if (list.count == 1 && has_slice) {
        return list.first;
    }
    if (has_slice) {
        parser_fail(parser, offset, "a slice stands alone in its brackets");
        return NULL;
    }
    struct jinja_node *item = parser_node(parser, NODE_ITEM, offset);
    if (!item) {
        return NULL;
    }
    item->operand = list.first;
    if (list.count != 1) {
        item->operand = parser_node(parser, NODE_TUPLE, offset);
        if (!item->operand) {
            return NULL;
        }
        item->operand->list.first = list.first;
        item->operand->list.count = list.count;
    }
    return item;
}

/* ".name", ".0" or "[…]" */
static struct jinja_node *parse_subscript(struct jinja_parser *parser)
{
    struct jinja_token token = parser->current;
    if (!parser_advance(parser)) {
        return NULL;
    }
    if (token.kind == TOKEN_LEFT_BRACKET) {
        return parse_bracket(parser, token.offset);
    }
    struct jinja_token name = parser->current;
    if (name.kind == TOKEN_NAME) {
        struct jinja_node *node = parser_node(parser, NODE_ATTRIBUTE, token.offset);
        if (!node || !(node->attribute = parser_name(parser, name.text))) {
            return NULL;
        }
        return parser_advance(parser) ? node : NULL;
    }
    if (name.kind != TOKEN_INTEGER) {
        parser_fail(parser, name.offset, "a name or number is expected after '.'");
        return NULL;
    }
    struct jinja_node *node = parser_node(parser, NODE_ITEM, token.offset);
    if (!node || !(node->operand = parser_node(parser, NODE_CONSTANT, name.offset))) {
        return NULL;
    }
    node->operand->constant = jinja_integer(name.integer);
    return parser_advance(parser) ? node : NULL;
}

/* Adds a step to a POSTFIX chain, which is made around `*node` when there is none yet. */
static bool add_step(struct jinja_parser *parser, struct jinja_node **node,
                     struct jinja_node_list *steps, struct jinja_node *step)
{
    if (!step) {
        return false;
    }
    if (!steps->first) {
        struct jinja_node *chain = parser_node(parser, NODE_POSTFIX, step->offset);
        if (!chain) {
            return false;
        }
        chain->chain.first = *node;
        chain->chain.rest = step;
        *node = chain;
    }
    parser_append(steps, step);
    return true;
}

/* `node` may be a chain that was built before: its steps are continued. */
static struct jinja_node_list steps_of(struct jinja_node *node)
{
    struct jinja_node_list steps = {0};
    if (node->kind == NODE_POSTFIX) {
        steps.first = node->chain.rest;
        for (steps.last = steps.first; steps.last->next; steps.last = steps.last->next) {
        }
    }
    return steps;
}

static struct jinja_node *parse_steps(struct jinja_parser *parser, struct jinja_node *node,
                                      bool with_filter)
{
    struct jinja_node_list steps = steps_of(node);
    for (;;) {
        struct jinja_node *step;
        if (parser->current.kind == TOKEN_LEFT_PAREN) {
            step = parse_call(parser);
        } else if (!with_filter && (parser->current.kind == TOKEN_DOT ||
                                    parser->current.kind == TOKEN_LEFT_BRACKET)) {
            step = parse_subscript(parser);
        } else if (with_filter && parser->current.kind == TOKEN_PIPE) {
            step = parser_advance(parser) ? parse_filter(parser) : NULL;
        } else if (with_filter && parser_is_name(parser, "is")) {
            step = parse_test(parser);
        } else {
            return node;
        }
        if (!add_step(parser, &node, &steps, step)) {
            return NULL;
        }
    }
}

static struct jinja_node *parse_postfix(struct jinja_parser *parser, struct jinja_node *node)
{
    return parse_steps(parser, node, false);
}

struct jinja_node *parse_filters(struct jinja_parser *parser, bool inline_first)
{
    struct jinja_node *node = parser_node(parser, NODE_POSTFIX, parser->current.offset);
    struct jinja_node_list steps = {0};
    if (!node) {
        return NULL;
    }
    while (inline_first || parser->current.kind == TOKEN_PIPE) {
        if (!inline_first && !parser_advance(parser)) {
            return NULL;
        }
        inline_first = false;
        struct jinja_node *step = parse_filter(parser);
        if (!step) {
            return NULL;
        }
        parser_append(&steps, step);
    }
    node->chain.rest = steps.first;
    return node;
}

/* --- literals and names --- */

static struct jinja_node *constant(struct jinja_parser *parser, uint32_t offset,
                                   struct jinja_value value)
{
    struct jinja_node *node = parser_node(parser, NODE_CONSTANT, offset);
    if (node) {
        node->constant = value;
    }
    return node;
}

static struct jinja_node *parse_name(struct jinja_parser *parser, bool namespaces)
{
    struct jinja_token token = parser->current;
    if (!parser_advance(parser)) {
        return NULL;
    }
    if (text_view_is(token.text, "true") || text_view_is(token.text, "True")) {
        return constant(parser, token.offset, jinja_bool(true));
    }
    if (text_view_is(token.text, "false") || text_view_is(token.text, "False")) {
        return constant(parser, token.offset, jinja_bool(false));
    }
    if (text_view_is(token.text, "none") || text_view_is(token.text, "None")) {
        return constant(parser, token.offset, jinja_none());
    }
    struct jinja_node *node = parser_node(parser, NODE_NAME, token.offset);
    if (!node || !(node->name.name = parser_name(parser, token.text))) {
        return NULL;
    }
    if (namespaces && parser->current.kind == TOKEN_DOT) {
        struct jinja_name *name = node->name.name;
        node->kind = NODE_STORE_ATTRIBUTE;
        node->store_attribute.name = name;
        if (!parser_advance(parser)) {
            return NULL;
        }
        struct text_view attribute = parser->current.text;
        if (!parser_expect(parser, TOKEN_NAME, "the name of an attribute") ||
            !(node->store_attribute.attribute = parser_name(parser, attribute))) {
            return NULL;
        }
    }
    return node;
}

/* Adjacent literals are one string. */
static struct jinja_node *parse_string(struct jinja_parser *parser)
{
    uint32_t offset = parser->current.offset;
    struct text_view text = parser->current.text;
    if (!parser_advance(parser)) {
        return NULL;
    }
    struct buffer joined;
    buffer_init(&joined, 0);
    bool ok = true;
    if (parser->current.kind == TOKEN_STRING) {
        buffer_append_view(&joined, text);
        while (ok && parser->current.kind == TOKEN_STRING) {
            buffer_append_view(&joined, parser->current.text);
            ok = parser_advance(parser);
        }
        text = arena_copy_text(&parser->template->arena, buffer_view(&joined));
        if (ok && (joined.failed || !text.data)) {
            parser->status = error_no_memory(parser->error, "a chat template", joined.length);
            ok = false;
        }
    }
    buffer_deinit(&joined);
    struct jinja_value value;
    if (!ok || !parser_constant_string(parser, text, &value)) {
        return NULL;
    }
    return constant(parser, offset, value);
}

static struct jinja_node *make_list(struct jinja_parser *parser, enum jinja_node_kind kind,
                                    uint32_t offset, const struct jinja_node_list *list)
{
    struct jinja_node *node = parser_node(parser, kind, offset);
    if (node) {
        node->list.first = list->first;
        node->list.count = list->count;
    }
    return node;
}

/* "[a, b]" and "{a: b}"; a comma may end them. */
static struct jinja_node *parse_collection(struct jinja_parser *parser)
{
    struct jinja_token open = parser->current;
    bool dict = open.kind == TOKEN_LEFT_BRACE;
    enum jinja_token_kind close = dict ? TOKEN_RIGHT_BRACE : TOKEN_RIGHT_BRACKET;
    struct jinja_node_list list = {0};
    if (!parser_advance(parser)) {
        return NULL;
    }
    while (parser->current.kind != (uint8_t)close) {
        if (list.count && !parser_expect(parser, TOKEN_COMMA, "a comma or the closing bracket")) {
            return NULL;
        }
        if (parser->current.kind == (uint8_t)close) {
            break;
        }
        struct jinja_node *item = parse_expression(parser);
        if (!item) {
            return NULL;
        }
        parser_append(&list, item);
        if (dict) {
            struct jinja_node *value;
            if (!parser_expect(parser, TOKEN_COLON, "':'") || !(value = parse_expression(parser))) {
                return NULL;
            }
            parser_append(&list, value);
        }
    }
    if (!parser_advance(parser)) {
        return NULL;
    }
    return make_list(parser, dict ? NODE_DICT : NODE_LIST, open.offset, &list);
}

static struct jinja_node *parse_number(struct jinja_parser *parser)
{
    struct jinja_token token = parser->current;
    if (!parser_advance(parser)) {
        return NULL;
    }
    return constant(parser, token.offset,
                    token.kind == TOKEN_INTEGER ? jinja_integer(token.integer)
                                                : jinja_float(token.number));
}

static struct jinja_node *parse_parentheses(struct jinja_parser *parser)
{
    struct jinja_tuple_rules rules = {.parentheses = true};
    if (!parser_advance(parser)) {
        return NULL;
    }
    struct jinja_node *node = parse_tuple(parser, rules);
    return node && parser_expect(parser, TOKEN_RIGHT_PAREN, "')'") ? node : NULL;
}

static struct jinja_node *parse_primary(struct jinja_parser *parser, bool namespaces)
{
    switch (parser->current.kind) {
    case TOKEN_NAME:
        return parse_name(parser, namespaces);
    case TOKEN_STRING:
        return parse_string(parser);
    case TOKEN_INTEGER:
    case TOKEN_FLOAT:
        return parse_number(parser);
    case TOKEN_LEFT_PAREN:
        return parse_parentheses(parser);
    case TOKEN_LEFT_BRACKET:
    case TOKEN_LEFT_BRACE:
        return parse_collection(parser);
    default:
        parser_fail(parser, parser->current.offset, "an expression is expected here");
        return NULL;
    }
}

/* --- operators, tightest first --- */

static struct jinja_node *parse_signed(struct jinja_parser *parser)
{
    enum jinja_node_kind kind = parser->current.kind == TOKEN_SUBTRACT ? NODE_NEGATE : NODE_PLUS;
    struct jinja_node *node = parser_node(parser, kind, parser->current.offset);
    if (!node || !parser_advance(parser) || !parser_enter(parser) ||
        !(node->operand = parse_unary(parser, false))) {
        return NULL;
    }
    parser->depth--;
    return node;
}

static struct jinja_node *parse_unary(struct jinja_parser *parser, bool with_filter)
{
    bool is_signed = parser->current.kind == TOKEN_SUBTRACT || parser->current.kind == TOKEN_ADD;
    struct jinja_node *node = is_signed ? parse_signed(parser) : parse_primary(parser, false);
    if (node) {
        node = parse_postfix(parser, node);
    }
    return node && with_filter ? parse_steps(parser, node, true) : node;
}

static struct jinja_node *parse_power(struct jinja_parser *parser)
{
    struct jinja_node *left = parse_unary(parser, true);
    struct jinja_node_list rest = {0};
    while (left && parser->current.kind == TOKEN_POWER) {
        uint32_t offset = parser->current.offset;
        if (!parser_advance(parser) ||
            !add_operand(parser, NODE_BINARY, &left, &rest, OPERATOR_POWER, offset,
                         parse_unary(parser, true))) {
            return NULL;
        }
    }
    return left;
}

static struct jinja_node *parse_product(struct jinja_parser *parser)
{
    struct jinja_node *left = parse_power(parser);
    struct jinja_node_list rest = {0};
    while (left) {
        uint32_t offset = parser->current.offset;
        enum jinja_operator op;
        if (parser->current.kind == TOKEN_MULTIPLY) {
            op = OPERATOR_MULTIPLY;
        } else if (parser->current.kind == TOKEN_DIVIDE) {
            op = OPERATOR_DIVIDE;
        } else if (parser->current.kind == TOKEN_FLOOR_DIVIDE) {
            op = OPERATOR_FLOOR_DIVIDE;
        } else if (parser->current.kind == TOKEN_MODULO) {
            op = OPERATOR_MODULO;
        } else {
            break;
        }
        if (!parser_advance(parser) ||
            !add_operand(parser, NODE_BINARY, &left, &rest, op, offset, parse_power(parser))) {
            return NULL;
        }
    }
    return left;
}

/* A list node of `kind` over parts that `separator` divides; the part alone when there is one. */
static struct jinja_node *parse_concat(struct jinja_parser *parser)
{
    struct jinja_node *first = parse_product(parser);
    if (!first || parser->current.kind != TOKEN_TILDE) {
        return first;
    }
    struct jinja_node_list list = {0};
    parser_append(&list, first);
    while (parser->current.kind == TOKEN_TILDE) {
        struct jinja_node *part = parser_advance(parser) ? parse_product(parser) : NULL;
        if (!part) {
            return NULL;
        }
        parser_append(&list, part);
    }
    return make_list(parser, NODE_CONCAT, first->offset, &list);
}

static struct jinja_node *parse_sum(struct jinja_parser *parser)
{
    struct jinja_node *left = parse_concat(parser);
    struct jinja_node_list rest = {0};
    while (left && (parser->current.kind == TOKEN_ADD || parser->current.kind == TOKEN_SUBTRACT)) {
        uint32_t offset = parser->current.offset;
        enum jinja_operator op =
            parser->current.kind == TOKEN_ADD ? OPERATOR_ADD : OPERATOR_SUBTRACT;
        if (!parser_advance(parser) ||
            !add_operand(parser, NODE_BINARY, &left, &rest, op, offset, parse_concat(parser))) {
            return NULL;
        }
    }
    return left;
}

/* *found: whether a comparison operator was read (and skipped). */
static bool read_comparison(struct jinja_parser *parser, enum jinja_operator *op, bool *found)
{
    static const struct {
        uint8_t token;
        enum jinja_operator op;
    } table[] = {
        {TOKEN_EQ, OPERATOR_EQ}, {TOKEN_NE, OPERATOR_NE}, {TOKEN_LT, OPERATOR_LT},
        {TOKEN_LE, OPERATOR_LE}, {TOKEN_GT, OPERATOR_GT}, {TOKEN_GE, OPERATOR_GE},
    };
    *found = true;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        if (parser->current.kind == table[i].token) {
            *op = table[i].op;
            return parser_advance(parser);
        }
    }
    if (parser_is_name(parser, "in")) {
        *op = OPERATOR_IN;
        return parser_advance(parser);
    }
    *found = false;
    if (parser_is_name(parser, "not")) {
        const struct jinja_token *ahead = parser_peek(parser);
        if (!ahead) {
            return false;
        }
        if (ahead->kind == TOKEN_NAME && text_view_is(ahead->text, "in")) {
            *found = true;
            *op = OPERATOR_NOT_IN;
            return parser_advance(parser) && parser_advance(parser);
        }
    }
    return true;
}

static struct jinja_node *parse_compare(struct jinja_parser *parser)
{
    struct jinja_node *left = parse_sum(parser);
    struct jinja_node_list rest = {0};
    while (left) {
        uint32_t offset = parser->current.offset;
        enum jinja_operator op = OPERATOR_EQ;
        bool found;
        if (!read_comparison(parser, &op, &found)) {
            return NULL;
        }
        if (!found) {
            break;
        }
        if (!add_operand(parser, NODE_COMPARE, &left, &rest, op, offset, parse_sum(parser))) {
            return NULL;
        }
    }
    return left;
}

static struct jinja_node *parse_not(struct jinja_parser *parser)
{
    if (!parser_is_name(parser, "not")) {
        return parse_compare(parser);
    }
    struct jinja_node *node = parser_node(parser, NODE_NOT, parser->current.offset);
    if (!node || !parser_advance(parser) || !parser_enter(parser) ||
        !(node->operand = parse_not(parser))) {
        return NULL;
    }
    parser->depth--;
    return node;
}

/* `word`-separated parts, each read by `parse`. */
static struct jinja_node *parse_logic(struct jinja_parser *parser, const char *word,
                                      enum jinja_node_kind kind,
                                      struct jinja_node *(*parse)(struct jinja_parser *))
{
    struct jinja_node *first = parse(parser);
    if (!first || !parser_is_name(parser, word)) {
        return first;
    }
    struct jinja_node_list list = {0};
    parser_append(&list, first);
    while (parser_is_name(parser, word)) {
        struct jinja_node *part = parser_advance(parser) ? parse(parser) : NULL;
        if (!part) {
            return NULL;
        }
        parser_append(&list, part);
    }
    return make_list(parser, kind, first->offset, &list);
}

static struct jinja_node *parse_and(struct jinja_parser *parser)
{
    return parse_logic(parser, "and", NODE_AND, parse_not);
}

static struct jinja_node *parse_or(struct jinja_parser *parser)
{
    return parse_logic(parser, "or", NODE_OR, parse_and);
}

struct jinja_node *parse_expression(struct jinja_parser *parser)
{
    if (!parser_enter(parser)) {
        return NULL;
    }
    struct jinja_node *node = parse_or(parser);
    while (node && parser_is_name(parser, "if")) {
        struct jinja_node *condition = parser_node(parser, NODE_CONDITION, parser->current.offset);
        bool has_else;
        if (!condition || !parser_advance(parser) ||
            !(condition->condition.test = parse_or(parser)) ||
            !parser_skip_name(parser, "else", &has_else)) {
            return NULL;
        }
        condition->condition.then = node;
        if (has_else && !(condition->condition.otherwise = parse_expression(parser))) {
            return NULL;
        }
        node = condition;
    }
    parser->depth--;
    return node;
}

/* --- tuples and targets --- */

static bool at_tuple_end(const struct jinja_parser *parser)
{
    return parser->current.kind == TOKEN_VARIABLE_END || parser->current.kind == TOKEN_BLOCK_END ||
           parser->current.kind == TOKEN_RIGHT_PAREN;
}

static struct jinja_node *parse_tuple_item(struct jinja_parser *parser,
                                           const struct jinja_tuple_rules *rules)
{
    if (!rules->simplified && !rules->no_condition) {
        return parse_expression(parser);
    }
    if (!parser_enter(parser)) {
        return NULL;
    }
    struct jinja_node *node =
        rules->simplified ? parse_primary(parser, rules->namespaces) : parse_or(parser);
    parser->depth--;
    return node;
}

struct jinja_node *parse_tuple(struct jinja_parser *parser, struct jinja_tuple_rules rules)
{
    uint32_t offset = parser->current.offset;
    struct jinja_node_list list = {0};
    bool is_tuple = false;
    for (;;) {
        if (list.count && !parser_expect(parser, TOKEN_COMMA, "a comma")) {
            return NULL;
        }
        if (at_tuple_end(parser)) {
            break;
        }
        struct jinja_node *item = parse_tuple_item(parser, &rules);
        if (!item) {
            return NULL;
        }
        parser_append(&list, item);
        if (parser->current.kind != TOKEN_COMMA) {
            break;
        }
        is_tuple = true;
    }
    if (!is_tuple && list.count) {
        return list.first;
    }
    if (!is_tuple && !rules.parentheses) {
        parser_fail(parser, parser->current.offset, "an expression is expected here");
        return NULL;
    }
    return make_list(parser, NODE_TUPLE, offset, &list);
}

/* Turns names into targets. The nesting was bounded when the nodes were parsed. */
static bool make_target(struct jinja_parser *parser, struct jinja_node *node)
{
    if (node->kind == NODE_NAME) {
        node->kind = NODE_STORE;
        return true;
    }
    if (node->kind == NODE_STORE_ATTRIBUTE) {
        return true;
    }
    if (node->kind != NODE_TUPLE) {
        return parser_fail(parser, node->offset, "this cannot be assigned to");
    }
    for (struct jinja_node *item = node->list.first; item; item = item->next) {
        if (!make_target(parser, item)) {
            return false;
        }
    }
    return true;
}

struct jinja_node *parse_target(struct jinja_parser *parser, bool namespaces)
{
    struct jinja_tuple_rules rules = {.simplified = true, .namespaces = namespaces};
    struct jinja_node *node = parse_tuple(parser, rules);
    return node && make_target(parser, node) ? node : NULL;
}
