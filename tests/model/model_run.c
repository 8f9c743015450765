/* Owns what a model needs to run in a test. */
#include "model/model_run.h"

#include "base/buffer.h"
#include "base/file.h"

size_t model_run_levels(enum cpu_level levels[CPU_LEVEL_COUNT])
{
    size_t count = 0;
    levels[count++] = CPU_SCALAR;
    enum cpu_level best = cpu_level_detect();
    if (best == CPU_NEON) {
        levels[count++] = CPU_NEON;
    }
    for (int level = CPU_AVX2; level <= (int)CPU_AVX512 && best != CPU_NEON; level++) {
        if (level <= (int)best) {
            levels[count++] = (enum cpu_level)level;
        }
    }
    return count;
}

struct device *model_run_device(enum cpu_level level, bool no_extensions)
{
    struct llcuda_error error;
    struct device *device;
    const struct cpu_options options = {
        .thread_count = 2, .level_max = level, .no_extensions = no_extensions};
    assert_ok(cpu_device_open(&options, &device, &error), error);
    return device;
}

void model_run_open(struct model_run *run, const char *path)
{
    struct llcuda_error error;
    *run = (struct model_run){0};
    assert_ok(model_source_open(path, false, &run->source, &error), error);
    assert_ok(model_plan_build(run->source, &run->plan, &run->info, &error), error);
}

llcuda_status model_run_load(struct model_run *run, struct device *device, enum dtype kv_dtype,
                             uint32_t context, uint32_t rows_max, struct llcuda_error *error)
{
    run->device = device;
    run->block_count = (context + KV_BLOCK_TOKENS - 1) / KV_BLOCK_TOKENS;
    run->blocks = calloc(run->block_count, sizeof *run->blocks);
    assert_non_null(run->blocks);
    for (uint32_t i = 0; i < run->block_count; i++) {
        run->blocks[i] = run->block_count - 1 - i;
    }
    const struct device_model_options options = {.kv_block_count = run->block_count,
                                                 .kv_dtype = kv_dtype,
                                                 .rows_max = rows_max,
                                                 .logits_rows_max = rows_max};
    return device_model_load(device, run->plan, &options, NULL, &run->model, error);
}

llcuda_status model_run_tokens(struct model_run *run, const uint32_t *tokens, uint32_t begin,
                               uint32_t count, uint32_t chunk, float *logits,
                               struct llcuda_error *error)
{
    uint32_t width = run->plan->vocabulary_size;
    uint32_t *positions = calloc(3 * (size_t)chunk, sizeof *positions);
    assert_non_null(positions);
    uint32_t *sequences = positions + chunk;
    uint32_t *rows = sequences + chunk;
    llcuda_status status = LLCUDA_OK;
    for (uint32_t done = 0; status == LLCUDA_OK && done < count;) {
        uint32_t n = count - done < chunk ? count - done : chunk;
        for (uint32_t i = 0; i < n; i++) {
            positions[i] = begin + done + i;
            rows[i] = i;
        }
        const struct step_batch batch = {.row_count = n,
                                         .tokens = tokens + done,
                                         .positions = positions,
                                         .sequences = sequences,
                                         .sequence_count = 1,
                                         .block_tables = run->blocks,
                                         .block_table_stride = run->block_count,
                                         .logits_count = n,
                                         .logits_rows = rows};
        const float *out;
        status = device_step(run->model, &batch, &out, error);
        if (status == LLCUDA_OK) {
            memcpy(logits + (size_t)done * width, out, (size_t)n * width * sizeof *out);
        }
        done += n;
    }
    free(positions);
    return status;
}

void model_run_unload(struct model_run *run)
{
    device_model_unload(run->model);
    free(run->blocks);
    run->model = NULL;
    run->blocks = NULL;
}

void model_run_close(struct model_run *run)
{
    model_run_unload(run);
    plan_destroy(run->plan);
    model_source_close(run->source);
}

uint32_t model_run_best(const float *logits, uint32_t count)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < count; i++) {
        best = logits[i] > logits[best] ? i : best;
    }
    return best;
}

void *model_run_npy(const char *folder, const char *name, const char *type, size_t elements)
{
    struct llcuda_error error;
    struct buffer bytes = {0};
    char *path = file_path_join(folder, name);
    assert_ok(file_read_all(path, 1u << 24, &bytes, &error), error);
    free(path);
    assert_true(bytes.length > 10 && memcmp(bytes.data, "\x93NUMPY\x01", 7) == 0);
    size_t header = (size_t)(uint8_t)bytes.data[8] + ((size_t)(uint8_t)bytes.data[9] << 8);
    assert_true(bytes.length == 10 + header + 4 * elements);
    assert_non_null(memmem(bytes.data + 10, header, type, strlen(type)));
    assert_non_null(memmem(bytes.data + 10, header, "'fortran_order': False", 22));
    void *data = malloc(4 * elements);
    assert_non_null(data);
    memcpy(data, bytes.data + 10 + header, 4 * elements);
    buffer_deinit(&bytes);
    return data;
}
