/* Owns recommendations and criteria. Every sentence carries the figures that it rests on; where the
 * figures do not decide, it says so. */
#include "bench/report_parts.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static struct advice *add(struct advice *advice, uint32_t *count)
{
    struct advice *next = *count < ADVICE_MAX ? &advice[(*count)++] : &advice[ADVICE_MAX - 1];
    *next = (struct advice){{0}, {0}};
    return next;
}

/* The engine with the best mean of a metric over the points of a workload, of those that were
 * measured at all of them; `without` is left out. UINT32_MAX when there is none. */
static uint32_t winner(const struct analysis *analysis, uint32_t workload, enum metric metric,
                       uint32_t without, double *best_mean)
{
    uint32_t best = UINT32_MAX;
    for (uint32_t e = 0; e < analysis->config->engine_count; e++) {
        double sum = 0;
        bool whole = e != without && !analysis->config->engines[e].replayed;
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

/* How the first engine does against the second over the points of a workload. */
struct duel {
    uint32_t points, better, worse;
    char words[256]; /* of the point that decides, or of the first */
};

static void count_verdict(const struct analysis *analysis, uint32_t point, enum verdict verdict,
                          const char *words, struct duel *duel)
{
    if (duel->points++ == 0 || (verdict == VERDICT_BETTER && duel->better == 0)) {
        snprintf(duel->words, sizeof duel->words, "%.80s: %.170s", analysis->points[point].key,
                 words);
    }
    duel->better += verdict == VERDICT_BETTER;
    duel->worse += verdict == VERDICT_WORSE;
}

/* One of the two is the baseline: the report has these tests. */
static void recall(const struct analysis *analysis, uint32_t workload, uint32_t first,
                   uint32_t second, struct duel *duel)
{
    static const enum verdict turned[] = {VERDICT_NONE, VERDICT_SAME, VERDICT_WORSE,
                                          VERDICT_BETTER};
    uint32_t other = first == analysis->baseline ? second : first;
    for (uint32_t i = 0; i < analysis->comparison_count; i++) {
        const struct comparison *comparison = &analysis->comparisons[i];
        uint32_t point = comparison->point;
        if (comparison->engine == other && analysis->points[point].workload == workload &&
            comparison->metric == analysis_compared(analysis, point, COMPARE_SPEED)) {
            count_verdict(analysis, point,
                          other == first ? comparison->verdict : turned[comparison->verdict],
                          comparison->words, duel);
        }
    }
}

/* Tests at every point, corrected together with all that the report makes. */
static void fight(const struct analysis *analysis, uint32_t workload, uint32_t first,
                  uint32_t second, struct duel *duel)
{
    const struct config *config = analysis->config;
    uint32_t begin = analysis->first_point[workload];
    uint32_t count = analysis->first_point[workload + 1] - begin;
    uint32_t all = count + analysis->comparison_count;
    struct comparison *points = calloc(all, sizeof *points);
    double *a = calloc(config->repeats, sizeof *a);
    double *b = calloc(config->repeats, sizeof *b);
    bool fine = points && a && b;
    for (uint32_t i = 0; fine && i < all; i++) {
        if (i >= count) {
            points[i] = analysis->comparisons[i - count];
            points[i].p_corrected =
                config->analysis.welch ? points[i].welch.p : points[i].mann_whitney.p;
            continue;
        }
        enum metric metric = analysis_compared(analysis, begin + i, COMPARE_SPEED);
        uint32_t m = analysis_run_values(analysis_cell(analysis, second, begin + i), metric, a);
        uint32_t n = analysis_run_values(analysis_cell(analysis, first, begin + i), metric, b);
        comparison_make(&points[i], metric, a, m, b, n, &config->analysis);
    }
    if (fine) {
        comparisons_correct(points, all);
    }
    for (uint32_t i = 0; fine && i < count; i++) {
        comparison_decide(&points[i], &config->analysis, config->engines[first].name,
                          config->engines[second].name);
        count_verdict(analysis, begin + i, points[i].verdict, points[i].words, duel);
    }
    free(points);
    free(a);
    free(b);
}

/* Requests of the winner that failed weigh more than its speed. */
static void tell_failures(const struct analysis *analysis, uint32_t workload, uint32_t engine,
                          struct advice *advice)
{
    uint64_t failed = 0;
    uint64_t sent = 0;
    for (uint32_t p = analysis->first_point[workload]; p < analysis->first_point[workload + 1];
         p++) {
        failed += analysis_cell(analysis, engine, p)->failed;
        sent += analysis_cell(analysis, engine, p)->requests;
    }
    size_t used = strlen(advice->text);
    if (failed) {
        snprintf(advice->text + used, sizeof advice->text - used,
                 " But %llu of %llu of its requests failed.", (unsigned long long)failed,
                 (unsigned long long)sent);
    }
}

/* The fastest against the next best: being better than the baseline is no reason to prefer it. */
static void advise_workload(const struct analysis *analysis, uint32_t workload,
                            struct advice *advice, uint32_t *count)
{
    const struct config *config = analysis->config;
    uint32_t begin = analysis->first_point[workload];
    enum metric metric = analysis_compared(analysis, begin, COMPARE_SPEED);
    const struct metric_row *row = &metric_rows[metric];
    const char *over =
        analysis->first_point[workload + 1] - begin > 1 ? ", geometric mean over its points" : "";
    double speed = 0;
    double next_speed = 0;
    double wait = 0;
    uint32_t fastest = winner(analysis, workload, metric, UINT32_MAX, &speed);
    uint32_t quickest = winner(analysis, workload, METRIC_TTFT, UINT32_MAX, &wait);
    uint32_t next = fastest == UINT32_MAX
                        ? UINT32_MAX
                        : winner(analysis, workload, metric, fastest, &next_speed);
    struct duel duel = {0};
    if (fastest == UINT32_MAX) {
        return;
    }
    struct advice *out = add(advice, count);
    const char *name = config->workloads[workload].name;
    const char *best = config->engines[fastest].name;
    if (next == UINT32_MAX) {
        snprintf(out->text, sizeof out->text,
                 "For '%s' %s is the only engine that was measured: %s %s %s%s.", name, best,
                 row->title, report_number(speed, 4).text, row->unit, over);
        snprintf(out->evidence, sizeof out->evidence, "nothing to compare it with");
        tell_failures(analysis, workload, fastest, out);
        return;
    }
    bool known = fastest == analysis->baseline || next == analysis->baseline;
    (known ? recall : fight)(analysis, workload, fastest, next, &duel);
    if (duel.better && !duel.worse) {
        snprintf(out->text, sizeof out->text, "For '%s' use %s: %s %s %s%s%s%s.", name, best,
                 row->title, report_number(speed, 4).text, row->unit, over,
                 quickest != fastest && quickest != UINT32_MAX
                     ? "; the first token came soonest, in the mean, from "
                     : "",
                 quickest != fastest && quickest != UINT32_MAX ? config->engines[quickest].name
                                                               : "");
    } else {
        snprintf(out->text, sizeof out->text,
                 "For '%s' the figures do not decide between %s and %s%s: %s %s and %s %s%s.", name,
                 best, config->engines[next].name,
                 duel.better ? ", each is better at some points" : "", row->title,
                 report_number(speed, 4).text, report_number(next_speed, 4).text, row->unit, over);
    }
    snprintf(out->evidence, sizeof out->evidence,
             "against the next best, %.60s: better at %u of %u points, worse at %u; %s",
             config->engines[next].name, duel.better, duel.points, duel.worse, duel.words);
    tell_failures(analysis, workload, fastest, out);
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
            enum metric speed = analysis_compared(analysis, p, COMPARE_SPEED);
            double variation = analysis_cell(analysis, e, p)->figures[speed].variation;
            if (variation > worst) {
                worst = variation;
                where = p;
            }
        }
        if (worst > config->analysis.reproducibility) {
            struct advice *next = add(advice, count);
            snprintf(next->text, sizeof next->text,
                     "Measure %s again on a quieter machine, with longer runs or more repeats: its "
                     "runs differ too much.",
                     config->engines[e].name);
            snprintf(next->evidence, sizeof next->evidence,
                     "%s at '%s' varies by %.0f %% from run to run; the bar is %.0f %%",
                     metric_rows[analysis_compared(analysis, where, COMPARE_SPEED)].title,
                     analysis->points[where].key, worst * 100,
                     config->analysis.reproducibility * 100);
        }
    }
}

