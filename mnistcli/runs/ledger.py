"""The first rank's record of a set: rows as ranks post them, written to set.json and shown."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from mnistcli.engine import meeting
from mnistcli.engine.runtime import Runtime
from mnistcli.errors import Interrupted
from mnistcli.events import Emit, RowAdded, SetStarted, ShouldStop
from mnistcli.results import runlog, setlog
from mnistcli.results.lock import is_held
from mnistcli.results.setlog import Document, Row
from mnistcli.runs.plan import Plan

if TYPE_CHECKING:
    from torch.distributed import Store  # type: ignore[attr-defined]

_POLL_SECONDS = 0.2
# After this long a run that nobody holds, and that has no row, has lost its process. A machine that
# goes down is noticed by torchrun in a third of it, and ends this process too.
_LOST_SECONDS = 60.0
_LOST = "its process ended with exit code 0 and left no result"


class Ledger:
    """The rows of one launch's set, and the document that holds them."""

    def __init__(self, plan: Plan, document: Document, store: Store, emit: Emit) -> None:
        self._plan = plan
        self._document = document
        self._store = store
        self._emit = emit
        self._seen = 0

    def todo(self) -> list[int]:
        """Return the seeds that no row tells of yet."""
        known = {row["seed"] for row in self._document["rows"]}
        return [seed for seed in self._plan.seeds if seed not in known]

    def start(self, runtime: Runtime) -> None:
        """Write and show what begins, or continues."""
        self._write()
        plan, document = self._plan, self._document
        started = SetStarted(
            model=plan.entry.name,
            recipe=plan.recipe_name,
            changes=plan.changes,
            optimizer=plan.recipe.optim.name,
            teacher=plan.recipe.teacher,
            runs=len(plan.seeds),
            done=len(document["rows"]),
            ranks=document["ranks"],
            restarts=document["restarts"],
            runtime=runtime.to_dict(),
            folder=str(plan.folder),
        )
        self._emit(started)

    def collect(self) -> None:
        """Take in what was posted since: write it and show it."""
        for text in meeting.posted(self._store, self._seen):
            self._seen += 1
            row: Row = json.loads(text)
            if row["seed"] in self.todo():  # else given up, and finished after all
                rows = self._document["rows"]
                rows.append(row)
                self._write()
                self._emit(RowAdded(row, len(rows), len(self._plan.seeds)))

    def complete(self, should_stop: ShouldStop) -> None:
        """Wait for the other ranks' runs, then finish the record."""
        self.collect()
        looked = time.monotonic()
        held = dict.fromkeys(self.todo(), looked)
        while self.todo() and not meeting.ended(self._store):
            if (signum := should_stop()) is not None:
                raise Interrupted(signum)
            time.sleep(_POLL_SECONDS)
            self.collect()
            if time.monotonic() - looked > _LOST_SECONDS / 10:
                looked = time.monotonic()
                self._give_up_lost(held)
        self.collect()
        setlog.finish(self._document, self._plan.limits, self._plan.require)
        self._write()

    def _give_up_lost(self, held: dict[int, float]) -> None:
        """End the set where a run's process has ended, by 0, without a row for it.

        A rank that is killed or fails is the launcher's affair. `held` says when somebody was last
        seen at a run: all runs are taken once the first rank has none left.
        """
        now = time.monotonic()
        for seed in self.todo():
            folder = self._plan.out_of(seed) or self._plan.folder
            if is_held(folder):
                held[seed] = now
            elif now - held[seed] > _LOST_SECONDS:
                row = {"seed": seed, "status": "failed", "exit_code": 1, "error": _LOST}
                row |= {"hint": "train this seed alone: --seed", "run": str(folder)}
                meeting.post(self._store, runlog.to_json(row))
                meeting.end(self._store)

    def _write(self) -> None:
        runlog.write_json(setlog.set_file(self._plan.folder), self._document)
