/* Owns report.html: one file that opens anywhere, with its charts, its figures and its raw data
 * inside. Everything that was read from somewhere goes through canvas_escape. */
#include "bench/report.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"
#include "bench/chart.h"
#include "bench/report_parts.h"
#include "bench/runner.h"

#define RAW_BYTES_MAX (16u << 20) /* more stays in its folder, and the report says so */

static const char style[] =
    "body{font:15px/1.5 system-ui,sans-serif;color:#222;background:#fff;max-width:980px;"
    "margin:2em auto;padding:0 1em}h1{font-size:1.7em}h2{margin-top:2em;border-bottom:1px solid "
    "#ddd}table{border-collapse:collapse;width:100%;margin:.6em 0}th,td{text-align:left;"
    "padding:.25em .6em;border-bottom:1px solid #e5e5e5;vertical-align:top}td.n,th.n{text-align:"
    "right;font-variant-numeric:tabular-nums;white-space:nowrap}.better{color:#00693e}.worse{color:"
    "#a62c00}.small{color:#666;font-size:.87em}.bad{color:#a00}figure{margin:1em 0;overflow-x:auto}"
    ".medal{display:inline-block;width:1.6em;line-height:1.6em;border-radius:50%;text-align:center;"
    "font-size:.87em}.gold{background:#f2c230}.silver{background:#c4c8cc}.bronze{background:#"
    "d69b6a}"
    "td.state{white-space:nowrap}svg{max-width:100%;height:auto}details{margin:.5em "
    "0}code{background:#f4f4f4;padding:0 .25em}"
    "@media print{details{display:block}}";

static void figure_cell(struct buffer *out, const struct figure *figure)
{
    buffer_printf(out, "<td class=\"n\">%s%s</td>", report_figure(figure).text,
                  figure->outlier_count ? " *" : "");
}

static void write_ranking(const struct analysis *analysis, struct buffer *out)
{
    static const char *const medals[] = {"gold", "silver", "bronze"};
    const struct config *config = analysis->config;
    buffer_append_text(out, "<h2 id=\"ranking\">Ranking</h2><table><tr><th></th><th>Engine</th>"
                            "<th class=\"n\">Speed, × baseline</th><th class=\"n\">Start, ms"
                            "</th><th class=\"n\">Greedy prompts agreeing</th><th>Maturity</th>"
                            "</tr>\n");
    for (uint32_t rank = 1; rank <= config->engine_count; rank++) {
        for (uint32_t e = 0; e < config->engine_count; e++) {
            const struct engine_result *engine = &analysis->engines[e];
            if (engine->rank != rank) {
                continue;
            }
            if (rank <= 3) { /* drawn: not every machine has a font with medals */
                buffer_printf(out, "<tr><td><span class=\"medal %s\" title=\"%s\">%u</span>",
                              medals[rank - 1], medals[rank - 1], rank);
            } else {
                buffer_printf(out, "<tr><td><span class=\"medal\">%u</span>", rank);
            }
            buffer_append_text(out, "</td><td>");
            html_text(out, config->engines[e].name);
            buffer_append_text(out, e == analysis->baseline ? " (baseline)</td>" : "</td>");
            html_number(out, engine->rank_score, "g");
            html_number(out, engine->start_ms, "g");
            buffer_printf(out, "<td class=\"n\">%u / %u</td><td class=\"small\">",
                          engine->tokens_agreeing, engine->tokens_checked);
            html_text(out, config->engines[e].maturity);
            buffer_append_text(out, "</td></tr>\n");
        }
    }
    for (uint32_t e = 0; e < config->engine_count; e++) {
        if (analysis->engines[e].rank == 0) {
            buffer_append_text(out, "<tr><td></td><td>");
            html_text(out, config->engines[e].name);
            buffer_append_text(out, "</td><td colspan=\"4\" class=\"bad\">");
            html_text(out,
                      analysis->engines[e].reason[0] ? analysis->engines[e].reason : "not run");
            buffer_append_text(out, "</td></tr>\n");
        }
    }
    buffer_append_text(out,
                       "</table><p class=\"small\">Speed is the geometric mean, over all "
                       "points that both have, of throughput against the baseline; in open loops, "
                       "where arrivals set the throughput, of end-to-end time. Reference of the "
                       "greedy tokens: ");
    html_text(out, analysis->reference < config->engine_count
                       ? config->engines[analysis->reference].name
                       : "none");
    buffer_append_text(out, ".</p>\n");
}

