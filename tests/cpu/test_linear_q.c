/* Matrix kernels of the quantised types: 8-bit activations at every level, the portable kernels
 * against double precision, the vector kernels against the portable ones to the bit, and that a
 * result does not depend on its company. */
#include "support/test_support.h"

#include <sys/mman.h>
#include <unistd.h>

#include "cpu/activation_q8.h"
#include "cpu/amx_emulated.h"
#include "cpu/features.h"
#include "cpu/linear.h"
#include "cpu/random_blocks.h"
#include "tensor/quant.h"
#include "tensor/quant_read.h"

static struct cpu_features features;

/* Bytes that end where the readable memory ends, so that one more byte is a fault. */
struct fenced {
    void *map;
    size_t map_bytes;
    unsigned char *data;
};

static struct fenced fenced_make(size_t bytes)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    struct fenced memory;
    memory.map_bytes = (bytes + page - 1) / page * page + 2 * page;
    memory.map =
        mmap(NULL, memory.map_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(memory.map != MAP_FAILED);
    unsigned char *end = (unsigned char *)memory.map + memory.map_bytes - page;
    assert_int_equal(mprotect(end, page, PROT_NONE), 0);
    memory.data = end - bytes;
    return memory;
}

static void fenced_free(struct fenced *memory)
{
    munmap(memory->map, memory->map_bytes);
}

/* A weight in one kernel's form, with prepared activations. */
struct problem {
    const struct linear_kernel *kernel;
    uint64_t rows, columns, stride;
    uint32_t tokens;
    struct fenced source, packed, activations;
};

static uint64_t row_bytes_of(enum dtype dtype, uint64_t columns)
{
    uint64_t bytes;
    assert_true(dtype_row_bytes(dtype, columns, &bytes));
    return bytes;
}

/* Packs in two goes when there is more than one group, as threads do. */
static void problem_pack(struct problem *problem)
{
    const struct linear_kernel *kernel = problem->kernel;
    uint64_t bytes = kernel->packed_bytes(problem->rows, problem->columns);
    if (bytes == 0) {
        return;
    }
    assert_int_equal(bytes % 64, 0);
    problem->packed = fenced_make(bytes);
    memset(problem->packed.data, 0xee, bytes);
    uint64_t groups = (problem->rows + kernel->row_group - 1) / kernel->row_group;
    uint64_t middle = groups / 2 * kernel->row_group;
    kernel->pack(problem->source.data, problem->rows, problem->columns, middle, problem->rows,
                 problem->packed.data);
    kernel->pack(problem->source.data, problem->rows, problem->columns, 0, middle,
                 problem->packed.data);
}

static void problem_free(struct problem *problem)
{
    if (problem->packed.map) {
        fenced_free(&problem->packed);
    }
    memset(&problem->packed, 0, sizeof problem->packed);
}

/* Computes rows [begin, end) of tokens [first, first + count) into out[count][rows], which has a
 * guard element before and after every row range. */
static void problem_multiply(const struct problem *problem, uint64_t begin, uint64_t end,
                             uint32_t first, uint32_t count, float *out)
{
    struct linear_call call = {
        .weight = problem->packed.map ? problem->packed.data : problem->source.data,
        .columns = problem->columns,
        .row_begin = begin,
        .row_end = end,
        .row_count = problem->rows,
        .activations = problem->activations.data + first * problem->stride,
        .activation_stride = problem->stride,
        .token_count = count,
        .out = out,
        .out_stride = problem->rows,
    };
    problem->kernel->multiply(&call);
}

static void random_normal_row(float *row, uint64_t count, float deviation)
{
    for (uint64_t i = 0; i < count; i++) {
        row[i] = test_random_normal() * deviation;
    }
}

