/* Owns the comparison of two finished folders: the same engines at the same points, yesterday and
 * today. For a pipeline: how many figures got worse beyond doubt. What was measured and is not any
 * more, and requests and runs that fail where fewer did, got worse without a test; so far as a
 * single figure is missing now, it is undecided. */
#include "bench/report.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/json.h"
#include "bench/report_pairs.h"

/* Beside times and speed (COMPARE_COUNT of them): what a release may cost more of. */
static const enum metric kept_metrics[] = {METRIC_GOODPUT_S, METRIC_MEMORY_PEAK, METRIC_GPU_MEMORY,
                                           METRIC_ENERGY};
#define KEPT_COUNT (sizeof kept_metrics / sizeof kept_metrics[0])
#define GATE_COUNT (COMPARE_COUNT + KEPT_COUNT)

/* Memory hardly varies from run to run, so that tests see single pages: less than this share is no
 * difference. */
#define MEMORY_MARGIN 0.01

static uint32_t find_engine(const struct analysis *analysis, const char *name)
{
    for (uint32_t e = 0; e < analysis->config->engine_count; e++) {
        if (strcmp(analysis->config->engines[e].name, name) == 0) {
            return e;
        }
    }
    return UINT32_MAX;
}

static uint32_t find_point(const struct analysis *analysis, const char *workload, const char *key)
{
    for (uint32_t p = 0; p < analysis->point_count; p++) {
        const struct config_point *point = &analysis->points[p];
        if (strcmp(point->key, key) == 0 &&
            strcmp(analysis->config->workloads[point->workload].name, workload) == 0) {
            return p;
        }
    }
    return UINT32_MAX;
}

/* Whether an engine fails where it did not, or oftener beyond chance (two binomial shares, one
 * side, z above 3); says so in the words of a comparison. */
static bool find_failure(const struct analysis *b, uint32_t other, uint32_t place,
                         const struct cell *before, struct comparison *out)
{
    const struct cell *now =
        other != UINT32_MAX && place != UINT32_MAX ? analysis_cell(b, other, place) : NULL;
    *out = pair_untested(METRIC_FAILED, VERDICT_WORSE);
    if (!now || !now->measured) {
        const char *reason = other == UINT32_MAX            ? "the engine is not in the second run"
                             : place == UINT32_MAX          ? "the point is not in the second run"
                             : b->engines[other].reason[0]  ? b->engines[other].reason
                             : now && now->first_failure[0] ? now->first_failure
                                                            : "it was not run";
        snprintf(out->words, sizeof out->words, "was measured before and is not now: %.180s",
                 reason);
        return true;
    }
    double sent = (double)(before->requests + now->requests);
    double common = (double)(before->failed + now->failed) / sent;
    double was = (double)before->failed / (double)before->requests;
    double is = (double)now->failed / (double)now->requests;
    double error =
        sqrt(common * (1 - common) * (1 / (double)before->requests + 1 / (double)now->requests));
    snprintf(out->words, sizeof out->words,
             "%llu of %llu requests failed, %llu of %llu before: %.100s",
             (unsigned long long)now->failed, (unsigned long long)now->requests,
             (unsigned long long)before->failed, (unsigned long long)before->requests,
             now->first_failure);
    return now->failed > 0 && (before->failed == 0 || is - was > 3 * error);
}

/* Whether whole runs of an engine fail of which fewer did. Any one that is new counts: a run that
 * dies leaves no requests behind that could be counted. */
static bool find_lost_runs(const struct engine_result *before, const struct engine_result *now,
                           struct comparison *out)
{
    *out = pair_untested(METRIC_FAILED, VERDICT_WORSE);
    snprintf(out->words, sizeof out->words, "%u of %u runs failed, %u of %u before: %.150s",
             now->sessions_failed, now->sessions, before->sessions_failed, before->sessions,
             now->reason);
    return now->ran && before->ran &&
           (uint64_t)now->sessions_failed * before->sessions >
               (uint64_t)before->sessions_failed * now->sessions;
}

/* The metrics of the gate at a point; false: it says nothing there. */
static bool gate_metric(const struct analysis *a, uint32_t point, uint32_t place, enum metric *out)
{
    const struct config_workload *workload = &a->config->workloads[a->points[point].workload];
    *out = place < COMPARE_COUNT ? analysis_compared(a, point, (int)place)
                                 : kept_metrics[place - COMPARE_COUNT];
    return *out != METRIC_GOODPUT_S || workload->goodput_ttft_ms > 0 ||
           workload->goodput_tpot_ms > 0 || workload->goodput_e2e_ms > 0;
}

