"""Many ranks of `train`: what one does under torch's launcher, and the launcher behind `--jobs`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnistcli.cli import elastic, options, signals
from mnistcli.cli.arguments import resume_command
from mnistcli.cli.processes import OURS
from mnistcli.cli.sink import defer, sink
from mnistcli.engine import ranks
from mnistcli.engine.ranks import Ranks
from mnistcli.errors import Interrupted, MnistcliError, SetError
from mnistcli.events import Event, SetStarted
from mnistcli.results import runlog, setlog
from mnistcli.results.goal import judge_result
from mnistcli.results.lock import lock
from mnistcli.view.output import Output
from mnistcli.view.progress import live_or_plain
from mnistcli.view.runset import SetView, show_set

if TYPE_CHECKING:
    from mnistcli.runs.plan import Plan

_AGAIN = "start the same line again with --resume auto"


def run_rank(plan: Plan, output: Output, *, logs: Sequence[str] = ()) -> None:
    """Do one rank's part; the first one shows the set, and concludes where no parent does.

    No rank exits with the set's own exit code: the launcher would start all of them again.
    """
    from mnistcli.runs.sets import run_set

    place = ranks.here()
    view = _view(plan, output) if place.leads else None

    writes = place.leads or plan.parallel == "runs"
    emit = sink(view, plots=plan.plots, quiet=output.quiet, logs=logs) if writes else defer

    try:
        with view or nullcontext():
            run_set(plan, place, emit, signals.flag)
    except Interrupted as stop:
        stop.hint = _AGAIN
        raise
    signals.flag.deferred = False
    if place.leads and not place.launch.startswith(OURS):
        try:
            conclude(plan, output)
        except MnistcliError as fault:
            output.failure(fault)


def _view(plan: Plan, output: Output) -> Any:
    if plan.parallel == "data":
        return live_or_plain(output)
    return SetView(output, lines=output.progress != "none")


def run_in_turn(plan: Plan, output: Output, *, logs: Sequence[str] = ()) -> None:
    """Train a set's runs one after the other in this process, and conclude."""
    from mnistcli.runs.sets import run_set

    folders: list[str] = []
    view = live_or_plain(output)
    keep = sink(view, plots=plan.plots, quiet=output.quiet, logs=logs)

    def emit(event: Event) -> None:
        if isinstance(event, SetStarted):
            folders.append(event.folder)
        keep(event)

    try:
        with view:
            plan = run_set(plan, Ranks(), emit, signals.flag)
        signals.flag.deferred = False
        if (signum := signals.flag()) is not None:
            raise Interrupted(signum)
    except Interrupted as stop:
        if not folders:
            raise
        words = sys.argv[1:] if plan.out is not None else [*sys.argv[1:], "--out", folders[0]]
        what = f"{stop.what}; {_progress(Path(folders[0]))}"
        raise Interrupted(stop.signum, what=what, hint=resume_command(words, None)) from None
    conclude(plan, output, each=True)


def conclude(plan: Plan, output: Output, *, each: bool = False) -> None:
    """Show the end of a set from its folder, and write the document; `each` shows every run.

    Raises:
        SetError: runs have no result.
        GateError: all have, and a required gate was missed.
    """
    document = setlog.read(plan.folder)
    results = setlog.results(document["rows"], plan.limits)
    checks = [judge_result(one, plan.limits) for one in results]
    document |= {"path": str(setlog.set_file(plan.folder))}
    report = {"runs": results, "summary": document.get("summary"), "set": document}
    if document["exit_code"] is None:  # the first rank wrote no end
        what = f"a process ended with 0, but the set is not complete; {_progress(plan.folder)}"
        raise SetError(what, report, exit_code=1, hint=_AGAIN)
    show_set(output, document, results, checks, each=each)
    if (fault := setlog.first_fault(document["rows"])) is not None:
        raise SetError(
            _without_result(document, fault),
            report,
            exit_code=document["exit_code"],
            hint=fault["hint"],
        )
    options.conclude(output, report, list(plan.require), checks)


def _without_result(document: dict[str, Any], fault: dict[str, Any]) -> str:
    """Return how many runs have no result, and why the first of them, or all, have none."""
    runs = len(document["seeds"])
    failed = runs - sum(row["exit_code"] == 0 for row in document["rows"])
    ended = "the set ended at " if setlog.ends_set(fault) else ""
    return (
        f"{failed} of {runs} runs without a result; {ended}seed {fault['seed']}: {fault['error']}"
    )


def launch(plan: Plan, output: Output, jobs: int, max_restarts: int | None) -> None:
    """Start this command line once more as `jobs` ranks, and conclude when they are done."""
    name = elastic.launch_name()
    words = list(sys.argv[1:])
    again = resume_command(words, None)
    try:
        folder = _begin(plan, name)
        if plan.out is None:
            words += ["--out", str(folder)]
            again = resume_command(words, None)
        elastic.start_ranks(name, jobs, max_restarts, words, lambda: _progress(folder), again=again)
        conclude(replace(plan, out=folder), output)
    except Interrupted as stop:
        stop.hint = again
        raise


def _begin(plan: Plan, name: str) -> Path:
    """Refuse here, once, what each rank would refuse after each restart; begin the record.

    Returns the set's folder.
    """
    from mnistcli.runs.plan import prepare
    from mnistcli.runs.set_folder import open_set, placed

    shared = prepare(plan, lambda event: None, signals.flag)
    plan = placed(plan, shared)
    runlog.create(plan.folder)
    with lock(plan.folder):
        open_set(plan, name, shared)
    return plan.folder


def _progress(folder: Path) -> str:
    document = setlog.read(folder)
    return f"runs ended: {len(document['rows'])} of {len(document['seeds'])}"
