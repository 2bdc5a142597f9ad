"""Read a network as a program for `lanes.cpp`: feature maps, and the stages that compute them."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from mnistcli.models.trace import Operation, Value, trace

CONVOLUTION, MAX_POOL, ADD, DEPTHWISE, AVERAGE = range(5)
RELU, HARDSWISH = 1, 2


_Maps = dict[int | None, tuple[int, int]]  # by a value's number: the map, every how many pixels


class Unknown(Exception):
    """The kernels don't compute what this network does; the message names the operation."""


@dataclass
class Map:
    """A feature map as a stage writes it, and how all its readers see it: normalised, activated."""

    channels: int
    height: int
    width: int
    norm: tuple[str, str, str, str] | None = None  # weight, bias, running mean and variance
    eps: float = 0.0
    momentum: float = 0.0
    activation: int = 0
    read: bool = False  # from then on its readers' view is settled


@dataclass(frozen=True)
class Stage:
    """What computes a map from one or two others; the stride of an addition is of the second."""

    kind: int
    input: int
    output: int
    other: int = -1
    kernel: int = 1
    border: int = 0
    stride: int = 1
    weight: str = ""
    bias: str = ""


@dataclass
class Program:
    """What a network computes in training; map 0 are the pictures, the last one the logits.

    `counters` are buffers that each step adds 1 to; `matrices` are weights [out, features] that
    the kernels read as [out, channels, height, width].
    """

    maps: list[Map] = field(default_factory=lambda: [Map(1, 28, 28)])
    stages: list[Stage] = field(default_factory=list)
    counters: list[str] = field(default_factory=list)
    matrices: dict[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def tensors(self) -> list[str]:
        """The names of the parameters and buffers that the stages and normalisations read."""
        names = [name for one in self.maps if one.norm for name in one.norm]
        return names + [name for one in self.stages for name in (one.weight, one.bias) if name]


def read(model: nn.Module) -> Program:
    """Return the program of a network in training mode.

    Raises:
        Unknown: it computes something else than the kernels do.
    """
    twin = copy.deepcopy(model).train()
    with torch.no_grad():
        operations, outputs = trace(twin, torch.zeros(2, 1, 28, 28))
    program, maps = Program(), _Maps({0: (0, 1)})
    for operation in operations:
        if operation.module is None:
            _follow(program, maps, operation)
    last = len(program.maps) - 1
    final = program.maps[last]
    seen = [maps.get(value.number) for value in outputs if value.number is not None]
    if (
        seen != [(last, 1)]
        or final.norm
        or final.activation
        or (final.height, final.width) != (1, 1)
    ):
        raise Unknown("logits that neither a convolution nor a linear layer gives")
    if len(set(program.tensors)) < len(program.tensors):
        raise Unknown("weights that are used twice")
    return program


class _Call:
    """One operation, its arguments by name, beside the program so far.

    `maps` has, by a value's number, the map that the value is as its readers see it. A value that
    only its normalisation or activation has read is no longer one of them.
    """

    def __init__(
        self, program: Program, maps: _Maps, operation: Operation, names: Sequence[str]
    ) -> None:
        self.program, self.maps = program, maps
        self.given = dict(zip(names, operation.arguments, strict=False)) | operation.keywords
        self.value: Value = self.given["input"]
        (self.output,) = operation.outputs

    def get(self, name: str, default: Any = None) -> Any:
        return self.given.get(name, default)

    def map(self, value: Any, stride: int = 1) -> int:
        """Return the map that a value is, or of which it is every `stride`-th pixel."""
        require(isinstance(value, Value) and value.number in self.maps)
        index, found = self.maps[value.number]
        require(found == stride)
        return index

    def named(self, name: str) -> str:
        """Return the name of the parameter or buffer that an argument is, or an empty one."""
        value = self.get(name)
        require(value is None or (isinstance(value, Value) and value.name != ""))
        return "" if value is None else value.name

    def keep(self, stride: int = 1) -> None:
        """Note that the output is what the input is, or every `stride`-th pixel of it."""
        self.maps[self.output.number] = (self.map(self.value), stride)

    def see(self, norm: bool = False) -> Map:
        """Let all readers of the input's map see it as this output, and nobody as it was."""
        index = self.map(self.value)
        found = self.program.maps[index]
        require(index > 0 and not found.read and not found.activation and not (norm and found.norm))
        for number in [number for number, (of, _) in self.maps.items() if of == index]:
            del self.maps[number]
        self.maps[self.output.number] = (index, 1)
        return found

    def write(self, kind: int, side: tuple[int, int], channels: int, **more: Any) -> None:
        """Add a stage that writes the output as a new map."""
        index, reads = len(self.program.maps), [self.map(self.value)]
        reads += [more["other"]] if "other" in more else []
        for one in reads:
            self.program.maps[one].read = True
        self.program.maps.append(Map(channels, *side))
        self.program.stages.append(Stage(kind, reads[0], index, **more))
        self.maps[self.output.number] = (index, 1)


def require(condition: bool) -> None:
    """Raise where an operation is not one that the kernels do."""
    if not condition:
        raise ValueError("not as the kernels do it")


def _follow(program: Program, maps: _Maps, operation: Operation) -> None:
    """Add what an operation does to the program."""
    rule = _RULES.get(operation.name.rpartition(".")[2])
    if rule is None:
        raise Unknown(operation.name)
    names, add = rule
    try:
        add(_Call(program, maps, operation, names))
    except (ValueError, TypeError, IndexError, KeyError) as error:
        raise Unknown(f"{operation.name} with these arguments: {error}") from None


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)


