/* Owns the drawing of charts. A bar is a mean over runs with its interval; every run is a point of
 * its own on it, so that nobody has to believe the bar. Axes begin at zero. */
#include "bench/chart.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>

#define LEFT       64.0
#define RIGHT      16.0
#define TOP        34.0
#define PLOT       230.0
#define LEGEND_ROW 18.0
#define INK        0x222222u
#define FAINT      0xdddddcu
#define GREY       0x666666u

/* Okabe and Ito's colours, which colour-blind readers can tell apart. */
static const canvas_colour colours[] = {0x0072b2, 0xe69f00, 0x009e73, 0xd55e00,
                                        0xcc79a7, 0x56b4e9, 0x999933, 0x7f7f7f};

static canvas_colour colour_of(uint32_t engine)
{
    return colours[engine % (sizeof colours / sizeof colours[0])];
}

struct axis {
    double maximum, step;
};

/* A maximum that is a few round steps. */
static struct axis make_axis(double maximum)
{
    struct axis axis = {1, 0.25};
    if (maximum > 0 && isfinite(maximum)) {
        double power = pow(10, floor(log10(maximum / 4)));
        double part = maximum / 4 / power;
        axis.step = power * (part <= 1 ? 1 : part <= 2 ? 2 : part <= 5 ? 5 : 10);
        axis.maximum = axis.step * ceil(maximum * 1.02 / axis.step);
    }
    return axis;
}

static double y_of(const struct axis *axis, double value)
{
    return TOP + PLOT * (1 - value / axis->maximum);
}

static void draw_frame(struct canvas *canvas, const struct chart *chart, const struct axis *axis,
                       const char *unit)
{
    char text[64];
    canvas->ops->text(canvas, LEFT, 16, chart->title, 13, CANVAS_LEFT, INK);
    for (double value = 0; value <= axis->maximum * 1.0001; value += axis->step) {
        double y = y_of(axis, value);
        snprintf(text, sizeof text, "%g", value);
        canvas->ops->line(canvas, LEFT, y, canvas->width - RIGHT, y, FAINT, 0.8);
        canvas->ops->text(canvas, LEFT - 6, y + 4, text, 10, CANVAS_RIGHT, GREY);
    }
    canvas->ops->text(canvas, LEFT - 6, TOP - 8, unit, 10, CANVAS_RIGHT, GREY);
}

static void draw_legend(const struct analysis *analysis, struct canvas *canvas, double y)
{
    double x = LEFT;
    for (uint32_t e = 0; e < analysis->config->engine_count; e++) {
        const char *name = analysis->config->engines[e].name;
        double width = 24 + 6.4 * (double)strlen(name);
        if (!analysis->engines[e].ran) {
            continue;
        }
        if (x + width > canvas->width - RIGHT && x > LEFT) {
            x = LEFT;
            y += LEGEND_ROW;
        }
        canvas->ops->rectangle(canvas, x, y - 9, 11, 11, colour_of(e), NULL);
        canvas->ops->text(canvas, x + 15, y, name, 11, CANVAS_LEFT, INK);
        x += width;
    }
}

static double legend_height(const struct analysis *analysis)
{
    double x = LEFT;
    double rows = 1;
    for (uint32_t e = 0; e < analysis->config->engine_count; e++) {
        double width = 24 + 6.4 * (double)strlen(analysis->config->engines[e].name);
        if (analysis->engines[e].ran && x + width > CHART_WIDTH - RIGHT && x > LEFT) {
            x = LEFT;
            rows++;
        }
        x += analysis->engines[e].ran ? width : 0;
    }
    return rows * LEGEND_ROW + 8;
}

static uint32_t engines_that_ran(const struct analysis *analysis)
{
    uint32_t count = 0;
    for (uint32_t e = 0; e < analysis->config->engine_count; e++) {
        count += analysis->engines[e].ran;
    }
    return count ? count : 1;
}

