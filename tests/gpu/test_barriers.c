/* Barriers on the emulated GPU: three kernels are right in every order of threads, and wrong in
 * some order when any one of their barriers is deleted; broken rules are reported with both places.
 * In a sanitizer build, accesses outside of memory end the program. */
#include "gpu_support.h"

#include <sys/wait.h>
#include <unistd.h>

enum { BLOCKS = 3, THREADS = 64, COUNT = BLOCKS * THREADS, ROUNDS = 3 };

struct barrier_arguments {
    uint64_t in;
    uint64_t out;
    uint32_t rounds;
    uint32_t unused;
};

static const struct {
    const char *name;
    enum gpu_emu_order order;
} orders[] = {
    {"forward", GPU_EMU_FORWARD}, {"reverse", GPU_EMU_REVERSE}, {"random", GPU_EMU_RANDOM}};

static void expect(const char *kernel, const float *in, float *out)
{
    for (uint32_t i = 0; i < COUNT; i++) {
        const float *block = in + i / THREADS * THREADS;
        const uint32_t thread = i % THREADS;
        float sum = 0;
        if (strcmp(kernel, "running_sum") == 0) {
            for (uint32_t j = 0; j < THREADS - thread; j++) {
                sum += block[j];
            }
        } else if (strcmp(kernel, "tile_loop") == 0) {
            for (uint32_t round = 0; round < ROUNDS; round++) {
                sum = sum * 0.5f + in[round * THREADS + (thread * 7 + round) % THREADS];
            }
        } else {
            const uint32_t from = THREADS - 1 - thread;
            const uint32_t warp = 1 - from / 32;
            for (uint32_t j = 0; j < 32; j++) {
                sum += block[warp * 32 + j];
            }
            sum *= (float)from;
        }
        out[i] = sum;
    }
}

/* Whether the kernel computes what it should, under this order. The inputs are small integers, so
 * that sums are exact in any order. */
static bool is_right(struct gpu_bench *bench, const char *kernel)
{
    float in[COUNT];
    float out[COUNT];
    float expected[COUNT];
    bool right = true;
    for (uint32_t i = 0; i < COUNT; i++) {
        in[i] = (float)(4 * test_random_below(1000) + 1);
    }
    expect(kernel, in, expected);
    struct barrier_arguments arguments = {.rounds = ROUNDS};
    arguments.in = gpu_bench_upload(bench, in, sizeof in);
    arguments.out = gpu_bench_upload(bench, NULL, sizeof out);
    llcuda_status status =
        gpu_bench_launch(bench, kernel, BLOCKS, THREADS, 0, &arguments, sizeof arguments);
    if (status == LLCUDA_OK) {
        gpu_bench_download(bench, out, arguments.out, sizeof out);
        for (uint32_t i = 0; i < COUNT; i++) {
            right = right && out[i] == expected[i];
        }
    } else {
        right = false;
    }
    bench->driver->memory_free(bench->driver, arguments.in);
    bench->driver->memory_free(bench->driver, arguments.out);
    return right;
}

/* In how many of the orders the kernel of this text is right. */
static uint32_t right_orders(const char *text, const char *kernel)
{
    uint32_t count = 0;
    for (size_t i = 0; i < sizeof orders / sizeof orders[0]; i++) {
        struct gpu_bench bench;
        gpu_bench_open(&bench, orders[i].order, test_random());
        gpu_bench_load(&bench, text);
        count += is_right(&bench, kernel);
        gpu_bench_close(&bench);
    }
    return count;
}

/* How often `word` stands between the head of a kernel and the next kernel; *before tells how often
 * above it. */
static uint32_t barriers_of(const char *text, const char *kernel, const char *word,
                            uint32_t *before)
{
    char head[64];
    snprintf(head, sizeof head, " %s(", kernel);
    const char *start = strstr(text, "barrier_arguments {");
    const char *begin = strstr(start, head);
    assert_non_null(begin);
    const char *end = strstr(begin, "__global__");
    uint32_t count = 0;
    *before = 0;
    for (const char *at = strstr(start, word); at && at < end; at = strstr(at + 1, word)) {
        if (at < begin) {
            *before += 1;
        } else {
            count++;
        }
    }
    return count;
}

