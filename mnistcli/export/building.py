"""A graph while it grows: its layers so far, and which map each value of a trace is."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from mnistcli.export.graph import Activation, Convolution, Graph, Layer, Pool
from mnistcli.models.trace import Value


class Unknown(Exception):
    """A layer has no place in a graph; the reason completes "it uses …"."""


class Building:
    """The layers so far, and which map each value of a trace is."""

    def __init__(self, reads: Counter[int | None]) -> None:
        self._layers: list[Layer] = []
        self._maps: dict[int | None, int] = {0: 0}
        self._reads = reads
        self._shared: set[int] = set()  # maps that are read as they are now, whatever comes

    def knows(self, value: Value) -> bool:
        """Return whether a value is some layer's map."""
        return value.number in self._maps

    def name(self, value: Value, number: int) -> None:
        """Note which map a value is."""
        self._maps[value.number] = number

    def read(self, value: Any) -> int:
        """Return the number of a value's map."""
        if not isinstance(value, Value) or value.number not in self._maps:
            raise Unknown("a tensor that no layer gives")
        number = self._maps[value.number]
        if self._reads[value.number] > 1:
            self._shared.add(number)
        return number

    def shape(self, number: int) -> tuple[int, int, int]:
        """Return the shape of a map: channels, height, width."""
        return self._layers[number - 1].shape if number else (1, 28, 28)

    def put(self, layer: Layer) -> int:
        """Add a layer; return its map's number."""
        self._layers.append(layer)
        return len(self._layers)

    def scale(self, number: int, scale: Tensor, shift: Tensor, name: str) -> int:
        """Multiply and add per channel: within the convolution before, or by one of its own."""
        layer = self._open(number)
        if not isinstance(layer, Convolution):
            return self.put(self._single(number, scale, shift, (name,)))
        self._layers[-1] = replace(
            layer,
            made_of=(*layer.made_of, name),
            weight=layer.weight * scale.reshape(-1, 1, 1, 1),
            bias=layer.bias * scale + shift,
        )
        return number

    def activate(self, number: int, activation: Activation, name: str) -> int:
        """Apply a function to each number: behind the layer before, or behind one that copies."""
        if self._open(number) is None:
            number = self._copy(number)
        layer = self._layers[-1]
        self._layers[-1] = replace(layer, activation=activation, made_of=(*layer.made_of, name))
        return number

    def finish(self, output: Value) -> Graph:
        """Return the graph, whose last layer adds up: its results can have another scale."""
        number = self.read(output)
        if self.shape(number) != (10, 1, 1):
            raise Unknown("logits that are no channels of one pixel")
        if number == 0 or not _adds_up(self._layers[number - 1]):
            number = self._copy(number)
        return Graph(tuple(self._layers[:number]))

    def _open(self, number: int) -> Layer | None:
        """Return the layer of a map that nobody else reads as it is, where more can go into it."""
        if number == 0 or number != len(self._layers) or number in self._shared:
            return None
        layer = self._layers[-1]
        return layer if _adds_up(layer) and not layer.activation else None

    def _copy(self, number: int) -> int:
        ones = torch.ones(self.shape(number)[0], dtype=torch.float64)
        return self.put(self._single(number, ones, torch.zeros_like(ones), ()))

    def _single(
        self, number: int, scale: Tensor, shift: Tensor, made_of: tuple[str, ...]
    ) -> Convolution:
        shape, weight = self.shape(number), scale.reshape(-1, 1, 1, 1)
        return Convolution((number,), shape, made_of, groups=shape[0], weight=weight, bias=shift)


def _adds_up(layer: Layer) -> bool:
    return not (isinstance(layer, Pool) and layer.kind == "max")
