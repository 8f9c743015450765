/* Owns the counters and the text that Prometheus reads. */
#include "server/metrics.h"

#include <fcntl.h>
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/view.h"

#define BUCKETS_MAX 24
#define SERIES_MAX  512
#define REASONS     (LLCUDA_FINISH_ERROR + 1)

struct histogram_spec {
    const char *name;
    const char *help;
    bool tokens;                /* otherwise seconds */
    double bounds[BUCKETS_MAX]; /* ending with 0 */
};

#define TOKEN_BOUNDS                                                                         \
    {                                                                                        \
        1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 2e5, 5e5, 1e6 \
    }

static const struct histogram_spec specs[METRIC_HISTOGRAM_COUNT] = {
    [METRIC_FIRST_TOKEN] = {"llcuda_time_to_first_token_seconds",
                            "From the whole request to its first token.",
                            false,
                            {0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5,
                             0.75,  1,     2.5,  5,    7.5,  10,   20,   40,  80,   160}},
    [METRIC_INTER_TOKEN] = {"llcuda_inter_token_latency_seconds",
                            "Between two tokens of a request.",
                            false,
                            {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3,
                             0.4, 0.5, 0.75, 1, 2.5, 5, 10}},
    [METRIC_END_TO_END] = {"llcuda_e2e_request_latency_seconds",
                           "From the whole request to the end of its answer.",
                           false,
                           {0.01, 0.03, 0.1, 0.3, 0.5, 0.8, 1,  1.5, 2,   2.5, 5,
                            10,   15,   20,  30,  40,  50,  60, 120, 240, 480, 960}},
    [METRIC_QUEUE] = {"llcuda_request_queue_time_seconds",
                      "From submission to the first step.",
                      false,
                      {0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20,
                       30, 60, 120}},
    [METRIC_PREFILL] = {"llcuda_request_prefill_time_seconds",
                        "From the first step to the first token.",
                        false,
                        {0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15,
                         20, 30, 60, 120}},
    [METRIC_DECODE] = {"llcuda_request_decode_time_seconds",
                       "From the first token to the last one.",
                       false,
                       {0.01, 0.03, 0.1, 0.3, 0.5, 0.8, 1,  1.5, 2,   2.5, 5,
                        10,   15,   20,  30,  40,  50,  60, 120, 240, 480, 960}},
    [METRIC_PROMPT_TOKENS] = {"llcuda_request_prompt_tokens", "Prompt tokens of a request.", true,
                              TOKEN_BOUNDS},
    [METRIC_ANSWER_TOKENS] = {"llcuda_request_generation_tokens",
                              "Tokens generated for a request, all choices together.", true,
                              TOKEN_BOUNDS},
};

struct histogram {
    _Atomic uint64_t counts[BUCKETS_MAX + 1]; /* not cumulative; the last one: above all bounds */
    _Atomic uint64_t sum;                     /* nanoseconds or tokens */
};

struct model_metrics {
    struct histogram histograms[METRIC_HISTOGRAM_COUNT];
    _Atomic uint64_t finished[REASONS];
};

/* Requests of a route that ended with a status, or refusals by reason: an open table that is never
 * emptied. */
struct series {
    _Atomic(const char *) label;
    _Atomic int status;
    _Atomic uint64_t count;
};

struct series_table {
    struct series items[SERIES_MAX];
    _Atomic uint32_t count;
    atomic_flag lock;
};

struct metrics {
    struct series_table requests;
    struct series_table refusals;
    _Atomic uint64_t spans_sent, spans_lost;
    struct model_metrics *models; /* [model_count] */
};

struct metrics *metrics_create(uint32_t model_count)
{
    struct metrics *metrics = calloc(1, sizeof *metrics);
    struct model_metrics *models = calloc(model_count, sizeof *models);
    if (!metrics || !models) {
        free(metrics);
        free(models);
        return NULL;
    }
    atomic_flag_clear(&metrics->requests.lock);
    atomic_flag_clear(&metrics->refusals.lock);
    metrics->models = models;
    return metrics;
}

