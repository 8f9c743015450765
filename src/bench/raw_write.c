/* Owns the form of raw files. Times are microseconds with one decimal: the clock is not better. */
#include "bench/raw_write.h"

#include <math.h>

#define FLUSH_BYTES (1u << 20)

llcuda_status raw_open(struct raw_file *raw, const char *path, struct llcuda_error *error)
{
    *raw = (struct raw_file){0};
    return file_output_open(&raw->output, path, error);
}

static void flush(struct raw_file *raw)
{
    if (raw->line.failed) {
        raw->status = LLCUDA_OUT_OF_MEMORY;
    }
    if (!raw->status) {
        raw->status = file_output_write(&raw->output, raw->line.data, raw->line.length, NULL);
    }
    buffer_clear(&raw->line);
}

void raw_begin(struct raw_file *raw, const char *kind)
{
    json_writer_init(&raw->writer, &raw->line, 0);
    json_begin_object(&raw->writer);
    raw_text(raw, "kind", kind);
}

void raw_end(struct raw_file *raw)
{
    json_end_object(&raw->writer);
    buffer_append_byte(&raw->line, '\n');
    if (raw->line.length > FLUSH_BYTES) {
        flush(raw);
    }
}

void raw_text(struct raw_file *raw, const char *key, const char *value)
{
    json_key(&raw->writer, key);
    json_write_string(&raw->writer, value ? value : "");
}

void raw_number(struct raw_file *raw, const char *key, double value)
{
    json_key(&raw->writer, key);
    json_write_number(&raw->writer, value);
}

void raw_json(struct raw_file *raw, const char *key, const struct buffer *text)
{
    struct json_document *document = NULL;
    json_key(&raw->writer, key);
    if (text->length && !json_parse(buffer_view(text), NULL, &document, NULL)) {
        json_write_value(&raw->writer, json_root(document));
        json_destroy(document);
    } else {
        json_write_null(&raw->writer);
    }
}

static double tenth(double microseconds)
{
    return round(microseconds * 10) / 10;
}

static void write_sample(struct raw_file *raw, const char *workload, const char *point,
                         const struct load_sample *sample)
{
    raw_begin(raw, "sample");
    raw_text(raw, "workload", workload);
    raw_text(raw, "point", point);
    raw_number(raw, "due_us", tenth((double)sample->due_ns / 1e3));
    raw_number(raw, "late_us", tenth((double)sample->late_us));
    raw_number(raw, "first_us", tenth((double)sample->first_us));
    raw_number(raw, "last_us", tenth((double)sample->last_us));
    raw_number(raw, "prompt_tokens", sample->prompt_tokens);
    raw_number(raw, "output_tokens", sample->output_tokens);
    json_key(&raw->writer, "ok");
    json_write_bool(&raw->writer, sample->state == LOAD_OK);
    raw_end(raw);
}

void raw_point(struct raw_file *raw, const char *workload, const char *point,
               const struct load_result *result, const struct monitor_totals *totals)
{
    const struct {
        const char *key;
        double value;
    } numbers[] = {
        {"wall_s", (double)result->wall_ns / 1e9},
        {"requests", (double)result->count},
        {"failed", (double)result->failed},
        {"memory_peak_bytes", totals->memory_peak_bytes},
        {"memory_mean_bytes", totals->memory_mean_bytes},
        {"engine_cpu_s", totals->group_cpu_seconds},
        {"harness_cpu_s", totals->own_cpu_seconds},
        {"stolen_share", totals->stolen_share},
        {"harness_memory_bytes", (double)result->memory_bytes},
        {"processor_mean", totals->processor_mean},
        {"temperature_peak_c", totals->temperature_peak_c},
        {"cpu_energy_j", totals->cpu_energy_j},
        {"gpu_mean", totals->gpu_mean},
        {"gpu_power_mean_w", totals->gpu_power_mean_w},
        {"gpu_memory_peak_bytes", totals->gpu_memory_peak_bytes},
        {"gpu_throttled_share", totals->gpu_throttled_share},
        {"gaps_seen", (double)result->gaps_seen},
    };
    raw_begin(raw, "point");
    raw_text(raw, "workload", workload);
    raw_text(raw, "point", point);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        raw_number(raw, numbers[i].key, numbers[i].value);
    }
    raw_text(raw, "first_failure", result->first_failure);
    raw_end(raw);
    for (uint64_t i = 0; i < result->count; i++) {
        write_sample(raw, workload, point, load_sample_at(result, i));
    }
    raw_begin(raw, "gaps");
    raw_text(raw, "workload", workload);
    raw_text(raw, "point", point);
    json_key(&raw->writer, "gaps_us");
    json_begin_array(&raw->writer);
    for (uint32_t i = 0; i < result->gap_count; i++) {
        json_write_number(&raw->writer, tenth((double)result->gaps_us[i]));
    }
    json_end_array(&raw->writer);
    raw_end(raw);
}

llcuda_status raw_commit(struct raw_file *raw, struct llcuda_error *error)
{
    flush(raw);
    llcuda_status status = raw->status;
    if (status) {
        error_set(error, status, "a raw file could not be written");
        file_output_abort(&raw->output);
    } else {
        status = file_output_commit(&raw->output, error);
    }
    buffer_deinit(&raw->line);
    return status;
}

void raw_abort(struct raw_file *raw)
{
    file_output_abort(&raw->output);
    buffer_deinit(&raw->line);
}
