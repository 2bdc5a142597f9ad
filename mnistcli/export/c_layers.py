"""One C function per layer: each call makes the layer's next row, or takes one row in."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from mnistcli.export import c_kernels as kernels
from mnistcli.export.graph import Add, Convolution, Graph, Layer, Pool
from mnistcli.export.integer import IntegerGraph, IntegerLayer
from mnistcli.export.schedule import Schedule, gathers


@dataclass
class Text:
    """What the file is made of: the functions that layers call, by name, and the layers."""

    graph: Graph
    schedule: Schedule
    integers: IntegerGraph | None = None
    functions: dict[str, str] = field(default_factory=dict)

    @property
    def value(self) -> str:
        """The type of a map's numbers."""
        return "float" if self.integers is None else "uint8_t"

    @property
    def number(self) -> str:
        """The type of sums."""
        return "float" if self.integers is None else "int32_t"

    def width(self, number: int) -> int:
        """Return the width of a map."""
        return self.graph.shapes[number][2]

    def row(self, number: int, y: str) -> str:
        """Return where row y of a map begins."""
        ring = self.schedule.rings[number]
        if number == 0 and self.integers is not None:
            return f"picture + 28 * ({y})"
        place = y if y.isidentifier() else f"({y})"
        return f"map_{number}[{f'{place} % {ring}' if ring > 1 else 0}]"

    def integer(self, number: int) -> IntegerLayer:
        """Return a layer's integers."""
        assert self.integers is not None
        return self.integers.layers[number - 1]

    def use(self, name: str, text: str) -> str:
        """Note a function, and return its name."""
        self.functions.setdefault(name, text)
        return name


def layer_function(text: Text, number: int) -> str:
    """Return the function of a layer; 0 is the one that reads the picture."""
    if number == 0:
        return _PICTURE.format(row=text.row(0, "row"))
    layer = text.graph.layers[number - 1]
    height, width = layer.shape[1:]
    read = " and ".join(str(n) for n in layer.inputs)
    what = ", ".join(layer.made_of) or "scale"
    sizes = f"{layer.shape[0]} channels of {height}x{width}"
    lines = _sum_of_two(text, number, layer) if isinstance(layer, Add) else _windows(text, number)
    body = "\n".join(f"    {line}" if line else "" for line in lines)
    return (
        f"/* {what}: map {read} to {sizes}. */\nstatic void layer_{number}(void)\n{{\n{body}\n}}\n"
    )


_PICTURE = """\
/* The picture's next row, with mean 0 and standard deviation 1. */
static void layer_0(void)
{{
    const int row = made[0]++;
    for (int x = 0; x < 28; ++x)
        {row}[x] = (picture[28 * row + x] / 255.0f - 0.1307f) / 0.3081f;
}}
"""


def _windows(text: Text, number: int) -> list[str]:
    """Return a layer whose results are made of windows, channel by channel."""
    layer = text.graph.layers[number - 1]
    channels, _, width = layer.shape
    sums = text.integers is not None and not _is_max(layer)
    kept = sums and gathers(layer)
    kind = "int32_t" if sums and text.integer(number).last else text.value
    lines = [f"{kind} *out = {text.row(number, 'row')};"]
    if sums:
        lines += [f"int32_t *sum = sum_{number};" if kept else f"int32_t sum[{width}];"]
    if gathers(layer):
        row = f"{layer.window.stride[0]} * row + k" if layer.shape[1] > 1 else "k"
        lines += [f"const {text.value} *in = {text.row(layer.inputs[0], row)};"]
    lines += [
        f"for (int o = 0; o < {channels}; ++o, out += {width}{f', sum += {width}' * kept}) {{"
    ]
    lines += [f"    {line}" for line in _window(text, number, "sum" if sums else "out")]
    return [*_counted(number, layer, " ".join(lines)), *lines, "}"]


def _counted(number: int, layer: Layer, body: str) -> list[str]:
    """Return the lines that say which row it is, as far as the layer needs to know."""
    rows = layer.window.kernel[0]
    needed = re.search(r"\brow\b", body)
    if not gathers(layer):
        return [f"const int row = made[{number}]++;"] if needed else []
    taken = f"const int taken = made[{number}]++, k = taken % {rows}"
    return [taken + (f", row = taken / {rows};" if needed else ";")]


def _window(text: Text, number: int, sums: str) -> list[str]:
    """Return what is done for one channel of a row: start, take rows in, finish."""
    layer = text.graph.layers[number - 1]
    window, (read,) = layer.window, layer.inputs
    rows, step, padding = window.kernel[0], window.stride[0], window.padding[0]
    height, width = text.graph.shapes[read][1], layer.shape[2]
    start = [] if _is_max(layer) else [_filled(text, number, sums, width)]
    finish = _finish(text, number, width)
    if gathers(layer):
        taken = _take(text, number, sums, "in", "k")
        start = [f"if (k == 0)\n            {line}" for line in start]
        finish = [f"if (k == {rows - 1})\n            {line}" for line in finish]
        return [*start, f"{taken};", *finish]
    if rows == 1 and not padding:
        row = text.row(read, f"{step} * row" if step > 1 else "row")
        return [*start, f"{_take(text, number, sums, row, '0')};", *finish]
    place = f"{f'{step} * ' if step > 1 else ''}row + k" + (f" - {padding}" if padding else "")
    inside = f"    if (y >= 0 && y < {height})\n                " if padding else "    "
    taken = _take(text, number, sums, text.row(read, "y"), "k")
    return [
        *start, f"for (int k = 0; k < {rows}; ++k) {{", f"    const int y = {place};",
        f"{inside}{taken};", "}", *finish,
    ]  # fmt: skip


