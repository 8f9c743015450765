/* Stages of experts: what plan_finish derives and refuses, what they cost, how they are listed. And
 * the choice of experts, reference_route, against its definition. */
#include "refusals.h"

#include "plan/plan.h"
#include "tensor/reference.h"

enum { E = 64, D = 16, G = 32, S = 96, X = 6, USED = 2, V = 40, STAGE = 4 };

static float memory[V * E * 4]; /* what the weights point at; no test reads a value from it */

static uint32_t add(struct plan *plan, const char *name, enum dtype dtype, uint64_t rows,
                    uint64_t columns)
{
    struct tensor tensor = {.name = text_view_of(name),
                            .dtype = dtype,
                            .rank = columns ? 2 : 1,
                            .shape = {rows, columns},
                            .data = memory};
    uint64_t row_bytes;
    assert_true(dtype_row_bytes(dtype, columns ? columns : rows, &row_bytes));
    tensor.bytes = row_bytes * (columns ? rows : 1);
    return plan_add_weight(plan, &tensor, 0, rows);
}

static uint32_t add_experts(struct plan *plan, const char *name, uint64_t rows, uint64_t columns)
{
    uint32_t first = add(plan, name, DTYPE_Q8_0, rows, columns);
    for (uint32_t i = 1; i < X; i++) {
        add(plan, name, DTYPE_Q8_0, rows, columns);
    }
    return first;
}

static struct plan_norm norm(struct plan *plan)
{
    return (struct plan_norm){
        .weight = add(plan, "norm", DTYPE_F32, E, 0), .bias = PLAN_NONE, .epsilon = 1e-5f};
}

static void add_stage(struct plan *plan)
{
    struct plan_op *op = plan_add_op(plan, PLAN_EXPERTS, 0);
    op->experts.norm = norm(plan);
    op->experts.expert_count = X;
    op->experts.used_count = USED;
    op->experts.router = add(plan, "router", DTYPE_F32, X, E);
    op->experts.gate = add_experts(plan, "gate", G, E);
    op->experts.up = add_experts(plan, "up", G, E);
    op->experts.down = add_experts(plan, "down", E, G);
    op->experts.down_bias = add(plan, "down_bias", DTYPE_F16, X, E);
    op->experts.normalised = true;
    op->experts.scale = 1;
    op->experts.shared_gate = add(plan, "shared_gate", DTYPE_F32, S, E);
    op->experts.shared_up = add(plan, "shared_up", DTYPE_F32, S, E);
    op->experts.shared_down = add(plan, "shared_down", DTYPE_F32, E, S);
    op->experts.shared_router = add(plan, "shared_router", DTYPE_F32, E, 0);
}

/* embed, qkv, attention, project, experts, logits */
static struct plan *make_plan(void)
{
    struct plan *plan = plan_create();
    assert_non_null(plan);
    plan->context_length = 128;
    uint32_t embedding = add(plan, "embedding", DTYPE_F32, V, E);
    struct plan_op *op = plan_add_op(plan, PLAN_EMBED, 0);
    op->embed.weight = embedding;
    op->embed.scale = 1;
    op = plan_add_op(plan, PLAN_QKV, 0);
    op->qkv.norm = norm(plan);
    op->qkv.query = op->qkv.key = op->qkv.value = add(plan, "qkv", DTYPE_F32, D, E);
    op->qkv.head_count = op->qkv.kv_head_count = 1;
    op->qkv.head_size = D;
    op = plan_add_op(plan, PLAN_ATTENTION, 0);
    op->attention.head_count = op->attention.kv_head_count = 1;
    op->attention.head_size = D;
    op->attention.scale = 1;
    op = plan_add_op(plan, PLAN_PROJECT, 0);
    op->project.input = PLAN_BUFFER_ATTENDED;
    op->project.weight = add(plan, "o", DTYPE_F32, E, D);
    add_stage(plan);
    op = plan_add_op(plan, PLAN_LOGITS, 0);
    op->logits.norm = norm(plan);
    op->logits.weight = embedding;
    op->logits.scale = 1;
    return plan;
}

static void finish_derives_the_dimensions(void **state)
{
    (void)state;
    struct llcuda_error error;
    struct plan *plan = make_plan();
    assert_ok(plan_finish(plan, &error), error);
    assert_int_equal(plan->expert_count, X);
    assert_int_equal(plan->used_count, USED);
    assert_int_equal(plan->expert_width, G);
    assert_int_equal(plan->shared_width, S);
    assert_int_equal(plan->width[PLAN_BUFFER_HIDDEN], 0);
    plan_destroy(plan);
}

/* --- refusals -------------------------------------------------------------------------------- */

#define SPOIL(name, ...)                             \
    static void name(struct plan *plan)              \
    {                                                \
        struct plan_op *op = &plan->ops[STAGE];      \
        struct plan_weight *weights = plan->weights; \
        (void)weights;                               \
        __VA_ARGS__;                                 \
    }

