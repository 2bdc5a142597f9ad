"""The end of a run: the goal's table, a row a seed, and the result line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mnistcli.results.goal import Check, Limits
from mnistcli.results.result import summarise
from mnistcli.view.epochs import closing, sparkline
from mnistcli.view.output import Output
from mnistcli.view.tables import (
    Column,
    fill,
    interval,
    percent,
    plain_interval,
    plain_line,
    print_table,
    thousandths,
    whole_interval,
    whole_percent,
)

DISTILLED = "notice: distilled: a larger network taught it, beside the labels"
BIASED = "notice: the recipe's learning rate follows test accuracy: its figures are biased upwards"

GATE_NAMES = {
    "params": "parameters", "epochs": "epochs", "accuracy": "last epoch", "last3": "last 3 epochs",
}  # fmt: skip
_GOAL = [
    Column("gate", "goal", lambda v: GATE_NAMES[v], left=True),
    Column("need", "need", left=True),
    Column("got", "got", left=True),
    Column("verdict", "", left=True),
    Column(
        "interval",
        "95 % interval",
        lambda v: interval(v) if v else "",
        plain_interval,
        rank=1,
        left=True,
    ),
]
_SEEDS = [
    Column("seed", "seed"),
    Column("correct", "correct", lambda v: f"{v:,}"),
    Column("accuracy", "last epoch", percent, lambda v: f"{100 * v:.2f}"),
    Column("best", "best (picked)", percent, lambda v: f"{100 * v:.2f}", rank=1),
    Column("verdict", "goal", left=True),
    Column(
        "course",
        "accuracy by epoch",
        sparkline,
        lambda v: ",".join(map(str, v)),
        rank=2,
        left=True,
    ),
]


def show_results(
    output: Output,
    results: Sequence[dict[str, Any]],
    checks: Sequence[Sequence[Check]],
    limits: Limits,
) -> None:
    """Show one run's verdict, or several runs' table and summary, and what weakens the figures."""
    if len(results) == 1:
        show_goal(output, checks[0])
        _show_course(output, results[0])
    else:
        _show_seeds(output, results)
        show_summary(output, summarise(results, limits))
    for result in results:
        output.result(_result_line(result))
    show_caveats(output, results[0])


def show_summary(output: Output, summary: dict[str, Any]) -> None:
    """Show the statistics over several runs."""
    print_table(output, _SUMMARY, [summary], title="", kind="summary")


def show_caveats(output: Output, result: dict[str, Any]) -> None:
    """Say what weakens a run's figures."""
    if result["follows_test"]:
        output.talk(BIASED)
    if result.get("teacher_sha256") is not None:
        output.talk(DISTILLED)
    if result["split"] == "validation":
        output.talk(
            "notice: judged on the validation split; `mnistcli evaluate RUN` reads the test set"
        )


def show_goal(output: Output, checks: Sequence[Check]) -> None:
    """Show the verdict on each gate."""
    rows = [vars(check) | {"verdict": _word(check.passed)} for check in checks]
    print_table(output, _GOAL, rows, title="", kind="goal")


def _show_course(output: Output, result: dict[str, Any]) -> None:
    """Draw the accuracy by epoch on a terminal; a pipe has its epoch lines."""
    if output.live and not output.quiet:
        console = output.console()
        console.print()
        for line in fill(closing(result), console.width, separator="   "):
            console.print(line, soft_wrap=True)


_SUMMARY = [
    Column("n", "n"),
    Column("mean", "mean", thousandths, lambda v: f"{100 * v:.3f}"),
    Column("interval", "95 % interval", interval, lambda v: plain_interval(v, 3)),
    Column("sd", "sd", thousandths, lambda v: f"{100 * v:.3f}"),
    Column("min", "min", percent, lambda v: f"{100 * v:.2f}"),
    Column("above", "above target", whole_percent, lambda v: f"{100 * v:.1f}", rank=2),
    Column("above_interval", "its 95 % interval", whole_interval, plain_interval, rank=3),
    Column("passes", "passes"),
]


def _show_seeds(output: Output, results: Sequence[dict[str, Any]]) -> None:
    rows = [
        {
            "seed": result["seed"],
            "correct": result["last"]["correct"],
            "accuracy": result["last"]["accuracy"],
            "best": result["best"]["accuracy"],
            "verdict": result["goal"]["verdict"],
            "course": result["correct_by_epoch"],
        }
        for result in results
    ]
    print_table(output, _SEEDS, rows, title="", kind="seed")


def _result_line(result: dict[str, Any]) -> str:
    last = result["last"]
    values = {
        "verdict": result["goal"]["verdict"],
        "model": result["model"],
        "seed": result["seed"],
        "epochs": result["epochs_done"],
        "split": result["split"],
        "acc": f"{100 * last['accuracy']:.2f}",
        "correct": f"{last['correct']}/{last['total']}",
        "biased": "follows_test" if result["follows_test"] else None,
        "run": result["run"],
    }
    return plain_line("result", [Column(key, key) for key in values], values)


def _word(passed: bool | None) -> str:
    return {True: "PASS", False: "FAIL", None: "UNKNOWN"}[passed]
