/* Linear layers of many rows (linear_wide.cu) against double precision and, to the bit, against the
 * kernel for few rows (linear_decode.cu); of quantised weights (linear_blocks.cu) against those of
 * the same weights unpacked before: every tile, random shapes, several parts, gate and up; what
 * lies between and behind the results stays as it was. On the emulated device, or on a GPU. */
#include "gpu_support.h"

#include "gpu/kernel_sources.h"
#include "gpu/model.h"
#include "tensor/quant.h"

#define ROWS_MAX   300u
#define TOKENS_MAX 150u
#define GUARD      0x5A5A5A5Au

static const uint32_t columns_list[] = {64, 544, 1120}; /* ranges of one, two and three chunks */
#define COLUMNS_COUNT (sizeof columns_list / sizeof *columns_list)

struct case_of {
    uint32_t columns, tokens, parts, rows[3];
    uint32_t stride; /* of the output */
    bool pair, add;
};

struct rig {
    struct gpu_bench bench;
    struct gpu_device_info info;
    struct gpu_program decode; /* the kernels for few rows: keys by index */
    enum dtype act;
    uint16_t *weights[3], *input;
    unsigned char *packed[3]; /* the weights as blocks, when they are quantised */
    float *before;            /* the output as it was: floats, or pairs of activations */
    void *wide, *few;         /* results: of the kernel for many rows, and what they must be */
};

static uint32_t output_words(const struct rig *rig, const struct case_of *c)
{
    (void)rig;
    return c->tokens * c->stride + 16;
}

static void rig_open(struct rig *rig, enum dtype act, const bool wanted[DTYPE_COUNT])
{
    static const char *const files[] = {
        "arguments_linear.h", "device.cuh",       "weight_formats.cuh",
        "linear_groups.cuh",  "linear_tiles.cuh", "linear_decode.cu",
        "linear_wide.cu",     "linear_quads.cu",  "linear_blocks.cu"};
    struct buffer text = {0};
    *rig = (struct rig){.act = act};
    gpu_bench_open(&rig->bench, GPU_EMU_RANDOM, test_random());
    rig->bench.driver->describe(rig->bench.driver, &rig->info);
    for (size_t i = 0; i < COLUMNS_COUNT; i++) {
        for (uint32_t to = GPU_DECODE_STORE; to <= GPU_DECODE_PAIR; to++) {
            rig->decode.decode[rig->decode.decode_count++].key =
                (struct gpu_decode_key){.dtype = (uint32_t)act,
                                        .columns = columns_list[i],
                                        .token_tiles = 1,
                                        .to = to,
                                        .activation = ACTIVATION_SILU};
        }
    }
    buffer_printf(&text, "#define KERNEL_POINTER(type) type *\n#define ACT_TYPE %s\n",
                  act == DTYPE_F16 ? "TYPE_F16" : "TYPE_BF16");
    if (act == DTYPE_F16) { /* blocks that share a tile leave it early, by chance */
        buffer_printf(&text, "#define VENDOR_LOOKS 1u\n");
    }
    gpu_program_decode_prelude(&rig->decode, 0, 1, &text);
    assert_true(gpu_wide_prelude(&rig->info, act, wanted, &text));
    gpu_bench_append_words(&text);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        gpu_bench_append(&text, kernel_source_find(files[i])->text);
    }
    gpu_bench_load(&rig->bench, buffer_text(&text));
    buffer_deinit(&text);
}

static uint16_t value_of(const struct rig *rig, float x)
{
    return rig->act == DTYPE_F16 ? float_to_f16(x) : float_to_bf16(x);
}

static double float_of(const struct rig *rig, uint16_t bits)
{
    return rig->act == DTYPE_F16 ? float_from_f16(bits) : float_from_bf16(bits);
}

static void *bytes_of(uint64_t bytes)
{
    void *memory = malloc(bytes ? bytes : 1);
    assert_non_null(memory);
    return memory;
}

static uint16_t *random_values(const struct rig *rig, uint64_t count, float deviation)
{
    uint16_t *values = bytes_of(count * sizeof *values);
    for (uint64_t i = 0; i < count; i++) {
        values[i] = value_of(rig, deviation * test_random_normal());
    }
    return values;
}

