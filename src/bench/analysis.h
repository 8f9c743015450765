/* From raw data to figures: what each engine did at each point, with intervals, and how engines
 * compare. Everything comes from the files of one output folder, so that a report can be made
 * again at any time. One thread. */
#ifndef BENCH_ANALYSIS_H
#define BENCH_ANALYSIS_H

#include "bench/config.h"
#include "bench/metrics.h"
#include "bench/operations.h"
#include "bench/roofline.h"
#include "bench/significance.h"

struct metric_row {
    const char *key, *title, *unit;
    bool higher_is_better;
    const char *formula;
};
extern const struct metric_row metric_rows[METRIC_COUNT];

struct derived_row {
    const char *key, *title, *unit, *formula;
};
#define DERIVED_COUNT 7u
extern const struct derived_row derived_rows[DERIVED_COUNT];

/* A figure over the runs. */
struct figure {
    double *runs;   /* [run_count] of the cell, one a run; NaN where a run has none */
    bool *outliers; /* [run_count] marked, never dropped */
    uint32_t count; /* runs with a value */
    uint32_t outlier_count;
    double mean, deviation, variation;
    struct interval interval;     /* of the mean, Student's t over runs */
    double mean_without_outliers; /* beside, only when asked for */
};

/* Percentiles over the requests of all runs together; their intervals know of the runs. */
enum { PERCENTILE_50, PERCENTILE_95, PERCENTILE_99, PERCENTILE_COUNT };
struct spread {
    uint64_t count, outlier_count;
    double minimum, maximum;
    double at[PERCENTILE_COUNT];
    struct interval interval[PERCENTILE_COUNT];
};
#define SPREAD_METRICS 5 /* METRIC_TTFT … METRIC_LATE */

struct pool {
    float *values;        /* run after run */
    uint64_t *run_counts; /* [run_count] of the cell */
    uint64_t count, capacity;
};

/* One engine at one point. */
struct cell {
    bool measured;
    uint32_t run_count;
    struct figure figures[METRIC_COUNT];
    struct spread spreads[SPREAD_METRICS];
    struct pool pools[SPREAD_METRICS];
    double batch_efficiency; /* throughput / (level × throughput at the lowest level); NaN */
    double scaling;          /* throughput / throughput at the lowest level; NaN */
    double cost_per_million; /* output tokens; NaN without a price */
    double speedup;          /* throughput / that of the same engine with one rank; NaN */
    double rank_efficiency;  /* speedup / ranks; NaN */
    uint64_t requests, failed;
    char first_failure[160];
};

struct engine_result {
    bool ran, failed;
    char reason[256]; /* of the first failure */
    char log[1000];   /* how the engine's log ended then, or "" */
    char version[80];
    char details[1024];      /* JSON of the adapter's load answer, or "" */
    double start_ms;         /* mean over runs */
    double gpu_before_bytes; /* most that was in use on its GPUs before it began; NaN */
    uint32_t sessions, sessions_failed;
    uint32_t sessions_set_aside; /* the host took too much of them, and they were measured again */
    double steps_host_share;     /* of llcuda's own counters: host time / step time; NaN */
    double rank_score;           /* geometric mean of speed against the baseline; NaN */
    uint32_t rank;               /* 1 is best; 0: not ranked */
    uint32_t tokens_agreeing, tokens_checked; /* prompts, against the reference engine */
    char first_difference[300];
};

enum { COMPARE_TTFT, COMPARE_TPOT, COMPARE_SPEED, COMPARE_COUNT };

enum verdict { VERDICT_NONE, VERDICT_SAME, VERDICT_BETTER, VERDICT_WORSE };

struct comparison {
    uint32_t engine, point; /* against the baseline at the same point */
    enum metric metric;
    uint32_t a_count, b_count; /* runs of the baseline, of the engine */
    double ratio;              /* mean of the engine / mean of the baseline */
    struct mann_whitney mann_whitney;
    struct welch welch;
    double p_corrected; /* Holm, over all comparisons of the report; NaN when not tested */
    struct shift shift; /* engine - baseline, in the metric's unit */
    double d, delta;
    enum verdict verdict;
    char words[256];
};

