"""A study as it runs and when it is answered: a table of arms on a terminal, lines in a pipe."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from mnistcli.events import EpochFinished, Event, Notice, RunStarted, StudyMoved
from mnistcli.view.output import Output
from mnistcli.view.studyplan import minutes, points
from mnistcli.view.tables import (
    Column,
    fitted,
    plain_interval,
    plain_line,
    print_table,
    thousandths,
)
from mnistcli.view.text import escaped

if TYPE_CHECKING:
    from rich.live import Live


def signed(share: float | None) -> str:
    """Return a difference of shares in points, with its sign."""
    return "–" if share is None else f"{100 * share:+.3f}"


def signed_interval(bounds: Sequence[float] | None) -> str:
    """Return the bounds of a difference in points."""
    return "–" if bounds is None else f"{100 * bounds[0]:+.3f} to {100 * bounds[1]:+.3f}"


def verdict(row: dict[str, Any]) -> str:
    """Return an arm's verdict in words."""
    word, more = row["verdict"] or "", row["more"]
    match word:
        case "ahead":
            return "ahead, not measured on fresh seeds"
        case "same":
            return "the same within the margin"
        case "failed":
            return f"failed {row['failed']} of {row['seeds']}"
        case "not told apart" if more:
            return f"not told apart: {more} more seed{'s' * (more > 1)} would"
    return str(word)


def _share(value: float) -> str:
    return f"{100 * value:.3f}"


def _probability(value: float | None) -> str:
    if value is None:
        return "–"
    return "< 0.0001" if value < 0.00005 else f"{value:.4f}"


def _plain_bounds(bounds: Sequence[float]) -> str:
    return plain_interval(bounds, 3)


COLUMNS = [
    Column("stage", "stage", left=True, rank=5),
    Column("arm", "arm", left=True),
    Column("runs", "seeds"),
    Column("mean", "mean", thousandths, _share),
    Column("sd", "sd", points, _share, rank=3),
    Column("difference", "Δ base", signed, signed),
    Column("difference_interval", "its interval", signed_interval, _plain_bounds, rank=1),
    Column("p", "p", _probability, "{:.3g}".format, rank=2),
    Column("loss", "loss", lambda v: "–" if v is None else f"{v:.4f}", "{:.5f}".format, rank=4),
    Column(
        "seconds_per_epoch",
        "s/epoch",
        lambda v: "–" if v is None else f"{v:.1f}",
        "{:.2f}".format,
        rank=4,
    ),
    Column("said", "", left=True),
]
_RUN = [Column(key, key) for key in ("done", "stage", "arm", "seed", "status", "acc", "correct",
                                     "loss", "sec_epoch", "rank", "left", "exit_code", "error",
                                     "run")]  # fmt: skip


