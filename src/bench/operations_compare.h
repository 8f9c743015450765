/* Who is the quickest at each operation: what engines told over all runs, side by side, in rows
 * that can be compared. One thread. */
#ifndef BENCH_OPERATIONS_COMPARE_H
#define BENCH_OPERATIONS_COMPARE_H

#include "bench/analysis.h"

/* Tables for what engines will have told, when the configuration asks; false without memory. */
bool operations_open(struct analysis *analysis);
void operations_close(struct analysis *analysis);
void operations_add(struct analysis *analysis, uint32_t engine, uint32_t repeat,
                    const struct operation_answer *answer);

enum operation_row_kind {
    OPERATION_ROW_ONE,      /* one operation */
    OPERATION_ROW_FUSED,    /* operations that some engine does not tell apart, together */
    OPERATION_ROW_PRODUCTS, /* all products, and what is fused into any of them */
    OPERATION_ROW_TOTAL
};
const char *operation_row_kind_name(enum operation_row_kind kind);

struct operation_figure {
    double mean; /* ms of a prompt or of a generated token, over runs; NaN */
    struct interval interval;
    uint32_t count; /* runs with a value */
    uint32_t with;  /* what else is in it, of rows of one operation */
};

struct operation_row {
    enum operation_row_kind kind;
    uint32_t operations; /* bit o: operation o is a part */
    struct operation_figure engines[CONFIG_ENGINE_MAX];
    bool compared;   /* two engines at least, and nobody's figure holds more than another's */
    uint32_t winner; /* of the compared: the engine with the smallest mean */
    bool clear;      /* its interval lies below all others' */
};

#define OPERATION_ROWS_MAX (2 * OPERATION_COUNT + 2)
struct operation_table {
    struct operation_row rows[OPERATION_ROWS_MAX];
    uint32_t count;
};

/* The rows of a test; none when no engine told it. The rows of a block of fused operations stand
 * together, and behind them the block. */
void operations_compare(const struct analysis *analysis, enum operation_test test,
                        struct operation_table *table);

/* What some operations took together in one run, ms of a prompt or of a generated token; NaN. */
double operations_run(const struct analysis *analysis, enum operation_test test,
                      uint32_t operations, uint32_t engine, uint32_t run);
/* The same of all runs that have it; `out` has room for config->repeats. Returns how many. */
uint32_t operations_runs(const struct analysis *analysis, enum operation_test test,
                         uint32_t operations, uint32_t engine, double *out);

/* blocks[o]: the operations that are compared together with o, itself among them. Joins those that
 * an engine does not tell apart. */
void operations_join(uint32_t blocks[OPERATION_COUNT], const uint32_t with[OPERATION_COUNT]);

/* Whether an engine told the test in any run. */
bool operations_told(const struct analysis *analysis, uint32_t engine);
/* Why one that never did has not: a sentence without its full stop. */
const char *operations_silence(const struct analysis *analysis, uint32_t engine);

#endif
