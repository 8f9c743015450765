/* Owns summary.json. Numbers that could not be measured are null, never left out and never 0. */
#include "bench/report_parts.h"

#include "base/json.h"
#include "build_config.h"

static void key_text(struct json_writer *writer, const char *key, const char *value)
{
    json_key(writer, key);
    json_write_string(writer, value ? value : "");
}

static void key_number(struct json_writer *writer, const char *key, double value)
{
    json_key(writer, key);
    json_write_number(writer, value);
}

static void key_interval(struct json_writer *writer, const char *key, struct interval interval)
{
    json_key(writer, key);
    json_begin_array(writer);
    json_write_number(writer, interval.low);
    json_write_number(writer, interval.high);
    json_end_array(writer);
}

static void key_json(struct json_writer *writer, const char *key, const char *text)
{
    struct json_document *document = NULL;
    json_key(writer, key);
    if (text[0] && !json_parse(text_view_of(text), NULL, &document, NULL)) {
        json_write_value(writer, json_root(document));
        json_destroy(document);
    } else {
        json_write_null(writer);
    }
}

static const char *state_of(const struct engine_result *engine)
{
    if (engine->failed) {
        return engine->ran ? "partly failed" : "failed";
    }
    return engine->ran ? "ok" : "not run";
}

static void write_engine(struct json_writer *writer, const struct analysis *analysis, uint32_t e)
{
    const struct config_engine *engine = &analysis->config->engines[e];
    const struct engine_result *result = &analysis->engines[e];
    json_begin_object(writer);
    key_text(writer, "name", engine->name);
    key_text(writer, "type", engine->type);
    key_text(writer, "state", state_of(result));
    key_text(writer, "reason", result->reason);
    key_text(writer, "version", result->version);
    key_text(writer, "model", engine->model);
    key_text(writer, "device", engine->device);
    key_number(writer, "threads", engine->threads);
    key_number(writer, "ranks", engine->ranks);
    key_number(writer, "start_ms", result->start_ms);
    json_key(writer, "baseline");
    json_write_bool(writer, e == analysis->baseline);
    key_number(writer, "rank", result->rank);
    key_number(writer, "throughput_against_baseline", result->rank_score);
    key_number(writer, "prompts_checked", result->tokens_checked);
    key_number(writer, "prompts_agreeing", result->tokens_agreeing);
    key_number(writer, "sessions_set_aside", result->sessions_set_aside);
    key_text(writer, "first_difference", result->first_difference);
    key_json(writer, "details", result->details);
    json_end_object(writer);
}

static void write_figure(struct json_writer *writer, const struct analysis *analysis,
                         const struct cell *cell, enum metric metric)
{
    const struct figure *figure = &cell->figures[metric];
    json_begin_object(writer);
    key_number(writer, "mean", figure->mean);
    key_interval(writer, "interval", figure->interval);
    key_number(writer, "deviation", figure->deviation);
    key_number(writer, "variation", figure->variation);
    key_number(writer, "outliers", figure->outlier_count);
    if (analysis->config->analysis.remove_outliers) {
        key_number(writer, "mean_without_outliers", figure->mean_without_outliers);
    }
    json_key(writer, "runs");
    json_begin_array(writer);
    for (uint32_t i = 0; i < cell->run_count; i++) {
        json_write_number(writer, figure->runs[i]);
    }
    json_end_array(writer);
    if (metric < SPREAD_METRICS) {
        static const char *const names[PERCENTILE_COUNT] = {"p50", "p95", "p99"};
        const struct spread *spread = &cell->spreads[metric];
        key_number(writer, "count", (double)spread->count);
        key_number(writer, "outlying_requests", (double)spread->outlier_count);
        key_number(writer, "minimum", spread->minimum);
        key_number(writer, "maximum", spread->maximum);
        for (int p = 0; p < PERCENTILE_COUNT; p++) {
            char name[16] = {names[p][0], names[p][1], names[p][2], '_', 'i', 'n',
                             't',         'e',         'r',         'v', 'a', 'l'};
            key_number(writer, names[p], spread->at[p]);
            key_interval(writer, name, spread->interval[p]);
        }
    }
    json_end_object(writer);
}

static void write_cell(struct json_writer *writer, const struct analysis *analysis, uint32_t e,
                       uint32_t p)
{
    const struct cell *cell = analysis_cell(analysis, e, p);
    const struct config_point *point = &analysis->points[p];
    json_begin_object(writer);
    key_text(writer, "engine", analysis->config->engines[e].name);
    key_text(writer, "workload", analysis->config->workloads[point->workload].name);
    key_text(writer, "point", point->key);
    key_number(writer, "level", point->level);
    key_number(writer, "prompt_tokens", point->length);
    key_number(writer, "requests", (double)cell->requests);
    key_number(writer, "failed", (double)cell->failed);
    key_text(writer, "first_failure", cell->first_failure);
    key_number(writer, "batch_efficiency", cell->batch_efficiency);
    key_number(writer, "scaling_factor", cell->scaling);
    key_number(writer, "speedup", cell->speedup);
    key_number(writer, "rank_efficiency", cell->rank_efficiency);
    key_number(writer, "cost_per_million_tokens", cell->cost_per_million);
    json_key(writer, "metrics");
    json_begin_object(writer);
    for (int m = 0; m < METRIC_COUNT; m++) {
        json_key(writer, metric_rows[m].key);
        write_figure(writer, analysis, cell, (enum metric)m);
    }
    json_end_object(writer);
    json_end_object(writer);
}

