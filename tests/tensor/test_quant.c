/* Quantised types: dequantising against published values to the bit, and what quantising loses. */
#include "support/test_support.h"

#include "tensor/quant.h"
#include "tensor/quant_read.h"

static const enum dtype quantised[] = {DTYPE_Q4_0,  DTYPE_Q4_1,  DTYPE_Q5_0,   DTYPE_Q5_1,
                                       DTYPE_Q8_0,  DTYPE_Q2_K,  DTYPE_Q3_K,   DTYPE_Q4_K,
                                       DTYPE_Q5_K,  DTYPE_Q6_K,  DTYPE_IQ4_NL, DTYPE_IQ4_XS,
                                       DTYPE_MXFP4, DTYPE_TQ1_0, DTYPE_TQ2_0};
#define QUANTISED_COUNT (sizeof quantised / sizeof quantised[0])

/* Only read. */
static const enum dtype read_only[] = {DTYPE_IQ3_S,   DTYPE_IQ3_XXS, DTYPE_IQ2_S, DTYPE_IQ2_XS,
                                       DTYPE_IQ2_XXS, DTYPE_IQ1_M,   DTYPE_IQ1_S};
#define READ_ONLY_COUNT (sizeof read_only / sizeof read_only[0])

static bool is_writable(int dtype)
{
    for (size_t i = 0; i < READ_ONLY_COUNT; i++) {
        if ((int)read_only[i] == dtype) {
            return false;
        }
    }
    return dtype != DTYPE_F8_E4M3; /* without its scales it is no type to convert to */
}

/* Ternary codes fit nothing but ternary weights. */
static bool is_ternary(enum dtype dtype)
{
    return dtype == DTYPE_TQ1_0 || dtype == DTYPE_TQ2_0;
}

/* The whole of a small file of the repository (caller frees). */
static unsigned char *read_whole(const char *name, size_t *bytes)
{
    char *path = test_source_path(name);
    FILE *stream = path ? fopen(path, "rb") : NULL;
    assert_non_null(stream);
    static const size_t limit = 1 << 20;
    unsigned char *data = malloc(limit);
    assert_non_null(data);
    *bytes = fread(data, 1, limit, stream);
    assert_true(*bytes > 0 && *bytes < limit);
    fclose(stream);
    free(path);
    return data;
}

static void test_published_values(void **state)
{
    (void)state;
    size_t bytes;
    unsigned char *data = read_whole("tests/tensor/quant_cases.bin", &bytes);
    bool seen[DTYPE_COUNT] = {false};
    size_t at = 0;
    while (at < bytes) {
        uint32_t head[3];
        assert_true(bytes - at >= sizeof head);
        memcpy(head, data + at, sizeof head);
        at += sizeof head;
        enum dtype dtype;
        uint64_t row_bytes;
        assert_true(dtype_from_gguf(head[0], &dtype));
        assert_true(dtype_row_bytes(dtype, head[1], &row_bytes));
        assert_int_equal(row_bytes, head[2]);
        assert_true(bytes - at >= head[2] + head[1] * sizeof(float));
        float *values = malloc(head[1] * sizeof(float));
        /* An odd address: files promise no alignment. */
        unsigned char *blocks = malloc(head[2] + 1);
        memcpy(blocks + 1, data + at, head[2]);
        dequantize_row(dtype, blocks + 1, values, head[1]);
        const unsigned char *expected = data + at + head[2];
        for (uint32_t i = 0; i < head[1]; i++) {
            if (memcmp(&values[i], expected + i * sizeof(float), sizeof(float)) != 0) {
                float wanted;
                memcpy(&wanted, expected + i * sizeof(float), sizeof wanted);
                fail_msg("%s value %u: %a, expected %a", dtype_info(dtype)->name, i,
                         (double)values[i], (double)wanted);
            }
        }
        seen[dtype] = true;
        at += head[2] + head[1] * sizeof(float);
        free(blocks);
        free(values);
    }
    for (size_t i = 0; i < QUANTISED_COUNT; i++) {
        assert_true(seen[quantised[i]]);
    }
    for (size_t i = 0; i < READ_ONLY_COUNT; i++) {
        assert_true(seen[read_only[i]]);
    }
    free(data);
}

static double relative_error(const float *x, const float *y, const float *weights, size_t count)
{
    double lost = 0;
    double all = 0;
    for (size_t i = 0; i < count; i++) {
        double w = weights ? (double)weights[i] : 1;
        lost += w * ((double)x[i] - (double)y[i]) * ((double)x[i] - (double)y[i]);
        all += w * (double)x[i] * (double)x[i];
    }
    return sqrt(lost / all);
}

#define ELEMENTS 16384

