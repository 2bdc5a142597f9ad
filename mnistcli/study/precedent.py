"""What recorded runs say before a study starts: how far seeds spread, how long an epoch takes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median, stdev
from typing import Any, NamedTuple

from mnistcli import recipe as recipes
from mnistcli.errors import ArtifactError
from mnistcli.models.registry import file_name
from mnistcli.recipe import Recipe
from mnistcli.results.comparison import MNIST_DIGEST, device_kind
from mnistcli.results.gather import Result, gather, published

_TRAINED_ON = {"validation": 50_000, "test": 60_000}  # of MNIST's pictures, by what is held out
_FREEDOM = 16  # degrees of freedom that a spread should rest on: it is then known to a sixth
_LEAST = 3


class Spread(NamedTuple):
    """The sd of a run's accuracy over seeds, a share, and whose runs say so."""

    sd: float
    source: str


class Pace(NamedTuple):
    """Seconds of one epoch on the validation split's training pictures, and where measured."""

    seconds: float
    source: str


class _Group(NamedTuple):
    """Runs of one recipe on one kind of machine."""

    recipe: Recipe
    runs: list[Result]


class Precedents:
    """The published runs and those below ./checkpoints, by recipe and machine."""

    def __init__(self, models: Iterable[str]) -> None:
        runs = [*published(), *(run for model in models for run in _own(model))]
        groups: dict[tuple[str, ...], list[Result]] = {}
        for run in runs:
            if run["data"] == MNIST_DIGEST and run.get("recipe_values"):
                key = (run["recipe_digest"], run["split"], _place(run))
                groups.setdefault(key, []).append(run)
        self._groups = [
            _Group(recipes.validate(found[0]["recipe_values"], where=""), found)
            for found in groups.values()
        ]

    def spread(self, recipe: Recipe) -> Spread | None:
        """Return the median sd of the nearest recipes with three runs or more, as many as have
        sixteen degrees of freedom; None where no recipe of this network has."""
        like = [g for g in self._groups if len(g.runs) >= _LEAST and g.recipe.model == recipe.model]
        used: list[_Group] = []
        for group in sorted(like, key=lambda group: _distance(recipe, group)):
            used.append(group)
            if sum(len(one.runs) - 1 for one in used) >= _FREEDOM:
                break
        if not used:
            return None
        sds = [stdev(run["last"]["accuracy"] for run in group.runs) for group in used]
        names = list(dict.fromkeys(group.runs[0]["recipe"] for group in used))
        runs = sum(len(group.runs) for group in used)
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        of = f"the median over {len(used)} recipes, " if len(used) > 1 else ""
        return Spread(median(sds), f"{of}{runs} runs of {shown}")

    def pace(self, recipe: Recipe, here: str) -> Pace | None:
        """Return the epoch's time of the nearest recipe: on a machine like this one if there is
        any. None where this network was never trained."""
        like = [group for group in self._groups if group.recipe.model == recipe.model]
        if not like:
            return None
        near = [g for g in like if g.runs[0]["runtime"]["device_name"] == here] or like

        def cost(group: _Group) -> tuple[Any, ...]:
            first, other = recipe, group.recipe
            unlike = [
                first.model_args != other.model_args,
                (first.teacher is None) != (other.teacher is None),
                device_kind(group.runs[0]) != "cpu",
                first.optim.name != other.optim.name,
            ]
            return (*unlike, abs(math.log(first.batch_size / other.batch_size)))

        newest = sorted(near, key=_finished, reverse=True)  # later code is faster
        best = min(newest, key=cost)
        run = best.runs[0]
        seconds = median(one["seconds_per_epoch"] for one in best.runs)
        share = _TRAINED_ON["validation"] / _TRAINED_ON[run["split"]]
        return Pace(seconds * share, f"{run['recipe']} on {_place(run)}")


def _own(model: str) -> list[Result]:
    """Return the finished runs of a network below ./checkpoints."""
    folder = Path("checkpoints", file_name(model))
    if not folder.is_dir():
        return []
    try:
        return gather([str(folder)]).results
    except ArtifactError:
        return []


def _finished(group: _Group) -> str:
    return max(str(run.get("environment", {}).get("finished", "")) for run in group.runs)


def _place(run: Result) -> str:
    chosen = run["runtime"]
    name = str(chosen["device_name"])
    if chosen["device"] != "cpu":
        return name
    return f"{name}, {chosen['threads']} thread{'s' * (chosen['threads'] > 1)}"


def _distance(recipe: Recipe, group: _Group) -> tuple[Any, ...]:
    """Return how far a group's recipe is: validation before test, then epochs, then values."""
    like = recipe.model_copy(update={"validation": group.recipe.validation, "seed": 0})
    other = group.recipe.model_copy(update={"seed": 0})
    return (
        device_kind(group.runs[0]) != "cpu",
        abs(math.log(recipe.epochs / other.epochs)) > math.log(1.5),
        not group.recipe.validation,
        len(recipes.differences(other, like)),
    )


def total(values: Sequence[float | None]) -> float | None:
    """Return a sum, or None where a part of it is not known."""
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None