SPOIL(no_experts, op->experts.expert_count = 0)
SPOIL(too_many_experts, op->experts.expert_count = 5000)
SPOIL(none_used, op->experts.used_count = 0)
SPOIL(more_used_than_there_are, op->experts.used_count = X + 1)
SPOIL(count_past_the_weights, op->experts.expert_count = 900;
      weights[op->experts.router].rows = 900; weights[op->experts.router].bytes = 900 * E * 4)
SPOIL(router_rows, op->experts.router = op->experts.gate)
SPOIL(no_router, op->experts.router = PLAN_NONE)
SPOIL(no_gates, op->experts.gate = PLAN_NONE)
SPOIL(one_gate_misshapen, weights[op->experts.gate + 3].rows = G / 2;
      weights[op->experts.gate + 3].bytes /= 2)
SPOIL(one_down_of_another_type, weights[op->experts.down + X - 1].dtype = DTYPE_F32;
      weights[op->experts.down + X - 1].bytes = E * G * 4)
SPOIL(down_columns, op->experts.down = op->experts.up)
SPOIL(bias_rows, weights[op->experts.down_bias].rows = X - 1;
      weights[op->experts.down_bias].bytes = (X - 1) * E * 2)
SPOIL(quantised_bias, op->experts.gate_bias = add(plan, "b", DTYPE_Q8_0, X, G))
SPOIL(router_bias_length, op->experts.router_bias = add(plan, "b", DTYPE_F32, X + 1, 0))
SPOIL(choice_bias_length, op->experts.selection_bias = add(plan, "b", DTYPE_F32, X + 1, 0))
SPOIL(shared_without_up, op->experts.shared_up = PLAN_NONE)
SPOIL(shared_without_gate, op->experts.shared_gate = PLAN_NONE)
SPOIL(shared_down_columns, op->experts.shared_down = op->experts.shared_up)
SPOIL(shared_router_length, op->experts.shared_router = add(plan, "r", DTYPE_F32, E + 1, 0))
SPOIL(zero_scale, op->experts.scale = 0)
SPOIL(nan_scale, op->experts.scale = NAN)
SPOIL(unknown_scoring, op->experts.scoring = (enum plan_scoring)7)
SPOIL(unknown_activation, op->experts.activation = (enum plan_activation)9)

static const struct refusal refusals[] = {
    REFUSAL(no_experts, "2 of 0 experts"),
    REFUSAL(too_many_experts, "2 of 5000 experts: at most 64 of 1024"),
    REFUSAL(none_used, "0 of 6 experts"),
    REFUSAL(more_used_than_there_are, "7 of 6 experts"),
    REFUSAL(count_past_the_weights, "no up weights of 900 experts"),
    REFUSAL(router_rows, "router weight"),
    REFUSAL(no_router, "no router weight"),
    REFUSAL(no_gates, "no gate weights"),
    REFUSAL(one_gate_misshapen, "gate weight 'gate' is [16, 64], wanted is [32, 64]"),
    REFUSAL(one_down_of_another_type, "is of type f32, that of the first expert of q8_0"),
    REFUSAL(down_columns, "down weight 'up' is [32, 64], wanted is [64, 32]"),
    REFUSAL(bias_rows, "down biases weight 'down_bias' is [5, 64], wanted is [6, 64]"),
    REFUSAL(quantised_bias, "gate biases 'b' are of type q8_0"),
    REFUSAL(router_bias_length, "router bias"),
    REFUSAL(choice_bias_length, "choice bias"),
    REFUSAL(shared_without_up, "parts of a shared expert"),
    REFUSAL(shared_without_gate, "no shared gate"),
    REFUSAL(shared_down_columns, "shared down weight"),
    REFUSAL(shared_router_length, "shared router"),
    REFUSAL(zero_scale, "scale of the experts is 0"),
    REFUSAL(nan_scale, "scale of the experts"),
    REFUSAL(unknown_scoring, "scoring of unknown kind 7"),
    REFUSAL(unknown_activation, "activation of unknown kind 9"),
};

static void finish_refuses(void **state)
{
    (void)state;
    refusals_check(refusals, sizeof refusals / sizeof *refusals, make_plan);
}

