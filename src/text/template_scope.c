/* Owns the question which variable a name means. Jinja2 compiles templates to Python functions, and
 * its scoping rules come from there: an `if` shares the scope around it, a loop body, a `with`, a
 * set block or a filter block has one of its own whose assignments end with it, and a macro is a
 * closure. A scope's names are collected first, then every name is bound to a slot, so rendering
 * never searches.
 *
 * How a variable of a scope starts (found by reading jinja2's analysis of loads and stores):
 *   - a name that is only read and bound nowhere further out comes from the context;
 *   - a name that is assigned here and known further out starts with that value;
 *   - assigned here and known nowhere: from the context when the first mention is a read or lies in
 *     a branch of an `if`, otherwise undefined.
 *
 * Recursion follows the tree, whose depth the parser has bounded. */
#include "text/template_node.h"

#include "base/limits.h"
#include "text/template_lexer.h"

struct resolver {
    struct template *template;
    struct llcuda_error *error;
    llcuda_status status;
    struct jinja_scope *scope; /* the innermost */
    uint32_t loops;            /* loops around, functions notwithstanding */
    struct jinja_name *loop;   /* names with a meaning of their own; NULL where they do not occur */
    struct jinja_name *caller;
    struct jinja_name *kwargs;
    struct jinja_name *varargs;
};

static bool fail(struct resolver *resolver, uint32_t offset, const char *message)
{
    if (!resolver->status) {
        resolver->status = jinja_error_at(resolver->template, resolver->error, LLCUDA_BAD_FORMAT,
                                          offset, "%s", message);
    }
    return false;
}

static void *allocate(struct resolver *resolver, size_t size)
{
    void *memory = arena_alloc(&resolver->template->arena, 1, size);
    if (!memory && !resolver->status) {
        resolver->status = error_no_memory(resolver->error, "a chat template", size);
    }
    return memory;
}

/* --- scopes and symbols --- */

static struct jinja_scope *open_scope(struct resolver *resolver, struct jinja_body *function)
{
    struct jinja_scope *scope = allocate(resolver, sizeof *scope);
    if (scope) {
        scope->outer = resolver->scope;
        scope->function = function;
        scope->tail = &scope->symbols;
        resolver->scope = scope;
    }
    return scope;
}

static void close_scope(struct resolver *resolver)
{
    for (struct jinja_symbol *symbol = resolver->scope->symbols; symbol; symbol = symbol->next) {
        symbol->name->innermost = symbol->shadowed;
    }
    resolver->scope = resolver->scope->outer;
}

static struct jinja_place place_of(const struct resolver *resolver,
                                   const struct jinja_symbol *symbol)
{
    struct jinja_place place = {0, symbol->slot};
    for (const struct jinja_body *body = resolver->scope->function; body != symbol->scope->function;
         body = body->outer) {
        place.hops++;
    }
    return place;
}

static struct jinja_symbol *define(struct resolver *resolver, struct jinja_name *name,
                                   enum jinja_load load)
{
    struct jinja_symbol *symbol = allocate(resolver, sizeof *symbol);
    if (!symbol) {
        return NULL;
    }
    if (load == LOAD_ALIAS) {
        symbol->source = place_of(resolver, name->innermost);
    }
    symbol->name = name;
    symbol->scope = resolver->scope;
    symbol->shadowed = name->innermost;
    symbol->slot = resolver->scope->function->slot_count++;
    symbol->load = (uint8_t)load;
    name->innermost = symbol;
    *resolver->scope->tail = symbol;
    resolver->scope->tail = &symbol->next;
    resolver->scope->count++;
    return symbol;
}

static bool declare_parameter(struct resolver *resolver, struct jinja_name *name, uint32_t *slot)
{
    struct jinja_symbol *symbol = name->innermost;
    if (!symbol || symbol->scope != resolver->scope) {
        symbol = define(resolver, name, LOAD_PARAMETER);
    }
    if (symbol && slot) {
        *slot = symbol->slot;
    }
    return symbol != NULL;
}

