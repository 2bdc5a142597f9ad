"""Which folder a run lives in: a new one, or the one that it continues."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Literal

from mnistcli import recipe as recipes
from mnistcli.engine import checkpoint
from mnistcli.errors import ArtifactError, UsageError
from mnistcli.events import Emit, Notice
from mnistcli.files import previous_of
from mnistcli.models.registry import file_name
from mnistcli.recipe import Recipe
from mnistcli.results import runlog

Saved = dict[str, Any] | None
Resume = Literal[False, "auto"] | Path


def locate(
    recipe: Recipe, out: Path | None, resume: Resume, data: dict[str, str], emit: Emit
) -> tuple[Path, Saved]:
    """Return the run's folder, made if new, and the checkpoint to continue from, if any.

    Raises:
        UsageError: the folder holds another recipe's run, or is not empty and not to be resumed.
        ArtifactError: there is nothing to resume, or it was trained on other data.
    """
    if isinstance(resume, Path):
        return resume, _continue(resume, recipe, data, emit)
    if resume == "auto" and out is not None and out.exists() and any(out.iterdir()):
        return out, _continue(out, recipe, data, emit)
    if resume == "auto" and out is None:
        found = _find(Path("checkpoints", file_name(recipe.model)), recipe, data, emit)
        if found is not None:
            return found
    if out is not None:
        runlog.create(out)
        return out, None
    return _new_folder(recipe), None


def read_run(folder: Path, emit: Emit) -> Saved:
    """Return a run folder's checkpoint; a damaged one gives way to the one before, with a notice.

    Returns None where no epoch was saved yet.
    """
    last = folder / "last.pt"
    if not last.exists() and not previous_of(last).exists():
        return None
    try:
        return checkpoint.read(last)
    except ArtifactError as error:
        if not previous_of(last).exists():
            raise
        saved = checkpoint.read(previous_of(last))
        epochs = len(saved["history"])
        emit(Notice(f"{error}; going back to the checkpoint before it, epoch {epochs}"))
        return saved


def _continue(folder: Path, recipe: Recipe, data: dict[str, str], emit: Emit) -> Saved:
    if not (folder / "recipe.yaml").is_file():
        raise ArtifactError("no run to resume (recipe.yaml is missing)", where=str(folder))
    saved = read_run(folder, emit)
    if saved is None:
        stored = recipes.load(str(folder / "recipe.yaml"))
    else:
        stored = recipes.validate(saved["recipe"], where=str(folder / "last.pt"))
    if changed := recipes.differences(stored, recipe):
        raise UsageError(
            f"the run was started with another recipe; now {', '.join(changed)}",
            where=str(folder),
            hint=f"mnistcli train --resume {folder}",
        )
    if saved is not None and saved["data"] != data:
        raise ArtifactError(
            "the run was trained on other data", where=str(folder), hint="give its --data-dir again"
        )
    return saved


def _find(
    parent: Path, recipe: Recipe, data: dict[str, str], emit: Emit
) -> tuple[Path, Saved] | None:
    """Return this recipe's unfinished run with most epochs, else a finished one."""
    found: list[tuple[bool, int, str, Path, dict[str, Any]]] = []
    for folder in sorted(parent.glob("*/")):
        try:
            saved = read_run(folder, emit)
        except ArtifactError:
            continue
        if saved is None or saved["recipe"] != recipe.model_dump() or saved["data"] != data:
            continue
        unfinished = saved["training"] is not None
        found.append((unfinished, len(saved["history"]), folder.name, folder, saved))
    if not found:
        return None
    *_, folder, saved = max(found, key=lambda run: run[:3])
    return folder, saved


def _new_folder(recipe: Recipe) -> Path:
    """Make `checkpoints/<model>/<time>-s<seed>`; two runs of one second get two names."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    parent = Path("checkpoints", file_name(recipe.model))
    for attempt in range(1, 1000):
        suffix = "" if attempt == 1 else f"-{attempt}"
        folder = (parent / f"{stamp}-s{recipe.seed}{suffix}").absolute()
        if runlog.create_exclusively(folder):
            return folder
    raise AssertionError("a thousand runs started in one second")
