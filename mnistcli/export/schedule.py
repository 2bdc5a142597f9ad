"""In which order a network's rows are made, so that few of them need be kept at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mnistcli.export.graph import Graph, Layer, Pool


@dataclass(frozen=True)
class Schedule:
    """`order` names layers by number: each time a layer makes its next row, or takes one in.

    Map n is kept in a ring of `rings[n]` rows: row y lies at y modulo that number.
    """

    order: tuple[int, ...]
    rings: tuple[int, ...]


def gathers(layer: Layer) -> bool:
    """Return whether a layer takes rows in one by one, since no two windows share one.

    Its input is then kept for one row, whatever the window's height.
    """
    window = layer.window
    apart = window.stride[0] >= window.kernel[0] or layer.shape[1] == 1
    return apart and window.kernel[0] > 1 and window.padding[0] == 0


def plan(graph: Graph, *, first: int = 0) -> Schedule:
    """Return the order for a graph; with `first` 1 the picture's own rows are there already."""
    planner = _Planner(graph, first)
    planner.make(len(graph.layers), 0)
    return Schedule(tuple(planner.order), tuple(planner.rings()))


def rows_read(layer: Layer, row: int, height: int) -> list[int]:
    """Return the rows of its input, of so many, that a layer's row is made of."""
    start = row * layer.window.stride[0] - layer.window.padding[0]
    return [y for y in range(start, start + layer.window.kernel[0]) if 0 <= y < height]


class _Planner:
    """Makes each row when a later layer asks for it, and notes when it is read last."""

    def __init__(self, graph: Graph, first: int) -> None:
        self.order: list[int] = []
        self._graph, self._first = graph, first
        self._made = [0 if n >= first else 28 for n in range(len(graph.shapes))]
        self._begun: list[dict[int, int]] = [{} for _ in graph.shapes]  # row: when it is written
        self._read: list[dict[int, int]] = [{} for _ in graph.shapes]  # row: when it is read last

    def make(self, number: int, row: int) -> None:
        """Let a layer make all rows up to this one."""
        while self._made[number] <= row:
            self._make_next(number)

    def _make_next(self, number: int) -> None:
        row = self._made[number]
        layer = self._graph.layers[number - 1] if number else None
        if layer is None:
            self._step(0, row, {})
        elif gathers(layer):
            (read,) = layer.inputs
            for y in rows_read(layer, row, self._graph.shapes[read][1]):
                self.make(read, y)
                self._step(number, row, {read: [y]})
        else:
            rows = {n: rows_read(layer, row, self._graph.shapes[n][1]) for n in layer.inputs}
            for read, ys in rows.items():
                self.make(read, max(ys, default=-1))
            if self._made[number] > row:
                return  # a sampler, which its input's row has brought along
            self._step(number, row, rows)
        self._made[number] += 1
        for reader in self._samplers(number, row):
            self.make(reader, self._made[reader])

    def _samplers(self, number: int, row: int) -> Iterator[int]:
        """Yield the layers that pick pixels of this row: they keep less of it than the row is."""
        for reader in self._graph.readers(number):
            layer = self._graph.layers[reader - 1]
            if isinstance(layer, Pool) and layer.window.kernel == (1, 1):
                wanted = self._made[reader]
                if wanted < layer.shape[1] and wanted * layer.window.stride[0] == row:
                    yield reader

    def _step(self, number: int, row: int, rows: dict[int, list[int]]) -> None:
        now = len(self.order)
        self.order.append(number)
        self._begun[number].setdefault(row, now)
        for read, ys in rows.items():
            self._read[read] |= dict.fromkeys(ys, now)

    def rings(self) -> Iterator[int]:
        """Yield the smallest number of rows in which none is overwritten before it is read."""
        for number, begun in enumerate(self._begun):
            ring = 1
            while any(begun.get(row + ring, len(self.order)) <= last
                      for row, last in self._read[number].items()):  # fmt: skip
                ring += 1
            yield 28 if number < self._first else ring
