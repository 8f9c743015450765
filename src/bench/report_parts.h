/* Parts of report.html, for report_html.c alone. */
#ifndef BENCH_REPORT_PARTS_H
#define BENCH_REPORT_PARTS_H

#include "bench/report.h"

/* Outside text, escaped. NULL is nothing. */
void html_text(struct buffer *out, const char *value);

/* A cell of a table; NaN is a dash. Format "p": a share in per cent. */
void html_number(struct buffer *out, double value, const char *format);

/* Who wins where, scaling over ranks, return on investment, and how to move. */
void report_html_business(const struct analysis *analysis, struct buffer *out);

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
