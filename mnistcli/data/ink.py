"""Where the ink of a picture is: its channel, its ground, its pieces, and the frame around it.

Levels are float32 in 0…1. Nothing here opens a file or knows a network.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

Polarity = Literal["dark on light", "light on dark"]

_LEAST_CONTRAST = 0.12  # of the whole range; paper's grain and JPEG's noise stay below
_GROUND_SIDE = 64  # pixels of the longer side that the ground is sought at
_DARKEST = 0.9995  # quantile that is ink: a thin 1 covers few pixels of a large picture
_NOISE = 0.15  # of the ink's depth: grain of the paper
_COLOURED = 1.5  # times the grey's contrast, from which a channel of colour is read instead
_UNEVEN = 0.1  # of the ink's depth: a ground that differs more from place to place is not flat
_PIECE = 0.3  # ink above it holds a piece together
_SPECK = 0.02  # of the largest piece's area
_PEELS = 2  # a scan's dark edge, and a drawn frame inside it
_DRAWN = 0.6  # of each side of a drawn rectangle; an upright 0 touches its box in half of it
_HOLLOW = 0.6  # of a rectangle's area; a sheet or a block of ink has more
_LEAST_SIDE = 1 / 8  # of the picture's longer side: what is smaller inside a frame is dust


class Ink(NamedTuple):
    """The ink, float32 [H, W] in 0…1, and how it lies.

    `depth` is its contrast with the ground in 0…1, `pieces` are the longer sides of its pieces
    in pixels, longest first and without specks, `edge` is the share of the picture's border that
    is ink, and `framed` says that a frame is a part of it.
    """

    levels: Tensor
    polarity: Polarity
    depth: float
    pieces: tuple[int, ...]
    edge: float
    framed: bool


class _Pieces(NamedTuple):
    """Connected ink: labels int64 [H, W] from 1, areas in pixels, and the box of each."""

    labels: Tensor
    areas: Tensor
    boxes: list[tuple[slice, slice]]


def find_ink(channels: Tensor, peels: int = _PEELS) -> Ink | None:
    """Return the ink of a picture [C, H, W] in 0…1, its grey first; None where there is none.

    What frames a digit is ground: a scan's dark edge, a drawn frame, the table around the sheet.
    As many as `peels` are taken off, one inside the other.
    """
    levels = _most_contrast(channels)
    if float(levels.max() - levels.min()) < _LEAST_CONTRAST:
        return None
    polarity: Polarity = "dark on light" if _is_dark_on_light(levels) else "light on dark"
    light = 1 - levels if polarity == "dark on light" else levels
    ground = _ground(light)
    ink, depth = _above(light, ground)
    if depth < _LEAST_CONTRAST:
        return None
    pieces = _pieces(ink)
    frames = _frames(pieces)
    if frames and peels:
        inside = torch.where(_spread(pieces, frames), ground, light)
        inner = find_ink((1 - inside if polarity == "dark on light" else inside)[None], peels - 1)
        if inner is not None and longer_side(inner.levels) >= _LEAST_SIDE * max(ink.shape):
            return inner
    return _without_specks(Ink(ink, polarity, depth, (), 0.0, bool(frames)), pieces)


def longer_side(ink: Tensor) -> int:
    """Return the pixels of the longer side of the box around the solid ink."""
    solid = ink > 0.5
    spans = [solid.any(dim=d).nonzero().flatten() for d in (0, 1)]
    return max(int(span[-1] - span[0]) + 1 for span in spans)


def _above(light: Tensor, ground: Tensor) -> tuple[Tensor, float]:
    """Return what is above the ground and its grain, 1 where it is solid, and its depth."""
    ink = (light - ground).clamp(min=0)
    darkest = ink.flatten().quantile(_DARKEST)
    depth = ink[ink >= darkest / 2].median()
    return ((ink / depth - _NOISE) / (1 - _NOISE)).clamp(0, 1), float(depth)


def _without_specks(ink: Ink, pieces: _Pieces) -> Ink:
    """Return the ink without its smallest pieces, and with what is told of the others."""
    specks = pieces.areas < _SPECK * pieces.areas.max()
    sides = [
        max(span.stop - span.start for span in box)
        for box, speck in zip(pieces.boxes, specks.tolist(), strict=True)
        if not speck
    ]
    solid = pieces.labels > 0
    border = torch.cat([solid[0], solid[-1], solid[:, 0], solid[:, -1]])
    return ink._replace(
        levels=ink.levels.where(~_spread(pieces, specks.nonzero().flatten().tolist()), 0),
        pieces=tuple(sorted(sides, reverse=True)),
        edge=float(border.float().mean()),
    )


def _most_contrast(channels: Tensor) -> Tensor:
    """Return the grey, or the channel where the ink differs much more from the ground."""
    small = _local(_small(channels))
    contrast = small.amax(dim=(1, 2)) - small.amin(dim=(1, 2))
    best = int(contrast.argmax())
    return channels[best if contrast[best] > _COLOURED * contrast[0] else 0]


def _small(channels: Tensor) -> Tensor:
    """Return a picture [C, h, w] of at most 64 a side, enough for what is smooth."""
    size = [min(side, _GROUND_SIDE) for side in channels.shape[1:]]
    return F.interpolate(channels[None], size, mode="area")[0]


def _local(small: Tensor) -> Tensor:
    """Return levels against their surroundings of half a side: a shadow is no ink."""
    kernel = [side // 4 * 2 + 1 for side in small.shape[1:]]
    padding = [side // 2 for side in kernel]
    return small - F.avg_pool2d(small[None], kernel, 1, padding, count_include_pad=False)[0]


def _is_dark_on_light(levels: Tensor) -> bool:
    """Return whether what stands out most from the ground is darker than it.

    The ground is what the innermost ring of the outer seventh consists of that is all alike, since
    rings of another level are a frame: they and what lies around them do not count.
    """
    small = _local(_small(levels[None]))[0]
    depth = _depth(small)
    dark = (small < (small.min() + small.max()) / 2).float()
    shares = [float(dark[depth == k].mean()) for k in range(max(1, min(small.shape) // 7))]
    alike = [(k, share > 0.5) for k, share in enumerate(shares) if not 0.1 < share < 0.9]
    innermost, is_dark = alike[-1] if alike else (0, False)
    frame = max((k for k, other in alike if other != is_dark), default=-1)
    ground, inside = small[depth == innermost].median(), small[depth > frame]
    return bool(ground - inside.min() > inside.max() - ground)


def _depth(picture: Tensor) -> Tensor:
    """Return how many pixels each one of [h, w] is away from the border."""
    rows, columns = (torch.arange(side) for side in picture.shape)
    return torch.minimum(
        torch.minimum(rows, rows.flip(0))[:, None], torch.minimum(columns, columns.flip(0))
    )


def _ground(light: Tensor) -> Tensor:
    """Return the ground [H, W] below light ink: one level where it is even, else the opening.

    It is even where it differs little at some distance from the ink's soft edges. Strokes that
    leave no such place are too wide for the opening.
    """
    small = _small(light[None])
    local = _local(small)
    solid = local > (local.median() + local.max()) / 2
    reach = max(small.shape) // 8
    near = F.max_pool2d(solid.float(), 2 * reach + 1, 1, reach) > 0
    if near.all():
        return small[~solid].median().expand_as(light)
    bare = small[~near]
    level = bare.median()
    spread = (bare - level).abs().quantile(0.9)
    even = bool(spread < _UNEVEN * (small[solid].median() - level))
    return level.expand_as(light) if even else _opening(light)


def _opening(light: Tensor) -> Tensor:
    """Return the picture's morphological opening by a third: what no stroke of a pen outlives.

    The window is wider than a stroke of the thickest pen that MNIST has.
    """
    small = _small(light[None])
    kernel = [side // 6 * 2 + 1 for side in small.shape[1:]]
    padding = [side // 2 for side in kernel]
    eroded = -F.max_pool2d(-small, kernel, 1, padding)
    opened = F.max_pool2d(eroded, kernel, 1, padding)
    return F.interpolate(opened[None], light.shape, mode="bilinear")[0, 0]


def _pieces(ink: Tensor) -> _Pieces:
    """Return the connected pieces of ink, corners included."""
    labels, _ = ndimage.label((ink > _PIECE).numpy(), structure=torch.ones(3, 3).numpy())
    found = torch.from_numpy(labels).long()
    return _Pieces(found, found.flatten().bincount()[1:], ndimage.find_objects(labels))


def _frames(pieces: _Pieces) -> list[int]:
    """Return which pieces, from 0, lie around a digit: at the picture's corner, or a rectangle."""
    labels, areas = pieces.labels, pieces.areas
    corners = set(labels[[0, 0, -1, -1], [0, -1, 0, -1]].tolist())
    large = (areas >= _SPECK * areas.max()).nonzero().flatten().tolist()
    return [at for at in large if at + 1 in corners or _is_rectangle(pieces, at)]


