"""How torch's functions move receptive fields: a rule by the function's name.

A rule gets the result's shape, then the function's own arguments with each tensor as `Seen`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mnistcli.audit import field as fields
from mnistcli.audit import shapes
from mnistcli.audit.field import Field, NotFollowed
from mnistcli.audit.shapes import Seen, Shape
from mnistcli.models.trace import leaves


def _fixed(*tensors: Seen | None) -> None:
    """Raise NotFollowed unless these depend on no picture."""
    if any(tensor is not None and tensor.field is not None for tensor in tensors):
        raise NotFollowed("whose weights depend on the picture")


def _elementwise(shape: Shape, *args: Any, **kwargs: Any) -> Field:
    return fields.join(s.field for s in leaves((args, kwargs), Seen) if s.field is not None)


def _first(shape: Shape, input: Seen, *args: Any, **kwargs: Any) -> Field:
    return input.known


def _pair(value: Any) -> tuple[int, int]:
    first, second = (value, value) if isinstance(value, int) else (value[0], value[-1])
    return int(first), int(second)


def _slide(input: Seen, kernel: Any, *, stride: Any, padding: Any = 0, dilation: Any = 1) -> Field:
    rows, columns = zip(*map(_pair, (kernel, stride, padding, dilation)), strict=True)
    return fields.slide(input.known, rows, columns)


def _conv2d(
    shape: Shape, input: Seen, weight: Seen, bias: Seen | None = None, *window: Any, **named: Any
) -> Field:
    _fixed(weight, bias)
    given = dict(zip(("stride", "padding", "dilation"), window, strict=False))
    window_of = {"stride": 1, "padding": 0, "dilation": 1} | given | named
    kernel, padding, dilation = weight.shape[-2:], window_of["padding"], window_of["dilation"]
    if isinstance(padding, str):  # torch puts an odd pixel behind
        extents = zip(kernel, _pair(dilation), strict=True)
        padding = [d * (k - 1) // 2 if padding == "same" else 0 for k, d in extents]
    stride = window_of["stride"]
    return _slide(input, kernel, stride=stride, padding=padding, dilation=dilation)


def _max_pool2d(
    shape: Shape, input: Seen, kernel_size: Any, stride: Any = None, *window: Any, **named: Any
) -> Field:
    given = dict(zip(("padding", "dilation"), window, strict=False))
    taken = {key: value for key, value in named.items() if key in ("padding", "dilation")}
    return _slide(input, kernel_size, stride=stride or kernel_size, **given, **taken)


def _avg_pool2d(
    shape: Shape, input: Seen, kernel_size: Any, stride: Any = None, *window: Any, **named: Any
) -> Field:
    padding = named.get("padding", window[0] if window else 0)
    return _slide(input, kernel_size, stride=stride or kernel_size, padding=padding)


def _adaptive_pool2d(shape: Shape, input: Seen, *args: Any, **kwargs: Any) -> Field:
    sizes = input.shape[-2:]
    if any(size % given for size, given in zip(sizes, shape[-2:], strict=True)):
        raise NotFollowed("whose windows differ in size")
    windows = [size // given for size, given in zip(sizes, shape[-2:], strict=True)]
    return _slide(input, windows, stride=windows)


def _pad(
    shape: Shape, input: Seen, pad: Sequence[int], mode: str = "constant", value: Any = None
) -> Field:
    if mode == "circular":
        raise NotFollowed("which goes around the border")
    columns, rows = pad[0], pad[2] if len(pad) > 2 else 0
    return fields.slide(input.known, (1, 1, rows, 1), (1, 1, columns, 1))


def _linear(shape: Shape, input: Seen, weight: Seen, bias: Seen | None = None) -> Field:
    _fixed(weight, bias)
    return fields.mix(input.known, {-1})


def _matmul(shape: Shape, input: Seen, other: Seen) -> Field:
    if len(other.shape) != 2:
        raise NotFollowed("of two stacks of matrices")
    return _linear(shape, input, other)


def _batch_norm(
    shape: Shape, input: Seen, mean: Any, variance: Any, *, training: bool, **named: Any
) -> Field:
    """Without running statistics it takes those of the pictures, maps and all."""
    _fixed(*leaves((mean, variance, named), Seen))
    return _instance_norm(shape, input) if training else input.known


def _instance_norm(
    shape: Shape, input: Seen, *, use_input_stats: bool = True, **named: Any
) -> Field:
    places = input.dims(*range(2, len(input.shape)))
    return fields.mix(input.known, places if use_input_stats else ())


def _group_norm(shape: Shape, input: Seen, *args: Any, **kwargs: Any) -> Field:
    return fields.mix(input.known, input.dims(*range(1, len(input.shape))))


def _layer_norm(
    shape: Shape, input: Seen, normalized_shape: Sequence[int], *args: Any, **kwargs: Any
) -> Field:
    return fields.mix(input.known, {-1 - i for i in range(len(normalized_shape))})


def _softmax(shape: Shape, input: Seen, dim: int, *args: Any, **kwargs: Any) -> Field:
    return fields.mix(input.known, input.dims(dim))


def _normalize(shape: Shape, input: Seen, p: float = 2.0, dim: int = 1, *args: Any) -> Field:
    return fields.mix(input.known, input.dims(dim))


def _reduce(
    shape: Shape, input: Seen, dim: Any = None, keepdim: bool = False, *args: Any, **kwargs: Any
) -> Field:
    if isinstance(dim, Seen):  # torch.max of two tensors
        return _elementwise(shape, input, dim)
    if isinstance(dim, bool):
        raise NotFollowed("with its older arguments")
    along = (
        range(len(input.shape))
        if dim in (None, ())
        else (dim if isinstance(dim, Sequence) else [dim])
    )
    dims = input.dims(*along)
    field = fields.mix(input.known, dims)
    order = [i for i in range(len(input.shape)) if keepdim or i - len(input.shape) not in dims]
    return fields.rearrange(field, order, ndim=len(input.shape))


def _untouched(input: Seen, dim: int) -> Field:
    """Return the field of a tensor whose rows and columns do not lie along this axis."""
    field = input.known
    if {field.rows.dim, field.columns.dim} & input.dims(dim):
        raise NotFollowed("along rows or columns")
    return field


def _split(shape: Shape, input: Seen, size: Any, dim: int = 0) -> Field:
    return _untouched(input, dim)


def _glu(shape: Shape, input: Seen, dim: int = -1) -> Field:
    return _untouched(input, dim)


def _cat(shape: Shape, tensors: Sequence[Seen], dim: int = 0) -> Field:
    moving = [tensor for tensor in tensors if tensor.field is not None]
    return fields.join(_untouched(tensor, dim) for tensor in moving)


_ELEMENTWISE = """
relu relu6 gelu silu elu selu celu leaky_relu prelu rrelu tanh sigmoid softplus mish hardsigmoid
hardswish hardtanh logsigmoid softsign tanhshrink hardshrink softshrink threshold
dropout dropout1d dropout2d dropout3d alpha_dropout feature_alpha_dropout feature_dropout
neg negative positive abs absolute exp expm1 log log1p log2 log10 sqrt rsqrt square reciprocal sign
sin cos erf clamp clip clamp_min clamp_max round floor ceil trunc pow rpow nan_to_num clone
contiguous detach float half double bfloat16 cpu alias local_response_norm requires_grad add sub
subtract mul multiply div divide true_divide rsub rdiv rtruediv maximum minimum fmax fmin where
lerp addcmul addcdiv masked_fill logaddexp atan2 hypot eq ne gt ge lt le logical_and logical_or
logical_not
"""
_NAMES: dict[str, Callable[..., Field]] = {
    _ELEMENTWISE: _elementwise,
    "to type type_as expand expand_as": _first,
    "mean sum amax amin max min std var prod logsumexp any all": _reduce,
    "softmax log_softmax softmin": _softmax,
    "normalize": _normalize,
    "batch_norm": _batch_norm,
    "instance_norm": _instance_norm,
    "group_norm": _group_norm,
    "layer_norm rms_norm": _layer_norm,
    "linear": _linear,
    "matmul": _matmul,
    "conv2d": _conv2d,
    "max_pool2d": _max_pool2d,
    "avg_pool2d": _avg_pool2d,
    "adaptive_avg_pool2d adaptive_max_pool2d": _adaptive_pool2d,
    "pad": _pad,
    "glu": _glu,
    "chunk split tensor_split split_with_sizes": _split,
    "cat concat concatenate": _cat,
    "flatten": shapes.flatten,
    "view reshape view_as reshape_as unflatten": shapes.view,
    "permute": shapes.permute,
    "transpose swapaxes swapdims": shapes.transpose,
    "unsqueeze": shapes.unsqueeze,
    "squeeze": shapes.squeeze,
    "getitem": shapes.getitem,
}
RULES = {name: rule for names, rule in _NAMES.items() for name in names.split()}
