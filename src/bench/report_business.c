/* Owns the parts of report.html that a buyer reads: winners, scaling over devices, money, and what
 * moving would take. Every sentence rests on figures of the report or on the catalogue. */
#include "bench/report_parts.h"

#include <math.h>
#include <stdio.h>

#include "bench/canvas.h"

void html_text(struct buffer *out, const char *value)
{
    canvas_escape(out, value);
}

void html_number(struct buffer *out, double value, const char *format)
{
    if (!isfinite(value)) {
        buffer_append_text(out, "<td class=\"n\">–</td>");
        return;
    }
    char shown[64];
    if (format[0] == 'p') {
        snprintf(shown, sizeof shown, "%.1f %%", value * 100);
    } else {
        snprintf(shown, sizeof shown, "%s", report_number(value, 4).text);
    }
    buffer_printf(out, "<td class=\"n\">%s</td>", shown);
}

uint32_t report_point_winner(const struct analysis *analysis, uint32_t point, enum metric metric)
{
    uint32_t best = UINT32_MAX;
    double best_mean = NAN;
    for (uint32_t e = 0; e < analysis->config->engine_count; e++) {
        double mean = analysis_cell(analysis, e, point)->figures[metric].mean;
        bool better = metric_rows[metric].higher_is_better ? mean > best_mean : mean < best_mean;
        if (!isnan(mean) && (best == UINT32_MAX || better)) {
            best = e;
            best_mean = mean;
        }
    }
    return best;
}

static void write_winners(const struct analysis *analysis, struct buffer *out)
{
    static const enum metric metrics[] = {METRIC_TOKENS_S, METRIC_E2E,         METRIC_TTFT,
                                          METRIC_TPOT,     METRIC_MEMORY_PEAK, METRIC_GPU_MEMORY,
                                          METRIC_ENERGY};
    enum { METRICS = sizeof metrics / sizeof metrics[0] };
    buffer_append_text(out, "<h2 id=\"winners\">Who wins where</h2><figure><table><tr><th>Workload"
                            "</th>");
    for (size_t m = 0; m < METRICS; m++) {
        buffer_printf(out, "<th>%s</th>", metric_rows[metrics[m]].title);
    }
    buffer_append_text(out, "</tr>\n");
    for (uint32_t p = 0; p < analysis->point_count; p++) {
        buffer_append_text(out, "<tr><td>");
        html_text(out, analysis->config->workloads[analysis->points[p].workload].name);
        buffer_append_text(out, ", ");
        html_text(out, analysis->points[p].key);
        buffer_append_text(out, "</td>");
        for (size_t m = 0; m < METRICS; m++) {
            uint32_t winner = report_point_winner(analysis, p, metrics[m]);
            buffer_append_text(out, "<td>");
            if (metrics[m] == METRIC_TOKENS_S && analysis_is_open(analysis, p)) {
                buffer_append_text(out, "set by the arrivals");
            } else if (winner == UINT32_MAX) {
                buffer_append_text(out, "–");
            } else {
                html_text(out, analysis->config->engines[winner].name);
                const struct cell *cell = analysis_cell(analysis, winner, p);
                buffer_printf(out, " <span class=\"small\">%s %s</span>",
                              report_number(cell->figures[metrics[m]].mean, 4).text,
                              metric_rows[metrics[m]].unit);
            }
            buffer_append_text(out, "</td>");
        }
        buffer_append_text(out, "</tr>\n");
    }
    buffer_append_text(out, "</table></figure><p class=\"small\">The best mean; whether the "
                            "difference can be told is in the tests of each workload.</p>\n");
}

