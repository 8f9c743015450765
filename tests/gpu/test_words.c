/* Every word of the language of kernels on the emulated GPU, against plain C, in all orders of
 * threads. */
#include "gpu_support.h"

#include "tensor/dtype.h"

struct words_arguments {
    uint64_t in;
    uint64_t out;
    uint32_t count;
    uint32_t value;
};

static struct gpu_bench bench;

/* Uploads `in`, runs the kernel, downloads `out`. */
static void run(const char *kernel, uint32_t blocks, uint32_t threads, uint32_t shared_bytes,
                const void *in, size_t in_bytes, void *out, size_t out_bytes, uint32_t count,
                uint32_t value)
{
    struct words_arguments arguments = {.count = count, .value = value};
    arguments.in = gpu_bench_upload(&bench, in, in_bytes);
    arguments.out = gpu_bench_upload(&bench, out, out_bytes);
    assert_ok(gpu_bench_launch(&bench, kernel, blocks, threads, shared_bytes, &arguments,
                               sizeof arguments),
              bench.error);
    gpu_bench_download(&bench, out, arguments.out, out_bytes);
    bench.driver->memory_free(bench.driver, arguments.in);
    bench.driver->memory_free(bench.driver, arguments.out);
}

static void random_words(uint32_t *words, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        words[i] = (uint32_t)test_random();
    }
}

static void test_indices(void **state)
{
    (void)state;
    uint32_t in[1000];
    uint32_t out[1000];
    random_words(in, 1000);
    run("indices", 8, 128, 0, in, sizeof in, out, sizeof out, 1000, 7);
    for (uint32_t i = 0; i < 1000; i++) {
        assert_int_equal(out[i], in[i] * 7u + 8u);
    }
}

/* Kernels are found however their text came about. */
static void test_macros(void **state)
{
    (void)state;
    static const char *const names[] = {"made_by_macro", "made_too"};
    struct gpu_function *function;
    struct gpu_function_info info;
    uint32_t in[1] = {0};
    uint32_t out[64];
    for (size_t i = 0; i < 2; i++) {
        run(names[i], 1, 64, 0, in, sizeof in, out, sizeof out, 0, 0);
        for (uint32_t t = 0; t < 64; t++) {
            assert_int_equal(out[t], t + 1);
        }
        assert_ok(bench.driver->function_get(bench.driver, bench.module, names[i], &function,
                                             &bench.error),
                  bench.error);
        assert_ok(bench.driver->function_info(bench.driver, function, &info, &bench.error),
                  bench.error);
        assert_int_equal(info.threads_max, 64);
    }
    assert_int_equal(bench.driver->function_get(bench.driver, bench.module, "not_compiled",
                                                &function, &bench.error),
                     LLCUDA_NOT_FOUND);
}

static void test_indices3(void **state)
{
    (void)state;
    uint32_t out[3 * 4 * 5 * 33];
    struct words_arguments arguments = {.out = gpu_bench_upload(&bench, NULL, sizeof out)};
    struct gpu_function *function;
    const struct gpu_launch launch = {.grid = {3, 4, 5}, .block = {33, 1, 1}};
    assert_ok(
        bench.driver->function_get(bench.driver, bench.module, "indices3", &function, &bench.error),
        bench.error);
    assert_ok(bench.driver->launch(bench.driver, bench.stream, function, &launch, &arguments,
                                   sizeof arguments, &bench.error),
              bench.error);
    gpu_bench_download(&bench, out, arguments.out, sizeof out);
    bench.driver->memory_free(bench.driver, arguments.out);
    uint32_t at = 0;
    for (uint32_t z = 0; z < 5; z++) {
        for (uint32_t y = 0; y < 4; y++) {
            for (uint32_t x = 0; x < 3; x++) {
                for (uint32_t t = 0; t < 33; t++) {
                    assert_int_equal(out[at++], x | y << 8 | z << 16 | t << 24);
                }
            }
        }
    }
}

static void test_shared(void **state)
{
    (void)state;
    uint32_t in[4 * 256];
    uint32_t out[4 * 256];
    random_words(in, 4 * 256);
    run("reverse", 4, 256, 1024, in, sizeof in, out, sizeof out, 0, 0);
    for (uint32_t i = 0; i < 4 * 256; i++) {
        assert_int_equal(out[i], in[i / 256 * 256 + (255 - (i % 256 ^ 1u))]);
    }
}

