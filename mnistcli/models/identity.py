"""A network's identity: what its forward passes compute, not its weights nor the text of its code.

It tells a network whose code has changed from one that is still the same.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import random
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mnistcli.models.trace import Operation, Value, is_torch_layer, trace

# 64 bits: among a million networks two share an identity with a chance of 3 in 10⁸, and a person
# can still compare two by eye.
_DIGITS = 16
_Numbers = dict[int | None, int]


def identity(model: nn.Module) -> str:
    """Return the digest of the model's description."""
    return digest(describe(model))


def digest(description: Sequence[str]) -> str:
    """Return 16 hexadecimal digits: the start of the SHA-256 of a description's lines."""
    return hashlib.sha256("\n".join(description).encode()).hexdigest()[:_DIGITS]


def describe(model: nn.Module) -> tuple[str, ...]:
    """Return a line for each operation in evaluation and in training, then one for each tensor.

    An operation is a layer that torch defines, with its settings, or a function called outside
    one, with its arguments. `%3` is the third result; a parameter or buffer has its own name.
    It runs one picture in evaluation and two in training, on a copy on the CPU and from fixed
    states of the generators of Python, NumPy and torch. The caller's model and generators stay as
    they are. What the network raises in evaluation passes through; where it does not train on two
    pictures, training is not seen.

    Not seen: the values of tensors, and what a scripted function or a network's own generator
    does. A number that forward reads out of a tensor (`.item()`) is an argument like any other:
    where it moves in training, so does the description. A torch release that gives a layer a new
    setting, or renames a function, changes the lines of those who use it.
    """
    twin = _copy(model)
    with _fixed_draws(), torch.no_grad():
        evaluation = _lines(twin.eval(), 1)
        try:
            training = _lines(twin.train(), 2)
        except Exception as error:  # such as a network that trains on whole fours of pictures
            training = [f"not seen: {type(error).__name__}"]
    return ("evaluation", *evaluation, "training", *training, "tensors", *_tensors(model))


def _copy(model: nn.Module) -> nn.Module:
    """Return a deep copy on the CPU; a computed weight, as pruning leaves one, is copied too."""
    attributes = (value for module in model.modules() for value in vars(module).values())
    computed = [v for v in attributes if isinstance(v, Tensor) and not v.is_leaf]
    return copy.deepcopy(model, {id(v): v.detach().clone() for v in computed}).cpu()


@contextlib.contextmanager
def _fixed_draws() -> Iterator[None]:
    """Let every global generator start from a fixed state, and give it its own state back."""
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        random.seed(0)
        np.random.seed(0)
        torch.set_rng_state(torch.Generator().get_state())
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


def _lines(model: nn.Module, count: int) -> list[str]:
    pictures = torch.linspace(-1, 1, count * 28 * 28).reshape(count, 1, 28, 28)
    names = {id(tensor): name for name, tensor in _named(model)}
    numbers: _Numbers = {0: 0}  # the pictures
    operations, outputs = trace(model, pictures)
    lines = [_line(o, numbers, names) for o in operations if _is_listed(o)]
    return [*lines, "returns " + _given(outputs, numbers)]


def _is_listed(operation: Operation) -> bool:
    """Return whether it is a layer of torch's, or a function outside one."""
    if operation.module is not None:
        return is_torch_layer(operation.module)
    return not operation.inside


def _line(operation: Operation, numbers: _Numbers, names: dict[int, str]) -> str:
    words = [_text(a, numbers) for a in operation.arguments]
    words += [f"{key}={_text(value, numbers)}" for key, value in sorted(operation.keywords.items())]
    made = "" if operation.module is None else _layer(operation.module, names)
    head = f"{operation.name}{made}({', '.join(words)})"
    return f"{head} -> {_given(operation.outputs, numbers)}"


def _layer(module: nn.Module, names: dict[int, str]) -> str:
    """Return a layer's settings (its public plain attributes) and the names of its tensors."""
    settings = {key: value for key, value in vars(module).items()
                if not key.startswith("_") and not isinstance(value, Tensor)}  # fmt: skip
    words = [f"{key}={_text(value, {})}" for key, value in sorted(settings.items())]
    words += [f"{key}:{names[id(tensor)]}" for key, tensor in _named(module)]
    return f"[{' '.join(words)}]"


def _given(values: tuple[Value, ...], numbers: _Numbers) -> str:
    """Return results with their shapes, numbered in the order of these lines."""
    words = []
    for value in values:
        if value.number is not None:
            numbers.setdefault(value.number, len(numbers))
        words.append(f"{_text(value, numbers)} {_kind(value.shape, value.dtype)}")
    return ", ".join(words)


def _text(value: Any, numbers: _Numbers) -> str:
    """Return an argument without memory addresses, devices and weights."""
    match value:
        case Value(number=None):
            return value.name or f"unseen {_kind(value.shape, value.dtype)}"
        case Value():
            return f"%{numbers.setdefault(value.number, len(numbers))}"
        case None | bool() | int() | float() | complex() | str():
            return repr(value)
        case torch.dtype() | torch.layout() | torch.memory_format():
            return str(value)
        case tuple() | list():
            return f"({', '.join(_text(part, numbers) for part in value)})"
        case dict():
            return _text([(str(key), value[key]) for key in sorted(value, key=str)], numbers)
        case slice():
            return ":".join(_text(p, numbers) for p in (value.start, value.stop, value.step))
    return str(getattr(value, "__qualname__", type(value).__qualname__))


def _tensors(model: nn.Module) -> list[str]:
    """Return a line for each parameter and buffer, and the code of scripted parts."""
    lines = [f"{name} {_kind(tuple(tensor.shape), tensor.dtype)}"
             + (" trained" if tensor.requires_grad else "")
             for name, tensor in _named(model)]  # fmt: skip
    scripted = [m for m in model.modules() if isinstance(m, torch.jit.ScriptModule)]
    return sorted(lines) + [" ".join(str(module.code).split()) for module in scripted]


def _named(model: nn.Module) -> list[tuple[str, Tensor]]:
    """Return parameters and buffers; a shared one under each of its names."""
    parameters = model.named_parameters(remove_duplicate=False)
    return [*parameters, *model.named_buffers(remove_duplicate=False)]


def _kind(shape: tuple[int, ...], dtype: torch.dtype) -> str:
    return f"{list(shape)} {str(dtype).removeprefix('torch.')}"