/* Quantised normal weights, or with `wild` random bytes. */
static struct fenced make_source(enum dtype dtype, uint64_t rows, uint64_t columns, bool wild)
{
    uint64_t row_bytes = row_bytes_of(dtype, columns);
    struct fenced source = fenced_make(rows * row_bytes);
    float *row = malloc(columns * sizeof(float));
    for (uint64_t r = 0; r < rows; r++) {
        unsigned char *blocks = source.data + r * row_bytes;
        if (wild) {
            for (uint64_t i = 0; i < row_bytes; i++) {
                blocks[i] = (unsigned char)test_random();
            }
        } else {
            random_normal_row(row, columns, 0.05f);
            if (!quantize_row(dtype, row, NULL, blocks, columns)) {
                random_blocks(dtype, 0.01f, blocks, columns);
            }
        }
    }
    free(row);
    return source;
}

/* Activation rows; `x` receives the floats when it is not NULL. */
static struct fenced make_activations(uint64_t columns, uint32_t tokens, uint64_t *stride, float *x)
{
    *stride = activation_row_bytes(ACTIVATION_Q8, columns);
    assert_int_equal(*stride % 64, 0);
    /* The last row ends where its blocks end. */
    uint64_t used = columns / 32 * sizeof(struct activation_q8_block);
    struct fenced memory = fenced_make((tokens - 1) * *stride + used);
    float *row = malloc(columns * sizeof(float));
    for (uint32_t t = 0; t < tokens; t++) {
        random_normal_row(row, columns, 1.0f);
        row[test_random_below(columns)] *= 8.0f;
        if (x) {
            memcpy(x + t * columns, row, columns * sizeof(float));
        }
        /* The scalar form: the vector kernels must cope with exactly its range. */
        activation_prepare_q8_scalar(
            row, columns, (struct activation_q8_block *)(void *)(memory.data + t * *stride));
    }
    free(row);
    return memory;
}

static bool is_scalar(const struct linear_kernel *kernel)
{
    return strstr(kernel->name, "_scalar") != NULL;
}

/* Calls `check` for every quantised kernel that this machine can run, and for the emulated ones. */
static void each_kernel(bool scalar, void (*check)(const struct linear_kernel *kernel))
{
    uint32_t counts[2];
    uint32_t seen = 0;
    const struct linear_kernel *const *tables[2] = {linear_kernels(&counts[0]),
                                                    amx_emulated_kernels(&counts[1])};
    for (int table = 0; table < 2; table++) {
        for (uint32_t i = 0; i < counts[table]; i++) {
            const struct linear_kernel *kernel = tables[table][i];
            if (kernel->activation == ACTIVATION_Q8 && is_scalar(kernel) == scalar &&
                kernel->available(&features)) {
                check(kernel);
                seen++;
            }
        }
    }
    assert_true(seen > 0 || !scalar);
}

static const struct linear_kernel *scalar_kernel(enum dtype dtype)
{
    static const struct cpu_features none;
    return linear_kernel_choose(dtype, 256, &none);
}

static void test_activation_values(void **state)
{
    (void)state;
    float x[256];
    struct activation_q8_block blocks[8];
    for (int round = 0; round < 200; round++) {
        random_normal_row(x, 256, ldexpf(1.0f, (int)test_random_below(60) - 30));
        activation_prepare_q8_scalar(x, 256, blocks);
        for (int b = 0; b < 8; b++) {
            float largest = 0;
            int sum = 0;
            for (int i = 0; i < 32; i++) {
                float value = x[32 * b + i];
                largest = fabsf(value) > largest ? fabsf(value) : largest;
                sum += blocks[b].values[i];
                double back = (double)blocks[b].scale * blocks[b].values[i];
                assert_true(fabs(back - (double)value) <= 0.50001 * (double)blocks[b].scale);
                assert_true(blocks[b].values[i] >= -127);
            }
            assert_true(blocks[b].scale == largest / 127.0f);
            assert_int_equal(blocks[b].sum, sum);
        }
    }
}

/* Exact halves round to the even neighbour. */
static void test_activation_ties(void **state)
{
    (void)state;
    float x[32] = {127.0f, 0.5f, 1.5f, 2.5f, -0.5f, -1.5f, -2.5f, 126.5f, -127.0f};
    static const int expected[] = {127, 0, 2, 2, 0, -2, -2, 126, -127};
    struct activation_q8_block block;
    activation_prepare_q8(x, 32, &block, &features);
    for (int i = 0; i < 9; i++) {
        assert_int_equal(block.values[i], expected[i]);
    }
    assert_true(block.scale == 1.0f);
    assert_int_equal(block.sum, -1 + 126 + 1);
}