static void round_trip(enum dtype dtype, const float *x, const float *importance, float *y,
                       uint64_t elements)
{
    uint64_t bytes;
    assert_true(dtype_row_bytes(dtype, elements, &bytes));
    unsigned char *blocks = malloc(bytes + 16);
    memset(blocks, 0xa5, bytes + 16);
    assert_true(quantize_row(dtype, x, importance, blocks, elements));
    for (int i = 0; i < 16; i++) {
        assert_int_equal(blocks[bytes + (uint64_t)i], 0xa5);
    }
    dequantize_row(dtype, blocks, y, elements);
    free(blocks);
}

/* On normal data: what this search reaches, plus a few per cent. */
static void test_error_bounds(void **state)
{
    (void)state;
    static const double bounds[DTYPE_COUNT] = {
        [DTYPE_F32] = 0,         [DTYPE_F16] = 3e-4,     [DTYPE_BF16] = 2e-3,
        [DTYPE_Q4_0] = 0.083,    [DTYPE_Q4_1] = 0.071,   [DTYPE_Q5_0] = 0.041,
        [DTYPE_Q5_1] = 0.0345,   [DTYPE_Q8_0] = 0.0055,  [DTYPE_Q2_K] = 0.267,
        [DTYPE_Q3_K] = 0.148,    [DTYPE_Q4_K] = 0.072,   [DTYPE_Q5_K] = 0.036,
        [DTYPE_Q6_K] = 0.0173,   [DTYPE_IQ4_NL] = 0.076, [DTYPE_IQ4_XS] = 0.077,
        [DTYPE_MXFP4] = 0.118,   [DTYPE_TQ1_0] = 0.45,   [DTYPE_TQ2_0] = 0.45,
        [DTYPE_F8_BLOCK] = 0.028};
    float *x = malloc(ELEMENTS * sizeof(float));
    float *y = malloc(ELEMENTS * sizeof(float));
    for (int i = 0; i < ELEMENTS; i++) {
        x[i] = test_random_normal() * 0.02f;
    }
    for (int d = 0; d < DTYPE_COUNT; d++) {
        if (!is_writable(d)) {
            continue;
        }
        round_trip((enum dtype)d, x, NULL, y, ELEMENTS);
        double error = relative_error(x, y, NULL, ELEMENTS);
        if (!(error <= bounds[d])) {
            fail_msg("%s loses %.5f, more than %.5f", dtype_info((enum dtype)d)->name, error,
                     bounds[d]);
        }
    }
    free(x);
    free(y);
}

/* Important columns must come out better than without the hint, by the measure of the hint. */
static void test_importance(void **state)
{
    (void)state;
    float *x = malloc(ELEMENTS * sizeof(float));
    float *y = malloc(ELEMENTS * sizeof(float));
    float *importance = malloc(ELEMENTS * sizeof(float));
    for (int i = 0; i < ELEMENTS; i++) {
        x[i] = test_random_normal();
        importance[i] = test_random_below(8) == 0 ? 50.0f : 0.1f;
    }
    for (size_t i = 0; i < QUANTISED_COUNT; i++) {
        if (quantised[i] == DTYPE_Q8_0 || quantised[i] == DTYPE_MXFP4 || is_ternary(quantised[i])) {
            continue; /* no scale worth moving, a power of two, one scale for many columns */
        }
        round_trip(quantised[i], x, NULL, y, ELEMENTS);
        double blind = relative_error(x, y, importance, ELEMENTS);
        round_trip(quantised[i], x, importance, y, ELEMENTS);
        double hinted = relative_error(x, y, importance, ELEMENTS);
        if (!(hinted < 0.95 * blind)) {
            fail_msg("%s: %.5f with importance, %.5f without", dtype_info(quantised[i])->name,
                     hinted, blind);
        }
    }
    free(importance);
    free(x);
    free(y);
}

static void test_zero_rows(void **state)
{
    (void)state;
    float x[512] = {0};
    float y[512];
    for (int d = 0; d < DTYPE_COUNT; d++) {
        if (!is_writable(d)) {
            continue;
        }
        memset(y, 0x7f, sizeof y);
        round_trip((enum dtype)d, x, NULL, y, 512);
        for (int i = 0; i < 512; i++) {
            assert_true(y[i] == 0.0f);
        }
    }
}

/* A constant, positive or negative, survives in every type: it needs one code and one scale. */
static void test_constant_rows(void **state)
{
    (void)state;
    float x[512];
    float y[512];
    for (int sign = -1; sign <= 1; sign += 2) {
        for (int i = 0; i < 512; i++) {
            x[i] = 0.37f * (float)sign;
        }
        for (int d = 0; d < DTYPE_COUNT; d++) {
            if (!is_writable(d)) {
                continue;
            }
            round_trip((enum dtype)d, x, NULL, y, 512);
            double error = relative_error(x, y, NULL, 512);
            /* The scales of mxfp4 are powers of two: 0.37 becomes 0.375. */
            if (!(error <= (d == DTYPE_MXFP4 ? 0.014 : 0.01))) {
                fail_msg("%s: %g", dtype_info((enum dtype)d)->name, error);
            }
        }
    }
}