/* As on the device: the kernel for few rows reads sixteens. */
static uint64_t stored_rows(const struct case_of *c, uint32_t part)
{
    return (c->rows[part] + 15ull) / 16 * 16;
}

static uint64_t packed_row_bytes(const struct case_of *c, enum dtype dtype)
{
    uint64_t bytes = 0;
    assert_true(dtype_row_bytes(dtype, c->columns, &bytes));
    return bytes;
}

static void case_make(struct rig *rig, const struct case_of *c)
{
    for (uint32_t i = 0; i < c->parts; i++) {
        rig->weights[i] = random_values(rig, stored_rows(c, i) * c->columns, 0.1f);
        rig->packed[i] = NULL;
    }
    rig->input = random_values(rig, (uint64_t)c->tokens * c->columns, 1);
    uint32_t words = output_words(rig, c);
    rig->before = bytes_of(words * sizeof(float));
    for (uint32_t i = 0; i < words; i++) {
        uint32_t guard = GUARD;
        rig->before[i] = test_random_normal();
        if (!c->add) {
            memcpy(&rig->before[i], &guard, sizeof guard);
        }
    }
    rig->wide = bytes_of(words * sizeof(float));
    rig->few = bytes_of(words * sizeof(float));
}

static void case_free(struct rig *rig, const struct case_of *c)
{
    for (uint32_t i = 0; i < c->parts; i++) {
        free(rig->weights[i]);
        free(rig->packed[i]);
    }
    free(rig->input);
    free(rig->before);
    free(rig->wide);
    free(rig->few);
}

/* Addresses on the device. */
struct device_case {
    uint64_t count, weights[3], input, output;
};

static void case_upload(struct rig *rig, const struct case_of *c, enum dtype dtype,
                        struct device_case *device)
{
    struct gpu_bench *bench = &rig->bench;
    *device = (struct device_case){.count = gpu_bench_upload(bench, &c->tokens, sizeof c->tokens)};
    for (uint32_t i = 0; i < c->parts; i++) {
        const void *data = dtype == rig->act ? (const void *)rig->weights[i] : rig->packed[i];
        device->weights[i] =
            gpu_bench_upload(bench, data, stored_rows(c, i) * packed_row_bytes(c, dtype));
    }
    device->input = gpu_bench_upload(bench, rig->input, 2ull * c->tokens * c->columns);
    device->output = gpu_bench_upload(bench, rig->before, output_words(rig, c) * sizeof(float));
}

static void case_release(struct rig *rig, const struct case_of *c, struct device_case *device,
                         void *output)
{
    struct gpu_driver *driver = rig->bench.driver;
    gpu_bench_download(&rig->bench, output, device->output, output_words(rig, c) * sizeof(float));
    driver->memory_free(driver, device->count);
    driver->memory_free(driver, device->input);
    driver->memory_free(driver, device->output);
    for (uint32_t i = 0; i < c->parts; i++) {
        driver->memory_free(driver, device->weights[i]);
    }
}

static void launch(struct rig *rig, const char *name, struct gpu_launch how, const void *arguments,
                   uint32_t argument_bytes)
{
    struct gpu_driver *driver = rig->bench.driver;
    struct gpu_function *function;
    struct llcuda_error *error = &rig->bench.error;
    assert_ok(driver->function_get(driver, rig->bench.module, name, &function, error), *error);
    assert_ok(driver->function_shared_limit(driver, function, how.shared_bytes, error), *error);
    assert_ok(
        driver->launch(driver, rig->bench.stream, function, &how, arguments, argument_bytes, error),
        *error);
}

