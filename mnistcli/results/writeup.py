"""What a report needs beside a row's figures: notes, epochs, pictures. Data only."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from mnistcli import recipe as recipes
from mnistcli.events import EpochMetrics
from mnistcli.results.runlog import read_metrics

if TYPE_CHECKING:
    from mnistcli.recipe import Notes

Result = dict[str, Any]
PICTURES = ("curves.png", "confusion.png", "misclassified.png")


def words(result: Result) -> Notes:
    """Return what the run's own recipe says, else the packaged recipe of its name.

    Packaged words are about the recipe as it is packaged: a changed one does not inherit them.
    """
    base, name = recipes.Notes(), result["recipe"]
    if name in recipes.names() and not result["changes"]:
        packaged = recipes.packaged(name)
        base = packaged.notes or base if packaged.model == result["model"] else base
    folder = Path(result["run"]) if "run" in result else None
    kept = folder is not None and (folder / "recipe.yaml").is_file()
    from mnistcli.results import stored

    own = stored.recipe_of(folder).notes if folder is not None and kept else None
    new = {key: text for key, text in own or () if text and text not in _packaged_words()}
    return base.model_copy(update=new)


@functools.cache
def _packaged_words() -> frozenset[str]:
    notes = (recipes.packaged(name).notes or recipes.Notes() for name in recipes.names())
    return frozenset(text for said in notes for text in (said.target, said.analysis))


def course(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Return mean, least and most of the accuracies at each epoch, of the runs that reached it."""
    table = []
    for index in range(max(len(result["correct_by_epoch"]) for result in results)):
        reached = [r for r in results if index < len(r["correct_by_epoch"])]
        shares = [r["correct_by_epoch"][index] / r["last"]["total"] for r in reached]
        figures = {"mean": fmean(shares), "least": min(shares), "most": max(shares)}
        table.append({"epoch": index + 1, "n": len(shares), **figures})
    return table


def history(results: Sequence[Result]) -> list[EpochMetrics]:
    """Return the epochs of a single run whose folder is at hand, else an empty list."""
    if len(results) != 1 or "run" not in results[0]:
        return []
    folder = Path(results[0]["run"])
    return read_metrics(folder) if (folder / "metrics.jsonl").exists() else []


def pictures(results: Sequence[Result]) -> tuple[Result | None, list[Path]]:
    """Return the first run that has pictures in its folder, and them."""
    for result in results:
        drawn = [Path(result["run"], name) for name in PICTURES] if "run" in result else []
        if found := [path for path in drawn if path.is_file()]:
            return result, found
    return None, []