def to_rows(table: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a study's rows with what is shown in words beside the figures."""
    return [
        row | {"runs": f"{row['n']}/{row['seeds']}", "said": verdict(row)}
        for row in table
    ]  # fmt: skip


class StudyView:
    """Event sink of a study's first rank; a context manager, since the table must go at the end."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._live: Live | None = None
        self._moved: StudyMoved | None = None
        self._training = ""

    def __enter__(self) -> StudyView:
        if self._output.live and not self._output.quiet:
            from rich.live import Live

            console = self._output.console()
            self._live = Live(console=console, transient=True, auto_refresh=False)
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def __call__(self, event: Event) -> None:
        """Show one event."""
        match event:
            case Notice():
                self._output.talk(f"notice: {event.text}")
            case StudyMoved():
                self._moved = event
                if self._live is None:
                    self._print(event)
            case RunStarted():
                self._training = f"{'/'.join(event.run_dir.split('/')[-2:])} of {event.model}"
            case EpochFinished():
                name = "/".join(event.run_dir.split("/")[-2:])
                self._training = f"{name}, epoch {event.metrics.epoch} of {event.epochs}"
            case _:
                return
        self._draw()

    def _draw(self) -> None:
        if self._live is None or self._moved is None:
            return
        from rich.console import Group
        from rich.text import Text

        moved, width = self._moved, self._live.console.width
        shown = [column for column in COLUMNS if column.key != "stage"]
        left = "" if moved.seconds_left is None else f" · {minutes(moved.seconds_left)} left"
        training = f" · {self._training}" if self._training else ""
        line = f"{moved.stage} · {moved.done} of {moved.runs} runs{left}{training}"
        table = fitted(shown, to_rows(moved.table), "", width)
        cut = Text(escaped(line), no_wrap=True, overflow="ellipsis")
        self._live.update(Group(table, cut), refresh=True)

    def _print(self, event: StudyMoved) -> None:
        if self._output.progress == "none":
            return
        if event.row is None:
            values = {"name": event.stage, "arms": len(event.table),
                      "done": f"{event.done}/{event.runs}", "folder": event.folder}  # fmt: skip
            columns = [Column(key, key) for key in values]
            self._output.product(plain_line("stage", columns, values))
            return
        self._output.product(plain_line("run", _RUN, _plain(event)))


def _plain(event: StudyMoved) -> dict[str, Any]:
    """Return the row of a run that is over as a pipe gets it."""
    assert event.row is not None
    row = event.row | {"done": f"{event.done}/{event.runs}", "stage": event.stage}
    if event.seconds_left is not None:
        row["left"] = f"{event.seconds_left:.0f}"
    if row["exit_code"]:
        return row
    return row | {
        "exit_code": None,
        "acc": f"{100 * row['accuracy']:.2f}",
        "correct": f"{row['correct']}/{row['total']}",
        "sec_epoch": f"{row['seconds_per_epoch']:.1f}",
    }


def show_answer(output: Output, document: dict[str, Any]) -> None:
    """Print each stage's table, what it comes to in words, and the result line."""
    if output.live and not output.quiet:
        output.console().print(escaped(document["question"]), style="bold")
    for table in document["stages"]:
        title = table[0]["stage"] if len(document["stages"]) > 1 else ""
        print_table(output, COLUMNS, to_rows(table), title=title, kind="arm")
    for sentence in sentences(document):
        output.talk(f"note: {sentence}")
    found = document["answer"]
    values = {
        "winner": found["winner"],
        "better": "yes" if found["better"] else "no",
        "leader": found["leader"],
        "shrunk": None if found["shrunk"] is None else f"{100 * found['shrunk']:.3f}",
        "runs": len(document["rows"]),
        "registration": document["registration_sha256"][:12],
        "study": document["folder"],
    }
    output.result(plain_line("result", [Column(key, key) for key in values], values))


def show_kinds(output: Output, question: str, kinds: Sequence[dict[str, Any]]) -> None:
    """Print what records say of a study's arms, a table for each kind of machine."""
    if output.live and not output.quiet:
        output.console().print(escaped(question), style="bold")
    for kind in kinds:
        title = "; ".join(kind["machines"])
        print_table(output, COLUMNS, to_rows(kind["table"]), title=title, kind="arm")
        if not output.live:
            output.talk(f"note: {len(kind['table'])} arms on {title}")
    rows = [row for kind in kinds for row in kind["table"]]
    values = {"arms": len(rows), "runs": sum(row["n"] for row in rows)}
    output.result(plain_line("result", [Column(key, key) for key in values], values))


def sentences(document: dict[str, Any]) -> list[str]:
    """Return in words what was found, and what weakens it."""
    found, said = document["answer"], []
    if found["better"]:
        said.append(f"{found['winner']} is better than {found['base']}: shown on seeds that no "
                    "choice was made on")  # fmt: skip
    else:
        said.append(f"no arm is shown to be better than {found['base']}")
    if found["leader"] is not None:
        raw, shrunk = thousandths(found["leader_mean"]), thousandths(found["shrunk"])
        owed = points(found["flattery"])
        said.append(
            f"of the challengers {found['leader']} had the highest mean, {raw}; as the best of "
            f"several it may owe {owed} points to that: {shrunk}"
        )
    apart = [row["arm"] for table in document["stages"] for row in table if row["apart"]]
    if apart:
        said.append(f"runs of another device, precision or code path are left out: "
                    f"{', '.join(dict.fromkeys(apart))}")  # fmt: skip
    late = {arm: text for arm, text in document["claims"].items() if "after" in text}
    said += [f"{arm}: {text}" for arm, text in late.items()]
    said += [f"decided by hand: {one['arm']}, {one['reason']}" for one in document["decisions"]]
    return said