def _is_rectangle(pieces: _Pieces, at: int) -> bool:
    """Return whether a piece is a hollow box as wide and as high as half of the picture."""
    inside = pieces.labels[pieces.boxes[at]] == at + 1
    if any(2 * side < whole for side, whole in zip(inside.shape, pieces.labels.shape, strict=True)):
        return False
    rows, columns = (math.ceil(side / 32) for side in inside.shape)  # it may be turned a little
    sides = (
        inside[:rows].any(dim=0), inside[-rows:].any(dim=0),
        inside[:, :columns].any(dim=1), inside[:, -columns:].any(dim=1),
    )  # fmt: skip
    drawn = min(float(side.float().mean()) for side in sides)
    return drawn > _DRAWN and float(inside.float().mean()) < _HOLLOW


def _spread(pieces: _Pieces, chosen: list[int]) -> Tensor:
    """Return where the chosen pieces and their soft edges are, bool [H, W]."""
    if not chosen:
        return torch.zeros_like(pieces.labels, dtype=torch.bool)
    mask = torch.isin(pieces.labels, torch.tensor(chosen, dtype=torch.long) + 1)
    reach = math.ceil(max(mask.shape) / 32)
    wide = mask.float()[None]
    for kernel in ((2 * reach + 1, 1), (1, 2 * reach + 1)):
        wide = F.max_pool2d(wide, kernel, 1, [side // 2 for side in kernel])
    return mask | ((wide[0] > 0) & (pieces.labels == 0))
