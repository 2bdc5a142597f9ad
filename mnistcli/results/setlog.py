"""The record of a set of runs: `set.json` in the set's folder, a row for each run that is over."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mnistcli.engine.history import first_problem
from mnistcli.errors import ArtifactError, BusyError, DivergedError, NotReadable, UsageError
from mnistcli.results import figures, goal, runlog, stored
from mnistcli.results.goal import Limits

Row = dict[str, Any]
Document = dict[str, Any]

SCHEMA = 1
_FINAL = (0, DivergedError.exit_code)  # what a restart would not change
_OF_ONE_RUN = (*_FINAL, BusyError.exit_code)
_MOST_RUNS = 10_000  # as many seeds as a line may name
_STRICT = ConfigDict(strict=True, extra="allow")


class _Place(BaseModel):
    model_config = _STRICT

    seed: int = Field(ge=0, lt=2**31)
    run: str = Field(min_length=1)


class _Row(_Place):
    exit_code: int = Field(ge=0, le=255)
    error: str = ""
    hint: str = ""

    @model_validator(mode="after")
    def _a_fault_has_its_words(self) -> _Row:
        if self.exit_code and not self.model_fields_set >= {"error", "hint"}:
            raise ValueError("a run without a result says why")
        return self


class _Record(BaseModel):
    """What is relied on when a set's record is read; the rest is shown as it is."""

    model_config = _STRICT

    launch: str
    recipe_digest: str
    data: str
    seeds: list[int] = Field(min_length=1, max_length=_MOST_RUNS)
    elsewhere: list[_Place] = Field(default=[], max_length=_MOST_RUNS)
    rows: list[_Row] = Field(max_length=_MOST_RUNS)
    exit_code: int | None = Field(ge=0, le=255)

    @model_validator(mode="after")
    def _a_row_for_a_seed(self) -> _Record:
        told, seeds = [row.seed for row in self.rows], set(self.seeds)
        if len(seeds) < len(self.seeds) or len(set(told)) < len(told) or not seeds.issuperset(told):
            raise ValueError("rows: not one for a seed")
        if not all(0 <= seed < 2**31 for seed in seeds):
            raise ValueError("seeds: out of range")
        return self


def set_file(folder: Path) -> Path:
    """Return where the record of a set in `folder` lies."""
    return folder / "set.json"


def ends_set(row: Row) -> bool:
    """Return whether every other run would meet this one's fault, after a restart too."""
    return row["exit_code"] not in _OF_ONE_RUN


def known(folder: Path) -> Document | None:
    """Return a set's record, or None where there is no readable one."""
    try:
        return read(folder)
    except ArtifactError:
        return None


def read(folder: Path) -> Document:
    """Return a set's record.

    Raises:
        ArtifactError: there is none, or it is damaged.
    """
    document = stored.read_object(set_file(folder))
    try:
        _Record.model_validate(document)
    except ValidationError as error:
        stored.refuse(first_problem(error), set_file(folder))
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
    return {seed: path for seed, path in places if os.path.isfile(path / "recipe.yaml")}


def begin(folder: Path, head: Document, runs: Mapping[int, Path], *, resume: bool) -> Document:
    """Return the record that `head` names (launch, recipe_digest, data, seeds), or begin it.

    `runs` are the runs' folders by seed; those outside `folder` are noted. A restart finds its
    own record; rows of faults that it may mend are left out.

    Raises:
        UsageError: the folder holds another set or a run, and is not to be resumed.
    """
    document = _here(folder)
    _refuse_foreign(folder, document, runs)
    if document is not None and all(document[key] == value for key, value in head.items()):
        return document | {"exit_code": None, "rows": [*filter(is_final, document["rows"])]}
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


def _here(folder: Path) -> Document | None:
    """Return what `known` does; but a record that this user may not read is an error."""
    try:
        return read(folder)
    except NotReadable:
        raise
    except ArtifactError:
        return None


def _refuse_foreign(folder: Path, document: Document | None, runs: Mapping[int, Path]) -> None:
    """Raise UsageError where a file or link that a set did not make has the name of one of its."""
    if document is None and os.path.lexists(set_file(folder)):
        raise UsageError(
            f"not the record of a set: {set_file(folder)}", hint="move it away, or another --out"
        )
    for run in runs.values():
        if run.parent == folder and run.is_symlink():
            raise UsageError(f"a symbolic link, not a run: {run}", hint="another --out")


def is_final(row: Row) -> bool:
    """Return whether a restart leaves a run as it is; a finished one needs a result to believe,
    the one that its row tells of."""
    if row["exit_code"]:
        return row["exit_code"] in _FINAL
    try:
        last = stored.of_folder(Path(row["run"]))["last"]
    except ArtifactError:
        return False
    return (last["correct"], last["total"]) == (row.get("correct"), row.get("total"))


def results(rows: Sequence[Row], limits: Limits) -> list[dict[str, Any]]:
    """Return the results of those runs that have one, from their folders, judged by `limits`.

    Raises:
        ArtifactError: a finished run has lost its result, or has one that is not believed.
    """
    found = []
    for row in rows:
        if row["exit_code"] == 0:
            record = stored.of_folder(Path(row["run"]))
            checks = goal.judge_result(record, limits)
            found.append(record | {"run": row["run"], "goal": figures.goal(checks)})
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
    document["summary"] = figures.summarise(found, limits, failed=failed) if found else None
    fault = first_fault(rows)
    document["exit_code"] = 3 * missed if fault is None else fault["exit_code"]


def first_fault(rows: Sequence[Row]) -> Row | None:
    """Return the row of the fault that ended the set, else of the first run without a result."""
    faults = [row for row in rows if row["exit_code"]]
    return next(filter(ends_set, faults), faults[0] if faults else None)
