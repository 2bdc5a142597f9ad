"""Intervals and paired tests for honest comparisons; pure functions of counts and means."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from statistics import NormalDist, fmean, stdev
from typing import NamedTuple


class Interval(NamedTuple):
    """A two-sided confidence interval."""

    low: float
    high: float


def wilson(correct: int, total: int, confidence: float = 0.95) -> Interval:
    """Return the score interval of a proportion (Wilson, JASA 22, 1927), as shares 0 to 1."""
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share, scale = correct / total, 1 + z * z / total
    centre = (share + z * z / (2 * total)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return Interval(max(0.0, centre - half), min(1.0, centre + half))


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Return Student's interval of a mean share over two or more independent runs."""
    half = t_quantile(0.5 + confidence / 2, len(values) - 1) * stdev(values)
    half /= math.sqrt(len(values))
    return Interval(max(0.0, fmean(values) - half), min(1.0, fmean(values) + half))


def paired_p(first: Sequence[float], second: Sequence[float]) -> float:
    """Return the two-sided p of a paired t-test, pairs in order; 1.0 where all pairs are equal."""
    pairs = [a - b for a, b in zip(first, second, strict=True)]
    spread = stdev(pairs)
    if spread == 0:
        return 1.0 if fmean(pairs) == 0 else 0.0
    statistic = abs(fmean(pairs)) / (spread / math.sqrt(len(pairs)))
    return 2 * (1 - t_cdf(statistic, len(pairs) - 1))


def mcnemar_p(only_first: int, only_second: int) -> float:
    """Return the exact two-sided p of McNemar's test from the two discordant counts."""
    n, fewer = only_first + only_second, min(only_first, only_second)
    if n == 0:
        return 1.0
    tail = sum(math.comb(n, i) for i in range(fewer + 1))
    return min(1.0, float(Fraction(2 * tail, 2**n)))


def t_cdf(t: float, degrees: int) -> float:
    """Return P(T <= t) of Student's t by its finite sums (Abramowitz and Stegun 26.7.3, 26.7.4)."""
    angle = math.atan(t / math.sqrt(degrees))
    cos2, term, total = math.cos(angle) ** 2, 1.0, 0.0
    if degrees % 2:
        for k in range(1, degrees // 2 + 1):
            total += term
            term *= cos2 * 2 * k / (2 * k + 1)
        central = 2 / math.pi * (angle + math.sin(angle) * math.cos(angle) * total)
    else:
        for k in range(1, degrees // 2 + 1):
            total += term
            term *= cos2 * (2 * k - 1) / (2 * k)
        central = math.sin(angle) * total
    return 0.5 + central / 2


def t_quantile(p: float, degrees: int) -> float:
    """Return the t with P(T <= t) = p, for p above one half, by bisection."""
    low, high = 0.0, 1.0
    while t_cdf(high, degrees) < p:
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if t_cdf(middle, degrees) < p else (low, middle)
    return (low + high) / 2
