"""Read a network as a program for `lanes.cpp`, from what it does with a few pictures."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from mnistcli.engine.stages import (
    ADD,
    AVERAGE,
    CONVOLUTION,
    DEPTHWISE,
    HARDSWISH,
    MAX_POOL,
    RELU,
    Call,
    Maps,
    Program,
    Unknown,
    require,
)  # fmt: skip
from mnistcli.models.trace import Operation, Value, trace


def read(model: nn.Module, *, training: bool) -> Program:
    """Return the program of a network in one of its modes; it and the generators stay as they are.

    Raises:
        Unknown: it computes something else than the kernels do, or not the same at each call.
    """
    try:
        twin = copy.deepcopy(model).train(training)
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            traces = [(count, trace(twin, torch.zeros(count, 1, 28, 28))) for count in (2, 3)]
    except Exception as error:  # whatever a person's code raises
        raise Unknown(f"what fails on two pictures: {error}") from error
    programs = [Program(training) for _ in traces]
    for program, (count, traced) in zip(programs, traces, strict=True):
        _write(program, model, pictures=count, traced=traced)
    if programs[0] != programs[1]:  # counts calls or pictures
        raise Unknown("what is something else at the next call")
    return programs[0]


def _write(
    program: Program,
    model: nn.Module,
    *,
    pictures: int,
    traced: tuple[list[Operation], tuple[Value, ...]],
) -> None:
    """Add what a trace of so many pictures saw to an empty program."""
    operations, outputs = traced
    maps = Maps({0: (0, 1)})
    for operation in operations:
        if operation.module is None:
            _follow(program, maps, operation)
    last = len(program.maps) - 1
    final = program.maps[last]
    shape = (pictures, final.channels, 1, 1)
    if (
        [maps.get(value.number) for value in outputs] != [(last, 1)]
        or outputs[0].shape != shape[:2]
        or (pictures, final.channels, final.height, final.width) != shape
        or final.norm
        or final.activation
    ):
        raise Unknown("logits that neither a convolution nor a linear layer gives")
    if not all(one.read for one in program.maps[:last]):
        raise Unknown("what the logits do not depend on")
    _check_held(program, model)


def _check_held(program: Program, model: nn.Module) -> None:
    """Raise where a trained tensor is no parameter, a kept one no buffer, or one has two owners."""
    norms = [one.norm for one in program.maps if one.norm]
    if any(program.tensors.count(name) > 1 for name in program.norm_tensors):
        raise Unknown("a normalisation's tensors that are used twice")
    buffers = {name for norm in norms for name in norm[2:]} | {*program.counters}
    parameters = {*program.tensors} - buffers
    for names, held in (
        (parameters, dict(model.named_parameters())), (buffers, dict(model.named_buffers())),
    ):  # fmt: skip
        if strange := sorted(names - held.keys()):
            raise Unknown(f"{strange[0]} as what it is")
    if len({*program.counters}) < len(program.counters) or {*program.counters} & {*program.tensors}:
        raise Unknown("counters that are used twice")


def _follow(program: Program, maps: Maps, operation: Operation) -> None:
    """Add what an operation does to the program."""
    where, _, name = operation.name.rpartition(".")
    if name not in _RULES or where not in _PLACES:
        raise Unknown(operation.name)
    names, add = _RULES[name]
    try:
        add(Call(program, maps, operation, names))
    except (ValueError, TypeError, IndexError, KeyError, AttributeError):
        raise Unknown(f"{operation.name} as it is called here") from None


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)


def _square(value: Any) -> int:
    first, second = _pair(value)
    require(first == second)
    return first


def _convolution(call: Call) -> None:
    kernel, border = call.given["weight"].shape[2:], call.get("padding", 0)
    size, stride = _square(tuple(kernel)), _square(call.get("stride", 1))
    if border == "same":  # where nothing is added on one side only
        require(size % 2 == 1)
        border = size // 2
    border = _square(0 if border == "valid" else border)
    inputs, (outputs, height, width) = call.value.shape[1], call.output.shape[1:]
    require(_square(call.get("dilation", 1)) == 1 and stride in (1, 2) and border < size)
    groups = call.get("groups", 1)
    require(groups == 1 or groups == inputs == outputs)
    more = {"weight": call.named("weight"), "bias": call.named("bias")}
    kind = CONVOLUTION if groups == 1 else DEPTHWISE
    window = {"kernel": size, "border": border, "stride": stride}
    call.write(kind, (height, width), outputs, **window, **more)


def _batch_norm(call: Call) -> None:
    eps, momentum = call.get("eps", 1e-5), call.get("momentum", 0.1)
    require(call.get("training", False) is call.program.training and type(momentum) is float)
    require(type(eps) is float and eps > 0)
    names = [call.named(name) for name in ("weight", "bias", "running_mean", "running_var")]
    require(all(names))
    seen = call.see(norm=True)
    require(call.given["weight"].shape == (seen.channels,))  # it may have been flattened
    seen.norm, seen.eps, seen.momentum = (names[0], names[1], names[2], names[3]), eps, momentum


def _activation(kind: int) -> Callable[[Call], None]:
    def add(call: Call) -> None:
        call.see().activation = kind

    return add


def _dropout(call: Call) -> None:
    require(call.get("p", 0.5) == 0 or call.get("training", True) is False)
    call.keep()


def _max_pool(call: Call) -> None:
    plain = [_square(call.get(name, value)) == value for name, value in
             (("kernel_size", 2), ("padding", 0), ("dilation", 1))]  # fmt: skip
    require(all(plain) and _square(call.get("stride") or 2) == 2)
    require(not (call.get("ceil_mode") or call.get("return_indices")))
    channels, height, width = call.value.shape[1:]
    require(height % 2 == width % 2 == 0)
    call.write(MAX_POOL, (height // 2, width // 2), channels)


def _average(call: Call) -> None:
    size = _square(call.get("kernel_size", call.value.shape[2]))
    require(_square(call.get("output_size", 1)) == 1)
    require(_square(call.get("stride") or size) == size)
    require(_square(call.get("padding", 0)) == 0 and not call.get("ceil_mode"))
    require(call.get("divisor_override") is None)
    channels, height, width = call.value.shape[1:]
    require(height % size == width % size == 0)
    require("output_size" not in call.given or height == width)
    call.write(AVERAGE, (height // size, width // size), channels, kernel=size)


def _mean(call: Call) -> None:
    pictures, channels, height, width = call.value.shape
    given = call.get("dim")
    places = {place % 4 for place in (given if isinstance(given, tuple | list) else (given,))}
    require(places == {2, 3} and height == width and call.get("dtype") is None)
    require(math.prod(call.output.shape) == pictures * channels)
    call.write(AVERAGE, (1, 1), channels, kernel=height)


def _flatten(call: Call) -> None:
    """Keep a value's map: a linear layer reads it in the order of channels, rows, columns."""
    pictures, *features = call.value.shape
    require(call.output.shape == (pictures, math.prod(features)))
    call.keep()


