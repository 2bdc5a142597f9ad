"""The columns of an epoch and the words around a run, shared by the live and the plain view."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mnistcli.events import EpochMetrics, RunStarted
from mnistcli.results.result import code_path
from mnistcli.view.tables import Column, integer, percent

_BARS = "▁▂▃▄▅▆▇█"
_MOST_BARS = 60


def _mib(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f}"


def _seconds(value: float) -> str:
    return f"{value:.1f}s" if value < 1000 else f"{value:.0f}s"


def columns(split: str) -> list[Column]:
    """Return the epoch table's columns; `split` names the pictures that are evaluated.

    The ranks leave on 80 columns what the project promises to show: accuracy, correct, best and
    its age, learning rate and, on CUDA, the memory.
    """
    name = {"validation": "val"}.get(split, split)
    four, two = "{:.4f}".format, "{:.2f}".format
    return [
        Column("epoch", "epoch"),
        Column("train_loss", "train loss", four, four, rank=3),
        Column("train_acc", "train acc", lambda v: f"{v:.2f}%", two, rank=2),
        Column(f"{name}_loss", f"{name} loss", four, four, rank=7),
        Column(f"{name}_acc", f"{name} acc", lambda v: f"{v:.2f}%", two),
        Column("correct", "correct", lambda v: f"{int(v.split('/')[0]):,}", rank=1),
        Column("best", "best (age)", plain=lambda v: v.split("%")[0], rank=5),
        Column("since_best", "", rank=99),
        Column("lr", "lr", "{:.1e}".format, "{:.2e}".format, rank=4),
        Column("alloc_mib", "alloc", _mib, _mib, rank=6),
        Column("reserved_mib", "res MiB", _mib, _mib, rank=6),
        Column("rss_mib", "rss MiB", _mib, _mib, rank=10),
        Column("img_s", "img/s", integer, rank=9),
        Column("sec", "time", _seconds, "{:.1f}".format, rank=8),
    ]


def row(metrics: EpochMetrics, epochs: int) -> dict[str, Any]:
    """Return an epoch's values by column; training figures are on augmented pictures."""
    name = {"validation": "val"}.get(metrics.split, metrics.split)
    best = 100 * metrics.best_correct / metrics.eval_total
    return {
        "epoch": f"{metrics.epoch}/{epochs}",
        "train_loss": metrics.train_loss,
        "train_acc": 100 * metrics.train_correct / metrics.train_total,
        f"{name}_loss": metrics.eval_loss,
        f"{name}_acc": 100 * metrics.accuracy,
        "correct": f"{metrics.eval_correct}/{metrics.eval_total}",
        "best": f"{best:.2f}% ({metrics.epochs_since_best})",
        "since_best": metrics.epochs_since_best,
        "lr": metrics.lr,
        "alloc_mib": metrics.allocated_mib,
        "reserved_mib": metrics.reserved_mib,
        "rss_mib": metrics.rss_mib,
        "img_s": round(metrics.images_per_second),
        "sec": metrics.train_seconds + metrics.eval_seconds,
    }


def threads_text(count: int) -> str:
    """Return "1 thread" or "2 threads"."""
    return f"{count} thread" + "s" * (count != 1)


def headline(started: RunStarted, version: str) -> list[str]:
    """Return what is about to be trained, part by part."""
    chosen = started.runtime
    changes = [*started.changes]
    changes[:1] = [f"changed: {change}" for change in changes[:1]]
    threads = [threads_text(chosen["threads"])] if chosen["device"] == "cpu" else []
    return [
        f"mnistcli {version}",
        started.model,
        f"{started.parameters:,} parameters",
        f"{chosen['device']} {chosen['device_name']}",
        *threads,
        chosen["precision"],
        code_path(chosen),
        f"seed {started.seed}",
        f"recipe {started.recipe}",
        *changes,
        f"optimizer {started.optimizer}",
        *([f"taught by {started.teacher}"] if started.teacher else []),
    ]


def sparkline(values: Sequence[float]) -> str:
    """Return bars between the lowest and the highest value, at most 60 of them."""
    if len(values) > _MOST_BARS:
        values = [values[i * (len(values) - 1) // (_MOST_BARS - 1)] for i in range(_MOST_BARS)]
    low, high = min(values), max(values)
    scale = (len(_BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(_BARS[round((value - low) * scale)] for value in values)


def closing(result: dict[str, Any]) -> list[str]:
    """Return the course of a run's accuracy, and the best epoch labelled as picked."""
    split, best = result["split"], result["best"]
    picked = f"epoch {best['epoch']} (picked on {split})"
    return [
        f"{split} acc {sparkline(result['correct_by_epoch'])}",
        f"best {percent(best['accuracy'])} at {picked}",
    ]
