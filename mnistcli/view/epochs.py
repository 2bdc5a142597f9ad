"""The columns of an epoch and the words around a run, shared by the live and the plain view."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mnistcli.events import EpochMetrics, RunStarted
from mnistcli.results.stats import wilson
from mnistcli.view.tables import Column, integer, percent

_BARS = "▁▂▃▄▅▆▇█"


def _mib(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f}"


def columns(split: str) -> list[Column]:
    """Return the epoch table's columns; `split` names the pictures that are evaluated."""
    name = {"validation": "val"}.get(split, split)
    four, two = "{:.4f}".format, "{:.2f}".format
    return [
        Column("epoch", "epoch"),
        Column("train_loss", "train loss", four, four, rank=3),
        Column("train_acc", "train acc", lambda v: f"{v:.2f}%", two, rank=2),
        Column(f"{name}_loss", f"{name} loss", four, four, rank=4),
        Column(f"{name}_acc", f"{name} acc", lambda v: f"{v:.2f}%", two),
        Column("correct", "correct", lambda v: f"{int(v.split('/')[0]):,}", rank=1),
        Column("best", "best (age)", plain=lambda v: v.split("%")[0], rank=5),
        Column("since_best", "", rank=99),
        Column("lr", "lr", "{:.1e}".format, "{:.2e}".format, rank=6),
        Column("alloc_mib", "alloc", _mib, _mib, rank=8),
        Column("reserved_mib", "res MiB", _mib, _mib, rank=8),
        Column("rss_mib", "rss MiB", _mib, _mib, rank=9),
        Column("img_s", "img/s", integer, rank=7),
        Column("sec", "time", lambda v: f"{v:.1f}s", "{:.1f}".format, rank=7),
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


def headline(started: RunStarted, version: str) -> str:
    """Return what is about to be trained, in one line."""
    chosen = started.runtime
    changes = f" (changed: {', '.join(started.changes)})" if started.changes else ""
    compiled = "compiled" if chosen["compiled"] else "eager"
    threads = f" · {chosen['threads']} threads" if chosen["device"] == "cpu" else ""
    return (
        f"mnistcli {version} · {started.model} · {started.parameters:,} parameters · "
        f"{chosen['device']} {chosen['device_name']}{threads} · {chosen['precision']} · "
        f"{compiled} · seed {started.seed} · recipe {started.recipe}{changes}"
    )


def sparkline(values: Sequence[float]) -> str:
    """Return bars between the lowest and the highest value."""
    low, high = min(values), max(values)
    scale = (len(_BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(_BARS[round((value - low) * scale)] for value in values)


def closing(history: Sequence[EpochMetrics]) -> str:
    """Return the course of the accuracy, and the best epoch labelled as picked."""
    last = history[-1]
    best = next(m for m in history if m.eval_correct == last.best_correct)
    low, high = wilson(last.eval_correct, last.eval_total)
    return (
        f" {last.split} acc {sparkline([m.accuracy for m in history])}   "
        f"last {percent(last.accuracy)} (95 % interval {100 * low:.2f}–{100 * high:.2f})   "
        f"best {percent(best.accuracy)} at epoch {best.epoch} (picked on {last.split})"
    )