def _is_max(layer: Layer) -> bool:
    return isinstance(layer, Pool) and layer.kind == "max"


def _filled(text: Text, number: int, sums: str, width: int) -> str:
    text.use("fill", kernels.FILL.format(number=text.number))
    biased = isinstance(text.graph.layers[number - 1], Convolution)
    return f"fill({sums}, {f'bias_{number}[o]' if biased else 0}, {width});"


def _take(text: Text, number: int, sums: str, row: str, k: str) -> str:
    """Return the call that takes one row of the input into a channel's sums or maxima."""
    layer = text.graph.layers[number - 1]
    window, (read,) = layer.window, layer.inputs
    width, across = layer.shape[2], text.width(read)
    if isinstance(layer, Convolution):
        share, outputs = layer.weight.shape[1], layer.shape[0] // layer.groups
        first = "" if layer.groups == 1 else f"(o / {outputs}) * {share}"
        first = f"o * {share}" if outputs == 1 and layer.groups > 1 else first
        begin = f"{row} + {first} * {across}" if first else row
        zero = f"zero_{read}{f' + {first}' if first else ''}, " if text.integers else ""
        name = text.use(*kernels.add_row(window, integers=text.integers is not None))
        return f"{name}({sums}, {begin}, {zero}weight_{number}[o][{k}], {share}, {across}, {width})"
    begin = f"{row} + o * {across}"
    size = f"{window.kernel[1]}, {window.stride[1]}, {width}"
    if _is_max(layer):
        text.use("max_row", kernels.MAX_ROW.format(value=text.value))
        return f"max_row(out, {begin}, {k} == 0, {size})"
    words = (
        {"zero": "int zero, ", "minus": " - zero"} if text.integers else {"zero": "", "minus": ""}
    )
    text.use("mean_row", kernels.MEAN_ROW.format(number=text.number, value=text.value, **words))
    zero = f"zero_{read}[o], " if text.integers else ""
    return f"mean_row({sums}, {begin}, {zero}{size})"


def _finish(text: Text, number: int, width: int) -> list[str]:
    """Return what makes a channel's numbers of its sums."""
    layer = text.graph.layers[number - 1]
    if _is_max(layer):
        return []
    if text.integers is not None:
        return [_finish_integers(text, number, width)]
    lines = []
    if isinstance(layer, Pool):
        count = layer.window.kernel[0] * layer.window.kernel[1]
        text.use("divide", _DIVIDE)
        lines += [f"divide(out, {count}.0f, {width});"]
    if layer.activation:
        text.use(layer.activation, kernels.ACTIVATIONS[layer.activation])
        lines += [f"{layer.activation}(out, {width});"]
    return lines


_DIVIDE = """\
static void divide(float *out, float by, int width)
{
    for (int x = 0; x < width; ++x)
        out[x] /= by;
}
"""


def _finish_integers(text: Text, number: int, width: int) -> str:
    one = text.integer(number)
    out = "int32_t" if one.last else "uint8_t"
    least, most = ("-INT32_MAX", "INT32_MAX") if one.last else ("0", "255")
    zero = "0" if one.last else f"zero_{number}[o]"
    if one.most is not None:
        most = f"most_{number}[o]"
    text.use("shifted", kernels.SHIFTED)
    scale = f"multiplier_{number}[o], shift_{number}[o]"
    suffix = "_scores" if one.last else ""
    if one.second is not None:
        name = f"hardswish{suffix}"
        text.use(name, kernels.HARDSWISH.format(name=name, out=out, least=least))
        shift = int(one.second.shift[0])
        return f"{name}(out, sum, {width}, {scale}, second_{number}[o], {shift}, {zero}, {most});"
    name = f"finish{suffix}"
    text.use(name, kernels.FINISH.format(name=name, out=out))
    if one.layer.activation:
        least = zero
    return f"{name}(out, sum, {width}, {scale}, {zero}, {least}, {most});"


def _sum_of_two(text: Text, number: int, layer: Layer) -> list[str]:
    channels, _, width = layer.shape
    one, other = (text.row(n, "row") for n in layer.inputs)
    first, second = layer.inputs
    start = [f"const {text.value} *a = {one}, *b = {other};"]
    if text.integers is None:
        total = f"for (int x = 0; x < {width}; ++x)\n            out[x] = a[x] + b[x];"
        start += [f"float *out = {text.row(number, 'row')};"]
    else:
        out = "int32_t" if text.integer(number).last else "uint8_t"
        start += [f"{out} *out = {text.row(number, 'row')};", f"int32_t sum[{width}];"]
        parts = (f"(int32_t)(a[x] - zero_{first}[o]) * weight_{number}[0][o]",
                 f"(int32_t)(b[x] - zero_{second}[o]) * weight_{number}[1][o]")  # fmt: skip
        total = (f"for (int x = 0; x < {width}; ++x)\n            sum[x] = bias_{number}[o] + "
                 f"{parts[0]}\n                + {parts[1]};")  # fmt: skip
    loop = f"for (int o = 0; o < {channels}; ++o, a += {width}, b += {width}, out += {width}) {{"
    finish = [f"    {line}" for line in _finish(text, number, width)]
    return [*_counted(number, layer, " ".join(start)), *start, loop, f"    {total}", *finish, "}"]
