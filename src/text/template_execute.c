/* Owns the execution of statements: output, branches, loops, assignments, macros' definitions.
 * Captured pieces (set blocks, filter blocks, macros) are written behind the finished text in the
 * one output buffer and taken off again, so nothing needs cleaning up on the way out of an error.
 * Recursion is bounded by jinja_enter. */
#include "text/template_engine.h"

struct jinja_activation *jinja_activate(struct jinja_render *render, struct jinja_activation *outer,
                                        const struct jinja_body *body)
{
    size_t bytes = sizeof(struct jinja_activation) + body->slot_count * sizeof(struct jinja_value);
    struct jinja_activation *activation = NULL;
    if (jinja_step_bytes(render, bytes)) {
        activation = jinja_alloc(render, 1, bytes);
    }
    if (activation) {
        activation->outer = outer;
    }
    return activation;
}

static struct jinja_value *slot_of(struct jinja_activation *activation, struct jinja_place place)
{
    while (place.hops-- > 0) {
        activation = activation->outer;
    }
    return &activation->slots[place.slot];
}

bool jinja_enter_scope(struct jinja_render *render, struct jinja_activation *activation,
                       const struct jinja_scope *scope)
{
    if (!jinja_step(render, scope->count)) {
        return false;
    }
    for (const struct jinja_symbol *symbol = scope->symbols; symbol; symbol = symbol->next) {
        struct jinja_value *slot = &activation->slots[symbol->slot];
        switch ((enum jinja_load)symbol->load) {
        case LOAD_PARAMETER:
            break;
        case LOAD_RESOLVE:
            if (!jinja_resolve_global(render, symbol->name, slot)) {
                return false;
            }
            break;
        case LOAD_ALIAS:
            *slot = *slot_of(activation, symbol->source);
            break;
        case LOAD_UNDEFINED:
            *slot = (struct jinja_value){0};
            break;
        }
    }
    return true;
}

void jinja_leave_scope(struct jinja_activation *activation, const struct jinja_scope *scope)
{
    for (const struct jinja_symbol *symbol = scope->symbols; symbol; symbol = symbol->next) {
        activation->slots[symbol->slot] = (struct jinja_value){0};
    }
}

/* --- assignments --- */

static bool assign_attribute(struct jinja_render *render, struct jinja_activation *activation,
                             const struct jinja_node *target, struct jinja_value value)
{
    struct jinja_value *space = slot_of(activation, target->store_attribute.place);
    if (space->kind != JINJA_NAMESPACE) {
        render->at = target->offset;
        return jinja_fail(render, "cannot assign attribute on non-namespace object");
    }
    return jinja_dict_set(render, space->dict, target->store_attribute.attribute->string, value);
}

static bool unpack(struct jinja_render *render, struct jinja_activation *activation,
                   const struct jinja_node *target, struct jinja_value value)
{
    struct jinja_iterator iterator;
    struct jinja_value item;
    struct jinja_items items = {0};
    render->at = target->offset;
    if (!jinja_is_iterable(value)) {
        return jinja_fail(render, "cannot unpack non-iterable %s object", jinja_type_name(value));
    }
    if (!jinja_iterate(render, value, &iterator)) {
        return false;
    }
    enum jinja_advance advance;
    while ((advance = jinja_next(render, &iterator, &item)) == JINJA_ITEM) {
        if (items.count == target->list.count) {
            return jinja_fail(render, "too many values to unpack (expected %u)",
                              target->list.count);
        }
        if (!jinja_items_add(render, &items, item)) {
            return false;
        }
    }
    if (advance == JINJA_ERROR) {
        return false;
    }
    if (items.count < target->list.count) {
        return jinja_fail(render, "not enough values to unpack (expected %u, got %zu)",
                          target->list.count, items.count);
    }
    size_t i = 0;
    for (const struct jinja_node *part = target->list.first; part; part = part->next) {
        if (!jinja_assign(render, activation, part, items.items[i++])) {
            return false;
        }
    }
    return true;
}

bool jinja_assign(struct jinja_render *render, struct jinja_activation *activation,
                  const struct jinja_node *target, struct jinja_value value)
{
    if (target->kind == NODE_STORE) {
        *slot_of(activation, target->name.place) = value;
        return true;
    }
    if (target->kind == NODE_STORE_ATTRIBUTE) {
        return assign_attribute(render, activation, target, value);
    }
    if (!jinja_enter(render)) {
        return false;
    }
    bool ok = unpack(render, activation, target, value);
    jinja_leave(render);
    return ok;
}