static bool collect_load(struct resolver *resolver, struct jinja_name *name)
{
    return name->innermost || define(resolver, name, LOAD_RESOLVE);
}

static bool collect_store(struct resolver *resolver, struct jinja_name *name, bool in_branch)
{
    struct jinja_symbol *symbol = name->innermost;
    if (symbol && symbol->scope == resolver->scope) {
        return true;
    }
    enum jinja_load load = symbol ? LOAD_ALIAS : in_branch ? LOAD_RESOLVE : LOAD_UNDEFINED;
    return define(resolver, name, load) != NULL;
}

/* --- walking expressions --- */

/* Called for each NAME of an expression. */
typedef bool name_visitor(void *state, struct jinja_node *node);

static bool visit_names(struct jinja_node *node, name_visitor *visit, void *state);

static bool visit_list(struct jinja_node *node, name_visitor *visit, void *state)
{
    for (; node; node = node->next) {
        if (!visit_names(node, visit, state)) {
            return false;
        }
    }
    return true;
}

static bool visit_arguments(struct jinja_arguments *arguments, name_visitor *visit, void *state)
{
    return !arguments || (visit_list(arguments->positional, visit, state) &&
                          visit_list(arguments->keywords, visit, state) &&
                          visit_names(arguments->star, visit, state) &&
                          visit_names(arguments->star_star, visit, state));
}

static bool visit_names(struct jinja_node *node, name_visitor *visit, void *state)
{
    if (!node) {
        return true;
    }
    switch ((enum jinja_node_kind)node->kind) {
    case NODE_NAME:
    case NODE_STORE:
    case NODE_STORE_ATTRIBUTE:
        return visit(state, node);
    case NODE_TUPLE:
    case NODE_LIST:
    case NODE_DICT:
    case NODE_CONCAT:
    case NODE_AND:
    case NODE_OR:
        return visit_list(node->list.first, visit, state);
    case NODE_BINARY:
    case NODE_COMPARE:
    case NODE_POSTFIX:
        return visit_names(node->chain.first, visit, state) &&
               visit_list(node->chain.rest, visit, state);
    case NODE_NOT:
    case NODE_NEGATE:
    case NODE_PLUS:
    case NODE_OPERAND:
    case NODE_ITEM:
        return visit_names(node->operand, visit, state);
    case NODE_CONDITION:
        return visit_names(node->condition.test, visit, state) &&
               visit_names(node->condition.then, visit, state) &&
               visit_names(node->condition.otherwise, visit, state);
    case NODE_SLICE:
        return visit_names(node->slice.start, visit, state) &&
               visit_names(node->slice.stop, visit, state) &&
               visit_names(node->slice.step, visit, state);
    case NODE_CALL:
    case NODE_FILTER:
    case NODE_TEST:
        return visit_arguments(node->invoke.arguments, visit, state);
    case NODE_KEYWORD:
        return visit_names(node->keyword.value, visit, state);
    default:
        return true;
    }
}

/* --- which special names does a body use? --- */

struct usage {
    const char *const *names;
    uint32_t open; /* bit i: names[i] has been neither used nor assigned yet */
    uint32_t used;
};

/* A read counts, unless an assignment came first in the text. */
static bool note_usage(void *state, struct jinja_node *node)
{
    struct usage *usage = state;
    if (node->kind == NODE_STORE_ATTRIBUTE) {
        return true;
    }
    for (uint32_t i = 0; usage->names[i]; i++) {
        if (text_view_is(jinja_text(node->name.name->string), usage->names[i])) {
            if (node->kind == NODE_NAME) {
                usage->used |= usage->open & 1u << i;
            } else {
                usage->open &= ~(1u << i);
            }
        }
    }
    return true;
}

static void usage_of_statements(struct jinja_node *node, struct usage *usage);

static void usage_of_function(struct jinja_function_node *function, struct usage *usage)
{
    for (uint32_t i = 0; i < function->parameter_count; i++) {
        struct jinja_node store = {.kind = NODE_STORE};
        store.name.name = function->parameters[i].name;
        note_usage(usage, &store);
    }
    for (uint32_t i = 0; i < function->parameter_count; i++) {
        visit_names(function->parameters[i].fallback, note_usage, usage);
    }
    usage_of_statements(function->body_nodes, usage);
}