/* Values that no model should have: finite blocks come out, and nothing traps. */
static void test_strange_values(void **state)
{
    (void)state;
    static const float strange[] = {NAN,    INFINITY, -INFINITY, 3.4e38f, -3.4e38f, 1e-45f,
                                    1e-38f, -1e-40f,  65504.0f,  1e6f,    -1e7f,    0.0f};
    float x[256];
    float y[256];
    float importance[256];
    for (int round = 0; round < 200; round++) {
        bool plain = test_random_below(2) == 0;
        for (int i = 0; i < 256; i++) {
            float odd = strange[test_random_below(sizeof strange / sizeof strange[0])];
            x[i] = plain && test_random_below(8) != 0 ? test_random_normal() : odd;
            importance[i] = test_random_below(3) == 0 ? odd : 1.0f;
        }
        for (size_t i = 0; i < QUANTISED_COUNT; i++) {
            round_trip(quantised[i], x, round % 3 == 0 ? importance : NULL, y, 256);
            for (int k = 0; k < 256; k++) {
                assert_true(isfinite(y[k]));
            }
        }
    }
}

/* Huge but usable values keep their relative error; f16 scales reach that far. */
static void test_huge_values(void **state)
{
    (void)state;
    float *x = malloc(ELEMENTS * sizeof(float));
    float *y = malloc(ELEMENTS * sizeof(float));
    for (int i = 0; i < ELEMENTS; i++) {
        x[i] = test_random_normal() * 2e4f;
    }
    for (size_t i = 0; i < QUANTISED_COUNT; i++) {
        round_trip(quantised[i], x, NULL, y, ELEMENTS);
        double error = relative_error(x, y, NULL, ELEMENTS);
        double bound = is_ternary(quantised[i]) ? 0.45 : quantised[i] == DTYPE_Q2_K ? 0.27 : 0.15;
        if (!(error <= bound)) {
            fail_msg("%s: %g", dtype_info(quantised[i])->name, error);
        }
    }
    free(x);
    free(y);
}

static void test_reference_dot(void **state)
{
    (void)state;
    float x[512];
    float y[512];
    float values[512];
    unsigned char blocks[512 * 4];
    for (int d = 0; d < DTYPE_COUNT; d++) {
        if (!is_writable(d)) {
            continue;
        }
        for (int i = 0; i < 512; i++) {
            x[i] = test_random_normal();
            y[i] = test_random_normal();
        }
        assert_true(quantize_row((enum dtype)d, x, NULL, blocks, 512));
        dequantize_row((enum dtype)d, blocks, values, 512);
        double sum = 0;
        for (int i = 0; i < 512; i++) {
            sum += (double)values[i] * (double)y[i];
        }
        double found = reference_dot((enum dtype)d, blocks, y, 512);
        assert_true(found == sum);
    }
}

/* Weights that are ternary already come back as they were. */
static void test_ternary(void **state)
{
    (void)state;
    float x[1024];
    float y[1024];
    for (int i = 0; i < 1024; i++) {
        x[i] = 0.125f * ((float)test_random_below(3) - 1);
    }
    for (int wide = 0; wide < 2; wide++) {
        round_trip(wide ? DTYPE_TQ2_0 : DTYPE_TQ1_0, x, NULL, y, 1024);
        for (int i = 0; i < 1024; i++) {
            assert_true(x[i] == y[i]);
        }
    }
}

/* Types that are only read say so and touch nothing. */
static void test_unwritable(void **state)
{
    (void)state;
    float x[256] = {1};
    unsigned char blocks[256];
    memset(blocks, 0xa5, sizeof blocks);
    for (size_t i = 0; i < READ_ONLY_COUNT; i++) {
        assert_false(quantize_row(read_only[i], x, NULL, blocks, 256));
    }
    for (size_t i = 0; i < sizeof blocks; i++) {
        assert_int_equal(blocks[i], 0xa5);
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_ternary),          cmocka_unit_test(test_unwritable),
    cmocka_unit_test(test_published_values), cmocka_unit_test(test_error_bounds),
    cmocka_unit_test(test_importance),       cmocka_unit_test(test_zero_rows),
    cmocka_unit_test(test_constant_rows),    cmocka_unit_test(test_strange_values),
    cmocka_unit_test(test_huge_values),      cmocka_unit_test(test_reference_dot),
};

TEST_MAIN(tests)
