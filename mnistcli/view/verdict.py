"""The end of a run: the goal's table, a row for each seed, and the result line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mnistcli.results.goal import Check
from mnistcli.view.epochs import closing, sparkline
from mnistcli.view.output import Output
from mnistcli.view.tables import (
    Column,
    fill,
    integer,
    interval,
    percent,
    plain_interval,
    plain_line,
    print_table,
    thousandths,
    whole_interval,
    whole_percent,
)
from mnistcli.view.text import escaped

DISTILLED = "notice: distilled: it learned from a larger network too, not from the labels alone"
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
    Column("correct", "correct", integer),
    Column("accuracy", "last epoch", percent, lambda v: f"{100 * v:.2f}"),
    Column("best", "best (picked)", percent, lambda v: f"{100 * v:.2f}", rank=1),
    Column("verdict", "goal", left=True),
    Column("exit_code", "exit code", lambda v: str(v or "")),
    Column("error", ""),  # on a terminal below the table
    Column(
        "course",
        "accuracy by epoch",
        lambda v: sparkline(v) if v else "",
        lambda v: ",".join(map(str, v)),
        rank=2,
        left=True,
    ),
]


def show_result(output: Output, result: dict[str, Any], checks: Sequence[Check]) -> None:
    """Show one run's verdict, and what weakens its figures."""
    show_goal(output, checks)
    _show_course(output, result)
    output.result(_result_line(result))
    show_caveats(output, result)


def show_runs(output: Output, runs: Sequence[dict[str, Any]]) -> None:
    """Show one row per seed; `runs` are results, or rows of a set's record without one."""
    rows = [_seed_row(run) for run in runs]
    columns = [column for column in _SEEDS if column.title or not output.live]
    print_table(output, columns, rows, title="", kind="seed")
    for row in rows:
        if row.get("error") and output.live and not output.quiet:
            text = f"seed {row['seed']} has no result: {row['error']}"
            output.console().print(escaped(text), style="red", soft_wrap=True)


def show_result_lines(output: Output, runs: Sequence[dict[str, Any]], model: str) -> None:
    """Write a result line for each run, with a result or without."""
    for run in runs:
        output.result(_result_line(run) if "last" in run else _failure_line(run, model))


def show_summary(output: Output, summary: dict[str, Any]) -> None:
    """Show the statistics over several runs."""
    shown = summary | {"failed": summary.get("failed") or None}
    print_table(output, _SUMMARY, [shown], title="", kind="summary")


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
    Column("failed", "without result"),
    Column("mean", "mean", thousandths, lambda v: f"{100 * v:.3f}"),
    Column("interval", "95 % interval", interval, lambda v: plain_interval(v, 3)),
    Column("sd", "sd", thousandths, lambda v: f"{100 * v:.3f}"),
    Column("min", "min", percent, lambda v: f"{100 * v:.2f}"),
    Column("above", "above target", whole_percent, lambda v: f"{100 * v:.1f}", rank=2),
    Column("above_interval", "its 95 % interval", whole_interval, plain_interval, rank=3),
    Column("passes", "passes"),
]


def _seed_row(run: dict[str, Any]) -> dict[str, Any]:
    if "last" not in run:
        return {key: run[key] for key in ("seed", "exit_code", "error")} | {"verdict": "FAIL"}
    return {
        "seed": run["seed"],
        "correct": run["last"]["correct"],
        "accuracy": run["last"]["accuracy"],
        "best": run["best"]["accuracy"],
        "verdict": run["goal"]["verdict"],
        "course": run["correct_by_epoch"],
    }


def _failure_line(row: dict[str, Any], model: str) -> str:
    values = {"verdict": "FAIL", "model": model} | {
        key: row[key] for key in ("seed", "exit_code", "error", "run")
    }
    return plain_line("result", [Column(key, key) for key in values], values)


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
