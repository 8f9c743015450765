/* Plans: what plan_finish derives, everything that it must refuse, row ranges, costs, dumps. */
#include "refusals.h"

#include "plan/plan.h"

enum { E = 64, H = 4, K = 2, D = 16, F = 96, V = 40, LAYERS = 2 };

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

static struct plan_norm norm(struct plan *plan, const char *name, uint32_t width)
{
    return (struct plan_norm){.kind = PLAN_NORM_RMS,
                              .weight = add(plan, name, DTYPE_F32, width, 0),
                              .bias = PLAN_NONE,
                              .epsilon = 1e-5f};
}

static void add_layer(struct plan *plan, uint32_t layer, uint32_t table)
{
    struct plan_norm before = norm(plan, "attn_norm", E);
    struct plan_op *op = plan_add_op(plan, PLAN_QKV, layer);
    op->qkv.norm = before;
    op->qkv.query = add(plan, "q", DTYPE_Q8_0, H * D, E);
    op->qkv.key = add(plan, "k", DTYPE_F16, K * D, E);
    op->qkv.value = add(plan, "v", DTYPE_F32, K * D, E);
    op->qkv.query_bias = add(plan, "q_bias", DTYPE_F32, H * D, 0);
    op->qkv.query_norm = add(plan, "q_norm", DTYPE_BF16, D, 0);
    op->qkv.head_norm_epsilon = 1e-6f;
    op->qkv.head_count = H;
    op->qkv.kv_head_count = K;
    op->qkv.head_size = D;
    op->qkv.rotary = PLAN_ROTARY_HALF;
    op->qkv.rotary_size = D;
    op->qkv.rotary_table = table;
    op = plan_add_op(plan, PLAN_ATTENTION, layer);
    op->attention.head_count = H;
    op->attention.kv_head_count = K;
    op->attention.head_size = D;
    op->attention.scale = 0.25f;
    op->attention.window = layer ? 8 : 0;
    op = plan_add_op(plan, PLAN_PROJECT, layer);
    op->project.input = PLAN_BUFFER_ATTENDED;
    op->project.weight = add(plan, "o", DTYPE_F32, E, H * D);
    op->project.norm = norm(plan, "post_norm", E);
    op = plan_add_op(plan, PLAN_FEED_FORWARD, layer);
    op->feed_forward.norm = norm(plan, "ffn_norm", E);
    op->feed_forward.gate = add(plan, "gate", DTYPE_F32, F, E);
    op->feed_forward.up = add(plan, "up", DTYPE_F32, F, E);
    op = plan_add_op(plan, PLAN_PROJECT, layer);
    op->project.input = PLAN_BUFFER_HIDDEN;
    op->project.weight = add(plan, "down", DTYPE_F32, E, F);
}

/* Stages: 0 embed; 1 + 5 × layer: qkv, attention, project, feed_forward, project; 11 logits. */
static struct plan *make_plan(void)
{
    static const float frequencies[D / 2] = {1, 0.5f, 0.25f, 0.125f, 0.1f, 0.05f, 0.02f, 0.01f};
    struct plan *plan = plan_create();
    assert_non_null(plan);
    plan->context_length = 128;
    uint32_t table = plan_add_rotary_table(plan, frequencies, D, 1.0f);
    uint32_t embedding = add(plan, "embedding", DTYPE_F32, V, E);
    struct plan_op *op = plan_add_op(plan, PLAN_EMBED, 0);
    op->embed.weight = embedding;
    op->embed.scale = 1;
    for (uint32_t layer = 0; layer < LAYERS; layer++) {
        add_layer(plan, layer, table);
    }
    op = plan_add_op(plan, PLAN_LOGITS, 0);
    op->logits.norm = norm(plan, "output_norm", E);
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
    assert_int_equal(plan->embedding_length, E);
    assert_int_equal(plan->vocabulary_size, V);
    assert_int_equal(plan->layer_count, LAYERS);
    assert_int_equal(plan->kv_head_count, K);
    assert_int_equal(plan->head_size, D);
    assert_int_equal(plan->width[PLAN_BUFFER_RESIDUAL], E);
    assert_int_equal(plan->width[PLAN_BUFFER_QUERY], H * D);
    assert_int_equal(plan->width[PLAN_BUFFER_ATTENDED], H * D);
    assert_int_equal(plan->width[PLAN_BUFFER_HIDDEN], F);
    assert_int_equal(plan->width[PLAN_BUFFER_LOGITS], V);
    uint64_t layer = 3 * E + H * D + D + 2 * H * D * E + 2 * K * D * E + 3 * F * E;
    assert_int_equal(plan->parameter_count, V * E + E + LAYERS * layer);
    plan_destroy(plan);
}

