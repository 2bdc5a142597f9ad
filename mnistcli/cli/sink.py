"""Where the events of runs go: to the stop flag, the run's files, the view, and its pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mnistcli import sinks
from mnistcli.cli import signals
from mnistcli.events import (
    BatchFinished,
    Emit,
    EpochFinished,
    Event,
    Notice,
    RunRecorded,
    RunStarted,
)
from mnistcli.results.runlog import record
from mnistcli.view.progress import draw_run


def sink(view: Emit | None, *, plots: bool, quiet: bool = False, logs: Sequence[str] = ()) -> Emit:
    """Return what a run emits to; from its first batch on signals wait for an epoch's end.

    `quiet` also hides the answer to a first signal; `logs` names the other logs.

    Raises:
        UsageError, EnvironmentFault: there is no log of a name, or what it needs is missing.
    """

    slower = _watch()
    log = sinks.guarded(sinks.open_sinks(logs), view or (lambda event: None))

    def emit(event: Event) -> None:
        defer(event)
        record(event)
        log(event)
        fault = draw_run(event) if plots and isinstance(event, RunRecorded) else None
        if view is not None:
            said = None if quiet else _finishing(event)
            signals.flag.finishing = said or signals.flag.finishing
            view(event)
            for notice in (fault, slower(event)):
                if notice is not None:
                    view(Notice(notice))

    return emit


def _finishing(event: Event) -> str | None:
    """Return what a first signal leaves to be finished from this event on."""
    match event:
        case BatchFinished() if event.batch == event.batches:
            return f"finishing epoch {event.epoch}"
        case BatchFinished():
            return f"finishing the batch; epoch {event.epoch} will be trained again when resumed"
        case EpochFinished():
            return f"finishing the batch; everything up to epoch {event.metrics.epoch} is saved"
    return None


def _watch() -> Callable[[Event], str | None]:
    """Return what tells, once per run, that other processes began to use its cores."""
    threads, earlier = 1, 0.0

    def slower(event: Event) -> str | None:
        nonlocal threads, earlier
        if isinstance(event, RunStarted):
            on_cpu = event.runtime["device"] == "cpu"
            threads, earlier = event.runtime["threads"] if on_cpu else 1, 0.0
        if not isinstance(event, EpochFinished):
            return None
        before, earlier = earlier, event.metrics.images_per_second
        if threads == 1 or 2 * earlier >= before:
            return None
        threads = 1  # said once
        return (
            f"epoch {event.metrics.epoch} ran at {earlier / before:.0%} of the speed of the one "
            "before: if other processes use the cores, --threads 1 loses least"
        )

    return slower


def defer(event: Event) -> None:
    """Let signals set the flag only, once there is something unsaved."""
    signals.flag.deferred |= isinstance(event, BatchFinished)
