"""Show an evaluation: figures, classes, confusion, worst pairs."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from mnistcli.events import Mistake
from mnistcli.results.goal import Check
from mnistcli.view import digits
from mnistcli.view.output import Output
from mnistcli.view.tables import (
    Column,
    integer,
    interval,
    percent,
    plain_interval,
    plain_line,
    print_table,
)
from mnistcli.view.verdict import BIASED, DISTILLED, show_goal


def _plain_percent(share: float) -> str:
    return f"{100 * share:.2f}"


_FIGURES = [
    Column("model", "model", left=True),
    Column("split", "split", left=True),
    Column("precision", "precision", left=True, rank=4),
    Column("accuracy", "accuracy", percent, _plain_percent),
    Column("correct", "correct", integer),
    Column("total", "of", integer),
    Column(
        "interval",
        "95 % interval",
        interval,
        plain_interval,
        rank=1,
    ),
    Column("loss", "loss", "{:.4f}".format, "{:.4f}".format, rank=2),
    Column("epoch", "epoch", rank=3),
    Column("picked_on", "picked on", rank=2),
]
_CLASSES = [
    Column("digit", "digit"),
    Column("pictures", "pictures", integer),
    Column("correct", "correct", integer),
    Column("precision", "precision", percent, _plain_percent),
    Column("recall", "recall", percent, _plain_percent),
    Column("f1", "F1", percent, _plain_percent),
]
_PAIRS = [Column("true", "true"), Column("predicted", "read as"), Column("count", "times")]
_MISTAKES = [
    Column("index", "index"),
    Column("true", "true"),
    Column("predicted", "read as"),
    Column("confidence", "confidence", plain="{:.4f}".format),
]
_DRAWN_ROWS = 2  # of misread pictures on a terminal; the PNG sheet has more of them


def show_evaluation(
    output: Output, report: dict[str, Any], checks: Sequence[Check], mistakes: Sequence[Mistake]
) -> None:
    """Show every part of an evaluation's report."""
    print_table(output, _CLASSES, report["classes"], title="", kind="class")
    _show_confusion(output, report["confusion"])
    print_table(output, _PAIRS, report["worst_pairs"], title="worst pairs", kind="confused")
    _show_mistakes(output, report, mistakes)
    print_table(output, _FIGURES, [report], title="", kind="evaluation")
    show_goal(output, checks)
    last = {**report, "verdict": report["goal"]["verdict"]}
    keys = ("verdict", "model", "split", "correct", "total", "picked_on", "path")
    output.result(plain_line("result", [Column(key, key) for key in keys], last))
    if not report["trained_on_this_data"]:
        output.talk("notice: evaluated on other data than it was trained on (see --data-dir)")
    if report["follows_test"]:
        output.talk(BIASED)
    if report["distilled"]:
        output.talk(DISTILLED)


def predictions_csv(
    labels: Sequence[int], predictions: Sequence[int], confidences: Sequence[float]
) -> str:
    """Return one CSV row per picture: index, label, prediction, its probability."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["index", "label", "prediction", "confidence"])
    rows = zip(labels, predictions, confidences, strict=True)
    writer.writerows((index, *row) for index, row in enumerate(rows))
    return text.getvalue()


def _show_mistakes(output: Output, report: dict[str, Any], mistakes: Sequence[Mistake]) -> None:
    """Draw the surest mistakes on a terminal; a pipe gets one line for each."""
    if not output.live or output.quiet:
        for row in report["misclassified"] if not output.json else ():
            output.product(plain_line("misclassified", _MISTAKES, row))
        return
    if not mistakes:
        return
    console = output.console()
    box = digits.ink_box([one.pixels for one in mistakes[:60]])
    shown = mistakes[: _DRAWN_ROWS * digits.across(console, box)]
    captions = [
        f"{one.label}→{one.prediction}  {100 * one.confidence:.0f} %  #{one.index}" for one in shown
    ]
    console.print(
        f"\nmisclassified, true→read as: the {len(shown)} surest of {len(mistakes):,}\n",
        style="bold",
    )
    digits.print_sheet(console, [one.pixels for one in shown], captions, box)


def _show_confusion(output: Output, matrix: Sequence[Sequence[int]]) -> None:
    """Draw the matrix on a terminal, errors coloured by their count; `row` lines in a pipe."""
    if output.quiet or output.json:
        return
    if not output.live:
        for digit, row in enumerate(matrix):
            output.product(f"confusion true={digit} counts={','.join(map(str, row))}")
        return
    from rich.text import Text

    console = output.console()
    console.print("\nconfusion: rows true, columns read as", style="bold")
    console.print(
        Text("     " + "".join(f"{digit:>6}" for digit in range(len(matrix))), style="dim")
    )
    most = max(
        (count for i, row in enumerate(matrix) for j, count in enumerate(row) if i != j), default=0
    )
    for digit, row in enumerate(matrix):
        line = Text().append(f"{digit:>5}", style="dim")
        for predicted, count in enumerate(row):
            line.append(f"{count or '·':>6}", style=_heat(count, most, digit == predicted))
        console.print(line)


def _heat(count: int, most: int, diagonal: bool) -> str:
    if diagonal:
        return "bold"
    if not count:
        return "dim"
    # Both colours are set, so that the words stay readable on a dark and on a light terminal.
    return "bold white on red" if 2 * count > most else "black on yellow"
