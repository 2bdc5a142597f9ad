"""What `study` does with a plan: run it here, as a rank or over ranks, and show the answer."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnistcli.cli import elastic, options, processes, signals
from mnistcli.cli.sink import defer, sink
from mnistcli.engine import ranks
from mnistcli.errors import (
    ArtifactError,
    Interrupted,
    MnistcliError,
    SetError,
    UsageError,
    nearest,
)  # fmt: skip
from mnistcli.results.gather import published
from mnistcli.study import freeze as freezing
from mnistcli.study import record, visits
from mnistcli.study.arms import own_networks
from mnistcli.study.book import known
from mnistcli.study.design import StudyPlan, describe_plan, open_plan
from mnistcli.study.recorded import recorded
from mnistcli.view.output import Output
from mnistcli.view.study import StudyView, show_answer, show_kinds
from mnistcli.view.studyplots import draw_study
from mnistcli.view.tables import Column, plain_line

if TYPE_CHECKING:
    from mnistcli.study.crew import Terms


def open_for(file: Path, data_dir: Path | None, models: Sequence[str], output: Output) -> StudyPlan:
    """Return a study's plan; own networks only where the user's own words name them too.

    Raises:
        UsageError: the file is wrong.
    """
    opened = open_plan(file, taught=data_dir is None)
    for name in own_networks(opened.arms):
        if name not in models:
            what = f"the study names the own network {name!r}"
            raise UsageError(what, where=str(file), hint=f"name it yourself: --model {name}")
    if data_dir is not None:
        output.talk("notice: no packaged teacher: it was trained on MNIST, not on --data-dir")
    return opened


def show(plan: StudyPlan, jobs: int, output: Output) -> None:
    """Show what a study would do."""
    from mnistcli.view.studyplan import show_plan

    described = describe_plan(plan, options.processor())
    show_plan(output, described, jobs)
    output.document({"plan": described, "jobs": jobs})


def show_recorded(plan: StudyPlan, output: Output) -> None:
    """Show what published records say of a study's arms."""
    found = recorded(plan, list(published()))
    if not found:
        raise ArtifactError("no record has a run of these arms", where=str(plan.path))
    show_kinds(output, plan.study.question, found)
    output.document({"question": plan.study.question, "recorded": found})


def print_arm(plan: StudyPlan, name: str, output: Output) -> None:
    """Print the whole recipe of an arm, as `train --recipe` reads it."""
    names = [arm.name for arm in plan.arms.all]
    if name not in names:
        raise UsageError(f"no arm {name!r}", hint=nearest(name, names))
    recipe = plan.arms.named(name).recipe
    output.product(recipe.to_yaml(commented=True).rstrip())
    output.document({"recipe": recipe.model_dump()})


def settle(
    folder: Path, output: Output, by_hand: tuple[str | None, str | None], name: str | None
) -> None:
    """Record a decision by hand, and write the chosen arm as a recipe."""
    arm, reason = by_hand
    if arm is not None:
        record.decide(folder, arm, reason or "")
        output.talk(f"notice: decided by hand: {arm}")
    found = record.read_record(folder)
    chosen, _ = freezing.chosen(found)
    written = None
    if name is not None:
        written = freezing.freeze(found, name)
        output.talk(f"notice: written {written}")
        for sentence in visits.sentences(visits.count(freezing.frozen_recipe(found))):
            output.talk(f"warning: {sentence}")
        output.talk(f"note: to test it: mnistcli train --recipe {written} --seeds 0-29 --final")
    values = {"arm": chosen, "recipe": written, "study": folder}
    output.result(plain_line("result", [Column(key, key) for key in values], values))
    output.document({"arm": chosen, "recipe": str(written), "decisions": found["decisions"]})


def run(
    plan: StudyPlan, terms: Terms, output: Output, max_restarts: int | None, *, alone: bool
) -> None:
    """Run a study to its answer, and show it."""
    if ranks.launched():
        _run_rank(plan, terms, output)
    elif alone:
        processes.say_if_alone(output.talk)
        _run_here(plan, terms, output)
        conclude(terms.out, output)
    else:
        _launch(plan, terms, output, max_restarts)


def conclude(folder: Path, output: Output) -> None:
    """Show the answer of a study from its folder, and write the document.

    Raises:
        SetError: it has none.
    """
    document = record.read_record(folder)
    if document["exit_code"] is None:
        raise SetError("the study has no answer yet", {}, exit_code=1, hint=_again())
    show_answer(output, document)
    if (fault := draw_study(folder, document, record.courses(document))) is not None:
        output.talk(f"notice: {fault}")
    output.document({"study": document})


def _run_here(plan: StudyPlan, terms: Terms, output: Output) -> None:
    from mnistcli.engine.ranks import Ranks
    from mnistcli.study.execution import run_study

    view = StudyView(output)
    try:
        with view:
            run_study(plan, terms, Ranks(), sink(view, plots=False), signals.flag)
        signals.flag.deferred = False
        if (signum := signals.flag()) is not None:
            raise Interrupted(signum)
    except Interrupted as stop:
        what = f"{stop.what}; {_progress(terms.out)}"
        raise Interrupted(stop.signum, what=what, hint=_again()) from None


def _run_rank(plan: StudyPlan, terms: Terms, output: Output) -> None:
    """Do one rank's part; the first one shows the study, and concludes where no parent does."""
    from mnistcli.study.execution import run_study

    place = ranks.here()
    view: Any = StudyView(output) if place.leads else None
    emit = sink(view, plots=False) if view is not None else _quiet_sink()
    ours = place.launch.startswith(processes.OURS)
    try:
        with view or nullcontext():
            run_study(plan, terms, place, emit, signals.flag)
    except Interrupted as stop:
        stop.hint = _again()
        raise
    except SetError:
        if not ours:
            raise
    signals.flag.deferred = False
    if place.leads and not ours:
        try:
            conclude(terms.out, output)
        except MnistcliError as fault:
            output.failure(fault)


def _quiet_sink() -> Any:
    keep = sink(None, plots=False)

    def emit(event: Any) -> None:
        defer(event)
        keep(event)

    return emit


def _launch(plan: StudyPlan, terms: Terms, output: Output, max_restarts: int | None) -> None:
    """Start this command line once more as ranks, and conclude when they are done."""
    from mnistcli.study.execution import begin

    words, name = list(sys.argv[1:]), elastic.launch_name()
    try:
        begin(plan, terms, lambda event: None, signals.flag)
    except Interrupted as stop:
        stop.hint = _again()
        raise
    elastic.start_ranks(
        name, terms.jobs, max_restarts, words, lambda: _progress(terms.out), again=_again()
    )
    document = known(terms.out) or {}
    if document.get("exit_code"):
        fault = next(row for row in document["rows"] if row["exit_code"] == document["exit_code"])
        what = f"arm {fault['arm']}, seed {fault['seed']}: {fault['error']}"
        raise SetError(what, {}, exit_code=document["exit_code"], hint=fault["hint"])
    conclude(terms.out, output)


def _progress(folder: Path) -> str:
    document = known(folder)
    return f"runs ended: {len(document['rows'])}" if document is not None else "no run has ended"


def _again() -> str:
    """Return the line that goes on, which is the same one."""
    return shlex.join(["mnistcli", *sys.argv[1:]])