/* The place of engine e in the group of point p: its middle and width. */
static double slot(const struct analysis *analysis, const struct chart *chart, uint32_t p,
                   uint32_t e, double *width)
{
    uint32_t points =
        analysis->first_point[chart->workload + 1] - analysis->first_point[chart->workload];
    double group = (CHART_WIDTH - LEFT - RIGHT) / points;
    uint32_t place = 0;
    for (uint32_t o = 0; o < e; o++) {
        place += analysis->engines[o].ran;
    }
    *width = fmin(group * 0.8 / engines_that_ran(analysis), 60);
    double all = *width * engines_that_ran(analysis);
    double begin = LEFT + group * (p - analysis->first_point[chart->workload]) + (group - all) / 2;
    return begin + *width * (place + 0.5);
}

static void draw_point_names(const struct analysis *analysis, const struct chart *chart,
                             struct canvas *canvas)
{
    uint32_t begin = analysis->first_point[chart->workload];
    uint32_t end = analysis->first_point[chart->workload + 1];
    double group = (CHART_WIDTH - LEFT - RIGHT) / (end - begin);
    for (uint32_t p = begin; p < end; p++) {
        canvas->ops->text(canvas, LEFT + group * (p - begin + 0.5), TOP + PLOT + 15,
                          analysis->points[p].key, end - begin > 5 ? 8 : 10, CANVAS_MIDDLE, INK);
    }
    canvas->ops->line(canvas, LEFT, TOP + PLOT, CHART_WIDTH - RIGHT, TOP + PLOT, INK, 1);
}

static void draw_interval(struct canvas *canvas, const struct axis *axis, double x,
                          struct interval interval)
{
    if (isnan(interval.low) || isnan(interval.high)) {
        return;
    }
    double top = y_of(axis, fmin(interval.high, axis->maximum));
    double bottom = y_of(axis, fmax(interval.low, 0));
    canvas->ops->line(canvas, x, top, x, bottom, INK, 1.2);
    canvas->ops->line(canvas, x - 4, top, x + 4, top, INK, 1.2);
    canvas->ops->line(canvas, x - 4, bottom, x + 4, bottom, INK, 1.2);
}

static double largest_figure(const struct analysis *analysis, const struct chart *chart)
{
    double largest = 0;
    for (uint32_t p = analysis->first_point[chart->workload];
         p < analysis->first_point[chart->workload + 1]; p++) {
        for (uint32_t e = 0; e < analysis->config->engine_count; e++) {
            const struct cell *cell = analysis_cell(analysis, e, p);
            const struct figure *figure = &cell->figures[chart->metric];
            largest = fmax(largest, figure->mean);
            for (uint32_t r = 0; r < cell->run_count; r++) {
                largest = fmax(largest, figure->runs[r]);
            }
        }
    }
    return largest;
}

static void draw_bars(const struct analysis *analysis, const struct chart *chart,
                      struct canvas *canvas)
{
    struct axis axis = make_axis(largest_figure(analysis, chart));
    const struct metric_row *row = &metric_rows[chart->metric];
    draw_frame(canvas, chart, &axis, row->unit);
    for (uint32_t p = analysis->first_point[chart->workload];
         p < analysis->first_point[chart->workload + 1]; p++) {
        for (uint32_t e = 0; e < analysis->config->engine_count; e++) {
            const struct cell *cell = analysis_cell(analysis, e, p);
            const struct figure *figure = &cell->figures[chart->metric];
            double width;
            double x = slot(analysis, chart, p, e, &width);
            struct canvas_mark mark = {analysis->config->engines[e].name,
                                       analysis->config->workloads[chart->workload].name,
                                       analysis->points[p].key,
                                       row->key,
                                       0,
                                       figure->mean};
            if (!cell->measured || isnan(figure->mean)) {
                continue;
            }
            double y = y_of(&axis, figure->mean);
            canvas->ops->rectangle(canvas, x - width * 0.42, y, width * 0.84, TOP + PLOT - y,
                                   colour_of(e), &mark);
            draw_interval(canvas, &axis, x, figure->interval);
            for (uint32_t r = 0; r < cell->run_count; r++) {
                mark.run = (int)r + 1;
                mark.value = figure->runs[r];
                if (!isnan(mark.value)) {
                    double spread = width * 0.3 * ((r + 0.5) / cell->run_count - 0.5);
                    canvas->ops->point(canvas, x + spread, y_of(&axis, mark.value), 2.6,
                                       figure->outliers[r] ? 0xcc0000 : INK, &mark);
                }
            }
        }
    }
    draw_point_names(analysis, chart, canvas);
}