/* The mean time to a first token at the lowest level with the same prompts. */
static double first_token_alone(const struct analysis *analysis, uint32_t engine, uint32_t point)
{
    uint32_t lowest = point;
    for (uint32_t p = 0; p < analysis->point_count; p++) {
        const struct config_point *other = &analysis->points[p];
        if (other->workload == analysis->points[point].workload &&
            other->length == analysis->points[point].length &&
            other->level < analysis->points[lowest].level) {
            lowest = p;
        }
    }
    return analysis_cell(analysis, engine, lowest)->figures[METRIC_TTFT].mean;
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
            if (!analysis_is_open(analysis, p) && cell->scaling > best) {
                best = cell->scaling;
                where = p;
            }
        }
        if (where != UINT32_MAX && best > 1.2 && !config->engines[e].replayed) {
            struct advice *next = add(advice, count);
            snprintf(next->text, sizeof next->text,
                     "Let %s answer more requests at a time: expect about %.1f × the throughput at "
                     "'%s'.",
                     config->engines[e].name, best, analysis->points[where].key);
            double together = analysis_cell(analysis, e, where)->figures[METRIC_TTFT].mean;
            double alone = first_token_alone(analysis, e, where);
            int used = snprintf(next->evidence, sizeof next->evidence,
                                "scaling factor %.2f, batch efficiency %.0f %%, against its lowest "
                                "level",
                                best, analysis_cell(analysis, e, where)->batch_efficiency * 100);
            if (isfinite(together) && isfinite(alone)) {
                snprintf(next->evidence + used, sizeof next->evidence - (size_t)used,
                         "; the first token then comes after %.3g ms instead of %.3g", together,
                         alone);
            }
        }
    }
}

