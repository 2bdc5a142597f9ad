"""A study as it lies in its folder, for whoever shows it: record, registrations, decisions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mnistcli.errors import ArtifactError, UsageError
from mnistcli.results import figures, runlog, stored, writeup
from mnistcli.study import book
from mnistcli.study.registration import claims, registrations

_DECISIONS = "decisions.json"
_MOST = 1000


def is_study(folder: Path) -> bool:
    """Return whether a folder holds a study."""
    return (folder / book.FILE).is_file()


def read_record(folder: Path) -> dict[str, Any]:
    """Return a study's record with its registrations, claims and decisions.

    Raises:
        ArtifactError: there is none, it is damaged, or a registration was edited.
    """
    document = book.known(folder)
    if document is None:
        hint = "mnistcli study FILE --out FOLDER"
        raise ArtifactError("no study, or a damaged one", where=str(folder), hint=hint)
    found = registrations(folder)
    if not found:
        raise ArtifactError("the study's registration is missing", where=str(folder))
    arms = list(found[-1]["arms"])
    return document | {
        "folder": str(folder),
        "registrations": found,
        "claims": claims(found, arms),
        "decisions": decisions(folder),
    }


def courses(document: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Return each arm's accuracies by epoch, mean, least and most, over the runs of its last stage.

    Raises:
        ArtifactError: a run has lost its result.
    """
    last = {row["arm"]: row["stage"] for row in document["rows"] if row["exit_code"] == 0}
    runs: dict[str, list[dict[str, Any]]] = {}
    for row in document["rows"]:
        if row["exit_code"] == 0 and row["stage"] == last[row["arm"]]:
            runs.setdefault(row["arm"], []).append(stored.of_folder(Path(row["run"])))
    return {arm: writeup.course(found) for arm, found in runs.items()}


def decisions(folder: Path) -> list[dict[str, Any]]:
    """Return the decisions by hand, in order."""
    file = folder / _DECISIONS
    if not file.exists():
        return []
    found = stored.read_object(file).get("decisions")
    if not isinstance(found, list) or not all(
        isinstance(one, dict) and {"arm", "reason", "made", "runs"} <= one.keys() for one in found
    ):
        stored.refuse("not a list of decisions", file)
    return found


def decide(folder: Path, arm: str, reason: str) -> None:
    """Record that an arm was chosen by hand, why, and after how many runs.

    Raises:
        UsageError: no such arm, or no reason.
    """
    record = read_record(folder)
    known = record["registrations"][-1]["arms"]
    if arm not in known:
        raise UsageError(f"no arm {arm!r}", where=str(folder), hint=", ".join(list(known)[:5]))
    if not reason.strip():
        raise UsageError("a decision by hand needs its reason", hint="--reason 'a tenth faster'")
    said = {
        "arm": arm,
        "reason": reason.strip(),
        "made": figures.now(),
        "runs": len(record["rows"]),
    }
    found = [*record["decisions"], said][-_MOST:]
    runlog.write_json(folder / _DECISIONS, {"decisions": found})
