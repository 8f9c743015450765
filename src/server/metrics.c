/* Owns the counters and the text that Prometheus reads. */
#include "server/metrics.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "base/view.h"

#define BUCKETS_MAX 24
#define SERIES_MAX  512

struct histogram_spec {
    const char *name;
    const char *help;
    double bounds[BUCKETS_MAX]; /* seconds, ending with 0 */
};

static const struct histogram_spec specs[METRIC_HISTOGRAM_COUNT] = {
    [METRIC_FIRST_TOKEN] = {"llcuda_time_to_first_token_seconds",
                            "From the whole request to its first token.",
                            {0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5,
                             0.75,  1,     2.5,  5,    7.5,  10,   20,   40,  80,   160}},
    [METRIC_INTER_TOKEN] = {"llcuda_inter_token_latency_seconds",
                            "Between two tokens of a request.",
                            {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3,
                             0.4, 0.5, 0.75, 1, 2.5, 5, 10}},
    [METRIC_END_TO_END] = {"llcuda_e2e_request_latency_seconds",
                           "From the whole request to the end of its answer.",
                           {0.01, 0.03, 0.1, 0.3, 0.5, 0.8, 1,  1.5, 2,   2.5, 5,
                            10,   15,   20,  30,  40,  50,  60, 120, 240, 480, 960}},
    [METRIC_QUEUE] = {"llcuda_request_queue_time_seconds",
                      "From submission to the first step.",
                      {0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20,
                       30, 60, 120}},
};

struct histogram {
    _Atomic uint64_t counts[BUCKETS_MAX + 1]; /* not cumulative; the last one: above all bounds */
    _Atomic uint64_t sum_ns;
};

/* Requests of a route that ended with a status: an open table that is never emptied. */
struct series {
    _Atomic(const char *) route;
    _Atomic int status;
    _Atomic uint64_t count;
};

struct metrics {
    struct histogram histograms[METRIC_HISTOGRAM_COUNT];
    struct series series[SERIES_MAX];
    _Atomic uint32_t series_count;
    atomic_flag series_lock;
};

struct metrics *metrics_create(void)
{
    struct metrics *metrics = calloc(1, sizeof *metrics);
    if (metrics) {
        atomic_flag_clear(&metrics->series_lock);
    }
    return metrics;
}

void metrics_destroy(struct metrics *metrics)
{
    free(metrics);
}

void metrics_observe(struct metrics *metrics, enum metric_histogram which, uint64_t duration_ns)
{
    struct histogram *histogram = &metrics->histograms[which];
    const double *bounds = specs[which].bounds;
    double seconds = (double)duration_ns / 1e9;
    uint32_t bucket = 0;
    while (bucket < BUCKETS_MAX && bounds[bucket] > 0 && seconds > bounds[bucket]) {
        bucket++;
    }
    atomic_fetch_add_explicit(&histogram->counts[bucket], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&histogram->sum_ns, duration_ns, memory_order_relaxed);
}

static struct series *find_series(struct metrics *metrics, const char *route, int status)
{
    uint32_t count = atomic_load(&metrics->series_count);
    for (uint32_t i = 0; i < count; i++) {
        struct series *series = &metrics->series[i];
        if (atomic_load(&series->route) == route && atomic_load(&series->status) == status) {
            return series;
        }
    }
    return NULL;
}

void metrics_count_request(struct metrics *metrics, const char *route, int status)
{
    struct series *series = find_series(metrics, route, status);
    if (!series) {
        /* Rare: the first request of its kind. */
        while (atomic_flag_test_and_set(&metrics->series_lock)) {
        }
        series = find_series(metrics, route, status);
        uint32_t count = atomic_load(&metrics->series_count);
        if (!series && count < SERIES_MAX) {
            series = &metrics->series[count];
            atomic_store(&series->route, route);
            atomic_store(&series->status, status);
            atomic_store(&metrics->series_count, count + 1);
        }
        atomic_flag_clear(&metrics->series_lock);
    }
    if (series) {
        atomic_fetch_add_explicit(&series->count, 1, memory_order_relaxed);
    }
}

/* ------------------------------------------------------------------ the text */

static void write_histogram(struct metrics *metrics, enum metric_histogram which,
                            struct buffer *out)
{
    const struct histogram_spec *spec = &specs[which];
    struct histogram *histogram = &metrics->histograms[which];
    uint64_t total = 0;
    buffer_printf(out, "# HELP %s %s\n# TYPE %s histogram\n", spec->name, spec->help, spec->name);
    uint32_t bucket = 0;
    for (; bucket < BUCKETS_MAX && spec->bounds[bucket] > 0; bucket++) {
        total += atomic_load(&histogram->counts[bucket]);
        buffer_printf(out, "%s_bucket{le=\"%g\"} %llu\n", spec->name, spec->bounds[bucket],
                      (unsigned long long)total);
    }
    total += atomic_load(&histogram->counts[bucket]);
    buffer_printf(out, "%s_bucket{le=\"+Inf\"} %llu\n%s_sum %.9f\n%s_count %llu\n", spec->name,
                  (unsigned long long)total, spec->name,
                  (double)atomic_load(&histogram->sum_ns) / 1e9, spec->name,
                  (unsigned long long)total);
}

