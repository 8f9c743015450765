/* Packed weights (repack.cu) multiplied by the kernels for one row (linear_packed_row.cu) and for
 * few (linear_packed.cu), against double precision over the values that the blocks stand for: every
 * type, whole and broken shares of columns, several parts, gate and up; what is no result stays as
 * it was. On the emulated device, or on a GPU. */
#include "gpu_support.h"

#include "gpu/kernel_sources.h"
#include "gpu/model.h"
#include "tensor/quant.h"

#define TOKENS_MAX 8u
#define ROWS_MAX   100u

static const enum dtype dtypes[] = {DTYPE_Q4_0, DTYPE_Q4_1, DTYPE_Q5_0, DTYPE_Q5_1,
                                    DTYPE_Q8_0, DTYPE_Q2_K, DTYPE_Q3_K, DTYPE_Q4_K,
                                    DTYPE_Q5_K, DTYPE_Q6_K, DTYPE_MXFP4};

/* Units of 128 columns for sixteen warps: fewer, as many, two each, and some with one more. */
static const uint32_t columns_list[] = {768, 2048, 4096, 5376};

struct layer {
    uint32_t columns, tokens, parts, rows[3], stride;
    uint32_t to;
    bool exact; /* activations that are whole numbers of sixteenths */
    double *weights[3];
    float *input; /* of what is uploaded as halves */
};

struct rig {
    struct gpu_bench bench;
    struct gpu_program program; /* kernels: one row where the type has that, eight */
    enum dtype dtype;
};

static void *bytes_of(uint64_t bytes)
{
    void *memory = malloc(bytes);
    assert_non_null(memory);
    return memory;
}

static void add_kernel(struct rig *rig, const struct layer *layer, uint32_t token_tiles)
{
    struct gpu_device_info info;
    struct gpu_decode_kernel *kernel = &rig->program.decode[rig->program.decode_count++];
    *kernel = (struct gpu_decode_kernel){.key = {.dtype = (uint32_t)rig->dtype,
                                                 .columns = layer->columns,
                                                 .token_tiles = token_tiles,
                                                 .from = GPU_DECODE_FROM_ACTIVATIONS,
                                                 .to = layer->to,
                                                 .activation = ACTIVATION_SILU}};
    rig->bench.driver->describe(rig->bench.driver, &info);
    assert_true(gpu_decode_choose(&info, kernel));
}

static void rig_open(struct rig *rig, enum dtype dtype, const struct layer *layer)
{
    static const char *const files[] = {
        "arguments_linear.h",   "device.cuh",         "weight_formats.cuh", "linear_groups.cuh",
        "linear_tiles.cuh",     "packed_formats.cuh", "linear_packed.cu",   "packed_rows.cuh",
        "linear_packed_row.cu", "repack.cu"};
    struct buffer text = {0};
    bool wanted[DTYPE_COUNT] = {false};
    wanted[dtype] = true;
    *rig = (struct rig){.dtype = dtype};
    gpu_bench_open(&rig->bench, GPU_EMU_RANDOM, test_random());
    if (gpu_dtype_has_row(dtype)) {
        add_kernel(rig, layer, 0);
    }
    add_kernel(rig, layer, 1);
    buffer_append_text(&text, "#define KERNEL_POINTER(type) type *\n#define ACT_TYPE TYPE_F16\n");
    gpu_program_decode_prelude(&rig->program, 0, 1, &text);
    gpu_program_packed_prelude("REPACK_FORMATS", wanted, &text);
    gpu_bench_append_words(&text);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        gpu_bench_append(&text, kernel_source_find(files[i])->text);
    }
    gpu_bench_load(&rig->bench, buffer_text(&text));
    buffer_deinit(&text);
}

static void launch(struct rig *rig, const char *name, const struct gpu_launch *how,
                   const void *arguments, uint32_t argument_bytes)
{
    struct gpu_driver *driver = rig->bench.driver;
    struct llcuda_error *error = &rig->bench.error;
    struct gpu_function *function;
    assert_ok(driver->function_get(driver, rig->bench.module, name, &function, error), *error);
    assert_ok(driver->function_shared_limit(driver, function, how->shared_bytes, error), *error);
    assert_ok(
        driver->launch(driver, rig->bench.stream, function, how, arguments, argument_bytes, error),
        *error);
}