void metrics_destroy(struct metrics *metrics)
{
    if (metrics) {
        free(metrics->models);
        free(metrics);
    }
}

/* ------------------------------------------------------------------ counting */

void metrics_observe(struct metrics *metrics, uint32_t model, enum metric_histogram which,
                     uint64_t value)
{
    struct histogram *histogram = &metrics->models[model].histograms[which];
    const double *bounds = specs[which].bounds;
    double measure = specs[which].tokens ? (double)value : (double)value / 1e9;
    uint32_t bucket = 0;
    while (bucket < BUCKETS_MAX && bounds[bucket] > 0 && measure > bounds[bucket]) {
        bucket++;
    }
    atomic_fetch_add_explicit(&histogram->counts[bucket], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&histogram->sum, value, memory_order_relaxed);
}

void metrics_count_finish(struct metrics *metrics, uint32_t model, llcuda_finish_reason reason)
{
    atomic_fetch_add_explicit(&metrics->models[model].finished[reason], 1, memory_order_relaxed);
}

uint64_t metrics_finished(const struct metrics *metrics, uint32_t model,
                          llcuda_finish_reason reason)
{
    return atomic_load(&metrics->models[model].finished[reason]);
}

static struct series *find_series(struct series_table *table, const char *label, int status)
{
    uint32_t count = atomic_load(&table->count);
    for (uint32_t i = 0; i < count; i++) {
        struct series *series = &table->items[i];
        if (atomic_load(&series->label) == label && atomic_load(&series->status) == status) {
            return series;
        }
    }
    return NULL;
}

static void count_one(struct series_table *table, const char *label, int status)
{
    struct series *series = find_series(table, label, status);
    if (!series) {
        /* Rare: the first request of its kind. */
        while (atomic_flag_test_and_set(&table->lock)) {
        }
        series = find_series(table, label, status);
        uint32_t count = atomic_load(&table->count);
        if (!series && count < SERIES_MAX) {
            series = &table->items[count];
            atomic_store(&series->label, label);
            atomic_store(&series->status, status);
            atomic_store(&table->count, count + 1);
        }
        atomic_flag_clear(&table->lock);
    }
    if (series) {
        atomic_fetch_add_explicit(&series->count, 1, memory_order_relaxed);
    }
}

void metrics_count_request(struct metrics *metrics, const char *route, int status,
                           const char *refusal)
{
    count_one(&metrics->requests, route, status);
    if (refusal) {
        count_one(&metrics->refusals, refusal, 0);
    }
}

void metrics_count_spans(struct metrics *metrics, uint64_t sent, uint64_t lost)
{
    atomic_fetch_add_explicit(&metrics->spans_sent, sent, memory_order_relaxed);
    atomic_fetch_add_explicit(&metrics->spans_lost, lost, memory_order_relaxed);
}

/* ------------------------------------------------------------------ the text */

