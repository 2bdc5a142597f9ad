"""Show an evaluation: figures, classes, confusion, worst pairs."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from mnistcli.results.goal import Check
from mnistcli.view.output import Output
from mnistcli.view.tables import Column, integer, interval, percent, plain_line, print_table
from mnistcli.view.verdict import BIASED, show_goal


def _plain_percent(share: float) -> str:
    return f"{100 * share:.2f}"


_FIGURES = [
    Column("model", "model", left=True),
    Column("split", "split", left=True),
    Column("accuracy", "accuracy", percent, _plain_percent),
    Column("correct", "correct", integer),
    Column("total", "of", integer),
    Column(
        "interval",
        "95 % interval",
        interval,
        lambda v: f"{100 * v[0]:.2f}..{100 * v[1]:.2f}",
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


def show_evaluation(output: Output, report: dict[str, Any], checks: Sequence[Check]) -> None:
    """Show every part of an evaluation's report."""
    print_table(output, _CLASSES, report["classes"], title="", kind="class")
    _show_confusion(output, report["confusion"])
    print_table(output, _PAIRS, report["worst_pairs"], title="worst pairs", kind="confused")
    print_table(output, _FIGURES, [report], title="", kind="evaluation")
    show_goal(output, checks)
    last = {**report, "verdict": report["goal"]["verdict"]}
    keys = ("verdict", "model", "split", "correct", "total", "picked_on", "path")
    output.result(plain_line("result", [Column(key, key) for key in keys], last))
    if not report["trained_on_this_data"]:
        output.talk("notice: evaluated on other data than it was trained on (see --data-dir)")
    if report["follows_test"]:
        output.talk(BIASED)


def predictions_csv(
    labels: Sequence[int], predictions: Sequence[int], confidences: Sequence[float]
) -> str:
    """Return one CSV row a picture: index, label, prediction, its probability."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["index", "label", "prediction", "confidence"])
    rows = zip(labels, predictions, confidences, strict=True)
    writer.writerows((index, *row) for index, row in enumerate(rows))
    return text.getvalue()


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
        line = Text(f"{digit:>5}", style="dim")
        for predicted, count in enumerate(row):
            line.append(f"{count or '·':>6}", style=_heat(count, most, digit == predicted))
        console.print(line)
    console.print()


def _heat(count: int, most: int, diagonal: bool) -> str:
    if diagonal:
        return "green"
    if not count:
        return "dim"
    return "bold red" if 2 * count > most else "yellow"
