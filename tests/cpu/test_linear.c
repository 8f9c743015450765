/* The matrix kernels of the plain types at every level this machine has: against the reference, in
 * guarded memory, and the rule that a result depends on its row and its token alone. */
#include "base/random.h"
#include "cpu/amx_emulated.h"
#include "cpu/features.h"
#include "cpu/guard.h"
#include "cpu/linear.h"
#include "support/test_support.h"
#include "tensor/quant.h"

#define OUT_SENTINEL 0x7fc0dead /* a NaN that no sum makes */

struct problem {
    const struct linear_kernel *kernel;
    uint64_t rows, columns, row_bytes, stride, out_stride, packed_bytes;
    uint32_t tokens;
    unsigned char *source, *packed, *activations;
    float *out;
    uint64_t out_bytes;
    struct cpu_features features;
};

/* What the kernel sees of an activation. */
static float activation_at(const struct problem *p, uint32_t token, uint64_t column)
{
    const unsigned char *row = p->activations + token * p->stride;
    return p->kernel->activation == ACTIVATION_BF16
               ? float_from_bf16(((const uint16_t *)(const void *)row)[column])
               : ((const float *)(const void *)row)[column];
}

static void spoil_activation(struct problem *p, uint32_t token, uint64_t column)
{
    unsigned char *row = p->activations + token * p->stride;
    if (p->kernel->activation == ACTIVATION_BF16) {
        ((uint16_t *)(void *)row)[column] = float_to_bf16(NAN);
    } else {
        ((float *)(void *)row)[column] = NAN;
    }
}

/* Packing must write every byte: rows that the last group lacks are zeros whatever was there. */
static void check_padding(const struct problem *p)
{
    if (p->packed_bytes == 0) {
        return;
    }
    unsigned char *again = malloc(p->packed_bytes);
    assert_non_null(again);
    memset(again, 0xff, p->packed_bytes);
    p->kernel->pack(p->source, p->rows, p->columns, 0, p->rows, again);
    assert_memory_equal(again, p->packed, p->packed_bytes);
    free(again);
}

static void setup(struct problem *p, const struct linear_kernel *kernel, uint64_t rows,
                  uint64_t columns, uint32_t tokens)
{
    *p = (struct problem){.kernel = kernel, .rows = rows, .columns = columns, .tokens = tokens};
    cpu_features_detect(&p->features);
    assert_true(dtype_row_bytes(kernel->dtype, columns, &p->row_bytes));
    p->source = guard_alloc(rows * p->row_bytes);
    float *row = malloc(columns * sizeof *row);
    assert_non_null(row);
    for (uint64_t r = 0; r < rows; r++) {
        for (uint64_t k = 0; k < columns; k++) {
            row[k] = test_random_normal();
        }
        assert_true(quantize_row(kernel->dtype, row, NULL, p->source + r * p->row_bytes, columns));
    }
    p->packed_bytes = kernel->packed_bytes(rows, columns);
    p->packed = guard_alloc(p->packed_bytes);
    /* Packed in pieces, as loading does, from the end. */
    uint64_t groups = (rows + kernel->row_group - 1) / kernel->row_group;
    for (uint64_t g = groups; p->packed_bytes && g-- > 0;) {
        uint64_t end = (g + 1) * kernel->row_group;
        kernel->pack(p->source, rows, columns, g * kernel->row_group, end < rows ? end : rows,
                     p->packed);
    }
    check_padding(p);
    p->stride = activation_row_bytes(kernel->activation, columns);
    p->activations = guard_alloc(tokens * p->stride);
    memset(p->activations, 0xff, tokens * p->stride); /* padding is NaN: it must not be used */
    for (uint32_t t = 0; t < tokens; t++) {
        for (uint64_t k = 0; k < columns; k++) {
            row[k] = test_random_normal();
        }
        activation_prepare(kernel->activation, row, columns, p->activations + t * p->stride,
                           &p->features);
    }
    free(row);
    p->out_stride = rows + test_random_below(5);
    p->out_bytes = ((tokens - 1) * p->out_stride + rows) * sizeof(float);
    p->out = guard_alloc(p->out_bytes);
}

static void teardown(struct problem *p)
{
    guard_free(p->source, p->rows * p->row_bytes);
    guard_free(p->packed, p->packed_bytes);
    guard_free(p->activations, p->tokens * p->stride);
    guard_free(p->out, p->out_bytes);
}

