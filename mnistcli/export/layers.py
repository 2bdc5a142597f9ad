"""What each of torch's layers and functions becomes in a graph: a rule by its name."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from mnistcli.export.building import Building, Unknown
from mnistcli.export.graph import Activation, Add, Convolution, Pool, Window
from mnistcli.models.trace import Value


def _pair(value: Any) -> tuple[int, int]:
    first, second = (value, value) if isinstance(value, int) else (value[0], value[-1])
    return int(first), int(second)


def _slid(shape: Sequence[int], window: Window) -> tuple[int, int]:
    """Return the height and width that a window gives; places that it does not reach are left."""
    sizes = zip(shape[1:], window.kernel, window.stride, window.padding, strict=True)
    height, width = ((size + 2 * pad - kernel) // step + 1 for size, kernel, step, pad in sizes)
    return height, width


def _convolution(building: Building, layer: nn.Conv2d, picture: Value) -> int:
    if layer.padding_mode != "zeros":
        raise Unknown(f"Conv2d with padding_mode={layer.padding_mode!r}")
    if _pair(layer.dilation) != (1, 1):
        raise Unknown("Conv2d with dilation")
    number = building.read(picture)
    kernel, padding = _pair(layer.kernel_size), layer.padding
    if isinstance(padding, str):
        padding = (0, 0) if padding == "valid" else (kernel[0] // 2, kernel[1] // 2)
        if layer.padding == "same" and not (kernel[0] % 2 and kernel[1] % 2):
            raise Unknown("Conv2d with an even kernel and padding='same'")
    window = Window(kernel, _pair(layer.stride), _pair(padding))
    weight = layer.weight.double()
    bias = weight.new_zeros(len(weight)) if layer.bias is None else layer.bias.double()
    shape = (len(weight), *_slid(building.shape(number), window))
    made = Convolution(
        (number,), shape, ("Conv2d",), window, weight=weight, bias=bias, groups=layer.groups
    )
    return building.put(made)


def _linear(building: Building, layer: nn.Linear, values: Value) -> int:
    number = building.read(values)
    channels, height, width = building.shape(number)
    if len(values.shape) != 2 or values.shape[1] != channels * height * width:
        raise Unknown("Linear along one axis of several")
    weight = layer.weight.double().reshape(-1, channels, height, width)
    bias = weight.new_zeros(len(weight)) if layer.bias is None else layer.bias.double()
    window, shape = Window((height, width)), (len(weight), 1, 1)
    return building.put(
        Convolution((number,), shape, ("Linear",), window, weight=weight, bias=bias)
    )


def _norm(building: Building, layer: nn.BatchNorm2d, values: Value) -> int:
    """Batch norm in evaluation: (x - mean) / sqrt(variance + eps) · weight + bias."""
    number = building.read(values)
    if layer.running_mean is None or layer.running_var is None:
        raise Unknown(f"{type(layer).__name__} without running statistics")
    if values.shape[1] != building.shape(number)[0]:
        raise Unknown(f"{type(layer).__name__} on a flattened map")
    scale = (layer.running_var.double() + layer.eps).rsqrt()
    if layer.weight is not None:
        scale = scale * layer.weight.double()
    shift = -layer.running_mean.double() * scale
    if layer.bias is not None:
        shift = shift + layer.bias.double()
    return building.scale(number, scale, shift, type(layer).__name__)


def _activation(activation: Activation) -> Callable[..., int]:
    def rule(building: Building, layer: Any, values: Value, inplace: bool = False) -> int:
        name = layer if isinstance(layer, str) else type(layer).__name__
        return building.activate(building.read(values), activation, name)

    return rule


def _same(building: Building, layer: Any, values: Value, *_: Any, **__: Any) -> int:
    """What changes nothing in evaluation, or only how a map is written down."""
    return building.read(values)


def _flatten(
    building: Building, layer: Any, values: Value, start_dim: int = 1, end_dim: int = -1
) -> int:
    if not isinstance(layer, str):
        start_dim, end_dim = layer.start_dim, layer.end_dim
    if start_dim != 1 or end_dim not in (-1, len(values.shape) - 1):
        raise Unknown("flatten of some axes")
    return building.read(values)


def _reshape(building: Building, layer: str, values: Value, *shape: Any) -> int:
    """`x.view(len(x), -1)`, and whatever else gives [N, C·H·W]; one picture is looked at."""
    sizes = list(shape[0]) if len(shape) == 1 and isinstance(shape[0], list | tuple) else shape
    whole = math.prod(values.shape)
    if list(sizes) not in ([1, -1], [-1, whole], [1, whole]):
        raise Unknown(layer)
    return building.read(values)


def _pool(building: Building, number: int, kind: str, window: Window, name: str) -> int:
    if window == Window():
        return number  # each window is one pixel
    shape = building.shape(number)
    made = (shape[0], *_slid(shape, window))
    return building.put(Pool((number,), made, (name,), window, kind=kind))  # type: ignore[arg-type]


def _settings(layer: Any, names: Sequence[str], words: Sequence[Any], named: dict[str, Any]) -> Any:
    """Return what a pooling is set to: by a layer's attributes, or a function's arguments."""
    if isinstance(layer, str):
        return dict(zip(names, words, strict=False)) | named
    return vars(layer)


def _max_pool(building: Building, layer: Any, values: Value, *words: Any, **named: Any) -> int:
    names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
    given = _settings(layer, names, words, named)
    plain = _pair(given.get("padding", 0)) == (0, 0) and _pair(given.get("dilation", 1)) == (1, 1)
    if not plain or given.get("ceil_mode") or given.get("return_indices"):
        raise Unknown("max-pooling with padding, dilation, ceil_mode or indices")
    kernel = _pair(given["kernel_size"])
    window = Window(kernel, _pair(given.get("stride") or kernel))
    return _pool(building, building.read(values), "max", window, "MaxPool2d")


def _mean_pool(building: Building, layer: Any, values: Value, *words: Any, **named: Any) -> int:
    names = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad",
             "divisor_override")  # fmt: skip
    given = _settings(layer, names, words, named)
    plain = _pair(given.get("padding", 0)) == (0, 0)
    if not plain or given.get("ceil_mode") or given.get("divisor_override"):
        raise Unknown("average pooling with padding, ceil_mode or another divisor")
    kernel = _pair(given["kernel_size"])
    window = Window(kernel, _pair(given.get("stride") or kernel))
    return _pool(building, building.read(values), "mean", window, "AvgPool2d")


def _adaptive(kind: str) -> Callable[..., int]:
    def rule(building: Building, layer: Any, values: Value, output_size: Any = None) -> int:
        size = output_size if isinstance(layer, str) else layer.output_size
        number = building.read(values)
        sides, wanted = building.shape(number)[1:], _pair(1 if size is None else size)
        if any(side % want for side, want in zip(sides, wanted, strict=True)):
            raise Unknown("adaptive pooling to a size that does not divide the map's")
        kernel = (sides[0] // wanted[0], sides[1] // wanted[1])
        name = "AdaptiveAvgPool2d" if kind == "mean" else "AdaptiveMaxPool2d"
        return _pool(building, number, kind, Window(kernel, kernel), name)

    return rule


def _mean(
    building: Building, layer: str, values: Value, dim: Any = None, keepdim: Any = False
) -> int:
    number = building.read(values)
    axes = {axis % 4 for axis in dim} if isinstance(dim, list | tuple) else set()
    if len(values.shape) != 4 or axes != {2, 3}:
        raise Unknown("a mean over other axes than rows and columns")
    return _pool(building, number, "mean", Window(building.shape(number)[1:]), "mean")


def _add(building: Building, layer: str, one: Any, other: Any) -> int:
    if not (isinstance(one, Value) and isinstance(other, Value)):
        raise Unknown("a sum with a number")
    inputs = building.read(one), building.read(other)
    shape = building.shape(inputs[0])
    if shape != building.shape(inputs[1]) or one.shape != other.shape:
        raise Unknown("a sum of maps of different sizes")
    return building.put(Add(inputs, shape, ("add",)))


def _item(building: Building, layer: str, values: Value, index: Any) -> int:
    """`x[:, :, ::2, ::2]`: every second pixel is a maximum of one, every second time."""
    parts = [part for part in index if part is not Ellipsis] if isinstance(index, tuple) else []
    whole = [p for p in parts if isinstance(p, slice) and p.start in (None, 0) and p.stop is None]
    steps = [part.step or 1 for part in whole]
    if len(steps) != 4 or len(values.shape) != 4 or steps[:2] != [1, 1]:
        raise Unknown("an index other than every n-th row and column")
    window = Window((1, 1), (steps[2], steps[3]))
    return _pool(building, building.read(values), "max", window, "every n-th pixel")


RULES: dict[str, Callable[..., int]] = {
    "Conv2d": _convolution, "Linear": _linear, "BatchNorm2d": _norm, "BatchNorm1d": _norm,
    "ReLU": _activation("relu"), "relu": _activation("relu"), "ReLU6": _activation("relu6"),
    "relu6": _activation("relu6"), "Hardswish": _activation("hardswish"),
    "hardswish": _activation("hardswish"), "Flatten": _flatten, "flatten": _flatten,
    "Dropout": _same, "Dropout2d": _same, "Identity": _same, "contiguous": _same,
    "view": _reshape, "reshape": _reshape, "MaxPool2d": _max_pool, "max_pool2d": _max_pool,
    "AvgPool2d": _mean_pool, "avg_pool2d": _mean_pool, "AdaptiveAvgPool2d": _adaptive("mean"),
    "adaptive_avg_pool2d": _adaptive("mean"), "AdaptiveMaxPool2d": _adaptive("max"),
    "adaptive_max_pool2d": _adaptive("max"), "mean": _mean, "add": _add, "iadd": _add,
    "getitem": _item,
}  # fmt: skip