/* p50, p95 and p99 over the requests of all runs, each with its interval. */
static void draw_quantiles(const struct analysis *analysis, const struct chart *chart,
                           struct canvas *canvas)
{
    static const char *const names[PERCENTILE_COUNT] = {"p50", "p95", "p99"};
    const struct metric_row *row = &metric_rows[chart->metric];
    uint32_t begin = analysis->first_point[chart->workload];
    uint32_t end = analysis->first_point[chart->workload + 1];
    double largest = 0;
    for (uint32_t p = begin; p < end; p++) {
        for (uint32_t e = 0; e < analysis->config->engine_count; e++) {
            const struct spread *spread = &analysis_cell(analysis, e, p)->spreads[chart->metric];
            largest = fmax(largest,
                           fmax(spread->at[PERCENTILE_99], spread->interval[PERCENTILE_99].high));
        }
    }
    struct axis axis = make_axis(largest);
    draw_frame(canvas, chart, &axis, row->unit);
    for (uint32_t p = begin; p < end; p++) {
        for (uint32_t e = 0; e < analysis->config->engine_count; e++) {
            const struct cell *cell = analysis_cell(analysis, e, p);
            const struct spread *spread = &cell->spreads[chart->metric];
            double width;
            double x = slot(analysis, chart, p, e, &width);
            for (int q = 0; cell->measured && spread->count && q < PERCENTILE_COUNT; q++) {
                char metric[48];
                snprintf(metric, sizeof metric, "%s %s", row->key, names[q]);
                struct canvas_mark mark = {analysis->config->engines[e].name,
                                           analysis->config->workloads[chart->workload].name,
                                           analysis->points[p].key,
                                           metric,
                                           0,
                                           spread->at[q]};
                double place = x + width * 0.28 * (q - 1);
                draw_interval(canvas, &axis, place, spread->interval[q]);
                canvas->ops->point(canvas, place, y_of(&axis, spread->at[q]), 3.6 - 0.6 * q,
                                   colour_of(e), &mark);
            }
        }
    }
    draw_point_names(analysis, chart, canvas);
}

/* Throughput over the level, with what proportional growth would be. */
static void draw_scaling(const struct analysis *analysis, const struct chart *chart,
                         struct canvas *canvas)
{
    const struct config_workload *workload = &analysis->config->workloads[chart->workload];
    uint32_t begin = analysis->first_point[chart->workload];
    uint32_t end = analysis->first_point[chart->workload + 1];
    struct axis axis = make_axis(largest_figure(analysis, chart));
    double lowest = workload->levels[0];
    double highest = workload->levels[0];
    char text[32];
    for (uint32_t i = 0; i < workload->level_count; i++) {
        lowest = fmin(lowest, workload->levels[i]);
        highest = fmax(highest, workload->levels[i]);
    }
    double span = log(highest / lowest) > 0 ? log(highest / lowest) : 1;
    draw_frame(canvas, chart, &axis, metric_rows[chart->metric].unit);
    canvas->ops->line(canvas, LEFT, TOP + PLOT, CHART_WIDTH - RIGHT, TOP + PLOT, INK, 1);
    for (uint32_t i = 0; i < workload->level_count; i++) {
        double x = LEFT + 20 +
                   (CHART_WIDTH - LEFT - RIGHT - 40) * log(workload->levels[i] / lowest) / span;
        snprintf(text, sizeof text, "%g", workload->levels[i]);
        canvas->ops->text(canvas, x, TOP + PLOT + 15, text, 10, CANVAS_MIDDLE, INK);
    }
    for (uint32_t e = 0; e < analysis->config->engine_count; e++) {
        for (uint32_t l = 0; l < workload->length_count; l++) {
            double xy[2 * CONFIG_LIST_MAX];
            uint32_t count = 0;
            for (uint32_t p = begin; p < end; p++) {
                const struct config_point *point = &analysis->points[p];
                const struct cell *cell = analysis_cell(analysis, e, p);
                double mean = cell->figures[chart->metric].mean;
                if (point->length != workload->lengths[l] || !cell->measured || isnan(mean)) {
                    continue;
                }
                struct canvas_mark mark = {analysis->config->engines[e].name,
                                           workload->name,
                                           point->key,
                                           metric_rows[chart->metric].key,
                                           0,
                                           mean};
                xy[2 * count] =
                    LEFT + 20 +
                    (CHART_WIDTH - LEFT - RIGHT - 40) * log(point->level / lowest) / span;
                xy[2 * count + 1] = y_of(&axis, mean);
                draw_interval(canvas, &axis, xy[2 * count], cell->figures[chart->metric].interval);
                canvas->ops->point(canvas, xy[2 * count], xy[2 * count + 1], 4, colour_of(e),
                                   &mark);
                count++;
            }
            if (count > 1) {
                canvas->ops->polyline(canvas, xy, count, colour_of(e));
            }
        }
    }
}

