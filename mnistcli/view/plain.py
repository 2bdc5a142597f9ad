"""The plain view: one self-contained ASCII key=value line per event, flushed, never wrapped."""

from __future__ import annotations

from types import TracebackType

from mnistcli import __version__
from mnistcli.events import (
    EpochFinished,
    EpochMetrics,
    Event,
    Notice,
    RowAdded,
    RunFinished,
    RunStarted,
)
from mnistcli.view import epochs
from mnistcli.view.output import Output
from mnistcli.view.runset import news
from mnistcli.view.tables import Column, plain_line

_STARTED = [
    Column(key, key)
    for key in ("version", "model", "parameters", "device", "device_name", "precision", "compiled",
                "threads", "seed", "recipe", "changes", "optimizer", "teacher", "train_images",
                "split", "run")
]  # fmt: skip


class PlainView:
    """Event sink for pipes and files; with `epoch_lines` off it shows notices only."""

    def __init__(self, output: Output, *, epoch_lines: bool = True) -> None:
        self._output = output
        self._epoch_lines = epoch_lines

    def __enter__(self) -> PlainView:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None

    def __call__(self, event: Event) -> None:
        """Show one event; progress inside an epoch is for terminals only."""
        if isinstance(event, Notice):
            self._output.talk(f"notice: {event.text}")
        if isinstance(event, RowAdded) and (text := news(event.row)) is not None:
            self._output.talk(f"notice: {text}")
        if not self._epoch_lines:
            return
        match event:
            case RunStarted():
                self._start(event)
            case EpochFinished():
                self._epoch(event.metrics, event.epochs)
            case RunFinished(stopped_early=True):
                self._output.talk("notice: stopped early: no improvement for --patience epochs")

    def _start(self, event: RunStarted) -> None:
        values = vars(event) | event.runtime | {"version": __version__, "run": event.run_dir}
        values |= {"changes": " ".join(event.changes) or None}
        self._output.product(plain_line("start", _STARTED, values))
        for metrics in event.history:
            self._epoch(metrics, event.epochs)

    def _epoch(self, metrics: EpochMetrics, total: int) -> None:
        values = epochs.row(metrics, total)
        self._output.product(plain_line("", epochs.columns(metrics.split), values))
