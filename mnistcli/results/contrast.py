"""Two rows of runs compared: their difference, the test, and a word for the result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mnistcli.errors import ArtifactError
from mnistcli.results.stats import (
    LEAST_RUNS,
    Difference,
    Interval,
    holm,
    mcnemar_p,
    paired,
    welch,
)

Row = dict[str, Any]
ALPHA = 0.05
MARGIN = 0.0005  # a share: what counts as near, 0.05 points, unless asked otherwise


class Contrast(NamedTuple):
    """The difference of two rows, first less second, its interval and p, and the test.

    None where there is none. `seeds` are those that a paired test could use, None where it used
    all of both rows.
    """

    difference: float | None
    interval: Interval | None
    p: float | None
    test: str
    seeds: tuple[int, ...] | None = None


def contrast(first: Row, second: Row, confidence: float = 1 - ALPHA) -> Contrast:
    """Compare two rows of the same pictures over their runs.

    Two recipes of one network on one kind of device share initial weights and order of each seed:
    they are paired by seed. All others are independent: Welch's test. With fewer than three runs
    nothing is said over seeds; two single runs, read on the same pictures, are compared picture by
    picture, which tells of these two networks and not of their recipes.
    """
    if first["key"] == second["key"]:
        return Contrast(0.0, None, None, "itself")
    if (first["split"], first["data"]) != (second["split"], second["data"]):
        return Contrast(None, None, None, "other pictures")
    difference = first["mean"] - second["mean"]
    if first["n"] == second["n"] == 1:
        discordant = _discordant(first["results"][0], second["results"][0])
        if discordant is not None:
            return Contrast(difference, None, mcnemar_p(*discordant), "McNemar")
    if min(first["n"], second["n"]) < LEAST_RUNS:
        return Contrast(difference, None, None, "too few runs")
    shares = first["by_seed"], second["by_seed"]
    common = tuple(seed for seed in shares[0] if seed in shares[1])
    if len(common) >= LEAST_RUNS and _one_network(first, second):
        pairs = [[row[seed] for seed in common] for row in shares]
        all_of_both = len(common) == first["n"] == second["n"]
        found = paired(pairs[0], pairs[1], confidence)
        return _named(found, "paired by seed", None if all_of_both else common)
    found = welch(list(shares[0].values()), list(shares[1].values()), confidence)
    return _named(found, "Welch")


def mark_standings(table: Sequence[Row], margin: float) -> None:
    """Mark on each row how it stands to the leader of its pictures, the highest mean of three or
    more runs: leader, below, tied, not separated, or few runs.

    `below` and `tied` both need evidence: a p, corrected for the number of rows tested (Holm), or
    an interval of the difference, at the level of Bonferroni, inside ± `margin`.
    """
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in table:
        groups.setdefault((row["split"], row["data"]), []).append(row)
    for group in groups.values():
        leader = max(group, key=lambda row: (row["n"] >= LEAST_RUNS, row["mean"]))
        tested = sum(min(row["n"], leader["n"]) >= LEAST_RUNS for row in group) - 1
        level = 1 - ALPHA / max(1, tested)
        found = against(group, lambda row, leader=leader: leader, level)  # type: ignore[misc]
        for row, (versus, p) in zip(group, found, strict=True):
            row["standing"] = "leader" if row is leader else _word(versus, p, margin)
            row["leader_difference"], row["leader_interval"] = versus.difference, versus.interval
            row["leader_p"], row["leader_test"] = p, versus.test
            row["rows_tested"], row["margin"] = max(0, tested), margin


def against(
    table: Sequence[Row], reference: Callable[[Row], Row], confidence: float = 1 - ALPHA
) -> list[tuple[Contrast, float | None]]:
    """Return each row's contrast with its reference, and its p corrected for all of them (Holm)."""
    found = [contrast(row, reference(row), confidence) for row in table]
    adjusted = iter(holm([one.p for one in found if one.p is not None]))
    return [(one, None if one.p is None else next(adjusted)) for one in found]


def _named(found: Difference, test: str, seeds: tuple[int, ...] | None = None) -> Contrast:
    name = test if found.p is not None else "no spread"
    return Contrast(found.mean, found.interval, found.p, name, seeds)


def _word(found: Contrast, p: float | None, margin: float) -> str:
    if found.test in ("too few runs", "McNemar"):
        return "few runs"
    if p is not None and p < ALPHA:
        return "below"
    near = found.interval is not None and max(map(abs, found.interval)) <= margin
    return "tied" if near else "not separated"


def _one_network(first: Row, second: Row) -> bool:
    """Return whether equal seeds mean equal initial weights and order."""
    parts = [(row["key"].model, row["key"].network, row["key"].device) for row in (first, second)]
    return bool(parts[0] == parts[1])


def _discordant(first: Row, second: Row) -> tuple[int, int] | None:
    """Return how many pictures only the first and only the second run got right."""
    marks = [_marks(result) for result in (first, second)]
    if marks[0] is None or marks[1] is None or len(marks[0]) != len(marks[1]):
        return None
    pairs = list(zip(marks[0], marks[1], strict=True))
    return sum(a and not b for a, b in pairs), sum(b and not a for a, b in pairs)


def _marks(result: Row) -> list[bool] | None:
    """Return for each picture whether a run's predictions.pt has it right."""
    path = Path(result["run"], "predictions.pt") if "run" in result else None
    if path is None or not path.exists():
        return None
    from mnistcli.engine.evaluate import read_marks

    try:
        return read_marks(path, result["last"]["correct"], result["last"]["total"])
    except ArtifactError as error:
        error.hint = (
            error.hint or "without that file the runs are compared, but not by McNemar's test"
        )
        raise
