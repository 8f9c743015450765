/* Descriptive statistics and the distributions behind the intervals. Pure; owns nothing. Knows
 * nothing of engines, requests or units. Checked against SciPy in tests/bench-suite. */
#include "bench/stats.h"

#include <math.h>
#include <stdlib.h>

double stats_mean(const double *values, size_t count)
{
    double sum = 0;
    double lost = 0; /* Kahan: a million latencies keep their last digits */
    for (size_t i = 0; i < count; i++) {
        double term = values[i] - lost;
        double next = sum + term;
        lost = (next - sum) - term;
        sum = next;
    }
    return count ? sum / (double)count : NAN;
}

double stats_deviation(const double *values, size_t count)
{
    if (count < 2) {
        return NAN;
    }
    double mean = stats_mean(values, count);
    double sum = 0;
    for (size_t i = 0; i < count; i++) {
        sum += (values[i] - mean) * (values[i] - mean);
    }
    return sqrt(sum / (double)(count - 1));
}

double stats_variation(const double *values, size_t count)
{
    double mean = stats_mean(values, count);
    return mean != 0 ? stats_deviation(values, count) / fabs(mean) : NAN;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

void stats_sort(double *values, size_t count)
{
    if (count > 1) {
        qsort(values, count, sizeof *values, by_value);
    }
}

double stats_quantile(const double *sorted, size_t count, double p)
{
    if (count == 0 || !(p >= 0 && p <= 1)) {
        return NAN;
    }
    double place = p * (double)(count - 1);
    size_t below = (size_t)place;
    if (below + 1 >= count) {
        return sorted[count - 1];
    }
    return sorted[below] + (place - (double)below) * (sorted[below + 1] - sorted[below]);
}

struct interval stats_mean_interval(const double *values, size_t count, double confidence)
{
    struct interval interval = {NAN, NAN};
    if (count < 2 || !(confidence > 0 && confidence < 1)) {
        return interval;
    }
    double mean = stats_mean(values, count);
    double half = stats_t_quantile(0.5 + confidence / 2, (double)(count - 1)) *
                  stats_deviation(values, count) / sqrt((double)count);
    interval.low = mean - half;
    interval.high = mean + half;
    return interval;
}

/* The smallest rank j of 1 … n at which the bootstrap's distribution of the k-th order statistic,
 * I_{j/n}(k, n - k + 1), reaches `share`. */
static size_t bootstrap_rank(double k, size_t count, double share)
{
    size_t low = 1;
    size_t high = count;
    double n = (double)count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (stats_incomplete_beta(k, n - k + 1, (double)middle / n) >= share) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return low;
}

struct interval stats_quantile_interval(const double *sorted, size_t count, double p,
                                        double confidence)
{
    struct interval interval = {NAN, NAN};
    if (count < 2 || !(p > 0 && p < 1) || !(confidence > 0 && confidence < 1)) {
        return interval;
    }
    double tail = (1 - confidence) / 2;
    /* The quantile lies between two order statistics: the interval covers both. */
    double place = p * (double)(count - 1) + 1;
    interval.low = sorted[bootstrap_rank(floor(place), count, tail) - 1];
    interval.high = sorted[bootstrap_rank(ceil(place), count, 1 - tail) - 1];
    return interval;
}

static int by_sample(const void *a, const void *b)
{
    double x = ((const struct stats_sample *)a)->value;
    double y = ((const struct stats_sample *)b)->value;
    return (x > y) - (x < y);
}

void stats_sort_samples(struct stats_sample *samples, size_t count)
{
    if (count > 1) {
        qsort(samples, count, sizeof *samples, by_sample);
    }
}

/* The sum over runs of how many values too many lie below a place, and of its squares. */
struct excess {
    double sum, squares, runs;
};

/* Student's t of the sum being 0, as far as its sign and this comparison need it. */
static double excess_deviation(const struct excess *excess)
{
    double spread = excess->squares - excess->sum * excess->sum / excess->runs;
    return sqrt(fmax(spread, 0) * excess->runs / (excess->runs - 1));
}

static void begin_excess(const struct stats_sample *sorted, size_t count, uint32_t run_count,
                         double p, double *of_run, struct excess *excess)
{
    *excess = (struct excess){0};
    for (size_t i = 0; i < count; i++) {
        of_run[sorted[i].run]++;
    }
    for (uint32_t r = 0; r < run_count; r++) {
        excess->runs += of_run[r] > 0;
        of_run[r] *= -p;
        excess->sum += of_run[r];
        excess->squares += of_run[r] * of_run[r];
    }
}

struct interval stats_quantile_interval_runs(const struct stats_sample *sorted, size_t count,
                                             uint32_t run_count, double p, double confidence)
{
    struct interval interval = {NAN, NAN};
    struct excess excess = {0};
    double *values = NULL;
    double *of_run = calloc(run_count + 1u, sizeof *of_run);
    if (!of_run || count < 2 || !(p > 0 && p < 1) || !(confidence > 0 && confidence < 1)) {
        free(of_run);
        return interval;
    }
    begin_excess(sorted, count, run_count, p, of_run, &excess);
    if (excess.runs < 2) {
        values = malloc(count * sizeof *values);
        for (size_t i = 0; values && i < count; i++) {
            values[i] = sorted[i].value;
        }
        interval = values ? stats_quantile_interval(values, count, p, confidence) : interval;
        free(values);
        free(of_run);
        return interval;
    }
    double t = stats_t_quantile(0.5 + confidence / 2, excess.runs - 1);
    double place = p * (double)(count - 1);
    /* The quantile itself is inside, whatever rounding makes of a place between two values. */
    double low = sorted[(size_t)floor(place)].value;
    double high = sorted[(size_t)ceil(place)].value;
    bool found = false;
    for (size_t i = 0; i < count; i++) { /* equal values are one place */
        bool begins = i == 0 || sorted[i - 1].value < sorted[i].value;
        if (begins && excess.sum <= t * excess_deviation(&excess)) {
            high = fmax(high, sorted[i].value);
        }
        double *own = &of_run[sorted[i].run];
        excess.squares += 2 * *own + 1;
        excess.sum++;
        ++*own;
        bool ends = i + 1 == count || sorted[i].value < sorted[i + 1].value;
        if (ends && !found && excess.sum >= -t * excess_deviation(&excess)) {
            low = fmin(low, sorted[i].value);
            found = true;
        }
    }
    free(of_run);
    return (struct interval){low, high};
}

size_t stats_outliers(const double *values, size_t count, bool *marks)
{
    double *work = count >= 5 ? malloc(count * sizeof *work) : NULL;
    size_t marked = 0;
    for (size_t i = 0; marks && i < count; i++) {
        marks[i] = false;
    }
    if (!work) {
        return 0;
    }
    for (size_t i = 0; i < count; i++) {
        work[i] = values[i];
    }
    stats_sort(work, count);
    double median = stats_quantile(work, count, 0.5);
    for (size_t i = 0; i < count; i++) {
        work[i] = fabs(values[i] - median);
    }
    double scale = stats_mean(work, count) * 1.253314;
    stats_sort(work, count);
    double mad = stats_quantile(work, count, 0.5);
    if (mad > 0) {
        scale = mad / 0.6745;
    }
    for (size_t i = 0; scale > 0 && i < count; i++) {
        bool outlier = fabs(values[i] - median) > 3.5 * scale;
        marked += outlier;
        if (marks) {
            marks[i] = outlier;
        }
    }
    free(work);
    return marked;
}

/* The continued fraction of I_x(a, b), good for x < (a + 1) / (a + b + 2). */
static double beta_fraction(double a, double b, double x)
{
    const double tiny = 1e-300;
    double c = 1;
    double d = 1 - (a + b) * x / (a + 1);
    d = 1 / (fabs(d) < tiny ? tiny : d);
    double fraction = d;
    for (int m = 1; m <= 10000; m++) {
        double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
        d = 1 + even * d;
        c = 1 + even / c;
        d = 1 / (fabs(d) < tiny ? tiny : d);
        c = fabs(c) < tiny ? tiny : c;
        fraction *= d * c;
        double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
        d = 1 + odd * d;
        c = 1 + odd / c;
        d = 1 / (fabs(d) < tiny ? tiny : d);
        c = fabs(c) < tiny ? tiny : c;
        double step = d * c;
        fraction *= step;
        if (fabs(step - 1) < 1e-15) {
            break;
        }
    }
    return fraction;
}

/* ln Γ, re-entrant, unlike lgamma. */
static double log_gamma(double x)
{
    int sign;
    return lgamma_r(x, &sign);
}

double stats_incomplete_beta(double a, double b, double x)
{
    if (x <= 0) {
        return 0;
    }
    if (x >= 1) {
        return 1;
    }
    double front = exp(log_gamma(a + b) - log_gamma(a) - log_gamma(b) + a * log(x) + b * log1p(-x));
    if (x < (a + 1) / (a + b + 2)) {
        return front * beta_fraction(a, b, x) / a;
    }
    return 1 - front * beta_fraction(b, a, 1 - x) / b;
}

double stats_t_cdf(double t, double degrees)
{
    double tail = stats_incomplete_beta(degrees / 2, 0.5, degrees / (degrees + t * t)) / 2;
    return t > 0 ? 1 - tail : tail;
}

double stats_t_quantile(double p, double degrees)
{
    if (!(p > 0 && p < 1) || !(degrees > 0)) {
        return NAN;
    }
    if (p < 0.5) {
        return -stats_t_quantile(1 - p, degrees);
    }
    double high = 1;
    while (stats_t_cdf(high, degrees) < p && high < 1e12) {
        high *= 2;
    }
    double low = 0;
    for (int i = 0; i < 200 && high - low > 1e-13 * high; i++) {
        double middle = (low + high) / 2;
        if (stats_t_cdf(middle, degrees) < p) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return (low + high) / 2;
}

double stats_normal_cdf(double z)
{
    return erfc(-z / 1.4142135623730951) / 2;
}

double stats_normal_quantile(double p)
{
    if (!(p > 0 && p < 1)) {
        return NAN;
    }
    double low = -40;
    double high = 40;
    for (int i = 0; i < 200 && high - low > 1e-14; i++) {
        double middle = (low + high) / 2;
        if (stats_normal_cdf(middle) < p) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return (low + high) / 2;
}