typedef void prepare_function(const float *row, uint64_t columns,
                              struct activation_q8_block *blocks);

static void compare_prepare(prepare_function *prepare)
{
    static const float strange[] = {NAN,       -NAN,        INFINITY, -INFINITY, 3.4e38f, 1e-45f,
                                    0x1p-100f, 0x1.fp-101f, -0.0f,    1e-38f,    0.0f};
    for (int round = 0; round < 400; round++) {
        uint64_t columns = 32 * (1 + test_random_below(20));
        struct fenced x = fenced_make(columns * sizeof(float));
        struct fenced out = fenced_make(columns / 32 * sizeof(struct activation_q8_block));
        float *row = (float *)(void *)x.data;
        random_normal_row(row, columns, ldexpf(1.0f, (int)test_random_below(200) - 100));
        for (uint64_t i = 0; round % 2 && i < columns; i++) {
            if (test_random_below(round % 4 == 1 ? 64 : 2) == 0) {
                row[i] = strange[test_random_below(sizeof strange / sizeof strange[0])];
            }
        }
        struct activation_q8_block expected[20];
        activation_prepare_q8_scalar(row, columns, expected);
        prepare(row, columns, (struct activation_q8_block *)(void *)out.data);
        assert_memory_equal(out.data, expected, columns / 32 * sizeof expected[0]);
        fenced_free(&x);
        fenced_free(&out);
    }
}

static void prepare_chosen(const float *row, uint64_t columns, struct activation_q8_block *blocks)
{
    activation_prepare_q8(row, columns, blocks, &features);
}

static void test_activation_levels(void **state)
{
    (void)state;
    compare_prepare(prepare_chosen);
#if defined(__x86_64__)
    if (features.avx2_fma_f16c) {
        compare_prepare(activation_prepare_q8_avx2);
    }
    if (features.avx512) {
        compare_prepare(activation_prepare_q8_avx512);
    }
#endif
}

/* A strange value spoils its own block and nothing else. */
static void test_activation_not_finite(void **state)
{
    (void)state;
    float x[96];
    struct activation_q8_block blocks[3];
    random_normal_row(x, 96, 1.0f);
    x[40] = INFINITY;
    activation_prepare_q8(x, 96, blocks, &features);
    assert_true(isnan(blocks[1].scale));
    assert_int_equal(blocks[1].sum, 0);
    assert_true(isfinite(blocks[0].scale) && isfinite(blocks[2].scale));
}

/* Σ over the prepared activations in double: what the integer path should give but for the
 * rounding of its float sums. */
static double exact_dot(enum dtype dtype, const unsigned char *blocks,
                        const struct activation_q8_block *activations, uint64_t columns,
                        double *magnitude)
{
    double sum = 0;
    *magnitude = 0;
    for (uint64_t s = 0; s < columns / 32; s++) {
        struct quant_step step;
        quant_reader(dtype)(blocks, s, &step);
        for (int i = 0; i < 32; i++) {
            double weight = (double)step.scale[i / 16] * step.codes[i] +
                            (quant_has_minimum(dtype) ? (double)step.minimum[i / 16] : 0);
            double term = weight * activations[s].values[i] * (double)activations[s].scale;
            sum += term;
            *magnitude += fabs(term);
        }
    }
    return sum;
}

