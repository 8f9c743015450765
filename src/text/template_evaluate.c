/* Owns the evaluation of expressions. Recursion follows the tree and, through macros, the calls of
 * the template; jinja_enter bounds both together. Every node costs a step. */
#include "text/template_engine.h"

static const struct jinja_value *slot_of(const struct jinja_activation *activation,
                                         struct jinja_place place)
{
    while (place.hops-- > 0) {
        activation = activation->outer;
    }
    return &activation->slots[place.slot];
}

bool jinja_resolve_global(struct jinja_render *render, const struct jinja_name *name,
                          struct jinja_value *out)
{
    if (!render->globals_known[name->id]) {
        struct jinja_value *global = &render->globals[name->id];
        struct text_view text = jinja_text(name->string);
        const struct json_value *member = NULL;
        if (render->context && !jinja_step(render, render->context->count / 8)) {
            return false;
        }
        JSON_EACH_KEY(key, render->context)
        {
            if (text_view_equal(json_text(key), text)) {
                member = json_next(key);
            }
        }
        if (member) {
            if (!jinja_from_json(render, member, false, global)) {
                return false;
            }
        } else {
            const struct jinja_builtin *builtin = jinja_find_global(text);
            if (builtin) {
                *global = (struct jinja_value){.kind = JINJA_FUNCTION, .builtin = builtin};
            }
        }
        render->globals_known[name->id] = true;
    }
    *out = render->globals[name->id];
    return true;
}

/* --- calls --- */

/* Adds what *args and **kwargs hold. */
static bool add_stars(struct jinja_render *render, struct jinja_value star,
                      struct jinja_value star_star, struct jinja_call *call)
{
    if (star.kind != JINJA_MISSING) {
        struct jinja_items items;
        if (!jinja_to_list(render, star, &items)) {
            return false;
        }
        struct jinja_value *all = jinja_alloc(render, call->count + items.count, sizeof *all);
        if (!all) {
            return false;
        }
        for (size_t i = 0; i < call->count + items.count; i++) {
            all[i] = i < call->count ? call->positional[i] : items.items[i - call->count];
        }
        call->positional = all;
        call->count += items.count;
    }
    if (star_star.kind == JINJA_MISSING) {
        return true;
    }
    if (star_star.kind != JINJA_DICT) {
        return jinja_fail(render, "the argument after ** must be a mapping, not %s",
                          jinja_type_name(star_star));
    }
    size_t count = call->keyword_count + star_star.dict->count;
    struct jinja_keyword *all = jinja_alloc(render, count, sizeof *all);
    if (!all || !jinja_step(render, count * (1 + call->keyword_count))) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        if (i < call->keyword_count) {
            all[i] = call->keywords[i];
            continue;
        }
        const struct jinja_entry *entry = &star_star.dict->entries[i - call->keyword_count];
        if (entry->key.kind != JINJA_STRING) {
            return jinja_fail(render, "keywords must be strings");
        }
        all[i] = (struct jinja_keyword){jinja_text(entry->key), entry->value};
        for (size_t k = 0; k < call->keyword_count; k++) {
            if (text_view_equal(all[k].name, all[i].name)) {
                return jinja_fail(render, "got multiple values for keyword argument '%.*s'",
                                  TEXT_ARGUMENTS(all[i].name));
            }
        }
    }
    call->keywords = all;
    call->keyword_count = count;
    return true;
}

static bool evaluate_arguments(struct jinja_render *render, struct jinja_activation *activation,
                               const struct jinja_arguments *arguments,
                               const struct jinja_value *caller, struct jinja_call *call)
{
    *call = (struct jinja_call){0};
    if (!arguments) {
        return true;
    }
    size_t keyword_count = arguments->keyword_count + (caller != NULL);
    call->positional = jinja_alloc(render, arguments->positional_count, sizeof *call->positional);
    call->keywords = jinja_alloc(render, keyword_count, sizeof *call->keywords);
    if (!call->positional || !call->keywords) {
        return false;
    }
    for (const struct jinja_node *node = arguments->positional; node; node = node->next) {
        if (!jinja_evaluate(render, activation, node, &call->positional[call->count++])) {
            return false;
        }
    }
    for (const struct jinja_node *node = arguments->keywords; node; node = node->next) {
        struct jinja_keyword *keyword = &call->keywords[call->keyword_count++];
        keyword->name = jinja_text(node->keyword.name->string);
        if (!jinja_evaluate(render, activation, node->keyword.value, &keyword->value)) {
            return false;
        }
    }
    if (caller) {
        struct jinja_keyword *keyword = &call->keywords[call->keyword_count++];
        keyword->name = text_view_of("caller");
        keyword->value = *caller;
    }
    struct jinja_value star = {0};
    struct jinja_value star_star = {0};
    return (!arguments->star || jinja_evaluate(render, activation, arguments->star, &star)) &&
           (!arguments->star_star ||
            jinja_evaluate(render, activation, arguments->star_star, &star_star)) &&
           add_stars(render, star, star_star, call);
}

