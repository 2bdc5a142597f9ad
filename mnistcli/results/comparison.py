"""Rows of runs side by side: what makes one row, and its figures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from mnistcli.errors import ArtifactError
from mnistcli.models.registry import MODELS
from mnistcli.results.contrast import MARGIN, against, mark_standings
from mnistcli.results.figures import code_path, summarise
from mnistcli.results.gather import PUBLISHED, Result
from mnistcli.results.goal import Limits

if TYPE_CHECKING:
    from mnistcli.results.unfinished import Unfinished

Row = dict[str, Any]
MNIST_DIGEST = "c65580678af9"  # of the packaged files; a test holds it to them


class Key(NamedTuple):
    """What the runs of a row have in common; `repeat` is 1 for second runs of the same seeds.

    `origin` is "published", or the folder that holds the runs.
    """

    model: str
    network: str
    recipe_digest: str
    split: str
    data: str
    teacher: str | None
    device: str
    precision: str
    code_path: str
    origin: str
    repeat: int


def rows(
    results: Iterable[Result],
    baseline: Result | None = None,
    *,
    unfinished: Sequence[Unfinished] = (),
    margin: float = MARGIN,
) -> list[Row]:
    """Return one row for each network, recipe, split, data, teacher, kind of device, precision,
    code path and origin, over its seeds; a second run of a seed begins a row of its own.

    `baseline` is any result of the row that `difference` is taken against; `unfinished` runs are
    named in the row they belong to. `margin`, a share, is what counts as near.

    Raises:
        ArtifactError: there are no results.
    """
    groups: dict[Key, dict[int, Result]] = {}
    for result in results:
        key = key_of(result)
        while result["seed"] in groups.get(key, {}):
            key = key._replace(repeat=key.repeat + 1)
        groups.setdefault(key, {})[result["seed"]] = result
    if not groups:
        raise ArtifactError("no records to compare", hint="mnistcli train --model v3")
    missing = _assign(groups, unfinished)
    table = [
        _row(key, [group[seed] for seed in sorted(group)], missing.get(key, []))
        for key, group in groups.items()
    ]
    table.sort(key=_place)
    _tell_apart(table)
    mark_standings(table, margin)
    if baseline is not None:
        _take_differences(table, key_of(baseline))
    return table


def _place(row: Row) -> tuple[int, str, str, bool]:
    """Return a row's place: registered networks in their order, others behind them by name."""
    model = row["model"]
    place = [*MODELS].index(model) if model in MODELS else len(MODELS)
    return place, model, row["recipe"], row["key"].origin != PUBLISHED


def key_of(result: Result) -> Key:
    """Return what makes a result's row."""
    runtime = result["runtime"]
    size = f"{result['parameters']}/{result['mult_adds']}/{result['receptive_field']}"
    return Key(
        model=result["model"],
        network=result.get("network") or size,  # older results know their size only
        recipe_digest=result["recipe_digest"],
        split=result["split"],
        data=result["data"],
        teacher=result.get("teacher_sha256"),
        device=device_kind(result),
        precision=runtime["precision"],
        code_path=result.get("code_path") or code_path(runtime),
        origin=result.get("origin") or (str(Path(result["run"]).parent) if "run" in result else ""),
        repeat=0,
    )


def device_kind(result: Result) -> str:
    """Return cpu or cuda, whose rows stay apart: other kernels, other rounding, other seconds."""
    return str(result["runtime"]["device"]).split(":")[0]


def machine(result: Result) -> str:
    """Return in words where a result was measured."""
    chosen, versions = result["runtime"], result["versions"]
    where = chosen["device_name"]
    if chosen["device"] == "cpu":
        where += f", {chosen['threads']} thread{'s' * (chosen['threads'] > 1)}"
    path = result.get("code_path") or code_path(chosen)
    return f"{where}, {chosen['precision']} {path}, torch {versions['torch']}"


def _assign(
    groups: dict[Key, dict[int, Result]], unfinished: Sequence[Unfinished]
) -> dict[Key, list[Unfinished]]:
    """Return the unfinished runs by the first row of their recipe and folder."""
    places: dict[tuple[str, str], Key] = {}
    for key in groups:
        places.setdefault((key.recipe_digest, key.origin), key)
    missing: dict[Key, list[Unfinished]] = {}
    for one in unfinished:
        if (place := places.get((one["recipe_digest"], one["origin"]))) is not None:
            missing.setdefault(place, []).append(one)
    return missing


def _row(key: Key, group: Sequence[Result], missing: Sequence[Unfinished]) -> Row:
    first = group[0]
    failed = sum(one["failed"] for one in missing)
    summary = summarise(group, Limits(), failed=failed)
    shares = [result["last"]["accuracy"] for result in group]
    entry = MODELS.get(first["model"])
    on_mnist = (first["split"], first["data"]) == ("test", MNIST_DIGEST)
    on = [] if key.device == "cpu" else [f"on {key.device}"]
    same = ("model", "follows_test", "parameters", "mult_adds", "receptive_field", "epochs")
    machines = sorted({machine(result) for result in group})
    alike = len(machines) == 1  # times of different machines have no median
    return {
        "key": key,
        **{name: first[name] for name in (*same, "split", "data")},
        "recipe": " ".join([first["recipe"], *first["changes"], *on]),
        "origin": key.origin,
        "seeds": [result["seed"] for result in group],
        **summary,
        "unfinished": list(missing),
        "last3": summary["gates"]["last3"],
        "distilled": key.teacher is not None,
        "best": max(result["best"]["accuracy"] for result in group),
        "images_per_second": median(r["images_per_second"] for r in group) if alike else None,
        "seconds_per_epoch": median(r["seconds_per_epoch"] for r in group) if alike else None,
        "reported": entry.reported_accuracy if entry is not None and on_mnist else None,
        "machines": machines,
        "by_seed": dict(zip((result["seed"] for result in group), shares, strict=True)),
        "results": list(group),
    }


def _tell_apart(table: Sequence[Row]) -> None:
    """Say of rows that look alike in which parts of their keys they differ."""
    alike: dict[tuple[str, ...], list[Row]] = {}
    for row in table:
        alike.setdefault((row["model"], row["recipe"], row["split"], row["data"]), []).append(row)
    for group in alike.values():
        keys = [row["key"] for row in group]
        differing = [part for part in Key._fields if len({getattr(k, part) for k in keys}) > 1]
        for row in group:
            words = [_distinction(part, getattr(row["key"], part)) for part in differing]
            row["which"] = ", ".join(words) or None


def _distinction(part: str, value: Any) -> str:
    match part:
        case "origin":
            return value if value == PUBLISHED else f"in {'/'.join(Path(value).parts[-2:])}"
        case "repeat":
            return f"run {value + 1} of a seed"
        case "teacher":
            return "labels alone" if value is None else f"teacher {value[:6]}"
        case "network" | "recipe_digest":
            return f"{part.partition('_')[0]} {value[:6]}"
    return str(value)


def _take_differences(table: Sequence[Row], baseline: Key) -> None:
    """Take each row's difference to the baseline as it ran on the row's own kind of device and
    code path, else to the baseline itself."""
    known = {row["key"]: row for row in table}

    def reference(row: Row) -> Row:
        device, precision, path = row["key"][6:9]
        like = baseline._replace(device=device, precision=precision, code_path=path)
        return known.get(like) or known[baseline]

    for row, (found, p) in zip(table, against(table, reference), strict=True):
        row["difference"], row["difference_interval"] = found.difference, found.interval
        row["difference_p"], row["difference_p_alone"] = p, found.p
        row["difference_test"], row["difference_seeds"] = found.test, found.seeds
