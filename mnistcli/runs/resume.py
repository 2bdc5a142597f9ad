"""Which folder a run lives in: a new one, or the one that it continues."""

from __future__ import annotations

import shlex
import time
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, Literal

from mnistcli import recipe as recipes
from mnistcli.engine import checkpoint
from mnistcli.engine.state import versions
from mnistcli.errors import ArtifactError, NotReadable, UsageError
from mnistcli.events import Emit, Notice
from mnistcli.files import bring_back_previous, previous_of, remove_stale
from mnistcli.models.registry import MODELS, file_name
from mnistcli.recipe import Recipe
from mnistcli.results import runlog

Saved = dict[str, Any] | None
Resume = Literal[False, "auto"] | Path
TEACHER = "teacher"  # beside the files' names, in the hashes of what a run learns from


@dataclass(frozen=True)
class Basis:
    """What a run is made of beside its recipe.

    `hashes` are those of the data's files and of the teacher's weights, `network` is the
    description of the network as it is built now.
    """

    hashes: dict[str, str]
    network: tuple[str, ...]


def locate(recipe: Recipe, out: Path | None, resume: Resume, basis: Basis) -> Path:
    """Return the folder of a run, made if new; nothing in it is read or changed yet."""
    folder = foresee(recipe, out, resume, basis)
    if folder is None:
        return make_folder(recipe, f"s{recipe.seed}")
    runlog.create(folder)
    return folder


def foresee(recipe: Recipe, out: Path | None, resume: Resume, basis: Basis) -> Path | None:
    """Return the folder that `locate` would, None for a new one under its own name.

    `resume="auto"` without `out` looks below `checkpoints/<model>`.
    """
    if isinstance(resume, Path):
        return resume
    if out is None and resume == "auto":
        return _find(recipe, basis)
    return out


def open_run(folder: Path, recipe: Recipe, resume: Resume, basis: Basis, emit: Emit) -> Saved:
    """Return the checkpoint to continue from, or None for a new run; the caller holds the lock.

    Raises:
        UsageError: the folder holds a run of another recipe or network, or something and is not
            to be resumed.
        ArtifactError: it was trained on other data, or by other weights of its teacher.
    """
    remove_stale(folder)
    found = _open(folder, recipe, resume, basis, emit)
    if found is None:
        return None
    if found[0] != folder / "last.pt":
        bring_back_previous(folder / "last.pt")
    return found[1]


def peek(folder: Path, recipe: Recipe, resume: Resume, basis: Basis, emit: Emit) -> Saved:
    """Return and raise what `open_run` does, and change nothing."""
    found = _open(folder, recipe, resume, basis, emit)
    return None if found is None else found[1]


def _open(
    folder: Path, recipe: Recipe, resume: Resume, basis: Basis, emit: Emit
) -> tuple[Path, dict[str, Any]] | None:
    if not resume or not (folder / "recipe.yaml").is_file():
        runlog.refuse_occupied(folder)
        return None
    return _continue(folder, recipe, basis, emit)


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
        return last, _resumable(last, bound)
    except NotReadable:
        raise
    except ArtifactError as error:
        if not previous.exists():
            raise
        saved = _resumable(previous, bound)
        epochs = len(saved["history"])
        emit(Notice(f"{error}; going back to the checkpoint before it, epoch {epochs}"))
        return previous, saved


def _resumable(path: Path, bound: int) -> dict[str, Any]:
    """Return a checkpoint that a run can go on from; best.pt is none, whatever its name by now."""
    saved = checkpoint.read(path, most_bytes=bound)
    if (split := saved.get("picked_on")) is not None:
        epoch = len(saved["history"])
        raise ArtifactError(
            f"it is a copy of best.pt (epoch {epoch}, picked on {split}), which lacks the "
            "optimizer's state: no run can continue from it",
            where=str(path),
            hint=f"mnistcli evaluate {shlex.quote(str(path))}; or train again, with a new --out",
        )
    return saved


def _continue(
    folder: Path, recipe: Recipe, basis: Basis, emit: Emit
) -> tuple[Path, dict[str, Any]] | None:
    found = read_run(folder, emit, own=recipe.model not in MODELS)
    if found is None:
        stored = recipes.load(str(folder / "recipe.yaml"))
    else:
        stored = recipes.validate(found[1]["recipe"], where=str(found[0]))
    same = found is not None and _other_line(found[1], basis) is None
    if changed := _changes(stored, recipe, same_network=same):
        raise UsageError(
            f"the run was started with another recipe; now {', '.join(changed)}",
            where=str(folder),
            hint=f"mnistcli train --resume {shlex.quote(str(folder))}",
        )
    if found is not None:
        _check_basis(folder, found[1], basis, emit)
    return found


def _changes(stored: Recipe, recipe: Recipe, *, same_network: bool) -> tuple[str, ...]:
    """Return what differs from a stored recipe; of an own network that is the same, the way in
    which its path is written does not."""
    if same_network and not {stored.model, recipe.model} & MODELS.keys():
        recipe = recipe.model_copy(update={"model": stored.model})
    return recipes.differences(stored, recipe)


def _check_basis(folder: Path, saved: dict[str, Any], basis: Basis, emit: Emit) -> None:
    """Raise where a run was made of something else.

    Another torch may describe the same network in other words: then it is a notice.
    """
    if (line := _other_line(saved, basis)) is not None:
        what = f"the run was started with another network: {line}"
        if saved["versions"]["torch"] == versions()["torch"]:
            raise UsageError(what, where=str(folder), hint="a new --out, or the code as it was")
        emit(Notice(f"{what} (or another version of torch describes it so)"))
    if saved["data"].get(TEACHER) != basis.hashes.get(TEACHER):
        raise ArtifactError(
            "the teacher's weights have changed since the run was started",
            where=str(folder),
            hint="a new --out",
        )
    if saved["data"] != basis.hashes:
        raise ArtifactError(
            "the run was trained on other data", where=str(folder), hint="give its --data-dir again"
        )


def _other_line(saved: dict[str, Any], basis: Basis) -> str | None:
    """Return the first line in which a run's network differs, or None; format 1 has no lines."""
    stored = saved.get("network")
    if stored is None:
        return None
    for before, now in zip_longest(stored, basis.network, fillvalue="nothing"):
        if before != now:
            return f"{before}, now {now}"
    return None


def _find(recipe: Recipe, basis: Basis) -> Path | None:
    """Return the folder of this recipe's unfinished run with most epochs, else a finished one's."""
    found: list[tuple[bool, int, str, Path]] = []
    for folder in runlog.run_folders(Path("checkpoints", file_name(recipe.model)).absolute()):
        try:
            newest = read_run(folder, lambda _: None, own=recipe.model not in MODELS)
            if newest is None:
                continue
            saved = newest[1]
            stored = recipes.validate(saved["recipe"], where="")
            if saved["data"] != basis.hashes or _other_line(saved, basis) is not None:
                continue
            if _changes(stored, recipe, same_network="network" in saved):
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
