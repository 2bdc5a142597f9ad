"""Intervals and tests for honest comparisons; pure functions of counts and shares.

The quantiles and tests are SciPy's, imported where one is needed: it takes 0.4 s.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist, fmean, stdev
from typing import Any, NamedTuple

LEAST_RUNS = 3  # two runs say next to nothing about their spread
_NO_SPREAD = 1e-9  # of shares: far below one picture of a million, above rounding


class Interval(NamedTuple):
    """A two-sided confidence interval."""

    low: float
    high: float


class Difference(NamedTuple):
    """A difference of two means, its interval and its two-sided p.

    Interval and p are None where the runs show no spread to judge it by.
    """

    mean: float
    interval: Interval | None
    p: float | None


def wilson(correct: int, total: int, confidence: float = 0.95) -> Interval:
    """Return the score interval of a proportion (Wilson, JASA 22, 1927), as shares 0 to 1.

    SciPy has it too; every evaluation needs it, and should not wait for SciPy.
    """
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share, scale = correct / total, 1 + z * z / total
    centre = (share + z * z / (2 * total)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return Interval(max(0.0, centre - half), min(1.0, centre + half))


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> Interval | None:
    """Return Student's interval of a mean share over independent runs.

    None for fewer than three runs, and where all are alike.
    """
    if len(values) < LEAST_RUNS or stdev(values) < _NO_SPREAD:
        return None
    from scipy import stats

    low, high = stats.t.interval(
        confidence, len(values) - 1, fmean(values), stdev(values) / math.sqrt(len(values))
    )
    return Interval(max(0.0, float(low)), min(1.0, float(high)))


def paired(first: Sequence[float], second: Sequence[float], confidence: float = 0.95) -> Difference:
    """Compare by Student's paired t-test; the pairs are in order, three or more."""
    pairs = [a - b for a, b in zip(first, second, strict=True)]
    if stdev(pairs) < _NO_SPREAD:
        return Difference(fmean(pairs), None, None)
    from scipy import stats

    return _difference(fmean(pairs), stats.ttest_rel(first, second), confidence)


def welch(first: Sequence[float], second: Sequence[float], confidence: float = 0.95) -> Difference:
    """Compare independent runs, three or more each, by Welch's test (Biometrika 34, 1947)."""
    mean = fmean(first) - fmean(second)
    if max(stdev(first), stdev(second)) < _NO_SPREAD:
        return Difference(mean, None, None)
    from scipy import stats

    return _difference(mean, stats.ttest_ind(first, second, equal_var=False), confidence)


def mcnemar_p(only_first: int, only_second: int) -> float:
    """Return the exact two-sided p of McNemar's test from the two discordant counts."""
    from scipy import stats

    discordant = only_first + only_second
    return float(stats.binomtest(only_first, discordant).pvalue) if discordant else 1.0


def holm(ps: Sequence[float]) -> list[float]:
    """Return the p-values adjusted for their number (Holm, Scand. J. Statist. 6, 1979)."""
    order = sorted(range(len(ps)), key=ps.__getitem__)
    adjusted, least = [0.0] * len(ps), 0.0
    for place, index in enumerate(order):
        least = max(least, min(1.0, (len(ps) - place) * ps[index]))
        adjusted[index] = least
    return adjusted


def _difference(mean: float, found: Any, confidence: float) -> Difference:
    low, high = found.confidence_interval(confidence)
    return Difference(mean, Interval(float(low), float(high)), float(found.pvalue))