static void usage_of_statement(struct jinja_node *node, struct usage *usage)
{
    switch ((enum jinja_node_kind)node->kind) {
    case NODE_OUTPUT:
    case NODE_DO:
        visit_names(node->operand, note_usage, usage);
        break;
    case NODE_IF:
        visit_names(node->condition.test, note_usage, usage);
        usage_of_statements(node->condition.then, usage);
        usage_of_statements(node->condition.otherwise, usage);
        break;
    case NODE_FOR:
        visit_names(node->loop->target, note_usage, usage);
        visit_names(node->loop->iterable, note_usage, usage);
        usage_of_statements(node->loop->body, usage);
        usage_of_statements(node->loop->otherwise, usage);
        visit_names(node->loop->test, note_usage, usage);
        break;
    case NODE_SET:
    case NODE_SET_BLOCK:
        visit_names(node->set.target, note_usage, usage);
        visit_names(node->set.value, note_usage, usage);
        usage_of_statements(node->set.body, usage);
        break;
    case NODE_FILTER_BLOCK:
        usage_of_statements(node->set.body, usage);
        visit_names(node->set.value, note_usage, usage);
        break;
    case NODE_MACRO:
        usage_of_function(node->macro, usage);
        break;
    case NODE_CALL_BLOCK:
        visit_names(node->call_block.call, note_usage, usage);
        usage_of_function(node->call_block.function, usage);
        break;
    case NODE_WITH:
    case NODE_SCOPE:
        visit_list(node->with.targets, note_usage, usage);
        visit_list(node->with.values, note_usage, usage);
        usage_of_statements(node->with.body, usage);
        break;
    default:
        break;
    }
}

/* An `elif` chain hangs on `otherwise` and may be long: it is walked, not descended into. */
static void usage_of_statements(struct jinja_node *node, struct usage *usage)
{
    for (; node; node = node->next) {
        struct jinja_node *branch = node;
        while (branch->kind == NODE_IF && branch->condition.otherwise &&
               branch->condition.otherwise->kind == NODE_IF && !branch->condition.otherwise->next) {
            visit_names(branch->condition.test, note_usage, usage);
            usage_of_statements(branch->condition.then, usage);
            branch = branch->condition.otherwise;
        }
        usage_of_statement(branch, usage);
    }
}

/* --- collecting the names of one scope --- */

static bool collect_name(void *state, struct jinja_node *node)
{
    struct resolver *resolver = state;
    return collect_load(resolver, node->kind == NODE_STORE_ATTRIBUTE ? node->store_attribute.name
                                                                     : node->name.name);
}

static bool collect_stored_name(void *state, struct jinja_node *node)
{
    return node->kind == NODE_STORE ? collect_store(state, node->name.name, false)
                                    : collect_name(state, node);
}

static bool collect_branch_stored_name(void *state, struct jinja_node *node)
{
    return node->kind == NODE_STORE ? collect_store(state, node->name.name, true)
                                    : collect_name(state, node);
}

static bool collect_statements(struct resolver *resolver, struct jinja_node *node, bool in_branch);

static bool collect_if(struct resolver *resolver, struct jinja_node *node)
{
    for (; node && node->kind == NODE_IF; node = node->condition.otherwise) {
        if (!visit_names(node->condition.test, collect_name, resolver) ||
            !collect_statements(resolver, node->condition.then, true)) {
            return false;
        }
        if (node->condition.otherwise && node->condition.otherwise->next) {
            break;
        }
    }
    /* What is left is the body of an `else`, or that of one that begins with an `if`. */
    if (node && node->kind == NODE_IF) {
        node = node->condition.otherwise;
    }
    return collect_statements(resolver, node, true);
}

