"""A set of runs, in one process or over ranks: who trains which, and what came of each.

The first rank gathers rows from a store into set.json: any rank may die, and a restart goes on
from there. A single process is its own first rank, and its store lies in its memory.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mnistcli.engine import meeting, parallel
from mnistcli.engine.ranks import Ranks
from mnistcli.errors import (
    ArtifactError,
    BusyError,
    DivergedError,
    EnvironmentFault,
    SetEnded,
    UsageError,
)
from mnistcli.events import Emit, Event, RunKept, ShouldStop
from mnistcli.results import runlog, setlog
from mnistcli.results.lock import lock
from mnistcli.results.setlog import Row
from mnistcli.runs.ledger import Ledger
from mnistcli.runs.plan import Plan, Shared, prepare
from mnistcli.runs.set_folder import open_set, placed
from mnistcli.runs.single import follow, run_seed

if TYPE_CHECKING:
    from torch.distributed import Store  # type: ignore[attr-defined]

_OF_ONE_RUN = (UsageError, ArtifactError, DivergedError, BusyError)


def run_set(plan: Plan, place: Ranks, emit: Emit, should_stop: ShouldStop) -> Plan:
    """Do one rank's part of a set; the first returns when the record has every run.

    Returns the plan with the set's folder.

    Raises:
        UsageError: the folder holds something, and is not to be resumed.
        EnvironmentFault: the ranks do not share the folder, or the launcher is gone.
    """
    shared = prepare(plan, emit, should_stop)
    store = meeting.join(place)
    if place.leads:
        return _lead(placed(plan, shared), shared, place, store)
    told = json.loads(meeting.read(store, "shared"))
    if plan.parallel == "runs" and not setlog.set_file(plan.folder).exists():
        what = f"the first rank's folder is not here: {plan.folder}"
        raise EnvironmentFault(what, hint="share --out between machines")
    plan = replace(plan, elsewhere=setlog.elsewhere(told))

    def heed() -> None:
        meeting.posted(store, sys.maxsize)  # raises where the launcher, and its store, is gone
        stop_at_end(store)

    with contextlib.suppress(SetEnded):
        watched = replace(shared, emit=then(emit, heed))
        _take_part(plan, watched, place, store, told["todo"], posting(store))
    return plan


def _lead(plan: Plan, shared: Shared, place: Ranks, store: Store) -> Plan:
    runlog.create(plan.folder)
    with lock(plan.folder) if len(plan.seeds) > 1 else nullcontext():
        document = open_set(plan, place.launch or secrets.token_hex(8), shared)
        restarts = document.get("restarts", -1) + 1  # torchrun counts each machine's own
        document |= {"model": plan.entry.name, "ranks": place.size, "restarts": restarts}
        plan = replace(plan, elsewhere=setlog.elsewhere(document))
        ledger = Ledger(plan, document, store, shared.emit)
        todo, deliver = ledger.todo(), posting(store)
        store.set("shared", json.dumps({"todo": todo, "elsewhere": document["elsewhere"]}))
        ledger.start(shared.runtime)

        def gather() -> None:
            ledger.collect()
            stop_at_end(store)

        def deliver_and_collect(row: Row) -> None:
            deliver(row)
            ledger.collect()

        with contextlib.suppress(SetEnded):
            watched = replace(shared, emit=then(shared.emit, gather))
            _take_part(plan, watched, place, store, todo, deliver_and_collect)
        ledger.complete(shared.should_stop)
    return plan


def _take_part(
    plan: Plan,
    shared: Shared,
    place: Ranks,
    store: Store,
    todo: Sequence[int],
    deliver: Callable[[Row], None],
) -> None:
    """Train this rank's share of the runs, or its slice of each; deliver a row for each run."""
    plan = replace(plan, resume="auto")  # `open_set` has refused what must not be continued
    if plan.parallel == "runs":
        for index in meeting.claims(store, len(todo)):
            deliver(attempt(plan, todo[index], shared, place.rank))
        return
    with parallel.grouped(place, store, shared.runtime.torch_device) as group:
        shared = replace(shared, group=group)
        if not group.leads:
            follow(plan, shared)
            return
        for seed in todo:
            if not meeting.ended(store):
                deliver(attempt(plan, seed, shared, place.rank))
        group.first(lambda: None)


def attempt(plan: Plan, seed: int, shared: Shared, rank: int) -> Row:
    """Train one run and return its row; what is wrong with this run alone ends no rank."""
    row: Row = {"seed": seed, "rank": rank, "status": "finished", "exit_code": 0}
    pass_on = shared.emit

    def emit(event: Event) -> None:
        if isinstance(event, RunKept):
            row["status"] = "kept"
        else:
            pass_on(event)

    try:
        record = run_seed(plan, seed, replace(shared, emit=emit))
    except _OF_ONE_RUN as fault:
        why = {"exit_code": fault.exit_code, "error": str(fault), "hint": fault.hint}
        return row | {"status": "failed", **why, "run": str(plan.out_of(seed))}
    return row | _figures(record)


def _figures(record: dict[str, Any]) -> Row:
    last = record["last"]
    return {
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


def posting(store: Store) -> Callable[[Row], None]:
    """Return what posts a row for the first rank, and ends the set where the row says so."""

    def deliver(row: Row) -> None:
        meeting.post(store, runlog.to_json(row))
        if setlog.ends_set(row):
            meeting.end(store)

    return deliver


def stop_at_end(store: Store) -> None:
    if meeting.ended(store):
        raise SetEnded("the error of another run ended the set")


def then(emit: Emit, act: Callable[[], object]) -> Emit:
    """Return an event sink that acts after each event of this rank's own runs.

    Where the launcher is gone, so is its store: acting raises, and no rank trains on for nobody.
    """

    def sink(event: Event) -> None:
        emit(event)
        act()

    return sink
