/* Owns an analysis: its memory, the figures of cells, the ranking, the comparison of greedy tokens
 * and of engines with the baseline. */
#include "bench/analysis.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"
#include "bench/operations_compare.h"
#include "bench/raw_read.h"
#include "bench/runner.h"

const struct metric_row metric_rows[METRIC_COUNT] = {
#define METRIC_ROW(id, key, title, unit, higher, formula) {key, title, unit, higher, formula},
    METRIC_LIST(METRIC_ROW)
#undef METRIC_ROW
};

const struct derived_row derived_rows[DERIVED_COUNT] = {
#define DERIVED_ROW(key, title, unit, formula) {key, title, unit, formula},
    DERIVED_LIST(DERIVED_ROW)
#undef DERIVED_ROW
};

static const double percentiles[PERCENTILE_COUNT] = {0.50, 0.95, 0.99};

void analysis_close(struct analysis *analysis)
{
    if (!analysis) {
        return;
    }
    uint32_t engines = analysis->config ? analysis->config->engine_count : 0;
    uint32_t prompts = analysis->config ? analysis->config->analysis.token_prompts : 0;
    for (uint32_t i = 0; analysis->cells && i < engines * analysis->point_count; i++) {
        struct cell *cell = &analysis->cells[i];
        for (int m = 0; m < METRIC_COUNT; m++) {
            free(cell->figures[m].runs);
            free(cell->figures[m].outliers);
        }
        for (int m = 0; m < SPREAD_METRICS; m++) {
            free(cell->pools[m].values);
            free(cell->pools[m].run_counts);
        }
    }
    for (uint32_t i = 0; analysis->answers && i < engines * prompts; i++) {
        free(analysis->answers[i].text);
        free(analysis->answers[i].ids);
    }
    operations_close(analysis);
    free(analysis->cells);
    free(analysis->answers);
    free(analysis->engines);
    free(analysis->comparisons);
    free(analysis->points);
    free(analysis->first_point);
    free(analysis->monitor);
    free(analysis->monitor_count);
    free(analysis->folder);
    free(analysis->host_json);
    free(analysis->roofline);
    config_destroy(analysis->config);
    free(analysis);
}

static bool make_points(struct analysis *analysis)
{
    const struct config *config = analysis->config;
    struct config_point points[CONFIG_LIST_MAX * CONFIG_LIST_MAX];
    uint32_t total = 0;
    for (uint32_t w = 0; w < config->workload_count; w++) {
        total += config_points(config, w, points);
    }
    analysis->points = calloc(total, sizeof *analysis->points);
    analysis->first_point = calloc(config->workload_count + 1, sizeof *analysis->first_point);
    if (!analysis->points || !analysis->first_point) {
        return false;
    }
    for (uint32_t w = 0; w < config->workload_count; w++) {
        uint32_t count = config_points(config, w, points);
        analysis->first_point[w] = analysis->point_count;
        memcpy(analysis->points + analysis->point_count, points, count * sizeof *points);
        analysis->point_count += count;
    }
    analysis->first_point[config->workload_count] = analysis->point_count;
    return true;
}

static bool make_tables(struct analysis *analysis)
{
    const struct config *config = analysis->config;
    uint32_t engines = config->engine_count;
    if (!make_points(analysis)) {
        return false;
    }
    uint32_t cells = engines * analysis->point_count;
    analysis->engines = calloc(engines, sizeof *analysis->engines);
    analysis->cells = calloc(cells, sizeof *analysis->cells);
    analysis->answers =
        calloc((size_t)engines * config->analysis.token_prompts + 1, sizeof *analysis->answers);
    analysis->comparisons = calloc((size_t)cells * COMPARE_COUNT, sizeof *analysis->comparisons);
    analysis->monitor = calloc((size_t)engines * MONITOR_POINTS_MAX, sizeof *analysis->monitor);
    analysis->monitor_count = calloc(engines, sizeof *analysis->monitor_count);
    bool fine = analysis->engines && analysis->cells && analysis->answers &&
                analysis->comparisons && analysis->monitor && analysis->monitor_count;
    for (uint32_t i = 0; fine && i < cells; i++) {
        for (int m = 0; fine && m < METRIC_COUNT; m++) {
            struct figure *figure = &analysis->cells[i].figures[m];
            figure->runs = calloc(config->repeats, sizeof *figure->runs);
            figure->outliers = calloc(config->repeats, sizeof *figure->outliers);
            fine = figure->runs && figure->outliers;
        }
        for (int m = 0; fine && m < SPREAD_METRICS; m++) {
            struct pool *pool = &analysis->cells[i].pools[m];
            pool->run_counts = calloc(config->repeats, sizeof *pool->run_counts);
            fine = pool->run_counts != NULL;
        }
    }
    for (uint32_t i = 0; fine && i < engines; i++) {
        analysis->engines[i].steps_host_share = analysis->engines[i].rank_score = NAN;
        analysis->engines[i].gpu_before_bytes = NAN;
        analysis->baseline = config->engines[i].baseline ? i : analysis->baseline;
    }
    return fine && operations_open(analysis);
}

