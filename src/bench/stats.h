/* Descriptive statistics of measurements: pure functions over arrays, any thread. NaN comes back
 * where too few values were given to say anything. */
#ifndef BENCH_STATS_H
#define BENCH_STATS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct interval {
    double low, high; /* NaN when it cannot be computed */
};

double stats_mean(const double *values, size_t count);
/* Of the sample: divided by count - 1. */
double stats_deviation(const double *values, size_t count);
/* Deviation over mean: the reproducibility figure. */
double stats_variation(const double *values, size_t count);

void stats_sort(double *values, size_t count);
/* The quantile `p` in [0, 1] of sorted values, by linear interpolation (type 7 of Hyndman and Fan,
 * the default of NumPy and R). */
double stats_quantile(const double *sorted, size_t count, double p);

/* The interval of the mean under Student's t with count - 1 degrees of freedom. `values` are means
 * of whole runs, which repeat independently; requests of one run do not. */
struct interval stats_mean_interval(const double *values, size_t count, double confidence);

/* A value and the run that it is of, in 0 … run_count - 1. */
struct stats_sample {
    double value;
    uint32_t run;
};
void stats_sort_samples(struct stats_sample *samples, size_t count);

/* The interval of a quantile of values from several runs, which differ as wholes: what the
 * bootstrap over whole runs would draw, from its mean and variance, which are known. Resampling
 * runs leaves n_r (F_r(x) - p), how many values of run r too many lie below x, to be summed over
 * the drawn runs; the interval holds every x at which that sum is nearer to 0 than Student's t of
 * its deviation, with one degree of freedom less than there are runs (Woodruff, "Confidence
 * intervals for medians and other position measures", 1952, with the variance of clusters). Drawn
 * bootstrap intervals hold the truth too rarely when runs are few: at five runs 95 % are 80. With
 * values of one run only, stats_quantile_interval. NaN also when memory is short. */
struct interval stats_quantile_interval_runs(const struct stats_sample *sorted, size_t count,
                                             uint32_t run_count, double p, double confidence);

/* For the requests of one run. The bootstrap percentile interval in closed form: the distribution
 * of an order statistic of resamples is a beta distribution over the ranks, so that nothing needs
 * to be drawn (Hutson and Ernst, "The exact bootstrap mean and variance of an L-estimator", 2000).
 */
struct interval stats_quantile_interval(const double *sorted, size_t count, double p,
                                        double confidence);

/* Marks values whose modified z-score, 0.6745 |x - median| / MAD, exceeds 3.5 (Iglewicz and
 * Hoaglin, 1993); with MAD 0 the mean absolute deviation times 1.253314 takes its place. Returns
 * how many. Fewer than 5 values mark none. `marks` [count] may be NULL. Returns count 0 also when
 * memory is short. */
size_t stats_outliers(const double *values, size_t count, bool *marks);

/* The regularised incomplete beta function I_x(a, b), by Lentz's continued fraction; a, b > 0. */
double stats_incomplete_beta(double a, double b, double x);
double stats_t_cdf(double t, double degrees);
/* The t below which the share `p` in (0, 1) lies. */
double stats_t_quantile(double p, double degrees);
double stats_normal_cdf(double z);
double stats_normal_quantile(double p);

#endif
