"""How often a network was tested: with which recipes, on which seeds, as the records say.

A choice between recipes that is made after a visit has seen test figures: the next one flatters.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from mnistcli.errors import ArtifactError
from mnistcli.models.registry import file_name
from mnistcli.recipe import Recipe
from mnistcli.results.gather import Result, gather, published


class Visit(NamedTuple):
    """The runs of one recipe of a network that were judged on the test set."""

    recipe: str
    digest: str
    runs: int
    seeds: tuple[int, ...]


def visits(model: str, folders: Iterable[Path] = ()) -> list[Visit]:
    """Return a network's visits in the published records, below ./checkpoints and in folders."""
    own = Path("checkpoints", file_name(model))
    runs: dict[str, Result] = {}
    for run in [*published(), *(run for place in (own, *folders) for run in _found(place))]:
        if run["model"] == model and run["split"] == "test":
            runs[run.get("run") or f"{run['weights_sha256']} {run['seed']}"] = run
    groups: dict[str, list[Result]] = {}
    for run in runs.values():
        groups.setdefault(run["recipe_digest"], []).append(run)
    return [
        Visit(
            " ".join([group[0]["recipe"], *group[0]["changes"]]),
            digest,
            len(group),
            tuple(sorted({int(run["seed"]) for run in group})),
        )
        for digest, group in groups.items()
    ]


def count(recipe: Recipe, folders: Iterable[Path] = ()) -> dict[str, Any]:
    """Return in plain values what a run of this recipe on the test set would be: which choice of
    its network it is, and what was looked at before."""
    found = visits(recipe.model, folders)
    others = [one for one in found if one.digest != recipe.digest()]
    same = [one for one in found if one.digest == recipe.digest()]
    return {
        "model": recipe.model,
        "choice": len(others) + 1,
        "recipes_before": [one._asdict() | {"seeds": list(one.seeds)} for one in others],
        "runs_of_this_recipe": sum(one.runs for one in same),
        "seeds_of_this_recipe": [seed for one in same for seed in one.seeds],
    }


def sentences(counted: dict[str, Any], seeds: Iterable[int] = ()) -> list[str]:
    """Return in words what a person should know before the test set is read (again)."""
    said = []
    if others := counted["recipes_before"]:
        names = ", ".join(f"{one['recipe']} ({one['runs']} runs)" for one in others[:4])
        more = f" and {len(others) - 4} more" if len(others) > 4 else ""
        said.append(
            f"{counted['model']} was tested before with {len(others)} other "
            f"recipe{'s' * (len(others) > 1)}: {names}{more}; whoever chose this recipe after "
            f"that may have seen test figures: this is choice {counted['choice']}"
        )
    again = sorted({*seeds} & {*counted["seeds_of_this_recipe"]})
    if again:
        said.append(f"this recipe was tested on {len(again)} of these seeds before")
    return said


def _found(place: Path) -> list[Result]:
    if not place.is_dir():
        return []
    try:
        return gather([str(place)]).results
    except ArtifactError:
        return []