/* ---------------------------------------------------------------- figures */

static void compute_figure(struct figure *figure, uint32_t run_count,
                           const struct config_analysis *options)
{
    double *values = malloc((run_count + 1) * sizeof *values);
    uint32_t kept = 0;
    figure->count = 0;
    for (uint32_t i = 0; values && i < run_count; i++) {
        if (!isnan(figure->runs[i])) {
            values[figure->count++] = figure->runs[i];
        }
    }
    figure->mean = values ? stats_mean(values, figure->count) : NAN;
    figure->deviation = values ? stats_deviation(values, figure->count) : NAN;
    figure->variation = values ? stats_variation(values, figure->count) : NAN;
    figure->interval = values ? stats_mean_interval(values, figure->count, options->confidence)
                              : (struct interval){NAN, NAN};
    figure->outlier_count =
        values && figure->count == run_count
            ? (uint32_t)stats_outliers(figure->runs, run_count, figure->outliers)
            : 0;
    for (uint32_t i = 0; values && i < run_count; i++) {
        if (!isnan(figure->runs[i]) && !figure->outliers[i]) {
            values[kept++] = figure->runs[i];
        }
    }
    figure->mean_without_outliers =
        values && options->remove_outliers ? stats_mean(values, kept) : NAN;
    free(values);
}

static void compute_spread(struct spread *spread, const struct pool *pool, uint32_t run_count,
                           double confidence)
{
    double *values = pool->count ? malloc(pool->count * sizeof *values) : NULL;
    struct stats_sample *samples = values ? malloc(pool->count * sizeof *samples) : NULL;
    *spread = (struct spread){.count = pool->count, .minimum = NAN, .maximum = NAN};
    for (int p = 0; p < PERCENTILE_COUNT; p++) {
        spread->at[p] = NAN;
        spread->interval[p] = (struct interval){NAN, NAN};
    }
    if (!samples) {
        free(values);
        return;
    }
    uint64_t filled = 0;
    for (uint32_t r = 0; r < run_count; r++) {
        for (uint64_t i = 0; i < pool->run_counts[r]; i++, filled++) {
            samples[filled] = (struct stats_sample){(double)pool->values[filled], r};
        }
    }
    stats_sort_samples(samples, pool->count);
    for (uint64_t i = 0; i < pool->count; i++) {
        values[i] = samples[i].value;
    }
    spread->outlier_count = stats_outliers(values, pool->count, NULL);
    spread->minimum = values[0];
    spread->maximum = values[pool->count - 1];
    for (int p = 0; p < PERCENTILE_COUNT; p++) {
        spread->at[p] = stats_quantile(values, pool->count, percentiles[p]);
        spread->interval[p] = stats_quantile_interval_runs(samples, pool->count, run_count,
                                                           percentiles[p], confidence);
    }
    free(samples);
    free(values);
}

static double price_of(const struct config *config, uint32_t engine)
{
    double own = config->engines[engine].price_per_hour;
    return own > 0 ? own : config->prices.machine_per_hour;
}

