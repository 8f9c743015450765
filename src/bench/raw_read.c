/* Owns the reading of raw files. They are read as a stream, a line at a time; samples go to pools
 * of floats, sums of the run to its figures. Files may have been edited: every member is checked.
 */
#include "bench/raw_read.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/json.h"
#include "bench/operations_compare.h"

#define RUN_SAMPLES_MAX (1ull << 28)

/* Sums of one point of this run. */
struct run_sums {
    bool seen;
    double wall_s, prompt_tokens, output_tokens, good;
    double sums[SPREAD_METRICS];
    uint64_t counts[SPREAD_METRICS];
    double stream_tokens, stream_ms; /* after the first token */
    double token_ms;                 /* tokens in flight × how long they were */
    uint64_t ok, failed;
    double memory_peak, memory_mean, engine_cpu_s, harness_cpu_s, energy_j, gpu_power_w, gpu;
    double gpu_memory_peak, gpu_throttled, stolen;
};

struct reading {
    struct analysis *analysis;
    uint32_t engine, repeat;
    struct run_sums *runs;           /* [point_count] */
    uint32_t last_point;             /* samples of a point stand together */
    double kv_bytes, kv_bytes_token; /* of the engine's cache, as it says; NaN */
};

static double number_of(const struct json_value *object, const char *key)
{
    double value = NAN;
    json_number(json_member(object, key), &value);
    return value;
}

static void copy_text(const struct json_value *value, char *out, size_t bytes)
{
    struct text_view text = json_text(value);
    snprintf(out, bytes, "%.*s", TEXT_ARGUMENTS(text));
}

static bool find_point(struct reading *reading, const struct json_value *root, uint32_t *out)
{
    const struct analysis *analysis = reading->analysis;
    struct text_view workload = json_text(json_member(root, "workload"));
    struct text_view point = json_text(json_member(root, "point"));
    for (uint32_t i = 0; i < analysis->point_count; i++) {
        uint32_t place = (reading->last_point + i) % analysis->point_count;
        const struct config_point *candidate = &analysis->points[place];
        if (text_view_is(point, candidate->key) &&
            text_view_is(workload, analysis->config->workloads[candidate->workload].name)) {
            reading->last_point = *out = place;
            return true;
        }
    }
    return false;
}

static bool pool_add(struct pool *pool, uint32_t run, double value)
{
    if (pool->count == pool->capacity) {
        uint64_t capacity = pool->capacity ? pool->capacity * 2 : 256;
        float *values =
            capacity > RUN_SAMPLES_MAX ? NULL : realloc(pool->values, capacity * sizeof *values);
        if (!values) {
            return false;
        }
        pool->values = values;
        pool->capacity = capacity;
    }
    pool->values[pool->count++] = (float)value;
    pool->run_counts[run]++;
    return true;
}

static bool add_value(struct reading *reading, uint32_t point, enum metric metric, double value)
{
    struct cell *cell = analysis_cell(reading->analysis, reading->engine, point);
    reading->runs[point].sums[metric] += value;
    reading->runs[point].counts[metric]++;
    return pool_add(&cell->pools[metric], cell->run_count, value);
}

static bool read_sample(struct reading *reading, const struct json_value *root)
{
    uint32_t point;
    if (!find_point(reading, root, &point)) {
        return false;
    }
    const struct config *config = reading->analysis->config;
    const struct config_workload *workload =
        &config->workloads[reading->analysis->points[point].workload];
    struct run_sums *run = &reading->runs[point];
    struct cell *cell = analysis_cell(reading->analysis, reading->engine, point);
    double first = number_of(root, "first_us") / 1e3;
    double last = number_of(root, "last_us") / 1e3;
    double late = number_of(root, "late_us") / 1e3;
    double prompt = number_of(root, "prompt_tokens");
    double output = number_of(root, "output_tokens");
    bool ok = json_bool(json_member(root, "ok"), false);
    if (isnan(first) || isnan(last) || isnan(late) || isnan(prompt) || isnan(output)) {
        return false;
    }
    cell->requests++;
    bool fine = add_value(reading, point, METRIC_LATE, late);
    if (!ok) {
        run->failed++;
        cell->failed++;
        return fine;
    }
    double tpot = output > 1 && last > first ? (last - first) / (output - 1) : NAN;
    run->ok++;
    run->prompt_tokens += prompt;
    run->output_tokens += output;
    run->token_ms += (prompt + output / 2) * last;
    if (first > 0) {
        fine = fine && add_value(reading, point, METRIC_TTFT, first);
    }
    fine = fine && add_value(reading, point, METRIC_E2E, last);
    if (tpot > 0) {
        fine = fine && add_value(reading, point, METRIC_TPOT, tpot);
        run->stream_tokens += output - 1;
        run->stream_ms += last - first;
    }
    bool good =
        (workload->goodput_ttft_ms <= 0 || first <= workload->goodput_ttft_ms) &&
        (workload->goodput_e2e_ms <= 0 || last <= workload->goodput_e2e_ms) &&
        (workload->goodput_tpot_ms <= 0 || isnan(tpot) || tpot <= workload->goodput_tpot_ms);
    run->good += good;
    return fine;
}

