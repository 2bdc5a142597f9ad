"""What the values of a checkpoint must be: types, ranges, and figures that are numbers."""

from __future__ import annotations

from collections.abc import Iterator
from math import isfinite
from typing import Any

import torch
from pydantic import BaseModel, Field, ValidationError
from torch import Tensor

from mnistcli.engine import history
from mnistcli.engine.history import STRICT
from mnistcli.engine.runtime import Runtime
from mnistcli.events import Split
from mnistcli.recipe import Recipe

_MAX_THREADS = 4096
_UNNAMED: dict[str, dict[str, Any]] = {
    "v2": {"dropout": 0.0},
    "v3": {"dropout": 0.0},
    "v4": {"stages": "8-10-10 12-12-12 12", "activation": "hardswish"},
    "v5": {"stages": "6-8-8 8-10-10 10", "activation": "hardswish"},
    "v6": {"stages": "5-6 6-6 8", "activation": "hardswish"},
}


class _Training(BaseModel):
    model_config = STRICT

    model: dict[str, Tensor]
    optimizer: dict[str, Any]
    scaler: dict[str, Any]
    average: Tensor | None


class _Contents(BaseModel):
    model_config = STRICT

    format: int
    model: str = Field(min_length=1)
    recipe: Recipe
    runtime: dict[str, Any]
    versions: dict[str, str]
    data: dict[str, str]
    history: list[dict[str, Any]] = Field(min_length=1)
    weights: dict[str, Tensor]
    training: _Training | None
    network: list[str] | None = Field(default=None, max_length=100_000)
    picked_on: Split | None = None


_RUNTIME = history.typed(Runtime)


def name_network(payload: dict[str, Any]) -> None:
    """Write into a checkpoint of format 1 the arguments that were defaults of code at its time."""
    recipe = payload["recipe"]
    if payload["format"] == 1 and not recipe["model_args"]:
        recipe["model_args"] = dict(_UNNAMED.get(payload["model"], {}))


def check(payload: dict[str, Any]) -> None:
    """Raise ValueError naming the first value that no checkpoint of a run holds."""
    try:
        contents = _Contents.model_validate(payload)
        _RUNTIME.model_validate(payload["runtime"])
    except ValidationError as error:
        name = error.title.strip("_").lower()
        raise ValueError(f"{name}.{history.first_problem(error)}") from None
    try:
        epochs = history.check(payload["history"])
    except ValueError as error:
        raise ValueError(f"history: {error}") from None
    chosen = payload["runtime"]
    if not 1 <= chosen["threads"] <= _MAX_THREADS or chosen["device"].split(":")[0] not in (
        "cpu",
        "cuda",
    ):
        raise ValueError("runtime: no such device or thread count")
    if contents.recipe.model != contents.model:
        raise ValueError(f"recipe.model: not {contents.model}")
    if len(epochs) > contents.recipe.epochs:
        raise ValueError("history: more epochs than the recipe's")
    if contents.recipe.validation != (epochs[-1].split == "validation"):
        raise ValueError("history: read on other pictures than the recipe's")
    for name, value in contents.weights.items():
        if name.endswith("running_var") and value.numel() and float(value.min()) < 0:
            raise ValueError(f"weights.{name}: a negative variance")


def check_tensors(values: Any, *, most_bytes: int) -> None:
    """Raise ValueError unless all tensors are dense, finite, and together within a size.

    A few bytes of a file can declare a tensor of any size; nothing of its size is touched here.
    """
    left = most_bytes
    for place, tensor in leaves(values):
        if isinstance(tensor, Tensor):
            left -= tensor.numel() * tensor.element_size()
            if left < 0 or not tensor.is_contiguous():
                raise ValueError(f"{_dotted(place)}: larger than the file")
    if (found := non_finite(values)) is not None:
        raise ValueError(f"{found}: not finite")


def non_finite(values: Any) -> str | None:
    """Return where a tensor or float is not finite, or None."""
    for place, value in leaves(values):
        if isinstance(value, float) and not isfinite(value):
            return _dotted(place)
        if isinstance(value, Tensor) and value.is_floating_point() and not _all_finite(value):
            return _dotted(place)
    return None


def leaves(values: Any) -> Iterator[tuple[Any, Any]]:
    """Yield place and value of all that is not a dict, list or tuple, each object once.

    A place is a pair of the place above and the key or index; `_dotted` reads it.
    """
    stack: list[tuple[Any, Any]] = [((), values)]
    seen = set[int]()
    while stack:
        place, value = stack.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, dict):
            stack.extend(((place, key), value[key]) for key in reversed(value))
        elif isinstance(value, list | tuple):
            stack.extend(((place, i), value[i]) for i in reversed(range(len(value))))
        else:
            yield place, value


def _dotted(place: Any) -> str:
    parts: list[str] = []
    while place and len(parts) < 16:
        place, key = place
        parts.insert(0, str(key)[:80] if isinstance(key, str | int) else type(key).__name__)
    return ".".join(parts)


def _all_finite(tensor: Tensor) -> bool:
    return bool(torch.isfinite(tensor).all())