static bool apply_slice(struct jinja_render *render, struct jinja_activation *activation,
                        const struct jinja_node *node, struct jinja_value *value)
{
    const struct jinja_node *const nodes[3] = {node->slice.start, node->slice.stop,
                                               node->slice.step};
    struct jinja_value bounds[3] = {{0}, {0}, {0}};
    for (int i = 0; i < 3; i++) {
        if (nodes[i] && !jinja_evaluate(render, activation, nodes[i], &bounds[i])) {
            return false;
        }
    }
    render->at = node->offset;
    return jinja_slice(render, *value, bounds, value);
}

static bool apply_step(struct jinja_render *render, struct jinja_activation *activation,
                       const struct jinja_node *node, const struct jinja_value *caller,
                       struct jinja_value *value)
{
    struct jinja_call call;
    struct jinja_value key;
    render->at = node->offset;
    switch ((enum jinja_node_kind)node->kind) {
    case NODE_ATTRIBUTE:
        return jinja_get_attribute(render, *value, node->attribute, value);
    case NODE_ITEM:
        if (!jinja_evaluate(render, activation, node->operand, &key)) {
            return false;
        }
        render->at = node->offset;
        return jinja_get_item(render, *value, key, value);
    case NODE_SLICE:
        return apply_slice(render, activation, node, value);
    default:
        break;
    }
    if (!evaluate_arguments(render, activation, node->invoke.arguments, caller, &call)) {
        return false;
    }
    render->at = node->offset;
    if (node->kind == NODE_CALL) {
        return jinja_call_value(render, *value, &call, value);
    }
    if (!jinja_invoke(render, node->invoke.builtin, *value, &call, value)) {
        return false;
    }
    if (node->kind == NODE_TEST) {
        *value = jinja_bool(jinja_truth(*value) != (node->op != 0));
    }
    return true;
}

bool jinja_apply_steps(struct jinja_render *render, struct jinja_activation *activation,
                       const struct jinja_node *steps, const struct jinja_value *caller,
                       struct jinja_value *value)
{
    for (; steps; steps = steps->next) {
        if (!jinja_step(render, 1) ||
            !apply_step(render, activation, steps, steps->next ? NULL : caller, value)) {
            return false;
        }
    }
    return true;
}

/* --- operators --- */

static bool evaluate_binary(struct jinja_render *render, struct jinja_activation *activation,
                            const struct jinja_node *node, struct jinja_value *out)
{
    if (!jinja_evaluate(render, activation, node->chain.first, out)) {
        return false;
    }
    for (const struct jinja_node *operand = node->chain.rest; operand; operand = operand->next) {
        struct jinja_value right;
        if (!jinja_evaluate(render, activation, operand->operand, &right)) {
            return false;
        }
        render->at = operand->offset;
        if (!jinja_binary(render, (enum jinja_operator)operand->op, *out, right, out)) {
            return false;
        }
    }
    return true;
}

/* a < b < c compares neighbours and stops at the first that does not hold. */
static bool evaluate_compare(struct jinja_render *render, struct jinja_activation *activation,
                             const struct jinja_node *node, struct jinja_value *out)
{
    struct jinja_value left;
    bool holds = true;
    if (!jinja_evaluate(render, activation, node->chain.first, &left)) {
        return false;
    }
    for (const struct jinja_node *operand = node->chain.rest; operand && holds;
         operand = operand->next) {
        struct jinja_value right;
        if (!jinja_evaluate(render, activation, operand->operand, &right)) {
            return false;
        }
        render->at = operand->offset;
        if (!jinja_comparison(render, (enum jinja_operator)operand->op, left, right, &holds)) {
            return false;
        }
        left = right;
    }
    *out = jinja_bool(holds);
    return true;
}

/* `and` and `or` give one of their operands, as in Python. */
static bool evaluate_logic(struct jinja_render *render, struct jinja_activation *activation,
                           const struct jinja_node *node, struct jinja_value *out)
{
    bool stop_at = node->kind == NODE_OR;
    for (const struct jinja_node *part = node->list.first; part; part = part->next) {
        if (!jinja_evaluate(render, activation, part, out)) {
            return false;
        }
        if (jinja_truth(*out) == stop_at) {
            break;
        }
    }
    return true;
}

static bool evaluate_concat(struct jinja_render *render, struct jinja_activation *activation,
                            const struct jinja_node *node, struct jinja_value *out)
{
    struct jinja_value joined = {0};
    for (const struct jinja_node *part = node->list.first; part; part = part->next) {
        struct jinja_value value;
        if (!jinja_evaluate(render, activation, part, &value) ||
            !jinja_to_string(render, value, &value)) {
            return false;
        }
        if (joined.kind == JINJA_MISSING) {
            joined = value;
        } else if (!jinja_string_join(render, joined.string, value.string, &joined)) {
            return false;
        }
    }
    return jinja_string_mark(render, joined, false, out);
}