static void deleting_any_barrier_shows(void **state)
{
    (void)state;
    static const char *const kernels[] = {"running_sum", "tile_loop", "warp_relay"};
    static const char *const words[] = {"__syncthreads();", "__syncwarp();"};
    char *whole = gpu_bench_text("barriers.cu", NULL, 0);
    uint32_t deleted = 0;
    for (size_t k = 0; k < 3; k++) {
        assert_int_equal(right_orders(whole, kernels[k]), 3);
        for (size_t w = 0; w < 2; w++) {
            uint32_t before;
            const uint32_t count = barriers_of(whole, kernels[k], words[w], &before);
            for (uint32_t i = 0; i < count; i++) {
                char *text = gpu_bench_text("barriers.cu", words[w], before + i);
                const uint32_t right = right_orders(text, kernels[k]);
                if (right == 3) {
                    fail_msg("%s without its %s number %u is right in every order", kernels[k],
                             words[w], i + 1);
                }
                free(text);
                deleted++;
            }
        }
    }
    assert_int_equal(deleted, 8);
    free(whole);
}

static void reports_broken_rules(void **state)
{
    (void)state;
    static const struct {
        const char *kernel;
        const char *words[3];
    } cases[] = {
        {"leaves_early", {"__syncthreads", "thread 5 has ended", "barriers.cu:"}},
        {"two_barriers", {"thread ", "__syncthreads", " but "}},
        {"half_a_warp", {"warp_shuffle", "has ended", "barriers.cu:"}},
        {"barrier_meets_shuffle", {"thread 7", " but ", "__syncthreads"}},
        {"unaligned", {"thread 9", "store16", "aligned to 16"}},
    };
    char *text = gpu_bench_text("barriers.cu", NULL, 0);
    for (size_t order = 0; order < 3; order++) {
        struct gpu_bench bench;
        gpu_bench_open(&bench, orders[order].order, test_random());
        gpu_bench_load(&bench, text);
        struct barrier_arguments arguments = {.out = gpu_bench_upload(&bench, NULL, 1024)};
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
            llcuda_status status = gpu_bench_launch(&bench, cases[i].kernel, 2, THREADS, 0,
                                                    &arguments, sizeof arguments);
            assert_int_equal(status, LLCUDA_DEVICE);
            for (size_t w = 0; w < 3; w++) {
                if (!strstr(bench.error.message, cases[i].words[w])) {
                    fail_msg("%s: no '%s' in: %s", cases[i].kernel, cases[i].words[w],
                             bench.error.message);
                }
            }
            /* The device goes on. */
            assert_true(is_right(&bench, "warp_relay"));
        }
        bench.driver->memory_free(bench.driver, arguments.out);
        gpu_bench_close(&bench);
    }
    free(text);
}

#ifdef __SANITIZE_ADDRESS__
/* Runs a kernel in a child; whether the sanitizer ended it. */
static bool sanitizer_ends(struct gpu_bench *bench, const char *kernel,
                           const struct barrier_arguments *arguments)
{
    int state;
    const pid_t child = fork();
    if (child == 0) {
        if (!freopen("/dev/null", "w", stderr)) {
            _exit(2);
        }
        gpu_bench_launch(bench, kernel, 1, THREADS, 64 * 4, arguments, sizeof *arguments);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &state, 0), child);
    return !WIFEXITED(state) || WEXITSTATUS(state) != 0;
}

static void sanitizer_sees_accesses_outside(void **state)
{
    (void)state;
    struct gpu_bench bench;
    char *text = gpu_bench_text("barriers.cu", NULL, 0);
    gpu_bench_open(&bench, GPU_EMU_FORWARD, 0);
    gpu_bench_load(&bench, text);
    struct barrier_arguments arguments = {.in = gpu_bench_upload(&bench, NULL, 64 * 4),
                                          .out = gpu_bench_upload(&bench, NULL, 64 * 4)};
    for (uint32_t past = 0; past < 2; past++) {
        arguments.rounds = past;
        assert_int_equal(sanitizer_ends(&bench, "past_the_end", &arguments), past);
        arguments.unused = 0;
        assert_int_equal(sanitizer_ends(&bench, "past_shared", &arguments), past);
        arguments.unused = 1;
        assert_int_equal(sanitizer_ends(&bench, "past_shared", &arguments), past);
    }
    bench.driver->memory_free(bench.driver, arguments.in);
    bench.driver->memory_free(bench.driver, arguments.out);
    gpu_bench_close(&bench);
    free(text);
}
#endif

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(deleting_any_barrier_shows),
    cmocka_unit_test(reports_broken_rules),
#ifdef __SANITIZE_ADDRESS__
    cmocka_unit_test(sanitizer_sees_accesses_outside),
#endif
};

TEST_MAIN(tests)
