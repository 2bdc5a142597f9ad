"""Rows of runs side by side: grouped by what was trained, and tested against a leader."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Any, NamedTuple

from mnistcli.errors import ArtifactError
from mnistcli.models.registry import MODELS
from mnistcli.results.gather import Result
from mnistcli.results.goal import Limits
from mnistcli.results.result import code_path, summarise
from mnistcli.results.stats import mcnemar_p, paired_p

Row = dict[str, Any]
ALPHA = 0.05
MNIST_DIGEST = "c65580678af9"  # of the packaged files; a test holds it to them


def rows(results: Iterable[Result], baseline: Result | None = None) -> list[Row]:
    """Return one row for each network, recipe, split, data and kind of device, over its seeds.

    A seed counts once: a second run of it, independent in name only, is left out and counted in
    `repeated`. `baseline` is any result of the group that `difference` is taken against.

    Raises:
        ArtifactError: there are no results.
    """
    groups: dict[tuple[Any, ...], dict[int, Result]] = {}
    repeated: Counter[tuple[Any, ...]] = Counter()
    for result in results:
        group = groups.setdefault(_key(result), {})
        repeated[_key(result)] += result["seed"] in group
        group.setdefault(result["seed"], result)
    if not groups:
        raise ArtifactError("no records to compare", hint="mnistcli train --model v3")
    table = [_row([group[seed] for seed in sorted(group)]) for group in groups.values()]
    table.sort(key=lambda row: (row["model"], row["recipe"]))
    for row in table:
        row["repeated"] = repeated[row["key"]]
    _mark_leader(table)
    if baseline is not None:
        for row in table:
            against = contrast(row, _reference(table, baseline, row))
            row["difference"], row["difference_p"], row["difference_test"] = against
    return table


def _reference(table: Sequence[Row], baseline: Result, row: Row) -> Row:
    """Return the baseline's row on the same kind of device as `row`, else its own."""
    *what, kind = _key(baseline)
    rows_of = {other["key"]: other for other in table}
    return rows_of.get((*what, row["key"][-1])) or rows_of[*what, kind]


class Contrast(NamedTuple):
    """The difference of two rows, its p-value, and the test; None where there is none."""

    difference: float | None
    p: float | None
    test: str


def contrast(first: Row, second: Row) -> Contrast:
    """Compare two rows: paired by common seeds, else by picture, else without a p-value."""
    difference = first["mean"] - second["mean"]
    if first["key"] == second["key"]:
        return Contrast(0.0, None, "itself")
    if (first["split"], first["data"]) != (second["split"], second["data"]):
        return Contrast(None, None, "other pictures")
    common = [seed for seed in first["by_seed"] if seed in second["by_seed"]]
    if len(common) > 1:
        pairs = [[row["by_seed"][seed] for seed in common] for row in (first, second)]
        return Contrast(fmean(pairs[0]) - fmean(pairs[1]), paired_p(*pairs), "paired by seed")
    if first["n"] == second["n"] == 1:
        discordant = _discordant(first["results"][0], second["results"][0])
        if discordant is not None:
            return Contrast(difference, mcnemar_p(*discordant), "McNemar")
    return Contrast(difference, None, "intervals")


def _key(result: Result) -> tuple[Any, ...]:
    parts = ("model", "recipe_digest", "split", "data")
    return *(result[part] for part in parts), result.get("teacher_sha256"), device_kind(result)


def device_kind(result: Result) -> str:
    """Return cpu or cuda, whose rows stay apart: other kernels, other rounding, other seconds."""
    return str(result["runtime"]["device"]).split(":")[0]


def _row(group: Sequence[Result]) -> Row:
    first, summary = group[0], summarise(group, Limits())
    shares = [result["last"]["accuracy"] for result in group]
    entry = MODELS.get(first["model"])
    on_mnist = (first["split"], first["data"]) == ("test", MNIST_DIGEST)
    on = [] if device_kind(first) == "cpu" else [f"on {device_kind(first)}"]
    same = ("model", "follows_test", "parameters", "mult_adds", "receptive_field", "epochs")
    return {
        "key": _key(first),
        **{name: first[name] for name in (*same, "split", "data")},
        "recipe": " ".join([first["recipe"], *first["changes"], *on]),
        "seeds": [result["seed"] for result in group],
        **summary,
        "last3": summary["gates"]["last3"],
        "distilled": first.get("teacher_sha256") is not None,
        "best": max(result["best"]["accuracy"] for result in group),
        "images_per_second": median(result["images_per_second"] for result in group),
        "seconds_per_epoch": median(result["seconds_per_epoch"] for result in group),
        "reported": entry.reported_accuracy if entry is not None and on_mnist else None,
        "machines": sorted({machine(result) for result in group}),
        "by_seed": dict(zip((result["seed"] for result in group), shares, strict=True)),
        "results": list(group),
    }


def machine(result: Result) -> str:
    """Return in words where a result was measured."""
    chosen, versions = result["runtime"], result["versions"]
    where = chosen["device_name"]
    if chosen["device"] == "cpu":
        where += f", {chosen['threads']} thread{'s' * (chosen['threads'] > 1)}"
    return f"{where}, {chosen['precision']} {code_path(chosen)}, torch {versions['torch']}"


def _mark_leader(table: Sequence[Row]) -> None:
    """Mark the highest mean on the same pictures, and what is tied with it or only overlaps it."""
    leaders: dict[tuple[str, str], Row] = {}
    for row in sorted(table, key=lambda row: -row["mean"]):
        leaders.setdefault((row["split"], row["data"]), row)
    for row in table:
        leader = leaders[row["split"], row["data"]]
        _, p, name = contrast(row, leader)
        overlaps = name == "intervals" and row["interval"][1] >= leader["interval"][0]
        tied = p is not None and p >= ALPHA
        row["standing"] = (
            "leader" if row is leader else "tied" if tied else "overlaps" if overlaps else ""
        )
        row["leader_p"], row["leader_test"] = p, name


def _discordant(first: Result, second: Result) -> tuple[int, int] | None:
    """Return how many pictures only the first and only the second run got right."""
    marks = [_marks(result) for result in (first, second)]
    if marks[0] is None or marks[1] is None or len(marks[0]) != len(marks[1]):
        return None
    pairs = list(zip(marks[0], marks[1], strict=True))
    return sum(a and not b for a, b in pairs), sum(b and not a for a, b in pairs)


def _marks(result: Result) -> list[bool] | None:
    """Return for each picture whether a run's predictions.pt has it right."""
    path = Path(result["run"], "predictions.pt") if "run" in result else None
    if path is None or not path.is_file():
        return None
    from mnistcli.engine.checkpoint import read_values

    saved = read_values(path)
    return [bool(mark) for mark in saved["correct"]]
