/* Owns recommendations and criteria. Every sentence carries the figures that it rests on; where the
 * figures do not decide, it says so. */
#include "bench/report.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>

static struct advice *add(struct advice *advice, uint32_t *count)
{
    struct advice *next = *count < ADVICE_MAX ? &advice[(*count)++] : &advice[ADVICE_MAX - 1];
    *next = (struct advice){{0}, {0}};
    return next;
}

/* The engine with the best mean of a metric over the points of a workload that it was measured
 * at, all of them; UINT32_MAX when there is none. */
static uint32_t winner(const struct analysis *analysis, uint32_t workload, enum metric metric,
                       double *best_mean)
{
    uint32_t best = UINT32_MAX;
    for (uint32_t e = 0; e < analysis->config->engine_count; e++) {
        double sum = 0;
        bool whole = true;
        uint32_t begin = analysis->first_point[workload];
        uint32_t end = analysis->first_point[workload + 1];
        for (uint32_t p = begin; p < end; p++) {
            double mean = analysis_cell(analysis, e, p)->figures[metric].mean;
            whole = whole && mean > 0;
            sum += log(mean);
        }
        double mean = exp(sum / (end - begin));
        bool better = metric_rows[metric].higher_is_better ? mean > *best_mean : mean < *best_mean;
        if (whole && (best == UINT32_MAX || better)) {
            best = e;
            *best_mean = mean;
        }
    }
    return best;
}

static const struct comparison *find_comparison(const struct analysis *analysis, uint32_t engine,
                                                uint32_t point, enum metric metric)
{
    for (uint32_t i = 0; i < analysis->comparison_count; i++) {
        const struct comparison *comparison = &analysis->comparisons[i];
        if (comparison->engine == engine && comparison->point == point &&
            comparison->metric == metric) {
            return comparison;
        }
    }
    return NULL;
}

static void advise_workload(const struct analysis *analysis, uint32_t workload,
                            struct advice *advice, uint32_t *count)
{
    const struct config *config = analysis->config;
    double speed = 0;
    double wait = 0;
    uint32_t fastest = winner(analysis, workload, METRIC_TOKENS_S, &speed);
    uint32_t quickest = winner(analysis, workload, METRIC_TTFT, &wait);
    if (fastest == UINT32_MAX) {
        return;
    }
    struct advice *next = add(advice, count);
    snprintf(next->text, sizeof next->text, "For '%s' use %s: %.4g tokens/s%s%s%s",
             config->workloads[workload].name, config->engines[fastest].name, speed,
             quickest != fastest && quickest != UINT32_MAX ? "; the first token comes soonest from "
                                                           : "",
             quickest != fastest && quickest != UINT32_MAX ? config->engines[quickest].name : "",
             analysis->point_count > 1 ? " (geometric mean over its points)." : ".");
    const struct comparison *comparison =
        find_comparison(analysis, fastest, analysis->first_point[workload], METRIC_TOKENS_S);
    if (comparison && comparison->verdict != VERDICT_BETTER) {
        snprintf(next->text, sizeof next->text,
                 "For '%s' the figures do not decide; %s had the highest mean, %.4g tokens/s.",
                 config->workloads[workload].name, config->engines[fastest].name, speed);
    }
    snprintf(next->evidence, sizeof next->evidence, "%s",
             fastest == analysis->baseline ? "it is the baseline, and no engine was faster"
             : comparison                  ? comparison->words
                                           : "no test was possible against the baseline");
}

/* Runs of one engine that do not repeat well make every verdict about it weaker. */
static void advise_steadiness(const struct analysis *analysis, struct advice *advice,
                              uint32_t *count)
{
    const struct config *config = analysis->config;
    for (uint32_t e = 0; e < config->engine_count; e++) {
        double worst = 0;
        uint32_t where = 0;
        for (uint32_t p = 0; p < analysis->point_count; p++) {
            double variation = analysis_cell(analysis, e, p)->figures[METRIC_TOKENS_S].variation;
            if (variation > worst) {
                worst = variation;
                where = p;
            }
        }
        if (worst > config->analysis.reproducibility) {
            struct advice *next = add(advice, count);
            snprintf(next->text, sizeof next->text,
                     "Measure %s again on a quieter machine or with more repeats: its runs differ "
                     "too much.",
                     config->engines[e].name);
            snprintf(next->evidence, sizeof next->evidence,
                     "throughput at '%s' varies by %.0f %% from run to run; the bar is %.0f %%",
                     analysis->points[where].key, worst * 100,
                     config->analysis.reproducibility * 100);
        }
    }
}

