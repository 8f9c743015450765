/* Owns the success criteria: what was asked of an engine, what this report has seen of it, and
 * whether that is enough. What could not be measured says so and why. */
#include "bench/report.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>

static void criterion(struct criterion *criteria, uint32_t *count, const char *text, int met,
                      const char *format, ...) BASE_PRINTF(5, 6);

static void criterion(struct criterion *criteria, uint32_t *count, const char *text, int met,
                      const char *format, ...)
{
    struct criterion *next = &criteria[(*count)++];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(next->seen, sizeof next->seen, format, arguments);
    va_end(arguments);
    snprintf(next->text, sizeof next->text, "%s", text);
    next->met = met;
}

/* The largest or smallest mean of a metric among all cells of a kind of load. */
static double extreme(const struct analysis *analysis, enum metric metric, bool open_only,
                      uint32_t *engine)
{
    double best = NAN;
    for (uint32_t e = 0; e < analysis->config->engine_count; e++) {
        for (uint32_t p = 0; p < analysis->point_count; p++) {
            enum load_kind kind = analysis->config->workloads[analysis->points[p].workload].kind;
            double value = metric == METRIC_TTFT
                               ? analysis_cell(analysis, e, p)->spreads[metric].at[PERCENTILE_95]
                               : analysis_cell(analysis, e, p)->figures[metric].mean;
            if (isnan(value) || (open_only && kind != LOAD_RATE)) {
                continue;
            }
            bool better = metric_rows[metric].higher_is_better ? value > best : value < best;
            if (isnan(best) || better) {
                best = value;
                *engine = e;
            }
        }
    }
    return best;
}

/* The best of a kind of test in a profile of kernels; NaN when none says it. */
static double best_test(const struct roofline *roofline, bool prompts,
                        double (*figure)(const struct roofline_test *test), const char **name)
{
    double best = NAN;
    for (uint32_t i = 0; roofline && i < roofline->test_count; i++) {
        double value = figure(&roofline->tests[i]);
        if (roofline->tests[i].is_prompt == prompts && !(value <= best) && !isnan(value)) {
            best = value;
            *name = roofline->tests[i].name;
        }
    }
    return best;
}

static double bandwidth_of(const struct roofline_test *test)
{
    return test->memory_share;
}

static double tensor_of(const struct roofline_test *test)
{
    return test->tensor_share;
}

/* What the counters say where they may be read, otherwise what registers and memory allow. */
static double occupancy_of(const struct roofline_test *test)
{
    return isnan(test->achieved_occupancy) ? test->occupancy : test->achieved_occupancy;
}

