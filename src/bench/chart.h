/* The charts of a report: what there is to draw for an analysis, and drawing one. */
#ifndef BENCH_CHART_H
#define BENCH_CHART_H

#include "bench/analysis.h"
#include "bench/canvas.h"

#define CHART_WIDTH     760.0
#define CHART_MAX       256u
#define ROOFLINE_HEIGHT 380.0

enum chart_kind {
    CHART_BARS,
    CHART_QUANTILES,
    CHART_SCALING,
    CHART_MEMORY,
    CHART_COST,
    CHART_ROOFLINE
};

struct chart {
    enum chart_kind kind;
    uint32_t workload;
    enum metric metric;
    char name[96];   /* for a file: "throughput-latency" */
    char title[160]; /* for people */
    double height;
};

/* The charts that have something to show: [*count] of `charts`. */
uint32_t chart_list(const struct analysis *analysis, struct chart charts[CHART_MAX]);
void chart_draw(const struct analysis *analysis, const struct chart *chart, struct canvas *canvas);

#endif