/* jinja2 looks before it evaluates the value: every a.b must stand on a namespace. */
static bool check_namespaces(struct jinja_render *render, struct jinja_activation *activation,
                             const struct jinja_node *target)
{
    if (target->kind == NODE_STORE_ATTRIBUTE) {
        render->at = target->offset;
        return slot_of(activation, target->store_attribute.place)->kind == JINJA_NAMESPACE ||
               jinja_fail(render, "cannot assign attribute on non-namespace object");
    }
    if (target->kind == NODE_TUPLE) {
        for (const struct jinja_node *part = target->list.first; part; part = part->next) {
            if (!check_namespaces(render, activation, part)) {
                return false;
            }
        }
    }
    return true;
}

static bool execute_set(struct jinja_render *render, struct jinja_activation *activation,
                        const struct jinja_node *node)
{
    struct jinja_value value;
    return check_namespaces(render, activation, node->set.target) &&
           jinja_evaluate(render, activation, node->set.value, &value) &&
           jinja_assign(render, activation, node->set.target, value);
}

/* The body's text after its filters; the scope is left again. On a jump out of the body the text is
 * dropped. */
static bool execute_captured(struct jinja_render *render, struct jinja_activation *activation,
                             const struct jinja_node *node, enum jinja_flow *flow,
                             struct jinja_value *text)
{
    size_t mark = jinja_capture(render);
    if (!jinja_enter_scope(render, activation, node->set.scope) ||
        !jinja_execute(render, activation, node->set.body, flow)) {
        return false;
    }
    if (*flow != JINJA_NEXT) {
        render->out.length = mark;
        return true;
    }
    if (!jinja_capture_end(render, mark, text)) {
        return false;
    }
    if (node->set.value &&
        !jinja_apply_steps(render, activation, node->set.value->chain.rest, NULL, text)) {
        return false;
    }
    jinja_leave_scope(activation, node->set.scope);
    return true;
}

static bool execute_set_block(struct jinja_render *render, struct jinja_activation *activation,
                              const struct jinja_node *node, enum jinja_flow *flow)
{
    struct jinja_value text;
    return execute_captured(render, activation, node, flow, &text) &&
           (*flow != JINJA_NEXT || jinja_assign(render, activation, node->set.target, text));
}

static bool execute_filter_block(struct jinja_render *render, struct jinja_activation *activation,
                                 const struct jinja_node *node, enum jinja_flow *flow)
{
    struct jinja_value text;
    return execute_captured(render, activation, node, flow, &text) &&
           (*flow != JINJA_NEXT || jinja_print(render, text));
}

/* --- branches and loops --- */

static bool execute_if(struct jinja_render *render, struct jinja_activation *activation,
                       const struct jinja_node *node, enum jinja_flow *flow)
{
    for (;;) {
        struct jinja_value test;
        if (!jinja_evaluate(render, activation, node->condition.test, &test)) {
            return false;
        }
        if (jinja_truth(test)) {
            return jinja_execute(render, activation, node->condition.then, flow);
        }
        const struct jinja_node *otherwise = node->condition.otherwise;
        if (!otherwise || otherwise->kind != NODE_IF || otherwise->next) {
            return jinja_execute(render, activation, otherwise, flow);
        }
        node = otherwise;
    }
}

static bool start_loop(struct jinja_render *render, struct jinja_activation *activation,
                       const struct jinja_for *node, struct jinja_loop **out)
{
    struct jinja_loop *loop = jinja_alloc(render, 1, sizeof *loop);
    if (!loop || !jinja_evaluate(render, activation, node->iterable, &loop->iterable)) {
        return false;
    }
    render->at = node->iterable->offset;
    if (!jinja_iterate(render, loop->iterable, &loop->iterator)) {
        return false;
    }
    if (node->test) {
        loop->test_activation = jinja_activate(render, activation, node->test_body);
        if (!loop->test_activation ||
            !jinja_enter_scope(render, loop->test_activation, node->test_scope)) {
            return false;
        }
    }
    loop->node = node;
    loop->index0 = SIZE_MAX; /* before the first */
    *out = loop;
    return true;
}

/* `else` belongs to a loop none of whose rounds came to its end: jinja2 compiles it so, and a
 * `break` or `continue` in the first round counts. */
static bool execute_for(struct jinja_render *render, struct jinja_activation *activation,
                        const struct jinja_for *node, enum jinja_flow *flow)
{
    struct jinja_loop *loop;
    bool completed = false;
    if (!start_loop(render, activation, node, &loop)) {
        return false;
    }
    enum jinja_advance advance;
    while ((advance = jinja_loop_next(render, loop)) == JINJA_ITEM) {
        enum jinja_flow inner = JINJA_NEXT;
        if (node->extended) {
            activation->slots[node->loop_slot] =
                (struct jinja_value){.kind = JINJA_LOOP, .loop = loop};
        }
        if (!jinja_assign(render, activation, node->target, loop->current) ||
            !jinja_enter_scope(render, activation, node->scope) ||
            !jinja_execute(render, activation, node->body, &inner)) {
            return false;
        }
        completed = completed || inner == JINJA_NEXT;
        if (inner == JINJA_BREAK) {
            break;
        }
    }
    if (advance == JINJA_ERROR) {
        return false;
    }
    jinja_leave_scope(activation, node->scope);
    if (completed || !node->otherwise) {
        return true;
    }
    if (!jinja_enter_scope(render, activation, node->else_scope) ||
        !jinja_execute(render, activation, node->otherwise, flow)) {
        return false;
    }
    jinja_leave_scope(activation, node->else_scope);
    return true;
}

