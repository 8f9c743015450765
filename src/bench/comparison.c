/* Owns the judgement of two samples: the tests that were asked for, the correction for many of
 * them, and a sentence. A difference is called when Welch's test after Holm's correction is below
 * the level and Mann-Whitney's, where it was asked for, agrees uncorrected: with five runs a side
 * its smallest possible p is 0.008, which no correction over a report survives. */
#include "bench/analysis.h"

#include <math.h>
#include <stdio.h>

bool analysis_is_open(const struct analysis *analysis, uint32_t point)
{
    enum load_kind kind = analysis->config->workloads[analysis->points[point].workload].kind;
    return kind == LOAD_RATE || kind == LOAD_TRACE;
}

enum metric analysis_compared(const struct analysis *analysis, uint32_t point, int compare)
{
    return compare == COMPARE_TTFT             ? METRIC_TTFT
           : compare == COMPARE_TPOT           ? METRIC_TPOT
           : analysis_is_open(analysis, point) ? METRIC_E2E
                                               : METRIC_TOKENS_S;
}

/* The smallest p that the exact rank test can give: 2 / (a + b over a). */
static double smallest_rank_p(size_t a, size_t b)
{
    double ways = 1;
    for (size_t i = 1; i <= a; i++) {
        ways *= (double)(b + i) / (double)i;
    }
    return fmin(1, 2 / ways);
}

void comparison_make(struct comparison *comparison, enum metric metric, const double *a,
                     size_t a_count, const double *b, size_t b_count,
                     const struct config_analysis *analysis)
{
    comparison->metric = metric;
    comparison->ratio = stats_mean(b, b_count) / stats_mean(a, a_count);
    comparison->mann_whitney = (struct mann_whitney){NAN, NAN, false};
    comparison->welch = (struct welch){NAN, NAN, NAN};
    if (analysis->mann_whitney && a_count > 1 && b_count > 1) {
        comparison->mann_whitney = mann_whitney_test(b, b_count, a, a_count);
    }
    if (analysis->welch) {
        comparison->welch = welch_test(b, b_count, a, a_count);
    }
    comparison->a_count = (uint32_t)a_count;
    comparison->b_count = (uint32_t)b_count;
    comparison->p_corrected = analysis->welch ? comparison->welch.p : comparison->mann_whitney.p;
    comparison->shift = hodges_lehmann(a, a_count, b, b_count, analysis->confidence);
    comparison->d = cohens_d(a, a_count, b, b_count);
    comparison->delta = cliffs_delta(a, a_count, b, b_count);
}

void comparisons_correct(struct comparison *comparisons, uint32_t count)
{
    enum { TOGETHER = 4096 };
    static _Thread_local double p[TOGETHER];
    for (uint32_t begin = 0; begin < count; begin += TOGETHER) {
        uint32_t here = count - begin < TOGETHER ? count - begin : TOGETHER;
        for (uint32_t i = 0; i < here; i++) {
            p[i] = comparisons[begin + i].p_corrected;
        }
        holm_correct(p, here);
        for (uint32_t i = 0; i < here; i++) {
            comparisons[begin + i].p_corrected = p[i];
        }
    }
}

/* By how much in words: the ratio of figures that may be nothing. */
static void tell_amount(double ratio, char *out, size_t bytes)
{
    if (isnan(ratio)) {
        snprintf(out, bytes, "both are 0");
    } else if (isinf(ratio)) {
        snprintf(out, bytes, "from 0");
    } else if (ratio >= 2 || (ratio > 0 && ratio <= 0.5)) {
        snprintf(out, bytes, "by a factor of %.1f", ratio > 1 ? ratio : 1 / ratio);
    } else {
        snprintf(out, bytes, "%+.1f %%", (ratio - 1) * 100);
    }
}

void comparison_decide(struct comparison *comparison, const struct config_analysis *analysis,
                       const char *name, const char *baseline)
{
    const struct metric_row *row = &metric_rows[comparison->metric];
    comparison_decide_as(comparison, row->title, row->higher_is_better, analysis, name, baseline);
}

void comparison_decide_as(struct comparison *comparison, const char *title, bool higher_is_better,
                          const struct config_analysis *analysis, const char *name,
                          const char *baseline)
{
    double level = 1 - analysis->confidence;
    double p = comparison->p_corrected;
    const char *test = analysis->welch ? "Welch" : "Mann-Whitney";
    char amount[48];
    tell_amount(comparison->ratio, amount, sizeof amount);
    double rank_bound = smallest_rank_p(comparison->a_count, comparison->b_count);
    bool ranks_agree = isnan(comparison->mann_whitney.p) || comparison->mann_whitney.p < level;
    if (isnan(p)) {
        comparison->verdict = VERDICT_NONE;
        snprintf(
            comparison->words, sizeof comparison->words,
            "%s: too few runs to say whether %s and %s differ: a test needs two of each at least",
            title, name, baseline);
        return;
    }
    if (!isnan(comparison->mann_whitney.p) && rank_bound >= level) {
        comparison->verdict = VERDICT_NONE;
        snprintf(comparison->words, sizeof comparison->words,
                 "%s: too few runs for a verdict on %s and %s: with %u and %u the rank test cannot "
                 "fall below p %.2g (seen: %s, %s p %.2g); 5 runs are enough",
                 title, name, baseline, comparison->b_count, comparison->a_count, rank_bound,
                 amount, test, p);
        return;
    }
    if (p >= level || !ranks_agree) {
        comparison->verdict = VERDICT_SAME;
        snprintf(comparison->words, sizeof comparison->words,
                 "%s: no difference between %s and %s can be told (%s, p %.3f%s)", title, name,
                 baseline, amount, p, p < level ? ", the rank test disagrees" : "");
        return;
    }
    bool better = (comparison->ratio > 1) == higher_is_better;
    comparison->verdict = better ? VERDICT_BETTER : VERDICT_WORSE;
    snprintf(comparison->words, sizeof comparison->words,
             "%s: %s is %s than %s (%s, p %.2g, effect %s)", title, name,
             better ? "better" : "worse", baseline, amount, p, cliffs_size(comparison->delta));
}
