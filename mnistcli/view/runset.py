"""A set of runs as its first rank sees it: a line or a table row for each run that is over."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from mnistcli import __version__
from mnistcli.events import Event, Notice, RowAdded, SetStarted
from mnistcli.results.figures import code_path
from mnistcli.results.goal import Check, verdict
from mnistcli.view.output import Output
from mnistcli.view.tables import Column, integer, percent, plain_line
from mnistcli.view.text import escaped
from mnistcli.view.verdict import (
    show_caveats,
    show_goal,
    show_result_lines,
    show_runs,
    show_summary,
)

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_STARTED = [
    Column(key, key)
    for key in ("version", "model", "runs", "done", "ranks", "restarts", "device", "device_name",
                "precision", "compiled", "threads", "recipe", "changes", "optimizer", "teacher",
                "set")
]  # fmt: skip
_PLAIN = [
    Column(key, key)
    for key in ("done", "seed", "status", "epochs", "split", "acc", "correct", "best", "verdict",
                "sec_epoch", "rank", "exit_code", "error", "run")
]  # fmt: skip
_DRAWN = [
    (8, Column("done", "runs")),
    (6, Column("seed", "seed")),
    (7, Column("epochs", "epochs", integer)),
    (12, Column("accuracy", "last epoch", percent)),
    (9, Column("correct", "correct", integer)),
    (15, Column("best", "best (picked)", percent)),
    (9, Column("seconds_per_epoch", "s/epoch", lambda v: "–" if v is None else f"{v:.1f}")),
    (5, Column("rank", "rank")),
    (8, Column("verdict", "goal")),
]


class SetView:
    """Event sink of the first rank; a context manager, since the bar must go at the end.

    `lines` off shows notices only.
    """

    def __init__(self, output: Output, *, lines: bool) -> None:
        self._output = output
        self._lines = lines
        self._drawn = output.live and not output.quiet
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> SetView:
        if self._drawn:
            self._bar = _bar(self._output)
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, event: Event) -> None:
        """Show one event; what happens inside a run stays in its folder."""
        match event:
            case Notice():
                self._output.talk(f"notice: {event.text}")
            case SetStarted() if self._lines:
                self._start(event)
            case RowAdded() if self._lines:
                self._record(event)

    def _start(self, event: SetStarted) -> None:
        values = vars(event) | event.runtime | {"version": __version__, "set": event.folder}
        values |= {"changes": " ".join(event.changes) or None, "done": event.done or None}
        values |= {"restarts": event.restarts or None}
        if self._bar is None:
            self._output.product(plain_line("set", _STARTED, values))
            return
        console = self._bar.console
        console.print(escaped(_headline(event)), style="bold")
        console.print(f"set {event.folder}", soft_wrap=True)
        titles = "".join(column.title.rjust(width) for width, column in _DRAWN)
        console.print(titles, style="dim", no_wrap=True, crop=True)
        self._task = self._bar.add_task("runs", total=event.runs, completed=event.done)

    def _record(self, event: RowAdded) -> None:
        row = event.row | {"done": f"{event.done}/{event.runs}"}
        if self._bar is None:
            self._output.product(plain_line("run", _PLAIN, _plain(row)))
            return
        shown = _DRAWN[:2] if row["exit_code"] else _DRAWN
        text = "".join(column.show(row[column.key]).rjust(width) for width, column in shown)
        if row["exit_code"]:
            text += f"  no result, exit code {row['exit_code']}: {row['error']}"
        style = "red" if row["exit_code"] else None
        self._bar.console.print(escaped(text), style=style, no_wrap=True, overflow="ellipsis")
        assert self._task is not None
        self._bar.update(self._task, completed=event.done)


def show_set(
    output: Output,
    document: dict[str, Any],
    results: Sequence[dict[str, Any]],
    checks: Sequence[Sequence[Check]],
    *,
    each: bool,
) -> None:
    """Show a set's end: statistics over its runs, what weakens them, and the result line.

    `each` shows a row for each run, and has a result line for each: nothing else has told of them.
    """
    known = {result["seed"]: result for result in results}
    runs = [known.get(row["seed"], row) for row in document["rows"]]
    if each:
        show_runs(output, runs)
    if len(document["seeds"]) == 1 and results:
        show_goal(output, checks[0])
    elif results:
        show_summary(output, document["summary"])
    if each:
        show_result_lines(output, runs, document["model"])
    else:
        output.result(_result_line(document, results, checks))
    if results:
        show_caveats(output, results[0])


def _result_line(
    document: dict[str, Any],
    results: Sequence[dict[str, Any]],
    checks: Sequence[Sequence[Check]],
) -> str:
    verdicts = {verdict(one) for one in checks}
    whole = len(results) == len(document["seeds"])
    undecided = "UNKNOWN" if "UNKNOWN" in verdicts else "PASS"
    values = {
        "verdict": undecided if whole and "FAIL" not in verdicts else "FAIL",
        "runs": f"{len(results)}/{len(document['seeds'])}",
        "passes": sum(verdict(one) == "PASS" for one in checks),
        "mean": f"{100 * document['summary']['mean']:.3f}" if results else None,
        "exit_code": document["exit_code"],
        "set": document["path"],
    }
    return plain_line("result", [Column(key, key) for key in values], values)


def news(row: dict[str, Any]) -> str | None:
    """Return what a view that shows epochs says of a run that is over, where they do not tell."""
    if row["exit_code"]:
        return f"seed {row['seed']} has no result (exit code {row['exit_code']}): {row['error']}"
    return f"already finished: {row['run']}" if row["status"] == "kept" else None


def _headline(event: SetStarted) -> str:
    chosen = event.runtime
    changes = f" (changed: {', '.join(event.changes)})" if event.changes else ""
    number = chosen["threads"]
    threads = f" · {number} thread{'s' * (number > 1)} a rank" if chosen["device"] == "cpu" else ""
    taught = f" · taught by {event.teacher}" if event.teacher else ""
    restarts = f" · restart {event.restarts}" if event.restarts else ""
    return (
        f"mnistcli {__version__} · {event.model} · {_count(event.runs, 'run')} on "
        f"{_count(event.ranks, 'rank')} · "
        f"{chosen['device_name']}{threads} · {chosen['precision']} · {code_path(chosen)} · "
        f"recipe {event.recipe}{changes} · optimizer {event.optimizer}{taught}{restarts}"
    )


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row's values as a pipe gets them."""
    if row["exit_code"]:
        return row
    return row | {
        "exit_code": None,
        "acc": f"{100 * row['accuracy']:.2f}",
        "best": f"{100 * row['best']:.2f}",
        "correct": f"{row['correct']}/{row['total']}",
        "sec_epoch": f"{row['seconds_per_epoch']:.1f}",
    }


def _bar(output: Output) -> Progress:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeElapsedColumn as Elapsed

    columns = (
        TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(), Elapsed(),
    )  # fmt: skip
    return Progress(*columns, console=output.console(), transient=True)
