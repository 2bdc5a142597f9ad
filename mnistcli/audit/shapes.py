"""How receptive fields move where a tensor's axes are rearranged or cut: rules as in `rules`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mnistcli.audit import field as fields
from mnistcli.audit.field import Axis, Field, NotFollowed

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Seen:
    """A tensor's shape and what its elements see; None where they depend on no picture."""

    shape: Shape
    field: Field | None

    def dims(self, *dims: int) -> set[int]:
        """Return axes counted from the last, -1."""
        if not all(type(dim) is int for dim in dims):  # by name, or left to torch
            raise NotFollowed("with these arguments")
        return {dim if dim < 0 else dim - len(self.shape) for dim in dims}

    def index(self, dim: int) -> int:
        """Return an axis counted from the first, 0."""
        return dim % len(self.shape)

    @property
    def known(self) -> Field:
        """What the elements see, of a function's first argument."""
        if self.field is None:
            raise NotFollowed("whose weights depend on the picture")
        return self.field


def flatten(shape: Shape, input: Seen, start_dim: int = 0, end_dim: int = -1) -> Field:
    """Follow rows and columns into one axis."""
    start, end = input.index(start_dim), input.index(end_dim)
    return fields.fold(input.known, input.shape, start=start, end=end)


def view(shape: Shape, input: Seen, *args: Any, **kwargs: Any) -> Field:
    """Follow a reshape that keeps the last axes, or makes them one."""
    field, kept = input.known, len(shape) - 1
    places = {axis.dim for axis in (field.rows, field.columns)} - {None}
    if all(shape[dim:] == input.shape[dim:] for dim in places):
        return field
    if len(shape) < len(input.shape) and shape[:kept] == input.shape[:kept]:
        return fields.fold(field, input.shape, start=kept, end=len(input.shape) - 1)
    raise NotFollowed("to this shape")


def permute(shape: Shape, input: Seen, *dims: Any) -> Field:
    """Follow axes to their new places."""
    order = dims[0] if isinstance(dims[0], Sequence) else dims
    return fields.rearrange(input.known, [*map(input.index, order)], ndim=len(input.shape))


def transpose(shape: Shape, input: Seen, dim0: int, dim1: int) -> Field:
    """Follow two axes that change places."""
    order, (one, other) = list(range(len(input.shape))), map(input.index, (dim0, dim1))
    order[one], order[other] = other, one
    return fields.rearrange(input.known, order, ndim=len(input.shape))


def unsqueeze(shape: Shape, input: Seen, dim: int) -> Field:
    """Follow the axes past a new one."""
    order: list[int | None] = list(range(len(input.shape)))
    order.insert(dim % len(shape), None)
    return fields.rearrange(input.known, order, ndim=len(input.shape))


def squeeze(shape: Shape, input: Seen, *dims: Any) -> Field:
    """Follow the axes past those of size 1 that are left out."""
    chosen = dims[0] if dims and isinstance(dims[0], Sequence) else dims
    asked = {input.index(dim) for dim in chosen} if dims else set(range(len(input.shape)))
    order = [i for i, size in enumerate(input.shape) if size != 1 or i not in asked]
    return fields.rearrange(input.known, order, ndim=len(input.shape))


def getitem(shape: Shape, input: Seen, index: Any) -> Field:
    """Follow slices, single positions, new axes and an ellipsis."""
    ndim, field = len(input.shape), input.known
    places = _places(index if isinstance(index, tuple) else (index,), ndim)
    for part, place in places:
        if place is not None:
            field = _take(field, place - ndim, part, size=input.shape[place])
    order = [place for part, place in places if type(part) is not int]
    return fields.rearrange(field, order, ndim=ndim)


def _places(index: tuple[Any, ...], ndim: int) -> list[tuple[Any, int | None]]:
    """Return each part of an index with the axis that it takes; a new axis takes none."""
    if not all(part is None or part is ... or type(part) in (int, slice) for part in index):
        raise NotFollowed("by a list or a mask")
    parts = [*index] if ... in index else [*index, ...]
    missing = ndim - sum(part is not None and part is not ... for part in parts)
    gap = parts.index(...)
    parts[gap : gap + 1] = [slice(None)] * missing
    axes = iter(range(ndim))
    return [(part, None if part is None else next(axes)) for part in parts]


def _take(field: Field, dim: int, part: int | slice, *, size: int) -> Field:
    start, _, step = (part, 0, 0) if isinstance(part, int) else part.indices(size)

    def taken(axis: Axis) -> Axis:
        if axis.dim != dim or part == slice(None):
            return axis
        if axis.fold:
            raise NotFollowed("behind a reshape")
        shift = (start % size) * axis.jump
        low, high = axis.low + shift, axis.high + shift
        if isinstance(part, int):
            return Axis(None, 1, 0, low, high)
        return Axis(dim, size, axis.jump * step, low, high)

    return Field(taken(field.rows), taken(field.columns))
