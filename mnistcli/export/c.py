"""A trained network as one C99 file: no heap, no library, a few rows of each map at a time."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from mnistcli import __version__
from mnistcli.export import c_kernels as kernels
from mnistcli.export.c_layers import Text, layer_function
from mnistcli.export.graph import Add, Convolution, Graph
from mnistcli.export.integer import IntegerGraph
from mnistcli.export.schedule import gathers, plan


@dataclass(frozen=True)
class Source:
    """A C file and what it takes, in bytes: weights and biases, all constants, static memory."""

    text: str
    weights: int
    constants: int
    memory: int


@dataclass(frozen=True)
class _Array:
    """An array of the file: constant numbers, or memory."""

    kind: str
    name: str
    sizes: tuple[int, ...]
    values: tuple[str, ...] = ()

    @property
    def bytes(self) -> int:
        width = {"float": 4, "int32_t": 4, "uint16_t": 2, "int16_t": 2}.get(self.kind, 1)
        return int(np.prod(self.sizes)) * width

    @property
    def head(self) -> str:
        return f"{self.kind} {self.name}" + "".join(f"[{size}]" for size in self.sizes)


def write_c(graph: Graph, about: str, integers: IntegerGraph | None = None) -> Source:
    """Return the file for a graph, or with `integers` the one that computes in them alone.

    `about` says in a few words whose weights these are.
    """
    text = Text(graph, plan(graph, first=0 if integers is None else 1), integers)
    functions = [layer_function(text, n) for n in range(len(graph.shapes))
                 if n or integers is None]  # fmt: skip
    code = "\n".join([*functions, _predict(text)])  # a maximum of maxima needs no zero
    constants = [one for one in _constants(text) if re.search(rf"\b{one.name}\b", code)]
    memory = list(_memory(text))
    taken = sum(array.bytes for array in memory)
    first = [array for array in constants if array.name.startswith(("weight", "bias"))]
    total = sum(array.bytes for array in constants)
    parts = [
        _head(about, taken, sum(array.bytes for array in first), total, integers is not None),
        *map(_constant, constants),
        "\n".join(f"static {array.head};" for array in memory) + "\n",
        _STATED.format(sizes=" + ".join(f"sizeof {a.name}" for a in memory), taken=taken),
        "static const uint8_t *picture;\n",
        *text.functions.values(), code,
    ]  # fmt: skip
    return Source("\n".join(parts), sum(array.bytes for array in first), total, taken)


_STATED = """\
/* Does not compile unless these take {taken} bytes. */
typedef char memory_as_stated[{sizes} == {taken} ? 1 : -1];
"""


def _head(about: str, memory: int, weights: int, constants: int, integers: bool) -> str:
    scores = "int32_t" if integers else "float"
    meaning = "the logits in units of 2^-16" if integers else "the logits"
    rounding = "\n" + kernels.ROUNDING if integers else ""
    return f"""\
/* {about}
   Written by mnistcli {__version__}.

   int mnist_predict(const uint8_t image[784], {scores} scores[10]);

   `image` has 28 rows of 28 grey levels, the digit light (255) on dark (0), as MNIST's are. Returns
   the digit, 0 to 9; `scores` are {meaning}.

   Static memory: {memory:,} bytes, all in the arrays below; no heap. Constants: {constants:,}
   bytes, {weights:,} of them weights and biases. C99 without any library. Not reentrant: one
   picture at a time. Rows are made in the order of `order`, and each map keeps as few of them as
   that allows.
{rounding}*/
#include <stdint.h>