static void compute_cells(struct analysis *analysis)
{
    const struct config *config = analysis->config;
    for (uint32_t e = 0; e < config->engine_count; e++) {
        for (uint32_t p = 0; p < analysis->point_count; p++) {
            struct cell *cell = analysis_cell(analysis, e, p);
            for (int m = 0; m < METRIC_COUNT; m++) {
                compute_figure(&cell->figures[m], cell->run_count, &config->analysis);
            }
            for (int m = 0; m < SPREAD_METRICS; m++) {
                compute_spread(&cell->spreads[m], &cell->pools[m], config->repeats,
                               config->analysis.confidence);
            }
            double price = price_of(config, e);
            double speed = cell->figures[METRIC_TOKENS_S].mean;
            double joules = cell->figures[METRIC_ENERGY].mean;
            cell->cost_per_million = price > 0 ? price / (speed * 3600) * 1e6 : NAN;
            if (config->prices.kwh > 0 && isfinite(joules)) {
                cell->cost_per_million += config->prices.kwh * joules / 3.6; /* 3.6 MJ a kWh */
            }
            analysis->engines[e].ran = analysis->engines[e].ran || cell->measured;
        }
        struct engine_result *engine = &analysis->engines[e];
        engine->start_ms = engine->sessions ? engine->start_ms / engine->sessions : NAN;
    }
}

/* Against the lowest level with the same prompt length. */
static void compute_scaling(struct analysis *analysis)
{
    for (uint32_t e = 0; e < analysis->config->engine_count; e++) {
        for (uint32_t p = 0; p < analysis->point_count; p++) {
            const struct config_point *point = &analysis->points[p];
            uint32_t lowest = p;
            for (uint32_t q = 0; q < analysis->point_count; q++) {
                const struct config_point *other = &analysis->points[q];
                if (other->workload == point->workload && other->length == point->length &&
                    other->level < analysis->points[lowest].level) {
                    lowest = q;
                }
            }
            struct cell *cell = analysis_cell(analysis, e, p);
            double base = analysis_cell(analysis, e, lowest)->figures[METRIC_TOKENS_S].mean;
            cell->scaling = cell->figures[METRIC_TOKENS_S].mean / base;
            cell->batch_efficiency = cell->scaling * analysis->points[lowest].level / point->level;
        }
    }
}

/* The engine that differs from engine e in having one rank only; UINT32_MAX when there is none. */
static uint32_t single_rank(const struct analysis *analysis, uint32_t e)
{
    const struct config *config = analysis->config;
    for (uint32_t o = 0; o < config->engine_count; o++) {
        const struct config_engine *one = &config->engines[o];
        if (one->ranks == 1 && strcmp(one->type, config->engines[e].type) == 0 &&
            strcmp(one->device, config->engines[e].device) == 0 &&
            strcmp(one->model, config->engines[e].model) == 0 &&
            one->threads == config->engines[e].threads) {
            return o;
        }
    }
    return UINT32_MAX;
}

static void compute_ranks(struct analysis *analysis)
{
    for (uint32_t e = 0; e < analysis->config->engine_count; e++) {
        uint32_t ranks = analysis->config->engines[e].ranks;
        uint32_t one = ranks > 1 ? single_rank(analysis, e) : UINT32_MAX;
        for (uint32_t p = 0; p < analysis->point_count; p++) {
            struct cell *cell = analysis_cell(analysis, e, p);
            cell->speedup = cell->rank_efficiency = NAN;
            if (one != UINT32_MAX) {
                cell->speedup = cell->figures[METRIC_TOKENS_S].mean /
                                analysis_cell(analysis, one, p)->figures[METRIC_TOKENS_S].mean;
                cell->rank_efficiency = cell->speedup / ranks;
            }
        }
    }
}

/* ---------------------------------------------------------------- comparisons */

uint32_t analysis_run_values(const struct cell *cell, enum metric metric, double *out)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < cell->run_count; i++) {
        if (!isnan(cell->figures[metric].runs[i])) {
            out[count++] = cell->figures[metric].runs[i];
        }
    }
    return count;
}

