"""A set of runs over ranks: who trains which, and what came of each.

The first rank gathers rows from torch's store into set.json: any rank may die, and a restart goes
on from there.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

from mnistcli.engine import parallel
from mnistcli.engine.ranks import Ranks
from mnistcli.errors import (
    ArtifactError,
    BusyError,
    DivergedError,
    EnvironmentFault,
    Interrupted,
    UsageError,
)
from mnistcli.events import Emit, Event, RowAdded, RunKept, SetStarted
from mnistcli.experiment import follow, run_seed
from mnistcli.results import runlog, setlog
from mnistcli.results.setlog import Document, Row
from mnistcli.setting import Outside, Plan, Setting, prepare

if TYPE_CHECKING:
    from torch.distributed import Store  # type: ignore[attr-defined]

_OF_ONE_RUN = (UsageError, ArtifactError, DivergedError, BusyError)
_POLL_SECONDS = 0.2


def open_set(plan: Plan, launch: str, setting: Setting) -> Document:
    """Return the record of this launch's set, begun where it is new.

    Raises:
        UsageError: the folder holds something, and is not to be resumed.
    """
    assert plan.out is not None
    head = {
        "launch": launch,
        "recipe_digest": plan.recipe.digest(),
        "data": setting.dataset.digest,
        "seeds": list(plan.seeds),
    }
    return setlog.begin(plan.out, head, resume=bool(plan.resume))


def run_set(plan: Plan, outside: Outside, place: Ranks) -> None:
    """Do one rank's part of a set; the first returns when the record has every run.

    Raises:
        UsageError: the folder holds something, and is not to be resumed.
        EnvironmentFault: the ranks do not share the folder.
    """
    assert plan.out is not None
    setting = prepare(plan, outside)
    store = parallel.join(place)
    if place.leads:
        _lead(plan, setting, place, store)
        return
    todo = json.loads(parallel.read(store, "todo"))
    if plan.parallel == "runs" and not setlog.set_file(plan.out).exists():
        raise EnvironmentFault(
            f"the first rank's folder is not here: {plan.out}", hint="share --out between machines"
        )
    alive = _then(outside.emit, lambda: parallel.posted(store, sys.maxsize))
    _take_part(plan, _emitting(setting, alive), place, store, todo)


def _lead(plan: Plan, setting: Setting, place: Ranks, store: Store) -> None:
    assert plan.out is not None
    runlog.create(plan.out)
    with runlog.lock(plan.out) if len(plan.seeds) > 1 else nullcontext():
        document = open_set(plan, place.launch, setting)
        restarts = document.get("restarts", -1) + 1  # torchrun counts each machine's own
        document |= {"ranks": place.size, "restarts": restarts}
        ledger = Ledger(plan, document, store, setting.outside)
        todo = ledger.todo()
        store.set("todo", json.dumps(todo))
        ledger.start(setting)
        watched = _emitting(setting, _then(setting.outside.emit, ledger.collect))
        _take_part(plan, watched, place, store, todo)
        ledger.complete()


def _take_part(
    plan: Plan, setting: Setting, place: Ranks, store: Store, todo: Sequence[int]
) -> None:
    """Train this rank's share of the runs, or its slice of each; post a row for each run."""
    plan = replace(plan, resume="auto")  # `open_set` has refused what must not be continued
    if plan.parallel == "runs":
        for index in parallel.claims(store, len(todo)):
            parallel.post(store, runlog.to_json(attempt(plan, todo[index], setting, place.rank)))
        return
    with parallel.grouped(place, store, setting.runtime.torch_device) as group:
        setting = replace(setting, group=group)
        if not group.leads:
            follow(plan, setting)
            return
        for seed in todo:
            parallel.post(store, runlog.to_json(attempt(plan, seed, setting, place.rank)))
        group.first(lambda: None)


def attempt(plan: Plan, seed: int, setting: Setting, rank: int) -> Row:
    """Train one run and return its row; what is wrong with this run alone ends no rank."""
    row: Row = {"seed": seed, "rank": rank, "status": "finished", "exit_code": 0}
    pass_on = setting.outside.emit

    def emit(event: Event) -> None:
        if isinstance(event, RunKept):
            row["status"] = "kept"
        else:
            pass_on(event)

    try:
        record = run_seed(plan, seed, _emitting(setting, emit))
    except _OF_ONE_RUN as fault:
        assert plan.out is not None
        folder = setlog.run_folder(plan.out, plan.seeds, seed)
        why = {"exit_code": fault.exit_code, "error": str(fault), "hint": fault.hint}
        return row | {"status": "failed", **why, "run": str(folder)}
    last = record["last"]
    return row | {
        "epochs": record["epochs_done"],
        "split": record["split"],
        "correct": last["correct"],
        "total": last["total"],
        "accuracy": last["accuracy"],
        "best": record["best"]["accuracy"],
        "seconds_per_epoch": record["seconds_per_epoch"],
        "verdict": record["goal"]["verdict"],
        "weights_sha256": record["weights_sha256"],
        "run": record["run"],
    }


class Ledger:
    """The first rank's record of a set: rows as ranks post them, shown and written."""

    def __init__(self, plan: Plan, document: Document, store: Store, outside: Outside) -> None:
        self._plan = plan
        self._document = document
        self._store = store
        self._outside = outside
        self._seen = 0

    def todo(self) -> list[int]:
        """Return the seeds that no row tells of yet."""
        known = {row["seed"] for row in self._document["rows"]}
        return [seed for seed in self._plan.seeds if seed not in known]

    def start(self, setting: Setting) -> None:
        """Write and show what begins, or continues."""
        self._write()
        plan, document = self._plan, self._document
        started = SetStarted(
            model=plan.entry.name,
            recipe=plan.recipe_name,
            changes=plan.changes,
            runs=len(plan.seeds),
            done=len(document["rows"]),
            ranks=document["ranks"],
            restarts=document["restarts"],
            runtime=setting.runtime.to_dict(),
            folder=str(plan.out),
        )
        self._outside.emit(started)

    def collect(self) -> None:
        """Take in what was posted since: show it and write it."""
        new = [json.loads(text) for text in parallel.posted(self._store, self._seen)]
        self._seen += len(new)
        rows = self._document["rows"]
        for row in new:
            rows.append(row)
            self._outside.emit(RowAdded(row, len(rows), len(self._plan.seeds)))
        if new:
            self._write()

    def complete(self) -> None:
        """Wait for the other ranks' runs, then finish the record."""
        self.collect()
        while self.todo():
            if (signum := self._outside.should_stop()) is not None:
                raise Interrupted(signum)
            time.sleep(_POLL_SECONDS)
            self.collect()
        setlog.finish(self._document, self._plan.limits, self._plan.require)
        self._write()

    def _write(self) -> None:
        assert self._plan.out is not None
        runlog.write_json(setlog.set_file(self._plan.out), self._document)


def _emitting(setting: Setting, emit: Emit) -> Setting:
    return replace(setting, outside=replace(setting.outside, emit=emit))


def _then(emit: Emit, act: Callable[[], object]) -> Emit:
    """Return an event sink that acts after each event of this rank's own runs.

    Where the launcher is gone, so is its store: acting raises, and no rank trains on for nobody.
    """

    def sink(event: Event) -> None:
        emit(event)
        act()

    return sink
