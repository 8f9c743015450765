/* Owns what measurements look like: statistics, the table, the JSON document. Stateless. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "bench/local.h"

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

struct local_summary local_summarize(const struct local_result *result)
{
    struct local_summary summary = {0};
    uint32_t count = result->repeats;
    for (uint32_t i = 0; i < count; i++) {
        summary.mean += result->rates[i] / count;
    }
    double squares = 0;
    for (uint32_t i = 0; i < count; i++) {
        squares += (result->rates[i] - summary.mean) * (result->rates[i] - summary.mean);
    }
    summary.deviation = count > 1 ? sqrt(squares / (count - 1)) : 0;
    double sorted[LOCAL_REPEATS_MAX];
    memcpy(sorted, result->rates, count * sizeof *sorted);
    qsort(sorted, count, sizeof *sorted, compare);
    summary.median = (sorted[(count - 1) / 2] + sorted[count / 2]) / 2;
    return summary;
}

void local_report_text(const llcuda_engine_info *info, const struct local_report *report,
                       struct buffer *out)
{
    const bool small = info->file_bytes < 100000000;
    buffer_printf(out, "%s, %s, %.2f %s; %s\n", info->model_name, info->weight_types,
                  (double)info->file_bytes / (small ? 1e6 : 1e9), small ? "MB" : "GB",
                  info->device);
    buffer_printf(out, "%-24s %8s %14s %10s %10s %12s\n", "test", "depth", "tok/s", "+-", "median",
                  "weights GB/s");
    for (uint32_t i = 0; i < report->count; i++) {
        const struct local_result *result = &report->results[i];
        struct local_summary summary = local_summarize(result);
        buffer_printf(out, "%-24s %8u %14.2f %10.2f %10.2f", result->name, result->depth,
                      summary.mean, summary.deviation, summary.median);
        if (result->bytes_per_token > 0) {
            buffer_printf(out, " %12.2f", result->bytes_per_token * summary.mean / 1e9);
        }
        buffer_append_byte(out, '\n');
    }
}

static void write_number(struct json_writer *writer, const char *key, double value)
{
    json_key(writer, key);
    json_write_number(writer, value);
}

static void write_count(struct json_writer *writer, const char *key, uint64_t value)
{
    json_key(writer, key);
    json_write_unsigned(writer, value);
}

static void write_text(struct json_writer *writer, const char *key, const char *value)
{
    json_key(writer, key);
    json_write_string(writer, value);
}

static void write_result(struct json_writer *writer, const struct local_result *result)
{
    struct local_summary summary = local_summarize(result);
    json_begin_object(writer);
    write_text(writer, "test", result->name);
    write_count(writer, "depth", result->depth);
    write_count(writer, "parallel", result->parallel);
    write_count(writer, "prompt_tokens", result->prompt_tokens);
    write_count(writer, "generated_tokens", result->generated_tokens);
    write_number(writer, "tokens_per_second", summary.mean);
    write_number(writer, "deviation", summary.deviation);
    write_number(writer, "median", summary.median);
    if (result->bytes_per_token > 0) {
        write_number(writer, "weight_bytes_per_token", result->bytes_per_token);
    }
    json_key(writer, "samples");
    json_begin_array(writer);
    for (uint32_t i = 0; i < result->repeats; i++) {
        json_write_number(writer, result->rates[i]);
    }
    json_end_array(writer);
    json_end_object(writer);
}

void local_report_json(const llcuda_engine_info *info, const char *mode,
                       const struct local_report *report, struct buffer *out)
{
    struct json_writer writer;
    json_writer_init(&writer, out, 2);
    json_begin_object(&writer);
    write_text(&writer, "mode", mode);
    write_text(&writer, "model", info->model_name);
    write_text(&writer, "weight_types", info->weight_types);
    write_count(&writer, "file_bytes", info->file_bytes);
    write_count(&writer, "parameters", info->parameter_count);
    write_text(&writer, "device", info->device);
    write_count(&writer, "threads", info->threads);
    write_count(&writer, "memory_bytes", info->memory_bytes);
    write_number(&writer, "load_ms", info->load_ms);
    json_key(&writer, "results");
    json_begin_array(&writer);
    for (uint32_t i = 0; i < report->count; i++) {
        write_result(&writer, &report->results[i]);
    }
    json_end_array(&writer);
    json_end_object(&writer);
    buffer_append_byte(out, '\n');
}