static bool execute_with(struct jinja_render *render, struct jinja_activation *activation,
                         const struct jinja_node *node, enum jinja_flow *flow)
{
    const struct jinja_node *value_node = node->with.values;
    if (!jinja_enter_scope(render, activation, node->with.scope)) {
        return false;
    }
    for (const struct jinja_node *target = node->with.targets; target; target = target->next) {
        struct jinja_value value;
        if (!jinja_evaluate(render, activation, value_node, &value) ||
            !jinja_assign(render, activation, target, value)) {
            return false;
        }
        value_node = value_node->next;
    }
    if (!jinja_execute(render, activation, node->with.body, flow)) {
        return false;
    }
    jinja_leave_scope(activation, node->with.scope);
    return true;
}

/* --- macros --- */

static bool make_macro(struct jinja_render *render, struct jinja_activation *activation,
                       const struct jinja_function_node *function, struct jinja_value *out)
{
    struct jinja_macro *macro = jinja_alloc(render, 1, sizeof *macro);
    if (!macro) {
        return false;
    }
    macro->node = function;
    macro->outer = activation;
    *out = (struct jinja_value){.kind = JINJA_MACRO, .macro = macro};
    return true;
}

static bool execute_call_block(struct jinja_render *render, struct jinja_activation *activation,
                               const struct jinja_node *node)
{
    struct jinja_value caller;
    struct jinja_value value;
    const struct jinja_node *call = node->call_block.call;
    return make_macro(render, activation, node->call_block.function, &caller) &&
           jinja_evaluate(render, activation, call->chain.first, &value) &&
           jinja_apply_steps(render, activation, call->chain.rest, &caller, &value) &&
           jinja_print(render, value);
}

/* --- all of them --- */

static bool execute_output(struct jinja_render *render, struct jinja_activation *activation,
                           const struct jinja_node *node)
{
    struct jinja_value value;
    return jinja_evaluate(render, activation, node->operand, &value) &&
           (node->kind == NODE_DO || jinja_print(render, value));
}

static bool execute_one(struct jinja_render *render, struct jinja_activation *activation,
                        const struct jinja_node *node, enum jinja_flow *flow)
{
    struct jinja_value value;
    switch ((enum jinja_node_kind)node->kind) {
    case NODE_TEXT:
        return jinja_step_bytes(render, node->text.length) &&
               jinja_put(render, node->text.data, node->text.length);
    case NODE_OUTPUT:
    case NODE_DO:
        return execute_output(render, activation, node);
    case NODE_IF:
        return execute_if(render, activation, node, flow);
    case NODE_FOR:
        return execute_for(render, activation, node->loop, flow);
    case NODE_SET:
        return execute_set(render, activation, node);
    case NODE_SET_BLOCK:
        return execute_set_block(render, activation, node, flow);
    case NODE_FILTER_BLOCK:
        return execute_filter_block(render, activation, node, flow);
    case NODE_MACRO:
        return make_macro(render, activation, node->macro, &value) &&
               (*slot_of(activation, node->macro->place) = value, true);
    case NODE_CALL_BLOCK:
        return execute_call_block(render, activation, node);
    case NODE_WITH:
    case NODE_SCOPE:
        return execute_with(render, activation, node, flow);
    case NODE_BREAK:
        *flow = JINJA_BREAK;
        return true;
    case NODE_CONTINUE:
        *flow = JINJA_CONTINUE;
        return true;
    default:
        return true;
    }
}

bool jinja_execute(struct jinja_render *render, struct jinja_activation *activation,
                   const struct jinja_node *nodes, enum jinja_flow *flow)
{
    if (!jinja_enter(render)) {
        return false;
    }
    for (; nodes && *flow == JINJA_NEXT; nodes = nodes->next) {
        render->at = nodes->offset;
        if (!jinja_step(render, 1) || !execute_one(render, activation, nodes, flow)) {
            return false;
        }
    }
    jinja_leave(render);
    return true;
}

bool jinja_run(struct jinja_render *render)
{
    enum jinja_flow flow = JINJA_NEXT;
    const struct template *template = render->template;
    struct jinja_activation *activation = jinja_activate(render, NULL, &template->body);
    return activation && jinja_enter_scope(render, activation, template->scope) &&
           jinja_execute(render, activation, template->nodes, &flow);
}
