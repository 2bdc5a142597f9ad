"""Follow receptive fields through one forward pass of a network."""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mnistcli.audit.field import Axis, Field, NotFollowed, join, settle
from mnistcli.audit.rules import RULES
from mnistcli.audit.shapes import Seen
from mnistcli.models.trace import Operation, Value, leaves, replaced, trace

_SHAPE_ONLY = {"zeros_like", "ones_like", "full_like", "empty_like", "rand_like", "randn_like",
               "new_zeros", "new_ones", "new_full", "new_empty", "new_tensor"}  # fmt: skip
# What a tensor's elements see; None: no picture; text: why it is unknown.
_State = Field | str | None
_States = dict[int | str, _State]  # by the number of a value, or the name of what was written to


@dataclass(frozen=True)
class Reach:
    """The side in pixels of the square of the input that a result sees, unclipped, or why not."""

    side: int | None
    reason: str | None


def receptive_fields(model: nn.Module, picture: Tensor) -> tuple[dict[int, list[Reach]], Reach]:
    """Return what each call of a module sees, by the module's id, and what the logits see.

    `picture` is [1, 1, 28, 28]. Where a function's effect is not known, all behind it is unknown.
    """
    with torch.no_grad():
        operations, outputs = trace(model, picture)
    start = Field(Axis(-2, 28, 1, 0, 0), Axis(-1, 28, 1, 0, 0))
    states: _States = {0: start}
    reaches: dict[int, list[Reach]] = defaultdict(list)
    for operation in operations:
        if operation.module is not None:
            reaches[id(operation.module)].append(_reach(operation.outputs, states))
            continue
        state = _follow(operation, states)
        states |= {_key(value): _settled(state, value) for value in operation.outputs}
    return reaches, _reach(outputs, states)


def _reach(values: Sequence[Value], states: _States) -> Reach:
    state = _state(values[0], states) if values else None
    if not isinstance(state, Field):
        return Reach(None, state or "depends on no picture")
    height, width = state.sides
    if height != width:
        return Reach(None, f"rows and columns differ: {height} by {width} pixels")
    return Reach(height, None)


def _key(value: Value) -> int | str:
    return value.name if value.number is None else value.number


def _state(value: Value, states: _States) -> _State:
    if value.number is None and not value.name:
        return "not followed through a tensor of unseen origin"
    return states.get(_key(value))


def _settled(state: _State, value: Value) -> _State:
    return settle(state, value.shape) if isinstance(state, Field) else state


def _follow(operation: Operation, states: _States) -> _State:
    """Return what an operation's results see."""
    read = [_state(value, states) for value in leaves(_arguments(operation), Value)]
    unknown = [state for state in read if isinstance(state, str)]
    known = [state for state in read if isinstance(state, Field)]
    name = operation.name.removesuffix(".__get__").rsplit(".", 1)[-1].strip("_")
    if unknown:
        return unknown[0]
    if not known or name in _SHAPE_ONLY:
        return None
    try:
        if all(field.everywhere for field in known):
            return join(known)  # whatever the function does
        return _apply(name, operation, states)
    except NotFollowed as error:
        return f"not followed through {name} {error}".strip()


def _apply(name: str, operation: Operation, states: _States) -> Field:
    if name not in RULES or "out" in operation.keywords:
        raise NotFollowed
    rule = RULES[name]
    shape = operation.outputs[0].shape
    args, kwargs = replaced(_arguments(operation), Value, lambda v: _seen(v, states))
    try:
        inspect.signature(rule).bind(shape, *args, **kwargs)
    except TypeError:
        raise NotFollowed("with these arguments") from None
    return rule(shape, *args, **kwargs)


def _arguments(operation: Operation) -> tuple[Any, ...]:
    return operation.arguments, operation.keywords


def _seen(value: Value, states: _States) -> Seen:
    state = _state(value, states)
    return Seen(value.shape, state if isinstance(state, Field) else None)
