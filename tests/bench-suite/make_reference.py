"""Prints reference.json: what SciPy and NumPy make of small samples. Kept beside its output, so that
the tests need neither.
    python3 tests/bench-suite/make_reference.py > tests/bench-suite/reference.json"""
import json

import numpy
import scipy
from scipy import special, stats


def number(value):
    return float(value)


def holm(values):
    order = numpy.argsort(values)
    corrected = numpy.empty(len(values))
    largest = 0
    for rank, index in enumerate(order):
        largest = max(largest, min(1, values[index] * (len(values) - rank)))
        corrected[index] = largest
    return [float(value) for value in corrected]


def pair(a, b, exact):
    """Everything that is computed of two samples."""
    a, b = numpy.asarray(a, float), numpy.asarray(b, float)
    normal = stats.mannwhitneyu(a, b, method="asymptotic")
    welch = stats.ttest_ind(a, b, equal_var=False)
    pooled = numpy.sqrt(((len(a) - 1) * a.var(ddof=1) + (len(b) - 1) * b.var(ddof=1))
                        / (len(a) + len(b) - 2))
    differences = b[:, None] - a[None, :]
    return {
        "a": a.tolist(), "b": b.tolist(),
        "u": number(normal.statistic), "p_normal": number(normal.pvalue),
        "p_exact": number(stats.mannwhitneyu(a, b, method="exact").pvalue) if exact else None,
        "welch_t": number(welch.statistic), "welch_df": number(welch.df),
        "welch_p": number(welch.pvalue),
        "shift": number(numpy.median(differences)),
        "cohens_d": number((b.mean() - a.mean()) / pooled),
        "cliffs_delta": number(numpy.sign(differences).mean()),
    }


def single(values):
    values = numpy.asarray(values, float)
    interval = stats.t.interval(0.95, len(values) - 1, values.mean(), stats.sem(values))
    deviations = numpy.abs(values - numpy.median(values))
    mad = stats.median_abs_deviation(values)
    scale = mad / 0.6745 if mad > 0 else deviations.mean() * 1.253314
    return {
        "values": values.tolist(), "mean": number(values.mean()),
        "deviation": number(values.std(ddof=1)),
        "quantiles": [[p, number(numpy.quantile(values, p))] for p in (0, 0.1, 0.5, 0.95, 0.99, 1)],
        "interval": [number(end) for end in interval],
        "outliers": [bool(mark) for mark in (deviations > 3.5 * scale)],
    }


def main():
    random = numpy.random.default_rng(7)
    document = {
        "scipy": scipy.__version__,
        "beta": [[a, b, x, number(special.betainc(a, b, x))]
                 for a in (0.5, 1, 2.5, 40, 990) for b in (0.5, 1, 3, 11, 700)
                 for x in (0.001, 0.1, 0.5, 0.9, 0.985, 0.9999)],
        "t_quantiles": [[p, df, number(stats.t.ppf(p, df))]
                        for p in (0.025, 0.3, 0.9, 0.975, 0.995) for df in (1, 2, 4, 9.3, 29, 1000)],
        "normal_quantiles": [[p, number(stats.norm.ppf(p))] for p in (0.001, 0.025, 0.4, 0.5, 0.975)],
        "pairs": [
            pair([1.1, 2.2, 3.3], [4.4, 5.5, 6.6], True),
            pair(random.normal(10, 1, 5), random.normal(10.5, 1, 5), True),
            pair(random.normal(10, 1, 8), random.normal(10, 3, 12), True),
            pair(random.lognormal(0, 1, 20), random.lognormal(0.3, 1, 15), True),
            pair([1, 2, 2, 3, 3, 3], [2, 3, 3, 4, 5, 5, 5], False),
            pair(random.integers(0, 10, 50), random.integers(1, 11, 60), False),
        ],
        "singles": [
            single(random.normal(5, 2, 5)),
            single([1, 1, 1, 1, 1, 1, 9]),
            single(list(random.normal(100, 1, 40)) + [120, 60, 100.5]),
        ],
        "holm": [{"p": p, "corrected": holm(p)} for p in
                 ([0.01, 0.04, 0.03, 0.005], [0.5], [0.2, 0.2, 0.9, 0.001, 0.04, 0.6])],
    }
    print(json.dumps(document, indent=None, separators=(",", ":")))


if __name__ == "__main__":
    main()