static void write_ranks(const struct analysis *analysis, struct buffer *out)
{
    bool any = false;
    for (uint32_t i = 0; i < analysis->config->engine_count * analysis->point_count; i++) {
        any = any || isfinite(analysis->cells[i].speedup);
    }
    if (!any) {
        return;
    }
    buffer_append_text(out, "<h2 id=\"ranks\">Scaling over devices</h2><table><tr><th>Engine</th>"
                            "<th>Workload</th><th class=\"n\">ranks</th><th class=\"n\">tokens/s"
                            "</th><th class=\"n\">speed-up</th><th class=\"n\">efficiency</th>"
                            "</tr>\n");
    for (uint32_t e = 0; e < analysis->config->engine_count; e++) {
        for (uint32_t p = 0; p < analysis->point_count; p++) {
            const struct cell *cell = analysis_cell(analysis, e, p);
            if (!isfinite(cell->speedup)) {
                continue;
            }
            buffer_append_text(out, "<tr><td>");
            html_text(out, analysis->config->engines[e].name);
            buffer_append_text(out, "</td><td>");
            html_text(out, analysis->points[p].key);
            buffer_printf(out, "</td><td class=\"n\">%u</td>", analysis->config->engines[e].ranks);
            html_number(out, cell->figures[METRIC_TOKENS_S].mean, "g");
            html_number(out, cell->speedup, "g");
            html_number(out, cell->rank_efficiency, "p");
            buffer_append_text(out, "</tr>\n");
        }
    }
    buffer_append_text(out,
                       "</table><p class=\"small\">Speed-up: throughput / that of the same "
                       "engine on one device. Efficiency: speed-up / ranks. Ranks are processes "
                       "that share one load, each with a whole copy of the model.</p>\n");
}

/* Over the points at which the engine sets the pace. With `against_baseline` the cost is divided by
 * the baseline's at each. */
static double mean_cost(const struct analysis *analysis, uint32_t engine, bool against_baseline)
{
    double sum = 0;
    uint32_t count = 0;
    for (uint32_t p = 0; p < analysis->point_count; p++) {
        double cost = analysis_cell(analysis, engine, p)->cost_per_million;
        double base = analysis_cell(analysis, analysis->baseline, p)->cost_per_million;
        if (!analysis_is_open(analysis, p) && cost > 0 && base > 0 && isfinite(cost) &&
            isfinite(base)) {
            sum += log(against_baseline ? cost / base : cost);
            count++;
        }
    }
    return count ? exp(sum / count) : NAN;
}

double report_cost_ratio(const struct analysis *analysis, uint32_t engine)
{
    return mean_cost(analysis, engine, true);
}

double report_monthly_cost(const struct analysis *analysis, uint32_t engine)
{
    double tokens = analysis->config->prices.tokens_per_month;
    return tokens > 0 ? mean_cost(analysis, analysis->baseline, false) *
                            report_cost_ratio(analysis, engine) * tokens / 1e6
                      : NAN;
}

static void write_investment(const struct analysis *analysis, struct buffer *out)
{
    const struct config_prices *prices = &analysis->config->prices;
    double base = report_monthly_cost(analysis, analysis->baseline);
    double once = prices->migration + prices->hardware;
    buffer_append_text(out, "<h2 id=\"investment\">Return on investment</h2>\n");
    if (!(base > 0)) {
        buffer_append_text(
            out, "<p>Not computed: it needs <code>prices</code> with machine_per_hour "
                 "and tokens_per_month, and a baseline that was measured in a closed loop.</p>"
                 "\n");
        return;
    }
    buffer_printf(out, "<p class=\"small\">%.0f million output tokens a month; moving costs %s ",
                  prices->tokens_per_month / 1e6, report_number(once, 4).text);
    html_text(out, prices->currency);
    buffer_append_text(out,
                       " once (hardware and migration of the price table). Cost: geometric mean "
                       "of the baseline's cost per million tokens over the points of closed loops "
                       "× tokens; of another engine, that × the geometric mean of its cost / the "
                       "baseline's over the points that both have. Return: (12 × saving − once) / "
                       "once.</p><table><tr><th>Engine</th><th class=\"n\">cost "
                       "a month</th><th class=\"n\">saving a month</th><th class=\"n\">paid back "
                       "after, months</th><th class=\"n\">return in a year</th></tr>\n");
    for (uint32_t e = 0; e < analysis->config->engine_count; e++) {
        if (analysis->config->engines[e].replayed) {
            continue; /* nobody can move there */
        }
        double cost = report_monthly_cost(analysis, e);
        double saving = base - cost;
        bool moves = e != analysis->baseline && once > 0;
        buffer_append_text(out, "<tr><td>");
        html_text(out, analysis->config->engines[e].name);
        buffer_append_text(out, e == analysis->baseline ? " (now)</td>" : "</td>");
        html_number(out, cost, "g");
        html_number(out, e == analysis->baseline ? NAN : saving, "g");
        html_number(out, moves && saving > 0 ? once / saving : NAN, "g");
        html_number(out, moves ? (12 * saving - once) / once : NAN, "p");
        buffer_append_text(out, "</tr>\n");
    }
    buffer_append_text(out, "</table>\n");
}