static void cost_counts_touched_experts(void **state)
{
    (void)state;
    struct llcuda_error error;
    struct plan *plan = make_plan();
    assert_ok(plan_finish(plan, &error), error);
    const uint64_t each = (2 * G * E + E * G) / 32 * 34;
    const uint64_t rest = E * 4 + X * E * 4 + X * E * 2 + 3 * S * E * 4 + E * 4;
    const uint64_t flop = 2 * X * E + USED * 2 * 3 * G * E + 2 * 3 * S * E;
    struct plan_cost cost = plan_op_cost(plan, &plan->ops[STAGE], 1, 1, 0, DTYPE_F32);
    assert_in_range(cost.weight_bytes, rest + USED * each - 3, rest + USED * each);
    assert_int_equal(cost.flop, flop);
    cost = plan_op_cost(plan, &plan->ops[STAGE], 2, 1, 0, DTYPE_F32);
    /* 6 · (1 − (2/3)²) = 10/3 */
    assert_in_range(cost.weight_bytes, rest + 10 * each / 3 - 3, rest + 10 * each / 3 + 1);
    assert_int_equal(cost.flop, 2 * flop);
    cost = plan_op_cost(plan, &plan->ops[STAGE], 4096, 1, 0, DTYPE_F32);
    assert_in_range(cost.weight_bytes, rest + X * each - 3, rest + X * each);
    cost = plan_op_cost(plan, &plan->ops[STAGE], 0, 1, 0, DTYPE_F32);
    assert_int_equal(cost.weight_bytes, 0);
    plan_destroy(plan);
}

static void dump_lists_experts(void **state)
{
    (void)state;
    struct llcuda_error error;
    struct plan *plan = make_plan();
    assert_ok(plan_finish(plan, &error), error);
    struct buffer text = {0};
    plan_dump(plan, &text);
    static const char *const wanted[] = {
        "   4 experts      layer 0 norm=rms epsilon=1e-05 experts=6 used=2 scoring=softmax "
        "normalised scale=1 activation=silu shared\n",
        "gates        q8_0  [32, 64] gate … 6 of them\n"};
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        if (!strstr(buffer_text(&text), wanted[i])) {
            fail_msg("'%s' is not in\n%s", wanted[i], buffer_text(&text));
        }
    }
    buffer_deinit(&text);
    plan_destroy(plan);
}

/* --- routing --------------------------------------------------------------------------------- */

static void route_takes_the_largest(void **state)
{
    (void)state;
    const float logits[5] = {1.0f, 3.0f, -2.0f, 3.0f, 2.0f};
    struct reference_routing routing = {.expert_count = 5, .used_count = 2, .scale = 1};
    uint32_t ids[5];
    float weights[5];
    reference_route(&routing, logits, NULL, ids, weights);
    assert_int_equal(ids[0], 1);
    assert_int_equal(ids[1], 3);
    double total = exp(1) + 2 * exp(3) + exp(-2) + exp(2);
    assert_true(fabs((double)weights[0] - exp(3) / total) < 1e-7);
    routing.used_count = 1; /* of equals the first */
    reference_route(&routing, logits, NULL, ids, weights);
    assert_int_equal(ids[0], 1);
    routing.used_count = 3;
    routing.normalised = true;
    routing.scale = 2;
    reference_route(&routing, logits, NULL, ids, weights);
    assert_int_equal(ids[2], 4);
    assert_true(fabs((double)(weights[0] + weights[1] + weights[2]) - 2) < 1e-6);
    assert_true(fabs((double)(weights[2] / weights[0]) - exp(-1)) < 1e-6);
}

static void a_bias_changes_the_choice_alone(void **state)
{
    (void)state;
    const float logits[4] = {1.0f, 0.0f, -1.0f, 2.0f};
    const float bias[4] = {0.0f, 0.0f, 0.9f, -0.9f};
    struct reference_routing routing = {
        .expert_count = 4, .used_count = 2, .sigmoid = true, .scale = 1};
    uint32_t ids[4];
    float weights[4];
    reference_route(&routing, logits, bias, ids, weights);
    assert_int_equal(ids[0], 0);
    assert_int_equal(ids[1], 2);
    assert_true(fabs((double)weights[1] - 1 / (1 + exp(1))) < 1e-7);
}

static void values_that_are_not_finite_choose_something(void **state)
{
    (void)state;
    const float logits[4] = {NAN, -INFINITY, NAN, INFINITY};
    struct reference_routing routing = {.expert_count = 4, .used_count = 2, .scale = 1};
    uint32_t ids[4];
    float weights[4];
    reference_route(&routing, logits, NULL, ids, weights);
    assert_int_equal(ids[0], 1);
    assert_int_equal(ids[1], 3);
    routing.used_count = 4;
    reference_route(&routing, logits, NULL, ids, weights);
    for (uint32_t i = 0; i < 4; i++) {
        assert_int_equal(ids[i], i);
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(finish_derives_the_dimensions),
    cmocka_unit_test(finish_refuses),
    cmocka_unit_test(cost_counts_touched_experts),
    cmocka_unit_test(dump_lists_experts),
    cmocka_unit_test(route_takes_the_largest),
    cmocka_unit_test(a_bias_changes_the_choice_alone),
    cmocka_unit_test(values_that_are_not_finite_choose_something),
};

TEST_MAIN(tests)
