"""Which folder a run lives in: a new one, or the one that it continues."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Literal

from mnistcli import recipe as recipes
from mnistcli.engine import checkpoint
from mnistcli.errors import ArtifactError, UsageError
from mnistcli.events import Emit, Notice
from mnistcli.files import previous_of, remove_stale
from mnistcli.models.registry import file_name
from mnistcli.recipe import Recipe
from mnistcli.results import runlog

Saved = dict[str, Any] | None
Resume = Literal[False, "auto"] | Path


def locate(recipe: Recipe, out: Path | None, resume: Resume, data: dict[str, str]) -> Path:
    """Return the folder of a run, made if new; nothing in it is read or changed yet.

    `resume="auto"` without `out` looks below `checkpoints/<model>`.
    """
    if isinstance(resume, Path):
        return resume
    if out is not None:
        runlog.create(out)
        return out
    found = _find(recipe, data) if resume == "auto" else None
    return found or new_folder(recipe, f"s{recipe.seed}")


def open_run(
    folder: Path, recipe: Recipe, resume: Resume, data: dict[str, str], emit: Emit
) -> Saved:
    """Return the checkpoint to continue from, or None for a new run; the caller holds the lock.

    Raises:
        UsageError: the folder holds another recipe's run, or something and is not to be resumed.
        ArtifactError: it was trained on other data.
    """
    if not resume or not (folder / "recipe.yaml").is_file():
        runlog.refuse_occupied(folder)
        return None
    return _continue(folder, recipe, data, emit)


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
    remove_stale(folder)
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


def _find(recipe: Recipe, data: dict[str, str]) -> Path | None:
    """Return the folder of this recipe's unfinished run with most epochs, else a finished one's."""
    found: list[tuple[bool, int, str, Path]] = []
    for folder in sorted(Path("checkpoints", file_name(recipe.model)).absolute().glob("*/")):
        try:
            saved = read_run(folder, lambda _: None)
        except ArtifactError:
            continue
        if saved is None or saved["recipe"] != recipe.model_dump() or saved["data"] != data:
            continue
        unfinished = saved["training"] is not None
        found.append((unfinished, len(saved["history"]), folder.name, folder))
    return max(found)[-1] if found else None


def new_folder(recipe: Recipe, label: str) -> Path:
    """Make `checkpoints/<model>/<time>-<label>`; two runs of one second get two names."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    parent = Path("checkpoints", file_name(recipe.model))
    for attempt in range(1, 1000):
        suffix = "" if attempt == 1 else f"-{attempt}"
        folder = (parent / f"{stamp}-{label}{suffix}").absolute()
        if runlog.create_exclusively(folder):
            return folder
    raise AssertionError("a thousand runs started in one second")