void metrics_write_head(struct buffer *out, const char *name, const char *type, const char *help)
{
    buffer_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* Label values escape backslash, quote and newline. */
void metrics_write_label(struct buffer *out, const char *text)
{
    for (; *text; text++) {
        if (*text == '\\' || *text == '"') {
            buffer_append_byte(out, '\\');
        }
        buffer_append_byte(out, *text == '\n' ? ' ' : *text);
    }
}

static void write_labels(struct buffer *out, const char *label, const char *name, const char *extra)
{
    buffer_printf(out, "{%s=\"", label);
    metrics_write_label(out, name);
    buffer_printf(out, "\"%s", extra);
}

static void write_histogram_of(const struct histogram *histogram, const struct histogram_spec *spec,
                               const char *metric, const char *label, const char *name,
                               const char *extra, struct buffer *out)
{
    uint64_t total = 0;
    uint32_t bucket = 0;
    for (; bucket < BUCKETS_MAX && spec->bounds[bucket] > 0; bucket++) {
        total += atomic_load(&histogram->counts[bucket]);
        buffer_printf(out, "%s_bucket", metric);
        write_labels(out, label, name, extra);
        buffer_printf(out, ",le=\"%g\"} %llu\n", spec->bounds[bucket], (unsigned long long)total);
    }
    total += atomic_load(&histogram->counts[bucket]);
    buffer_printf(out, "%s_bucket", metric);
    write_labels(out, label, name, extra);
    buffer_printf(out, ",le=\"+Inf\"} %llu\n%s_sum", (unsigned long long)total, metric);
    write_labels(out, label, name, extra);
    double sum = (double)atomic_load(&histogram->sum);
    buffer_printf(out, "} %.9f\n%s_count", spec->tokens ? sum : sum / 1e9, metric);
    write_labels(out, label, name, extra);
    buffer_printf(out, "} %llu\n", (unsigned long long)total);
}

void metrics_write_histogram(struct metrics *metrics, enum metric_histogram which,
                             const char *metric, const char *help, const char *label,
                             const char *extra, const struct metrics_model *models, uint32_t count,
                             struct buffer *out)
{
    metrics_write_head(out, metric, "histogram", help);
    for (uint32_t i = 0; i < count; i++) {
        write_histogram_of(&metrics->models[i].histograms[which], &specs[which], metric, label,
                           models[i].name, extra, out);
    }
}

static void write_one(struct buffer *out, const char *name, const char *type, const char *help,
                      double value)
{
    metrics_write_head(out, name, type, help);
    buffer_printf(out, "%s %.17g\n", name, value);
}

/* ------------------------------------------------------------------ what engines count */

enum { STAT_U32, STAT_U64, STAT_SECONDS };

static const struct stat_row {
    const char *name, *type, *help;
    int kind;
    size_t offset;
} stat_rows[] = {
#define U32(field, name, type, help)                              \
    {                                                             \
        name, type, help, STAT_U32, offsetof(llcuda_stats, field) \
    }
#define U64(field, name, type, help)                              \
    {                                                             \
        name, type, help, STAT_U64, offsetof(llcuda_stats, field) \
    }
#define NS(field, name, type, help)                                   \
    {                                                                 \
        name, type, help, STAT_SECONDS, offsetof(llcuda_stats, field) \
    }
    U32(running, "llcuda_requests_running", "gauge", "Sequences with a place in the cache."),
    U32(waiting, "llcuda_requests_waiting", "gauge", "Sequences waiting for a place."),
    U32(paused, "llcuda_requests_paused", "gauge", "Running sequences whose reader is behind."),
    U32(blocks_total, "llcuda_kv_cache_blocks", "gauge", "Cache blocks of 16 positions."),
    U32(blocks_used, "llcuda_kv_cache_blocks_used", "gauge",
        "Of these, held by running sequences."),
    U32(blocks_cached, "llcuda_kv_cache_blocks_cached", "gauge", "Of these, kept for reuse."),
    U64(memory_bytes, "llcuda_memory_bytes", "gauge", "Held by the device for the model."),
    U64(memory_limit_bytes, "llcuda_memory_limit_bytes", "gauge",
        "That the model may take of its GPU; 0: no limit was set."),
    U64(step_rows_max, "llcuda_batch_rows_max", "gauge", "Rows of the fullest step so far."),
    U64(requests_submitted, "llcuda_engine_requests_total", "counter",
        "Requests that the engine took."),
    U64(requests_finished, "llcuda_engine_requests_finished_total", "counter", "Of these, ended."),
    U64(requests_cancelled, "llcuda_engine_requests_cancelled_total", "counter",
        "Of these, cancelled."),
    U64(requests_timed_out, "llcuda_engine_requests_timed_out_total", "counter",
        "Of these, over their time."),
    U64(requests_failed, "llcuda_engine_requests_failed_total", "counter", "Of these, failed."),
    U64(requests_rejected, "llcuda_engine_requests_rejected_total", "counter",
        "Requests the engine did not take."),
    U64(steps, "llcuda_steps_total", "counter", "Steps of the device."),
    U64(steps_failed, "llcuda_steps_failed_total", "counter", "Of these, failed."),
    U64(prompt_tokens, "llcuda_prompt_tokens_total", "counter", "Prompt tokens computed."),
    U64(generated_tokens, "llcuda_generation_tokens_total", "counter", "Tokens generated."),
    U64(prefix_lookup_tokens, "llcuda_prefix_cache_queries_total", "counter",
        "Prompt tokens looked for in the cache."),
    U64(prefix_hit_tokens, "llcuda_prefix_cache_hits_total", "counter", "Of these, found."),
    U64(preemptions, "llcuda_preemptions_total", "counter", "Sequences sent back to wait."),
    U64(evictions, "llcuda_kv_cache_evictions_total", "counter", "Cached blocks given up."),
    U64(tokens_drawn_device, "llcuda_tokens_drawn_device_total", "counter",
        "Tokens that the device drew."),
    U64(tokens_drawn_host, "llcuda_tokens_drawn_host_total", "counter",
        "Tokens that the host drew, from logits that were copied to it."),
    NS(step_ns, "llcuda_step_seconds_total", "counter", "Time in device steps."),
    NS(host_ns, "llcuda_host_seconds_total", "counter", "Time of the engine thread around them."),
#undef U32
#undef U64
#undef NS
};

static double stat_value(const llcuda_stats *stats, const struct stat_row *row)
{
    const char *field = (const char *)stats + row->offset;
    uint32_t narrow;
    uint64_t wide;
    if (row->kind == STAT_U32) {
        memcpy(&narrow, field, sizeof narrow);
        return narrow;
    }
    memcpy(&wide, field, sizeof wide);
    return row->kind == STAT_SECONDS ? (double)wide / 1e9 : (double)wide;
}

static void write_sample(struct buffer *out, const char *name, const char *model, double value)
{
    buffer_append_text(out, name);
    write_labels(out, "model", model, "");
    buffer_printf(out, "} %.17g\n", value);
}

/* What the memory that a model holds is for, and how much of what it may take that is. */
static void write_memory(const struct metrics_model *models, uint32_t count, struct buffer *out)
{
    static const struct {
        const char *kind;
        size_t offset;
    } kinds[] = {{"weights", offsetof(llcuda_stats, memory_weight_bytes)},
                 {"kv_cache", offsetof(llcuda_stats, memory_kv_bytes)},
                 {"workspace", offsetof(llcuda_stats, memory_workspace_bytes)},
                 {"step", offsetof(llcuda_stats, memory_step_bytes)}};
    static const char kind_name[] = "llcuda_memory_kind_bytes";
    static const char ratio[] = "llcuda_memory_limit_used_ratio";
    metrics_write_head(out, kind_name, "gauge", "Held by the device for the model, by what for.");
    for (uint32_t i = 0; i < count; i++) {
        for (size_t kind = 0; kind < sizeof kinds / sizeof kinds[0]; kind++) {
            uint64_t bytes;
            memcpy(&bytes, (const char *)&models[i].stats + kinds[kind].offset, sizeof bytes);
            buffer_append_text(out, kind_name);
            write_labels(out, "model", models[i].name, "");
            buffer_printf(out, ",kind=\"%s\"} %llu\n", kinds[kind].kind, (unsigned long long)bytes);
        }
    }
    metrics_write_head(out, ratio, "gauge",
                       "Share of the memory that the model may take which it holds; no sample "
                       "without a limit.");
    for (uint32_t i = 0; i < count; i++) {
        const llcuda_stats *stats = &models[i].stats;
        if (stats->memory_limit_bytes > 0) {
            write_sample(out, ratio, models[i].name,
                         (double)stats->memory_bytes / (double)stats->memory_limit_bytes);
        }
    }
}

static void write_models(const struct metrics *metrics, const struct metrics_model *models,
                         uint32_t count, struct buffer *out)
{
    for (size_t i = 0; i < sizeof stat_rows / sizeof stat_rows[0]; i++) {
        const struct stat_row *row = &stat_rows[i];
        metrics_write_head(out, row->name, row->type, row->help);
        for (uint32_t j = 0; j < count; j++) {
            write_sample(out, row->name, models[j].name, stat_value(&models[j].stats, row));
        }
    }
    metrics_write_head(out, "llcuda_kv_cache_usage_ratio", "gauge",
                       "Cache blocks held by running sequences.");
    for (uint32_t i = 0; i < count; i++) {
        const llcuda_stats *stats = &models[i].stats;
        write_sample(out, "llcuda_kv_cache_usage_ratio", models[i].name,
                     stats->blocks_total ? (double)stats->blocks_used / stats->blocks_total : 0);
    }
    write_memory(models, count, out);
    metrics_write_head(out, "llcuda_model_ready", "gauge", "1 while the model can generate.");
    for (uint32_t i = 0; i < count; i++) {
        write_sample(out, "llcuda_model_ready", models[i].name, models[i].state == MODEL_READY);
    }
    metrics_write_head(out, "llcuda_requests_ended_total", "counter",
                       "Generating requests by the reason of their end.");
    for (uint32_t i = 0; i < count; i++) {
        for (int reason = LLCUDA_FINISH_STOP; reason < REASONS; reason++) {
            buffer_append_text(out, "llcuda_requests_ended_total");
            write_labels(out, "model", models[i].name, "");
            buffer_printf(
                out, ",reason=\"%s\"} %llu\n",
                llcuda_finish_reason_name((llcuda_finish_reason)reason),
                (unsigned long long)metrics_finished(metrics, i, (llcuda_finish_reason)reason));
        }
    }
}

/* ------------------------------------------------------------------ the process and its devices */

/* A field of /proc/self/stat behind the program's name: 11 and 12 are processor time in ticks, 21
 * resident pages. */
static double stat_field(const char *text, int index)
{
    const char *at = strrchr(text, ')');
    for (int field = 0; at && field <= index; field++) {
        at = strchr(at + 1, ' ');
    }
    return at ? strtod(at, NULL) : 0;
}

static void write_process(struct buffer *out)
{
    char text[1024];
    int descriptor = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
    ssize_t length = descriptor >= 0 ? read(descriptor, text, sizeof text - 1) : -1;
    if (length > 0) {
        text[length] = 0;
        write_one(out, "process_cpu_seconds_total", "counter", "Processor time, all threads.",
                  (stat_field(text, 11) + stat_field(text, 12)) / (double)sysconf(_SC_CLK_TCK));
        write_one(out, "process_resident_memory_bytes", "gauge", "Memory in use, files included.",
                  stat_field(text, 21) * (double)sysconf(_SC_PAGESIZE));
    }
    if (descriptor >= 0) {
        close(descriptor);
    }
}

/* What is not known is left out. */
static void write_reading(const struct metrics_gauges *gauges, uint32_t device, const char *name,
                          double value, struct buffer *out)
{
    if (!isnan(value)) {
        buffer_printf(out, "%s{device=\"%u\",name=\"", name, device);
        metrics_write_label(out, gauges->devices[device].name);
        buffer_printf(out, "\"} %.17g\n", value);
    }
}

static void write_devices(const struct metrics_gauges *gauges, struct buffer *out)
{
    static const char ratio[] = "llcuda_device_memory_used_ratio";
    static const struct {
        const char *name, *help;
        size_t offset;
    } rows[] = {
        {"llcuda_device_utilization_ratio", "Share of time in which the device computed.",
         offsetof(struct device_reading, utilization_ratio)},
        {"llcuda_device_temperature_celsius", "Temperature of the device.",
         offsetof(struct device_reading, temperature_celsius)},
        {"llcuda_device_power_watts", "Power that the device draws.",
         offsetof(struct device_reading, power_watts)},
        {"llcuda_device_memory_used_bytes", "Memory in use, by all processes.",
         offsetof(struct device_reading, memory_used_bytes)},
        {"llcuda_device_memory_bytes", "Memory of the device.",
         offsetof(struct device_reading, memory_bytes)},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0] && gauges->device_count > 0; i++) {
        metrics_write_head(out, rows[i].name, "gauge", rows[i].help);
        for (uint32_t j = 0; j < gauges->device_count; j++) {
            double value;
            memcpy(&value, (const char *)&gauges->devices[j] + rows[i].offset, sizeof value);
            write_reading(gauges, j, rows[i].name, value, out);
        }
    }
    if (gauges->device_count > 0) {
        metrics_write_head(out, ratio, "gauge", "Share of the memory that is in use.");
    }
    for (uint32_t j = 0; j < gauges->device_count; j++) {
        const struct device_reading *reading = &gauges->devices[j];
        write_reading(gauges, j, ratio, reading->memory_used_bytes / reading->memory_bytes, out);
    }
}