/* What can be wrong with a plan. Each changes one thing of a good one. */
static void no_ops(struct plan *plan)
{
    plan->op_count = 0;
}
static void no_logits(struct plan *plan)
{
    plan->op_count--;
}
static void no_layers(struct plan *plan)
{
    plan->ops[1] = plan->ops[11];
    plan->op_count = 2;
}
static void no_embed(struct plan *plan)
{
    plan->ops++;
    plan->op_count--;
}
static void two_embeds(struct plan *plan)
{
    plan->ops[3] = plan->ops[0];
}
static void early_logits(struct plan *plan)
{
    plan->ops[5] = plan->ops[11];
}
static void unknown_kind(struct plan *plan)
{
    plan->ops[4].kind = (enum plan_op_kind)99;
}
static void no_context(struct plan *plan)
{
    plan->context_length = 0;
}
static void long_context(struct plan *plan)
{
    plan->context_length = UINT32_MAX;
}
static void weight_out_of_range(struct plan *plan)
{
    plan->ops[1].qkv.key = plan->weight_count;
}
static void weight_forgotten(struct plan *plan)
{
    plan->ops[3].project.weight = PLAN_NONE;
}
static void bias_out_of_range(struct plan *plan)
{
    plan->ops[1].qkv.key_bias = 1000;
}
static void wrong_rows(struct plan *plan)
{
    plan->ops[1].qkv.query = plan->ops[1].qkv.key;
}
static void wrong_columns(struct plan *plan)
{
    plan->ops[5].project.weight = plan->ops[3].project.weight;
}
static void matrix_as_norm(struct plan *plan)
{
    plan->ops[4].feed_forward.norm.weight = plan->ops[1].qkv.key;
}
static void quantised_vector(struct plan *plan)
{
    struct plan_weight *weight = &plan->weights[plan->ops[1].qkv.query_bias];
    weight->dtype = DTYPE_Q8_0;
    weight->bytes = H * D / 32 * 34;
}
static void bytes_too_few(struct plan *plan)
{
    plan->weights[0].bytes--;
}
static void bytes_wrap(struct plan *plan)
{
    plan->weights[0].rows = UINT64_MAX / 8;
}
static void unknown_dtype(struct plan *plan)
{
    plan->weights[0].dtype = (enum dtype)77;
}
static void zero_epsilon(struct plan *plan)
{
    plan->ops[1].qkv.norm.epsilon = 0;
}
static void nan_epsilon(struct plan *plan)
{
    plan->ops[11].logits.norm.epsilon = NAN;
}
static void zero_head_epsilon(struct plan *plan)
{
    plan->ops[1].qkv.head_norm_epsilon = 0;
}
static void infinite_offset(struct plan *plan)
{
    plan->ops[4].feed_forward.norm.weight_offset = INFINITY;
}
static void zero_kv_heads(struct plan *plan)
{
    plan->ops[1].qkv.kv_head_count = 0;
}
static void uneven_heads(struct plan *plan)
{
    plan->ops[2].attention.kv_head_count = 3;
}
static void zero_head_size(struct plan *plan)
{
    plan->ops[1].qkv.head_size = 0;
}
static void other_head_size(struct plan *plan)
{
    plan->ops[2].attention.head_size = 8;
    plan->ops[2].attention.head_count = 2 * H;
}
static void odd_rotary(struct plan *plan)
{
    plan->ops[1].qkv.rotary_size = 15;
}
static void large_rotary(struct plan *plan)
{
    plan->ops[1].qkv.rotary_size = D + 2;
}
static void no_rotary_table(struct plan *plan)
{
    plan->ops[1].qkv.rotary_table = 1;
}
static void rotary_table_size(struct plan *plan)
{
    plan->ops[6].qkv.rotary_size = D - 2;
}
static void infinite_frequency(struct plan *plan)
{
    plan->rotary_tables[0].frequencies[D / 2 - 1] = INFINITY;
}
static void zero_magnitude(struct plan *plan)
{
    plan->rotary_tables[0].magnitude = 0;
}
static void layer_skipped(struct plan *plan)
{
    plan->ops[6].layer = 2;
}
static void layer_twice(struct plan *plan)
{
    plan->ops[6].layer = 0;
}
static void cache_not_written(struct plan *plan)
{
    plan->ops[2].layer = 1;
}
static void attention_without_query(struct plan *plan)
{
    plan->ops[3] = plan->ops[2];
}
static void project_without_input(struct plan *plan)
{
    plan->ops[4] = plan->ops[3];
}
static void project_residual(struct plan *plan)
{
    plan->ops[3].project.input = PLAN_BUFFER_RESIDUAL;
}
static void zero_scale(struct plan *plan)
{
    plan->ops[2].attention.scale = 0;
}
static void nan_scale(struct plan *plan)
{
    plan->ops[0].embed.scale = NAN;
}
static void negative_cap(struct plan *plan)
{
    plan->ops[11].logits.soft_cap = -1;
}
static void nan_cap(struct plan *plan)
{
    plan->ops[2].attention.soft_cap = NAN;
}
static void sinks_length(struct plan *plan)
{
    plan->ops[2].attention.sinks = plan->ops[1].qkv.norm.weight;
}
static void gate_rows(struct plan *plan)
{
    plan->ops[4].feed_forward.gate = plan->ops[1].qkv.key;
}
static void gate_bias_without_gate(struct plan *plan)
{
    plan->ops[4].feed_forward.gate_bias = plan->ops[1].qkv.norm.weight;
    plan->ops[4].feed_forward.gate = PLAN_NONE;
}
static void unknown_activation(struct plan *plan)
{
    plan->ops[4].feed_forward.activation = (enum plan_activation)9;
}
static void other_vocabulary(struct plan *plan)
{
    plan->ops[11].logits.weight = plan->ops[1].qkv.value;
}

