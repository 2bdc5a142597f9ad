"""Where the events of runs go: to the stop flag, the run's files, the view, and its pictures."""

from __future__ import annotations

from mnistcli.cli import signals
from mnistcli.events import BatchFinished, Emit, Event, Notice, RunRecorded
from mnistcli.results.runlog import record
from mnistcli.view.run import draw_run


def sink(view: Emit | None, *, plots: bool) -> Emit:
    """Return what a run emits to; from its first batch on signals wait for an epoch's end."""

    def emit(event: Event) -> None:
        defer(event)
        record(event)
        fault = draw_run(event) if plots and isinstance(event, RunRecorded) else None
        if view is not None:
            view(event)
            if fault is not None:
                view(Notice(fault))

    return emit


def defer(event: Event) -> None:
    """Let signals set the flag only, once there is something unsaved."""
    signals.flag.deferred |= isinstance(event, BatchFinished)
