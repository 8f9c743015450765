/* Owns the table for a terminal. */
#include "bench/report_parts.h"

#include <math.h>
#include <stdio.h>

/* Characters on the screen: UTF-8 continuation bytes take no place. */
static int padding(const char *text, int width)
{
    int seen = 0;
    for (const char *c = text; *c; c++) {
        seen += ((unsigned char)*c & 0xC0) != 0x80;
    }
    return seen < width ? width - seen : 0;
}

static void cell_text(struct buffer *out, const char *text, int width)
{
    buffer_printf(out, "%s%*s", text, padding(text, width), "");
}

static void cell_figure(struct buffer *out, const struct figure *figure)
{
    cell_text(out, report_figure(figure).text, 20);
}

static int longest_name(const struct analysis *analysis)
{
    int longest = 6;
    for (uint32_t e = 0; e < analysis->config->engine_count; e++) {
        int length = (int)strlen(analysis->config->engines[e].name);
        longest = length > longest ? length : longest;
    }
    return longest > 40 ? 42 : longest + 2;
}

static bool is_known(const struct analysis *analysis, enum metric metric)
{
    bool known = false;
    for (uint32_t i = 0; i < analysis->config->engine_count * analysis->point_count; i++) {
        const struct cell *cell = &analysis->cells[i];
        known = known || (cell->measured && isfinite(cell->figures[metric].mean));
    }
    return known;
}

void report_table(const struct analysis *analysis, struct buffer *out)
{
    static const enum metric columns[] = {METRIC_TTFT,     METRIC_TPOT,        METRIC_E2E,
                                          METRIC_TOKENS_S, METRIC_MEMORY_PEAK, METRIC_GPU_MEMORY};
    static const char *const titles[] = {"first token, ms", "token, ms",       "whole, ms",
                                         "tokens/s",        "peak memory, MB", "GPU memory, MB"};
    const size_t column_count =
        sizeof columns / sizeof columns[0] - !is_known(analysis, METRIC_GPU_MEMORY);
    const struct config *config = analysis->config;
    int width = longest_name(analysis);
    for (uint32_t p = 0; p < analysis->point_count; p++) {
        const struct config_point *point = &analysis->points[p];
        buffer_printf(out, "%s, %s\n  ", config->workloads[point->workload].name, point->key);
        cell_text(out, "engine", width);
        for (size_t c = 0; c < column_count; c++) {
            cell_text(out, titles[c], 20);
        }
        buffer_append_text(out, "\n");
        for (uint32_t e = 0; e < config->engine_count; e++) {
            const struct cell *cell = analysis_cell(analysis, e, p);
            buffer_append_text(out, "  ");
            cell_text(out, config->engines[e].name, width);
            if (!cell->measured) {
                const char *reason = analysis->engines[e].reason;
                buffer_printf(out, "%s\n",
                              reason[0]                ? reason
                              : cell->first_failure[0] ? cell->first_failure
                                                       : "not run");
                continue;
            }
            for (size_t c = 0; c < column_count; c++) {
                cell_figure(out, &cell->figures[columns[c]]);
            }
            buffer_append_text(out, "\n");
            if (isfinite(cell->speedup)) {
                buffer_printf(out, "    %u ranks: %.2f × one, efficiency %.0f %%\n",
                              config->engines[e].ranks, cell->speedup, cell->rank_efficiency * 100);
            }
        }
    }
    buffer_printf(out, "± is half of the %.0f %% interval of the mean over runs.\n",
                  config->analysis.confidence * 100);
    for (uint32_t i = 0; i < analysis->comparison_count; i++) {
        const struct comparison *comparison = &analysis->comparisons[i];
        if (comparison->metric == analysis_compared(analysis, comparison->point, COMPARE_SPEED)) {
            buffer_printf(out, "%s: %s\n", analysis->points[comparison->point].key,
                          comparison->words);
        }
    }
    report_table_operations(analysis, out);
    static struct criterion criteria[CRITERIA_MAX];
    uint32_t count = report_criteria(analysis, criteria);
    for (uint32_t i = 0; i < count; i++) {
        buffer_printf(out, "%-12s  %s: %s\n",
                      criteria[i].met == 1 ? "met"
                      : criteria[i].met    ? "not measured"
                                           : "missed",
                      criteria[i].text, criteria[i].seen);
    }
}
