"""What the runs of a study say: differences to the base, verdicts, the arms kept, the winner."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, median, stdev
from typing import Any

from mnistcli.results.comparison import key_of
from mnistcli.results.contrast import ALPHA, Contrast, Row, contrast
from mnistcli.results.stats import LEAST_RUNS, holm, mean_interval
from mnistcli.study import chances
from mnistcli.study.stages import Step

Result = dict[str, Any]
BETTER, WORSE, SAME = "better", "worse", "same"
AHEAD, UNTOLD = "ahead", "not told apart"
FEW, FAILED, BASE, ALONE = "few runs", "failed", "base", "no run of the base beside it"


@dataclass(frozen=True)
class Entry:
    """What an arm has done in a stage: its results, and how many of its runs have none for good.

    `apart` are results of another device, precision, code path or data than the most.
    """

    name: str
    results: Sequence[Result] = ()
    failed: int = 0
    apart: Sequence[Result] = field(default=())

    @property
    def mean(self) -> float:
        """The mean accuracy; an arm that failed or has no run is below all others."""
        shares = [one["last"]["accuracy"] for one in self.results]
        return fmean(shares) if shares and not self.failed else -1.0

    @property
    def loss(self) -> float:
        """The mean loss of the last epoch, for arms of equal accuracy."""
        losses = [one["last"].get("loss") for one in self.results]
        known = [loss for loss in losses if loss is not None]
        return fmean(known) if known else float("inf")


def entry(name: str, results: Sequence[Result], failed: int, like: Any = None) -> Entry:
    """Return an arm's entry; only runs of one kind are put together, the kind of most or `like`."""
    kinds: dict[Any, list[Result]] = {}
    for one in results:
        kinds.setdefault(kind_of(one), []).append(one)
    most = like if like in kinds else max(kinds, key=lambda k: len(kinds[k]), default=None)
    apart = [one for kind, group in kinds.items() if kind != most for one in group]
    return Entry(name, kinds.get(most, []), failed, apart)


def kind_of(result: Result) -> tuple[Any, ...]:
    """Return what two figures must share to be compared, network and recipe aside."""
    key = key_of(result)
    return key.split, key.data, key.device, key.precision, key.code_path


def table(
    step: Step, entries: Sequence[Entry], margin: float, *, over: bool = True
) -> list[dict[str, Any]]:
    """Return a row for each arm of a stage, the base's first: figures, difference, verdict.

    Intervals hold together (Bonferroni), p is Holm's. Verdicts are given where the stage is
    `over`, p too: looking after each run would find too much.
    """
    base, *others = entries
    rows = {one.name: _row(one) for one in entries}
    tested = max(1, len(others))
    level = 1 - ALPHA / tested
    found = {
        one.name: _contrast(rows[one.name], rows[base.name], level)
        for one in others
        if one.results and base.results
    }
    ps = [one.p for one in found.values() if one.p is not None]
    adjusted = iter(holm(ps))
    shown = [_shown(step, base, None, None, 0) | {"verdict": BASE if over else None}]
    for one in others:
        versus = found.get(one.name)
        p = None if versus is None or versus.p is None else next(adjusted)
        more = 0
        word = _verdict(step, one, versus, p, margin)
        if over and word == UNTOLD and versus is not None:
            more = _more(one, base, versus, margin, ALPHA / tested)
        word = word if over else ""
        p = p if over else None
        shown.append(_shown(step, one, versus, p, more) | {"verdict": word or None})
    return shown


def best(entries: Sequence[Entry], keep: int) -> list[str]:
    """Return the challengers with the highest means, then the lowest losses; the base is none."""
    challengers = sorted(entries[1:], key=lambda one: (-one.mean, one.loss))
    return [one.name for one in challengers[:keep]]


def worth_confirming(rows: Sequence[Mapping[str, Any]], leader: str) -> bool:
    """Return whether the leader of a stage may still be better: above the base, and not shown to
    be the same within the margin."""
    row = next(row for row in rows if row["arm"] == leader)
    above = row["difference"] is not None and row["difference"] > 0
    return above and row["verdict"] != SAME


