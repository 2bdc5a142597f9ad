"""The record of a set of runs: `set.json` in the set's folder, a row for each run that is over."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from mnistcli.errors import ArtifactError, BusyError, DivergedError, UsageError
from mnistcli.results import goal, result, runlog
from mnistcli.results.goal import Limits

Row = dict[str, Any]
Document = dict[str, Any]

SCHEMA = 1
_FINAL = (0, DivergedError.exit_code)  # what a restart would not change
_OF_ONE_RUN = (*_FINAL, BusyError.exit_code)
_STRICT = ConfigDict(strict=True, extra="allow")


class _Place(BaseModel):
    model_config = _STRICT

    seed: int
    run: str


class _Row(_Place):
    exit_code: int


class _Record(BaseModel):
    """What is relied on when a set's record is read; the rest is shown as it is."""

    model_config = _STRICT

    launch: str
    recipe_digest: str
    data: str
    seeds: list[int]
    elsewhere: list[_Place] = []
    rows: list[_Row]
    exit_code: int | None


def set_file(folder: Path) -> Path:
    """Return where the record of a set in `folder` lies."""
    return folder / "set.json"


def ends_set(row: Row) -> bool:
    """Return whether every other run would meet this one's fault, after a restart too."""
    return row["exit_code"] not in _OF_ONE_RUN


def known(folder: Path) -> Document | None:
    """Return a set's record, or None where there is no readable one."""
    document = runlog.read_json(set_file(folder))
    try:
        _Record.model_validate(document)
    except ValidationError:
        return None
    return document


def read(folder: Path) -> Document:
    """Return a set's record.

    Raises:
        ArtifactError: there is none.
    """
    document = known(folder)
    if document is None:
        raise ArtifactError("a set's record is missing or damaged", where=str(set_file(folder)))
    return document


def find(parent: Path, head: Document) -> Path | None:
    """Return the folder of this recipe's, data's and seeds' unfinished set with most runs over,
    else of a finished one: no clock decides."""
    found = []
    for file in parent.glob("*/set.json"):
        document = known(file.parent)
        if document is not None and all(document[key] == value for key, value in head.items()):
            unfinished, runs = document["exit_code"] is None, len(document["rows"])
            found.append((unfinished, runs, file.parent.name, file.parent))
    return max(found)[-1] if found else None


def elsewhere(document: Document) -> dict[int, Path]:
    """Return by seed the folders of runs that the set found outside its own folder.

    A record from a stranger can name no other folder than that of a run.
    """
    places = ((one["seed"], Path(one["run"])) for one in document.get("elsewhere", ()))
    return {seed: path for seed, path in places if (path / "recipe.yaml").is_file()}


def begin(folder: Path, head: Document, runs: Mapping[int, Path], *, resume: bool) -> Document:
    """Return the record that `head` names (launch, recipe_digest, data, seeds), or begin it.

    `runs` are the runs' folders by seed; those outside `folder` are noted. A restart finds its
    own record; rows of faults that it may mend are left out.

    Raises:
        UsageError: the folder holds another set or a run, and is not to be resumed.
    """
    document = known(folder)
    _refuse_foreign(folder, document, runs)
    if document is not None and all(document[key] == value for key, value in head.items()):
        final = (row for row in document["rows"] if row["exit_code"] in _FINAL)
        rows = {row["seed"]: row for row in final if row["seed"] in head["seeds"]}
        return document | {"exit_code": None, "rows": [*rows.values()]}
    if not resume:
        if document is not None:
            raise UsageError(
                f"a set of runs is there already: {set_file(folder)}", hint="--resume auto"
            )
        for run in filter(Path.exists, runs.values()):
            runlog.refuse_occupied(run, hint="--resume auto, or another --out")
    outside = [
        {"seed": seed, "run": str(run)} for seed, run in runs.items() if folder != run.parent
    ]
    document = {"schema": SCHEMA, **head, "elsewhere": outside, "exit_code": None, "rows": []}
    runlog.write_json(set_file(folder), document)
    return document


def _refuse_foreign(folder: Path, document: Document | None, runs: Mapping[int, Path]) -> None:
    """Raise UsageError where a file or link that a set did not make has the name of one of its."""
    if document is None and os.path.lexists(set_file(folder)):
        raise UsageError(
            f"not the record of a set: {set_file(folder)}", hint="move it away, or another --out"
        )
    for run in runs.values():
        if run.parent == folder and run.is_symlink():
            raise UsageError(f"a symbolic link, not a run: {run}", hint="another --out")


def results(rows: Sequence[Row], limits: Limits) -> list[dict[str, Any]]:
    """Return the results of those runs that have one, from their folders, judged by `limits`.

    Raises:
        ArtifactError: a finished run has lost its result.
    """
    found = []
    for row in rows:
        if row["exit_code"] == 0:
            record = runlog.read_json(Path(row["run"], "result.json"))
            if record is None:
                raise ArtifactError("a finished run has no result.json", where=row["run"])
            checks = goal.judge_result(record, limits)
            found.append(record | {"run": row["run"], "goal": result.goal(checks)})
    return found


def finish(document: Document, limits: Limits, required: Sequence[str]) -> None:
    """Put the rows in the order of the seeds; add the summary and the set's own exit code.

    The code is that of the fault that ended the set, else of the first run without a result, else
    3 where a required gate was missed.
    """
    place = {seed: index for index, seed in enumerate(document["seeds"])}
    rows = sorted(document["rows"], key=lambda row: place[row["seed"]])
    found = results(rows, limits)
    missed = any(goal.failures(goal.judge_result(one, limits), required) for one in found)
    document["rows"] = rows
    failed = len(document["seeds"]) - len(found)
    document["summary"] = result.summarise(found, limits, failed=failed) if found else None
    fault = first_fault(rows)
    document["exit_code"] = 3 * missed if fault is None else fault["exit_code"]


def first_fault(rows: Sequence[Row]) -> Row | None:
    """Return the row of the fault that ended the set, else of the first run without a result."""
    faults = [row for row in rows if row["exit_code"]]
    return next(filter(ends_set, faults), faults[0] if faults else None)