static const struct refusal refusals[] = {
    REFUSAL(no_ops, "begin with an embed"),
    REFUSAL(no_logits, "end with a logits"),
    REFUSAL(no_layers, "0 layers"),
    REFUSAL(no_embed, "stage 0 (qkv, layer 0)"),
    REFUSAL(two_embeds, "stage 3 (embed"),
    REFUSAL(early_logits, "stage 5 (logits"),
    REFUSAL(unknown_kind, "kind 99"),
    REFUSAL(no_context, "context length 0"),
    REFUSAL(long_context, "context length 4294967295"),
    REFUSAL(weight_out_of_range, "stage 1 (qkv, layer 0): it has no key weight"),
    REFUSAL(weight_forgotten, "stage 3 (project, layer 0): it has no projection weight"),
    REFUSAL(bias_out_of_range, "no key bias"),
    REFUSAL(wrong_rows, "the query weight 'k' is [32, 64], wanted is [64, 64]"),
    REFUSAL(wrong_columns, "weight 'o' is [64, 64], wanted is [64, 96]"),
    REFUSAL(matrix_as_norm, "the norm weight 'k'"),
    REFUSAL(quantised_vector, "'q_bias' is a vector of type q8_0"),
    REFUSAL(bytes_too_few, "weight 'embedding'"),
    REFUSAL(bytes_wrap, "weight 'embedding'"),
    REFUSAL(unknown_dtype, "weight 'embedding'"),
    REFUSAL(zero_epsilon, "epsilon"),
    REFUSAL(nan_epsilon, "epsilon"),
    REFUSAL(zero_head_epsilon, "epsilon"),
    REFUSAL(infinite_offset, "offset"),
    REFUSAL(zero_kv_heads, "4 query heads"),
    REFUSAL(uneven_heads, "3 key-value heads"),
    REFUSAL(zero_head_size, "head size 0"),
    REFUSAL(other_head_size, "stage 2 (attention, layer 0)"),
    REFUSAL(odd_rotary, "rotary size 15"),
    REFUSAL(large_rotary, "rotary size 18"),
    REFUSAL(no_rotary_table, "no rotary table"),
    REFUSAL(rotary_table_size, "stage 6 (qkv, layer 1): its rotary table"),
    REFUSAL(infinite_frequency, "frequency 7"),
    REFUSAL(zero_magnitude, "magnitude"),
    REFUSAL(layer_skipped, "wanted is layer 1"),
    REFUSAL(layer_twice, "wanted is layer 1"),
    REFUSAL(cache_not_written, "cache of layer 1"),
    REFUSAL(attention_without_query, "stage 3 (attention"),
    REFUSAL(project_without_input, "stage 4 (project"),
    REFUSAL(project_residual, "cannot be projected"),
    REFUSAL(zero_scale, "scale is 0"),
    REFUSAL(nan_scale, "scale is nan"),
    REFUSAL(negative_cap, "soft cap"),
    REFUSAL(nan_cap, "soft cap"),
    REFUSAL(sinks_length, "sinks"),
    REFUSAL(gate_rows, "the gate weight 'k' is [32, 64], wanted is [96, 64]"),
    REFUSAL(gate_bias_without_gate, "no gate"),
    REFUSAL(unknown_activation, "activation"),
    REFUSAL(other_vocabulary, "output weight 'v'"),
};

