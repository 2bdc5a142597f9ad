"""Registration: a study's plan, written and hashed before its first run.

A changed plan is registered beside the old one; neither is ever rewritten.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from mnistcli import __version__
from mnistcli.errors import ArtifactError, UsageError
from mnistcli.results import figures, runlog, stored
from mnistcli.study.design import StudyPlan
from mnistcli.study.stages import RULE

Registration = dict[str, Any]

_OUTSIDE = (
    "sha256",
    "made",
    "number",
    "runs_before",
)  # what two registrations of one plan differ in
_NAME = "registration-{}.json"


def register(folder: Path, plan: StudyPlan, runs_before: int) -> tuple[Registration, bool]:
    """Return the registration of a plan, written where the latest one is of another; whether.

    `runs_before` says how many runs of the study had a result by then. The caller holds the
    folder's lock.

    Raises:
        UsageError: the folder holds a study of another question, or an arm changed its meaning.
        ArtifactError: a registration was edited.
    """
    before = registrations(folder)
    new = _described(plan)
    if before:
        _refuse_another(before, new, folder)
        if _of_plan(before[-1]) == new:
            return before[-1], False
    document = new | {
        "number": len(before) + 1,
        "made": figures.now(),
        "runs_before": runs_before,
    }
    document["sha256"] = _digest(document)
    runlog.write_json(folder / _NAME.format(document["number"]), document)
    return document, True


def registrations(folder: Path) -> list[Registration]:
    """Return all registrations of a study, the first one first.

    Raises:
        ArtifactError: one was edited since, or is damaged.
    """
    found: list[Registration] = []
    while (file := folder / _NAME.format(len(found) + 1)).exists():
        document = stored.read_object(file)
        if document.get("sha256") != _digest(document):
            raise ArtifactError("changed after it was registered", where=str(file))
        found.append(document)
    return found


def claims(found: list[Registration], arms: list[str]) -> dict[str, str]:
    """Return for each arm, in words, whether its comparison was planned before it was known."""
    last = found[-1]
    said = {}
    for arm in arms:
        plan = (last["arms"][arm]["digest"], last["stages"], last["detect"], last["rule"])
        first = next(
            one
            for one in found
            if arm in one["arms"]
            and (one["arms"][arm]["digest"], one["stages"], one["detect"], one["rule"]) == plan
        )
        seen = first["runs_before"]
        said[arm] = f"registered after {seen} runs" if seen else "registered before the first run"
    return said


def _described(plan: StudyPlan) -> Registration:
    return {
        "schema": 1,
        "question": plan.study.question,
        "base": plan.arms.base.name,
        "arms": {
            arm.name: {
                "digest": arm.recipe.digest(),
                "recipe": arm.recipe.model_dump(),
                "searched": arm.searched,
            }
            for arm in plan.arms.all
        },
        "stages": [
            {
                "stage": step.name,
                "seeds": list(step.seeds),
                "challengers": step.entering,
                "keep": step.keep,
                "epochs": step.epochs,
            }
            for step in plan.steps
        ],
        "detect": plan.margin,
        "sd": plan.spread.sd,
        "sd_source": plan.spread.source,
        "rule": RULE,
        "code": {"version": __version__, "commit": figures.commit()},
    }


def _of_plan(document: Registration) -> Registration:
    return {key: value for key, value in document.items() if key not in _OUTSIDE}


def _digest(document: Registration) -> str:
    values = {key: value for key, value in document.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _refuse_another(before: list[Registration], new: Registration, folder: Path) -> None:
    last = before[-1]
    if last["question"] != new["question"]:
        what = f"the folder holds the study of another question: {last['question']}"
        raise UsageError(what, where=str(folder), hint="another --out")
    for old in before:
        for name, arm in new["arms"].items():
            known = old["arms"].get(name)
            if known is not None and known["digest"] != arm["digest"]:
                what = f"arm {name!r} was registered as another recipe"
                raise UsageError(what, where=str(folder), hint="a new name for the new arm")