int mnist_predict(const uint8_t image[784], {scores} scores[10]);
"""


def _constants(text: Text) -> Iterator[_Array]:
    if text.integers is None:
        for number, layer in enumerate(text.graph.layers, 1):
            if isinstance(layer, Convolution):
                yield _weights("float", number, layer.weight)
                yield _array("float", f"bias_{number}", layer.bias.float())
    else:
        yield from _integer_constants(text, text.integers)
    order = text.schedule.order
    yield _Array("uint8_t", "order", (len(order),), tuple(map(str, order)))


def _integer_constants(text: Text, integers: IntegerGraph) -> Iterator[_Array]:
    needed = {0: integers.zeros[0]} | {n: one.zero for n, one in enumerate(integers.layers, 1)}
    yield from (_array("uint8_t", f"zero_{n}", zero) for n, zero in needed.items()
                if n < len(integers.layers))  # fmt: skip
    for number, one in enumerate(integers.layers, 1):
        if isinstance(one.layer, Convolution):
            assert one.weight is not None
            yield _weights("int8_t", number, one.weight)
        elif one.weight is not None:
            yield _array("int16_t", f"weight_{number}", one.weight)
        if one.bias is not None:
            yield _array("int32_t", f"bias_{number}", one.bias)
        if one.rescale is not None:
            yield _array("uint16_t", f"multiplier_{number}", one.rescale.multiplier)
            yield _array("uint8_t", f"shift_{number}", one.rescale.shift)
        if one.second is not None:
            yield _array("uint16_t", f"second_{number}", one.second.multiplier)
        if one.most is not None:
            kind = "int32_t" if one.last else "uint8_t"
            yield _array(kind, f"most_{number}", one.most.clamp(max=2**31 - 1 if one.last else 255))


def _weights(kind: str, number: int, weight: Tensor) -> _Array:
    """Return a convolution's weights by output channel and row of the kernel."""
    rows = weight.permute(0, 2, 1, 3).flatten(2)
    return _array(kind, f"weight_{number}", rows.float() if kind == "float" else rows)


def _array(kind: str, name: str, values: Tensor) -> _Array:
    if kind == "float":
        numbers = tuple(_literal(value) for value in values.flatten().numpy())
    else:
        numbers = tuple(str(value) for value in values.flatten().tolist())
    return _Array(kind, name, tuple(values.shape), numbers)


def _literal(value: np.float32) -> str:
    """Return the shortest digits that give this very number."""
    usual = value == 0 or 1e-4 <= abs(value) < 1e4
    digits = np.format_float_positional(value, trim="0") if usual else f"{value:.9g}"
    return f"{digits}f" if set(digits) & set(".e") else f"{digits}.0f"


def _constant(array: _Array) -> str:
    body = textwrap.fill(
        _braced(array.values, array.sizes), 98, initial_indent="    ", subsequent_indent="    ",
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip
    return f"static const {array.head} =\n{body};\n"


def _braced(values: Sequence[str], sizes: Sequence[int]) -> str:
    """Return numbers in a pair of braces for each index, as compilers ask for."""
    share = len(values) // sizes[0]
    parts = [values[start : start + share] for start in range(0, len(values), share)]
    inner = [part[0] if len(sizes) == 1 else _braced(part, sizes[1:]) for part in parts]
    return "{" + ", ".join(inner) + "}"


def _memory(text: Text) -> Iterator[_Array]:
    shapes, rings = text.graph.shapes, text.schedule.rings
    last = len(shapes) - 1
    for number, (channels, _, width) in enumerate(shapes):
        if number or text.integers is None:
            kind = "int32_t" if text.integers and number == last else text.value
            yield _Array(kind, f"map_{number}", (rings[number], channels * width))
    for number, layer in enumerate(text.graph.layers, 1):
        sums = text.integers is not None and text.integer(number).rescale is not None
        if sums and not isinstance(layer, Add) and gathers(layer):
            yield _Array("int32_t", f"sum_{number}", (layer.shape[0] * layer.shape[2],))
    yield _Array("uint8_t", "made", (len(shapes),))


def _predict(text: Text) -> str:
    count, last = len(text.graph.shapes), len(text.graph.layers)
    named = [f"layer_{n}" if n or text.integers is None else "0" for n in range(count)]
    functions = textwrap.fill(", ".join(named), 88)
    kind = "float" if text.integers is None else "int32_t"
    return f"""\
int mnist_predict(const uint8_t image[784], {kind} scores[10])
{{
    static void (*const layers[{count}])(void) = {{
        {functions.replace(chr(10), chr(10) + " " * 8)}
    }};
    int digit = 0;

    picture = image;
    for (int n = 0; n < {count}; ++n)
        made[n] = 0;
    for (int n = 0; n < {len(text.schedule.order)}; ++n)
        layers[order[n]]();
    for (int n = 0; n < 10; ++n) {{
        scores[n] = map_{last}[0][n];
        if (scores[n] > scores[digit])
            digit = n;
    }}
    return digit;
}}
"""
