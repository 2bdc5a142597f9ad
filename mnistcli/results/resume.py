"""Which folder a run lives in: a new one, or the one that it continues."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import Any, Literal

from mnistcli import recipe as recipes
from mnistcli.engine import checkpoint
from mnistcli.errors import ArtifactError, UsageError
from mnistcli.events import Emit, Notice
from mnistcli.files import bring_back_previous, previous_of, remove_stale
from mnistcli.models.registry import MODELS, file_name
from mnistcli.recipe import Recipe
from mnistcli.results import runlog

Saved = dict[str, Any] | None
Resume = Literal[False, "auto"] | Path
TEACHER = "teacher"  # beside the files' names, in the hashes of what a run learns from


def locate(recipe: Recipe, out: Path | None, resume: Resume, data: dict[str, str]) -> Path:
    """Return the folder of a run, made if new; nothing in it is read or changed yet."""
    folder = foresee(recipe, out, resume, data)
    if folder is None:
        return make_folder(recipe, f"s{recipe.seed}")
    runlog.create(folder)
    return folder


def foresee(recipe: Recipe, out: Path | None, resume: Resume, data: dict[str, str]) -> Path | None:
    """Return the folder that `locate` would, None for a new one under its own name.

    `resume="auto"` without `out` looks below `checkpoints/<model>`.
    """
    if isinstance(resume, Path):
        return resume
    if out is None and resume == "auto":
        return _find(recipe, data)
    return out


def open_run(
    folder: Path, recipe: Recipe, resume: Resume, data: dict[str, str], emit: Emit
) -> Saved:
    """Return the checkpoint to continue from, or None for a new run; the caller holds the lock.

    Raises:
        UsageError: the folder holds another recipe's run, or something and is not to be resumed.
        ArtifactError: it was trained on other data.
    """
    remove_stale(folder)
    found = _open(folder, recipe, resume, data, emit)
    if found is None:
        return None
    if found[0] != folder / "last.pt":
        bring_back_previous(folder / "last.pt")
    return found[1]


def peek(folder: Path, recipe: Recipe, resume: Resume, data: dict[str, str], emit: Emit) -> Saved:
    """Return and raise what `open_run` does, and change nothing."""
    found = _open(folder, recipe, resume, data, emit)
    return None if found is None else found[1]


def _open(
    folder: Path, recipe: Recipe, resume: Resume, data: dict[str, str], emit: Emit
) -> tuple[Path, dict[str, Any]] | None:
    if not resume or not (folder / "recipe.yaml").is_file():
        runlog.refuse_occupied(folder)
        return None
    return _continue(folder, recipe, data, emit)


def read_run(folder: Path, emit: Emit, *, own: bool = False) -> tuple[Path, dict[str, Any]] | None:
    """Return a run's newest readable checkpoint with its file; None where no epoch was saved yet.

    A damaged one gives way to the one before, with a notice. Only the run of an `own` network, the
    user's, may have a large one.
    """
    bound = checkpoint.most_bytes(own=own)
    last, previous = folder / "last.pt", previous_of(folder / "last.pt")
    if not last.exists() and not previous.exists():
        return None
    try:
        return last, checkpoint.read(last, most_bytes=bound)
    except ArtifactError as error:
        if not previous.exists():
            raise
        saved = checkpoint.read(previous, most_bytes=bound)
        epochs = len(saved["history"])
        emit(Notice(f"{error}; going back to the checkpoint before it, epoch {epochs}"))
        return previous, saved


def _continue(
    folder: Path, recipe: Recipe, data: dict[str, str], emit: Emit
) -> tuple[Path, dict[str, Any]] | None:
    found = read_run(folder, emit, own=recipe.model not in MODELS)
    if found is None:
        stored = recipes.load(str(folder / "recipe.yaml"))
    else:
        stored = recipes.validate(found[1]["recipe"], where=str(found[0]))
    if changed := recipes.differences(stored, recipe):
        raise UsageError(
            f"the run was started with another recipe; now {', '.join(changed)}",
            where=str(folder),
            hint=f"mnistcli train --resume {shlex.quote(str(folder))}",
        )
    if found is not None and found[1]["data"].get(TEACHER) != data.get(TEACHER):
        raise ArtifactError(
            "the run's teacher has other weights by now", where=str(folder), hint="a new --out"
        )
    if found is not None and found[1]["data"] != data:
        raise ArtifactError(
            "the run was trained on other data", where=str(folder), hint="give its --data-dir again"
        )
    return found


def _find(recipe: Recipe, data: dict[str, str]) -> Path | None:
    """Return the folder of this recipe's unfinished run with most epochs, else a finished one's."""
    found: list[tuple[bool, int, str, Path]] = []
    for folder in runlog.run_folders(Path("checkpoints", file_name(recipe.model)).absolute()):
        try:
            newest = read_run(folder, lambda _: None, own=recipe.model not in MODELS)
            if newest is None or newest[1]["data"] != data:
                continue
            saved = newest[1]
            if recipes.differences(recipes.validate(saved["recipe"], where=""), recipe):
                continue
        except (ArtifactError, UsageError):
            continue
        unfinished = saved["training"] is not None
        found.append((unfinished, len(saved["history"]), folder.name, folder))
    return max(found)[-1] if found else None


def new_folder(recipe: Recipe, label: str) -> Path:
    """Return `checkpoints/<model>/<time>-<label>`."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    return Path("checkpoints", file_name(recipe.model), f"{stamp}-{label}").absolute()


def make_folder(recipe: Recipe, label: str) -> Path:
    """Make a new folder; two runs of one second get two names."""
    first = new_folder(recipe, label)
    for attempt in range(1, 1000):
        folder = first if attempt == 1 else first.with_name(f"{first.name}-{attempt}")
        if runlog.create_exclusively(folder):
            return folder
    raise AssertionError("a thousand runs started in one second")