static void check_scalar(const struct linear_kernel *kernel)
{
    const uint64_t columns = 256 * (1 + test_random_below(6));
    struct problem problem = {.kernel = kernel, .rows = 17, .columns = columns, .tokens = 19};
    float *x = malloc(problem.tokens * columns * sizeof(float));
    problem.source = make_source(kernel->dtype, problem.rows, columns, false);
    problem.activations = make_activations(columns, problem.tokens, &problem.stride, x);
    float *out = malloc(problem.tokens * problem.rows * sizeof(float));
    problem_multiply(&problem, 0, problem.rows, 0, problem.tokens, out);
    uint64_t row_bytes = row_bytes_of(kernel->dtype, columns);
    double lost = 0;
    double all = 0;
    for (uint32_t t = 0; t < problem.tokens; t++) {
        for (uint64_t r = 0; r < problem.rows; r++) {
            const unsigned char *blocks = problem.source.data + r * row_bytes;
            double magnitude;
            double exact = exact_dot(
                kernel->dtype, blocks,
                (const struct activation_q8_block *)(const void *)(problem.activations.data +
                                                                   t * problem.stride),
                columns, &magnitude);
            double found = (double)out[t * problem.rows + r];
            if (!(fabs(found - exact) <= 1e-6 * magnitude)) {
                fail_msg("%s: %.9g, expected %.9g", kernel->name, found, exact);
            }
            double real = reference_dot(kernel->dtype, blocks, x + t * columns, columns);
            lost += (found - real) * (found - real);
            all += real * real;
        }
    }
    if (!(sqrt(lost / all) <= 1.2e-2)) {
        fail_msg("%s loses %.4f to 8-bit activations", kernel->name, sqrt(lost / all));
    }
    free(out);
    free(x);
    fenced_free(&problem.source);
    fenced_free(&problem.activations);
}

static void test_scalar_kernels(void **state)
{
    (void)state;
    each_kernel(true, check_scalar);
}

/* Equal bits; a NaN's payload is free. */
static bool same_float(float a, float b)
{
    return memcmp(&a, &b, sizeof a) == 0 || (isnan(a) && isnan(b));
}

#define CANARY 1234.5f

/* One random problem through a vector kernel, in random row ranges and blocks of tokens. */
static void check_against_scalar_once(const struct linear_kernel *kernel, bool wild)
{
    const uint32_t elements = dtype_info(kernel->dtype)->block_elements;
    const uint64_t columns = elements * (1 + test_random_below(elements == 32 ? 40 : 6));
    struct problem problem = {.kernel = kernel,
                              .rows = 1 + test_random_below(150),
                              .columns = columns,
                              .tokens = (uint32_t)(1 + test_random_below(40))};
    problem.source = make_source(kernel->dtype, problem.rows, columns, wild);
    problem.activations = make_activations(columns, problem.tokens, &problem.stride, NULL);
    const uint64_t cells = problem.tokens * problem.rows;
    float *expected = malloc(cells * sizeof(float));
    float *whole = malloc(cells * sizeof(float));
    float *pieces = malloc(cells * sizeof(float));
    struct problem reference = problem;
    reference.kernel = scalar_kernel(kernel->dtype);
    problem_multiply(&reference, 0, problem.rows, 0, problem.tokens, expected);
    problem_pack(&problem);
    problem_multiply(&problem, 0, problem.rows, 0, problem.tokens, whole);
    for (uint64_t i = 0; i < cells; i++) {
        pieces[i] = CANARY;
        if (!same_float(whole[i], expected[i])) {
            fail_msg("%s: %llu rows, %llu columns, %u tokens: cell %llu is %a, expected %a",
                     kernel->name, (unsigned long long)problem.rows, (unsigned long long)columns,
                     problem.tokens, (unsigned long long)i, (double)whole[i], (double)expected[i]);
        }
    }
    /* A piece writes its own cells only, and the same bits as the whole. */
    uint64_t groups = (problem.rows + kernel->row_group - 1) / kernel->row_group;
    uint64_t begin = test_random_below(groups) * kernel->row_group;
    uint64_t end = begin + (1 + test_random_below(5)) * kernel->row_group;
    end = end < problem.rows ? end : problem.rows;
    uint32_t first = (uint32_t)test_random_below(problem.tokens);
    uint32_t count = (uint32_t)(1 + test_random_below(problem.tokens - first));
    problem_multiply(&problem, begin, end, first, count, pieces + first * problem.rows);
    for (uint64_t i = 0; i < cells; i++) {
        uint64_t token = i / problem.rows;
        uint64_t row = i % problem.rows;
        bool inside = token >= first && token < first + count && row >= begin && row < end;
        float wanted = inside ? whole[i] : CANARY;
        assert_true(same_float(pieces[i], wanted));
    }
    free(expected);
    free(whole);
    free(pieces);
    problem_free(&problem);
    fenced_free(&problem.source);
    fenced_free(&problem.activations);
}