/* What more requests at a time would bring: expected gain from the engine's own scaling. */
static void advise_batching(const struct analysis *analysis, struct advice *advice, uint32_t *count)
{
    const struct config *config = analysis->config;
    for (uint32_t e = 0; e < config->engine_count; e++) {
        double best = 1;
        uint32_t where = UINT32_MAX;
        for (uint32_t p = 0; p < analysis->point_count; p++) {
            const struct cell *cell = analysis_cell(analysis, e, p);
            enum load_kind kind = config->workloads[analysis->points[p].workload].kind;
            if ((kind == LOAD_BATCH || kind == LOAD_CONCURRENT) && cell->scaling > best) {
                best = cell->scaling;
                where = p;
            }
        }
        if (where != UINT32_MAX && best > 1.2) {
            struct advice *next = add(advice, count);
            snprintf(next->text, sizeof next->text,
                     "Let %s answer more requests at a time: expect about %.1f × the throughput at "
                     "'%s'.",
                     config->engines[e].name, best, analysis->points[where].key);
            snprintf(next->evidence, sizeof next->evidence,
                     "scaling factor %.2f, batch efficiency %.0f %%, against its lowest level",
                     best, analysis_cell(analysis, e, where)->batch_efficiency * 100);
        }
    }
}

static void advise_money(const struct analysis *analysis, struct advice *advice, uint32_t *count)
{
    const struct config *config = analysis->config;
    const struct config_prices *prices = &config->prices;
    if (!(prices->machine_per_hour > 0)) {
        return;
    }
    for (uint32_t e = 0; e < config->engine_count; e++) {
        double score = analysis->engines[e].rank_score;
        if (e == analysis->baseline || !(score > 1.05)) {
            continue;
        }
        struct advice *next = add(advice, count);
        double saved = (1 - 1 / score) * 100;
        snprintf(next->text, sizeof next->text,
                 "Moving from %s to %s lowers the cost of a token by %.0f %%.",
                 config->engines[analysis->baseline].name, config->engines[e].name, saved);
        double base = 0;
        for (uint32_t p = 0; p < analysis->point_count && !(base > 0); p++) {
            base = analysis_cell(analysis, analysis->baseline, p)->cost_per_million;
        }
        if (prices->tokens_per_month > 0 && base > 0) {
            double monthly = base * prices->tokens_per_month / 1e6 * (1 - 1 / score);
            snprintf(next->evidence, sizeof next->evidence,
                     "throughput %.2f × the baseline's; at %.3g tokens a month that is %.2f %s a "
                     "month%s%.1f%s",
                     score, prices->tokens_per_month, monthly, prices->currency,
                     prices->migration > 0 ? ", so moving pays back in " : "; moving costs ",
                     prices->migration > 0 ? prices->migration / monthly : 0,
                     prices->migration > 0 ? " months" : " in the price table");
        } else {
            snprintf(next->evidence, sizeof next->evidence,
                     "throughput %.2f × the baseline's (geometric mean) at the same price an hour",
                     score);
        }
    }
}

static void advise_tokens(const struct analysis *analysis, struct advice *advice, uint32_t *count)
{
    const struct config *config = analysis->config;
    for (uint32_t e = 0; e < config->engine_count; e++) {
        const struct engine_result *engine = &analysis->engines[e];
        if (engine->tokens_agreeing < engine->tokens_checked) {
            struct advice *next = add(advice, count);
            snprintf(next->text, sizeof next->text,
                     "Check the answers of %s before using it: greedy tokens differ from %s's.",
                     config->engines[e].name, config->engines[analysis->reference].name);
            snprintf(next->evidence, sizeof next->evidence, "%u of %u prompts agree; %.300s",
                     engine->tokens_agreeing, engine->tokens_checked, engine->first_difference);
        }
    }
}

uint32_t report_advise(const struct analysis *analysis, struct advice advice[ADVICE_MAX])
{
    uint32_t count = 0;
    for (uint32_t w = 0; w < analysis->config->workload_count && count < ADVICE_MAX - 8; w++) {
        advise_workload(analysis, w, advice, &count);
    }
    advise_tokens(analysis, advice, &count);
    advise_batching(analysis, advice, &count);
    advise_money(analysis, advice, &count);
    advise_steadiness(analysis, advice, &count);
    return count;
}