static void test_poison(void **state)
{
    (void)state;
    uint32_t in[1] = {0};
    uint32_t out[2 * 3 * 64] = {0};
    if (!gpu_bench_is_emulated()) {
        skip();
    }
    run("poison", 3, 64, 256, in, sizeof in, out, sizeof out, 0, 0);
    for (uint32_t i = 0; i < 2 * 3 * 64; i++) {
#ifdef __SANITIZE_ADDRESS__
        if (i % 2 == 0) {
            continue; /* static shared memory is guarded instead */
        }
#endif
        assert_int_equal(out[i], 0xffffffffu);
    }
}

static void test_shuffles(void **state)
{
    (void)state;
    enum { COUNT = 3 * 128 };
    static uint32_t in[COUNT];
    static uint32_t out[COUNT * 8];
    random_words(in, COUNT);
    run("shuffles", 3, 128, 0, in, sizeof in, out, sizeof out, 0, 0);
    for (uint32_t i = 0; i < COUNT; i++) {
        const uint32_t *warp = in + i / 32 * 32;
        const uint32_t lane = i % 32;
        const uint32_t *got = out + i * 8;
        uint32_t ballot = 0;
        bool any = false;
        for (uint32_t j = 0; j < 32; j++) {
            ballot |= (uint32_t)(warp[j] % 3 == 0) << j;
            any = any || warp[j] % 64 == 0;
        }
        assert_int_equal(got[0], warp[(lane + 5) % 32]);
        assert_int_equal(got[1], warp[lane ^ 9]);
        assert_int_equal(got[2], warp[31 - lane]);
        assert_int_equal(got[3], warp[3] % 1000 * 2);
        assert_int_equal(got[4], warp[lane ^ 16] % 1000);
        assert_int_equal(got[5], ballot);
        assert_int_equal(got[6], any);
        assert_int_equal(got[7], warp[lane ^ 1]);
    }
}

static void test_reductions(void **state)
{
    (void)state;
    enum { COUNT = 4 * 64 };
    float in[COUNT];
    float out[COUNT * 4];
    for (uint32_t i = 0; i < COUNT; i++) {
        in[i] = test_random_normal();
    }
    run("reductions", 4, 64, 0, in, sizeof in, out, sizeof out, 0, 0);
    for (uint32_t i = 0; i < COUNT; i++) {
        const float *warp = in + i / 32 * 32;
        double sum = 0;
        float largest = warp[0];
        for (uint32_t lane = 0; lane < 32; lane++) {
            sum += (double)warp[lane];
            largest = fmaxf(largest, warp[lane]);
        }
        assert_memory_equal(out + 4 * i, out + 4 * i + 2, 2 * sizeof out[0]);
        assert_true(fabs(sum - (double)out[4 * i]) < 1e-4);
        assert_true(out[4 * i + 1] == largest);
    }
}

static void test_block_sum(void **state)
{
    (void)state;
    static uint32_t in[2 * 1024];
    uint32_t out[2];
    random_words(in, 2 * 1024);
    run("block_sum", 2, 1024, 0, in, sizeof in, out, sizeof out, 0, 0);
    for (uint32_t block = 0; block < 2; block++) {
        uint32_t sum = 0;
        for (uint32_t i = 0; i < 1024; i++) {
            sum += in[block * 1024 + i];
        }
        assert_int_equal(out[block], sum);
    }
}

static void test_last_block(void **state)
{
    (void)state;
    uint32_t in[57];
    uint32_t out[1 + 57 + 1] = {0};
    random_words(in, 57);
    run("last_block", 57, 32, 0, in, sizeof in, out, sizeof out, 0, 0);
    uint32_t sum = 0;
    for (uint32_t i = 0; i < 57; i++) {
        sum += in[i];
    }
    assert_int_equal(out[0], 57);
    assert_int_equal(out[58], sum);
}

static void test_copies(void **state)
{
    (void)state;
    uint32_t in[64 * 4];
    uint32_t out[4 * 64 * 4];
    random_words(in, 64 * 4);
    run("copies", 1, 64, 0, in, sizeof in, out, sizeof out, 0, 0);
    for (uint32_t i = 0; i < 64; i++) {
        const uint32_t other = i ^ 1;
        const uint32_t zeros[4] = {0};
        assert_memory_equal(out + i * 4, other < 48 ? in + other * 4 : zeros, 16);
        assert_memory_equal(out + (64 + i) * 4, in + (63 - other) * 4, 16);
    }
    assert_memory_equal(out + 128 * 4, in, sizeof in);
    assert_memory_equal(out + 192 * 4, in, sizeof in);
    if (!gpu_bench_is_emulated()) {
        return; /* a real GPU copies when it likes */
    }
    run("copies_early", 1, 32, 0, in, 512, out, 512, 0, 0);
    for (uint32_t i = 0; i < 128; i++) {
        assert_int_equal(out[i], 0xffffffffu); /* not there before it is waited for */
    }
}