static bool read_point(struct reading *reading, const struct json_value *root)
{
    uint32_t point;
    if (!find_point(reading, root, &point)) {
        return false;
    }
    struct run_sums *run = &reading->runs[point];
    struct cell *cell = analysis_cell(reading->analysis, reading->engine, point);
    *run = (struct run_sums){.seen = true,
                             .wall_s = number_of(root, "wall_s"),
                             .memory_peak = number_of(root, "memory_peak_bytes"),
                             .memory_mean = number_of(root, "memory_mean_bytes"),
                             .engine_cpu_s = number_of(root, "engine_cpu_s"),
                             .harness_cpu_s = number_of(root, "harness_cpu_s"),
                             .energy_j = number_of(root, "cpu_energy_j"),
                             .gpu = number_of(root, "gpu_mean"),
                             .gpu_memory_peak = number_of(root, "gpu_memory_peak_bytes"),
                             .gpu_throttled = number_of(root, "gpu_throttled_share"),
                             .gpu_power_w = number_of(root, "gpu_power_mean_w"),
                             .stolen = number_of(root, "stolen_share")};
    if (!cell->first_failure[0]) {
        copy_text(json_member(root, "first_failure"), cell->first_failure,
                  sizeof cell->first_failure);
    }
    return run->wall_s > 0;
}

static bool read_gaps(struct reading *reading, const struct json_value *root)
{
    uint32_t point;
    if (!find_point(reading, root, &point)) {
        return false;
    }
    JSON_EACH(gap, json_member(root, "gaps_us"))
    {
        double value;
        if (!json_number(gap, &value) || !add_value(reading, point, METRIC_ITL, value / 1e3)) {
            return false;
        }
    }
    return true;
}

static bool read_session(struct reading *reading, const struct json_value *root)
{
    struct engine_result *engine = &reading->analysis->engines[reading->engine];
    const struct json_value *hello = json_member(root, "hello");
    const struct json_value *details = json_member(json_member(root, "load"), "details");
    double start = number_of(root, "start_ms");
    reading->kv_bytes = number_of(details, "kv_bytes");
    reading->kv_bytes_token = number_of(details, "kv_bytes_per_token");
    engine->gpu_before_bytes =
        fmax(engine->gpu_before_bytes, number_of(root, "gpu_memory_before_bytes"));
    engine->sessions++;
    engine->start_ms += isnan(start) ? 0 : start;
    const struct json_value *const versions[] = {
        json_member(hello, "engine_version"),
        json_member(json_member(root, "load"), "engine_version"),
        json_member(root, "engine_version")};
    for (size_t i = 0; i < 3 && !engine->version[0]; i++) {
        copy_text(versions[i], engine->version, sizeof engine->version);
    }
    if (!engine->details[0] && json_is(details, JSON_OBJECT)) {
        struct buffer text = {0};
        struct json_writer writer;
        json_writer_init(&writer, &text, 0);
        json_write_value(&writer, details);
        snprintf(engine->details, sizeof engine->details, "%s", buffer_text(&text));
        buffer_deinit(&text);
    }
    return true;
}

static bool read_failure(struct reading *reading, const struct json_value *root)
{
    struct engine_result *engine = &reading->analysis->engines[reading->engine];
    engine->failed = true;
    engine->sessions_failed++;
    if (!engine->reason[0]) {
        copy_text(json_member(root, "reason"), engine->reason, sizeof engine->reason);
        copy_text(json_member(root, "log"), engine->log, sizeof engine->log);
    }
    return true;
}

