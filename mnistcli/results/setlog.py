"""The record of a set of runs: `set.json` in the set's folder, a row for each run that is over."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mnistcli.errors import ArtifactError, DivergedError, UsageError
from mnistcli.results import goal, result, runlog
from mnistcli.results.goal import Limits

Row = dict[str, Any]
Document = dict[str, Any]

SCHEMA = 1
_FINAL = (0, DivergedError.exit_code)  # what a restart would not change


def set_file(folder: Path) -> Path:
    """Return where the record of a set in `folder` lies."""
    return folder / "set.json"


def run_folder(folder: Path, seeds: Sequence[int], seed: int) -> Path:
    """Return where a set's run lives: one of several below the set's folder, a single one in it."""
    return folder / f"s{seed}" if len(seeds) > 1 else folder


def begin(folder: Path, head: Document, *, resume: bool) -> Document:
    """Return the record that `head` names (launch, recipe_digest, data, seeds), or begin it.

    A restart finds its own; rows of faults that it may mend are left out.

    Raises:
        UsageError: the folder holds another set or a run, and is not to be resumed.
    """
    path = set_file(folder)
    document = runlog.read_json(path) or {}
    if document and all(document.get(key) == value for key, value in head.items()):
        rows = [row for row in document["rows"] if row["exit_code"] in _FINAL]
        return document | {"exit_code": None, "rows": rows}
    if not resume:
        if document:
            raise UsageError(f"a set of runs is there already: {path}", hint="--resume auto")
        for seed in head["seeds"]:
            run = run_folder(folder, head["seeds"], seed)
            if run.exists():
                runlog.refuse_occupied(run)
    runlog.create(folder)
    document = {"schema": SCHEMA, **head, "exit_code": None, "rows": []}
    runlog.write_json(path, document)
    return document


def read(folder: Path) -> Document:
    """Return a set's record.

    Raises:
        ArtifactError: there is none.
    """
    document = runlog.read_json(set_file(folder))
    if document is None:
        raise ArtifactError("a set's record is missing or damaged", where=str(set_file(folder)))
    return document


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

    The code is that of the first run without a result, else 3 where a required gate was missed.
    """
    place = {seed: index for index, seed in enumerate(document["seeds"])}
    rows = sorted(document["rows"], key=lambda row: place[row["seed"]])
    found = results(rows, limits)
    faults = [row["exit_code"] for row in rows if row["exit_code"]]
    missed = any(goal.failures(goal.judge_result(one, limits), required) for one in found)
    document["rows"] = rows
    document["summary"] = result.summarise(found, limits) if found else None
    document["exit_code"] = faults[0] if faults else 3 * missed
