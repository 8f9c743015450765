/* Norms, activations and conversions of every level against the scalar table, in guarded memory,
 * and the scalar primitives against values worked out elsewhere. */
#include "cpu/guard.h"
#include "cpu/ops.h"
#include "support/test_support.h"
#include "tensor/quant.h"
#include "tensor/reference.h"

static float *random_row(uint64_t count, float scale)
{
    float *row = guard_alloc(count * sizeof *row);
    for (uint64_t i = 0; i < count; i++) {
        row[i] = scale * test_random_normal();
    }
    return row;
}

static void check(const float *fast, const float *exact, uint64_t count, double limit,
                  const char *what, const struct cpu_ops *ops)
{
    for (uint64_t i = 0; i < count; i++) {
        double difference = fabs((double)fast[i] - (double)exact[i]);
        if (!(difference <= limit * (1 + fabs((double)exact[i])))) {
            fail_msg("%s at %s, element %llu of %llu: %.9g instead of %.9g", what,
                     cpu_level_name(ops->level), (unsigned long long)i, (unsigned long long)count,
                     (double)fast[i], (double)exact[i]);
        }
    }
}

static void check_norms(const struct cpu_ops *ops, uint64_t count)
{
    uint64_t bytes = count * sizeof(float);
    float *x = random_row(count, 3);
    float *weight = random_row(count, 1);
    float *bias = random_row(count, 1);
    float *fast = random_row(count, 1);
    float *exact = random_row(count, 1);
    float offset = test_random_below(2) ? 1.0f : 0.0f;
    x[0] += 5; /* a mean that is not zero */
    ops->norm_rms(x, weight, offset, 1e-5f, count, fast);
    reference_norm_rms(x, weight, offset, 1e-5f, count, exact);
    check(fast, exact, count, 2e-6, "RMS norm", ops);
    const float *some_bias = test_random_below(2) ? bias : NULL;
    ops->norm_layer(x, weight, some_bias, offset, 1e-5f, count, fast);
    reference_norm_layer(x, weight, some_bias, offset, 1e-5f, count, exact);
    check(fast, exact, count, 1e-5, "layer norm", ops);
    memcpy(fast, x, bytes);
    ops->norm_rms(fast, weight, offset, 1e-5f, count, fast);
    reference_norm_rms(x, weight, offset, 1e-5f, count, exact);
    check(fast, exact, count, 2e-6, "RMS norm in place", ops);
    guard_free(x, bytes);
    guard_free(weight, bytes);
    guard_free(bias, bytes);
    guard_free(fast, bytes);
    guard_free(exact, bytes);
}

static void check_activations(const struct cpu_ops *ops, uint64_t count)
{
    uint64_t bytes = count * sizeof(float);
    float *gate = random_row(count, 4);
    float *up = random_row(count, 1);
    float *fast = random_row(count, 1);
    float *exact = random_row(count, 1);
    gate[count / 2] = 150.0f;
    gate[count - 1] = -150.0f;
    for (int kind = PLAN_SILU; kind <= PLAN_GELU_ERF; kind++) {
        const float *factor = test_random_below(2) ? up : NULL;
        memcpy(fast, gate, bytes);
        memcpy(exact, gate, bytes);
        ops->activate((enum plan_activation)kind, fast, factor, count);
        cpu_ops_scalar.activate((enum plan_activation)kind, exact, factor, count);
        check(fast, exact, count, kind == PLAN_GELU_ERF ? 4e-6 : 2e-6, "activation", ops);
    }
    memcpy(fast, gate, bytes);
    memcpy(exact, gate, bytes);
    ops->soft_cap(fast, 30, count);
    cpu_ops_scalar.soft_cap(exact, 30, count);
    check(fast, exact, count, 5e-6, "soft cap", ops);
    gate[0] = NAN;
    ops->activate(PLAN_SILU, gate, NULL, count);
    assert_true(isnan(gate[0]));
    guard_free(gate, bytes);
    guard_free(up, bytes);
    guard_free(fast, bytes);
    guard_free(exact, bytes);
}

static void check_conversion(const struct cpu_ops *ops, uint64_t count)
{
    float *x = random_row(count, 1);
    uint16_t *fast = guard_alloc(count * sizeof *fast);
    for (uint64_t i = 0; i < count; i++) {
        x[i] = ldexpf(x[i], (int)test_random_below(48) - 30);
    }
    x[count - 1] = 1e6f;
    ops->to_f16(x, fast, count);
    for (uint64_t i = 0; i < count; i++) {
        assert_int_equal(fast[i], float_to_f16(x[i]));
    }
    guard_free(x, count * sizeof *x);
    guard_free(fast, count * sizeof *fast);
}