/* Every metric of the gate at a point that was measured before and is now. */
static uint32_t pair_figures(const struct analysis *a, uint32_t point, const struct cell *before,
                             const struct cell *now, double *first, double *second,
                             struct pair *pairs)
{
    uint32_t count = 0;
    for (uint32_t m = 0; m < GATE_COUNT; m++) {
        enum metric metric;
        if (!gate_metric(a, point, m, &metric)) {
            continue;
        }
        uint32_t m_count = analysis_run_values(before, metric, first);
        uint32_t n_count = analysis_run_values(now, metric, second);
        if (m_count && n_count) {
            comparison_make(&pairs[count++].comparison, metric, first, m_count, second, n_count,
                            &a->config->analysis);
        } else if (m_count && now->measured) {
            struct pair *pair = &pairs[count++];
            pair->judged = true;
            pair->comparison = pair_untested(metric, VERDICT_NONE);
            snprintf(pair->comparison.words, sizeof pair->comparison.words,
                     "%s: was measured before and is not now", metric_rows[metric].title);
        }
    }
    return count;
}

/* What belongs to an engine as a whole. */
static uint32_t pair_engine(const struct analysis *a, uint32_t e, const struct analysis *b,
                            uint32_t other, double *first, double *second, struct pair *pairs)
{
    uint32_t count = pair_operations(a, e, b, other, first, second, pairs);
    count += pair_answers(a, e, b, other, pairs + count);
    for (uint32_t i = 0; i < count; i++) {
        pairs[i].engine = a->config->engines[e].name;
        pairs[i].point = pairs[i].where;
    }
    return count;
}

/* Every figure that both have, and every failure that is new. `pairs` has room for all of a's
 * cells and engines, and is zeroed. */
static uint32_t pair_up(const struct analysis *a, const struct analysis *b, struct pair *pairs)
{
    double *first = malloc(a->config->repeats * sizeof *first);
    double *second = malloc(b->config->repeats * sizeof *second);
    uint32_t count = 0;
    for (uint32_t e = 0; first && second && e < a->config->engine_count; e++) {
        uint32_t other = find_engine(b, a->config->engines[e].name);
        if (other != UINT32_MAX &&
            find_lost_runs(&a->engines[e], &b->engines[other], &pairs[count].comparison)) {
            pairs[count].engine = a->config->engines[e].name;
            pairs[count].workload = "all workloads";
            pairs[count].point = "all points";
            pairs[count++].judged = true;
        }
        if (other != UINT32_MAX) {
            count += pair_engine(a, e, b, other, first, second, pairs + count);
        }
        for (uint32_t p = 0; p < a->point_count; p++) {
            const struct cell *before = analysis_cell(a, e, p);
            const char *workload = a->config->workloads[a->points[p].workload].name;
            uint32_t place = find_point(b, workload, a->points[p].key);
            uint32_t begin = count;
            if (before->measured &&
                find_failure(b, other, place, before, &pairs[count].comparison)) {
                pairs[count++].judged = true;
            }
            if (other != UINT32_MAX && place != UINT32_MAX) {
                count += pair_figures(a, p, before, analysis_cell(b, other, place), first, second,
                                      pairs + count);
            }
            for (uint32_t i = begin; i < count; i++) {
                pairs[i].engine = a->config->engines[e].name;
                pairs[i].workload = workload;
                pairs[i].point = a->points[p].key;
            }
        }
    }
    free(first);
    free(second);
    return count;
}

static void write_text(const struct pair *pairs, uint32_t count, struct buffer *out)
{
    static const char *const marks[] = {"?", " ", "+", "-"};
    for (uint32_t i = 0; i < count; i++) {
        const struct comparison *comparison = &pairs[i].comparison;
        buffer_printf(out, "%s %s, %s, %s: %s\n", marks[comparison->verdict], pairs[i].engine,
                      pairs[i].workload, pairs[i].point, comparison->words);
    }
}

