/* Two-sample tests, effect sizes and the correction for many of them. Pure; owns nothing beyond
 * work space during a call. */
#include "bench/significance.h"

#include <math.h>
#include <stdlib.h>

#define EXACT_COUNT_MAX 40
#define HOLM_COUNT_MAX  4096

static double u_statistic(const double *a, size_t a_count, const double *b, size_t b_count,
                          bool *ties)
{
    double u = 0;
    *ties = false;
    for (size_t i = 0; i < a_count; i++) {
        for (size_t j = 0; j < b_count; j++) {
            u += a[i] > b[j] ? 1 : a[i] == b[j] ? 0.5 : 0;
            *ties = *ties || a[i] == b[j];
        }
    }
    return u;
}

/* The share of arrangements with each U in 0 … m n, into [m n + 1]. The recurrence of Mann and
 * Whitney, as the generating product ∏ (1 - q^(n+i)) / (1 - q^i). */
static double *u_distribution(size_t m, size_t n)
{
    size_t length = m * n + 1;
    double *share = calloc(length, sizeof *share);
    if (!share) {
        return NULL;
    }
    share[0] = 1;
    for (size_t i = 1; i <= m; i++) {
        for (size_t k = length; k-- > n + i;) {
            share[k] -= share[k - n - i];
        }
        for (size_t k = i; k < length; k++) {
            share[k] += share[k - i];
        }
    }
    double total = 0;
    for (size_t k = 0; k < length; k++) {
        total += share[k];
    }
    for (size_t k = 0; k < length; k++) {
        share[k] /= total;
    }
    return share;
}

/* Σ (t³ - t) over groups of t equal values in both samples together. */
static double tie_term(const double *a, size_t a_count, const double *b, size_t b_count)
{
    size_t count = a_count + b_count;
    double *all = malloc(count * sizeof *all);
    double term = 0;
    if (!all) {
        return 0;
    }
    for (size_t i = 0; i < count; i++) {
        all[i] = i < a_count ? a[i] : b[i - a_count];
    }
    stats_sort(all, count);
    for (size_t begin = 0; begin < count;) {
        size_t end = begin + 1;
        while (end < count && all[end] == all[begin]) {
            end++;
        }
        double t = (double)(end - begin);
        term += t * t * t - t;
        begin = end;
    }
    free(all);
    return term;
}

struct mann_whitney mann_whitney_normal(const double *a, size_t a_count, const double *b,
                                        size_t b_count)
{
    struct mann_whitney result = {NAN, NAN, false};
    bool ties;
    if (a_count == 0 || b_count == 0) {
        return result;
    }
    double m = (double)a_count;
    double n = (double)b_count;
    result.u = u_statistic(a, a_count, b, b_count, &ties);
    double spread =
        m * n / 12 * (m + n + 1 - tie_term(a, a_count, b, b_count) / ((m + n) * (m + n - 1)));
    double distance = fabs(result.u - m * n / 2) - 0.5;
    result.p = spread > 0 ? fmin(1, 2 * stats_normal_cdf(-distance / sqrt(spread))) : 1;
    return result;
}

struct mann_whitney mann_whitney_test(const double *a, size_t a_count, const double *b,
                                      size_t b_count)
{
    struct mann_whitney result = mann_whitney_normal(a, a_count, b, b_count);
    bool ties;
    if (a_count == 0 || b_count == 0 || a_count > EXACT_COUNT_MAX || b_count > EXACT_COUNT_MAX) {
        return result;
    }
    u_statistic(a, a_count, b, b_count, &ties);
    double *share = ties ? NULL : u_distribution(a_count, b_count);
    if (!share) {
        return result;
    }
    size_t pairs = a_count * b_count;
    size_t larger = (size_t)result.u;
    larger = larger > pairs - larger ? larger : pairs - larger;
    double tail = 0;
    for (size_t k = larger; k <= pairs; k++) {
        tail += share[k];
    }
    free(share);
    result.p = fmin(1, 2 * tail);
    result.exact = true;
    return result;
}