static void run_few(struct rig *rig, const struct case_of *c)
{
    struct device_case device;
    case_upload(rig, c, rig->act, &device);
    struct linear_decode_arguments arguments = {.count = device.count,
                                                .input = device.input,
                                                .output = device.output,
                                                .output_stride = c->stride};
    uint32_t tiles = 0;
    for (uint32_t i = 0; i < c->parts; i++) {
        arguments.weights[i] = device.weights[i];
        arguments.rows[i] = c->rows[i];
        tiles += i == 0 || !c->pair ? (c->rows[i] + 15) / 16 : 0;
    }
    uint32_t to = c->pair ? GPU_DECODE_PAIR : c->add ? GPU_DECODE_ADD : GPU_DECODE_STORE;
    for (uint32_t i = 0; i < rig->decode.decode_count; i++) {
        if (rig->decode.decode[i].key.columns == c->columns && rig->decode.decode[i].key.to == to) {
            char name[32];
            snprintf(name, sizeof name, "linear_decode_%u", i);
            launch(rig, name,
                   (struct gpu_launch){.grid = {tiles < 5 ? tiles : 5, (c->tokens + 7) / 8, 1},
                                       .block = {GPU_DECODE_THREADS, 1, 1},
                                       .shared_bytes = (c->pair ? 2u : 1u) * (16u << 10)},
                   &arguments, sizeof arguments);
        }
    }
    case_release(rig, c, &device, rig->few);
}

static void launch_quad(struct rig *rig, const char *name, uint32_t tile, const struct case_of *c,
                        uint64_t partials, struct gpu_launch how,
                        const struct linear_wide_arguments *arguments)
{
    struct gpu_driver *driver = rig->bench.driver;
    struct gpu_function *function;
    struct llcuda_error *error = &rig->bench.error;
    const struct gpu_wide_quad quad = {
        .tile = tile,
        .act = rig->act,
        .is_pair = c->pair,
        .n = c->tokens,
        .multiprocessors = gpu_bench_is_emulated() ? 1 + (uint32_t)test_random_below(400)
                                                   : rig->info.multiprocessor_count,
        .partials = partials,
        .launch = how,
    };
    assert_ok(driver->function_get(driver, rig->bench.module, name, &function, error), *error);
    assert_ok(driver->function_shared_limit(driver, function, how.shared_bytes, error), *error);
    assert_ok(gpu_wide_quad_run(driver, rig->bench.stream, function, &quad, arguments, error),
              *error);
}

/* False when the device has no such tile. */
static bool run_wide(struct rig *rig, const struct case_of *c, enum dtype dtype, uint32_t tile,
                     void *output)
{
    struct device_case device;
    struct gpu_launch how;
    char name[40];
    /* Buckets are larger than what is in them. */
    if (!gpu_wide_launch(&rig->info, dtype, tile, c->pair, c->rows, c->parts,
                         c->tokens + (uint32_t)test_random_below(40), &how)) {
        assert_true(tile >= GPU_WIDE_TILE_COUNT);
        return false;
    }
    case_upload(rig, c, dtype, &device);
    struct linear_wide_arguments arguments = {
        .row_bytes = packed_row_bytes(c, dtype),
        .count = device.count,
        .input = device.input,
        .output = device.output,
        .columns = c->columns,
        .output_stride = c->stride,
        .kind = c->pair  ? ACTIVATION_SILU
                : c->add ? LINEAR_ADD
                         : LINEAR_STORE,
    };
    for (uint32_t i = 0; i < c->parts; i++) {
        arguments.weights[i] = device.weights[i];
        arguments.rows[i] = c->rows[i];
    }
    uint64_t counters = GPU_WIDE_COUNTERS * sizeof(uint32_t);
    uint64_t partials = 0;
    if (gpu_wide_can_split(tile, &how)) {
        const struct gpu_wide_tile *shape = &gpu_wide_tiles[tile];
        uint64_t bytes = counters + 16ull * 4 * how.grid[0] * how.grid[1] *
                                        (16 * shape->warps_rows) * (8 * shape->token_tiles);
        how.grid[2] = 1u << test_random_below(5);
        partials = gpu_bench_upload(&rig->bench, NULL, bytes);
        struct gpu_driver *driver = rig->bench.driver;
        assert_ok(driver->fill(driver, rig->bench.stream, partials, 0, counters, &rig->bench.error),
                  rig->bench.error);
        assert_ok(driver->fill(driver, rig->bench.stream, partials + counters, 0xff,
                               bytes - counters, &rig->bench.error),
                  rig->bench.error);
    }
    gpu_wide_name(dtype, c->pair, tile, name);
    if (gpu_wide_is_quad(tile)) {
        launch_quad(rig, name, tile, c, partials, how, &arguments);
    } else {
        launch(rig, name, how, &arguments, sizeof arguments);
    }
    case_release(rig, c, &device, output);
    if (partials) {
        static uint32_t arrivals[GPU_WIDE_COUNTERS];
        gpu_bench_download(&rig->bench, arrivals, partials, counters);
        for (uint32_t i = 0; i < GPU_WIDE_COUNTERS; i++) {
            assert_int_equal(arrivals[i], 0);
        }
        rig->bench.driver->memory_free(rig->bench.driver, partials);
    }
    return true;
}