static void write_json(const struct pair *pairs, uint32_t count, uint32_t regressions,
                       struct buffer *out)
{
    static const char *const verdicts[] = {"undecided", "no difference", "better", "worse"};
    struct json_writer writer;
    json_writer_init(&writer, out, 1);
    json_begin_object(&writer);
    json_key(&writer, "regressions");
    json_write_unsigned(&writer, regressions);
    json_key(&writer, "rows");
    json_begin_array(&writer);
    for (uint32_t i = 0; i < count; i++) {
        const struct comparison *comparison = &pairs[i].comparison;
        const struct {
            const char *key, *value;
        } texts[] = {{"engine", pairs[i].engine},
                     {"workload", pairs[i].workload},
                     {"point", pairs[i].point},
                     {"metric", pairs[i].key ? pairs[i].key : metric_rows[comparison->metric].key},
                     {"verdict", verdicts[comparison->verdict]},
                     {"words", comparison->words}};
        const struct {
            const char *key;
            double value;
        } numbers[] = {{"ratio", comparison->ratio},
                       {"p_holm", comparison->p_corrected},
                       {"mann_whitney_p", comparison->mann_whitney.p},
                       {"shift", comparison->shift.median},
                       {"cliffs_delta", comparison->delta}};
        json_begin_object(&writer);
        for (size_t t = 0; t < sizeof texts / sizeof texts[0]; t++) {
            json_key(&writer, texts[t].key);
            json_write_string(&writer, texts[t].value);
        }
        for (size_t n = 0; n < sizeof numbers / sizeof numbers[0]; n++) {
            json_key(&writer, numbers[n].key);
            json_write_number(&writer, numbers[n].value);
        }
        json_end_object(&writer);
    }
    json_end_array(&writer);
    json_end_object(&writer);
    buffer_append_byte(out, '\n');
}

static void forgive_memory(struct comparison *comparison)
{
    bool memory =
        comparison->metric == METRIC_MEMORY_PEAK || comparison->metric == METRIC_GPU_MEMORY;
    bool called = comparison->verdict == VERDICT_WORSE || comparison->verdict == VERDICT_BETTER;
    if (memory && called && fabs(comparison->ratio - 1) < MEMORY_MARGIN) {
        comparison->verdict = VERDICT_SAME;
        snprintf(comparison->words, sizeof comparison->words,
                 "%s: %+.2f %%, less than the %.0f %% that is called a difference",
                 metric_rows[comparison->metric].title, (comparison->ratio - 1) * 100,
                 MEMORY_MARGIN * 100);
    }
}

/* Corrects for all pairs together and judges each; a failure is judged already. */
static uint32_t judge(struct pair *pairs, uint32_t count, const struct config_analysis *options,
                      const char *before, uint32_t *undecided)
{
    struct comparison *together = calloc(count + 1, sizeof *together);
    uint32_t regressions = 0;
    for (uint32_t i = 0; together && i < count; i++) {
        together[i] = pairs[i].comparison;
    }
    if (together) {
        comparisons_correct(together, count);
    }
    for (uint32_t i = 0; together && i < count; i++) {
        pairs[i].comparison = together[i];
        if (!pairs[i].judged && pairs[i].title[0]) {
            comparison_decide_as(&pairs[i].comparison, pairs[i].title, false, options, "now",
                                 before);
        } else if (!pairs[i].judged) {
            comparison_decide(&pairs[i].comparison, options, "now", before);
            forgive_memory(&pairs[i].comparison);
        }
        *undecided += pairs[i].comparison.verdict == VERDICT_NONE;
        regressions += pairs[i].comparison.verdict == VERDICT_WORSE;
    }
    free(together);
    return regressions;
}

llcuda_status report_compare(const char *folder_a, const char *folder_b, bool json,
                             struct buffer *out, uint32_t *regressions, struct llcuda_error *error)
{
    struct analysis *a = NULL;
    struct analysis *b = NULL;
    struct pair *pairs = NULL;
    llcuda_status status = analysis_open(folder_a, &a, error);
    if (!status) {
        status = analysis_open(folder_b, &b, error);
    }
    if (!status) {
        size_t engines = a->config->engine_count;
        const size_t of_engine = PAIRS_OF_OPERATIONS_MAX + 2; /* its answers, and runs that fail */
        pairs =
            calloc(engines * (a->point_count * (GATE_COUNT + 1) + of_engine) + 1, sizeof *pairs);
        status = pairs ? LLCUDA_OK : error_no_memory(error, "a comparison", sizeof *pairs);
    }
    if (!status) {
        uint32_t count = pair_up(a, b, pairs);
        if (count == 0) {
            status =
                error_set(error, LLCUDA_NOT_FOUND,
                          "'%s' and '%s' have no engine and point in common", folder_a, folder_b);
        }
        uint32_t undecided = 0;
        *regressions = judge(pairs, count, &a->config->analysis, "before", &undecided);
        if (!status && json) {
            write_json(pairs, count, *regressions, out);
        } else if (!status) {
            write_text(pairs, count, out);
            buffer_printf(out, "%u regressions in %u figures", *regressions, count);
            if (undecided) {
                buffer_printf(out,
                              "; %u could not be judged, so this is no proof that there is none",
                              undecided);
            }
            buffer_append_text(out, "\n");
        }
    }
    free(pairs);
    analysis_close(a);
    analysis_close(b);
    return status;
}