static void finish_refuses(void **state)
{
    (void)state;
    refusals_check(refusals, sizeof refusals / sizeof *refusals, make_plan);
}

static void weights_are_row_ranges(void **state)
{
    (void)state;
    struct plan *plan = plan_create();
    struct tensor fused = {.name = text_view_of("fused"),
                           .dtype = DTYPE_Q8_0,
                           .rank = 2,
                           .shape = {12, 64},
                           .data = memory,
                           .bytes = 12 * 68};
    uint32_t index = plan_add_weight(plan, &fused, 8, 3);
    assert_int_equal(plan->weights[index].rows, 3);
    assert_int_equal(plan->weights[index].columns, 64);
    assert_int_equal(plan->weights[index].bytes, 3 * 68);
    assert_ptr_equal(plan->weights[index].data, (const char *)memory + 8 * 68);
    assert_true(text_view_is(plan->weights[index].name, "fused[8:11]"));
    struct tensor bias = {
        .name = text_view_of("bias"), .dtype = DTYPE_F16, .rank = 1, .shape = {12}, .bytes = 24};
    index = plan_add_weight(plan, &bias, 4, 8);
    assert_int_equal(plan->weights[index].rows, 1);
    assert_int_equal(plan->weights[index].columns, 8);
    assert_int_equal(plan->weights[index].bytes, 16);
    assert_null(plan->weights[index].data);
    bias.data = memory;
    index = plan_add_weight(plan, &bias, 4, 8);
    assert_ptr_equal(plan->weights[index].data, (const char *)memory + 8);
    plan_destroy(plan);
}

static void remembers_missing_memory(void **state)
{
    (void)state;
    struct llcuda_error error;
    struct plan *plan = make_plan();
    plan->arena.limit_bytes = plan->arena.allocated_bytes;
    for (int i = 0; i < 100000; i++) {
        plan_add_op(plan, PLAN_PROJECT, 0);
    }
    assert_int_equal(plan_finish(plan, &error), LLCUDA_OUT_OF_MEMORY);
    plan_destroy(plan);
}

static void costs_add_up(void **state)
{
    (void)state;
    struct llcuda_error error;
    struct plan *plan = make_plan();
    assert_ok(plan_finish(plan, &error), error);
    struct plan_cost cost = plan_op_cost(plan, &plan->ops[0], 3, 100, 1, DTYPE_F16);
    assert_int_equal(cost.weight_bytes, 3 * E * 4);
    assert_int_equal(cost.flop, 0);
    cost = plan_op_cost(plan, &plan->ops[1], 3, 100, 1, DTYPE_F16);
    assert_int_equal(cost.weight_bytes, E * 4 + H * D * E / 32 * 34 + K * D * E * 2 +
                                            K * D * E * 4 + H * D * 4 + D * 2);
    assert_int_equal(cost.cache_bytes, 3 * 2 * K * D * 2);
    assert_int_equal(cost.flop, 3 * 2 * (H + 2 * K) * D * E);
    cost = plan_op_cost(plan, &plan->ops[2], 3, 100, 1, DTYPE_F32);
    assert_int_equal(cost.cache_bytes, 100 * 2 * K * D * 4);
    assert_int_equal(cost.flop, 100 * 4 * H * D);
    cost = plan_op_cost(plan, &plan->ops[7], 3, 100, 1, DTYPE_F32); /* window 8 */
    assert_int_equal(cost.cache_bytes, 24 * 2 * K * D * 4);
    cost = plan_op_cost(plan, &plan->ops[11], 3, 100, 0, DTYPE_F32);
    assert_int_equal(cost.weight_bytes, 0);
    cost = plan_op_cost(plan, &plan->ops[11], 3, 100, 2, DTYPE_F32);
    assert_int_equal(cost.weight_bytes, E * 4 + V * E * 4);
    assert_int_equal(cost.flop, 2 * 2 * V * E);
    struct plan_cost sum = {0};
    for (uint32_t i = 0; i < plan->op_count; i++) {
        cost = plan_op_cost(plan, &plan->ops[i], 5, 77, 2, DTYPE_F16);
        sum.weight_bytes += cost.weight_bytes;
        sum.cache_bytes += cost.cache_bytes;
        sum.flop += cost.flop;
    }
    struct plan_cost step = plan_step_cost(plan, 5, 77, 2, DTYPE_F16);
    assert_memory_equal(&sum, &step, sizeof sum);
    cost = plan_step_cost(plan, UINT64_MAX / 2, UINT64_MAX, 1, DTYPE_F32);
    assert_true(cost.flop == UINT64_MAX && cost.cache_bytes == UINT64_MAX);
    plan_destroy(plan);
}

