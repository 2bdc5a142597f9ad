"""The record of a finished run: one dict that result.json, the records and `compare` share."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, median, stdev
from typing import TYPE_CHECKING, Any

from mnistcli.events import EpochMetrics
from mnistcli.results.goal import Check, Limits, judge_result, to_dicts, verdict
from mnistcli.results.stats import mean_interval, wilson

if TYPE_CHECKING:
    from mnistcli.recipe import Recipe

SCHEMA = 1


def accuracy_dict(correct: int, total: int) -> dict[str, Any]:
    """Return counts, share and its 95 % Wilson interval."""
    return {
        "correct": correct,
        "total": total,
        "accuracy": correct / total,
        "interval": list(wilson(correct, total)),
    }


def code_path(runtime: dict[str, Any]) -> str:
    """Return in a word how a stored runtime trains: eager, compiled, or on CUDA recorded."""
    if not runtime["compiled"]:
        return "eager"
    return "compiled" if runtime["device"] == "cpu" else "recorded"


def of_history(history: Sequence[EpochMetrics]) -> dict[str, Any]:
    """Return the figures of a run: the last epoch's first, the best epoch labelled."""
    last = history[-1]
    best = next(m for m in history if m.eval_correct == last.best_correct)
    return {
        "epochs_done": len(history),
        "split": last.split,
        "last": accuracy_dict(last.eval_correct, last.eval_total) | {"loss": last.eval_loss},
        "best": accuracy_dict(best.eval_correct, best.eval_total)
        | {"epoch": best.epoch, "picked_on": last.split},
        "correct_by_epoch": [m.eval_correct for m in history],
        "train_accuracy": last.train_correct / last.train_total,
        "images_per_second": median(m.images_per_second for m in history),
        "seconds_per_epoch": median(m.train_seconds + m.eval_seconds for m in history),
        "memory_mib": {
            "allocated": last.allocated_mib,
            "reserved": last.reserved_mib,
            "rss": last.rss_mib,
        },
    }


def follows_test(recipe: Recipe) -> bool:
    """Return whether training read test figures, as the plateau schedule of `baseline` does."""
    return getattr(recipe.schedule, "split", None) == "test"


def build(
    recipe: Recipe, name: str, changes: Sequence[str], history: Sequence[EpochMetrics]
) -> dict[str, Any]:
    """Return the part of a result that recipe and history decide."""
    return {
        "schema": SCHEMA,
        "model": recipe.model,
        "recipe": name,
        "changes": list(changes),
        "recipe_digest": recipe.digest(),
        "recipe_values": recipe.model_dump(),
        "seed": recipe.seed,
        "epochs": recipe.epochs,
        "batch_size": recipe.batch_size,
        "follows_test": follows_test(recipe),
        **of_history(history),
    }


def summarise(
    results: Sequence[dict[str, Any]], limits: Limits, *, failed: int = 0
) -> dict[str, Any]:
    """Return mean, 95 % interval, n, sd and least of the last epochs' accuracies, and the passes.

    The interval is Student's from three runs on, Wilson's over pictures for a single one, None for
    two. `gates` counts the runs that pass each gate, `passes` those that pass all. `failed` runs
    have no result, and pass none: `above` is the share of all n + failed whose last epoch is above
    the target, with Wilson's interval over runs.
    """
    shares = [result["last"]["accuracy"] for result in results]
    checks = [judge_result(result, limits) for result in results]
    gates = {
        alike[0].gate: sum(check.passed is True for check in alike)
        for alike in zip(*checks, strict=True)
    }
    several, runs = len(shares) > 1, len(shares) + failed
    interval = mean_interval(shares) if several else results[0]["last"]["interval"]
    return {
        "n": len(shares),
        "failed": failed,
        "mean": fmean(shares),
        "interval": interval and list(interval),
        "sd": stdev(shares) if several else None,
        "min": min(shares),
        "above": gates["accuracy"] / runs,
        "above_interval": list(wilson(gates["accuracy"], runs)),
        "gates": gates,
        "passes": sum(verdict(one) == "PASS" for one in checks),
    }


def goal(checks: Sequence[Check]) -> dict[str, Any]:
    """Return the goal's verdict as plain values."""
    return {"verdict": verdict(checks), "checks": to_dicts(checks)}


def environment() -> dict[str, Any]:
    """Return what a figure depends on besides recipe and runtime; names no host, user or path."""
    return {
        "platform": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "commit": commit(),
    }


def now() -> str:
    """Return the UTC time to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def commit() -> str | None:
    """Return the source's git commit, `-dirty` where it was changed, or None outside a checkout."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    command = [
        "git",
        "-C",
        str(root),
        "describe",
        "--always",
        "--dirty",
        "--abbrev=12",
        "--exclude=*",
    ]
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return run.stdout.strip() or None