static bool collect_statement(struct resolver *resolver, struct jinja_node *node, bool in_branch)
{
    name_visitor *store = in_branch ? collect_branch_stored_name : collect_stored_name;
    switch ((enum jinja_node_kind)node->kind) {
    case NODE_OUTPUT:
    case NODE_DO:
        return visit_names(node->operand, collect_name, resolver);
    case NODE_IF:
        return collect_if(resolver, node);
    case NODE_FOR:
        return visit_names(node->loop->iterable, collect_name, resolver);
    case NODE_SET:
        return visit_names(node->set.value, collect_name, resolver) &&
               visit_names(node->set.target, store, resolver);
    case NODE_SET_BLOCK:
        return visit_names(node->set.target, store, resolver);
    case NODE_MACRO:
        return collect_store(resolver, node->macro->name, in_branch);
    case NODE_CALL_BLOCK:
        return visit_names(node->call_block.call, collect_name, resolver);
    case NODE_FILTER_BLOCK:
        return visit_names(node->set.value, collect_name, resolver);
    case NODE_WITH:
        return visit_list(node->with.values, collect_name, resolver);
    default:
        return true;
    }
}

static bool collect_statements(struct resolver *resolver, struct jinja_node *node, bool in_branch)
{
    for (; node; node = node->next) {
        if (!collect_statement(resolver, node, in_branch)) {
            return false;
        }
    }
    return true;
}

static bool declare_name(void *state, struct jinja_node *node)
{
    return declare_parameter(state, node->name.name, NULL);
}

/* --- binding names to places --- */

static bool bind_name(void *state, struct jinja_node *node)
{
    struct resolver *resolver = state;
    bool is_attribute = node->kind == NODE_STORE_ATTRIBUTE;
    struct jinja_name *name = is_attribute ? node->store_attribute.name : node->name.name;
    if (node->kind == NODE_STORE && resolver->loops &&
        text_view_is(jinja_text(name->string), "loop")) {
        return fail(resolver, node->offset, "'loop' cannot be assigned to inside a loop");
    }
    struct jinja_place place = place_of(resolver, name->innermost);
    if (is_attribute) {
        node->store_attribute.place = place;
    } else {
        node->name.place = place;
    }
    return true;
}

static bool bind_statements(struct resolver *resolver, struct jinja_node *node);

/* A scope of its own for `body`, whose names are collected and bound; parameters were declared. */
static bool bind_body(struct resolver *resolver, struct jinja_node *body)
{
    return collect_statements(resolver, body, false) && bind_statements(resolver, body);
}

static struct jinja_node *copy_target(struct resolver *resolver, const struct jinja_node *target)
{
    struct jinja_node *copy = allocate(resolver, sizeof *copy);
    if (!copy) {
        return NULL;
    }
    *copy = *target;
    copy->next = NULL;
    if (target->kind == NODE_TUPLE) {
        struct jinja_node **tail = &copy->list.first;
        for (const struct jinja_node *item = target->list.first; item; item = item->next) {
            *tail = copy_target(resolver, item);
            if (!*tail) {
                return NULL;
            }
            tail = &(*tail)->next;
        }
    }
    return copy;
}

/* A loop's filter is a function of its own, as it is in jinja2. */
static bool bind_loop_test(struct resolver *resolver, struct jinja_for *loop)
{
    loop->test_body = allocate(resolver, sizeof *loop->test_body);
    loop->test_target = copy_target(resolver, loop->target);
    if (!loop->test_body || !loop->test_target) {
        return false;
    }
    loop->test_body->outer = resolver->scope->function;
    loop->test_scope = open_scope(resolver, loop->test_body);
    if (!loop->test_scope || !visit_names(loop->test_target, declare_name, resolver) ||
        !visit_names(loop->test, collect_name, resolver) ||
        !visit_names(loop->test_target, bind_name, resolver) ||
        !visit_names(loop->test, bind_name, resolver)) {
        return false;
    }
    close_scope(resolver);
    return true;
}