static bool compare_engines(struct analysis *analysis)
{
    const struct config *config = analysis->config;
    double *a = malloc(config->repeats * sizeof *a);
    double *b = malloc(config->repeats * sizeof *b);
    for (uint32_t e = 0; a && b && e < config->engine_count; e++) {
        for (uint32_t p = 0; e != analysis->baseline && p < analysis->point_count; p++) {
            for (int m = 0; m < COMPARE_COUNT; m++) {
                enum metric metric = analysis_compared(analysis, p, m);
                uint32_t a_count =
                    analysis_run_values(analysis_cell(analysis, analysis->baseline, p), metric, a);
                uint32_t b_count = analysis_run_values(analysis_cell(analysis, e, p), metric, b);
                if (a_count && b_count) {
                    struct comparison *comparison =
                        &analysis->comparisons[analysis->comparison_count++];
                    comparison->engine = e;
                    comparison->point = p;
                    comparison_make(comparison, metric, a, a_count, b, b_count, &config->analysis);
                }
            }
        }
    }
    comparisons_correct(analysis->comparisons, analysis->comparison_count);
    for (uint32_t i = 0; i < analysis->comparison_count; i++) {
        struct comparison *comparison = &analysis->comparisons[i];
        comparison_decide(comparison, &config->analysis, config->engines[comparison->engine].name,
                          config->engines[analysis->baseline].name);
    }
    bool fine = a && b;
    free(a);
    free(b);
    return fine;
}

/* The geometric mean, over points that both have, of speed against the baseline. */
static void rank_engines(struct analysis *analysis)
{
    uint32_t count = analysis->config->engine_count;
    for (uint32_t e = 0; e < count; e++) {
        double sum = 0;
        uint32_t points = 0;
        for (uint32_t p = 0; p < analysis->point_count; p++) {
            enum metric metric = analysis_compared(analysis, p, COMPARE_SPEED);
            double own = analysis_cell(analysis, e, p)->figures[metric].mean;
            double base = analysis_cell(analysis, analysis->baseline, p)->figures[metric].mean;
            if (own > 0 && base > 0) {
                sum += metric_rows[metric].higher_is_better ? log(own / base) : log(base / own);
                points++;
            }
        }
        analysis->engines[e].rank_score = points ? exp(sum / points) : NAN;
    }
    for (uint32_t e = 0; e < count; e++) {
        struct engine_result *engine = &analysis->engines[e];
        engine->rank = isnan(engine->rank_score) ? 0u : 1u;
        for (uint32_t o = 0; engine->rank && o < count; o++) {
            if (analysis->engines[o].rank_score > engine->rank_score) {
                engine->rank++;
            }
        }
    }
}

/* ---------------------------------------------------------------- greedy tokens */

int64_t analysis_first_difference(const struct answer *a, const struct answer *b)
{
    if (a->ids && b->ids) {
        uint32_t shorter = a->id_count < b->id_count ? a->id_count : b->id_count;
        for (uint32_t i = 0; i < shorter; i++) {
            if (a->ids[i] != b->ids[i]) {
                return i;
            }
        }
        /* Some engines report the token that ended the answer, others do not. */
        uint32_t longer = a->id_count > b->id_count ? a->id_count : b->id_count;
        return longer - shorter <= 1 ? -1 : (int64_t)shorter;
    }
    size_t i = 0;
    while (a->text[i] && a->text[i] == b->text[i]) {
        i++;
    }
    return a->text[i] == b->text[i] ? -1 : (int64_t)i;
}

static void compare_tokens(struct analysis *analysis)
{
    const struct config *config = analysis->config;
    uint32_t prompts = config->analysis.token_prompts;
    analysis->reference = UINT32_MAX;
    for (uint32_t e = 0; e < config->engine_count && prompts; e++) {
        const struct answer *answers = &analysis->answers[e * prompts];
        bool baseline = e == analysis->baseline && answers[0].present;
        if ((analysis->reference == UINT32_MAX && answers[0].present) || baseline) {
            analysis->reference = e;
        }
    }
    for (uint32_t e = 0; e < config->engine_count && analysis->reference != UINT32_MAX; e++) {
        struct engine_result *engine = &analysis->engines[e];
        for (uint32_t i = 0; i < prompts; i++) {
            const struct answer *own = &analysis->answers[e * prompts + i];
            const struct answer *other = &analysis->answers[analysis->reference * prompts + i];
            if (!own->present || !other->present) {
                continue;
            }
            int64_t at = analysis_first_difference(other, own);
            engine->tokens_checked++;
            engine->tokens_agreeing += at < 0;
            if (at >= 0 && !engine->first_difference[0]) {
                snprintf(engine->first_difference, sizeof engine->first_difference,
                         "prompt %u differs at %s %lld: '%.100s' instead of '%.100s'", i + 1,
                         own->ids && other->ids ? "token" : "byte", (long long)at, own->text,
                         other->text);
            }
        }
    }
}

/* ---------------------------------------------------------------- the whole */