static void write_gauges(const struct metrics *metrics, const struct metrics_gauges *gauges,
                         struct buffer *out)
{
    const struct {
        const char *name, *type, *help;
        double value;
    } rows[] = {
        {"llcuda_uptime_seconds", "gauge", "Since the server began to listen.",
         gauges->uptime_seconds},
        {"llcuda_http_connections", "gauge", "Open connections.", gauges->connections},
        {"llcuda_http_requests_in_flight", "gauge", "Requests being answered.", gauges->exchanges},
        {"llcuda_admitted_tokens", "gauge", "Price of the requests that wait or run.",
         (double)gauges->admitted_tokens},
        {"llcuda_admitted_tokens_max", "gauge", "At most so much is admitted.",
         (double)gauges->queue_tokens},
        {"llcuda_ready", "gauge", "1 while /readyz says so.", gauges->ready ? 1 : 0},
        {"llcuda_draining", "gauge", "1 once the server has been told to stop.",
         gauges->draining ? 1 : 0},
        {"llcuda_engine_stall_seconds", "gauge",
         "Since an engine with work last took a step; 0 without work.",
         gauges->engine_stall_seconds},
        {"llcuda_trace_spans_sent_total", "counter", "Spans that the collector has taken.",
         (double)atomic_load(&metrics->spans_sent)},
        {"llcuda_trace_spans_lost_total", "counter", "Spans that were thrown away.",
         (double)atomic_load(&metrics->spans_lost)},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        write_one(out, rows[i].name, rows[i].type, rows[i].help, rows[i].value);
    }
}

