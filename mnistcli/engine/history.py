"""What the epochs of a run must be: typed, in range, and each consistent with those before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import MISSING, fields
from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from mnistcli.events import EpochMetrics

STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, arbitrary_types_allowed=True)
MOST_PICTURES = 10**9
MOST_EPOCHS = 10_000  # of a recipe


def typed(record: type) -> type[BaseModel]:
    """Return a model that checks the plain values of a frozen record."""
    hints = get_type_hints(record)
    types: Any = {
        field.name: (hints[field.name], ... if field.default is MISSING else field.default)
        for field in fields(record)
    }
    model: type[BaseModel] = create_model(record.__name__, __config__=STRICT, **types)
    return model


def first_problem(error: ValidationError) -> str:
    """Return the dotted place of the first problem, and what is wrong there."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    message = first["msg"].removeprefix("Value error, ")
    place = ".".join(str(part)[:80] for part in first["loc"])
    return f"{place}: {message}" if place else message


_METRICS = typed(EpochMetrics)
_NEVER_NEGATIVE = ("eval_loss", "lr", "allocated_mib", "reserved_mib", "rss_mib",
                   "images_per_second", "train_seconds", "eval_seconds")  # fmt: skip


def check(values: Sequence[Any]) -> list[EpochMetrics]:
    """Return the epochs that plain values describe, the first one first.

    Raises:
        ValueError: naming the first epoch and figure that no training gives.
    """
    epochs: list[EpochMetrics] = []
    for number, one in enumerate(values, start=1):
        try:
            _METRICS.model_validate(one)
        except ValidationError as error:
            raise ValueError(f"epoch {number}: {first_problem(error)}") from None
        epochs.append(EpochMetrics(**one))
        if (problem := _problem(epochs)) is not None:
            raise ValueError(f"epoch {number}: {problem}")
    return epochs


def _problem(epochs: Sequence[EpochMetrics]) -> str | None:
    """Return what is wrong with the last of the epochs, or None."""
    last, before = epochs[-1], epochs[-2] if len(epochs) > 1 else epochs[-1]
    for name in _NEVER_NEGATIVE:
        if (getattr(last, name) or 0) < 0:
            return f"{name} is negative"
    for part in ("train", "eval"):
        total = getattr(last, f"{part}_total")
        if not 0 <= getattr(last, f"{part}_correct") <= total <= MOST_PICTURES or not total:
            return f"{part}_correct is not within {part}_total"
    if last.epoch != len(epochs):
        return f"its number is {last.epoch}"
    if (last.split, last.eval_total) != (before.split, before.eval_total):
        return "other pictures than the epoch before"
    since = 0 if _is_best(epochs) else before.epochs_since_best + 1
    best = last.eval_correct if _is_best(epochs) else before.best_correct
    if (last.best_correct, last.epochs_since_best) != (best, since):
        return "best_correct or epochs_since_best is not that of the epochs"
    return None


def _is_best(epochs: Sequence[EpochMetrics]) -> bool:
    """Return whether the last epoch is the first one with the most correct."""
    return len(epochs) == 1 or epochs[-1].eval_correct > epochs[-2].best_correct