/* Multiplies tokens [token, token + count) with rows [begin, end) into p->out. */
static void run(struct problem *p, uint64_t begin, uint64_t end, uint32_t token, uint32_t count)
{
    struct linear_call call = {
        .weight = p->packed_bytes ? p->packed : p->source,
        .columns = p->columns,
        .row_begin = begin,
        .row_end = end,
        .row_count = p->rows,
        .activations = p->activations + token * p->stride,
        .activation_stride = p->stride,
        .token_count = count,
        .out = p->out + token * p->out_stride,
        .out_stride = p->out_stride,
    };
    p->kernel->multiply(&call);
}

static void fill_out(struct problem *p)
{
    uint32_t sentinel = OUT_SENTINEL;
    for (uint64_t i = 0; i < p->out_bytes / sizeof(float); i++) {
        memcpy(&p->out[i], &sentinel, sizeof sentinel);
    }
}

static bool is_sentinel(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits == OUT_SENTINEL;
}

static void check_against_reference(struct problem *p)
{
    float *row = malloc(p->columns * sizeof *row);
    float *x = malloc(p->columns * sizeof *x);
    assert_true(row && x);
    for (uint64_t r = 0; r < p->rows; r++) {
        dequantize_row(p->kernel->dtype, p->source + r * p->row_bytes, row, p->columns);
        for (uint32_t t = 0; t < p->tokens; t++) {
            for (uint64_t k = 0; k < p->columns; k++) {
                x[k] = activation_at(p, t, k);
            }
            double expected =
                reference_dot(p->kernel->dtype, p->source + r * p->row_bytes, x, p->columns);
            double size = 0;
            for (uint64_t k = 0; k < p->columns; k++) {
                size += fabs((double)row[k] * (double)x[k]);
            }
            double difference = fabs((double)p->out[t * p->out_stride + r] - expected);
            if (!(difference <= 1e-6 * size + 1e-30)) {
                fail_msg("%s, %llu x %llu, row %llu, token %u: off by %g of %g", p->kernel->name,
                         (unsigned long long)p->rows, (unsigned long long)p->columns,
                         (unsigned long long)r, t, difference, size);
            }
        }
    }
    free(row);
    free(x);
}

/* Only the asked range may change, and it must hold the bits of `whole`. */
static void check_range(struct problem *p, const float *whole, uint64_t begin, uint64_t end,
                        uint32_t token, uint32_t count)
{
    for (uint64_t i = 0; i < p->out_bytes / sizeof(float); i++) {
        uint64_t t = i / p->out_stride;
        uint64_t r = i % p->out_stride;
        bool inside = r >= begin && r < end && t >= token && t < (uint64_t)token + count;
        if (inside ? memcmp(&p->out[i], &whole[i], sizeof *whole) != 0 : !is_sentinel(p->out[i])) {
            fail_msg("%s, %llu x %llu, rows %llu-%llu, tokens %u+%u: %s at row %llu, token %llu",
                     p->kernel->name, (unsigned long long)p->rows, (unsigned long long)p->columns,
                     (unsigned long long)begin, (unsigned long long)end, token, count,
                     inside ? "other bits" : "written outside", (unsigned long long)r,
                     (unsigned long long)t);
        }
    }
}

static void check_invariance(struct problem *p)
{
    float *whole = malloc(p->out_bytes);
    assert_non_null(whole);
    memcpy(whole, p->out, p->out_bytes);
    uint64_t group = p->kernel->row_group;
    uint64_t groups = (p->rows + group - 1) / group;
    for (int i = 0; i < 8; i++) {
        uint64_t first = test_random_below(groups);
        uint64_t last = first + 1 + test_random_below(groups - first);
        uint64_t end = last * group < p->rows ? last * group : p->rows;
        uint32_t token = (uint32_t)test_random_below(p->tokens);
        uint32_t count = 1 + (uint32_t)test_random_below(p->tokens - token);
        count = i == 0 ? 1 : count;
        fill_out(p);
        run(p, first * group, end, token, count);
        check_range(p, whole, first * group, end, token, count);
    }
    free(whole);
}