static void draw_memory(const struct analysis *analysis, const struct chart *chart,
                        struct canvas *canvas)
{
    static double xy[2 * MONITOR_POINTS_MAX];
    double largest = 0;
    double seconds = 0;
    char text[64];
    for (uint32_t e = 0; e < analysis->config->engine_count; e++) {
        const struct monitor_point *points = analysis->monitor + e * MONITOR_POINTS_MAX;
        for (uint32_t i = 0; i < analysis->monitor_count[e]; i++) {
            largest = fmax(largest, (double)points[i].memory_mb);
            seconds = fmax(seconds, (double)points[i].seconds);
        }
    }
    struct axis axis = make_axis(largest);
    draw_frame(canvas, chart, &axis, "MB");
    for (uint32_t e = 0; e < analysis->config->engine_count; e++) {
        const struct monitor_point *points = analysis->monitor + e * MONITOR_POINTS_MAX;
        uint32_t count = 0;
        for (uint32_t i = 0; i < analysis->monitor_count[e] && seconds > 0; i++) {
            if (!isnan(points[i].memory_mb)) {
                xy[2 * count] =
                    LEFT + (CHART_WIDTH - LEFT - RIGHT) * (double)points[i].seconds / seconds;
                xy[2 * count + 1] = y_of(&axis, (double)points[i].memory_mb);
                count++;
            }
        }
        if (count > 1) {
            canvas->ops->polyline(canvas, xy, count, colour_of(e));
        }
    }
    snprintf(text, sizeof text, "seconds, 0 … %.1f", seconds);
    canvas->ops->line(canvas, LEFT, TOP + PLOT, CHART_WIDTH - RIGHT, TOP + PLOT, INK, 1);
    canvas->ops->text(canvas, CHART_WIDTH - RIGHT, TOP + PLOT + 15, text, 10, CANVAS_RIGHT, GREY);
}

static void draw_cost(const struct analysis *analysis, const struct chart *chart,
                      struct canvas *canvas)
{
    double largest = 0;
    for (uint32_t i = 0; i < analysis->config->engine_count * analysis->point_count; i++) {
        const struct cell *cell = &analysis->cells[i];
        largest = cell->measured ? fmax(largest, cell->cost_per_million) : largest;
    }
    struct axis axis = make_axis(largest);
    draw_frame(canvas, chart, &axis, analysis->config->prices.currency);
    for (uint32_t p = analysis->first_point[chart->workload];
         p < analysis->first_point[chart->workload + 1]; p++) {
        for (uint32_t e = 0; e < analysis->config->engine_count; e++) {
            const struct cell *cell = analysis_cell(analysis, e, p);
            double width;
            double x = slot(analysis, chart, p, e, &width);
            struct canvas_mark mark = {analysis->config->engines[e].name,
                                       analysis->config->workloads[chart->workload].name,
                                       analysis->points[p].key,
                                       "cost_per_million_tokens",
                                       0,
                                       cell->cost_per_million};
            if (cell->measured && isfinite(cell->cost_per_million)) {
                double y = y_of(&axis, cell->cost_per_million);
                canvas->ops->rectangle(canvas, x - width * 0.42, y, width * 0.84, TOP + PLOT - y,
                                       colour_of(e), &mark);
            }
        }
    }
    draw_point_names(analysis, chart, canvas);
}