static bool evaluate_condition(struct jinja_render *render, struct jinja_activation *activation,
                               const struct jinja_node *node, struct jinja_value *out)
{
    struct jinja_value test;
    if (!jinja_evaluate(render, activation, node->condition.test, &test)) {
        return false;
    }
    if (jinja_truth(test)) {
        return jinja_evaluate(render, activation, node->condition.then, out);
    }
    if (node->condition.otherwise) {
        return jinja_evaluate(render, activation, node->condition.otherwise, out);
    }
    return jinja_undefined_hint(render,
                                "the inline if-expression evaluated to false and no else section "
                                "was defined",
                                out);
}

static bool evaluate_list(struct jinja_render *render, struct jinja_activation *activation,
                          const struct jinja_node *node, struct jinja_value *out)
{
    struct jinja_value *items = jinja_alloc(render, node->list.count, sizeof *items);
    size_t count = 0;
    if (!items) {
        return false;
    }
    for (const struct jinja_node *item = node->list.first; item; item = item->next) {
        if (!jinja_evaluate(render, activation, item, &items[count++])) {
            return false;
        }
    }
    return jinja_list_make(render, node->kind == NODE_LIST ? JINJA_LIST : JINJA_TUPLE, items, count,
                           out);
}

static bool evaluate_dict(struct jinja_render *render, struct jinja_activation *activation,
                          const struct jinja_node *node, struct jinja_value *out)
{
    struct jinja_dict *dict = jinja_dict_make(render, node->list.count / 2);
    if (!dict) {
        return false;
    }
    for (const struct jinja_node *key = node->list.first; key; key = key->next->next) {
        struct jinja_value name;
        struct jinja_value value;
        if (!jinja_evaluate(render, activation, key, &name) ||
            !jinja_evaluate(render, activation, key->next, &value) ||
            !jinja_dict_set(render, dict, name, value)) {
            return false;
        }
    }
    *out = (struct jinja_value){.kind = JINJA_DICT, .dict = dict};
    return true;
}

static bool evaluate_postfix(struct jinja_render *render, struct jinja_activation *activation,
                             const struct jinja_node *node, struct jinja_value *out)
{
    return jinja_evaluate(render, activation, node->chain.first, out) &&
           jinja_apply_steps(render, activation, node->chain.rest, NULL, out);
}

static bool evaluate_unary(struct jinja_render *render, struct jinja_activation *activation,
                           const struct jinja_node *node, struct jinja_value *out)
{
    if (!jinja_evaluate(render, activation, node->operand, out)) {
        return false;
    }
    if (node->kind == NODE_NOT) {
        *out = jinja_bool(!jinja_truth(*out));
        return true;
    }
    render->at = node->offset;
    return jinja_negate(render, *out, node->kind == NODE_NEGATE, out);
}

static bool evaluate_nested(struct jinja_render *render, struct jinja_activation *activation,
                            const struct jinja_node *node, struct jinja_value *out)
{
    switch ((enum jinja_node_kind)node->kind) {
    case NODE_TUPLE:
    case NODE_LIST:
        return evaluate_list(render, activation, node, out);
    case NODE_DICT:
        return evaluate_dict(render, activation, node, out);
    case NODE_BINARY:
        return evaluate_binary(render, activation, node, out);
    case NODE_COMPARE:
        return evaluate_compare(render, activation, node, out);
    case NODE_CONCAT:
        return evaluate_concat(render, activation, node, out);
    case NODE_AND:
    case NODE_OR:
        return evaluate_logic(render, activation, node, out);
    case NODE_CONDITION:
        return evaluate_condition(render, activation, node, out);
    case NODE_POSTFIX:
        return evaluate_postfix(render, activation, node, out);
    default: /* NOT, NEGATE, PLUS */
        return evaluate_unary(render, activation, node, out);
    }
}

bool jinja_evaluate(struct jinja_render *render, struct jinja_activation *activation,
                    const struct jinja_node *node, struct jinja_value *out)
{
    if (!jinja_step(render, 1)) {
        return false;
    }
    if (node->kind == NODE_CONSTANT) {
        *out = node->constant;
        return true;
    }
    if (node->kind == NODE_NAME) {
        *out = *slot_of(activation, node->name.place);
        if (out->kind == JINJA_MISSING) {
            *out = node->name.name->undefined;
        }
        return true;
    }
    if (!jinja_enter(render)) {
        return false;
    }
    bool ok = evaluate_nested(render, activation, node, out);
    jinja_leave(render);
    return ok;
}