static void check_shape(const struct linear_kernel *kernel, uint64_t rows, uint64_t columns,
                        uint32_t tokens)
{
    struct problem p;
    setup(&p, kernel, rows, columns, tokens);
    fill_out(&p);
    run(&p, 0, rows, 0, tokens);
    check_against_reference(&p);
    check_invariance(&p);
    if (tokens > 1) {
        /* A neighbour that is not a number stays alone with it. */
        run(&p, 0, rows, 0, tokens);
        float *whole = malloc(p.out_bytes);
        assert_non_null(whole);
        memcpy(whole, p.out, p.out_bytes);
        uint32_t bad = (uint32_t)test_random_below(tokens);
        spoil_activation(&p, bad, test_random_below(columns));
        run(&p, 0, rows, 0, tokens);
        for (uint32_t t = 0; t < tokens; t++) {
            if (t != bad) {
                assert_memory_equal(p.out + t * p.out_stride, whole + t * p.out_stride,
                                    rows * sizeof *whole);
            } else {
                assert_true(isnan(p.out[t * p.out_stride]));
            }
        }
        free(whole);
    }
    teardown(&p);
}

static void check_kernel(const struct linear_kernel *kernel)
{
    /* Instructions that multiply pairs of columns want whole pieces of them. */
    uint64_t unit = kernel->activation == ACTIVATION_F32 ? 1 : 32;
    for (uint32_t tokens = 1; tokens <= 40; tokens += 1 + tokens / 14 * 3) {
        check_shape(kernel, 1 + test_random_below(150), (1 + test_random_below(700 / unit)) * unit,
                    tokens);
    }
    check_shape(kernel, 1, unit, 1);
    check_shape(kernel, 32, 256, 12);
    check_shape(kernel, 33, 256 + unit, 13);
    check_shape(kernel, 64, 512, 2);
}

static void every_kernel_is_right_and_keeps_to_itself(void **state)
{
    (void)state;
    struct cpu_features features;
    cpu_features_detect(&features);
    if (!cpu_features_request_amx()) {
        features.amx_int8 = features.amx_bf16 = false;
    }
    uint32_t counts[2];
    uint32_t tried = 0;
    const struct linear_kernel *const *tables[2] = {linear_kernels(&counts[0]),
                                                    amx_emulated_kernels(&counts[1])};
    for (int table = 0; table < 2; table++) {
        for (uint32_t i = 0; i < counts[table]; i++) {
            const struct linear_kernel *kernel = tables[table][i];
            if (kernel->activation != ACTIVATION_Q8 && kernel->available(&features)) {
                check_kernel(kernel);
                tried++;
            }
        }
    }
    assert_true(tried >= 3);
}

static void the_table_is_in_order(void **state)
{
    (void)state;
    struct cpu_features none = {0};
    struct cpu_features features;
    cpu_features_detect(&features);
    cpu_features_mask(&features, CPU_LEVEL_COUNT, false);
    assert_false(features.amx_int8 || features.avx512_bf16);
    for (int dtype = 0; dtype < DTYPE_F8_E4M3; dtype++) { /* 8-bit floats are converted before */
        const struct linear_kernel *scalar = linear_kernel_choose((enum dtype)dtype, 256, &none);
        assert_non_null(scalar);
        assert_non_null(strstr(scalar->name, "_scalar"));
        const struct linear_kernel *best = linear_kernel_choose((enum dtype)dtype, 256, &features);
        if (dtype == DTYPE_BF16 && features.amx_bf16) {
            assert_non_null(strstr(best->name, "_amxbf16"));
        } else if (features.avx512) {
            assert_non_null(strstr(best->name, "_avx512"));
        } else if (features.avx2_fma_f16c) {
            assert_non_null(strstr(best->name, "_avx"));
        }
        assert_int_equal(best->row_group & (best->row_group - 1), 0);
    }
    assert_null(linear_kernel_choose(DTYPE_Q8_0, 31, &features));
    assert_null(linear_kernel_choose(DTYPE_F32, 0, &features));
}

static void activation_rows_are_aligned(void **state)
{
    (void)state;
    for (uint64_t columns = 32; columns < 9000; columns += 32) {
        for (int format = ACTIVATION_F32; format <= ACTIVATION_BF16; format++) {
            uint64_t bytes = activation_row_bytes((enum activation_format)format, columns);
            assert_int_equal(bytes % 64, 0);
            assert_int_not_equal(bytes % 4096, 0);
            assert_true(bytes >= columns);
        }
    }
    float row[3] = {1.0f, -2.5f, 1.00390625f};
    uint16_t out[3];
    struct cpu_features features = {0};
    activation_prepare(ACTIVATION_BF16, row, 3, out, &features);
    assert_int_equal(out[0], 0x3f80);
    assert_int_equal(out[1], 0xc020);
    assert_int_equal(out[2], 0x3f80); /* halfway: to even */
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(every_kernel_is_right_and_keeps_to_itself),
    cmocka_unit_test(the_table_is_in_order),
    cmocka_unit_test(activation_rows_are_aligned),
};

TEST_MAIN(tests)