void chart_draw(const struct analysis *analysis, const struct chart *chart, struct canvas *canvas)
{
    static void (*const draws[])(const struct analysis *, const struct chart *, struct canvas *) = {
        draw_bars, draw_quantiles, draw_scaling, draw_memory, draw_cost};
    if (chart->kind == CHART_ROOFLINE) {
        roofline_draw(analysis->roofline, canvas, chart->height);
        return;
    }
    draws[chart->kind](analysis, chart, canvas);
    draw_legend(analysis, canvas, TOP + PLOT + 36);
}

static void add_chart(const struct analysis *analysis, struct chart *charts, uint32_t *count,
                      enum chart_kind kind, uint32_t workload, enum metric metric,
                      const char *prefix, const char *title)
{
    if (*count == CHART_MAX) {
        return;
    }
    struct chart *chart = &charts[(*count)++];
    const char *name = analysis->config->workloads[workload].name;
    *chart = (struct chart){.kind = kind, .workload = workload, .metric = metric};
    int length =
        snprintf(chart->name, sizeof chart->name, "%s%s", prefix, kind == CHART_MEMORY ? "" : "-");
    for (const char *c = kind == CHART_MEMORY ? "" : name;
         *c && length < (int)sizeof chart->name - 1; c++) {
        chart->name[length++] =
            (char)(isalnum((unsigned char)*c) ? tolower((unsigned char)*c) : '-');
    }
    snprintf(chart->title, sizeof chart->title, "%s%s%s", title, kind == CHART_MEMORY ? "" : ": ",
             kind == CHART_MEMORY ? "" : name);
    chart->height = TOP + PLOT + 28 + legend_height(analysis);
}

static bool has_spread(const struct analysis *analysis, uint32_t workload, enum metric metric)
{
    for (uint32_t e = 0; e < analysis->config->engine_count; e++) {
        for (uint32_t p = analysis->first_point[workload]; p < analysis->first_point[workload + 1];
             p++) {
            if (analysis_cell(analysis, e, p)->spreads[metric].count) {
                return true;
            }
        }
    }
    return false;
}

uint32_t chart_list(const struct analysis *analysis, struct chart charts[CHART_MAX])
{
    const struct config *config = analysis->config;
    uint32_t count = 0;
    for (uint32_t w = 0; w < config->workload_count; w++) {
        if (!has_spread(analysis, w, METRIC_E2E)) {
            continue;
        }
        add_chart(analysis, charts, &count, CHART_BARS, w, METRIC_TOKENS_S, "throughput",
                  "Throughput");
        add_chart(analysis, charts, &count, CHART_QUANTILES, w, METRIC_TTFT, "first-token",
                  "Time to first token, p50 p95 p99");
        if (has_spread(analysis, w, METRIC_TPOT)) {
            add_chart(analysis, charts, &count, CHART_QUANTILES, w, METRIC_TPOT, "token",
                      "Time per output token, p50 p95 p99");
        }
        if (config->workloads[w].level_count > 1) {
            add_chart(analysis, charts, &count, CHART_SCALING, w, METRIC_TOKENS_S, "scaling",
                      "Throughput over the level");
        }
        if (isfinite(analysis_cell(analysis, analysis->baseline, analysis->first_point[w])
                         ->cost_per_million)) {
            add_chart(analysis, charts, &count, CHART_COST, w, METRIC_TOKENS_S, "cost",
                      "Cost per million output tokens");
        }
    }
    if (config->workload_count) {
        add_chart(analysis, charts, &count, CHART_MEMORY, 0, METRIC_MEMORY_PEAK, "memory",
                  "Resident memory during the first run");
    }
    if (analysis->roofline && count < CHART_MAX) {
        charts[count++] = (struct chart){.kind = CHART_ROOFLINE,
                                         .workload = UINT32_MAX,
                                         .name = "roofline",
                                         .title = "Roofline",
                                         .height = ROOFLINE_HEIGHT};
    }
    return count;
}
