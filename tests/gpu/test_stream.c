/* Linear layers of few rows whose weights go through a ring in shared memory (linear_stream.cu)
 * against those through registers (linear_decode.cu): the same bits, for runs of both lengths,
 * every number of rows, several parts, gate and up, with a norm and without. On the emulated
 * device, or on a GPU. */
#include "gpu_support.h"

#include "gpu/kernel_sources.h"
#include "gpu/model.h"

#define TOKENS_MAX 32u
#define SHARED_MAX (223u << 10)

/* Columns, and how the ring is filled: one run a warp and tile, several, runs of 64. */
static const struct shape {
    uint32_t columns, segment, ring;
} shapes[] = {{2048, 128, 3}, {4096, 128, 3}, {3072, 64, 4}, {2048, 64, 3}};

struct layer {
    uint32_t columns, tokens, parts, rows[3];
    bool pair, norm;
};

struct rig {
    struct gpu_bench bench;
    struct gpu_program program; /* pairs of kernels: registers, ring */
};

static void rig_open(struct rig *rig, const struct shape *shape, uint32_t from, uint32_t to)
{
    static const char *const files[] = {"arguments_linear.h", "device.cuh",
                                        "linear_groups.cuh",  "linear_tiles.cuh",
                                        "linear_decode.cu",   "linear_stream.cu"};
    struct buffer text = {0};
    *rig = (struct rig){0};
    gpu_bench_open(&rig->bench, GPU_EMU_RANDOM, test_random());
    for (uint32_t tiles = 1; tiles <= (from == GPU_DECODE_FROM_NORM ? 1u : 4u); tiles *= 2) {
        for (int ring = 0; ring < 2; ring++) {
            struct gpu_decode_kernel *kernel = &rig->program.decode[rig->program.decode_count++];
            *kernel = (struct gpu_decode_kernel){.key = {.dtype = DTYPE_BF16,
                                                         .columns = shape->columns,
                                                         .token_tiles = tiles,
                                                         .from = from,
                                                         .to = to,
                                                         .activation = ACTIVATION_SILU}};
            kernel->shared_bytes = (to == GPU_DECODE_PAIR ? 2u : 1u) * tiles * (16u << 10);
            if (ring) {
                uint32_t run_bytes = shape->segment * 512u;
                uint32_t room = (SHARED_MAX - kernel->shared_bytes) / run_bytes;
                kernel->segment = shape->segment;
                kernel->ring = room < shape->ring ? room : shape->ring;
                kernel->shared_bytes += kernel->ring * run_bytes;
            } else {
                kernel->shared_bytes += gpu_decode_normed_bytes(&kernel->key);
            }
        }
    }
    buffer_append_text(&text, "#define KERNEL_POINTER(type) type *\n#define ACT_TYPE TYPE_BF16\n");
    gpu_program_decode_prelude(&rig->program, 0, 1, &text);
    gpu_bench_append_words(&text);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        gpu_bench_append(&text, kernel_source_find(files[i])->text);
    }
    gpu_bench_load(&rig->bench, buffer_text(&text));
    buffer_deinit(&text);
}

static uint64_t upload_values(struct rig *rig, uint64_t count, float deviation)
{
    uint16_t *values = malloc(count * sizeof *values);
    assert_non_null(values);
    for (uint64_t i = 0; i < count; i++) {
        values[i] = float_to_bf16(deviation * test_random_normal());
    }
    uint64_t address = gpu_bench_upload(&rig->bench, values, count * sizeof *values);
    free(values);
    return address;
}

static uint64_t upload_floats(struct rig *rig, uint64_t count)
{
    float *values = malloc(count * sizeof *values);
    assert_non_null(values);
    for (uint64_t i = 0; i < count; i++) {
        values[i] = test_random_normal();
    }
    uint64_t address = gpu_bench_upload(&rig->bench, values, count * sizeof *values);
    free(values);
    return address;
}