void metrics_write(struct metrics *metrics, const struct metrics_model *models, uint32_t count,
                   const struct metrics_gauges *gauges, struct buffer *out)
{
    metrics_write_head(out, "llcuda_build_info", "gauge", "The version.");
    buffer_append_text(out, "llcuda_build_info{version=\"");
    metrics_write_label(out, gauges->version);
    buffer_append_text(out, "\"} 1\n");
    write_gauges(metrics, gauges, out);
    write_process(out);
    write_devices(gauges, out);
    write_models(metrics, models, count, out);
    for (int i = 0; i < METRIC_HISTOGRAM_COUNT; i++) {
        metrics_write_histogram(metrics, (enum metric_histogram)i, specs[i].name, specs[i].help,
                                "model", "", models, count, out);
    }
    metrics_write_head(out, "llcuda_http_requests_total", "counter",
                       "Requests by route and status; 0: the client left first.");
    for (uint32_t i = 0; i < atomic_load(&metrics->requests.count); i++) {
        const struct series *series = &metrics->requests.items[i];
        buffer_printf(out, "llcuda_http_requests_total{path=\"%s\",status=\"%d\"} %llu\n",
                      atomic_load(&series->label), atomic_load(&series->status),
                      (unsigned long long)atomic_load(&series->count));
    }
    metrics_write_head(out, "llcuda_refusals_total", "counter", "Requests refused, by reason.");
    for (uint32_t i = 0; i < atomic_load(&metrics->refusals.count); i++) {
        const struct series *series = &metrics->refusals.items[i];
        buffer_printf(out, "llcuda_refusals_total{reason=\"%s\"} %llu\n",
                      atomic_load(&series->label), (unsigned long long)atomic_load(&series->count));
    }
}
