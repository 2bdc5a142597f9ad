"""Pictures of 28×28 grey bytes in a terminal: a half block is two pixels, one above the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

_SIDE = 28
_GAP = "  "
_HALVES = " ▄▀█"  # by 2 × upper + lower pixel


class Box(NamedTuple):
    """The columns and pixel rows that are drawn."""

    columns: range
    rows: range


WHOLE = Box(range(_SIDE), range(0, _SIDE, 2))


def draw(console: Console, pixels: bytes, box: Box = WHOLE) -> list[Text]:
    """Return a picture's lines: white ink on black, or blocks where there are no colours."""
    from rich.text import Text

    grey = console.color_system in ("256", "truecolor") and not console.no_color
    lines = []
    for row in box.rows:
        line = Text()
        for column in box.columns:
            upper, lower = (pixels[y * _SIDE + column] for y in (row, row + 1))
            shape = _HALVES[2 * (upper > 127) + (lower > 127)]
            if grey:  # a plain cell keeps its shape, so that copied text still shows the digit
                glyph = shape if upper == lower else "▀"
                line.append(glyph, f"rgb({upper},{upper},{upper}) on rgb({lower},{lower},{lower})")
            else:
                line.append(shape)
        lines.append(line)
    return lines


def ink_box(pictures: Sequence[bytes]) -> Box:
    """Return the smallest box outside of which every picture is empty."""
    inked = [any(values) for values in zip(*pictures, strict=True)]
    columns = [x for x in range(_SIDE) if any(inked[x::_SIDE])] or [0]
    rows = [y for y in range(_SIDE) if any(inked[y * _SIDE : (y + 1) * _SIDE])] or [0]
    return Box(range(columns[0], columns[-1] + 1), range(rows[0] // 2 * 2, rows[-1] + 1, 2))


def across(console: Console, box: Box) -> int:
    """Return how many pictures fit side by side."""
    return max(1, (console.width + len(_GAP)) // (len(box.columns) + len(_GAP)))


def print_sheet(
    console: Console, pictures: Sequence[bytes], captions: Sequence[str], box: Box
) -> None:
    """Print pictures side by side in rows, each above its caption."""
    from rich.text import Text

    wide, count = len(box.columns), across(console, box)
    for start in range(0, len(pictures), count):
        drawn = [draw(console, pixels, box) for pixels in pictures[start : start + count]]
        for line in zip(*drawn, strict=True):
            console.print(Text(_GAP).join(line), no_wrap=True, crop=True)
        names = (caption.ljust(wide) for caption in captions[start : start + count])
        console.print(_GAP.join(names).rstrip() + "\n", no_wrap=True, crop=True)
