"""A run's folder: made for one run, removed where nothing was trained, its text files."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import os
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnistcli.errors import ArtifactError, DivergedError, EnvironmentFault, SetEnded, UsageError
from mnistcli.events import EpochFinished, EpochMetrics, Event, RunStarted
from mnistcli.files import is_unfinished, write_atomically
from mnistcli.results import lock

if TYPE_CHECKING:
    from mnistcli.recipe import Recipe


_BEFORE_EPOCHS = {lock.NAME, "recipe.yaml", "env.json"}  # what a run has before its first epoch


def run_folders(parent: Path) -> list[Path]:
    """Return the run folders in a folder, those of its sets (`*/s0`) too."""
    return sorted(file.parent for depth in ("*", "*/s[0-9]*")
                  for file in parent.glob(f"{depth}/recipe.yaml"))  # fmt: skip


def create(folder: Path) -> None:
    """Make a folder where there is none.

    Raises:
        EnvironmentFault: it can't be made, or is a file.
    """
    with _explain_failure(folder):
        folder.mkdir(parents=True, exist_ok=True)


def refuse_occupied(folder: Path, *, hint: str = "") -> None:
    """Raise UsageError where a folder holds anything but our own lock or unfinished writes."""
    if not _is_empty(folder):
        alone = f"--resume {shlex.quote(str(folder))} in place of --out, or another --out"
        raise UsageError(f"folder is not empty: {folder}", hint=hint or alone)


def _is_empty(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        return all(_is_ours(entry) for entry in entries)


def _is_ours(entry: os.DirEntry[str]) -> bool:
    """Return whether a file is our lock, a set's record or unfinished: by what is in it, since a
    stranger's file may have that name."""
    if not entry.is_file(follow_symlinks=False):
        return False
    path = Path(entry.path)
    if entry.name == lock.NAME:
        with contextlib.suppress(OSError):  # its holder removed it
            return path.stat().st_size < 32 and lock.is_ours(path.read_bytes())
        return True
    if entry.name == "set.json":
        return "rows" in (read_json(path) or {})
    return is_unfinished(path)


def create_exclusively(folder: Path) -> bool:
    """Make a folder that did not exist; return False where it did."""
    with _explain_failure(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            folder.mkdir()
        except FileExistsError:
            return False
    return True


@contextmanager
def _explain_failure(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise EnvironmentFault(
            f"can't make folder {folder}: {error.strerror}", hint="name another --out"
        ) from error


@contextmanager
def without_trace(folder: Path, *, existed: bool) -> Iterator[None]:
    """Where a run fails before its first epoch, leave the folder as it was; hold its lock.

    So the corrected command line can be started again. A run that a signal stopped stays, to be
    resumed, and one that diverged, which is a finding. Whatever else lies in the folder stays too.
    """
    was_empty = _is_empty(folder)
    try:
        yield
    except DivergedError:
        raise
    except (Exception, SetEnded):
        made = [path for path in folder.iterdir() if path.name != "set.json"]
        if was_empty and {path.name for path in made} <= _BEFORE_EPOCHS:
            for path in made:
                path.unlink()
            if not existed:
                with contextlib.suppress(OSError):  # another process came in meanwhile
                    folder.rmdir()
        raise


def write_recipe(folder: Path, recipe: Recipe) -> None:
    """Store the resolved recipe."""
    write_atomically(folder / "recipe.yaml", recipe.to_yaml().encode())


def write_json(path: Path, document: dict[str, Any]) -> None:
    """Write one line of JSON, non-finite numbers as null and undecodable names escaped."""
    write_atomically(path, (to_json(document) + "\n").encode(errors="backslashreplace"))


def read_json(path: Path) -> dict[str, Any] | None:
    """Return a JSON object, or None where there is no readable one of a bearable size."""
    from mnistcli.results import stored  # pydantic, which --help does without

    try:
        return stored.read_object(path)
    except ArtifactError:
        return None


def record(event: Event) -> None:
    """Event sink: rewrite metrics.csv and metrics.jsonl of the run from its whole history."""
    if isinstance(event, RunStarted | EpochFinished) and event.history:
        write_metrics(Path(event.run_dir), event.history)


def write_metrics(folder: Path, history: Sequence[EpochMetrics]) -> None:
    """Write the epochs as CSV with stable columns and as one JSON object per line."""
    rows = [asdict(metrics) for metrics in history]
    table = io.StringIO()
    writer = csv.DictWriter(table, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(folder / "metrics.csv", table.getvalue().encode())
    lines = "".join(to_json(row) + "\n" for row in rows)
    write_atomically(folder / "metrics.jsonl", lines.encode())


def read_metrics(folder: Path) -> list[EpochMetrics]:
    """Return the epochs of a run from its metrics.jsonl.

    Raises:
        ArtifactError: there is none, or it is damaged.
    """
    from mnistcli.engine.history import MOST_EPOCHS, check
    from mnistcli.results import stored

    path = folder / "metrics.jsonl"
    lines = stored.read_bytes(path).splitlines()
    if not 1 <= len(lines) <= MOST_EPOCHS:
        stored.refuse(f"{len(lines)} epochs", path)
    try:
        return check([stored.parse_object(line, path) for line in lines])
    except ValueError as error:
        stored.refuse(str(error), path)


def to_json(value: Any) -> str:
    """Serialise with non-finite floats as null: strict JSON, whatever the figures."""
    return json.dumps(_finite(value), ensure_ascii=False, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