static void write_advice(const struct analysis *analysis, struct buffer *out)
{
    static struct advice advice[ADVICE_MAX];
    static struct criterion criteria[CRITERIA_MAX];
    uint32_t count = report_advise(analysis, advice);
    buffer_append_text(out, "<h2 id=\"recommendations\">Recommendations</h2><ol>\n");
    for (uint32_t i = 0; i < count; i++) {
        buffer_append_text(out, "<li>");
        html_text(out, advice[i].text);
        buffer_append_text(out, "<br><span class=\"small\">Evidence: ");
        html_text(out, advice[i].evidence);
        buffer_append_text(out, "</span></li>\n");
    }
    buffer_append_text(out, "</ol><h2 id=\"criteria\">Criteria</h2><table><tr><th>Asked</th><th>"
                            "Seen</th><th></th></tr>\n");
    count = report_criteria(analysis, criteria);
    for (uint32_t i = 0; i < count; i++) {
        buffer_append_text(out, "<tr><td>");
        html_text(out, criteria[i].text);
        buffer_append_text(out, "</td><td>");
        html_text(out, criteria[i].seen);
        buffer_printf(out, "</td><td class=\"state %s\">%s</td></tr>\n",
                      criteria[i].met == 1 ? "better"
                      : criteria[i].met    ? "small"
                                           : "worse",
                      criteria[i].met == 1 ? "met"
                      : criteria[i].met    ? "not measured"
                                           : "missed");
    }
    buffer_append_text(out, "</table>\n");
}

/* A row an engine, a column a metric; with `ends` also what follows from several points. */
static void write_figures(const struct analysis *analysis, uint32_t p, const enum metric *columns,
                          size_t count, bool ends, struct buffer *out)
{
    const struct config *config = analysis->config;
    buffer_append_text(out, "<figure><table><tr><th>Engine</th>");
    for (size_t c = 0; c < count; c++) {
        buffer_printf(out, "<th class=\"n\">%s, %s</th>", metric_rows[columns[c]].title,
                      metric_rows[columns[c]].unit);
    }
    buffer_append_text(out, ends ? "<th class=\"n\">scaling factor</th><th class=\"n\">batch "
                                   "efficiency</th></tr>\n"
                            : analysis_is_open(analysis, p)
                                ? "<th class=\"n\">variation of end to end</th><th class=\"n\">"
                                  "failed</th></tr>\n"
                                : "<th class=\"n\">variation of throughput</th><th class=\"n\">"
                                  "failed</th></tr>\n");
    for (uint32_t e = 0; e < config->engine_count; e++) {
        const struct cell *cell = analysis_cell(analysis, e, p);
        if (!cell->run_count) {
            continue;
        }
        buffer_append_text(out, "<tr><td>");
        html_text(out, config->engines[e].name);
        buffer_append_text(out, "</td>");
        for (size_t c = 0; c < count; c++) {
            figure_cell(out, &cell->figures[columns[c]]);
        }
        if (ends) {
            html_number(out, cell->scaling, "g");
            html_number(out, cell->batch_efficiency, "p");
            buffer_append_text(out, "</tr>\n");
        } else {
            enum metric speed = analysis_compared(analysis, p, COMPARE_SPEED);
            html_number(out, cell->figures[speed].variation, "p");
            buffer_printf(out, "<td class=\"n\">%llu / %llu</td></tr>\n",
                          (unsigned long long)cell->failed, (unsigned long long)cell->requests);
        }
    }
    buffer_append_text(out, "</table></figure>\n");
}

/* What stands behind a verdict, as far as it could be computed. */
static void write_tests(const struct comparison *comparison, struct buffer *out)
{
    const struct interval *interval = &comparison->shift.interval;
    const struct {
        const char *name;
        double value;
    } tests[] = {{"Mann-Whitney p", comparison->mann_whitney.p}, {"Welch p", comparison->welch.p}},
      sizes[] = {{"d", comparison->d}, {"δ", comparison->delta}};
    const char *before = "; ";
    for (size_t i = 0; i < 2; i++) {
        if (isfinite(tests[i].value)) {
            buffer_printf(out, "%s%s %.3g", before, tests[i].name, tests[i].value);
            before = ", ";
        }
    }
    buffer_printf(out, "%sshift %s", before, report_number(comparison->shift.median, 3).text);
    if (isfinite(interval->low) && isfinite(interval->high)) {
        buffer_printf(out, " [%s, %s]", report_number(interval->low, 3).text,
                      report_number(interval->high, 3).text);
    }
    buffer_printf(out, " %s", metric_rows[comparison->metric].unit);
    if (!isfinite(interval->low) || !isfinite(interval->high)) {
        buffer_append_text(out, " (too few runs for its interval)");
    }
    for (size_t i = 0; i < 2; i++) {
        if (isfinite(sizes[i].value)) {
            buffer_printf(out, ", %s %.2g", sizes[i].name, sizes[i].value);
        }
    }
}

