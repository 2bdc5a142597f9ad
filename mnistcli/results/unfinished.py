"""Runs without a result: which they are, why, and the command that goes on."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from mnistcli import recipe as recipes
from mnistcli.errors import ArtifactError, DivergedError, NotReadable, UsageError
from mnistcli.models.registry import MODELS
from mnistcli.results import runlog, sessions, setlog
from mnistcli.results.lock import is_held

# run, origin, model, recipe, recipe_digest, seed, why, resume; `failed`: no resume mends it
Unfinished = dict[str, Any]

_DIVERGED = "it would diverge again: a lower --lr, and a new --out"
_SAME_LINE = "the set's own line again, with --resume auto"


def why_unfinished(folder: Path, origin: str, fault: ArtifactError | None = None) -> Unfinished:
    """Return what is known of a run folder without a result, from what the run itself wrote.

    `fault` is why there is one that is not believed: to resume the run writes it again.
    """
    file = folder / "recipe.yaml"
    one: Unfinished = {"run": str(folder), "origin": origin, "failed": False}
    try:
        recipe = recipes.load(str(file))
    except (UsageError, NotReadable) as error:
        known = {"model": "", "recipe": "", "recipe_digest": "", "seed": None, "resume": ""}
        return one | known | {"why": str(fault or error)}
    row = _row_of_set(folder, recipe.seed)
    outcome = _last_outcome(folder)
    failed = outcome.startswith("diverged") or row.get("exit_code") == DivergedError.exit_code
    failed = failed and fault is None
    done = _epochs_saved(folder)
    why = str(fault or outcome) or row.get("error") or f"{done} of {recipe.epochs} epochs are saved"
    if is_held(folder):
        why = f"still running, {done} of {recipe.epochs} epochs are saved"
    own = [] if recipe.model in MODELS else ["--model", recipe.model]
    resume = shlex.join(["mnistcli", "train", *own, "--resume", str(folder)])
    return one | {
        "model": recipe.model,
        "recipe": recipes.describe(recipe)[0],
        "recipe_digest": recipe.digest(),
        "seed": recipe.seed,
        "why": why,
        "failed": failed,
        "resume": _DIVERGED if failed else resume,
    }


def never_started(folder: Path, origin: str) -> list[Unfinished]:
    """Return the seeds of a set that have no folder yet."""
    document = setlog.known(folder)
    if document is None or len(document["seeds"]) < 2:
        return []
    return [
        {
            "run": str(folder / f"s{seed}"),
            "origin": origin,
            "model": "",
            "recipe": "",
            "recipe_digest": document["recipe_digest"],
            "seed": seed,
            "why": "not started",
            "failed": False,
            "resume": _SAME_LINE,
        }
        for seed in document["seeds"]
        if not (folder / f"s{seed}" / "recipe.yaml").is_file()
    ]


def _row_of_set(folder: Path, seed: int) -> dict[str, Any]:
    """Return the row that the set around a run has of it, if any."""
    document = setlog.known(folder.parent)
    rows = document["rows"] if document is not None else []
    return next((row for row in rows if row["seed"] == seed), {})


def _last_outcome(folder: Path) -> str:
    """Return how the last process that trained the run ended, where it could still say so."""
    try:
        log = sessions.read(folder)
    except NotReadable:
        return ""
    return (log[-1].outcome or "") if log else ""


def _epochs_saved(folder: Path) -> int:
    try:
        return len(runlog.read_metrics(folder))
    except ArtifactError:
        return 0