/* The layer by kernel `index` over an output that begins as `before`. */
static void run(struct rig *rig, const struct layer *layer,
                struct linear_decode_arguments arguments, uint32_t index, const float *before,
                float *after)
{
    struct gpu_driver *driver = rig->bench.driver;
    const struct gpu_decode_kernel *kernel = &rig->program.decode[index];
    const uint64_t bytes = (uint64_t)TOKENS_MAX * arguments.output_stride * sizeof(float);
    const uint32_t group = 8 * kernel->key.token_tiles;
    struct gpu_function *function;
    struct llcuda_error *error = &rig->bench.error;
    char name[32];
    uint32_t tiles = 0;
    for (uint32_t i = 0; i < layer->parts; i++) {
        tiles += i == 0 || !layer->pair ? (layer->rows[i] + 15) / 16 : 0;
    }
    arguments.output = gpu_bench_upload(&rig->bench, before, bytes);
    snprintf(name, sizeof name, "linear_decode_%u", index);
    assert_ok(driver->function_get(driver, rig->bench.module, name, &function, error), *error);
    assert_ok(driver->function_shared_limit(driver, function, kernel->shared_bytes, error), *error);
    const struct gpu_launch how = {
        .grid = {tiles < 3 ? tiles : 3, (layer->tokens + group - 1) / group, 1},
        .block = {GPU_DECODE_THREADS, 1, 1},
        .shared_bytes = kernel->shared_bytes,
    };
    assert_ok(driver->launch(driver, rig->bench.stream, function, &how, &arguments,
                             sizeof arguments, error),
              *error);
    gpu_bench_download(&rig->bench, after, arguments.output, bytes);
    driver->memory_free(driver, arguments.output);
}

static void check_layer(struct rig *rig, const struct layer *layer)
{
    struct gpu_driver *driver = rig->bench.driver;
    struct linear_decode_arguments arguments = {.norm_epsilon = 1e-5f, .norm_weight_offset = 0.5f};
    for (uint32_t i = 0; i < layer->parts; i++) {
        arguments.rows[i] = layer->rows[i];
        arguments.output_stride += i && layer->pair ? 0 : layer->rows[i];
        arguments.weights[i] =
            upload_values(rig, (layer->rows[i] + 15ull) / 16 * 16 * layer->columns, 0.1f);
    }
    uint64_t inputs = (uint64_t)layer->tokens * layer->columns;
    arguments.count = gpu_bench_upload(&rig->bench, &layer->tokens, sizeof layer->tokens);
    arguments.input = layer->norm ? upload_floats(rig, inputs) : upload_values(rig, inputs, 1);
    arguments.norm_weight = upload_floats(rig, layer->columns);
    uint64_t count = (uint64_t)TOKENS_MAX * arguments.output_stride;
    float *before = malloc(3 * count * sizeof *before);
    assert_non_null(before);
    for (uint64_t i = 0; i < count; i++) {
        before[i] = test_random_normal();
    }
    for (uint32_t i = 0; i < rig->program.decode_count; i += 2) {
        run(rig, layer, arguments, i, before, before + count);
        run(rig, layer, arguments, i + 1, before, before + 2 * count);
        assert_memory_not_equal(before + count, before, count * sizeof *before);
        assert_memory_equal(before + 2 * count, before + count, count * sizeof *before);
    }
    for (uint32_t i = 0; i < layer->parts; i++) {
        driver->memory_free(driver, arguments.weights[i]);
    }
    driver->memory_free(driver, arguments.count);
    driver->memory_free(driver, arguments.input);
    driver->memory_free(driver, arguments.norm_weight);
    free(before);
}

static void ring_and_registers_agree_to_the_bit(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        for (uint32_t to = GPU_DECODE_STORE; to <= GPU_DECODE_PAIR; to++) {
            struct rig rig;
            bool norm = to != GPU_DECODE_ADD && test_random_below(2);
            bool pair = to == GPU_DECODE_PAIR;
            rig_open(&rig, &shapes[i], norm ? GPU_DECODE_FROM_NORM : GPU_DECODE_FROM_ACTIVATIONS,
                     to);
            struct layer layer = {
                .columns = shapes[i].columns,
                .tokens = 1 + (uint32_t)test_random_below(norm ? 8 : TOKENS_MAX),
                .parts = pair ? 2 : 1 + (uint32_t)test_random_below(3),
                .pair = pair,
                .norm = norm,
            };
            for (uint32_t part = 0; part < layer.parts; part++) {
                layer.rows[part] = 1 + (uint32_t)test_random_below(70);
                layer.rows[part] = pair && part ? layer.rows[0] : layer.rows[part];
            }
            check_layer(&rig, &layer);
            gpu_bench_close(&rig.bench);
        }
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(ring_and_registers_agree_to_the_bit),
};

TEST_MAIN(tests)