/* Blocks of random values of a part, packed at `to`; their values into layer->weights. */
static void make_part(struct rig *rig, struct layer *layer, uint32_t part, uint64_t to)
{
    const uint32_t rows = layer->rows[part], columns = layer->columns;
    uint64_t row_bytes = 0;
    assert_true(dtype_row_bytes(rig->dtype, columns, &row_bytes));
    unsigned char *blocks = bytes_of(rows * row_bytes);
    float *row = bytes_of(columns * sizeof *row);
    layer->weights[part] = bytes_of((uint64_t)rows * columns * sizeof(double));
    for (uint32_t r = 0; r < rows; r++) {
        for (uint32_t k = 0; k < columns; k++) {
            row[k] = 0.1f * test_random_normal() + 0.02f; /* minima matter */
        }
        assert_true(quantize_row(rig->dtype, row, NULL, blocks + r * row_bytes, columns));
        dequantize_row(rig->dtype, blocks + r * row_bytes, row, columns);
        for (uint32_t k = 0; k < columns; k++) {
            layer->weights[part][(uint64_t)r * columns + k] = row[k];
        }
    }
    const struct repack_arguments arguments = {
        .weight = gpu_bench_upload(&rig->bench, blocks, rows * row_bytes),
        .output = to,
        .row_bytes = row_bytes,
        .rows = rows,
    };
    const struct gpu_launch how = {.grid = {columns / 128, (rows + 15) / 16, 1},
                                   .block = {32, 1, 1}};
    char name[32];
    snprintf(name, sizeof name, "repack_%s", dtype_info(rig->dtype)->name);
    launch(rig, name, &how, &arguments, sizeof arguments);
    assert_ok(rig->bench.driver->stream_wait(rig->bench.driver, rig->bench.stream, 60000,
                                             &rig->bench.error),
              rig->bench.error);
    rig->bench.driver->memory_free(rig->bench.driver, arguments.weight);
    free(blocks);
    free(row);
}

static uint64_t make_input(struct rig *rig, struct layer *layer)
{
    const uint64_t count = (uint64_t)layer->tokens * layer->columns;
    uint16_t *halves = bytes_of(count * sizeof *halves);
    layer->input = bytes_of(count * sizeof(float));
    for (uint64_t i = 0; i < count; i++) {
        float x =
            layer->exact ? (float)((int)test_random_below(255) - 127) / 16 : test_random_normal();
        halves[i] = float_to_f16(x);
        layer->input[i] = float_from_f16(halves[i]);
    }
    uint64_t address = gpu_bench_upload(&rig->bench, halves, count * sizeof *halves);
    free(halves);
    return address;
}

/* Row `row` of a part times token `token`; `size`: the same of magnitudes. */
static double product(const struct layer *layer, uint32_t part, uint32_t row, uint32_t token,
                      double *size)
{
    const float *x = layer->input + (uint64_t)token * layer->columns;
    const double *w = layer->weights[part] + (uint64_t)row * layer->columns;
    double sum = 0;
    for (uint32_t k = 0; k < layer->columns; k++) {
        double term = w[k] * x[k];
        sum += term;
        *size += fabs(term);
    }
    return sum;
}

/* Rounding of scales and sums; of activations to sixteen bits together; of results of pairs to
 * halves. */
static void check_value(const struct layer *layer, double given, double before, uint32_t part,
                        uint32_t row, uint32_t token)
{
    double size = 1e-3;
    double sum = product(layer, part, row, token, &size);
    double bound = size * (layer->exact ? 2e-6 : 0x1p-16);
    if (layer->to == GPU_DECODE_PAIR) {
        double gate = sum / (1 + exp(-sum)), more = 1e-3;
        double up = product(layer, 1, row, token, &more);
        sum = gate * up;
        bound = 1e-3 * fabs(sum) + 2 * bound * (fabs(up) + fabs(gate) + bound);
    } else if (layer->to == GPU_DECODE_ADD) {
        sum += before;
    }
    if (!(fabs(given - sum) <= bound)) {
        fail_msg("row %u of part %u, token %u of %u, %u columns: %g instead of %g (bound %g)", row,
                 part, token, layer->tokens, layer->columns, given, sum, bound);
    }
}

static void check_results(const struct layer *layer, const float *before, const float *after)
{
    const uint16_t *halves = (const uint16_t *)after;
    const bool pair = layer->to == GPU_DECODE_PAIR;
    for (uint32_t token = 0; token < layer->tokens; token++) {
        uint32_t at = token * layer->stride;
        for (uint32_t part = 0; part < (pair ? 1 : layer->parts); part++) {
            for (uint32_t row = 0; row < layer->rows[part]; row++, at++) {
                check_value(layer, pair ? float_from_f16(halves[at]) : after[at], before[at], part,
                            row, token);
            }
        }
        uint32_t end = (token + 1) * layer->stride, size = pair ? 2 : 4;
        assert_memory_equal((const char *)after + (uint64_t)at * size,
                            (const char *)before + (uint64_t)at * size,
                            (uint64_t)(end - at) * size);
    }
}

