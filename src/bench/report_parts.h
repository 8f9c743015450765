/* Parts of reports, for the files that write them alone. */
#ifndef BENCH_REPORT_PARTS_H
#define BENCH_REPORT_PARTS_H

#include "base/json.h"
#include "bench/report.h"

/* Outside text, escaped. NULL is nothing. */
void html_text(struct buffer *out, const char *value);

/* A cell of a table; NaN is a dash. Format "p": a share in per cent. */
void html_number(struct buffer *out, double value, const char *format);

/* Who wins where, scaling over ranks, return on investment, and how to move. */
void report_html_business(const struct analysis *analysis, struct buffer *out);

/* Who wins each kernel: nothing when the configuration asks for no profile; of summary.json the
 * member "operations", which then is null. */
void report_html_operations(const struct analysis *analysis, struct buffer *out);
void report_table_operations(const struct analysis *analysis, struct buffer *out);
void report_summary_operations(const struct analysis *analysis, struct json_writer *writer);

/* The engine with the highest mean of a metric at a point, or the lowest where that is better;
 * UINT32_MAX when nothing was measured. */
uint32_t report_point_winner(const struct analysis *analysis, uint32_t point, enum metric metric);

/* The geometric mean of an engine's cost per million tokens / the baseline's, over the points of
 * closed loops that both have. NaN without prices or without such a point. */
double report_cost_ratio(const struct analysis *analysis, uint32_t engine);

/* What an engine costs a month at the price table's tokens: the baseline's cost × the ratio. NaN
 * without prices. */
double report_monthly_cost(const struct analysis *analysis, uint32_t engine);

#endif