struct welch welch_test(const double *a, size_t a_count, const double *b, size_t b_count)
{
    struct welch result = {NAN, NAN, NAN};
    if (a_count < 2 || b_count < 2) {
        return result;
    }
    double a_spread = pow(stats_deviation(a, a_count), 2) / (double)a_count;
    double b_spread = pow(stats_deviation(b, b_count), 2) / (double)b_count;
    double difference = stats_mean(a, a_count) - stats_mean(b, b_count);
    double spread = a_spread + b_spread;
    if (!(spread > 0)) {
        result.p = difference == 0 ? 1 : 0;
        return result;
    }
    result.t = difference / sqrt(spread);
    result.degrees =
        spread * spread /
        (a_spread * a_spread / (double)(a_count - 1) + b_spread * b_spread / (double)(b_count - 1));
    result.p = stats_incomplete_beta(result.degrees / 2, 0.5,
                                     result.degrees / (result.degrees + result.t * result.t));
    return result;
}

/* How many differences to cut off at each end for the confidence. */
static size_t shift_cut(size_t m, size_t n, double confidence)
{
    double tail = (1 - confidence) / 2;
    if (m <= EXACT_COUNT_MAX && n <= EXACT_COUNT_MAX) {
        double *share = u_distribution(m, n);
        double sum = 0;
        size_t cut = 0;
        while (share && cut < m * n && sum + share[cut] <= tail) {
            sum += share[cut++];
        }
        free(share);
        return cut;
    }
    double a = (double)m;
    double b = (double)n;
    double cut = a * b / 2 - stats_normal_quantile(1 - tail) * sqrt(a * b * (a + b + 1) / 12);
    return cut > 0 ? (size_t)cut : 0;
}

struct shift hodges_lehmann(const double *a, size_t a_count, const double *b, size_t b_count,
                            double confidence)
{
    struct shift shift = {NAN, {NAN, NAN}};
    size_t pairs = a_count * b_count;
    double *differences = pairs ? malloc(pairs * sizeof *differences) : NULL;
    if (!differences) {
        return shift;
    }
    for (size_t i = 0; i < a_count; i++) {
        for (size_t j = 0; j < b_count; j++) {
            differences[i * b_count + j] = b[j] - a[i];
        }
    }
    stats_sort(differences, pairs);
    shift.median = stats_quantile(differences, pairs, 0.5);
    size_t cut = shift_cut(a_count, b_count, confidence);
    /* With a cut of 0 even the extremes do not reach the confidence: no interval. */
    if (cut > 0 && 2 * cut <= pairs) {
        shift.interval.low = differences[cut - 1];
        shift.interval.high = differences[pairs - cut];
    }
    free(differences);
    return shift;
}

double cohens_d(const double *a, size_t a_count, const double *b, size_t b_count)
{
    if (a_count < 2 || b_count < 2) {
        return NAN;
    }
    double pooled = (pow(stats_deviation(a, a_count), 2) * (double)(a_count - 1) +
                     pow(stats_deviation(b, b_count), 2) * (double)(b_count - 1)) /
                    (double)(a_count + b_count - 2);
    return pooled > 0 ? (stats_mean(b, b_count) - stats_mean(a, a_count)) / sqrt(pooled) : NAN;
}

double cliffs_delta(const double *a, size_t a_count, const double *b, size_t b_count)
{
    bool ties;
    if (a_count == 0 || b_count == 0) {
        return NAN;
    }
    return 2 * u_statistic(b, b_count, a, a_count, &ties) / ((double)a_count * (double)b_count) - 1;
}

const char *cliffs_size(double delta)
{
    double size = fabs(delta);
    return isnan(delta)   ? "not known"
           : size < 0.147 ? "negligible"
           : size < 0.33  ? "small"
           : size < 0.474 ? "medium"
                          : "large";
}

bool holm_correct(double *p, size_t count)
{
    size_t order[HOLM_COUNT_MAX];
    size_t tests = 0;
    for (size_t i = 0; i < count; i++) {
        if (!isnan(p[i])) {
            if (tests == HOLM_COUNT_MAX) {
                return false;
            }
            size_t place = tests++;
            while (place > 0 && p[order[place - 1]] > p[i]) {
                order[place] = order[place - 1];
                place--;
            }
            order[place] = i;
        }
    }
    double largest = 0;
    for (size_t rank = 0; rank < tests; rank++) {
        double corrected = fmin(1, p[order[rank]] * (double)(tests - rank));
        largest = fmax(largest, corrected);
        p[order[rank]] = largest;
    }
    return true;
}
