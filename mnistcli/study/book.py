"""The record of a study in its folder: a row for each run that is over, read back on a restart.

The runs' own folders are the truth; `study.json` is written again from them and from what failed.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mnistcli.errors import ArtifactError
from mnistcli.results import runlog, setlog, stored
from mnistcli.study import answer
from mnistcli.study.answer import Entry, Result
from mnistcli.study.arms import Arm
from mnistcli.study.design import StudyPlan
from mnistcli.study.stages import Step

Row = dict[str, Any]
FILE = "study.json"


class Task(NamedTuple):
    """One run: an arm of a stage on a seed."""

    stage: int
    arm: str
    seed: int


class _Row(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")

    stage: int = Field(ge=0, le=20)
    arm: str
    seed: int = Field(ge=0, lt=2**31)
    run: str = Field(min_length=1)
    exit_code: int = Field(ge=0, le=255)


class Book:
    """The rows of a study, and the tables that they make."""

    def __init__(self, plan: StudyPlan, folder: Path, data: str) -> None:
        self.plan, self.folder = plan, folder
        self.rows: dict[Task, Row] = {}
        self.entrants: list[list[str]] = []
        self._head: dict[str, Any] = {"data": data}
        self._results: dict[str, Result] = {}
        self._started = time.monotonic()
        self._done_here = 0

    def read(self) -> None:
        """Take in the rows of an earlier start: those whose result is still to be believed."""
        document = known(self.folder)
        if document is None:
            return
        if document.get("data") != self._head["data"]:
            hint = "give its --data-dir again, or another --out"
            raise ArtifactError(
                "the study was run on other data", where=str(self.folder), hint=hint
            )
        for row in document["rows"]:
            try:
                _Row.model_validate(row)
            except ValidationError:
                continue
            task = Task(row["stage"], row["arm"], row["seed"])
            inside = self.folder.absolute() in Path(row["run"]).absolute().parents
            if inside and setlog.is_final(row) and self._is_of_plan(task, row):
                self.rows[task] = row

    def _is_of_plan(self, task: Task, row: Row) -> bool:
        """Return whether a row is of a run that the plan has, with its recipe."""
        if task.stage >= len(self.plan.steps) or not any(
            arm.name == task.arm for arm in self.plan.arms.all
        ):
            return False
        if row["exit_code"]:
            return True
        recipe = recipe_of(self.plan.arms.named(task.arm), self.plan.steps[task.stage])
        return bool(self._result(row)["recipe_digest"] == recipe.digest())

    def head(self, **values: Any) -> None:
        """Add what the record begins with."""
        self._head |= values

    def begin(self, arms: Sequence[str]) -> list[Task]:
        """Begin the next stage with these arms; return its runs that are not over, seed by seed:
        all arms come forward together."""
        self.entrants.append(list(arms))
        number = len(self.entrants) - 1
        tasks = [Task(number, arm, seed) for seed in self.plan.steps[number].seeds for arm in arms]
        return [task for task in tasks if task not in self.rows]

    def add(self, row: Row) -> None:
        """Take in the row of a run that is over."""
        self.rows[Task(row["stage"], row["arm"], row["seed"])] = row
        self._done_here += row.get("status") != "kept"
        self.write()

    def entries(self, number: int) -> list[Entry]:
        """Return what each arm of a stage has done, the base first."""
        found: dict[str, tuple[list[Result], int]] = {}
        for name in self.entrants[number]:
            rows = [row for task, row in self.rows.items() if task[:2] == (number, name)]
            results = [self._result(row) for row in rows if row["exit_code"] == 0]
            found[name] = results, sum(row["exit_code"] != 0 for row in rows)
        base = answer.entry(self.entrants[number][0], *found[self.entrants[number][0]])
        like = answer.kind_of(base.results[0]) if base.results else None
        others = [answer.entry(name, *found[name], like) for name in self.entrants[number][1:]]
        return [base, *others]

    def table(self, number: int) -> list[dict[str, Any]]:
        """Return the table of a stage, with verdicts where all of its runs are over."""
        step = self.plan.steps[number]
        over = all(
            Task(number, arm, seed) in self.rows
            for arm in self.entrants[number] for seed in step.seeds
        )  # fmt: skip
        return answer.table(step, self.entries(number), self.plan.margin, over=over)

    def seconds_left(self) -> float | None:
        """Return how long the rest takes at the pace of this start's runs."""
        if not self._done_here:
            return None
        each = (time.monotonic() - self._started) / self._done_here
        return each * (self.plan.runs - len(self.rows))

    def write(self, **values: Any) -> None:
        """Write study.json."""
        self._head |= values
        rows = [self.rows[task] for task in sorted(self.rows, key=self._place)]
        runlog.write_json(self.folder / FILE, {"schema": 1, **self._head, "rows": rows})

    def _place(self, task: Task) -> tuple[int, int, int]:
        names = [arm.name for arm in self.plan.arms.all]
        return task.stage, names.index(task.arm), task.seed

    def _result(self, row: Row) -> Result:
        if (run := row["run"]) not in self._results:
            self._results[run] = stored.of_folder(Path(run)) | {"run": run}
        return self._results[run]


def known(folder: Path) -> dict[str, Any] | None:
    """Return a study's record, or None where there is no readable one."""
    document = runlog.read_json(folder / FILE)
    rows = document.get("rows") if document is not None else None
    return document if isinstance(rows, list) else None


def recipe_of(arm: Arm, step: Step) -> Any:
    """Return an arm's recipe as a stage trains it."""
    return arm.recipe if step.epochs is None else arm.recipe.model_copy(
        update={"epochs": step.epochs})  # fmt: skip


def folder_of(folder: Path, task: Task) -> Path:
    """Return where a run lies: ARM/sSEED, of a later stage ARM@STAGE/sSEED."""
    name = task.arm if task.stage == 0 else f"{task.arm}@{task.stage + 1}"
    return folder / name / f"s{task.seed}"