/* Σ weight · input in double precision, and of magnitudes: what rounding is measured by. */
static double product(const struct rig *rig, const struct case_of *c, uint32_t part, uint32_t row,
                      uint32_t token, double *size)
{
    double sum = 0;
    for (uint32_t k = 0; k < c->columns; k++) {
        double term = float_of(rig, rig->weights[part][(uint64_t)row * c->columns + k]) *
                      float_of(rig, rig->input[(uint64_t)token * c->columns + k]);
        sum += term;
        *size += fabs(term);
    }
    return sum;
}

static void check_values(const struct rig *rig, const struct case_of *c)
{
    for (uint32_t token = 0; token < c->tokens; token++) {
        uint32_t at = token * c->stride;
        for (uint32_t part = 0; part < (c->pair ? 1 : c->parts); part++) {
            for (uint32_t row = 0; row < c->rows[part]; row++, at++) {
                double size = 1e-3;
                double sum = product(rig, c, part, row, token, &size);
                double given = ((const float *)rig->wide)[at];
                double bound = 1e-6 * size;
                if (c->pair) {
                    sum = sum / (1 + exp(-sum)) * product(rig, c, 1, row, token, &size);
                    given = float_of(rig, ((const uint16_t *)rig->wide)[at]);
                    bound = (rig->act == DTYPE_F16 ? 1e-3 : 8e-3) * fabs(sum) + 1e-5 * size;
                } else if (c->add) {
                    sum += rig->before[at];
                }
                if (!(fabs(given - sum) <= bound)) {
                    fail_msg("row %u of part %u, token %u: %g instead of %g (bound %g)", row, part,
                             token, given, sum, bound);
                }
            }
        }
    }
}

/* Everything that is no result keeps its bytes. */
static void check_guards(const struct rig *rig, const struct case_of *c)
{
    uint32_t size = c->pair ? 2 : 4;
    uint32_t width = 0;
    for (uint32_t i = 0; i < (c->pair ? 1 : c->parts); i++) {
        width += c->rows[i];
    }
    const unsigned char *given = rig->wide;
    const unsigned char *before = (const unsigned char *)rig->before;
    for (uint32_t token = 0; token < c->tokens; token++) {
        uint64_t end = ((uint64_t)token * c->stride + width) * size;
        assert_memory_equal(given + end, before + end, (uint64_t)(c->stride - width) * size);
    }
    uint64_t end = (uint64_t)c->tokens * c->stride * size;
    assert_memory_equal(given + end, before + end, output_words(rig, c) * sizeof(float) - end);
}

static void check_case(struct rig *rig, const struct case_of *c)
{
    case_make(rig, c);
    run_few(rig, c);
    for (uint32_t tile = 0; tile < GPU_WIDE_ALL_TILE_COUNT; tile++) {
        if (!run_wide(rig, c, rig->act, tile, rig->wide)) {
            continue;
        }
        check_guards(rig, c);
        assert_memory_equal(rig->wide, rig->few, output_words(rig, c) * sizeof(float));
    }
    check_values(rig, c);
    case_free(rig, c);
}

static struct case_of random_case(uint32_t columns, bool pair, bool add)
{
    struct case_of c = {.columns = columns, .pair = pair, .add = add};
    c.tokens = 1 + (uint32_t)test_random_below(TOKENS_MAX);
    c.parts = pair ? 2 : 1 + (uint32_t)test_random_below(3);
    uint32_t width = 0;
    for (uint32_t i = 0; i < c.parts; i++) {
        c.rows[i] = 1 + (uint32_t)test_random_below(ROWS_MAX / c.parts);
        c.rows[i] += c.columns % 64 ? 0 : (8 - c.rows[i] % 8) % 8; /* whole units of activations */
        c.rows[i] = pair && i ? c.rows[0] : c.rows[i];
        width += pair && i ? 0 : c.rows[i];
    }
    c.stride = width + (uint32_t)test_random_below(5) * (columns % 64 ? 1 : 8);
    return c;
}