def _linear(call: Call) -> None:
    weight, found = call.named("weight"), call.program.maps[call.map(call.value)]
    require(found.height == found.width and weight != "" and len(call.value.shape) == 2)
    require(call.given["weight"].shape[1] == found.channels * found.height * found.width)
    window = found.height, found.width
    require(call.program.matrices.setdefault(weight, window) == window)
    call.write(CONVOLUTION, (1, 1), call.output.shape[1], kernel=found.height, weight=weight,
               bias=call.named("bias"))  # fmt: skip


def _add(call: Call) -> None:
    other = call.given["other"]
    require(call.get("alpha", 1) == 1)
    if call.value.name:  # batches that a normalisation has seen
        require(call.writes and type(other) is int and other == 1)
        require(call.value.dtype == torch.int64)
        call.program.counters.append(call.value.name)
        return
    require(isinstance(other, Value))
    stride = call.maps.get(other.number, (0, 1))[1]
    require(call.value.shape == other.shape and call.map(call.value) != call.map(other, stride))
    channels, height, width = call.value.shape[1:]
    call.write(ADD, (height, width), channels, other=call.map(other, stride), stride=stride)


def _every_second(call: Call) -> None:
    whole, second = slice(None), slice(None, None, 2)
    require(call.given["index"] == (whole, whole, second, second))
    call.keep(stride=2)


_CONVOLUTION = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
_MAX = ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
_MEAN = ("input", "kernel_size", "stride", "padding", "ceil_mode", "count_include_pad",
         "divisor_override")  # fmt: skip
_NORM = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
_SUM = ("input", "other", "alpha")
_DROP = ("input", "p", "training", "inplace")
_PLACES = ("torch", "torch.Tensor", "torch.nn.functional")
_RULES: dict[str, tuple[Sequence[str], Callable[[Call], None]]] = {
    "conv2d": (_CONVOLUTION, _convolution),
    "batch_norm": (_NORM, _batch_norm),
    "relu": (("input", "inplace"), _activation(RELU)),
    "relu_": (("input",), _activation(RELU)),
    "hardswish": (("input", "inplace"), _activation(HARDSWISH)),
    "dropout": (_DROP, _dropout),
    "dropout2d": (_DROP, _dropout),
    "max_pool2d": (_MAX, _max_pool),
    "avg_pool2d": (_MEAN, _average),
    "adaptive_avg_pool2d": (("input", "output_size"), _average),
    "mean": (("input", "dim", "keepdim", "dtype"), _mean),
    "flatten": (("input", "start_dim", "end_dim"), _flatten),
    "view": (("input", "sizes"), _flatten),
    "reshape": (("input", "sizes"), _flatten),
    "linear": (("input", "weight", "bias"), _linear),
    "add": (_SUM, _add),
    "add_": (_SUM, _add),
    "__add__": (_SUM, _add),
    "__iadd__": (_SUM, _add),
    "__getitem__": (("input", "index"), _every_second),
}