def _square(value: Any) -> int:
    first, second = _pair(value)
    require(first == second)
    return first


def _convolution(call: _Call) -> None:
    kernel, border = call.given["weight"].shape[2:], _square(call.get("padding", 0))
    size, stride = _square(tuple(kernel)), _square(call.get("stride", 1))
    inputs, (outputs, height, width) = call.value.shape[1], call.output.shape[1:]
    require(_square(call.get("dilation", 1)) == 1 and stride in (1, 2) and border < size)
    groups = call.get("groups", 1)
    more = {"kernel": size, "weight": call.named("weight"), "bias": call.named("bias")}
    if groups == 1:
        kind = CONVOLUTION
        more |= {"border": border, "stride": stride}
    else:
        kind = DEPTHWISE
        require(groups == inputs == outputs and border == 0 and (height, width) == (1, 1))
        require(call.value.shape[2:] == kernel and not more["bias"])
    call.write(kind, (height, width), outputs, **more)


def _batch_norm(call: _Call) -> None:
    require(call.get("training") is True and isinstance(call.given["momentum"], float))
    require(isinstance(call.given["eps"], float) and call.given["eps"] > 0)
    names = [call.named(name) for name in ("weight", "bias", "running_mean", "running_var")]
    require(all(names))
    seen = call.see(norm=True)
    seen.norm = (names[0], names[1], names[2], names[3])
    seen.eps, seen.momentum = call.given["eps"], call.given["momentum"]


def _activation(kind: int) -> Callable[[_Call], None]:
    def add(call: _Call) -> None:
        call.see().activation = kind

    return add


def _dropout(call: _Call) -> None:
    require(call.given["p"] == 0)
    call.keep()


def _max_pool(call: _Call) -> None:
    plain = [_square(call.get(name, value)) == value for name, value in
             (("kernel_size", 2), ("padding", 0), ("dilation", 1))]  # fmt: skip
    require(all(plain) and _square(call.get("stride") or 2) == 2)
    require(not (call.get("ceil_mode") or call.get("return_indices")))
    channels, height, width = call.value.shape[1:]
    require(height % 2 == width % 2 == 0)
    call.write(MAX_POOL, (height // 2, width // 2), channels)


def _average(call: _Call) -> None:
    size = _square(call.get("kernel_size", call.value.shape[2]))
    require(_square(call.get("output_size", 1)) == 1)
    require(_square(call.get("stride") or size) == size)
    require(_square(call.get("padding", 0)) == 0 and not call.get("ceil_mode"))
    require(call.get("divisor_override") is None)
    channels, height, width = call.value.shape[1:]
    require(height % size == width % size == 0)
    require("output_size" not in call.given or height == width)
    call.write(AVERAGE, (height // size, width // size), channels, kernel=size)


def _flatten(call: _Call) -> None:
    """Keep a value's map: a linear layer reads it in the order of channels, rows, columns."""
    require(tuple(call.output.shape) == (2, math.prod(call.value.shape[1:])))
    call.keep()


def _linear(call: _Call) -> None:
    weight, found = call.named("weight"), call.program.maps[call.map(call.value)]
    require(found.height == found.width and weight != "")
    require(call.given["weight"].shape[1] == found.channels * found.height * found.width)
    call.program.matrices[weight] = (found.height, found.width)
    call.write(CONVOLUTION, (1, 1), call.output.shape[1], kernel=found.height, weight=weight,
               bias=call.named("bias"))  # fmt: skip


def _add(call: _Call) -> None:
    other = call.given["other"]
    if call.value.name and other == 1:  # batches that a normalisation has seen
        call.program.counters.append(call.value.name)
        return
    require(call.get("alpha", 1) == 1 and isinstance(other, Value))
    stride = call.maps.get(other.number, (0, 1))[1]
    require(call.value.shape == other.shape and call.map(call.value) != call.map(other, stride))
    channels, height, width = call.value.shape[1:]
    call.write(ADD, (height, width), channels, other=call.map(other, stride), stride=stride)


def _every_second(call: _Call) -> None:
    whole, second = slice(None), slice(None, None, 2)
    require(call.given["index"] == (whole, whole, second, second))
    call.keep(stride=2)


_CONVOLUTION = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
_MAX = ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
_MEAN = ("input", "kernel_size", "stride", "padding", "ceil_mode", "count_include_pad",
         "divisor_override")  # fmt: skip
_NORM = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
_SUM = ("input", "other", "alpha")
_RULES: dict[str, tuple[Sequence[str], Callable[[_Call], None]]] = {
    "conv2d": (_CONVOLUTION, _convolution),
    "batch_norm": (_NORM, _batch_norm),
    "relu": (("input",), _activation(RELU)),
    "relu_": (("input",), _activation(RELU)),
    "hardswish": (("input",), _activation(HARDSWISH)),
    "dropout": (("input", "p"), _dropout),
    "dropout2d": (("input", "p"), _dropout),
    "max_pool2d": (_MAX, _max_pool),
    "avg_pool2d": (_MEAN, _average),
    "adaptive_avg_pool2d": (("input", "output_size"), _average),
    "flatten": (("input",), _flatten),
    "view": (("input",), _flatten),
    "reshape": (("input",), _flatten),
    "linear": (("input", "weight", "bias"), _linear),
    "add": (_SUM, _add),
    "add_": (_SUM, _add),
    "__add__": (_SUM, _add),
    "__iadd__": (_SUM, _add),
    "__getitem__": (("input", "index"), _every_second),
}