static void few_and_many_rows_agree_to_the_bit(void **state)
{
    (void)state;
    static const enum dtype acts[] = {DTYPE_BF16, DTYPE_F16};
    for (int i = 0; i < 2; i++) {
        struct rig rig;
        const bool wanted[DTYPE_COUNT] = {[DTYPE_F16] = true, [DTYPE_BF16] = true};
        rig_open(&rig, acts[i], wanted);
        for (size_t k = 0; k < COLUMNS_COUNT; k++) {
            for (uint32_t to = 0; to < 3; to++) {
                struct case_of c = random_case(columns_list[k], to == 2, to == 1);
                check_case(&rig, &c);
            }
        }
        gpu_bench_close(&rig.bench);
    }
}

/* Quantised weights for a case: blocks of random values, and these values as activations. */
static void case_pack(struct rig *rig, const struct case_of *c, enum dtype dtype)
{
    float *row = bytes_of(c->columns * sizeof *row);
    uint64_t row_bytes = packed_row_bytes(c, dtype);
    for (uint32_t i = 0; i < c->parts; i++) {
        rig->packed[i] = bytes_of(stored_rows(c, i) * row_bytes);
        for (uint64_t r = 0; r < stored_rows(c, i); r++) {
            unsigned char *to = rig->packed[i] + r * row_bytes;
            uint16_t *values = rig->weights[i] + r * c->columns;
            for (uint32_t k = 0; k < c->columns; k++) {
                row[k] = (float)float_of(rig, values[k]);
            }
            assert_true(quantize_row(dtype, row, NULL, to, c->columns));
            dequantize_row(dtype, to, row, c->columns);
            for (uint32_t k = 0; k < c->columns; k++) {
                values[k] = value_of(rig, row[k]);
            }
        }
    }
    free(row);
}

static void check_packed(struct rig *rig, enum dtype dtype, uint32_t columns, uint32_t to)
{
    struct case_of c = random_case(columns, to == 2, to == 1);
    case_make(rig, &c);
    case_pack(rig, &c, dtype);
    assert_true(run_wide(rig, &c, rig->act, GPU_WIDE_TILE_COUNT - 1, rig->few));
    for (uint32_t tile = 0; tile < GPU_WIDE_ALL_TILE_COUNT; tile++) {
        if (!run_wide(rig, &c, dtype, tile, rig->wide)) {
            continue;
        }
        check_guards(rig, &c);
        if (gpu_bench_is_emulated()) { /* GPUs may fuse multiply and add of scale and minimum */
            assert_memory_equal(rig->wide, rig->few, output_words(rig, &c) * sizeof(float));
        }
    }
    check_values(rig, &c);
    case_free(rig, &c);
}

static void quantised_weights_are_unpacked(void **state)
{
    (void)state;
    static const enum dtype rare[] = {DTYPE_Q4_1, DTYPE_Q5_0, DTYPE_Q5_1, DTYPE_Q2_K, DTYPE_Q3_K};
    const enum dtype dtypes[] = {
        DTYPE_Q8_0, DTYPE_Q4_0,  DTYPE_Q4_K,     DTYPE_Q5_K,
        DTYPE_Q6_K, DTYPE_MXFP4, DTYPE_F8_BLOCK, rare[test_random_below(5)]};
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++) {
        struct rig rig;
        bool wanted[DTYPE_COUNT] = {[DTYPE_F16] = true};
        bool large = dtype_info(dtypes[i])->block_elements > 32;
        wanted[dtypes[i]] = true;
        rig_open(&rig, DTYPE_F16, wanted);
        check_packed(&rig, dtypes[i], large ? 512 : 288, (uint32_t)(i + test_random_below(2)) % 3);
        check_packed(&rig, dtypes[i], large ? 256 : 32 + 32 * (uint32_t)test_random_below(20), 2);
        gpu_bench_close(&rig.bench);
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(quantised_weights_are_unpacked),
    cmocka_unit_test(few_and_many_rows_agree_to_the_bit),
};

TEST_MAIN(tests)