/* What is known about the risk of an engine from this very run. */
static void write_risk(const struct analysis *analysis, uint32_t e, struct buffer *out)
{
    const struct engine_result *engine = &analysis->engines[e];
    uint64_t failed = 0;
    uint64_t all = 0;
    double variation = NAN; /* of one run nothing is known */
    char steadiness[64] = "one run does not say how speed varies";
    for (uint32_t p = 0; p < analysis->point_count; p++) {
        const struct cell *cell = analysis_cell(analysis, e, p);
        failed += cell->failed;
        all += cell->requests;
        enum metric speed = analysis_compared(analysis, p, COMPARE_SPEED);
        variation = fmax(variation, cell->figures[speed].variation);
    }
    if (!engine->ran) {
        buffer_append_text(out, "not measured here: ");
        html_text(out, engine->reason[0] ? engine->reason : "not run");
        return;
    }
    if (isfinite(variation)) {
        snprintf(steadiness, sizeof steadiness, "speed varies by up to %.0f %% from run to run",
                 variation * 100);
    }
    buffer_printf(out, "%llu of %llu requests failed; %u of %u sessions failed; %s; ",
                  (unsigned long long)failed, (unsigned long long)all, engine->sessions_failed,
                  engine->sessions, steadiness);
    if (engine->tokens_checked) {
        buffer_printf(out, "%u of %u greedy answers agree with the reference",
                      engine->tokens_agreeing, engine->tokens_checked);
    } else {
        buffer_append_text(out, "its greedy answers could not be compared");
    }
}

static void write_moving(const struct analysis *analysis, struct buffer *out)
{
    const struct config *config = analysis->config;
    buffer_append_text(out,
                       "<h2 id=\"moving\">Maturity, risk, and how to move</h2><table><tr><th>"
                       "Engine</th><th>Maturity</th><th>Risk seen in this run</th><th>Path</th>"
                       "</tr>\n");
    for (uint32_t e = 0; e < config->engine_count; e++) {
        const struct config_engine *engine = &config->engines[e];
        bool same_format = strcmp(engine->model, config->engines[analysis->baseline].model) == 0;
        buffer_append_text(out, "<tr><td>");
        html_text(out, engine->name);
        buffer_append_text(out, "</td><td>");
        html_text(out, engine->maturity ? engine->maturity : "nothing is known here");
        buffer_append_text(out, "</td><td>");
        write_risk(analysis, e, out);
        buffer_append_text(out, "</td><td>");
        if (e == analysis->baseline) {
            buffer_append_text(out, "what runs now");
        } else if (engine->replayed) {
            buffer_append_text(out, "none: a measuring tool, which serves nobody");
        } else {
            buffer_append_text(out, same_format
                                        ? "1. the model's files stay as they are; "
                                        : "1. convert the model (<code>llcuda quantize</code> "
                                          "reads both formats); ");
            buffer_append_text(out, "2. get it: ");
            html_text(out, engine->install);
            buffer_append_text(
                out, engine->kind == ENGINE_HTTP || strncmp(engine->type, "llcuda", 6) == 0
                         ? "; 3. serve it beside the old one and change the address of OpenAI "
                           "clients; "
                         : "; 3. write the service around it, since it is a library here; ");
            buffer_append_text(out,
                               "4. compare answers on your own prompts; 5. move a share of the "
                               "requests, watch, then the rest.");
        }
        buffer_append_text(out, "</td></tr>\n");
    }
    buffer_append_text(out, "</table>\n");
}

void report_html_business(const struct analysis *analysis, struct buffer *out)
{
    write_winners(analysis, out);
    report_html_operations(analysis, out);
    write_ranks(analysis, out);
    write_investment(analysis, out);
    write_moving(analysis, out);
}