struct answer { /* of the check of greedy tokens */
    char *text;
    uint32_t *ids;
    uint32_t id_count;
    bool present;
};

/* What an engine told of where its time goes, over its sessions. */
struct engine_operations {
    uint32_t told, failed; /* sessions */
    char reason[256];      /* of the first failure, or why the engine is never asked */
    uint32_t with[OPERATION_TEST_COUNT][OPERATION_COUNT]; /* bit o: operation o is in it */
    double *ms; /* [OPERATION_TEST_COUNT][OPERATION_COUNT][repeats], of a prompt or of one generated
                   token; NaN where nothing was told */
};

struct monitor_point {
    float seconds, memory_mb, processor, gpu, power_w;
};

struct analysis {
    struct config *config;
    char *folder;
    char *host_json;             /* host.json, or "{}" */
    struct config_point *points; /* of all workloads, in order */
    uint32_t point_count;
    uint32_t *first_point; /* [workload_count + 1] */
    struct engine_result *engines;
    struct cell *cells; /* [engine_count][point_count] */
    struct comparison *comparisons;
    uint32_t comparison_count;
    struct answer *answers; /* [engine_count][token_prompts] */
    uint32_t baseline;
    uint32_t reference;            /* engine whose greedy tokens the others are compared with */
    struct monitor_point *monitor; /* of the first run of each engine */
    uint32_t *monitor_count;       /* [engine_count] */
    struct engine_operations
        *operations;           /* [engine_count]; NULL: the configuration asks for none */
    struct roofline *roofline; /* of kernels.json, when it lies in the folder; or NULL */
};

#define MONITOR_POINTS_MAX 1024u

/* Reads a folder's configuration and raw files and computes all figures. Sessions that are not
 * there are left out. *analysis is the caller's. Errors: those of files and of the configuration;
 * a raw file that is damaged is BAD_FORMAT with its line. */
llcuda_status analysis_open(const char *folder, struct analysis **analysis,
                            struct llcuda_error *error);
void analysis_close(struct analysis *analysis);

/* The largest mean of a figure among all engines and points, and where; NaN when none has it. */
double analysis_worst(const struct analysis *analysis, enum metric metric, uint32_t *engine,
                      uint32_t *point);
/* How much of the processors' time a host may take: the configuration's limit, or 5 %. */
double analysis_steal_limit(const struct analysis *analysis);

static inline struct cell *analysis_cell(const struct analysis *analysis, uint32_t engine,
                                         uint32_t point)
{
    return &analysis->cells[engine * analysis->point_count + point];
}

/* The figures of a cell's runs that have the metric, in `out` (room for all runs); returns their
 * number. */
uint32_t analysis_run_values(const struct cell *cell, enum metric metric, double *out);

/* Whether arrivals set the pace at a point, and not the engine. */
bool analysis_is_open(const struct analysis *analysis, uint32_t point);

/* The metric of a comparison. COMPARE_SPEED is what engines are judged by: throughput, or end to
 * end in an open loop, where every engine that keeps up has the arrivals' throughput. */
enum metric analysis_compared(const struct analysis *analysis, uint32_t point, int compare);

/* Two samples of run figures in words. `percent_seen` is how the means differ. */
void comparison_decide(struct comparison *comparison, const struct config_analysis *analysis,
                       const char *name, const char *baseline);

/* The same of figures that are no metric. */
void comparison_decide_as(struct comparison *comparison, const char *title, bool higher_is_better,
                          const struct config_analysis *analysis, const char *name,
                          const char *baseline);

/* Where two greedy answers part: a token where both have ids, otherwise a byte; -1: nowhere. */
int64_t analysis_first_difference(const struct answer *a, const struct answer *b);

/* Fills in a comparison of b against a: tests, shift, sizes; p_corrected is the uncorrected one. */
void comparison_make(struct comparison *comparison, enum metric metric, const double *a,
                     size_t a_count, const double *b, size_t b_count,
                     const struct config_analysis *analysis);

/* Corrects all p values together, then decides each. `names` gives the engine's name. */
void comparisons_correct(struct comparison *comparisons, uint32_t count);

#endif
