/* Owns the comparison of two finished folders: the same engines at the same points, yesterday and
 * today. For a pipeline: how many figures got worse beyond doubt. What was measured and is not any
 * more, and requests that fail where fewer did, got worse without a test. */
#include "bench/report.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/json.h"

struct pair {
    struct comparison comparison;
    const char *engine;
    const struct config_point *point;
    const char *workload;
};

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
    *out = (struct comparison){.metric = METRIC_FAILED,
                               .verdict = VERDICT_WORSE,
                               .ratio = NAN,
                               .p_corrected = NAN,
                               .mann_whitney = {NAN, NAN, false},
                               .shift = {.median = NAN},
                               .delta = NAN};
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

/* Every figure that both have, and every failure that is new. `pairs` has room for all of a's
 * cells. */
static uint32_t pair_up(const struct analysis *a, const struct analysis *b, struct pair *pairs)
{
    double *first = malloc(a->config->repeats * sizeof *first);
    double *second = malloc(b->config->repeats * sizeof *second);
    uint32_t count = 0;
    for (uint32_t e = 0; first && second && e < a->config->engine_count; e++) {
        uint32_t other = find_engine(b, a->config->engines[e].name);
        for (uint32_t p = 0; p < a->point_count; p++) {
            const char *workload = a->config->workloads[a->points[p].workload].name;
            uint32_t place = find_point(b, workload, a->points[p].key);
            struct comparison failure;
            if (analysis_cell(a, e, p)->measured &&
                find_failure(b, other, place, analysis_cell(a, e, p), &failure)) {
                pairs[count++] = (struct pair){.comparison = failure,
                                               .engine = a->config->engines[e].name,
                                               .point = &a->points[p],
                                               .workload = workload};
            }
            for (int m = 0; other != UINT32_MAX && place != UINT32_MAX && m < COMPARE_COUNT; m++) {
                enum metric metric = analysis_compared(a, p, m);
                uint32_t m_count = analysis_run_values(analysis_cell(a, e, p), metric, first);
                uint32_t n_count =
                    analysis_run_values(analysis_cell(b, other, place), metric, second);
                if (m_count && n_count) {
                    struct pair *pair = &pairs[count++];
                    *pair = (struct pair){.engine = a->config->engines[e].name,
                                          .point = &a->points[p],
                                          .workload = workload};
                    comparison_make(&pair->comparison, metric, first, m_count, second, n_count,
                                    &a->config->analysis);
                }
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
                      pairs[i].workload, pairs[i].point->key, comparison->words);
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
                     {"point", pairs[i].point->key},
                     {"metric", metric_rows[comparison->metric].key},
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
        if (pairs[i].comparison.metric != METRIC_FAILED) {
            comparison_decide(&pairs[i].comparison, options, "now", before);
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
        pairs = calloc((size_t)a->config->engine_count * a->point_count * (COMPARE_COUNT + 1) + 1,
                       sizeof *pairs);
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
