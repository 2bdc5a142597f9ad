"""Runs without a result: which they are, why, and the command that goes on."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from mnistcli import recipe as recipes
from mnistcli.errors import DivergedError, UsageError
from mnistcli.models.registry import MODELS
from mnistcli.results import runlog
from mnistcli.results.lock import is_held

# run, origin, model, recipe, recipe_digest, seed, why, resume; `failed`: no resume mends it
Unfinished = dict[str, Any]

_DIVERGED = "it would diverge again: a lower --lr, and a new --out"
_SAME_LINE = "the set's own line again, with --resume auto"


def why_unfinished(folder: Path, origin: str) -> Unfinished:
    """Return what is known of a run folder without a result, from what the run itself wrote."""
    file = folder / "recipe.yaml"
    one: Unfinished = {"run": str(folder), "origin": origin, "failed": False}
    try:
        recipe = recipes.load(str(file))
    except UsageError as error:
        known = {"model": "", "recipe": "", "recipe_digest": "", "seed": None, "resume": ""}
        return one | known | {"why": str(error)}
    row = _row_of_set(folder, recipe.seed)
    outcome = _last_outcome(folder)
    failed = outcome.startswith("diverged") or row.get("exit_code") == DivergedError.exit_code
    done = _epochs_saved(folder)
    why = outcome or row.get("error") or f"{done} of {recipe.epochs} epochs are saved"
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
    document = runlog.read_json(folder / "set.json") or {}
    seeds = document.get("seeds")
    if not isinstance(seeds, list) or len(seeds) < 2:
        return []
    return [
        {
            "run": str(folder / f"s{seed}"),
            "origin": origin,
            "model": "",
            "recipe": "",
            "recipe_digest": document.get("recipe_digest"),
            "seed": seed,
            "why": "not started",
            "failed": False,
            "resume": _SAME_LINE,
        }
        for seed in seeds
        if not (folder / f"s{seed}" / "recipe.yaml").is_file()
    ]


def _row_of_set(folder: Path, seed: int) -> dict[str, Any]:
    """Return the row that the set around a run has of it, if any."""
    rows = (runlog.read_json(folder.parent / "set.json") or {}).get("rows")
    found = (row for row in rows if isinstance(row, dict)) if isinstance(rows, list) else ()
    return next((row for row in found if row.get("seed") == seed), {})


def _last_outcome(folder: Path) -> str:
    """Return how the last process that trained the run ended, where it could still say so."""
    sessions = (runlog.read_json(folder / "env.json") or {}).get("sessions")
    last = sessions[-1] if isinstance(sessions, list) and sessions else None
    return str(last.get("outcome") or "") if isinstance(last, dict) else ""


def _epochs_saved(folder: Path) -> int:
    try:
        return len((folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    except (OSError, ValueError):
        return 0
