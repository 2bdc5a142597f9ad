"""Show what `train` would do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mnistcli.results.figures import code_path
from mnistcli.results.goal import Check
from mnistcli.view.epochs import threads_text
from mnistcli.view.output import Output
from mnistcli.view.tables import Column, integer, plain_line
from mnistcli.view.verdict import show_goal

_PLAN = [
    Column(key, key)
    for key in ("model", "parameters", "mult_adds", "recipe", "changes", "optimizer", "teacher",
                "epochs", "batch_size", "steps_per_epoch", "steps", "train_images",
                "evaluation_images", "split", "data", "device", "device_name", "threads",
                "precision", "compiled")
]  # fmt: skip
_RUN = [Column(key, key) for key in ("seed", "state", "epochs_done", "run")]


def show_dry_run(output: Output, report: dict[str, Any], checks: Sequence[Check]) -> None:
    """Show the plan, each run's folder, and the gates that are decided already."""
    if output.live and not output.quiet:
        _draw(output, report)
    else:
        values = report | report["runs"][0]["runtime"]
        values |= {"changes": " ".join(report["changes"])}
        output.product(plain_line("plan", _PLAN, values))
        for run in report["runs"]:
            output.product(plain_line("run", _RUN, run))
    show_goal(output, checks)
    output.talk("notice: a dry run: nothing was trained or written")
    count = len(report["runs"])
    output.result(f"result dry_run=ok model={report['model']} runs={count} steps={report['steps']}")


def _draw(output: Output, report: dict[str, Any]) -> None:
    """Print what would be done as names and values; paths are never broken."""
    runtime, console = report["runs"][0]["runtime"], output.console()
    changed = f" (changed: {', '.join(report['changes'])})" if report["changes"] else ""
    on_cpu = runtime["device"] == "cpu"
    threads = f", {threads_text(runtime['threads'])}" if on_cpu else ""
    reason = f": {runtime['compile_reason']}" if runtime["compile_reason"] else ""
    lines = {
        "model": f"{report['model']}, {integer(report['parameters'])} parameters, "
        f"{integer(report['mult_adds'])} mult-adds",
        "recipe": report["recipe"] + changed,
        "optimizer": report["optimizer"],
        "teacher": report["teacher"] or "none: the labels alone",
        "epochs": f"{integer(report['epochs'])} of {integer(report['steps_per_epoch'])} steps "
        f"of {integer(report['batch_size'])} pictures: {integer(report['steps'])} steps",
        "pictures": f"{integer(report['train_images'])} to train, "
        f"{integer(report['evaluation_images'])} to evaluate ({report['split']})",
        "device": f"{runtime['device']} {runtime['device_name']}, {runtime['precision']}{threads}",
        "compile": code_path(runtime) + reason,
    }
    for name, value in lines.items():
        console.print(f"{name:<9} {value}", soft_wrap=True)
    for run in report["runs"]:
        done = f" after epoch {run['epochs_done']}" if run["epochs_done"] else ""
        console.print(f"seed {run['seed']:<4} {run['state']}{done}: {run['run']}", soft_wrap=True)
