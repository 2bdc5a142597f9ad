"""Find recorded results: published ones, run folders, files of records, and globs of these."""

from __future__ import annotations

import glob
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mnistcli.errors import ArtifactError, nearest
from mnistcli.files import packaged
from mnistcli.models.registry import COMPARED, file_name, known_names
from mnistcli.results.runlog import read_json, run_folders

Result = dict[str, Any]

_NEEDED = {
    "model", "recipe", "changes", "recipe_digest", "seed", "epochs", "epochs_done", "split", "data",
    "last", "best", "correct_by_epoch", "parameters", "mult_adds", "receptive_field",
    "follows_test", "images_per_second", "seconds_per_epoch", "runtime", "versions",
}  # fmt: skip


def gather(references: Sequence[str]) -> list[Result]:
    """Return the results that the references mean; without any, the published records.

    A reference is a registered model, a recipe's name (`baseline/v3`), a folder of recipes
    (`study`), a run folder or its `last.pt`, a folder of runs, a file of records (.jsonl), a glob
    of these, or a network whose runs lie below ./checkpoints. A model means its figures on the
    test set: what was tried on the validation split goes by the recipe's name.

    Raises:
        ArtifactError: a reference means no finished run.
    """
    records = [r for r in published() if not r["changes"]]
    figures = [r for r in records if r["split"] == "test"]
    if not references:
        return [r for r in figures if r["model"] in COMPARED]
    results: dict[str, Result] = {}  # a run that two references mean counts once
    for reference in references:
        found = [r for r in figures if reference in (r["model"], r["recipe"])]
        found = found or [r for r in records if f"{r['recipe']}/".startswith(f"{reference}/")]
        found = found or list(_on_disk(reference)) or list(_runs_of(reference))
        if not found:
            known = {name for r in records for name in (r["model"], r["recipe"])}
            raise ArtifactError(
                f"no finished run or record for {reference!r}",
                hint="compare … --train"
                if ":" in reference
                else f"{nearest(reference, known)} (or a run folder)",
            )
        for result in found:
            results.setdefault(result.get("run") or json.dumps(result), result)
    return list(results.values())


def published() -> Iterator[Result]:
    """Yield the committed records."""
    for path in sorted(packaged("checkpoints", "records").glob("*.jsonl")):
        yield from _lines(path)


def _lines(path: Path) -> Iterator[Result]:
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            yield _complete(json.loads(line), path)
        except ValueError as error:
            raise ArtifactError(f"line {number} is not JSON: {error}", where=str(path)) from error


def _on_disk(reference: str) -> Iterator[Result]:
    """Yield the results below a path or glob."""
    readers: dict[bool, Callable[[Path], Iterator[Result]]] = {True: _lines, False: _folder}
    names = [reference] if Path(reference).exists() else sorted(glob.glob(reference))
    for path in map(Path, names):
        if path.suffix == ".pt":
            yield from _run_of(path)
            continue
        yield from readers[path.suffix == ".jsonl"](path)


def _runs_of(reference: str) -> Iterator[Result]:
    """Yield a network's runs from where `train` puts them."""
    if ":" in reference or reference in known_names():
        runs = _folder(Path("checkpoints", file_name(reference)))  # a name that networks may share
        yield from (run for run in runs if run["model"] == reference)


def _run_of(checkpoint: Path) -> Iterator[Result]:
    """Yield the run that a checkpoint is the last epoch of; a picked epoch is no row's figure."""
    if checkpoint.name != "last.pt" or not checkpoint.with_name("result.json").exists():
        raise ArtifactError(
            "a row is a finished run, by its last epoch; this is a checkpoint alone",
            where=str(checkpoint),
            hint=f"name the run folder, or mnistcli evaluate {checkpoint}",
        )
    yield from _folder(checkpoint.parent)


def _folder(path: Path) -> Iterator[Result]:
    """Yield the result of a run folder, or those of the run folders inside."""
    own = path / "result.json"
    below = (folder / "result.json" for folder in run_folders(path))
    for file in [own] if own.exists() else (file for file in below if file.exists()):
        yield _complete(read_json(file), file) | {"run": str(file.parent)}


def _complete(result: Any, path: Path) -> Result:
    """Return a result that has what a row needs, or raise ArtifactError."""
    if not isinstance(result, dict) or not result.keys() >= _NEEDED:
        raise ArtifactError("damaged or incomplete result", where=str(path))
    return result