static void test_halves(void **state)
{
    (void)state;
    static uint32_t out[2 * 65536];
    uint32_t in[1] = {0};
    for (uint32_t is_bf16 = 0; is_bf16 < 2; is_bf16++) {
        run("halves", 256, 256, 0, in, sizeof in, out, sizeof out, 0, is_bf16);
        for (uint32_t i = 0; i < 65536; i++) {
            float got;
            const float expected =
                is_bf16 ? float_from_bf16((uint16_t)i) : float_from_f16((uint16_t)i);
            memcpy(&got, &out[i], sizeof got);
            if (isnan(expected)) {
                assert_true(isnan(got));
                continue;
            }
            assert_memory_equal(&got, &expected, sizeof got);
            assert_int_equal(out[65536 + i], i);
        }
    }
}

static void test_to_halves(void **state)
{
    (void)state;
    enum { COUNT = 128 * 256 };
    static uint32_t in[COUNT];
    static uint32_t out[2 * COUNT];
    /* All exponents, and more often those at the ends of f16. */
    for (uint32_t i = 0; i < COUNT; i++) {
        in[i] = (uint32_t)test_random();
        if (i % 2) {
            const uint32_t exponent =
                (uint32_t)(i % 4 == 1 ? 100 + test_random_below(16) : 138 + test_random_below(8));
            in[i] = (in[i] & 0x807fffffu) | exponent << 23;
        }
    }
    run("to_halves", 128, 256, 0, in, sizeof in, out, sizeof out, 0, 0);
    for (uint32_t i = 0; i < COUNT; i++) {
        float value;
        memcpy(&value, &in[i], sizeof value);
        if (!isnan(value)) {
            assert_int_equal(out[2 * i], float_to_f16(value));
            assert_int_equal(out[2 * i + 1], float_to_bf16(value));
        }
    }
}

/* Rounds a double to f16, ties to even, by counting units in the last place. */
static uint16_t f16_of_double(double value)
{
    int exponent;
    const double magnitude = fabs(value);
    const uint16_t sign = signbit(value) ? 0x8000 : 0;
    frexp(magnitude, &exponent);
    const int unit = exponent - 11 < -24 ? -24 : exponent - 11;
    const double rounded = nearbyint(ldexp(magnitude, -unit)) * ldexp(1, unit);
    const uint16_t bits = rounded >= 65536 ? 0x7c00 : float_to_f16((float)rounded);
    return (uint16_t)(bits | sign);
}

static void test_half_pairs(void **state)
{
    (void)state;
    enum { COUNT = 4096 };
    static uint32_t in[3 * COUNT];
    static uint32_t out[4 * COUNT];
    random_words(in, 3 * COUNT);
    for (uint32_t i = 0; i < 3 * COUNT; i++) {
        in[i] &= 0xbfffbfffu; /* finite, and products that fit more often than not */
    }
    run("half_pairs", 32, 128, 0, in, sizeof in, out, sizeof out, 0, 0);
    for (uint32_t i = 0; i < COUNT; i++) {
        for (uint32_t shift = 0; shift < 32; shift += 16) {
            const double a = float_from_f16((uint16_t)(in[3 * i] >> shift));
            const double b = float_from_f16((uint16_t)(in[3 * i + 1] >> shift));
            const double c = float_from_f16((uint16_t)(in[3 * i + 2] >> shift));
            const double expected[4] = {fma(a, b, c), a * b, a - b, a + b};
            for (uint32_t j = 0; j < 4; j++) {
                const uint16_t got = (uint16_t)(out[4 * i + j] >> shift);
                if (expected[j] == 0) {
                    assert_int_equal(got & 0x7fff, 0);
                } else {
                    assert_int_equal(got, f16_of_double(expected[j]));
                }
            }
        }
    }
}

static void test_word_parts(void **state)
{
    (void)state;
    enum { COUNT = 1024 };
    static uint32_t in[4 * COUNT];
    static uint32_t out[4 * COUNT];
    random_words(in, 4 * COUNT);
    in[3] = 0x3fc00000u; /* 1.5 */
    run("word_parts", 8, 128, 0, in, sizeof in, out, sizeof out, 0, 0);
    for (uint32_t i = 0; i < COUNT; i++) {
        const uint32_t *word = in + 4 * i, *got = out + 4 * i;
        const uint64_t bytes = (uint64_t)word[1] << 32 | word[0];
        for (uint32_t j = 0; j < 4; j++) {
            uint32_t which = word[2] >> 4 * j & 7;
            assert_int_equal(got[0] >> 8 * j & 0xff, bytes >> 8 * which & 0xff);
        }
        assert_int_equal(got[1], (word[0] & word[1]) | word[2]);
        assert_int_equal(got[2], word[3]);
        assert_int_equal(got[3], i == 0);
    }
}