static void write_one(struct buffer *out, const char *name, const char *type, const char *help,
                      double value)
{
    buffer_printf(out, "# HELP %s %s\n# TYPE %s %s\n%s %.17g\n", name, help, name, type, name,
                  value);
}

/* Label values escape backslash, quote and newline. */
static void write_label(struct buffer *out, const char *text)
{
    for (; *text; text++) {
        if (*text == '\\' || *text == '"') {
            buffer_append_byte(out, '\\');
        }
        buffer_append_byte(out, *text == '\n' ? ' ' : *text);
    }
}

static void write_stats(const llcuda_stats *stats, struct buffer *out)
{
    const struct {
        const char *name, *type, *help;
        double value;
    } rows[] = {
        {"llcuda_requests_running", "gauge", "Sequences with a place in the cache.",
         stats->running},
        {"llcuda_requests_waiting", "gauge", "Sequences waiting for a place.", stats->waiting},
        {"llcuda_requests_paused", "gauge", "Running sequences whose reader is behind.",
         stats->paused},
        {"llcuda_kv_cache_usage_ratio", "gauge", "Cache blocks held by running sequences.",
         stats->blocks_total ? (double)stats->blocks_used / stats->blocks_total : 0},
        {"llcuda_kv_cache_blocks", "gauge", "Cache blocks of 16 positions.", stats->blocks_total},
        {"llcuda_kv_cache_blocks_used", "gauge", "Of these, held by running sequences.",
         stats->blocks_used},
        {"llcuda_kv_cache_blocks_cached", "gauge", "Of these, kept for reuse.",
         stats->blocks_cached},
        {"llcuda_engine_asleep", "gauge", "1 while weights and cache are dropped.",
         stats->asleep ? 1 : 0},
        {"llcuda_engine_requests_total", "counter", "Requests that the engine took.",
         (double)stats->requests_submitted},
        {"llcuda_engine_requests_finished_total", "counter", "Of these, ended.",
         (double)stats->requests_finished},
        {"llcuda_engine_requests_cancelled_total", "counter", "Of these, cancelled.",
         (double)stats->requests_cancelled},
        {"llcuda_engine_requests_timed_out_total", "counter", "Of these, over their time.",
         (double)stats->requests_timed_out},
        {"llcuda_engine_requests_failed_total", "counter", "Of these, failed.",
         (double)stats->requests_failed},
        {"llcuda_engine_requests_rejected_total", "counter", "Requests the engine did not take.",
         (double)stats->requests_rejected},
        {"llcuda_steps_total", "counter", "Steps of the device.", (double)stats->steps},
        {"llcuda_prompt_tokens_total", "counter", "Prompt tokens computed.",
         (double)stats->prompt_tokens},
        {"llcuda_generation_tokens_total", "counter", "Tokens generated.",
         (double)stats->generated_tokens},
        {"llcuda_prefix_cache_queries_total", "counter", "Prompt tokens looked for in the cache.",
         (double)stats->prefix_lookup_tokens},
        {"llcuda_prefix_cache_hits_total", "counter", "Of these, found.",
         (double)stats->prefix_hit_tokens},
        {"llcuda_preemptions_total", "counter", "Sequences sent back to wait.",
         (double)stats->preemptions},
        {"llcuda_kv_cache_evictions_total", "counter", "Cached blocks given up.",
         (double)stats->evictions},
        {"llcuda_step_seconds_total", "counter", "Time in device steps.",
         (double)stats->step_ns / 1e9},
        {"llcuda_host_seconds_total", "counter", "Time of the engine thread around them.",
         (double)stats->host_ns / 1e9},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        write_one(out, rows[i].name, rows[i].type, rows[i].help, rows[i].value);
    }
}

void metrics_write(struct metrics *metrics, const llcuda_stats *stats,
                   const struct metrics_gauges *gauges, struct buffer *out)
{
    buffer_append_text(out, "# HELP llcuda_build_info What is served.\n"
                            "# TYPE llcuda_build_info gauge\nllcuda_build_info{version=\"");
    write_label(out, gauges->version);
    buffer_append_text(out, "\",model=\"");
    write_label(out, gauges->model_name);
    buffer_append_text(out, "\"} 1\n");
    write_one(out, "llcuda_uptime_seconds", "gauge", "Since the server began to listen.",
              gauges->uptime_seconds);
    write_one(out, "llcuda_http_connections", "gauge", "Open connections.", gauges->connections);
    write_one(out, "llcuda_http_requests_in_flight", "gauge", "Requests being answered.",
              gauges->exchanges);
    write_one(out, "llcuda_draining", "gauge", "1 once the server has been told to stop.",
              gauges->draining ? 1 : 0);
    write_stats(stats, out);
    for (int i = 0; i < METRIC_HISTOGRAM_COUNT; i++) {
        write_histogram(metrics, (enum metric_histogram)i, out);
    }
    buffer_append_text(out, "# HELP llcuda_http_requests_total Requests by route and status; 0: "
                            "the client left first.\n# TYPE llcuda_http_requests_total counter\n");
    uint32_t count = atomic_load(&metrics->series_count);
    for (uint32_t i = 0; i < count; i++) {
        struct series *series = &metrics->series[i];
        buffer_printf(out, "llcuda_http_requests_total{path=\"%s\",status=\"%d\"} %llu\n",
                      atomic_load(&series->route), atomic_load(&series->status),
                      (unsigned long long)atomic_load(&series->count));
    }
}
