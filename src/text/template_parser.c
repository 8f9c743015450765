/* Owns the grammar of statements and the making of nodes. Follows jinja2's parser. Invariants:
 * recursion is bounded by parser->depth; every node lives in the template's arena. Loading refuses
 * what the engine does not have: other templates (include, import, extends, block), recursive
 * loops, autoescape, unknown tags, filters and tests. Knows nothing about values. */
#include "text/template_parser.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/limits.h"
#include "base/random.h"

/* --- failures --- */

static bool fail_with(struct jinja_parser *parser, llcuda_status status, uint32_t offset,
                      const char *message)
{
    if (!parser->status) {
        parser->status =
            jinja_error_at(parser->template, parser->error, status, offset, "%s", message);
    }
    return false;
}

bool parser_fail(struct jinja_parser *parser, uint32_t offset, const char *format, ...)
{
    char message[LLCUDA_ERROR_MESSAGE_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    return fail_with(parser, LLCUDA_BAD_FORMAT, offset, message);
}

bool parser_fail_unsupported(struct jinja_parser *parser, uint32_t offset, const char *format, ...)
{
    char message[LLCUDA_ERROR_MESSAGE_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    return fail_with(parser, LLCUDA_UNSUPPORTED, offset, message);
}

bool parser_enter(struct jinja_parser *parser)
{
    if (parser->depth >= LIMIT_TEMPLATE_DEPTH) {
        return fail_with(parser, LLCUDA_LIMIT, parser->current.offset,
                         "the template is nested too deeply");
    }
    parser->depth++;
    return true;
}

/* --- tokens --- */

static bool next_token(struct jinja_parser *parser, struct jinja_token *token)
{
    if (jinja_lexer_next(&parser->lexer, token)) {
        return true;
    }
    if (!parser->status) {
        parser->status = parser->lexer.status;
    }
    return false;
}

bool parser_advance(struct jinja_parser *parser)
{
    if (parser->has_ahead) {
        parser->current = parser->ahead;
        parser->has_ahead = false;
        return true;
    }
    return next_token(parser, &parser->current);
}

const struct jinja_token *parser_peek(struct jinja_parser *parser)
{
    if (!parser->has_ahead) {
        if (!next_token(parser, &parser->ahead)) {
            return NULL;
        }
        parser->has_ahead = true;
    }
    return &parser->ahead;
}

bool parser_is_name(const struct jinja_parser *parser, const char *name)
{
    return parser->current.kind == TOKEN_NAME && text_view_is(parser->current.text, name);
}

bool parser_expect(struct jinja_parser *parser, enum jinja_token_kind kind, const char *what)
{
    if (parser->current.kind != (uint8_t)kind) {
        return parser_fail(parser, parser->current.offset, "%s is expected here", what);
    }
    return parser_advance(parser);
}

bool parser_skip_if(struct jinja_parser *parser, enum jinja_token_kind kind, bool *skipped)
{
    *skipped = parser->current.kind == (uint8_t)kind;
    return !*skipped || parser_advance(parser);
}

bool parser_skip_name(struct jinja_parser *parser, const char *name, bool *skipped)
{
    *skipped = parser_is_name(parser, name);
    return !*skipped || parser_advance(parser);
}

bool parser_is_assignable(const struct jinja_parser *parser)
{
    static const char *const constants[] = {"true", "false", "none", "True", "False", "None"};
    for (size_t i = 0; i < sizeof constants / sizeof *constants; i++) {
        if (parser_is_name(parser, constants[i])) {
            return false;
        }
    }
    return parser->current.kind == TOKEN_NAME;
}

/* --- nodes --- */

void *parser_alloc(struct jinja_parser *parser, size_t count, size_t size)
{
    void *memory = arena_alloc(&parser->template->arena, count, size);
    if (!memory && !parser->status) {
        parser->status = error_no_memory(parser->error, "a chat template", (uint64_t)size * count);
    }
    return memory;
}

struct jinja_node *parser_node(struct jinja_parser *parser, enum jinja_node_kind kind,
                               uint32_t offset)
{
    struct jinja_node *node = parser_alloc(parser, 1, sizeof *node);
    if (node) {
        node->kind = (uint8_t)kind;
        node->offset = offset;
    }
    return node;
}

void parser_append(struct jinja_node_list *list, struct jinja_node *node)
{
    if (list->last) {
        list->last->next = node;
    } else {
        list->first = node;
    }
    list->last = node;
    list->count++;
}

bool parser_constant_string(struct jinja_parser *parser, struct text_view text,
                            struct jinja_value *out)
{
    struct jinja_string *string = parser_alloc(parser, 1, sizeof *string);
    if (!string) {
        return false;
    }
    string->data = text.length ? text.data : "";
    string->length = text.length;
    string->characters = jinja_count_characters(text.data, text.length);
    *out = jinja_string_value(string);
    return true;
}

static uint32_t bucket_of(const struct template *template, struct text_view text)
{
    uint64_t hash = template->seed ^ text.length;
    for (size_t i = 0; i < text.length; i++) {
        hash = (hash ^ (unsigned char)text.data[i]) * 0x100000001B3ull;
    }
    return (uint32_t)(random_mix(hash) % JINJA_NAME_BUCKETS);
}

struct jinja_name *parser_name(struct jinja_parser *parser, struct text_view text)
{
    struct template *template = parser->template;
    uint32_t bucket = bucket_of(template, text);
    for (struct jinja_name *name = template->names[bucket]; name; name = name->next) {
        if (text_view_equal(jinja_text(name->string), text)) {
            return name;
        }
    }
    if (template->name_count >= JINJA_NAMES_MAX) {
        fail_with(parser, LLCUDA_LIMIT, parser->current.offset, "the template has too many names");
        return NULL;
    }
    struct jinja_name *name = parser_alloc(parser, 1, sizeof *name);
    struct jinja_undefined *undefined = parser_alloc(parser, 1, sizeof *undefined);
    if (!name || !undefined || !parser_constant_string(parser, text, &name->string)) {
        return NULL;
    }
    undefined->name = text;
    name->undefined = (struct jinja_value){.kind = JINJA_UNDEFINED, .undefined = undefined};
    name->id = template->name_count++;
    name->builtin_attribute = jinja_is_builtin_attribute(text);
    name->next = template->names[bucket];
    template->names[bucket] = name;
    return name;
}

/* --- statements --- */

static bool parse_body(struct jinja_parser *parser, const char *const *ends,
                       struct jinja_node **body);

/* The rest of an opening tag, then statements up to one of the `ends`, which becomes the current
 * token. */
static bool parse_block(struct jinja_parser *parser, const char *const *ends,
                        struct jinja_node **body)
{
    bool skipped;
    return parser_skip_if(parser, TOKEN_COLON, &skipped) &&
           parser_expect(parser, TOKEN_BLOCK_END, "the end of this tag") &&
           parse_body(parser, ends, body);
}

/* The same when there is one end only, which is skipped. */
static bool parse_block_to(struct jinja_parser *parser, const char *end, struct jinja_node **body)
{
    const char *const ends[] = {end, NULL};
    return parse_block(parser, ends, body) && parser_advance(parser);
}

/* The body of something that is called: `break` does not reach out of it. */
static bool parse_function_body(struct jinja_parser *parser, const char *end,
                                struct jinja_node **body)
{
    uint32_t loop_depth = parser->loop_depth;
    parser->loop_depth = 0;
    bool ok = parse_block_to(parser, end, body);
    parser->loop_depth = loop_depth;
    return ok;
}

static bool parse_set(struct jinja_parser *parser, struct jinja_node **out)
{
    struct jinja_node *node = parser_node(parser, NODE_SET, parser->current.offset);
    bool assign;
    if (!node || !parser_advance(parser)) {
        return false;
    }
    *out = node;
    node->set.target = parse_target(parser, true);
    if (!node->set.target || !parser_skip_if(parser, TOKEN_ASSIGN, &assign)) {
        return false;
    }
    if (assign) {
        node->set.value = parse_tuple(parser, (struct jinja_tuple_rules){0});
        return node->set.value != NULL;
    }
    node->kind = NODE_SET_BLOCK;
    if (parser->current.kind == TOKEN_PIPE) {
        node->set.value = parse_filters(parser, false);
        if (!node->set.value) {
            return false;
        }
    }
    return parse_block_to(parser, "endset", &node->set.body);
}

static bool parse_for_head(struct jinja_parser *parser, struct jinja_for *loop)
{
    bool skipped;
    if (!parser_advance(parser) || !(loop->target = parse_target(parser, false))) {
        return false;
    }
    if (!parser_skip_name(parser, "in", &skipped)) {
        return false;
    }
    if (!skipped) {
        return parser_fail(parser, parser->current.offset, "'in' is expected here");
    }
    struct jinja_tuple_rules rules = {.no_condition = true};
    if (!(loop->iterable = parse_tuple(parser, rules)) ||
        !parser_skip_name(parser, "if", &skipped)) {
        return false;
    }
    if (skipped && !(loop->test = parse_expression(parser))) {
        return false;
    }
    if (parser_is_name(parser, "recursive")) {
        return parser_fail_unsupported(parser, parser->current.offset,
                                       "recursive loops are not supported");
    }
    return true;
}

static bool parse_for(struct jinja_parser *parser, struct jinja_node **out)
{
    static const char *const ends[] = {"endfor", "else", NULL};
    struct jinja_node *node = parser_node(parser, NODE_FOR, parser->current.offset);
    struct jinja_for *loop = parser_alloc(parser, 1, sizeof *loop);
    if (!node || !loop) {
        return false;
    }
    *out = node;
    node->loop = loop;
    if (!parse_for_head(parser, loop)) {
        return false;
    }
    parser->loop_depth++;
    bool ok = parse_block(parser, ends, &loop->body);
    parser->loop_depth--;
    if (!ok) {
        return false;
    }
    bool has_else = parser_is_name(parser, "else");
    return parser_advance(parser) &&
           (!has_else || parse_block_to(parser, "endfor", &loop->otherwise));
}

/* `elif` makes a chain of IF nodes through `otherwise`, parsed in a loop: a long chain is no
 * nesting. */
static bool parse_if(struct jinja_parser *parser, struct jinja_node **out)
{
    static const char *const ends[] = {"elif", "else", "endif", NULL};
    struct jinja_node **link = out;
    for (;;) {
        struct jinja_node *node = parser_node(parser, NODE_IF, parser->current.offset);
        if (!node || !parser_advance(parser)) {
            return false;
        }
        *link = node;
        struct jinja_tuple_rules rules = {.no_condition = true};
        node->condition.test = parse_tuple(parser, rules);
        if (!node->condition.test || !parse_block(parser, ends, &node->condition.then)) {
            return false;
        }
        if (parser_is_name(parser, "elif")) {
            link = &node->condition.otherwise;
            continue;
        }
        bool has_else = parser_is_name(parser, "else");
        return parser_advance(parser) &&
               (!has_else || parse_block_to(parser, "endif", &node->condition.otherwise));
    }
}

static bool parse_with(struct jinja_parser *parser, struct jinja_node **out)
{
    struct jinja_node *node = parser_node(parser, NODE_WITH, parser->current.offset);
    struct jinja_node_list targets = {0};
    struct jinja_node_list values = {0};
    if (!node || !parser_advance(parser)) {
        return false;
    }
    *out = node;
    while (parser->current.kind != TOKEN_BLOCK_END) {
        if (targets.count && !parser_expect(parser, TOKEN_COMMA, "a comma")) {
            return false;
        }
        struct jinja_node *target = parse_target(parser, false);
        if (!target || !parser_expect(parser, TOKEN_ASSIGN, "'='")) {
            return false;
        }
        struct jinja_node *value = parse_expression(parser);
        if (!value) {
            return false;
        }
        parser_append(&targets, target);
        parser_append(&values, value);
    }
    node->with.targets = targets.first;
    node->with.values = values.first;
    return parse_block_to(parser, "endwith", &node->with.body);
}

static bool parse_parameter(struct jinja_parser *parser, struct jinja_parameter *parameter,
                            bool *has_fallback)
{
    bool assign;
    uint32_t offset = parser->current.offset;
    if (!parser_is_assignable(parser)) {
        return parser_fail(parser, offset, "the name of a parameter is expected here");
    }
    struct jinja_undefined *undefined = parser_alloc(parser, 1, sizeof *undefined);
    parameter->name = parser_name(parser, parser->current.text);
    if (!undefined || !parameter->name || !parser_advance(parser) ||
        !parser_skip_if(parser, TOKEN_ASSIGN, &assign)) {
        return false;
    }
    undefined->name = jinja_text(parameter->name->string);
    parameter->undefined = (struct jinja_value){.kind = JINJA_UNDEFINED, .undefined = undefined};
    if (assign) {
        *has_fallback = true;
        parameter->fallback = parse_expression(parser);
        return parameter->fallback != NULL;
    }
    return !*has_fallback ||
           parser_fail(parser, offset, "a parameter without default follows one with default");
}

/* "(a, b=1)". Python allows 255 and more; we stop at what anybody could mean. */
#define PARAMETERS_MAX 64u
static bool parse_signature(struct jinja_parser *parser, struct jinja_function_node *function)
{
    struct jinja_parameter parameters[PARAMETERS_MAX];
    uint32_t count = 0;
    bool has_fallback = false;
    if (!parser_expect(parser, TOKEN_LEFT_PAREN, "'('")) {
        return false;
    }
    while (parser->current.kind != TOKEN_RIGHT_PAREN) {
        if (count && !parser_expect(parser, TOKEN_COMMA, "a comma")) {
            return false;
        }
        if (count == PARAMETERS_MAX) {
            return fail_with(parser, LLCUDA_LIMIT, parser->current.offset, "too many parameters");
        }
        parameters[count] = (struct jinja_parameter){0};
        if (!parse_parameter(parser, &parameters[count], &has_fallback)) {
            return false;
        }
        for (uint32_t i = 0; i < count; i++) {
            if (parameters[i].name == parameters[count].name) {
                return parser_fail(parser, parser->current.offset, "duplicate parameter '%.*s'",
                                   TEXT_ARGUMENTS(jinja_text(parameters[i].name->string)));
            }
        }
        count++;
    }
    function->parameters = parser_alloc(parser, count, sizeof *function->parameters);
    if (!function->parameters) {
        return false;
    }
    if (count) {
        memcpy(function->parameters, parameters, count * sizeof *parameters);
    }
    function->parameter_count = count;
    return parser_advance(parser);
}

static bool parse_macro(struct jinja_parser *parser, struct jinja_node **out)
{
    struct jinja_node *node = parser_node(parser, NODE_MACRO, parser->current.offset);
    struct jinja_function_node *function = parser_alloc(parser, 1, sizeof *function);
    if (!node || !function || !parser_advance(parser)) {
        return false;
    }
    *out = node;
    node->macro = function;
    function->offset = node->offset;
    if (!parser_is_assignable(parser)) {
        return parser_fail(parser, parser->current.offset, "the name of the macro is expected");
    }
    function->name = parser_name(parser, parser->current.text);
    return function->name && parser_advance(parser) && parse_signature(parser, function) &&
           parse_function_body(parser, "endmacro", &function->body_nodes);
}

/* The last step of the expression must be a call; the caller is handed to it. */
static bool check_call(struct jinja_parser *parser, struct jinja_node *call, uint32_t offset)
{
    struct jinja_node *last = call->kind == NODE_POSTFIX ? call->chain.rest : NULL;
    while (last && last->next) {
        last = last->next;
    }
    return (last && last->kind == NODE_CALL) ||
           parser_fail(parser, offset, "a call is expected in this tag");
}

static bool parse_call_block(struct jinja_parser *parser, struct jinja_node **out)
{
    struct jinja_node *node = parser_node(parser, NODE_CALL_BLOCK, parser->current.offset);
    struct jinja_function_node *function = parser_alloc(parser, 1, sizeof *function);
    if (!node || !function || !parser_advance(parser)) {
        return false;
    }
    *out = node;
    node->call_block.function = function;
    function->offset = node->offset;
    if (parser->current.kind == TOKEN_LEFT_PAREN && !parse_signature(parser, function)) {
        return false;
    }
    node->call_block.call = parse_expression(parser);
    return node->call_block.call && check_call(parser, node->call_block.call, node->offset) &&
           parse_function_body(parser, "endcall", &function->body_nodes);
}

static bool parse_filter_block(struct jinja_parser *parser, struct jinja_node **out)
{
    struct jinja_node *node = parser_node(parser, NODE_FILTER_BLOCK, parser->current.offset);
    if (!node || !parser_advance(parser)) {
        return false;
    }
    *out = node;
    node->set.value = parse_filters(parser, true);
    return node->set.value && parse_block_to(parser, "endfilter", &node->set.body);
}

/* {% generation %} marks what a model is trained on; here only its scope remains. */
static bool parse_generation(struct jinja_parser *parser, struct jinja_node **out)
{
    struct jinja_node *node = parser_node(parser, NODE_SCOPE, parser->current.offset);
    if (!node || !parser_advance(parser)) {
        return false;
    }
    *out = node;
    return parse_function_body(parser, "endgeneration", &node->with.body);
}

static bool parse_print(struct jinja_parser *parser, struct jinja_node **out)
{
    struct jinja_node_list list = {0};
    if (!parser_advance(parser)) {
        return false;
    }
    while (parser->current.kind != TOKEN_BLOCK_END) {
        if (list.count && !parser_expect(parser, TOKEN_COMMA, "a comma")) {
            return false;
        }
        struct jinja_node *node = parser_node(parser, NODE_OUTPUT, parser->current.offset);
        if (!node || !(node->operand = parse_expression(parser))) {
            return false;
        }
        parser_append(&list, node);
    }
    *out = list.first;
    return true;
}

static bool parse_do(struct jinja_parser *parser, struct jinja_node **out)
{
    struct jinja_node *node = parser_node(parser, NODE_DO, parser->current.offset);
    if (!node || !parser_advance(parser)) {
        return false;
    }
    *out = node;
    node->operand = parse_tuple(parser, (struct jinja_tuple_rules){0});
    return node->operand != NULL;
}

static bool parse_jump(struct jinja_parser *parser, struct jinja_node **out)
{
    bool is_break = parser_is_name(parser, "break");
    if (parser->loop_depth == 0) {
        return parser_fail(parser, parser->current.offset, "'%s' is outside of a loop",
                           is_break ? "break" : "continue");
    }
    *out = parser_node(parser, is_break ? NODE_BREAK : NODE_CONTINUE, parser->current.offset);
    return *out && parser_advance(parser);
}

static bool parse_unsupported(struct jinja_parser *parser, struct jinja_node **out)
{
    (void)out;
    return parser_fail_unsupported(parser, parser->current.offset,
                                   "the tag '%.*s' is not supported in chat templates",
                                   TEXT_ARGUMENTS(parser->current.text));
}

static bool parse_statement(struct jinja_parser *parser, struct jinja_node **out)
{
    static const struct {
        const char *name;
        bool (*parse)(struct jinja_parser *, struct jinja_node **);
    } statements[] = {
        {"if", parse_if},
        {"set", parse_set},
        {"for", parse_for},
        {"macro", parse_macro},
        {"call", parse_call_block},
        {"filter", parse_filter_block},
        {"with", parse_with},
        {"break", parse_jump},
        {"continue", parse_jump},
        {"generation", parse_generation},
        {"do", parse_do},
        {"print", parse_print},
        {"include", parse_unsupported},
        {"import", parse_unsupported},
        {"from", parse_unsupported},
        {"extends", parse_unsupported},
        {"block", parse_unsupported},
        {"autoescape", parse_unsupported},
        {"trans", parse_unsupported},
        {"debug", parse_unsupported},
    };
    if (parser->current.kind != TOKEN_NAME) {
        return parser_fail(parser, parser->current.offset, "the name of a tag is expected here");
    }
    for (size_t i = 0; i < sizeof statements / sizeof *statements; i++) {
        if (parser_is_name(parser, statements[i].name)) {
            return statements[i].parse(parser, out);
        }
    }
    return parser_fail(parser, parser->current.offset, "the tag '%.*s' is unknown here",
                       TEXT_ARGUMENTS(parser->current.text));
}

static bool parse_output(struct jinja_parser *parser, struct jinja_node **out)
{
    struct jinja_node *node = parser_node(parser, NODE_OUTPUT, parser->current.offset);
    if (!node || !parser_advance(parser)) {
        return false;
    }
    *out = node;
    node->operand = parse_tuple(parser, (struct jinja_tuple_rules){0});
    return node->operand && parser_expect(parser, TOKEN_VARIABLE_END, "'}}'");
}

static bool parse_text(struct jinja_parser *parser, struct jinja_node **out)
{
    struct jinja_node *node = parser_node(parser, NODE_TEXT, parser->current.offset);
    if (!node) {
        return false;
    }
    node->text = parser->current.text;
    *out = node;
    return parser_advance(parser);
}

static bool is_end(const struct jinja_parser *parser, const char *const *ends)
{
    for (; ends && *ends; ends++) {
        if (parser_is_name(parser, *ends)) {
            return true;
        }
    }
    return false;
}

/* Statements and text up to one of the ends, or to the end of the template when there are none. */
static bool parse_body(struct jinja_parser *parser, const char *const *ends,
                       struct jinja_node **body)
{
    struct jinja_node **tail = body;
    if (!parser_enter(parser)) {
        return false;
    }
    while (parser->current.kind != TOKEN_END) {
        bool ok;
        if (parser->current.kind == TOKEN_DATA) {
            ok = parse_text(parser, tail);
        } else if (parser->current.kind == TOKEN_VARIABLE_BEGIN) {
            ok = parse_output(parser, tail);
        } else {
            if (!parser_advance(parser)) {
                return false;
            }
            if (is_end(parser, ends)) {
                parser->depth--;
                return true;
            }
            ok = parse_statement(parser, tail) &&
                 parser_expect(parser, TOKEN_BLOCK_END, "the end of this tag");
        }
        if (!ok) {
            return false;
        }
        while (*tail) {
            tail = &(*tail)->next;
        }
    }
    parser->depth--;
    return !ends || parser_fail(parser, parser->current.offset,
                                "the template ends where '%s' is expected", *ends);
}

llcuda_status template_parse_nodes(struct template *template, struct llcuda_error *error)
{
    struct jinja_parser parser = {.template = template, .error = error};
    jinja_lexer_init(&parser.lexer, template, error);
    if (!parser_advance(&parser) || !parse_body(&parser, NULL, &template->nodes)) {
        return parser.status;
    }
    return LLCUDA_OK;
}