static void run(struct rig *rig, const struct layer *layer,
                struct linear_decode_arguments arguments, uint32_t index)
{
    struct gpu_driver *driver = rig->bench.driver;
    const struct gpu_decode_kernel *kernel = &rig->program.decode[index];
    const uint64_t words = (uint64_t)TOKENS_MAX * layer->stride;
    struct layer shown = *layer;
    uint32_t tiles = 0;
    char name[32];
    shown.tokens = kernel->key.token_tiles == 0 ? 1 : layer->tokens;
    float *before = bytes_of(2 * words * sizeof *before), *after = before + words;
    for (uint64_t i = 0; i < words; i++) {
        before[i] = test_random_normal();
    }
    for (uint32_t i = 0; i < layer->parts; i++) {
        tiles += i == 0 || layer->to != GPU_DECODE_PAIR ? (layer->rows[i] + 15) / 16 : 0;
    }
    arguments.output = gpu_bench_upload(&rig->bench, before, words * sizeof *before);
    arguments.count = gpu_bench_upload(&rig->bench, &shown.tokens, sizeof shown.tokens);
    const uint32_t blocks = 1 + (uint32_t)test_random_below(5); /* some may have no tile */
    const struct gpu_launch how = {
        .grid = {kernel->key.token_tiles && tiles < blocks ? tiles : blocks, 1, 1},
        .block = {GPU_DECODE_THREADS, 1, 1},
        .shared_bytes = kernel->shared_bytes,
    };
    snprintf(name, sizeof name, "linear_decode_%u", index);
    launch(rig, name, &how, &arguments, sizeof arguments);
    gpu_bench_download(&rig->bench, after, arguments.output, words * sizeof *after);
    check_results(&shown, before, after);
    driver->memory_free(driver, arguments.output);
    driver->memory_free(driver, arguments.count);
    free(before);
}

static void check_layer(enum dtype dtype, struct layer *layer)
{
    struct rig rig;
    struct linear_decode_arguments arguments = {0};
    rig_open(&rig, dtype, layer);
    struct gpu_driver *driver = rig.bench.driver;
    const uint64_t tile_bytes = 16 * gpu_packed_row_bytes(dtype, layer->columns);
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < layer->parts; i++) {
        bytes += (layer->rows[i] + 15) / 16 * tile_bytes;
    }
    uint64_t matrices = gpu_bench_upload(&rig.bench, NULL, bytes), to = matrices;
    for (uint32_t i = 0; i < layer->parts; i++) {
        make_part(&rig, layer, i, to);
        arguments.weights[i] = to;
        arguments.rows[i] = layer->rows[i];
        to += (layer->rows[i] + 15) / 16 * tile_bytes;
    }
    arguments.input = make_input(&rig, layer);
    arguments.output_stride = layer->stride;
    for (uint32_t i = 0; i < rig.program.decode_count; i++) {
        run(&rig, layer, arguments, i);
    }
    driver->memory_free(driver, matrices);
    driver->memory_free(driver, arguments.input);
    for (uint32_t i = 0; i < layer->parts; i++) {
        free(layer->weights[i]);
    }
    free(layer->input);
    gpu_bench_close(&rig.bench);
}

static void packed_weights_agree_with_double_precision(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++) {
        for (uint32_t to = GPU_DECODE_STORE; to <= GPU_DECODE_PAIR; to++) {
            const bool pair = to == GPU_DECODE_PAIR;
            struct layer layer = {
                .columns = columns_list[(i + to) % 4],
                .tokens = 1 + (uint32_t)test_random_below(TOKENS_MAX),
                .parts = pair                   ? 2
                         : to == GPU_DECODE_ADD ? 1
                                                : 3,
                .to = to,
                .exact = test_random_below(2),
            };
            for (uint32_t part = 0; part < layer.parts; part++) {
                layer.rows[part] = 1 + (uint32_t)test_random_below(ROWS_MAX);
                layer.rows[part] = pair && part ? layer.rows[0] : layer.rows[part];
                layer.stride += pair && part ? 0 : layer.rows[part];
            }
            layer.stride += (uint32_t)test_random_below(5);
            check_layer(dtypes[i], &layer);
        }
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(packed_weights_agree_with_double_precision),
};

TEST_MAIN(tests)
