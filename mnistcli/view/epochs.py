"""The columns of an epoch and the words around a run, shared by the live and the plain view."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Any

from mnistcli.events import EpochMetrics, RunStarted
from mnistcli.results.figures import code_path
from mnistcli.view.tables import Column, integer, percent

_BARS = "▁▂▃▄▅▆▇█"
_MOST_BARS = 60


def _mib(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f}"


def _short(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def _share(percent: float) -> str:
    return f"{percent:.2f}%"


def _best(metrics: EpochMetrics, _: int) -> str:
    best = 100 * metrics.best_correct / metrics.eval_total
    return f"{best:.2f}% ({metrics.epochs_since_best})"


def _seconds(value: float) -> str:
    return f"{value:.1f}s" if value < 1000 else f"{value:.0f}s"


@dataclass(frozen=True, kw_only=True)
class EpochColumn(Column):
    """A column of the epoch table; its `value` is made of an epoch and the run's last one.

    `width` is that of its widest text: a row fits below its title before all rows are known.
    """

    value: Callable[[EpochMetrics, int], Any]
    width: int


def columns(split: str) -> list[EpochColumn]:
    """Return the epoch table's columns; `split` names the pictures that are evaluated.

    The ranks leave on 80 columns what the project promises to show: accuracy, correct, best and
    its age, learning rate and, on CUDA, the memory. Training figures are on augmented pictures.
    A field of `EpochMetrics` with a default gets a column under its own name,
    dropped first on a narrow terminal.
    """
    name = {"validation": "val"}.get(split, split)
    four, two = "{:.4f}".format, "{:.2f}".format
    one = EpochColumn
    return [
        one("epoch", "epoch", width=5, value=lambda m, epochs: f"{m.epoch}/{epochs}"),
        one("train_loss", "train loss", four, four, 3, width=10, value=lambda m, _: m.train_loss),
        one("train_acc", "train acc", _share, two, 2, width=9,
            value=lambda m, _: 100 * m.train_correct / m.train_total),
        one(f"{name}_loss", f"{name} loss", four, four, 7, width=len(name) + 5,
            value=lambda m, _: m.eval_loss),
        one(f"{name}_acc", f"{name} acc", _share, two, width=len(name) + 4,
            value=lambda m, _: 100 * m.accuracy),
        one("correct", "correct", lambda v: f"{int(v.split('/')[0]):,}", rank=1, width=7,
            value=lambda m, _: f"{m.eval_correct}/{m.eval_total}"),
        one("best", "best (age)", plain=lambda v: v.split("%")[0], rank=5, width=11, value=_best),
        one("since_best", "", rank=99, width=0, value=lambda m, _: m.epochs_since_best),
        one("lr", "lr", "{:.1e}".format, "{:.2e}".format, 4, width=7, value=lambda m, _: m.lr),
        one("alloc_mib", "alloc", _mib, _mib, 6, width=6, value=lambda m, _: m.allocated_mib),
        one("reserved_mib", "res MiB", _mib, _mib, 6, width=7, value=lambda m, _: m.reserved_mib),
        one("rss_mib", "rss MiB", _mib, _mib, 10, width=7, value=lambda m, _: m.rss_mib),
        one("img_s", "img/s", integer, rank=9, width=7,
            value=lambda m, _: round(m.images_per_second)),
        one("sec", "time", _seconds, "{:.1f}".format, 8, width=6,
            value=lambda m, _: m.train_seconds + m.eval_seconds),
        *(_by_name(field.name) for field in fields(EpochMetrics) if field.default is not MISSING),
    ]  # fmt: skip


def _by_name(name: str) -> EpochColumn:
    title = name.replace("_", " ")
    return EpochColumn(name, title, _short, _short, 11, width=max(8, len(title)),
                       value=lambda metrics, _: getattr(metrics, name))  # fmt: skip


def row(metrics: EpochMetrics, epochs: int) -> dict[str, Any]:
    """Return an epoch's values by column."""
    return {column.key: column.value(metrics, epochs) for column in columns(metrics.split)}


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
