"""The live view: one transient bar, and finished epochs in the terminal's scrollback."""

from __future__ import annotations

from dataclasses import replace
from types import TracebackType
from typing import Any

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from mnistcli import __version__
from mnistcli.events import (
    BatchFinished,
    EpochFinished,
    Event,
    Notice,
    RowAdded,
    RunFinished,
    RunStarted,
)
from mnistcli.view import epochs
from mnistcli.view.epochs import EpochColumn
from mnistcli.view.output import Output, wrapped
from mnistcli.view.runset import news
from mnistcli.view.tables import fill
from mnistcli.view.text import escaped


class LiveView:
    """Event sink for a terminal; a context manager, since the bar must go at the end."""

    def __init__(self, output: Output) -> None:
        self._console = output.console()
        self._columns: list[EpochColumn] = []
        self._total_epochs = 0
        self._task: TaskID | None = None
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(compact=True),
            console=self._console,
            transient=True,
        )

    def __enter__(self) -> LiveView:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def __call__(self, event: Event) -> None:
        """Show one event."""
        match event:
            case Notice():
                self._say(event.text)
            case RowAdded():
                self._end_bar()
                if (text := news(event.row)) is not None:
                    self._say(text)
            case RunStarted():
                self._start(event)
            case BatchFinished():
                self._progress(event)
            case EpochFinished():
                self._print_row(epochs.row(event.metrics, event.epochs))
            case RunFinished():
                self._finish(event)

    def _start(self, event: RunStarted) -> None:
        for line in fill(epochs.headline(event, __version__), self._console.width, separator=" · "):
            self._console.print(escaped(line), style="bold", soft_wrap=True)
        self._console.print(f"run {event.run_dir}", soft_wrap=True)
        self._columns = self._fit(event)
        self._total_epochs = event.epochs
        titles = [column.title.rjust(column.width) for column in self._columns]
        self._console.print(Text(" ".join(titles), style="dim"), no_wrap=True, crop=True)
        for metrics in event.history:
            self._print_row(epochs.row(metrics, event.epochs))
        self._task = self._bar.add_task("starting", total=None, figures="")

    def _fit(self, event: RunStarted) -> list[EpochColumn]:
        """Choose the columns that this device fills and this terminal has room for."""
        absent = {"rss_mib"} if event.runtime["device"] != "cpu" else {"alloc_mib", "reserved_mib"}
        kept = [c for c in epochs.columns(event.split) if c.title and c.key not in absent]
        longest = len(f"{event.epochs}/{event.epochs}")
        kept[0] = replace(kept[0], width=max(longest, kept[0].width))
        room = self._console.width + 1  # the last column needs no gap
        while sum(c.width + 1 for c in kept) > room and any(c.rank for c in kept):
            kept.remove(max(reversed(kept), key=lambda column: column.rank))
        return kept

    def _print_row(self, values: dict[str, Any]) -> None:
        cells = [c.show(values[c.key]).rjust(c.width) for c in self._columns]
        self._console.print(Text(" ".join(cells)), no_wrap=True, crop=True)

    def _progress(self, event: BatchFinished) -> None:
        assert self._task is not None
        self._bar.update(
            self._task,
            description=f"epoch {event.epoch}/{self._total_epochs}",
            completed=(event.epoch - 1) * event.batches + event.batch,
            total=self._total_epochs * event.batches,
            figures=f"loss {event.train_loss:.4f} · {event.images_per_second:,.0f} img/s",
        )

    def _finish(self, event: RunFinished) -> None:
        self._end_bar()
        if event.stopped_early:
            self._say("stopped early: no improvement for --patience epochs")

    def _end_bar(self) -> None:
        if self._task is not None:
            self._bar.remove_task(self._task)
            self._task = None

    def _say(self, text: str) -> None:
        line = wrapped(escaped(f"notice: {text}"), self._console.width)
        self._console.print(line, style="magenta", soft_wrap=True)
