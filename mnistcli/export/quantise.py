"""From a graph to integers: steps and zeros read off pictures of the training set."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mnistcli.data.augment import MEAN, STD, normalise, to_input
from mnistcli.errors import UsageError
from mnistcli.export import graph as graphs
from mnistcli.export.graph import Add, Convolution, Graph, Layer, Pool
from mnistcli.export.integer import (
    ADD_BITS,
    HIGHEST,
    LOGIT_BITS,
    MULTIPLIER_BITS,
    SUM_BITS,
    T_BITS,
    IntegerGraph,
    IntegerLayer,
    Rescale,
    compute,
    sums,
)

_PICTURE_ZERO = round(255 * MEAN)  # 33, for 33.3
_PICTURE_STEP = 1 / (255 * STD)
_SHARES = [1 - 0.05 * tried for tried in range(11)]  # of the range, down to a half
_SEARCHED = 100_000  # values of a channel, about: more do not move its step
_QUIETEST = 2.0**-10  # a channel's least step, as a share of the map's greatest
_BIAS_BITS = 23  # with more, a small unit would leave 32 bits too few for the sum


@dataclass(frozen=True)
class _Map:
    """What a map's numbers stand for: step and zero of each channel, and those of pictures."""

    step: Tensor
    zero: Tensor
    numbers: Tensor
    real: Tensor


def quantise(graph: Graph, pictures: Tensor) -> IntegerGraph:
    """Return the graph in integers, calibrated on pictures, uint8 [N, 28, 28].

    Each channel of a map has a step and a zero of its own, those that lose least of its values on
    these pictures (half the mean square that one for all channels loses: v4, v6). A bias makes up
    for what rounding before it has moved the channel's mean by.

    Raises:
        UsageError: a sum might not fit 32 bits.
    """
    real = graphs.run(graph, normalise(to_input(pictures)).double())
    step = torch.tensor([_PICTURE_STEP], dtype=torch.float64)
    zero = torch.tensor([_PICTURE_ZERO])
    maps = [_Map(step, zero, pictures.unsqueeze(1).long(), real[0])]
    layers = []
    for number, layer in enumerate(graph.layers, 1):
        inputs = [maps[n] for n in layer.inputs]
        last = number == len(graph.layers)
        one, step = _integer(layer, inputs, real[number], last=last)
        read = [i.numbers for i in inputs], [i.zero for i in inputs]
        maps.append(_Map(step, one.zero, compute(one, *read), real[number]))
        layers.append(one)
    return IntegerGraph(tuple(layers), _PICTURE_ZERO)


def _integer(
    layer: Layer, inputs: Sequence[_Map], wanted: Tensor, *, last: bool
) -> tuple[IntegerLayer, Tensor]:
    """Return a layer in integers and the steps of the map that it gives."""
    if isinstance(layer, Pool) and layer.kind == "max":
        return IntegerLayer(layer, inputs[0].zero), inputs[0].step
    step, zero = _of_logits(wanted) if last else _least_lost(wanted)
    weight, unit = _weights(layer, [one.step for one in inputs])
    hard = layer.activation == "hardswish"
    middle = torch.full_like(step, 2.0**-T_BITS) if hard else step
    one = IntegerLayer(
        layer, zero, weight,
        bias=_bias(layer, unit),
        rescale=_rescale(unit / middle),
        second=_rescale(middle / 6 / step, alike=True) if hard else None,
        most=_most(zero, step, last=last) if layer.activation == "relu6" else None,
        last=last,
    )  # fmt: skip
    if one.bias is not None:
        one = replace(one, bias=_corrected(one, inputs, unit))
    _check(one, inputs)
    return one, step


def _most(zero: Tensor, step: Tensor, *, last: bool) -> Tensor:
    """Return the number that stands for 6."""
    most = zero + (6 / step).round().long()
    return most if last else most.clamp(max=HIGHEST)


def _of_logits(values: Tensor) -> tuple[Tensor, Tensor]:
    channels = values.shape[1]
    step = torch.full((channels,), 2.0**-LOGIT_BITS, dtype=torch.float64)
    return step, torch.zeros(channels, dtype=torch.long)