static void advise_money(const struct analysis *analysis, struct advice *advice, uint32_t *count)
{
    const struct config *config = analysis->config;
    const struct config_prices *prices = &config->prices;
    double once = prices->migration + prices->hardware;
    double base = report_monthly_cost(analysis, analysis->baseline);
    for (uint32_t e = 0; e < config->engine_count; e++) {
        double ratio = report_cost_ratio(analysis, e);
        if (e == analysis->baseline || !(ratio < 0.95) || config->engines[e].replayed) {
            continue;
        }
        struct advice *next = add(advice, count);
        snprintf(next->text, sizeof next->text,
                 "Moving from %s to %s lowers the cost of a token by %.0f %%.",
                 config->engines[analysis->baseline].name, config->engines[e].name,
                 (1 - ratio) * 100);
        char monthly[160] = "";
        char back[120] = "";
        if (base > 0) {
            snprintf(monthly, sizeof monthly,
                     "; at %.0f million tokens a month that is %.2f %.20s a month",
                     prices->tokens_per_month / 1e6, base * (1 - ratio), prices->currency);
        }
        if (base > 0 && once > 0) {
            snprintf(back, sizeof back, ", so moving (%s %.20s once) pays back in %.1f months",
                     report_number(once, 4).text, prices->currency, once / (base * (1 - ratio)));
        }
        snprintf(next->evidence, sizeof next->evidence,
                 "%.2f × the baseline's cost per million tokens where the engine sets the pace "
                 "(geometric mean; whether throughputs differ is in the tests)%s%s",
                 ratio, monthly, back);
    }
}

/* Clocks that were held down measure the cooling, not the engine. */
static void advise_throttling(const struct analysis *analysis, struct advice *advice,
                              uint32_t *count)
{
    for (uint32_t e = 0; e < analysis->config->engine_count; e++) {
        uint32_t worst = 0;
        for (uint32_t p = 0; p < analysis->point_count; p++) {
            double share = analysis_cell(analysis, e, p)->figures[METRIC_GPU_THROTTLED].mean;
            double most = analysis_cell(analysis, e, worst)->figures[METRIC_GPU_THROTTLED].mean;
            worst = isnan(most) || share > most ? p : worst;
        }
        double share = analysis_cell(analysis, e, worst)->figures[METRIC_GPU_THROTTLED].mean;
        if (share > 0.05) {
            struct advice *next = add(advice, count);
            snprintf(
                next->text, sizeof next->text,
                "Read the figures of %s as those of a GPU that was held down by power or heat.",
                analysis->config->engines[e].name);
            snprintf(next->evidence, sizeof next->evidence,
                     "NVML said so in %.0f %% of the samples at '%s'", share * 100,
                     analysis->points[worst].key);
        }
    }
}

/* The neighbours of a virtual machine are measured with it. */
static void advise_neighbours(const struct analysis *analysis, struct advice *advice,
                              uint32_t *count)
{
    uint32_t engine = 0;
    uint32_t point = 0;
    double most = analysis_worst(analysis, METRIC_STOLEN, &engine, &point);
    if (most > analysis_steal_limit(analysis)) {
        struct advice *next = add(advice, count);
        snprintf(next->text, sizeof next->text,
                 "Measure again while this virtual machine has its processors to itself.");
        snprintf(next->evidence, sizeof next->evidence,
                 "its host gave %.0f %% of their time to others while %s was measured at '%s'",
                 most * 100, analysis->config->engines[engine].name, analysis->points[point].key);
    }
}

/* A driver has some hundred megabytes for itself; more is somebody's work. */
#define GPU_FREE_BYTES 2e9

static void advise_company(const struct analysis *analysis, struct advice *advice, uint32_t *count)
{
    for (uint32_t e = 0; e < analysis->config->engine_count; e++) {
        const struct config_engine *engine = &analysis->config->engines[e];
        double before = analysis->engines[e].gpu_before_bytes;
        if (before > GPU_FREE_BYTES && strncmp(engine->device, "cpu", 3) != 0) {
            struct advice *next = add(advice, count);
            snprintf(next->text, sizeof next->text,
                     "Measure %s again with the GPU to itself: others used it.", engine->name);
            snprintf(next->evidence, sizeof next->evidence,
                     "%.1f GB of its GPU's memory were in use before the engine began",
                     before / 1e9);
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
    advise_throttling(analysis, advice, &count);
    advise_neighbours(analysis, advice, &count);
    advise_company(analysis, advice, &count);
    advise_steadiness(analysis, advice, &count);
    return count;
}