double analysis_worst(const struct analysis *analysis, enum metric metric, uint32_t *engine,
                      uint32_t *point)
{
    double most = NAN;
    for (uint32_t e = 0; e < analysis->config->engine_count; e++) {
        for (uint32_t p = 0; p < analysis->point_count; p++) {
            double mean = analysis_cell(analysis, e, p)->figures[metric].mean;
            if (mean > most || (isnan(most) && !isnan(mean))) {
                most = mean;
                *engine = e;
                *point = p;
            }
        }
    }
    return most;
}

double analysis_steal_limit(const struct analysis *analysis)
{
    double limit = analysis->config->system.steal_limit;
    return limit > 0 ? limit : 0.05;
}

static uint32_t count_set_aside(const char *raw_path)
{
    uint32_t count = 0;
    bool more = true;
    while (more) {
        char *path = runner_set_aside_path(raw_path, count + 1);
        more = path && file_exists(path);
        count += more;
        free(path);
    }
    return count;
}

static llcuda_status read_sessions(struct analysis *analysis, struct llcuda_error *error)
{
    const struct config *config = analysis->config;
    llcuda_status status = LLCUDA_OK;
    for (uint32_t e = 0; !status && e < config->engine_count; e++) {
        for (uint32_t r = 0; !status && r < config->repeats; r++) {
            char *path = runner_raw_path(config, analysis->folder, e, r);
            if (!path) {
                return error_no_memory(error, "a path", 1);
            }
            if (file_exists(path)) {
                status = raw_read(analysis, e, r, path, error);
            }
            analysis->engines[e].sessions_set_aside += count_set_aside(path);
            free(path);
        }
    }
    return status;
}

static llcuda_status read_folder(struct analysis *analysis, struct llcuda_error *error)
{
    static const struct config_places places = {"llcuda", "engines", "python3"};
    struct buffer host = {0};
    char *config = file_path_join(analysis->folder, "config.yaml");
    char *record = file_path_join(analysis->folder, "host.json");
    llcuda_status status = config && record
                               ? config_read(config, NULL, &places, &analysis->config, error)
                               : error_no_memory(error, "a path", 1);
    if (!status && file_exists(record)) {
        status = file_read_all(record, 1u << 20, &host, error);
    }
    if (!status) {
        analysis->host_json = strdup(host.length ? buffer_text(&host) : "{}");
        status = analysis->host_json && make_tables(analysis)
                     ? LLCUDA_OK
                     : error_no_memory(error, "an analysis", sizeof *analysis);
    }
    buffer_deinit(&host);
    free(config);
    free(record);
    return status;
}

/* kernels.json, when there is one. */
static llcuda_status read_kernels(struct analysis *analysis, struct llcuda_error *error)
{
    struct buffer text = {0};
    char *path = file_path_join(analysis->folder, "kernels.json");
    llcuda_status status = path ? LLCUDA_OK : error_no_memory(error, "a path", 1);
    if (!status && file_exists(path)) {
        analysis->roofline = malloc(sizeof *analysis->roofline);
        status = analysis->roofline ? file_read_all(path, 1u << 22, &text, error)
                                    : error_no_memory(error, "a roofline", 1);
        if (!status) {
            status = roofline_read(buffer_view(&text), analysis->roofline, error);
        }
    }
    buffer_deinit(&text);
    free(path);
    return status;
}

llcuda_status analysis_open(const char *folder, struct analysis **out, struct llcuda_error *error)
{
    struct analysis *analysis = calloc(1, sizeof *analysis);
    llcuda_status status = LLCUDA_OK;
    if (!analysis || !(analysis->folder = strdup(folder))) {
        free(analysis);
        return error_no_memory(error, "an analysis", sizeof *analysis);
    }
    status = read_folder(analysis, error);
    if (!status) {
        status = read_sessions(analysis, error);
    }
    if (!status) {
        status = read_kernels(analysis, error);
    }
    if (!status) {
        compute_cells(analysis);
        compute_scaling(analysis);
        compute_ranks(analysis);
        rank_engines(analysis);
        compare_tokens(analysis);
        status = compare_engines(analysis) ? LLCUDA_OK : error_no_memory(error, "tests", 1);
    }
    if (status) {
        analysis_close(analysis);
        return status;
    }
    *out = analysis;
    return LLCUDA_OK;
}
