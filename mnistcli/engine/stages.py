"""A network as a program for `lanes.cpp`: feature maps, and the stages that compute them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from mnistcli.models.trace import Operation, Value

CONVOLUTION, MAX_POOL, ADD, DEPTHWISE, AVERAGE = range(5)
RELU, HARDSWISH = 1, 2
Maps = dict[int | None, tuple[int, int]]  # by a value's number: the map, every how many pixels


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
    """What a network computes in one mode; map 0 are the pictures, the last one the logits.

    `counters` are buffers that each step adds 1 to; `matrices` are weights [out, features] that
    the kernels read as [out, channels, height, width].
    """

    training: bool
    maps: list[Map] = field(default_factory=lambda: [Map(1, 28, 28)])
    stages: list[Stage] = field(default_factory=list)
    counters: list[str] = field(default_factory=list)
    matrices: dict[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def norm_tensors(self) -> list[str]:
        """The names of what normalisations read; `tensors` starts with them."""
        return [name for one in self.maps if one.norm for name in one.norm]

    @property
    def tensors(self) -> list[str]:
        """The parameters and buffers that normalisations, then stages read, once for each use."""
        return self.norm_tensors + [
            name for one in self.stages for name in (one.weight, one.bias) if name
        ]


class Call:
    """One operation, its arguments by name, beside the program so far.

    `maps` has, by a value's number, the map that the value is as its readers see it. A value that
    only its normalisation or activation has read is no longer one of them.
    """

    def __init__(
        self, program: Program, maps: Maps, operation: Operation, names: Sequence[str]
    ) -> None:
        self.program, self.maps = program, maps
        self.given = dict(zip(names, operation.arguments, strict=False)) | operation.keywords
        positional = len(operation.arguments) <= len(names) or names[-1] == "sizes"
        require(positional and self.given.keys() <= {*names})
        self.value: Value = self.given["input"]
        self.writes = operation.name.endswith((".add_", ".__iadd__"))
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


def encode(read: Program, tensors: dict[str, Tensor]) -> tuple[list[int], list[float]]:
    """Return a program as `lanes_create` reads it."""
    places = itertools.count()  # in `read.tensors`
    words, numbers = [len(read.maps), len(read.stages), len(read.tensors)], []
    for m in read.maps:
        norm = [next(places) for _ in m.norm or ()]
        words += [m.channels, m.height, m.width, m.activation, norm[0] if norm else -1]
        numbers += [m.eps, m.momentum]
    for s in read.stages:
        words += [s.kind, s.input, s.other, s.output, s.kernel, s.border, s.stride]
        words += [next(places) if name else -1 for name in (s.weight, s.bias)]
    for name in read.tensors:
        words += _strides(tensors[name], read.matrices.get(name))
    return words, numbers


def _strides(tensor: Tensor, window: tuple[int, int] | None) -> list[int]:
    """Return the steps of a weight's memory over outputs, inputs, rows and columns."""
    strides = list(tensor.stride())
    if window is not None:  # a linear layer's: [out, channels · height · width]
        height, width = window
        return [strides[0], height * width * strides[1], width * strides[1], strides[1]]
    return strides + [0] * (4 - len(strides))