static void check_against_scalar(const struct linear_kernel *kernel)
{
    for (int round = 0; round < TEST_ROUNDS(12, 4); round++) {
        check_against_scalar_once(kernel, false);
    }
}

static void check_wild_blocks(const struct linear_kernel *kernel)
{
    for (int round = 0; round < TEST_ROUNDS(8, 3); round++) {
        check_against_scalar_once(kernel, true);
    }
}

static void test_vector_kernels(void **state)
{
    (void)state;
    each_kernel(false, check_against_scalar);
}

/* Random bytes: NaN, infinite and subnormal scales, the extreme codes. */
static void test_wild_blocks(void **state)
{
    (void)state;
    each_kernel(false, check_wild_blocks);
}

/* All codes and activations at their limits, where sums in 16 bits would overflow first. */
static void check_extremes(const struct linear_kernel *kernel)
{
    const uint64_t columns = 512;
    static const unsigned char fills[] = {0x00, 0xff, 0x80, 0x7f, 0x0f, 0xf0};
    for (size_t fill = 0; fill < sizeof fills; fill++) {
        for (int sign = -1; sign <= 1; sign += 2) {
            uint64_t row_bytes = row_bytes_of(kernel->dtype, columns);
            struct problem problem = {.kernel = kernel, .rows = 5, .columns = columns, .tokens = 7};
            problem.source = fenced_make(5 * row_bytes);
            memset(problem.source.data, fills[fill], 5 * row_bytes);
            problem.activations = make_activations(columns, 7, &problem.stride, NULL);
            for (uint32_t t = 0; t < 7; t++) {
                struct activation_q8_block *blocks =
                    (struct activation_q8_block *)(void *)(problem.activations.data +
                                                           t * problem.stride);
                for (uint64_t b = 0; b < columns / 32; b++) {
                    memset(blocks[b].values, sign * 127, 32);
                    blocks[b].sum = sign * 127 * 32;
                }
            }
            float expected[35];
            float found[35];
            struct problem reference = problem;
            reference.kernel = scalar_kernel(kernel->dtype);
            problem_multiply(&reference, 0, 5, 0, 7, expected);
            problem_pack(&problem);
            problem_multiply(&problem, 0, 5, 0, 7, found);
            for (int i = 0; i < 35; i++) {
                if (!same_float(found[i], expected[i])) {
                    fail_msg("%s, bytes 0x%02x: %a, expected %a", kernel->name, fills[fill],
                             (double)found[i], (double)expected[i]);
                }
            }
            problem_free(&problem);
            fenced_free(&problem.source);
            fenced_free(&problem.activations);
        }
    }
}

static void test_extremes(void **state)
{
    (void)state;
    each_kernel(false, check_extremes);
}

/* Token by token, in blocks of 7, and all at once; group by group of rows and all at once. */
static void check_company(const struct linear_kernel *kernel)
{
    struct problem problem = {.kernel = kernel, .rows = 100, .columns = 1280, .tokens = 40};
    problem.source = make_source(kernel->dtype, problem.rows, problem.columns, false);
    problem.activations = make_activations(problem.columns, 40, &problem.stride, NULL);
    problem_pack(&problem);
    float *whole = malloc(4000 * sizeof(float));
    float *parts = malloc(4000 * sizeof(float));
    problem_multiply(&problem, 0, 100, 0, 40, whole);
    static const uint32_t sizes[] = {1, 2, 3, 4, 5, 7, 8, 13};
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        memset(parts, 0, 4000 * sizeof(float));
        for (uint32_t t = 0; t < 40; t += sizes[s]) {
            uint32_t count = 40 - t < sizes[s] ? 40 - t : sizes[s];
            for (uint64_t row = 0; row < 100; row += 3 * kernel->row_group) {
                uint64_t end = row + 3 * kernel->row_group;
                problem_multiply(&problem, row, end < 100 ? end : 100, t, count, parts + t * 100);
            }
        }
        assert_memory_equal(parts, whole, 4000 * sizeof(float));
    }
    free(whole);
    free(parts);
    problem_free(&problem);
    fenced_free(&problem.source);
    fenced_free(&problem.activations);
}