static void write_comparison(struct json_writer *writer, const struct analysis *analysis,
                             const struct comparison *comparison)
{
    static const char *const verdicts[] = {"undecided", "no difference", "better", "worse"};
    const struct config_point *point = &analysis->points[comparison->point];
    json_begin_object(writer);
    key_text(writer, "engine", analysis->config->engines[comparison->engine].name);
    key_text(writer, "baseline", analysis->config->engines[analysis->baseline].name);
    key_text(writer, "workload", analysis->config->workloads[point->workload].name);
    key_text(writer, "point", point->key);
    key_text(writer, "metric", metric_rows[comparison->metric].key);
    key_number(writer, "ratio", comparison->ratio);
    key_number(writer, "mann_whitney_u", comparison->mann_whitney.u);
    key_number(writer, "mann_whitney_p", comparison->mann_whitney.p);
    json_key(writer, "mann_whitney_exact");
    json_write_bool(writer, comparison->mann_whitney.exact);
    key_number(writer, "welch_t", comparison->welch.t);
    key_number(writer, "welch_degrees", comparison->welch.degrees);
    key_number(writer, "welch_p", comparison->welch.p);
    key_number(writer, "p_holm", comparison->p_corrected);
    key_number(writer, "shift", comparison->shift.median);
    key_interval(writer, "shift_interval", comparison->shift.interval);
    key_number(writer, "cohens_d", comparison->d);
    key_number(writer, "cliffs_delta", comparison->delta);
    key_text(writer, "effect", cliffs_size(comparison->delta));
    key_text(writer, "verdict", verdicts[comparison->verdict]);
    key_text(writer, "words", comparison->words);
    json_end_object(writer);
}

static void write_advice(struct json_writer *writer, const struct analysis *analysis)
{
    struct advice advice[ADVICE_MAX];
    struct criterion criteria[CRITERIA_MAX];
    uint32_t count = report_advise(analysis, advice);
    json_key(writer, "recommendations");
    json_begin_array(writer);
    for (uint32_t i = 0; i < count; i++) {
        json_begin_object(writer);
        key_text(writer, "text", advice[i].text);
        key_text(writer, "evidence", advice[i].evidence);
        json_end_object(writer);
    }
    json_end_array(writer);
    count = report_criteria(analysis, criteria);
    json_key(writer, "criteria");
    json_begin_array(writer);
    for (uint32_t i = 0; i < count; i++) {
        json_begin_object(writer);
        key_text(writer, "text", criteria[i].text);
        key_text(writer, "seen", criteria[i].seen);
        key_text(writer, "state",
                 criteria[i].met < 0 ? "not measured"
                 : criteria[i].met   ? "met"
                                     : "missed");
        json_end_object(writer);
    }
    json_end_array(writer);
}

static void write_formula(struct json_writer *writer, const char *key, const char *title,
                          const char *unit, const char *formula)
{
    json_key(writer, key);
    json_begin_object(writer);
    key_text(writer, "title", title);
    key_text(writer, "unit", unit);
    key_text(writer, "formula", formula);
    json_end_object(writer);
}

static void write_formulas(struct json_writer *writer)
{
    json_key(writer, "formulas");
    json_begin_object(writer);
    for (int m = 0; m < METRIC_COUNT; m++) {
        const struct metric_row *row = &metric_rows[m];
        write_formula(writer, row->key, row->title, row->unit, row->formula);
    }
    for (uint32_t i = 0; i < DERIVED_COUNT; i++) {
        const struct derived_row *row = &derived_rows[i];
        write_formula(writer, row->key, row->title, row->unit, row->formula);
    }
    json_end_object(writer);
}

void report_summary(const struct analysis *analysis, struct buffer *out)
{
    const struct config *config = analysis->config;
    struct json_writer writer;
    json_writer_init(&writer, out, 1);
    json_begin_object(&writer);
    key_text(&writer, "schema", "llcuda-bench-summary/1");
    key_text(&writer, "name", config->name);
    key_text(&writer, "llcuda_version", LLCUDA_VERSION);
    key_number(&writer, "seed", (double)config->seed);
    key_number(&writer, "repeats", config->repeats);
    key_number(&writer, "confidence", config->analysis.confidence);
    key_text(&writer, "outlier_rule",
             "modified z-score 0.6745 |x - median| / MAD above 3.5; marked, never dropped");
    key_json(&writer, "host", analysis->host_json);
    json_key(&writer, "engines");
    json_begin_array(&writer);
    for (uint32_t e = 0; e < config->engine_count; e++) {
        write_engine(&writer, analysis, e);
    }
    json_end_array(&writer);
    json_key(&writer, "results");
    json_begin_array(&writer);
    for (uint32_t e = 0; e < config->engine_count; e++) {
        for (uint32_t p = 0; p < analysis->point_count; p++) {
            if (analysis_cell(analysis, e, p)->run_count) {
                write_cell(&writer, analysis, e, p);
            }
        }
    }
    json_end_array(&writer);
    json_key(&writer, "comparisons");
    json_begin_array(&writer);
    for (uint32_t i = 0; i < analysis->comparison_count; i++) {
        write_comparison(&writer, analysis, &analysis->comparisons[i]);
    }
    json_end_array(&writer);
    report_summary_operations(analysis, &writer);
    write_advice(&writer, analysis);
    write_formulas(&writer);
    json_end_object(&writer);
    buffer_append_byte(out, '\n');
}