static bool bind_for(struct resolver *resolver, struct jinja_node *node)
{
    static const char *const special[] = {"loop", NULL};
    struct jinja_for *loop = node->loop;
    struct jinja_body *function = resolver->scope->function;
    struct usage usage = {special, 1, 0};
    usage_of_statements(loop->body, &usage);
    loop->extended = usage.used != 0;
    resolver->loops++;
    if (!visit_names(loop->iterable, bind_name, resolver) ||
        (loop->test && !bind_loop_test(resolver, loop))) {
        return false;
    }
    loop->scope = open_scope(resolver, function);
    if (!loop->scope ||
        (loop->extended && !declare_parameter(resolver, resolver->loop, &loop->loop_slot)) ||
        !visit_names(loop->target, declare_name, resolver) ||
        !visit_names(loop->target, bind_name, resolver) || !bind_body(resolver, loop->body)) {
        return false;
    }
    close_scope(resolver);
    if (loop->otherwise) {
        loop->else_scope = open_scope(resolver, function);
        if (!loop->else_scope || !bind_body(resolver, loop->otherwise)) {
            return false;
        }
        close_scope(resolver);
    }
    resolver->loops--;
    return true;
}

/* caller, kwargs and varargs are parameters of every body that reads them. */
static bool declare_special(struct resolver *resolver, struct jinja_function_node *function)
{
    static const char *const special[] = {"caller", "kwargs", "varargs", NULL};
    struct usage usage = {special, 7, 0};
    usage_of_statements(function->body_nodes, &usage);
    for (uint32_t i = 0; i < function->parameter_count; i++) {
        struct jinja_parameter *parameter = &function->parameters[i];
        struct text_view name = jinja_text(parameter->name->string);
        if (text_view_is(name, "caller")) {
            function->explicit_caller = true;
            if ((usage.used & 1) && !parameter->fallback) {
                return fail(resolver, function->offset,
                            "the parameter 'caller' must be omitted or have a default");
            }
        }
        usage.used &= text_view_is(name, "kwargs") ? ~2u : ~0u;
        usage.used &= text_view_is(name, "varargs") ? ~4u : ~0u;
    }
    function->takes_caller = (usage.used & 1) != 0;
    function->takes_kwargs = (usage.used & 2) != 0;
    function->takes_varargs = (usage.used & 4) != 0;
    return (!function->takes_caller || function->explicit_caller ||
            declare_parameter(resolver, resolver->caller, &function->caller_slot)) &&
           (!function->takes_kwargs ||
            declare_parameter(resolver, resolver->kwargs, &function->kwargs_slot)) &&
           (!function->takes_varargs ||
            declare_parameter(resolver, resolver->varargs, &function->varargs_slot));
}

static bool bind_function(struct resolver *resolver, struct jinja_function_node *function)
{
    function->body.outer = resolver->scope->function;
    function->scope = open_scope(resolver, &function->body);
    if (!function->scope) {
        return false;
    }
    for (uint32_t i = 0; i < function->parameter_count; i++) {
        struct jinja_parameter *parameter = &function->parameters[i];
        if (!declare_parameter(resolver, parameter->name, &parameter->slot)) {
            return false;
        }
    }
    if (!declare_special(resolver, function)) {
        return false;
    }
    for (uint32_t i = 0; i < function->parameter_count; i++) {
        if (!visit_names(function->parameters[i].fallback, collect_name, resolver)) {
            return false;
        }
    }
    if (!bind_body(resolver, function->body_nodes)) {
        return false;
    }
    for (uint32_t i = 0; i < function->parameter_count; i++) {
        if (!visit_names(function->parameters[i].fallback, bind_name, resolver)) {
            return false;
        }
    }
    close_scope(resolver);
    return true;
}

/* SET_BLOCK and FILTER_BLOCK: the body and the filters' arguments share the inner scope. */
static bool bind_captured(struct resolver *resolver, struct jinja_node *node)
{
    node->set.scope = open_scope(resolver, resolver->scope->function);
    if (!node->set.scope || !collect_statements(resolver, node->set.body, false) ||
        !visit_names(node->set.value, collect_name, resolver) ||
        !bind_statements(resolver, node->set.body) ||
        !visit_names(node->set.value, bind_name, resolver)) {
        return false;
    }
    close_scope(resolver);
    return visit_names(node->set.target, bind_name, resolver);
}

