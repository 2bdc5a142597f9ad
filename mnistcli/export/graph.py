"""What a trained network computes, as a list of layers with their numbers folded in.

C and integer arithmetic are written from this one description.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from torch import Tensor

Activation = Literal["", "relu", "relu6", "hardswish"]
_FUNCTIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "": lambda x: x,
    "relu": F.relu,
    "relu6": F.relu6,
    "hardswish": F.hardswish,
}


@dataclass(frozen=True)
class Window:
    """Height and width of a kernel, its steps, and the rows and columns of zeros around the map."""

    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Layer:
    """A layer reads earlier maps by their numbers and gives one map of `shape` (channels, H, W).

    Map 0 is the normalised picture, map n what the n-th layer gives. `made_of` names the layers
    of the network that it stands for.
    """

    inputs: tuple[int, ...]
    shape: tuple[int, int, int]
    made_of: tuple[str, ...]
    window: Window = Window()
    activation: Activation = ""


@dataclass(frozen=True, kw_only=True)
class Convolution(Layer):
    """Any layer that weighs: `weight` is float64 [C, inputs / groups, H, W], `bias` [C].

    A linear layer's kernel covers its whole input, a batch norm of its own is 1×1 with a group a
    channel.
    """

    weight: Tensor
    bias: Tensor
    groups: int = 1


@dataclass(frozen=True)
class Pool(Layer):
    """The maximum or the mean of each window; a maximum of single pixels is a resampling."""

    kind: Literal["max", "mean"] = "max"


@dataclass(frozen=True)
class Add(Layer):
    """The sum of two maps of the same shape."""


@dataclass(frozen=True)
class Graph:
    """The layers in order; the last one's map, flattened, is the logits."""

    layers: tuple[Layer, ...]

    @property
    def shapes(self) -> tuple[tuple[int, int, int], ...]:
        """The shape of each map, the picture's first."""
        return ((1, 28, 28), *(layer.shape for layer in self.layers))

    @property
    def parameters(self) -> int:
        """How many weights and biases are left after folding."""
        convolutions = (layer for layer in self.layers if isinstance(layer, Convolution))
        return sum(layer.weight.numel() + layer.bias.numel() for layer in convolutions)

    def readers(self, number: int) -> list[int]:
        """Return the numbers of the layers that read a map."""
        return [n for n, layer in enumerate(self.layers, 1) if number in layer.inputs]


def run(graph: Graph, pictures: Tensor) -> list[Tensor]:
    """Return all maps for normalised pictures [N, 1, 28, 28], in their own floating type."""
    maps = [pictures]
    for layer in graph.layers:
        maps.append(apply(layer, [maps[number] for number in layer.inputs]))
    return maps


def apply(layer: Layer, inputs: Sequence[Tensor]) -> Tensor:
    """Return what one layer makes of its inputs [N, C, H, W]."""
    window, first = layer.window, inputs[0]
    if isinstance(layer, Add):
        given = first + inputs[1]
    elif isinstance(layer, Convolution):
        weight, bias = layer.weight.to(first.dtype), layer.bias.to(first.dtype)
        given = F.conv2d(first, weight, bias, window.stride, window.padding, groups=layer.groups)
    elif isinstance(layer, Pool) and layer.kind == "max":
        given = F.max_pool2d(first, window.kernel, window.stride)
    else:
        given = F.avg_pool2d(first, window.kernel, window.stride)
    return _FUNCTIONS[layer.activation](given)
