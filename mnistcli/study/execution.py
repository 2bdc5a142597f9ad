"""Run a study: its stages one after the other, each stage's runs shared out among the ranks.

The first rank decides what is run, gathers the rows and picks who goes on; the others train.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from mnistcli.engine import meeting
from mnistcli.engine.ranks import Ranks
from mnistcli.errors import DivergedError, Interrupted, SetEnded, SetError
from mnistcli.events import Emit, Notice, ShouldStop, StudyMoved
from mnistcli.results import runlog
from mnistcli.results.lock import is_held, lock
from mnistcli.runs.sets import posting, stop_at_end, then
from mnistcli.study import answer
from mnistcli.study.book import Book, Row, Task, folder_of
from mnistcli.study.crew import Crew, Terms, check_arms, once
from mnistcli.study.design import StudyPlan
from mnistcli.study.registration import register

if TYPE_CHECKING:
    from torch.distributed import Store  # type: ignore[attr-defined]

_POLL_SECONDS = 0.2
_LOST_SECONDS = 60.0  # as of a set's runs
_LOST = "its process ended with exit code 0 and left no result"
_OVER = "over"


def run_study(
    plan: StudyPlan, terms: Terms, place: Ranks, emit: Emit, should_stop: ShouldStop
) -> None:
    """Do one rank's part of a study; the first returns when study.json has the answer.

    Raises:
        SetError: a run met a fault that every run would meet.
    """
    crew = Crew(plan, terms, once(emit), should_stop)
    store = meeting.join(place)
    if place.leads:
        _lead(crew, place, store)
        return
    for number in itertools.count():
        told = _await(store, f"stage/{number}", should_stop)
        if told == _OVER:
            return
        tasks = [Task(*one) for one in json.loads(told)]
        _share(crew, meeting.below(store, str(number)), tasks, place.rank)


def begin(plan: StudyPlan, terms: Terms, emit: Emit, should_stop: ShouldStop) -> None:
    """Check all arms and register the plan: what each rank would refuse is refused once, here."""
    crew = Crew(plan, terms, once(emit), should_stop)
    check_arms(crew)
    runlog.create(terms.out)
    with lock(terms.out):
        _open(crew)


def _open(crew: Crew) -> Book:
    """Return the study's book with the rows of earlier starts, its plan registered."""
    first = next(iter(crew.prepared.values()))
    book = Book(crew.plan, crew.terms.out, first.dataset.digest)
    book.read()
    registration, new = register(crew.terms.out, crew.plan, len(book.rows))
    if new and registration["number"] > 1:
        what = f"the plan has changed: registered as number {registration['number']}, beside the "
        crew.emit(Notice(f"{what}earlier one, after {len(book.rows)} runs"))
    book.head(
        question=crew.plan.study.question,
        registration=registration["number"],
        registration_sha256=registration["sha256"],
    )
    book.write(exit_code=None, answer=None, stages=[])
    return book


def _lead(crew: Crew, place: Ranks, store: Store) -> None:
    check_arms(crew)
    runlog.create(crew.terms.out)
    with lock(crew.terms.out):
        book = _open(crew)
        arms = [arm.name for arm in crew.plan.arms.all]
        try:
            for number, step in enumerate(crew.plan.steps):
                if step.confirms and not answer.worth_confirming(book.table(number - 1), arms[1]):
                    break
                todo = book.begin(arms)
                store.set(f"stage/{number}", json.dumps(todo))
                _stage(crew, book, meeting.below(store, str(number)), todo, place)
                if step.keep is not None:
                    arms = [arms[0], *answer.best(book.entries(number), step.keep)]
        finally:
            store.set(f"stage/{len(book.entrants)}", _OVER)
        tables = [book.table(number) for number in range(len(book.entrants))]
        found = answer.conclude(crew.plan.steps, tables, crew.plan.spread.sd)
        book.write(exit_code=0, answer=found, stages=tables)


def _stage(crew: Crew, book: Book, store: Store, todo: Sequence[Task], place: Ranks) -> None:
    """Train a stage's runs and gather those of the other ranks.

    Raises:
        SetError: one met a fault that all would meet.
    """
    seen = 0
    number = len(book.entrants) - 1

    def show(row: Row | None) -> None:
        crew.emit(_moved(crew, book, number, row))

    def collect() -> None:
        nonlocal seen
        for text in meeting.posted(store, seen):
            seen += 1
            row: Row = json.loads(text)
            book.add(row)
            show(row)

    def gather() -> None:
        collect()
        stop_at_end(store)

    show(None)
    _share(crew, store, todo, place.rank, gather)
    held = dict.fromkeys(todo, time.monotonic())
    while True:
        collect()
        left = [task for task in todo if task not in book.rows]
        if not left or meeting.ended(store):
            break
        if (signum := crew.should_stop()) is not None:
            raise Interrupted(signum)
        time.sleep(_POLL_SECONDS)
        _give_up_lost(crew, store, left, held)
    _raise_fault(book, number)


def _share(
    crew: Crew,
    store: Store,
    tasks: Sequence[Task],
    rank: int,
    act: Callable[[], object] | None = None,
) -> None:
    """Train this rank's share of a stage's runs; post a row for each. `act` follows each event."""
    deliver = posting(store)
    heed = act or (lambda: stop_at_end(store))
    with contextlib.suppress(SetEnded):
        for index in meeting.claims(store, len(tasks)):
            deliver(crew.train(tasks[index], rank, then(crew.emit, heed)))
            heed()


def _moved(crew: Crew, book: Book, number: int, row: Row | None) -> StudyMoved:
    return StudyMoved(
        stage=crew.plan.steps[number].name,
        table=tuple(book.table(number)),
        row=row,
        done=len(book.rows),
        runs=crew.plan.runs,
        seconds_left=book.seconds_left(),
        folder=str(crew.terms.out),
    )


def _give_up_lost(crew: Crew, store: Store, left: Sequence[Task], held: dict[Task, float]) -> None:
    """End the study where a run's process has ended by 0 without a row; `held` says when somebody
    was last seen at a run."""
    now = time.monotonic()
    for task in left:
        folder = folder_of(crew.terms.out, task)
        if is_held(folder):
            held[task] = now
        elif now - held[task] > _LOST_SECONDS:
            row: dict[str, Any] = {**task._asdict(), "status": "failed", "exit_code": 1}
            row |= {"error": _LOST, "hint": "start the study again", "run": str(folder)}
            meeting.post(store, runlog.to_json(row))
            meeting.end(store)


def _raise_fault(book: Book, number: int) -> None:
    """Raise the fault that ended a stage, if one did; a run that diverged is a finding."""
    faults = [row for task, row in book.rows.items() if task.stage == number and row["exit_code"]]
    for row in faults:
        if row["exit_code"] == DivergedError.exit_code:
            continue
        what = f"arm {row['arm']}, seed {row['seed']}: {row['error']}"
        book.write(exit_code=row["exit_code"])
        raise SetError(what, {}, exit_code=row["exit_code"], hint=row["hint"])


def _await(store: Store, key: str, should_stop: ShouldStop) -> str:
    """Return what the first rank says next; a stage may take hours."""
    while not meeting.arrived(store, key):
        if (signum := should_stop()) is not None:
            raise Interrupted(signum)
        time.sleep(_POLL_SECONDS)
    return meeting.read(store, key)
