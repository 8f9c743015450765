/* Owns the figures of a comparison that belong to no point: operations and greedy answers. */
#include "bench/report_pairs.h"

#include <math.h>
#include <stdio.h>

#include "bench/operations_compare.h"

struct comparison pair_untested(enum metric metric, enum verdict verdict)
{
    return (struct comparison){.metric = metric,
                               .verdict = verdict,
                               .ratio = NAN,
                               .p_corrected = NAN,
                               .mann_whitney = {NAN, NAN, false},
                               .welch = {NAN, NAN, NAN},
                               .shift = {.median = NAN},
                               .delta = NAN};
}

/* Some operations of a test; false when they were not told before. */
static bool pair_block(const struct analysis *a, uint32_t e, const struct analysis *b,
                       uint32_t other, enum operation_test test, uint32_t operations, double *first,
                       double *second, struct pair *pair)
{
    const uint32_t before = operations_runs(a, test, operations, e, first);
    const uint32_t now = operations_runs(b, test, operations, other, second);
    if (!before) {
        return false;
    }
    if (operations == (1u << OPERATION_COUNT) - 1) {
        snprintf(pair->title, sizeof pair->title, "the whole");
    } else {
        operations_title(operations, pair->title, sizeof pair->title);
    }
    operation_test_title(&a->config->analysis, test, pair->where, sizeof pair->where);
    pair->workload = "operations";
    pair->key = "operation_ms";
    if (now) {
        comparison_make(&pair->comparison, METRIC_TPOT, first, before, second, now,
                        &a->config->analysis);
    } else {
        pair->judged = true;
        pair->comparison = pair_untested(METRIC_TPOT, VERDICT_NONE);
        snprintf(pair->comparison.words, sizeof pair->comparison.words,
                 "%s: was told before and is not now", pair->title);
    }
    return true;
}

/* The operations of a block that were told, so that its title names no others. */
static uint32_t told_of(const struct analysis *a, uint32_t e, enum operation_test test,
                        uint32_t block, double *scratch)
{
    uint32_t told = 0;
    for (int o = 0; o < OPERATION_COUNT; o++) {
        if (block & 1u << o && operations_runs(a, test, 1u << o, e, scratch)) {
            told |= 1u << o;
        }
    }
    return told;
}

/* What one version tells apart and the other does not is compared together; what is left of a
 * test's time is in the whole only. */
uint32_t pair_operations(const struct analysis *a, uint32_t e, const struct analysis *b,
                         uint32_t other, double *first, double *second, struct pair *pairs)
{
    const struct config_analysis *asked = &a->config->analysis;
    const struct config_analysis *again = &b->config->analysis;
    uint32_t count = 0;
    if (!operations_told(a, e) || !operations_told(b, other) ||
        asked->profile_depth != again->profile_depth) {
        return 0;
    }
    for (int t = 0; t < OPERATION_TEST_COUNT; t++) {
        const enum operation_test test = (enum operation_test)t;
        const uint32_t tokens = operation_test_tokens(asked, test);
        uint32_t blocks[OPERATION_COUNT];
        uint32_t done = 1u << OPERATION_OTHER;
        if (!tokens || tokens != operation_test_tokens(again, test)) {
            continue;
        }
        for (int o = 0; o < OPERATION_COUNT; o++) {
            blocks[o] = 1u << o;
        }
        operations_join(blocks, a->operations[e].with[test]);
        operations_join(blocks, b->operations[other].with[test]);
        for (int o = 0; o < OPERATION_COUNT; o++) {
            const uint32_t block = done & 1u << o ? 0 : blocks[o];
            const uint32_t told =
                told_of(a, e, test, block, first) | told_of(b, other, test, block, second);
            done |= block;
            count += told && pair_block(a, e, b, other, test, told, first, second, &pairs[count]);
        }
        count += pair_block(a, e, b, other, test, (1u << OPERATION_COUNT) - 1, first, second,
                            &pairs[count]);
    }
    return count;
}

uint32_t pair_answers(const struct analysis *a, uint32_t e, const struct analysis *b,
                      uint32_t other, struct pair *pair)
{
    const uint32_t prompts = a->config->analysis.token_prompts;
    uint32_t told = 0;
    uint32_t differ = 0;
    char where[120] = "";
    if (prompts != b->config->analysis.token_prompts || a->config->seed != b->config->seed ||
        a->config->analysis.token_count != b->config->analysis.token_count) {
        return 0;
    }
    for (uint32_t i = 0; i < prompts; i++) {
        const struct answer *before = &a->answers[e * prompts + i];
        const struct answer *now = &b->answers[other * prompts + i];
        if (!before->present || !now->present) {
            continue;
        }
        const int64_t at = analysis_first_difference(before, now);
        told++;
        differ += at >= 0;
        if (at >= 0 && !where[0]) {
            snprintf(where, sizeof where, "; prompt %u parts at %s %lld: '%.30s' and now '%.30s'",
                     i + 1, before->ids && now->ids ? "token" : "byte", (long long)at, before->text,
                     now->text);
        }
    }
    if (!told) {
        return 0;
    }
    pair->workload = "greedy answers";
    pair->key = "greedy_answers";
    pair->judged = true;
    pair->comparison = pair_untested(METRIC_FAILED, differ ? VERDICT_NONE : VERDICT_SAME);
    snprintf(pair->where, sizeof pair->where, "%u prompts", told);
    if (differ) {
        snprintf(pair->comparison.words, sizeof pair->comparison.words,
                 "%u of %u are others than before, as good or not%s", differ, told, where);
    } else {
        snprintf(pair->comparison.words, sizeof pair->comparison.words, "all are as before");
    }
    return 1;
}