static bool bind_with(struct resolver *resolver, struct jinja_node *node)
{
    if (!visit_list(node->with.values, bind_name, resolver)) {
        return false;
    }
    node->with.scope = open_scope(resolver, resolver->scope->function);
    uint32_t loops = resolver->loops;
    resolver->loops = 0; /* its targets are parameters: `loop` is allowed */
    if (!node->with.scope || !visit_list(node->with.targets, declare_name, resolver) ||
        !visit_list(node->with.targets, bind_name, resolver)) {
        return false;
    }
    resolver->loops = loops;
    if (!bind_body(resolver, node->with.body)) {
        return false;
    }
    close_scope(resolver);
    return true;
}

static bool bind_macro(struct resolver *resolver, struct jinja_node *node)
{
    if (!bind_function(resolver, node->macro)) {
        return false;
    }
    node->macro->place = place_of(resolver, node->macro->name->innermost);
    return true;
}

static bool bind_statement(struct resolver *resolver, struct jinja_node *node)
{
    switch ((enum jinja_node_kind)node->kind) {
    case NODE_OUTPUT:
    case NODE_DO:
        return visit_names(node->operand, bind_name, resolver);
    case NODE_FOR:
        return bind_for(resolver, node);
    case NODE_SET:
        return visit_names(node->set.value, bind_name, resolver) &&
               visit_names(node->set.target, bind_name, resolver);
    case NODE_SET_BLOCK:
    case NODE_FILTER_BLOCK:
        return bind_captured(resolver, node);
    case NODE_MACRO:
        return bind_macro(resolver, node);
    case NODE_CALL_BLOCK:
        return bind_function(resolver, node->call_block.function) &&
               visit_names(node->call_block.call, bind_name, resolver);
    case NODE_WITH:
    case NODE_SCOPE:
        return bind_with(resolver, node);
    default:
        return true;
    }
}

static bool bind_statements(struct resolver *resolver, struct jinja_node *node)
{
    for (; node; node = node->next) {
        struct jinja_node *branch = node;
        for (; branch && branch->kind == NODE_IF; branch = branch->condition.otherwise) {
            if (!visit_names(branch->condition.test, bind_name, resolver) ||
                !bind_statements(resolver, branch->condition.then)) {
                return false;
            }
            if (branch->condition.otherwise && branch->condition.otherwise->next) {
                branch = branch->condition.otherwise;
                break;
            }
        }
        bool is_else = branch && branch != node;
        if (is_else ? !bind_statements(resolver, branch)
                    : node->kind != NODE_IF && !bind_statement(resolver, node)) {
            return false;
        }
    }
    return true;
}

static struct jinja_name *find_name(struct template *template, const char *text)
{
    for (uint32_t i = 0; i < template->name_count; i++) {
        if (text_view_is(jinja_text(template->name_list[i]->string), text)) {
            return template->name_list[i];
        }
    }
    return NULL;
}

llcuda_status template_resolve(struct template *template, struct llcuda_error *error)
{
    struct resolver resolver = {.template = template, .error = error};
    template->name_list =
        arena_alloc(&template->arena, template->name_count, sizeof *template->name_list);
    if (!template->name_list) {
        return error_no_memory(error, "a chat template", 0);
    }
    for (uint32_t bucket = 0; bucket < JINJA_NAME_BUCKETS; bucket++) {
        for (struct jinja_name *name = template->names[bucket]; name; name = name->next) {
            template->name_list[name->id] = name;
        }
    }
    resolver.loop = find_name(template, "loop");
    resolver.caller = find_name(template, "caller");
    resolver.kwargs = find_name(template, "kwargs");
    resolver.varargs = find_name(template, "varargs");
    template->scope = open_scope(&resolver, &template->body);
    if (!template->scope || !bind_body(&resolver, template->nodes)) {
        return resolver.status;
    }
    close_scope(&resolver);
    return LLCUDA_OK;
}