/* Rows of a file's embedding: at any address, of any length. */
static void check_widening(const struct cpu_ops *ops, uint64_t count)
{
    static const enum dtype dtypes[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16};
    float *exact = guard_alloc(count * sizeof *exact);
    float *fast = guard_alloc(count * sizeof *fast);
    for (size_t i = 0; i < 3; i++) {
        uint64_t bytes = count * dtype_info(dtypes[i])->block_bytes;
        unsigned char *from = guard_alloc(bytes + 1);
        for (uint64_t k = 0; k < bytes; k++) {
            /* No exponent of all ones: NaNs have no one spelling. */
            from[k] = (unsigned char)(test_random_below(256) & 0xbb);
        }
        dequantize_row(dtypes[i], from, exact, count);
        ops->to_floats(dtypes[i], from, fast, count);
        assert_memory_equal(fast, exact, count * sizeof *fast);
        memmove(from + 1, from, bytes);
        ops->to_floats(dtypes[i], from + 1, fast, count);
        assert_memory_equal(fast, exact, count * sizeof *fast);
        guard_free(from, bytes + 1);
    }
    guard_free(exact, count * sizeof *exact);
    guard_free(fast, count * sizeof *fast);
}

static void levels_agree_with_the_scalar_table(void **state)
{
    (void)state;
    for (int level = CPU_SCALAR; level <= (int)cpu_level_detect(); level++) {
        if (!level_is_here((enum cpu_level)level)) {
            continue;
        }
        const struct cpu_ops *ops = cpu_ops_choose((enum cpu_level)level);
        for (uint64_t count = 1; count < 400; count += 1 + count / 20) {
            check_norms(ops, count);
            check_activations(ops, count);
            check_conversion(ops, count);
            check_widening(ops, count);
        }
        check_norms(ops, 4096);
    }
}

static void primitives_have_known_values(void **state)
{
    (void)state;
    assert_near(reference_silu(1), 0.7310585786f, 1e-7f);
    assert_near(reference_gelu_tanh(1), 0.8411919906f, 1e-7f);
    assert_near(reference_gelu_erf(1), 0.8413447461f, 1e-7f);
    assert_near(reference_soft_cap(60, 30), 28.9208273f, 1e-5f);
    assert_near(reference_soft_cap(60, 0), 60, 0);
    float x[] = {3, 4};
    float weight[] = {1, 0};
    float out[2];
    reference_norm_rms(x, weight, 1, 0, 2, out);
    assert_near(out[0], 2 * 3 / sqrtf(12.5f), 1e-6f);
    assert_near(out[1], 4 / sqrtf(12.5f), 1e-6f);
    float bias[] = {0.5f, 0.25f};
    reference_norm_layer(x, weight, bias, 0, 0, 2, out);
    assert_near(out[0], -0.5f, 1e-6f);
    assert_near(out[1], 0.25f, 1e-6f);
    reference_add(x, 2, out);
    assert_near(out[1], 4.25f, 1e-6f);
    float matrix[] = {1, 2, -3, 0.5f};
    reference_linear(DTYPE_F32, matrix, 2, 2, x, out);
    assert_near(out[0], 11, 0);
    assert_near(out[1], -7, 0);
}

static void rotary_turns_pairs(void **state)
{
    (void)state;
    float frequencies[] = {0.5f, 0.25f};
    float cosines[2];
    float sines[2];
    reference_rotary_angles(2, frequencies, 4, 2, cosines, sines);
    assert_near(cosines[0], 2 * cosf(1), 1e-6f);
    assert_near(sines[1], 2 * sinf(0.5f), 1e-6f);
    float head[] = {1, 0, 0, 1, 7};
    reference_rotary(head, 4, true, cosines, sines);
    assert_near(head[0], 2 * cosf(1), 1e-6f);
    assert_near(head[1], 2 * sinf(1), 1e-6f);
    assert_near(head[2], -2 * sinf(0.5f), 1e-6f);
    assert_near(head[3], 2 * cosf(0.5f), 1e-6f);
    assert_near(head[4], 7, 0);
    float half[] = {1, 0, 0, 1, 7};
    reference_rotary(half, 4, false, cosines, sines); /* pairs (0, 2) and (1, 3) */
    assert_near(half[0], 2 * cosf(1), 1e-6f);
    assert_near(half[2], 2 * sinf(1), 1e-6f);
    assert_near(half[1], -2 * sinf(0.5f), 1e-6f);
    assert_near(half[3], 2 * cosf(0.5f), 1e-6f);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(levels_agree_with_the_scalar_table),
    cmocka_unit_test(primitives_have_known_values),
    cmocka_unit_test(rotary_turns_pairs),
};

TEST_MAIN(tests)