static bool read_answer(struct reading *reading, const struct json_value *root)
{
    struct analysis *analysis = reading->analysis;
    uint32_t prompts = analysis->config->analysis.token_prompts;
    const struct json_value *ids = json_member(root, "ids");
    struct text_view text = json_text(json_member(root, "text"));
    int64_t prompt;
    if (!json_integer(json_member(root, "prompt"), 0, (int64_t)prompts - 1, &prompt)) {
        return false;
    }
    struct answer *answer = &analysis->answers[reading->engine * prompts + (uint32_t)prompt];
    free(answer->text);
    free(answer->ids);
    *answer =
        (struct answer){.present = true, .text = strndup(text.data ? text.data : "", text.length)};
    if (json_is(ids, JSON_ARRAY)) {
        answer->ids = calloc(ids->count + 1, sizeof *answer->ids);
        JSON_EACH(item, ids)
        {
            int64_t id;
            if (answer->ids && json_integer(item, 0, UINT32_MAX, &id)) {
                answer->ids[answer->id_count++] = (uint32_t)id;
            }
        }
    }
    return answer->text && (!json_is(ids, JSON_ARRAY) || answer->ids);
}

static bool read_monitor(struct reading *reading, const struct json_value *root)
{
    struct analysis *analysis = reading->analysis;
    uint32_t *count = &analysis->monitor_count[reading->engine];
    if (reading->repeat == 0 && *count < MONITOR_POINTS_MAX &&
        !analysis->config->engines[reading->engine].replayed) {
        analysis->monitor[reading->engine * MONITOR_POINTS_MAX + (*count)++] =
            (struct monitor_point){.seconds = (float)number_of(root, "seconds"),
                                   .memory_mb = (float)(number_of(root, "memory_bytes") / 1e6),
                                   .processor = (float)number_of(root, "processor"),
                                   .gpu = (float)number_of(root, "gpu"),
                                   .power_w = (float)number_of(root, "gpu_power_w")};
    }
    return true;
}

static bool read_metrics(struct reading *reading, const struct json_value *root)
{
    const struct json_value *metrics = json_member(json_member(root, "answer"), "metrics");
    double host = number_of(metrics, "host_ns");
    double step = number_of(metrics, "step_ns");
    reading->analysis->engines[reading->engine].steps_host_share = host / step;
    return true;
}

/* A folder whose configuration does not ask any more has lines that nobody needs. */
static bool read_profile(struct reading *reading, const struct json_value *root)
{
    struct analysis *analysis = reading->analysis;
    const struct json_value *answer = json_member(root, "answer");
    struct operation_answer told;
    if (!analysis->operations) {
        return true;
    }
    if (json_is(answer, JSON_OBJECT)) {
        bool fine = !operations_read(answer, &analysis->config->analysis, &told, NULL);
        if (fine) {
            operations_add(analysis, reading->engine, reading->repeat, &told);
        }
        return fine;
    }
    struct engine_operations *engine = &analysis->operations[reading->engine];
    engine->failed++;
    if (!engine->reason[0]) {
        copy_text(json_member(root, "reason"), engine->reason, sizeof engine->reason);
    }
    return true;
}

static bool ignore_line(struct reading *reading, const struct json_value *root)
{
    (void)reading;
    (void)root;
    return true;
}

static bool take_line(struct reading *reading, struct text_view line)
{
    static const struct {
        const char *kind;
        bool (*read)(struct reading *, const struct json_value *);
    } kinds[] = {{"sample", read_sample},   {"point", read_point},     {"gaps", read_gaps},
                 {"session", read_session}, {"failure", read_failure}, {"tokens", read_answer},
                 {"monitor", read_monitor}, {"metrics", read_metrics}, {"profile", read_profile},
                 {"end", ignore_line}};
    struct json_document *document = NULL;
    bool fine = false;
    if (json_parse(line, NULL, &document, NULL)) {
        return false;
    }
    struct text_view kind = json_text(json_member(json_root(document), "kind"));
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (text_view_is(kind, kinds[i].kind)) {
            fine = kinds[i].read(reading, json_root(document));
            break;
        }
    }
    json_destroy(document);
    return fine;
}

/* Joules of a run. The power of a GPU that an engine on the CPU leaves alone is none of its. */
static double energy_of(const struct reading *reading, const struct run_sums *run)
{
    const char *device = reading->analysis->config->engines[reading->engine].device;
    bool uses_gpu = strncmp(device, "cpu", 3) != 0 || run->gpu > 0;
    return (isnan(run->energy_j) ? 0 : run->energy_j) +
           (isnan(run->gpu_power_w) || !uses_gpu ? 0 : run->gpu_power_w * run->wall_s);
}

/* What a tool took while it was measured is not known: the adapter that tells its samples took
 * these. */