/* What the worst requests saw, over all runs. */
static void write_percentiles(const struct analysis *analysis, uint32_t p, struct buffer *out)
{
    static const enum metric columns[] = {METRIC_TTFT, METRIC_ITL, METRIC_E2E};
    static const char *const names[PERCENTILE_COUNT] = {"p50", "p95", "p99"};
    enum { COLUMNS = sizeof columns / sizeof columns[0] };
    buffer_append_text(out, "<figure><table><tr><th>Engine</th>");
    for (int i = 0; i < COLUMNS * PERCENTILE_COUNT; i++) {
        const struct metric_row *row = &metric_rows[columns[i / PERCENTILE_COUNT]];
        buffer_printf(out, "<th class=\"n\">%s, %s, %s</th>", row->title,
                      names[i % PERCENTILE_COUNT], row->unit);
    }
    buffer_append_text(out, "</tr>\n");
    for (uint32_t e = 0; e < analysis->config->engine_count; e++) {
        const struct cell *cell = analysis_cell(analysis, e, p);
        if (!cell->run_count) {
            continue;
        }
        buffer_append_text(out, "<tr><td>");
        html_text(out, analysis->config->engines[e].name);
        buffer_append_text(out, "</td>");
        for (int i = 0; i < COLUMNS * PERCENTILE_COUNT; i++) {
            const struct spread *spread = &cell->spreads[columns[i / PERCENTILE_COUNT]];
            const struct interval *interval = &spread->interval[i % PERCENTILE_COUNT];
            buffer_printf(out, "<td class=\"n\">%s",
                          report_number(spread->at[i % PERCENTILE_COUNT], 4).text);
            if (isfinite(interval->low) && isfinite(interval->high)) {
                buffer_printf(out, "<br><span class=\"small\">%s … %s</span>",
                              report_number(interval->low, 4).text,
                              report_number(interval->high, 4).text);
            }
            buffer_append_text(out, "</td>");
        }
        buffer_append_text(out, "</tr>\n");
    }
    buffer_append_text(out, "</table></figure>\n");
}

static void write_point(const struct analysis *analysis, uint32_t p, struct buffer *out)
{
    static const enum metric speeds[] = {
        METRIC_TTFT,       METRIC_TPOT,           METRIC_ITL,
        METRIC_E2E,        METRIC_TOKENS_S,       METRIC_USER_TOKENS_S,
        METRIC_REQUESTS_S, METRIC_TOTAL_TOKENS_S, METRIC_GOODPUT_S};
    static const enum metric means[] = {
        METRIC_MEMORY_PEAK,   METRIC_MEMORY_MEAN, METRIC_GPU_MEMORY,    METRIC_KV_EFFICIENCY,
        METRIC_CPU_PER_TOKEN, METRIC_GPU,         METRIC_GPU_THROTTLED, METRIC_ENERGY,
        METRIC_LATE,          METRIC_OVERHEAD,    METRIC_STOLEN};
    buffer_append_text(out, "<h3>");
    html_text(out, analysis->points[p].key);
    buffer_append_text(out, "</h3>");
    write_figures(analysis, p, speeds, sizeof speeds / sizeof speeds[0], false, out);
    write_figures(analysis, p, means, sizeof means / sizeof means[0], true, out);
    write_percentiles(analysis, p, out);
    buffer_append_text(out, "<ul class=\"small\">\n");
    for (uint32_t i = 0; i < analysis->comparison_count; i++) {
        const struct comparison *comparison = &analysis->comparisons[i];
        if (comparison->point == p) {
            buffer_printf(out, "<li class=\"%s\">",
                          comparison->verdict == VERDICT_BETTER  ? "better"
                          : comparison->verdict == VERDICT_WORSE ? "worse"
                                                                 : "");
            html_text(out, comparison->words);
            write_tests(comparison, out);
            buffer_append_text(out, "</li>\n");
        }
    }
    buffer_append_text(out, "</ul>\n");
}

