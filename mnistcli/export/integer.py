"""A network in integers only: 8-bit weights and maps, 32-bit sums, and how they are rounded.

A map's number q stands for (q - zero) · step, q from 0 to 255 and `zero` its own channel's. The
picture is used as it is: its grey level 33 stands for the normalised 0.

A layer adds up (q - zero) · weight in 32 bits from `bias`, multiplies the sum by `multiplier` in 64
bits and shifts it right by `shift`. A shift rounds to the nearest, halves up. Results are clipped
to 0 … 255; those of the last layer are not, they are logits in units of 2⁻¹⁶. Hardswish is
t · clip(t + 3, 0, 6) / 6 with t in units of 2⁻¹²; the product is shifted back by 12, then `second`
scales it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mnistcli.export.graph import Add, Convolution, Layer, Pool

LOGIT_BITS = 16
T_BITS = 12
ADD_BITS = 14  # of a sum's larger factor
MULTIPLIER_BITS = 16
T_MOST = 1 << 18  # t is clipped to ± 64: its product with 6 stays within 32 bits
HIGHEST = 255
SUM_BITS = 31


@dataclass(frozen=True)
class Rescale:
    """A factor for each channel: `multiplier` (16 bits) / 2^`shift` (1 to 62), int64 [C] both."""

    multiplier: Tensor
    shift: Tensor

    def __call__(self, values: Tensor) -> Tensor:
        """Return int64 [N, C, H, W] times the factors, rounded."""
        return shifted(values * _column(self.multiplier), _column(self.shift))


@dataclass(frozen=True)
class IntegerLayer:
    """A layer of the graph with its integers, int64 tensors throughout.

    `weight` is a convolution's [C, inputs / groups, H, W] in int8, or a sum's two factors [2, C];
    `second` is there for Hardswish alone; `zero` [C] is that of the map that it gives, and `most`
    the greatest number that its activation lets through. Maxima take nothing but `zero`.
    """

    layer: Layer
    zero: Tensor
    weight: Tensor | None = None
    bias: Tensor | None = None
    rescale: Rescale | None = None
    second: Rescale | None = None
    most: Tensor | None = None
    last: bool = False


@dataclass(frozen=True)
class IntegerGraph:
    """The layers in order, and what stands for 0 in the picture."""

    layers: tuple[IntegerLayer, ...]
    picture_zero: int

    @property
    def zeros(self) -> tuple[Tensor, ...]:
        """The zero of each channel of each map, the picture's first."""
        return (torch.tensor([self.picture_zero]), *(one.zero for one in self.layers))


def run_integers(graph: IntegerGraph, pictures: Tensor) -> Tensor:
    """Return the logits in units of 2⁻¹⁶, int64 [N, 10], for pictures uint8 [N, 28, 28]."""
    maps = [pictures.unsqueeze(1).long()]
    for one in graph.layers:
        inputs = [maps[number] for number in one.layer.inputs]
        zeros = [graph.zeros[number] for number in one.layer.inputs]
        maps.append(compute(one, inputs, zeros))
    return maps[-1].flatten(1)


def compute(one: IntegerLayer, inputs: Sequence[Tensor], zeros: Sequence[Tensor]) -> Tensor:
    """Return the map that a layer gives, int64 [N, C, H, W]."""
    if one.rescale is None:
        window = one.layer.window
        return F.max_pool2d(inputs[0].double(), window.kernel, window.stride).long()
    return finish(one, sums(one, inputs, zeros))


def sums(one: IntegerLayer, inputs: Sequence[Tensor], zeros: Sequence[Tensor]) -> Tensor:
    """Return a layer's sums, int64 [N, C, H, W] that fit 32 bits.

    They are added up in float64, which holds integers up to 2⁵³ exactly, in whatever order.
    """
    layer, window = one.layer, one.layer.window
    first, *others = [values - _column(zero) for values, zero in zip(inputs, zeros, strict=True)]
    if isinstance(layer, Pool):
        count = window.kernel[0] * window.kernel[1]
        means = F.avg_pool2d(first.double(), window.kernel, window.stride)
        return (means * count).round().long()
    assert one.weight is not None
    assert one.bias is not None
    if isinstance(layer, Add):
        factors = one.weight
        return first * _column(factors[0]) + others[0] * _column(factors[1]) + _column(one.bias)
    assert isinstance(layer, Convolution)
    weight, bias = one.weight.double(), one.bias.double()
    return F.conv2d(
        first.double(), weight, bias, window.stride, window.padding, groups=layer.groups
    ).long()


def finish(one: IntegerLayer, values: Tensor) -> Tensor:
    """Return the map's numbers from a layer's sums."""
    assert one.rescale is not None
    scaled = one.rescale(values)
    if one.second is not None:
        t = scaled.clamp(-T_MOST, T_MOST)
        gate = (t + (3 << T_BITS)).clamp(0, 6 << T_BITS)
        scaled = one.second(shifted(t * gate, torch.tensor(T_BITS)))
    if one.layer.activation in ("relu", "relu6"):
        scaled = scaled.clamp(min=0)
    if one.last:
        return scaled if one.most is None else scaled.minimum(_column(one.most))
    highest = torch.full_like(one.zero, HIGHEST) if one.most is None else one.most
    return (scaled + _column(one.zero)).clamp(min=0).minimum(_column(highest))


def shifted(values: Tensor, bits: Tensor) -> Tensor:
    """Return int64 values / 2^bits, rounded to the nearest, halves up."""
    return (values + (1 << (bits - 1))) >> bits


def _column(values: Tensor) -> Tensor:
    return values.reshape(-1, 1, 1)