static void forget_resources(double *figures)
{
    static const enum metric resources[] = {
        METRIC_MEMORY_PEAK, METRIC_MEMORY_MEAN, METRIC_KV_EFFICIENCY, METRIC_CPU_PER_TOKEN,
        METRIC_GPU,         METRIC_GPU_MEMORY,  METRIC_GPU_THROTTLED, METRIC_ENERGY};
    for (size_t i = 0; i < sizeof resources / sizeof resources[0]; i++) {
        figures[resources[i]] = NAN;
    }
}

/* What this run adds to each figure of its cells. */
static void close_runs(struct reading *reading)
{
    for (uint32_t point = 0; point < reading->analysis->point_count; point++) {
        const struct run_sums *run = &reading->runs[point];
        struct cell *cell = analysis_cell(reading->analysis, reading->engine, point);
        if (!run->seen) {
            continue;
        }
        double wall = run->wall_s;
        double tokens = run->prompt_tokens + run->output_tokens;
        double energy = energy_of(reading, run);
        double figures[METRIC_COUNT];
        for (int m = 0; m < METRIC_COUNT; m++) {
            figures[m] =
                m < SPREAD_METRICS && run->counts[m] ? run->sums[m] / (double)run->counts[m] : NAN;
        }
        figures[METRIC_TOKENS_S] = run->output_tokens / wall;
        figures[METRIC_TOTAL_TOKENS_S] = tokens / wall;
        figures[METRIC_USER_TOKENS_S] =
            run->stream_ms > 0 ? run->stream_tokens / run->stream_ms * 1e3 : NAN;
        figures[METRIC_REQUESTS_S] = (double)run->ok / wall;
        figures[METRIC_GOODPUT_S] = run->good / wall;
        figures[METRIC_FAILED] = (double)run->failed / (double)(run->failed + run->ok);
        figures[METRIC_MEMORY_PEAK] = run->memory_peak / 1e6;
        figures[METRIC_MEMORY_MEAN] = run->memory_mean / 1e6;
        figures[METRIC_KV_EFFICIENCY] =
            reading->kv_bytes > 0
                ? run->token_ms / 1e3 / wall * reading->kv_bytes_token / reading->kv_bytes
                : NAN;
        figures[METRIC_CPU_PER_TOKEN] = tokens > 0 ? run->engine_cpu_s * 1e3 / tokens : NAN;
        figures[METRIC_OVERHEAD] = run->harness_cpu_s / wall;
        figures[METRIC_STOLEN] = run->stolen;
        figures[METRIC_GPU] = run->gpu;
        figures[METRIC_GPU_MEMORY] = run->gpu_memory_peak / 1e6;
        figures[METRIC_GPU_THROTTLED] = run->gpu_throttled;
        figures[METRIC_ENERGY] =
            energy > 0 && run->output_tokens > 0 ? energy / run->output_tokens : NAN;
        if (reading->analysis->config->engines[reading->engine].replayed) {
            forget_resources(figures);
        }
        for (int m = 0; m < METRIC_COUNT; m++) {
            cell->figures[m].runs[cell->run_count] = figures[m];
        }
        cell->run_count++;
        cell->measured = cell->measured || run->ok > 0;
    }
}

llcuda_status raw_read(struct analysis *analysis, uint32_t engine, uint32_t repeat,
                       const char *path, struct llcuda_error *error)
{
    struct reading reading = {.analysis = analysis,
                              .engine = engine,
                              .repeat = repeat,
                              .kv_bytes = NAN,
                              .kv_bytes_token = NAN};
    char *line = NULL;
    size_t capacity = 0;
    size_t number = 0;
    ssize_t length;
    FILE *file = fopen(path, "re");
    if (!file) {
        return error_from_errno(error, errno, "read", path);
    }
    llcuda_status status = LLCUDA_OK;
    reading.runs = calloc(analysis->point_count, sizeof *reading.runs);
    if (!reading.runs) {
        status = error_no_memory(error, "runs", analysis->point_count * sizeof *reading.runs);
    }
    while (!status && (length = getline(&line, &capacity, file)) > 0) {
        number++;
        if (!take_line(&reading, text_view_make(line, (size_t)length))) {
            status = error_set(error, LLCUDA_BAD_FORMAT,
                               "%s:%zu: this is no line of this run's raw data", path, number);
        }
    }
    if (!status) {
        close_runs(&reading);
    }
    free(reading.runs);
    free(line);
    fclose(file);
    return status;
}