static void test_company(void **state)
{
    (void)state;
    each_kernel(true, check_company);
    each_kernel(false, check_company);
}

/* Rows longer than what the scratch of two, four or eight tokens covers. */
static void check_long_rows(const struct linear_kernel *kernel)
{
    static const uint32_t counts[] = {1, 2, 4, 7};
    struct problem problem = {.kernel = kernel, .rows = 3, .columns = 16384 * 2 + 512, .tokens = 7};
    problem.source = make_source(kernel->dtype, 3, problem.columns, false);
    problem.activations = make_activations(problem.columns, 7, &problem.stride, NULL);
    float expected[21];
    float found[21];
    struct problem reference = problem;
    reference.kernel = scalar_kernel(kernel->dtype);
    problem_multiply(&reference, 0, 3, 0, 7, expected);
    problem_pack(&problem);
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        uint32_t first = 7 - counts[i];
        problem_multiply(&problem, 0, 3, first, counts[i], found);
        assert_memory_equal(found, expected + 3ull * first, 3ull * counts[i] * sizeof(float));
    }
    problem_free(&problem);
    fenced_free(&problem.source);
    fenced_free(&problem.activations);
}

static void test_long_rows(void **state)
{
    (void)state;
    each_kernel(false, check_long_rows);
}

/* A layer's worth of outputs within 2e-2 of the same weights in double precision. */
static void check_logits(const struct linear_kernel *kernel)
{
    struct problem problem = {.kernel = kernel, .rows = 96, .columns = 2048, .tokens = 3};
    float *x = malloc(3 * 2048 * sizeof(float));
    float *out = malloc(3 * 96 * sizeof(float));
    problem.source = make_source(kernel->dtype, 96, 2048, false);
    problem.activations = make_activations(2048, 3, &problem.stride, x);
    problem_pack(&problem);
    problem_multiply(&problem, 0, 96, 0, 3, out);
    uint64_t row_bytes = row_bytes_of(kernel->dtype, 2048);
    double lost = 0;
    double all = 0;
    for (int i = 0; i < 3 * 96; i++) {
        double real =
            reference_dot(kernel->dtype, problem.source.data + (uint64_t)(i % 96) * row_bytes,
                          x + i / 96 * 2048, 2048);
        lost += ((double)out[i] - real) * ((double)out[i] - real);
        all += real * real;
    }
    if (!(sqrt(lost / all) <= 2e-2)) {
        fail_msg("%s: %.4f", kernel->name, sqrt(lost / all));
    }
    problem_free(&problem);
    fenced_free(&problem.source);
    fenced_free(&problem.activations);
    free(out);
    free(x);
}

static void test_logits(void **state)
{
    (void)state;
    each_kernel(false, check_logits);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_activation_values),
    cmocka_unit_test(test_activation_ties),
    cmocka_unit_test(test_activation_levels),
    cmocka_unit_test(test_activation_not_finite),
    cmocka_unit_test(test_scalar_kernels),
    cmocka_unit_test(test_vector_kernels),
    cmocka_unit_test(test_wild_blocks),
    cmocka_unit_test(test_extremes),
    cmocka_unit_test(test_company),
    cmocka_unit_test(test_long_rows),
    cmocka_unit_test(test_logits),
};

int main(void)
{
    test_seed_print();
    cpu_features_detect(&features);
    if (!cpu_features_request_amx()) {
        features.amx_int8 = features.amx_bf16 = false;
        print_message("no AMX: its kernels run on emulated registers only\n");
    }
    return cmocka_run_group_tests_name(__FILE__, tests, NULL, NULL);
}