def conclude(
    steps: Sequence[Step], tables: Sequence[Sequence[dict[str, Any]]], sd: float
) -> dict[str, Any]:
    """Return the answer: each arm's row from the last stage that it was in, leader and winner.

    `leader` is the challenger with the highest mean where several were compared last; its mean is
    shrunk by what the best of so many that do not differ gains (`flattery`).
    """
    last = {row["arm"]: row for rows in tables for row in rows}
    base = tables[0][0]["arm"]
    contest = max((i for i, step in enumerate(steps) if step.entering > 1), default=None)
    answer: dict[str, Any] = {"arms": list(last.values()), "leader": None, "shrunk": None}
    if contest is not None and contest < len(tables):
        rows = [row for row in tables[contest][1:] if row["mean"] is not None and not row["failed"]]
        if rows:
            leader = max(rows, key=lambda row: row["mean"])
            pooled = _pooled(tables[contest]) or sd
            excess = chances.flattery(pooled, max(1, leader["n"]), steps[contest].entering)
            shrunk = leader["mean"] - excess
            answer |= {"leader": leader["arm"], "flattery": excess, "shrunk": shrunk,
                       "leader_mean": leader["mean"]}  # fmt: skip
    better = [row["arm"] for row in last.values() if row["verdict"] == BETTER]
    return answer | {"base": base, "winner": better[0] if better else base, "better": bool(better)}


def _row(one: Entry) -> Row:
    """Return what `contrast` reads of a row."""
    results = sorted(one.results, key=lambda result: int(result["seed"]))
    shares = [result["last"]["accuracy"] for result in results]
    first = results[0] if results else {"split": None, "data": None}
    return {
        "key": key_of(first) if results else None,
        "split": first["split"],
        "data": first["data"],
        "n": len(results),
        "mean": fmean(shares) if shares else None,
        "by_seed": dict(zip((result["seed"] for result in results), shares, strict=True)),
        "results": results,
    }


def _contrast(first: Row, second: Row, confidence: float) -> Contrast:
    """Compare two arms over their seeds; two single runs say nothing about recipes."""
    if first["n"] == second["n"] == 1:
        return Contrast(first["mean"] - second["mean"], None, None, "too few runs")
    return contrast(first, second, confidence)


def _verdict(
    step: Step, one: Entry, versus: Contrast | None, p: float | None, margin: float
) -> str:
    if one.failed:
        return FAILED
    if versus is None and len(one.results) >= LEAST_RUNS:
        return ALONE
    if versus is None or versus.difference is None or versus.test == "too few runs":
        return FEW
    if p is not None and p < ALPHA:
        up = BETTER if step.decides else AHEAD
        return up if versus.difference > 0 else WORSE
    near = versus.interval is not None and max(map(abs, versus.interval)) <= margin
    alike = versus.interval is None and versus.difference == 0
    return SAME if near or alike else UNTOLD


def _more(one: Entry, base: Entry, versus: Contrast, margin: float, alpha: float) -> int:
    """Return how many seeds more would tell, if difference and spread stayed."""
    shares = [[r["last"]["accuracy"] for r in side.results] for side in (one, base)]
    n = min(map(len, shares))
    if versus.test.startswith("paired"):
        by_seed = [{r["seed"]: r["last"]["accuracy"] for r in s.results} for s in (one, base)]
        pairs = [by_seed[0][seed] - by_seed[1][seed] for seed in by_seed[0] if seed in by_seed[1]]
        spread = stdev(pairs)
    else:
        spread = (stdev(shares[0]) ** 2 + stdev(shares[1]) ** 2) ** 0.5
    assert versus.difference is not None
    return chances.seeds_until_told(versus.difference, spread, n, margin, alpha)


def _shown(
    step: Step, one: Entry, versus: Contrast | None, p: float | None, more: int
) -> dict[str, Any]:
    shares = [result["last"]["accuracy"] for result in one.results]
    n = len(shares)
    interval = mean_interval(shares)
    difference = None if versus is None else versus.difference
    bounds = versus.interval if versus is not None else None
    return {
        "stage": step.name,
        "arm": one.name,
        "n": n,
        "seeds": len(step.seeds),
        "failed": one.failed,
        "apart": len(one.apart),
        "mean": fmean(shares) if shares else None,
        "interval": interval and list(interval),
        "sd": stdev(shares) if n > 1 else None,
        "difference": difference,
        "difference_interval": bounds and list(bounds),
        "p": p,
        "test": None if versus is None else versus.test,
        "verdict": None,
        "more": more or None,
        "loss": one.loss if one.results and one.loss != float("inf") else None,
        "seconds_per_epoch": median(r["seconds_per_epoch"] for r in one.results) if n else None,
        "by_seed": {str(r["seed"]): r["last"]["accuracy"] for r in one.results},
    }


def _pooled(rows: Sequence[Mapping[str, Any]]) -> float | None:
    """Return the sd within arms over all of them."""
    known = [(row["n"] - 1, row["sd"]) for row in rows if row["sd"] is not None]
    freedom = sum(n for n, _ in known)
    return (sum(n * sd * sd for n, sd in known) / freedom) ** 0.5 if freedom else None
