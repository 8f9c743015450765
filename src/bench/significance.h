/* Whether two samples differ, by how much, and how surely: pure functions, any thread. Samples are
 * one figure a whole run. */
#ifndef BENCH_SIGNIFICANCE_H
#define BENCH_SIGNIFICANCE_H

#include "bench/stats.h"

struct mann_whitney {
    double u;   /* of the first sample: pairs in which it is larger, ties half */
    double p;   /* two-sided; NaN when a sample is empty */
    bool exact; /* the permutation distribution; otherwise the normal one, with correction for
                   ties and continuity */
};

/* Exact without ties up to 40 values a side. 0 memory: falls back to the normal approximation. */
struct mann_whitney mann_whitney_test(const double *a, size_t a_count, const double *b,
                                      size_t b_count);
/* The normal approximation alone, whatever the size. */
struct mann_whitney mann_whitney_normal(const double *a, size_t a_count, const double *b,
                                        size_t b_count);

struct welch {
    double t, degrees, p; /* p two-sided; NaN under two values a side */
};

/* Equal values on both sides give p 1 when the means agree, 0 when they do not. */
struct welch welch_test(const double *a, size_t a_count, const double *b, size_t b_count);

/* The Hodges-Lehmann shift, the median of all differences b - a, with its interval from the ranks
 * of the Mann-Whitney distribution. NaN when memory is short. */
struct shift {
    double median;
    struct interval interval;
};
struct shift hodges_lehmann(const double *a, size_t a_count, const double *b, size_t b_count,
                            double confidence);

/* (mean b - mean a) / pooled deviation. */
double cohens_d(const double *a, size_t a_count, const double *b, size_t b_count);
/* P(b > a) - P(b < a), in [-1, 1]. */
double cliffs_delta(const double *a, size_t a_count, const double *b, size_t b_count);
/* "negligible", "small", "medium" or "large", by the usual bounds for Cliff's delta (0.147, 0.33,
 * 0.474; Romano and others, 2006). */
const char *cliffs_size(double delta);

/* Holm's step-down correction in place; NaN stays NaN and does not count. At most 4,096 values are
 * corrected together; false when there are more. */
bool holm_correct(double *p, size_t count);

#endif
