"""What a tensor's elements see of the picture: an interval of rows and one of columns."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace


class NotFollowed(Exception):
    """What an element sees can't be said; the reason completes "not followed through …"."""


@dataclass(frozen=True)
class Axis:
    """Position i along `dim` sees the picture's pixels i·jump + low to i·jump + high, unclipped.

    `dim` counts from the tensor's last axis, -1. It is None where all positions see the same
    pixels. Where a reshape has put several axes into one, `fold` says which and how.
    """

    dim: int | None
    size: int
    jump: int
    low: int
    high: int
    fold: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True)
class Field:
    """What one element sees: the square of the input, if rows and columns agree."""

    rows: Axis
    columns: Axis

    @property
    def everywhere(self) -> bool:
        """Whether all elements see the same pixels."""
        return self.rows.dim is None and self.columns.dim is None

    @property
    def sides(self) -> tuple[int, int]:
        """The height and width in pixels, unclipped."""
        return self.rows.high - self.rows.low + 1, self.columns.high - self.columns.low + 1


def whole(axis: Axis) -> Axis:
    """Return what all positions of an axis together see."""
    return Axis(None, 1, 0, axis.low, axis.high + (axis.size - 1) * axis.jump)


def settle(field: Field, shape: Sequence[int]) -> Field:
    """Take the number of positions from the tensor's shape; a single position is everywhere."""

    def settled(axis: Axis) -> Axis:
        if axis.dim is None or axis.fold:
            return axis
        axis = replace(axis, size=shape[axis.dim])
        return whole(axis) if axis.size == 1 else axis

    return Field(settled(field.rows), settled(field.columns))


def join(fields: Iterable[Field]) -> Field:
    """Return what sums, products and other elementwise results see. There is at least one."""
    first, *others = fields
    for other in others:
        first = Field(_join(first.rows, other.rows), _join(first.columns, other.columns))
    return first


def _join(one: Axis, other: Axis) -> Axis:
    low, high = min(one.low, other.low), max(one.high, other.high)
    if replace(one, low=0, high=0) == replace(other, low=0, high=0):
        return replace(one, low=low, high=high)
    if one.dim is not None and other.dim is not None:
        raise NotFollowed("which joins different scales")
    pooled, local = (one, other) if one.dim is None else (other, one)
    extent = whole(local)
    # Exact only where the pooled value sees all that any of the positions does.
    if pooled.low <= extent.low and extent.high <= pooled.high:
        return pooled
    raise NotFollowed("which joins a map with a value from elsewhere")


def mix(field: Field, dims: Collection[int]) -> Field:
    """Return what a function along these axes sees: all positions at once."""

    def mixed(axis: Axis) -> Axis:
        return whole(axis) if axis.dim in dims else axis

    return Field(mixed(field.rows), mixed(field.columns))


def rearrange(field: Field, order: Sequence[int | None], *, ndim: int) -> Field:
    """Return the field where the result's axes are these of the tensor's; None is a new one."""

    def moved(axis: Axis) -> Axis:
        if axis.dim is None:
            return axis
        return replace(axis, dim=order.index(axis.dim + ndim) - len(order))

    return Field(moved(field.rows), moved(field.columns))


def fold(field: Field, shape: Sequence[int], *, start: int, end: int) -> Field:
    """Return the field where the axes from `start` to `end` (counted from 0) become one."""
    ndim, rank = len(shape), len(shape) - (end - start)

    def folded(axis: Axis) -> Axis:
        if axis.dim is None:
            return axis
        index = axis.dim + ndim
        if start <= index <= end:
            step = (*shape[start : end + 1], index - start)
            return replace(axis, dim=start - rank, fold=(*axis.fold, step))
        return replace(axis, dim=axis.dim if index > end else index - rank)

    return Field(folded(field.rows), folded(field.columns))


def slide(field: Field, rows: Sequence[int], columns: Sequence[int]) -> Field:
    """Move windows over a map [..., H, W]; a window is (kernel, stride, padding, dilation).

    Each kernel k adds (k - 1) · dilation · jump and each stride multiplies the jump (Dumoulin and
    Visin, arXiv:1603.07285).
    """
    return Field(_slide(field.rows, -2, rows), _slide(field.columns, -1, columns))


def _slide(axis: Axis, dim: int, window: Sequence[int]) -> Axis:
    if axis.dim is None:
        return axis
    if axis.dim != dim or axis.fold:
        raise NotFollowed("which takes other axes for rows and columns")
    kernel, stride, padding, dilation = window
    low = axis.low - padding * axis.jump
    high = axis.high + ((kernel - 1) * dilation - padding) * axis.jump
    return replace(axis, jump=stride * axis.jump, low=low, high=high)