static void test_fast_words(void **state)
{
    (void)state;
    float in[256];
    float out[256 * 6];
    for (uint32_t i = 0; i < 256; i++) {
        in[i] = 0.01f + (float)test_random_below(10000) / 1000.0f;
    }
    run("fast_words", 2, 128, 0, in, sizeof in, out, sizeof out, 0, 0);
    for (uint32_t i = 0; i < 256; i++) {
        const double x = (double)in[i];
        const double expected[6] = {exp2(x), 1 / sqrt(x), tanh(x), exp(x), log2(x), 1 / x};
        for (uint32_t j = 0; j < 6; j++) {
            const double error = fabs((double)out[6 * i + j] - expected[j]);
            assert_true(error <= 1e-5 * (fabs(expected[j]) + 1e-1));
        }
    }
}

static void test_matrix(void **state)
{
    (void)state;
    enum { WORDS = 128 + 64 + 128 };
    for (uint32_t value = 0; value < 4; value++) {
        static float plain[2][WORDS * 2];
        static uint32_t in[2 * WORDS];
        float out[2 * 128];
        for (uint32_t warp = 0; warp < 2; warp++) {
            uint32_t *words = in + warp * WORDS;
            for (uint32_t i = 0; i < 2 * (128 + 64); i++) {
                const float x = test_random_normal();
                const uint16_t bits = value & 1 ? float_to_bf16(x) : float_to_f16(x);
                memcpy((char *)words + 2 * i, &bits, 2);
                plain[warp][i] = value & 1 ? float_from_bf16(bits) : float_from_f16(bits);
            }
            for (uint32_t i = 0; i < 128; i++) {
                const float x = test_random_normal();
                memcpy(&words[128 + 64 + i], &x, 4);
                plain[warp][2 * (128 + 64) + i] = x;
            }
        }
        run("matrix", 1, 64, 0, in, sizeof in, out, sizeof out, 0, value);
        for (uint32_t i = 0; i < 2 * 128; i++) {
            const float *a = plain[i / 128];
            const float *b = a + 256;
            const uint32_t row = i % 128 / 8;
            const uint32_t column = i % 8;
            double sum = (double)a[2 * (128 + 64) + i % 128];
            for (uint32_t k = 0; k < 16; k++) {
                sum += (double)a[row * 16 + k] * (double)b[column * 16 + k];
            }
            assert_true(fabs(sum - (double)out[i]) < 1e-4);
        }
    }
}

static int set_up(enum gpu_emu_order order)
{
    char *text = gpu_bench_text("words.cu", NULL, 0);
    gpu_bench_open(&bench, order, test_random());
    gpu_bench_load(&bench, text);
    free(text);
    return 0;
}

static int forward(void **state)
{
    (void)state;
    return set_up(GPU_EMU_FORWARD);
}

static int reverse(void **state)
{
    (void)state;
    return set_up(GPU_EMU_REVERSE);
}

static int random_order(void **state)
{
    (void)state;
    return set_up(GPU_EMU_RANDOM);
}

static int tear_down(void **state)
{
    (void)state;
    gpu_bench_close(&bench);
    return bench.faults.live_allocations != 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_indices),    cmocka_unit_test(test_macros),
        cmocka_unit_test(test_indices3),   cmocka_unit_test(test_shared),
        cmocka_unit_test(test_poison),     cmocka_unit_test(test_shuffles),
        cmocka_unit_test(test_reductions), cmocka_unit_test(test_block_sum),
        cmocka_unit_test(test_last_block), cmocka_unit_test(test_copies),
        cmocka_unit_test(test_halves),     cmocka_unit_test(test_to_halves),
        cmocka_unit_test(test_half_pairs), cmocka_unit_test(test_word_parts),
        cmocka_unit_test(test_fast_words), cmocka_unit_test(test_matrix),
    };
    test_seed_print();
    return cmocka_run_group_tests_name("forward", tests, forward, tear_down) +
           cmocka_run_group_tests_name("reverse", tests, reverse, tear_down) +
           cmocka_run_group_tests_name("random", tests, random_order, tear_down);
}