/* Every stage is in one of the parts, weights keep their numbers, layers count anew. */
static void a_cut_plan_is_two_plans(void **state)
{
    (void)state;
    struct llcuda_error error;
    struct plan *plan = make_plan();
    struct plan *parts[2];
    assert_ok(plan_finish(plan, &error), error);
    assert_ok(plan_cut(plan, 1, &parts[0], &parts[1], &error), error);
    assert_int_equal(parts[0]->op_count, 6);
    assert_int_equal(parts[1]->op_count, 6);
    assert_true(parts[0]->gives_residual && !parts[0]->takes_residual);
    assert_true(parts[1]->takes_residual && !parts[1]->gives_residual);
    for (uint32_t i = 0; i < plan->op_count; i++) {
        const struct plan_op *op = &parts[i / 6]->ops[i % 6];
        struct plan_op_weight wanted[PLAN_OP_WEIGHTS_MAX];
        struct plan_op_weight found[PLAN_OP_WEIGHTS_MAX];
        assert_int_equal(op->kind, plan->ops[i].kind);
        assert_int_equal(op->layer, 0);
        uint32_t count = plan_op_weights(&plan->ops[i], wanted);
        assert_int_equal(plan_op_weights(op, found), count);
        for (uint32_t j = 0; j < count; j++) {
            assert_int_equal(found[j].weight, wanted[j].weight);
        }
    }
    for (int i = 0; i < 2; i++) {
        assert_int_equal(parts[i]->layer_count, 1);
        assert_int_equal(parts[i]->embedding_length, E);
        assert_int_equal(parts[i]->vocabulary_size, V);
        assert_int_equal(parts[i]->context_length, plan->context_length);
        assert_int_equal(parts[i]->kv_head_count, K);
        assert_int_equal(parts[i]->width[PLAN_BUFFER_HIDDEN], F);
        plan_destroy(parts[i]);
    }
    plan_destroy(plan);
}

static void a_cut_leaves_something_on_both_sides(void **state)
{
    (void)state;
    static const uint32_t layers[] = {0, LAYERS, LAYERS + 1, UINT32_MAX};
    struct llcuda_error error;
    struct plan *plan = make_plan();
    struct plan *parts[2];
    assert_ok(plan_finish(plan, &error), error);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(plan_cut(plan, layers[i], &parts[0], &parts[1], &error),
                         LLCUDA_INVALID_ARGUMENT);
        assert_null(parts[0]);
        assert_null(parts[1]);
    }
    /* A layer that reads the cache of one before the border cannot be elsewhere. */
    plan->ops[7].layer = 0;
    assert_ok(plan_finish(plan, &error), error);
    assert_int_equal(plan_cut(plan, 1, &parts[0], &parts[1], &error), LLCUDA_BAD_FORMAT);
    assert_null(parts[0]);
    plan_destroy(plan);
}

static void dump_lists_stages(void **state)
{
    (void)state;
    struct llcuda_error error;
    struct plan *plan = make_plan();
    assert_ok(plan_finish(plan, &error), error);
    struct buffer text = {0};
    plan_dump(plan, &text);
    static const char *const wanted[] = {
        "12 stages, 2 layers, E 64, V 40",
        "   1 qkv          layer 0 norm=rms epsilon=1e-05 heads=4/2 head_size=16 rotary=half",
        "query        q8_0  [64, 64] q\n",
        "window=8",
        "feed_forward layer 1",
        "gated"};
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        if (!strstr(buffer_text(&text), wanted[i])) {
            fail_msg("'%s' is not in\n%s", wanted[i], buffer_text(&text));
        }
    }
    buffer_deinit(&text);
    plan_destroy(plan);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(finish_derives_the_dimensions),
    cmocka_unit_test(finish_refuses),
    cmocka_unit_test(weights_are_row_ranges),
    cmocka_unit_test(remembers_missing_memory),
    cmocka_unit_test(costs_add_up),
    cmocka_unit_test(a_cut_plan_is_two_plans),
    cmocka_unit_test(a_cut_leaves_something_on_both_sides),
    cmocka_unit_test(dump_lists_stages),
};

TEST_MAIN(tests)
