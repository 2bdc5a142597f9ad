"""What a plan can show, before anything is trained: chances and sizes by formula.

Accuracies over seeds are taken as normal with one sd; every later stage has seeds of its own, so
that its figures owe nothing to the selection before it. SciPy is imported where it is used.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

ALPHA = 0.05  # two-sided
POWER = 0.8
LEAST_SEEDS, MOST_SEEDS = 3, 2000
_REACH, _NODES = 9.0, 120  # of the quadrature: sd, and points


def finds(effect: float, sd: float, seeds: int, *, pairs: bool, alpha: float = ALPHA) -> float:
    """Return the chance that Student's test shows an arm to be better by `effect`, a true one.

    By the noncentral t distribution (Cohen, Statistical Power Analysis, 1988, chapter 2): `pairs`
    has seeds − 1 degrees of freedom, two independent samples 2 (seeds − 1). The runs of a pair are
    taken as independent, as they nearly are.
    """
    from scipy import special, stats

    freedom = (seeds - 1) * (1 if pairs else 2)
    critical = float(special.stdtrit(freedom, 1 - alpha / 2))
    return float(stats.nct.sf(critical, freedom, effect / (sd * math.sqrt(2 / seeds))))


def keeps(effect: float, sd: float, seeds: int, *, challengers: int, keep: int) -> float:
    """Return the chance that the best of so many challengers is among the `keep` highest means,
    where it is better by `effect` and the others do not differ."""
    if keep >= challengers:
        return 1.0
    from scipy import stats

    ahead = effect / (sd / math.sqrt(seeds))

    def among(x: Any) -> Any:
        above = stats.norm.sf(x + ahead)
        return stats.norm.pdf(x) * stats.binom.cdf(keep - 1, challengers - 1, above)

    return min(1.0, _integral(among))


def flattery(sd: float, seeds: int, arms: int) -> float:
    """Return by how much the best mean of arms that do not differ exceeds their true mean.

    The expected maximum of normal order statistics (David and Nagaraja, Order Statistics, 2003):
    ∫ x k φ(x) Φ(x)^(k−1) dx, times the sd of a mean.
    """
    from scipy import stats

    def highest(x: Any) -> Any:
        return x * arms * stats.norm.pdf(x) * stats.norm.cdf(x) ** (arms - 1)

    return 0.0 if arms < 2 else _integral(highest) * sd / math.sqrt(seeds)


def seeds_needed(chance: Callable[[int], float]) -> int:
    """Return the fewest seeds with which a chance that grows with them reaches 80 %."""
    low, high = LEAST_SEEDS - 1, LEAST_SEEDS
    while chance(high) < POWER and high < MOST_SEEDS:
        low, high = high, min(2 * high, MOST_SEEDS)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if chance(middle) >= POWER else (middle, high)
    return high


def effect_found(chance: Callable[[float], float], most: float = 1.0) -> float | None:
    """Return the least effect that has a chance of 80 %, or None where even `most` has less."""
    low, high = 0.0, most
    if chance(high) < POWER:
        return None
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (low, middle) if chance(middle) >= POWER else (middle, high)
    return high


def seeds_until_told(
    difference: float, spread: float, seeds: int, margin: float, alpha: float = ALPHA
) -> int:
    """Return how many seeds more would tell two arms apart, or show them near, if the difference
    and its `spread` (the sd of a pair's) stayed as they are.

    Until the interval leaves out 0, or lies within ± `margin`.
    """
    from scipy import special  # its quantile takes a hundredth of the time of stats.t

    wanted = max(abs(difference), margin - abs(difference))

    def told(n: int) -> float:
        half = float(special.stdtrit(n - 1, 1 - alpha / 2)) * spread / math.sqrt(n)
        return 1.0 if half < wanted else 0.0

    return max(1, seeds_needed(told) - seeds)


def _integral(function: Callable[[Any], Any]) -> float:
    from scipy import integrate

    return float(integrate.fixed_quad(function, -_REACH, _REACH, n=_NODES)[0])