static void write_chart(const struct analysis *analysis, const struct chart *chart,
                        struct buffer *out)
{
    struct canvas canvas;
    buffer_append_text(out, "<figure>\n");
    canvas_svg_begin(&canvas, out, CHART_WIDTH, chart->height, chart->title);
    chart_draw(analysis, chart, &canvas);
    canvas_svg_end(&canvas);
    buffer_append_text(out, "</figure>\n");
}

static void write_workloads(const struct analysis *analysis, struct buffer *out)
{
    static struct chart charts[CHART_MAX];
    const struct config *config = analysis->config;
    uint32_t count = chart_list(analysis, charts);
    for (uint32_t w = 0; w < config->workload_count; w++) {
        const struct config_workload *workload = &config->workloads[w];
        buffer_append_text(out, "<h2>");
        html_text(out, workload->name);
        buffer_printf(out, "</h2><p class=\"small\">%s load, prompts %s, ",
                      load_kind_name(workload->kind), dataset_kind_name(workload->dataset));
        if (workload->output_min < workload->output_max) {
            buffer_printf(out, "%u to ", workload->output_min);
        }
        buffer_printf(out, "%u output tokens", workload->output_max);
        if (workload->kind == LOAD_RATE) {
            buffer_printf(out, ", %s arrivals", arrival_kind_name(workload->arrival));
        }
        buffer_append_text(out, "</p>\n");
        for (uint32_t i = 0; i < count; i++) {
            if (charts[i].workload == w && charts[i].kind != CHART_MEMORY) {
                write_chart(analysis, &charts[i], out);
            }
        }
        buffer_append_text(out, "<details><summary>Figures and tests</summary>\n");
        for (uint32_t p = analysis->first_point[w]; p < analysis->first_point[w + 1]; p++) {
            write_point(analysis, p, out);
        }
        buffer_append_text(out, "</details>\n");
    }
    buffer_append_text(out, "<h2>Memory</h2>\n");
    for (uint32_t i = 0; i < count; i++) {
        if (charts[i].kind == CHART_MEMORY) {
            write_chart(analysis, &charts[i], out);
        }
    }
    if (analysis->roofline) {
        buffer_append_text(out, "<h2 id=\"kernels\">Kernels</h2>\n");
        write_chart(analysis, &charts[count - 1], out);
        roofline_html(analysis->roofline, out);
    }
}

static void write_money(const struct analysis *analysis, struct buffer *out)
{
    const struct config *config = analysis->config;
    const struct config_prices *prices = &config->prices;
    if (!(prices->machine_per_hour > 0)) {
        return;
    }
    buffer_append_text(out, "<h2 id=\"cost\">Cost</h2><p class=\"small\">price an hour / (tokens a "
                            "second × 3,600) × 10⁶. Machine: ");
    buffer_printf(out, "%.4g ", prices->machine_per_hour);
    html_text(out, prices->currency);
    buffer_append_text(out, " an hour, unless an engine has a price of its own");
    if (prices->kwh > 0) {
        buffer_printf(out, "; electricity, where energy was measured: %.4g ", prices->kwh);
        html_text(out, prices->currency);
        buffer_append_text(out, " a kWh, + price × energy a token / 3.6");
    }
    buffer_append_text(out, ". In an open loop this is the "
                            "cost at those arrivals, not the engine's limit.</p><figure><table>"
                            "<tr><th>Point</th>");
    for (uint32_t e = 0; e < config->engine_count; e++) {
        buffer_append_text(out, "<th class=\"n\">");
        html_text(out, config->engines[e].name);
        buffer_append_text(out, "</th>");
    }
    buffer_append_text(out, "</tr>\n");
    for (uint32_t p = 0; p < analysis->point_count; p++) {
        buffer_append_text(out, "<tr><td>");
        html_text(out, config->workloads[analysis->points[p].workload].name);
        buffer_append_text(out, ", ");
        html_text(out, analysis->points[p].key);
        buffer_append_text(out, "</td>");
        for (uint32_t e = 0; e < config->engine_count; e++) {
            html_number(out, analysis_cell(analysis, e, p)->cost_per_million, "g");
        }
        buffer_append_text(out, "</tr>\n");
    }
    buffer_append_text(out, "</table></figure>\n");
}