def _least_lost(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return step and zero of each channel that lose least of these values in squares."""
    flat = values.transpose(0, 1).flatten(1)
    low, high = flat.amin(1).clamp(max=0), flat.amax(1).clamp(min=0)
    loudest = float((high - low).amax()) or 1.0  # in a map of zeros any step will do
    high = high.maximum(low + loudest * _QUIETEST)
    least = torch.full_like(low, math.inf).float()
    flat = flat[:, :: 1 + flat.shape[1] // _SEARCHED].float()
    step, zero = torch.ones_like(low).float(), torch.zeros_like(low).float()
    for share in _SHARES:
        tried = ((high - low) * share / HIGHEST).float()
        origin = (-low * share / tried).round().clamp(0, HIGHEST).float()
        numbers = ((flat / tried[:, None]).round() + origin[:, None]).clamp(0, HIGHEST)
        lost = ((numbers - origin[:, None]) * tried[:, None] - flat).square().sum(1)
        step, zero = torch.where(lost < least, tried, step), torch.where(lost < least, origin, zero)
        least = least.minimum(lost)
    return step.double(), zero.long()


def _weights(layer: Layer, steps: Sequence[Tensor]) -> tuple[Tensor | None, Tensor]:
    """Return a layer's whole factors, and what a 1 in each channel's sum stands for.

    A convolution's weights carry the steps of the channels that they weigh, so that one unit a
    channel is left, with 127 for the greatest.
    """
    if isinstance(layer, Add):
        unit = torch.maximum(*steps) / (1 << ADD_BITS)
        return torch.stack([(step / unit).round().long() for step in steps]), unit
    if not isinstance(layer, Convolution):
        return None, steps[0] / (layer.window.kernel[0] * layer.window.kernel[1])
    share, outputs = layer.weight.shape[1], layer.weight.shape[0] // layer.groups
    read = steps[0].reshape(layer.groups, share).repeat_interleave(outputs, 0)
    weight = layer.weight * read[:, :, None, None]
    unit = (weight.abs().flatten(1).amax(1) / 127).maximum(layer.bias.abs() / 2**_BIAS_BITS)
    unit = unit.clamp(min=1e-30)
    return (weight / unit[:, None, None, None]).round().long(), unit


def _bias(layer: Layer, unit: Tensor) -> Tensor | None:
    if isinstance(layer, Convolution):
        return (layer.bias / unit).round().long()
    return torch.zeros(len(unit), dtype=torch.long) if isinstance(layer, Add) else None


def _corrected(one: IntegerLayer, inputs: Sequence[_Map], unit: Tensor) -> Tensor:
    """Return the bias with which each channel's mean is what it is without rounding."""
    bare = replace(one.layer, activation="")
    wanted = graphs.apply(bare, [i.real for i in inputs]).mean((0, 2, 3)) / unit
    got = sums(one, [i.numbers for i in inputs], [i.zero for i in inputs]).double()
    assert one.bias is not None
    return one.bias + (wanted - got.mean((0, 2, 3))).round().long()


def _rescale(factors: Tensor, *, alike: bool = False) -> Rescale:
    """Return factors as multipliers of 16 bits and shifts; `alike` are the shifts of all."""
    exponents = torch.frexp(factors.amax().expand_as(factors) if alike else factors).exponent
    shift = (MULTIPLIER_BITS - exponents.long()).clamp(1, 62)
    multiplier = (factors * 2.0 ** shift.double()).round().long()
    return Rescale(multiplier.clamp(max=(1 << MULTIPLIER_BITS) - 1), shift)


def _check(one: IntegerLayer, inputs: Sequence[_Map]) -> None:
    """Raise UsageError where 32 bits could overflow for some picture."""
    farthest = [torch.maximum(i.zero, HIGHEST - i.zero).amax() for i in inputs]
    if one.weight is None:
        most = farthest[0] * one.layer.window.kernel[0] * one.layer.window.kernel[1]
    elif isinstance(one.layer, Add):
        most = (one.weight * torch.stack(farthest)[:, None]).sum(0)
    else:
        most = one.weight.abs().flatten(1).sum(1) * farthest[0]
    most = most if one.bias is None else most + one.bias.abs()
    assert one.rescale is not None
    scaled = most.double() * one.rescale.multiplier / 2.0 ** one.rescale.shift.double()
    if max(float(most.amax()), float(scaled.amax())) >= 1 << SUM_BITS:
        what = f"{', '.join(one.layer.made_of)} adds up to more than 32 bits hold"
        raise UsageError(what, hint="--to c computes in float")
