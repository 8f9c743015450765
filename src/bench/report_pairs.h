/* Private to the comparison of two folders (report_compare.c): what is held against each other, and
 * the figures that no point has (report_pairs.c). One thread. */
#ifndef BENCH_REPORT_PAIRS_H
#define BENCH_REPORT_PAIRS_H

#include "bench/analysis.h"
#include "bench/operations.h"

struct pair {
    struct comparison comparison;
    const char *engine;
    const char *workload;
    const char *point;
    bool judged;     /* without a test */
    char where[80];  /* what `point` points at, where no point of the configuration does */
    char title[160]; /* of a figure that is no metric, less of which is better; or "" */
    const char *key; /* its name in JSON */
};

/* A comparison that says something without a test. */
struct comparison pair_untested(enum metric metric, enum verdict verdict);

#define PAIRS_OF_OPERATIONS_MAX (OPERATION_TEST_COUNT * (OPERATION_COUNT + 1))

/* Where engine `e` of `a`, `other` of `b`, spends its time: every block of operations that both
 * told, and the whole of a test. `first` and `second` have room for the runs. Returns how many. */
uint32_t pair_operations(const struct analysis *a, uint32_t e, const struct analysis *b,
                         uint32_t other, double *first, double *second, struct pair *pairs);

/* Whether it still gives the same greedy answers: one pair, or none where the prompts were others
 * or there are no answers. */
uint32_t pair_answers(const struct analysis *a, uint32_t e, const struct analysis *b,
                      uint32_t other, struct pair *pair);

#endif
