/* Which type each tensor gets: the usual mixes, what stands in for super-blocks, what is refused.
 */
#include "support/test_support.h"

#include "convert/recipe.h"

static const struct recipe_model model = {.layer_count = 16, .group_size = 4};

static enum dtype choose(const char *recipe, const struct recipe_model *of, const char *name,
                         uint64_t columns)
{
    struct llcuda_error error = {0};
    struct tensor tensor = {.rank = 2, .shape = {64, columns}};
    enum dtype dtype = DTYPE_COUNT;
    assert_non_null(recipe_find(recipe));
    assert_ok(recipe_dtype(recipe_find(recipe), of, text_view_of(name), &tensor, &dtype, &error),
              error);
    return dtype;
}

static void test_names(void **state)
{
    (void)state;
    assert_int_equal(recipe_find("Q4_K_M")->file_type, 15);
    assert_ptr_equal(recipe_find("q4_k_m"), recipe_find("Q4_k_M"));
    assert_null(recipe_find("q4_k_"));
    assert_null(recipe_find("q4_k_mm"));
    assert_null(recipe_find(""));
    assert_null(recipe_find("iq1_s"));
}

/* Q4_K_M of sixteen layers: six bits in layers 0, 1, 4, 7, 10, 13, 14 and 15. */
static void test_more_bits(void **state)
{
    (void)state;
    for (uint32_t layer = 0; layer < 16; layer++) {
        char name[64];
        bool more = layer < 2 || layer >= 14 || layer % 3 == 1;
        snprintf(name, sizeof name, "blk.%u.ffn_down.weight", layer);
        assert_int_equal(choose("q4_k_m", &model, name, 256), more ? DTYPE_Q6_K : DTYPE_Q4_K);
        snprintf(name, sizeof name, "blk.%u.attn_v.weight", layer);
        assert_int_equal(choose("q4_k_m", &model, name, 256), more ? DTYPE_Q6_K : DTYPE_Q4_K);
        snprintf(name, sizeof name, "blk.%u.attn_q.weight", layer);
        assert_int_equal(choose("q4_k_m", &model, name, 256), DTYPE_Q4_K);
        snprintf(name, sizeof name, "blk.%u.ffn_down.weight", layer);
        assert_int_equal(choose("q4_k_s", &model, name, 256), layer < 2 ? DTYPE_Q5_K : DTYPE_Q4_K);
        assert_int_equal(choose("q3_k_m", &model, name, 256), layer < 1 ? DTYPE_Q5_K : DTYPE_Q4_K);
        snprintf(name, sizeof name, "blk.%u.ffn_down_exps.weight", layer);
        assert_int_equal(choose("q4_k_m", &model, name, 256), more ? DTYPE_Q6_K : DTYPE_Q4_K);
        snprintf(name, sizeof name, "blk.%u.ffn_gate_inp.weight", layer);
        assert_int_equal(choose("q4_k_m", &model, name, 256), DTYPE_F32);
        snprintf(name, sizeof name, "blk.%u.ffn_up_exps.bias", layer);
        assert_int_equal(choose("q4_k_m", &model, name, 256), DTYPE_F32);
    }
}

static void test_outputs(void **state)
{
    (void)state;
    struct recipe_model tied = model;
    tied.tied = true;
    assert_int_equal(choose("q4_0", &model, "output.weight", 256), DTYPE_Q6_K);
    assert_int_equal(choose("q4_0", &model, "token_embd.weight", 256), DTYPE_Q4_0);
    assert_int_equal(choose("q4_0", &tied, "token_embd.weight", 256), DTYPE_Q6_K);
    assert_int_equal(choose("q8_0", &tied, "token_embd.weight", 256), DTYPE_Q8_0);
    assert_int_equal(choose("bf16", &tied, "token_embd.weight", 256), DTYPE_BF16);
    assert_int_equal(choose("tq2_0", &model, "token_embd.weight", 256), DTYPE_Q4_K);
}

static void test_importance_changes_rules(void **state)
{
    (void)state;
    struct recipe_model hinted = model;
    hinted.has_importance = true;
    assert_int_equal(choose("iq4_xs", &model, "blk.0.ffn_down.weight", 256), DTYPE_Q5_K);
    assert_int_equal(choose("iq4_xs", &hinted, "blk.0.ffn_down.weight", 256), DTYPE_IQ4_XS);
}

/* Rows that are no whole super-blocks, rows that are no whole blocks, vectors. */
static void test_rows(void **state)
{
    (void)state;
    struct llcuda_error error = {0};
    enum dtype dtype;
    static const char name[] = "blk.3.ffn_up.weight";
    assert_int_equal(choose("q4_k_m", &model, name, 96), DTYPE_Q5_0);
    assert_int_equal(choose("q5_k_s", &model, name, 96), DTYPE_Q5_1);
    assert_int_equal(choose("q6_k", &model, name, 96), DTYPE_Q8_0);
    assert_int_equal(choose("q2_k", &model, name, 96), DTYPE_IQ4_NL);
    assert_int_equal(choose("f16", &model, name, 5), DTYPE_F16);
    struct tensor odd = {.rank = 2, .shape = {64, 172}};
    assert_int_equal(
        recipe_dtype(recipe_find("q4_0"), &model, text_view_of(name), &odd, &dtype, &error),
        LLCUDA_INVALID_ARGUMENT);
    assert_non_null(strstr(error.message, "172"));
    assert_non_null(strstr(error.message, name));
    struct tensor vector = {.rank = 1, .shape = {64}};
    assert_ok(recipe_dtype(recipe_find("q4_0"), &model, text_view_of("blk.0.attn_norm.weight"),
                           &vector, &dtype, &error),
              error);
    assert_int_equal(dtype, DTYPE_F32);
}

/* Names that look like layers and are none. */
static void test_strange_names(void **state)
{
    (void)state;
    static const char *const names[] = {"",
                                        "blk.",
                                        "blk.1",
                                        "blk.99999999999999.attn_v.weight",
                                        "blk.x.attn_v.weight",
                                        "blk.3attn_v.weight"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        assert_int_equal(choose("q6_k", &model, names[i], 256), DTYPE_Q6_K);
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_names),   cmocka_unit_test(test_more_bits),
    cmocka_unit_test(test_outputs), cmocka_unit_test(test_importance_changes_rules),
    cmocka_unit_test(test_rows),    cmocka_unit_test(test_strange_names),
};

TEST_MAIN(tests)
