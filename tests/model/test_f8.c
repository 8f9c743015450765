/* Checkpoints of 8-bit floats: the sample llama with its projections in e4m3, with scales by
 * blocks, rows or for all, against the same values in bfloat16. Scales are powers of two, so that
 * bfloat16 holds the products exactly: on the CPU the logits are the same to the bit. */
#include "model/model_run.h"

#include "base/buffer.h"
#include "base/file.h"
#include "gpu/gpu.h"
#include "tensor/quant.h"

#define TOKENS 12u

enum scaling { BY_BLOCK, BY_ROW, BY_TENSOR, NOT_THERE };
#define BLOCK 32u

struct writer {
    struct buffer header, data;
};

static void put(struct writer *writer, const char *name, const char *type, const uint64_t *shape,
                uint32_t rank, const void *bytes, uint64_t count)
{
    buffer_printf(&writer->header, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[",
                  writer->header.length > 1 ? "," : "", name, type);
    for (uint32_t i = 0; i < rank; i++) {
        buffer_printf(&writer->header, "%s%llu", i ? "," : "", (unsigned long long)shape[i]);
    }
    buffer_printf(&writer->header, "],\"data_offsets\":[%llu,%llu]}",
                  (unsigned long long)writer->data.length,
                  (unsigned long long)(writer->data.length + count));
    buffer_append(&writer->data, bytes, count);
}

static float scale_at(enum scaling scaling, uint64_t row, uint64_t column)
{
    return scaling == BY_BLOCK ? ldexpf(1, (int)((row / BLOCK + 3 * (column / BLOCK)) % 5) - 12)
           : scaling == BY_ROW ? ldexpf(1, (int)(row % 7) - 13)
                               : 0x1p-11f;
}

/* The scales of a matrix, float32 or, by blocks, bfloat16. */
static void put_scales(struct writer *writer, const char *name, enum scaling scaling, uint64_t rows,
                       uint64_t columns)
{
    char full[160];
    uint64_t shape[2] = {1, 1};
    struct buffer values = {0};
    if (scaling == BY_BLOCK) {
        shape[0] = (rows + BLOCK - 1) / BLOCK;
        shape[1] = (columns + BLOCK - 1) / BLOCK;
    } else if (scaling == BY_ROW) {
        shape[0] = rows;
    }
    for (uint64_t i = 0; i < shape[0] * shape[1]; i++) {
        uint64_t each = scaling == BY_BLOCK ? BLOCK : 1;
        float scale = scale_at(scaling, i / shape[1] * each, i % shape[1] * each);
        uint16_t half = float_to_bf16(scale);
        buffer_append(&values, scaling == BY_BLOCK ? (const void *)&half : (const void *)&scale,
                      scaling == BY_BLOCK ? sizeof half : sizeof scale);
    }
    snprintf(full, sizeof full, "%s%s", name, scaling == BY_BLOCK ? "_scale_inv" : "_scale");
    put(writer, full, scaling == BY_BLOCK ? "BF16" : "F32", shape, scaling == BY_TENSOR ? 1 : 2,
        values.data, values.length);
    buffer_deinit(&values);
}

/* A projection as e4m3 with scales, or (`plain`) as the same values in bfloat16. */
static void put_projection(struct writer *writer, const struct tensor *tensor, const char *name,
                           enum scaling scaling, bool plain)
{
    uint64_t rows = tensor->shape[0], columns = tensor->shape[1];
    float *row = malloc(columns * sizeof *row);
    struct buffer values = {0};
    for (uint64_t r = 0; r < rows; r++) {
        dequantize_row(tensor->dtype,
                       (const unsigned char *)tensor->data + r * (tensor->bytes / rows), row,
                       columns);
        for (uint64_t c = 0; c < columns; c++) {
            float scale = scale_at(scaling, r, c);
            uint8_t code = float_to_e4m3(row[c] / scale);
            uint16_t half = float_to_bf16(float_from_e4m3(code) * scale);
            buffer_append(&values, plain ? (const void *)&half : (const void *)&code,
                          plain ? sizeof half : sizeof code);
        }
    }
    put(writer, name, plain ? "BF16" : "F8_E4M3", tensor->shape, 2, values.data, values.length);
    if (!plain && scaling != NOT_THERE) {
        put_scales(writer, name, scaling, rows, columns);
    }
    buffer_deinit(&values);
    free(row);
}

static void write_weights(const char *folder, const struct model_source *source,
                          enum scaling scaling, bool plain)
{
    struct writer writer = {0};
    struct buffer file = {0};
    buffer_append_byte(&writer.header, '{');
    for (uint64_t i = 0; i < model_source_tensor_count(source); i++) {
        const struct tensor *tensor = model_source_tensor_at(source, i);
        char name[128];
        snprintf(name, sizeof name, "%.*s", TEXT_ARGUMENTS(tensor->name));
        if (strstr(name, "_proj.weight")) {
            put_projection(&writer, tensor, name, scaling, plain);
        } else {
            const char *type = tensor->dtype == DTYPE_F32   ? "F32"
                               : tensor->dtype == DTYPE_F16 ? "F16"
                                                            : "BF16";
            put(&writer, name, type, tensor->shape, tensor->rank, tensor->data, tensor->bytes);
        }
    }
    buffer_append_byte(&writer.header, '}');
    uint64_t length = writer.header.length;
    buffer_append(&file, &length, sizeof length);
    buffer_append(&file, writer.header.data, writer.header.length);
    buffer_append(&file, writer.data.data, writer.data.length);
    assert_false(file.failed);
    free(test_file_write(folder, "model.safetensors", file.data, file.length));
    buffer_deinit(&writer.header);
    buffer_deinit(&writer.data);
    buffer_deinit(&file);
}

static void write_config(const char *folder, const char *more)
{
    struct buffer config = {0};
    struct llcuda_error error;
    char *path = test_source_path("tests/oracle/data/llama/config.json");
    assert_ok(file_read_all(path, 1u << 20, &config, &error), error);
    free(path);
    char *end = strrchr(config.data, '}');
    assert_non_null(end);
    config.length = (size_t)(end - config.data);
    buffer_printf(&config, "%s}", more);
    free(test_file_write(folder, "config.json", config.data, config.length));
    buffer_deinit(&config);
}

#define CONFIG_F8                                         \
    ",\"quantization_config\":{\"quant_method\":\"fp8\"," \
    "\"weight_block_size\":[32,32],\"activation_scheme\":\"dynamic\"}"

/* Makes the model in a folder that is left to the caller. */
static const char *make_model(enum scaling scaling, bool plain)
{
    struct model_run original = {0};
    char *path = test_source_path("tests/oracle/data/llama");
    model_run_open(&original, path);
    const char *folder = test_folder_make();
    write_weights(folder, original.source, scaling, plain);
    write_config(folder, plain ? "" : CONFIG_F8);
    model_run_close(&original);
    free(path);
    return folder;
}

/* Logits [TOKENS, V] of the model; `device` stays the caller's. */
static float *run_model(enum scaling scaling, bool plain, struct device *device, uint64_t *count)
{
    struct model_run run = {0};
    struct llcuda_error error;
    uint32_t tokens[TOKENS];
    const char *folder = make_model(scaling, plain);
    model_run_open(&run, folder);
    for (uint32_t i = 0; i < TOKENS; i++) {
        tokens[i] = (7 * i + 3) % run.plan->vocabulary_size;
    }
    assert_ok(model_run_load(&run, device, DTYPE_F32, 64, TOKENS, &error), error);
    *count = (uint64_t)TOKENS * run.plan->vocabulary_size;
    float *logits = malloc(*count * sizeof *logits);
    assert_ok(model_run_tokens(&run, tokens, 0, TOKENS, TOKENS, logits, &error), error);
    model_run_close(&run);
    test_folder_remove(folder);
    return logits;
}

static void values_and_scales_are_multiplied(void **state)
{
    (void)state;
    struct device *device = model_run_device(CPU_SCALAR, true);
    for (int scaling = BY_BLOCK; scaling <= BY_TENSOR; scaling++) {
        uint64_t count;
        float *found = run_model((enum scaling)scaling, false, device, &count);
        float *wanted = run_model((enum scaling)scaling, true, device, &count);
        assert_memory_equal(found, wanted, count * sizeof *found);
        assert_true(fabsf(found[0]) > 1e-6f);
        free(found);
        free(wanted);
    }
    device_close(device);
}

static void a_gpu_does_so_too(void **state)
{
    (void)state;
    struct llcuda_error error;
    struct gpu_driver *driver;
    struct device *gpu;
    uint64_t count;
    const struct gpu_open_options open = {0};
    const struct gpu_device_options options = {.linear = GPU_LINEAR_PLAIN};
    assert_ok(gpu_driver_open_emu(&open, &driver, &error), error);
    assert_ok(gpu_device_open(driver, &options, &gpu, &error), error);
    float *found = run_model(BY_ROW, false, gpu, &count);
    float *wanted = run_model(BY_ROW, true, gpu, &count);
    double difference = 0, size = 0;
    for (uint64_t i = 0; i < count; i++) {
        difference += pow((double)found[i] - (double)wanted[i], 2);
        size += pow((double)wanted[i], 2);
    }
    assert_true(difference <= 1e-6 * size);
    free(found);
    free(wanted);
    device_close(gpu);
}

static void scales_that_lack_or_do_not_fit_are_refused(void **state)
{
    (void)state;
    struct llcuda_error error;
    struct model_run run = {0};
    const char *folder = make_model(NOT_THERE, false);
    assert_ok(model_source_open(folder, false, &run.source, &error), error);
    assert_int_equal(model_plan_build(run.source, &run.plan, &run.info, &error), LLCUDA_BAD_FORMAT);
    assert_non_null(strstr(error.message, "has no scales"));
    model_run_close(&run);
    test_folder_remove(folder);
    run = (struct model_run){0};
    folder = make_model(BY_BLOCK, false);
    write_config(folder, ",\"quantization_config\":{\"quant_method\":\"fp8\","
                         "\"weight_block_size\":[16,32]}");
    assert_ok(model_source_open(folder, false, &run.source, &error), error);
    assert_int_equal(model_plan_build(run.source, &run.plan, &run.info, &error), LLCUDA_BAD_FORMAT);
    assert_non_null(strstr(error.message, "do not fit"));
    model_run_close(&run);
    test_folder_remove(folder);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(values_and_scales_are_multiplied),
    cmocka_unit_test(scales_that_lack_or_do_not_fit_are_refused),
    cmocka_unit_test(a_gpu_does_so_too),
};

TEST_MAIN(tests)
