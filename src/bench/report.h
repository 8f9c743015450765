/* What is written from an analysis. Every text that came from outside is escaped for the form that
 * it goes to. */
#ifndef BENCH_REPORT_H
#define BENCH_REPORT_H

#include "base/buffer.h"
#include "bench/analysis.h"

/* summary.json, as benchmarks/summary.schema.json says. */
void report_summary(const struct analysis *analysis, struct buffer *out);

/* The table for a terminal. */
void report_table(const struct analysis *analysis, struct buffer *out);

/* report.html: one file without any outside address. */
llcuda_status report_html(const struct analysis *analysis, struct buffer *out,
                          struct llcuda_error *error);

/* plots/NAME.svg, and report.pdf with every chart (not without cairo). */
llcuda_status report_plots(const struct analysis *analysis, struct llcuda_error *error);
llcuda_status report_pdf(const struct analysis *analysis, const char *path,
                         struct llcuda_error *error);

/* All of them into the analysis' folder. */
llcuda_status report_write(const struct analysis *analysis, struct llcuda_error *error);

/* Figures of two folders, engine by engine and point by point. `regressions` counts what got worse
 * beyond doubt. The table is appended to `out`, as JSON with `json`. */
llcuda_status report_compare(const char *folder_a, const char *folder_b, bool json,
                             struct buffer *out, uint32_t *regressions, struct llcuda_error *error);

/* A figure as people write it: so many digits, and all of a whole number's instead of an exponent.
 */
struct number_text {
    char text[48];
};
struct number_text report_number(double value, int digits);
/* The mean and half of its interval; a dash when it was not measured. */
struct number_text report_figure(const struct figure *figure);

/* A piece of advice with what it rests on. */
struct advice {
    char text[400];
    char evidence[400];
};
#define ADVICE_MAX 24u
/* Who to choose for each workload, what could be gained, what to look at. Returns how many. */
uint32_t report_advise(const struct analysis *analysis, struct advice advice[ADVICE_MAX]);

/* The criteria of the workloads: what was asked, what was seen. */
struct criterion {
    char text[160];
    char seen[200];
    int met; /* 1, 0, or -1: not measured here */
};
#define CRITERIA_MAX 16u
uint32_t report_criteria(const struct analysis *analysis, struct criterion criteria[CRITERIA_MAX]);

#endif