static void write_engines(const struct analysis *analysis, struct buffer *out)
{
    const struct config *config = analysis->config;
    buffer_append_text(out, "<h2 id=\"engines\">Engines</h2>\n");
    for (uint32_t e = 0; e < config->engine_count; e++) {
        const struct config_engine *engine = &config->engines[e];
        const struct engine_result *result = &analysis->engines[e];
        buffer_append_text(out, "<details><summary>");
        html_text(out, engine->name);
        buffer_append_text(out, "</summary><ul><li>Kind: ");
        html_text(out, engine->type);
        buffer_append_text(out, ", version ");
        html_text(out, result->version[0] ? result->version : "not told");
        buffer_append_text(out, "</li><li>Model: ");
        html_text(out, engine->model);
        buffer_append_text(out, ", device ");
        html_text(out, engine->device);
        buffer_printf(out, ", threads %u (0: its own choice)</li><li>Command: <code>",
                      engine->threads);
        for (uint32_t i = 0; i < engine->command_count; i++) {
            html_text(out, engine->command[i]);
            buffer_append_byte(out, ' ');
        }
        buffer_append_text(out, "</code></li><li>Options: <code>");
        html_text(out, engine->options);
        buffer_append_text(out, "</code></li><li>Details: <code>");
        html_text(out, result->details);
        buffer_append_text(out, "</code></li>");
        if (!isnan(result->steps_host_share)) {
            buffer_printf(out, "<li>Host time over step time, by its own counters: %.2f %%</li>",
                          result->steps_host_share * 100);
        }
        buffer_printf(out, "<li>Sessions: %u, failed: %u", result->sessions,
                      result->sessions_failed);
        if (result->sessions_set_aside) {
            buffer_printf(out, "; %u more were measured again, since the host took too much",
                          result->sessions_set_aside);
        }
        buffer_append_text(out, "</li>");
        if (result->reason[0]) {
            buffer_append_text(out, "<li class=\"bad\">");
            html_text(out, result->reason);
            buffer_append_text(out, "</li>");
        }
        if (result->log[0]) {
            buffer_append_text(out, "<li class=\"bad\">Its log ended with: <code>");
            html_text(out, result->log);
            buffer_append_text(out, "</code></li>");
        }
        if (result->first_difference[0]) {
            buffer_append_text(out, "<li class=\"bad\">Greedy tokens: ");
            html_text(out, result->first_difference);
            buffer_append_text(out, "</li>");
        }
        buffer_append_text(out, "<li>To get it: ");
        html_text(out, engine->install);
        buffer_append_text(out, "</li></ul></details>\n");
    }
}

static void write_formula(struct buffer *out, const char *title, const char *unit,
                          const char *formula)
{
    const char *const cells[] = {title, unit, formula};
    buffer_append_text(out, "<tr>");
    for (size_t i = 0; i < 3; i++) {
        buffer_append_text(out, "<td>");
        html_text(out, cells[i]);
        buffer_append_text(out, "</td>");
    }
    buffer_append_text(out, "</tr>\n");
}