/* Those that only a profile of kernels can tell. */
static void kernel_criteria(const struct roofline *roofline, struct criterion *criteria,
                            uint32_t *count)
{
    static const struct {
        const char *text;
        double bar;
        bool prompts;
        double (*figure)(const struct roofline_test *test);
        const char *where;
    } rows[] = {
        {"occupancy above 75 %", 0.75, true, occupancy_of, "kernels of prompts, weighted by time"},
        {"bandwidth above 80 %", 0.80, false, bandwidth_of,
         "bytes of a step / its time / the ceiling"},
        {"tensor cores above 60 %", 0.60, true, tensor_of, "the GPU's counters, prompts"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const char *name = "";
        double seen = best_test(roofline, rows[i].prompts, rows[i].figure, &name);
        if (!isnan(seen)) {
            criterion(criteria, count, rows[i].text, seen > rows[i].bar, "%.1f %%, %s (%s%s)",
                      seen * 100, name, rows[i].where,
                      seen > 1 ? "; above 100 %: weights stay in a cache" : "");
        } else if (!roofline) {
            criterion(
                criteria, count, rows[i].text, -1,
                "no profile of kernels lies beside: llcuda bench --mode kernels --output DIR");
        } else {
            const char *reason = roofline->test_count ? roofline->tests[0].counters : "";
            criterion(criteria, count, rows[i].text, -1, "the profile does not say it%s%.150s",
                      reason[0] ? ": " : "", reason);
        }
    }
}

/* Of an engine on several devices, against one, at the point where it makes most tokens: a load
 * that one device carries alone has nothing for the others. NaN for other engines. */
static double efficiency_when_fastest(const struct analysis *analysis, uint32_t engine)
{
    const struct cell *fastest = NULL;
    for (uint32_t p = 0; p < analysis->point_count; p++) {
        const struct cell *cell = analysis_cell(analysis, engine, p);
        if (cell->rank_efficiency > 0 && (!fastest || cell->figures[METRIC_TOKENS_S].mean >
                                                          fastest->figures[METRIC_TOKENS_S].mean)) {
            fastest = cell;
        }
    }
    return fastest ? fastest->rank_efficiency : NAN;
}

/* More at a time, and more devices. */
static void scaling_criteria(const struct analysis *analysis, struct criterion *criteria,
                             uint32_t *count)
{
    const struct config *config = analysis->config;
    uint32_t engine = 0;
    char seen[120] = "";
    double best = NAN;
    for (uint32_t e = 0; e < config->engine_count; e++) {
        for (uint32_t p = 0; p < analysis->point_count; p++) {
            const struct cell *cell = analysis_cell(analysis, e, p);
            if (analysis_is_open(analysis, p)) {
                continue; /* throughput follows the arrivals, however they grow */
            }
            if (cell->scaling > 1 && !(cell->batch_efficiency <= best)) {
                best = cell->batch_efficiency;
                engine = e;
            }
        }
    }
    snprintf(seen, sizeof seen, "%.0f %%, %.80s", best * 100, config->engines[engine].name);
    criterion(criteria, count,
              "throughput grows in proportion to the level up to the hardware's limit",
              isnan(best) ? -1 : best > 0.8,
              isnan(best) ? "no engine grew with the level%s" : "best batch efficiency %s",
              isnan(best) ? "" : seen);
    double least = NAN;
    uint32_t least_engine = 0;
    for (uint32_t e = 0; e < config->engine_count; e++) {
        for (uint32_t p = 0; p < analysis->point_count; p++) {
            double efficiency = analysis_cell(analysis, e, p)->rank_efficiency;
            if (efficiency > 0 && !(efficiency >= least)) {
                least = efficiency;
                least_engine = e;
            }
        }
    }
    if (isnan(least)) {
        criterion(criteria, count, "throughput grows in proportion to the devices", -1,
                  "no engine ran on more than one: llcuda bench --mode scaling");
    } else {
        criterion(criteria, count, "throughput grows in proportion to the devices", least > 0.8,
                  "least efficiency %.0f %%, on %u ranks; %.0f %% at its point of most tokens a "
                  "second",
                  least * 100, config->engines[least_engine].ranks,
                  efficiency_when_fastest(analysis, least_engine) * 100);
    }
}

/* What the host of a virtual machine took, and what was measured again for it. */
static void steal_criterion(const struct analysis *analysis, struct criterion *criteria,
                            uint32_t *count)
{
    uint32_t engine = 0;
    uint32_t point = 0;
    uint32_t again = 0;
    char text[80];
    char seen[120];
    double limit = analysis_steal_limit(analysis);
    double most = analysis_worst(analysis, METRIC_STOLEN, &engine, &point);
    for (uint32_t e = 0; e < analysis->config->engine_count; e++) {
        again += analysis->engines[e].sessions_set_aside;
    }
    snprintf(text, sizeof text, "a machine's host takes at most %.0f %% of its processors' time",
             limit * 100);
    snprintf(seen, sizeof seen, "%.1f %% at its worst point, %.40s at %.30s; %u sessions set aside",
             most * 100, analysis->config->engines[engine].name, analysis->points[point].key,
             again);
    criterion(criteria, count, text, isnan(most) ? -1 : most <= limit, "%s",
              isnan(most) ? "no point says it" : seen);
}

uint32_t report_criteria(const struct analysis *analysis, struct criterion criteria[CRITERIA_MAX])
{
    const struct config *config = analysis->config;
    uint32_t count = 0;
    uint32_t engine = 0;
    char seen[120] = "";
    bool open_loop = true;
    double ttft = extreme(analysis, METRIC_TTFT, true, &engine);
    if (isnan(ttft)) {
        open_loop = false;
        ttft = extreme(analysis, METRIC_TTFT, false, &engine);
    }
    snprintf(seen, sizeof seen, "%.80s: %.1f ms", config->engines[engine].name, ttft);
    criterion(criteria, &count, "time to first token below 100 ms", isnan(ttft) ? -1 : ttft < 100,
              isnan(ttft) ? "no request succeeded%s"
              : open_loop ? "p95 of the best engine in an open loop, %s"
                          : "p95 of the best engine at its best point (no open-loop workload), %s",
              isnan(ttft) ? "" : seen);
    double gpu = extreme(analysis, METRIC_GPU, false, &engine);
    snprintf(seen, sizeof seen, "%.80s: %.0f %%", config->engines[engine].name, gpu * 100);
    criterion(criteria, &count, "GPU utilisation above 70 %", isnan(gpu) ? -1 : gpu > 0.7,
              isnan(gpu) ? "no NVIDIA GPU was watched%s" : "mean of NVML's samples at its best, %s",
              isnan(gpu) ? "" : seen);
    kernel_criteria(analysis->roofline, criteria, &count);
    scaling_criteria(analysis, criteria, &count);
    uint64_t failed = 0;
    uint64_t all = 0;
    for (uint32_t i = 0; i < config->engine_count * analysis->point_count; i++) {
        failed += analysis->cells[i].failed;
        all += analysis->cells[i].requests;
    }
    criterion(criteria, &count, "no request fails", all ? failed == 0 : -1,
              "%llu of %llu requests failed", (unsigned long long)failed, (unsigned long long)all);
    uint32_t point = 0;
    double overhead = analysis_worst(analysis, METRIC_OVERHEAD, &engine, &point);
    snprintf(seen, sizeof seen, "%.2f %% at its worst point, %.50s at %.40s", overhead * 100,
             config->engines[engine].name, analysis->points[point].key);
    criterion(criteria, &count, "the harness takes at most 1 % of the measured time",
              isnan(overhead) ? -1 : overhead <= 0.01, "%s",
              isnan(overhead) ? "no point was measured" : seen);
    steal_criterion(analysis, criteria, &count);
    return count;
}