static void write_method(const struct analysis *analysis, struct buffer *out)
{
    const struct config_analysis *options = &analysis->config->analysis;
    buffer_append_text(out, "<h2 id=\"method\">Method</h2><ul>\n");
    buffer_printf(out,
                  "<li>%u runs; in each, every engine is started once, in an order drawn from the "
                  "seed, in a process group of its own.</li><li>± is half of the %.0f %% interval "
                  "of the mean: Student's t over the means of whole runs. Whiskers on percentiles "
                  "are the intervals of a bootstrap over whole runs, with Student's t; of one run, "
                  "over its requests.</li>",
                  analysis->config->repeats, options->confidence * 100);
    buffer_append_text(
        out,
        "<li>Outliers are values whose modified z-score 0.6745 |x − median| / MAD exceeds 3.5. "
        "They are marked (* and red points) and never dropped.</li><li>A difference is called when "
        "Welch's test, corrected by Holm over all comparisons of this report, is below the level "
        "and the Mann-Whitney test agrees.</li><li>In an open loop latency counts from the moment "
        "a request was due, not from when it could be sent.</li>");
    buffer_printf(out,
                  "<li>Reproducibility bar: a coefficient of variation of %.0f %%.</li></ul>\n",
                  options->reproducibility * 100);
    buffer_append_text(out, "<table><tr><th>Figure</th><th>Unit</th><th>Formula</th></tr>\n");
    for (int m = 0; m < METRIC_COUNT; m++) {
        const struct metric_row *row = &metric_rows[m];
        write_formula(out, row->title, row->unit, row->formula);
    }
    for (uint32_t i = 0; i < DERIVED_COUNT; i++) {
        const struct derived_row *row = &derived_rows[i];
        write_formula(out, row->title, row->unit, row->formula);
    }
    buffer_append_text(out, "</table><h3>Machine</h3><pre class=\"small\">");
    html_text(out, ""); /* the record keeps its lines: escape each */
    for (const char *line = analysis->host_json; *line;) {
        char piece[512];
        size_t length = strcspn(line, "\n");
        snprintf(piece, sizeof piece, "%.*s", (int)(length < 500 ? length : 500), line);
        html_text(out, piece);
        buffer_append_byte(out, '\n');
        line += length + (line[length] == '\n');
    }
    buffer_append_text(out, "</pre>\n");
}

static void write_base64(struct buffer *out, const struct buffer *data)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < data->length; i += 3) {
        uint32_t group = 0;
        size_t here = data->length - i < 3 ? data->length - i : 3;
        for (size_t j = 0; j < 3; j++) {
            group = group << 8 | (j < here ? (unsigned char)data->data[i + j] : 0u);
        }
        for (size_t j = 0; j < 4; j++) {
            buffer_append_byte(out, j <= here ? digits[group >> (18 - 6 * j) & 63] : '=');
        }
    }
}

static void write_downloads(const struct analysis *analysis, struct buffer *out)
{
    struct buffer raw = {0};
    struct buffer summary = {0};
    bool whole = true;
    for (uint32_t e = 0; e < analysis->config->engine_count; e++) {
        for (uint32_t r = 0; r < analysis->config->repeats; r++) {
            char *path = runner_raw_path(analysis->config, analysis->folder, e, r);
            if (path && file_exists(path)) {
                whole = whole && raw.length < RAW_BYTES_MAX &&
                        !file_read_all(path, RAW_BYTES_MAX - raw.length, &raw, NULL);
            }
            free(path);
        }
    }
    report_summary(analysis, &summary);
    buffer_append_text(out, "<h2 id=\"data\">Data</h2><ul><li><a download=\"summary.json\" "
                            "href=\"data:application/json;base64,");
    write_base64(out, &summary);
    buffer_append_text(out, "\">summary.json</a>: every figure, interval and test</li>");
    if (whole) {
        buffer_append_text(out, "<li><a download=\"raw_data.jsonl\" "
                                "href=\"data:application/x-ndjson;base64,");
        write_base64(out, &raw);
        buffer_append_text(out, "\">raw_data.jsonl</a>: every request of every run</li></ul>\n");
    } else {
        buffer_append_text(out, "<li>The raw data is too large for this file; it lies beside it in "
                                "<code>raw_data/</code>.</li></ul>\n");
    }
    buffer_deinit(&raw);
    buffer_deinit(&summary);
}

llcuda_status report_html(const struct analysis *analysis, struct buffer *out,
                          struct llcuda_error *error)
{
    const struct config *config = analysis->config;
    buffer_append_text(out,
                       "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta "
                       "name=\"viewport\" content=\"width=device-width\"><title>");
    html_text(out, config->name);
    buffer_printf(out, "</title><style>%s</style></head><body>\n<h1>", style);
    html_text(out, config->name);
    buffer_printf(out,
                  "</h1><p class=\"small\">%u engines, %u workloads, %u runs each. Seed %llu."
                  "</p>\n",
                  config->engine_count, config->workload_count, config->repeats,
                  (unsigned long long)config->seed);
    write_ranking(analysis, out);
    write_advice(analysis, out);
    write_workloads(analysis, out);
    write_money(analysis, out);
    report_html_business(analysis, out);
    write_engines(analysis, out);
    write_method(analysis, out);
    write_downloads(analysis, out);
    buffer_append_text(out, "</body></html>\n");
    return out->failed ? error_no_memory(error, "the report", out->length) : LLCUDA_OK;
}
