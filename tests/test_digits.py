"""Pictures in the terminal: whole, side by side, readable with and without colours."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from mnistcli.view import digits


def screen(width: int = 80, color: str | None = "truecolor") -> Console:
    return Console(
        width=width, file=io.StringIO(), force_terminal=True, color_system=color, no_color=not color
    )  # type: ignore[arg-type]


def picture(*inked: tuple[int, int]) -> bytes:
    pixels = bytearray(784)
    for row, column in inked:
        pixels[row * 28 + column] = 200
    return bytes(pixels)


def test_a_half_block_is_two_pixels() -> None:
    one = picture((0, 0), (1, 1), (2, 2), (3, 2))
    lines = [line.plain for line in digits.draw(screen(color=None), one)]
    assert (len(lines), {len(line) for line in lines}) == (14, {28})
    assert [line.rstrip() for line in lines[:3]] == ["▀▄", "  █", ""]


def test_colours_carry_the_grey_level() -> None:
    line = digits.draw(screen(), picture((0, 0)))[0]
    assert str(line.spans[0].style) == "rgb(200,200,200) on rgb(0,0,0)"


def test_the_box_leaves_out_no_ink() -> None:
    box = digits.ink_box([picture((5, 9)), picture((20, 3), (6, 27))])
    assert (box.columns, box.rows) == (range(3, 28), range(4, 21, 2))
    assert digits.ink_box([picture()]).columns == range(1)


@pytest.mark.parametrize(("width", "across"), [(80, 3), (140, 6), (20, 1)])
def test_a_sheet_is_as_wide_as_the_terminal(width: int, across: int) -> None:
    ones = [picture((4, 4), (23, 23))] * 7
    box = digits.ink_box(ones)
    assert digits.across(screen(width), box) == across
    console = screen(width, color=None)
    digits.print_sheet(console, ones, [f"4→9 #{i}" for i in range(7)], box)
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert sum(line.count("→") for line in lines) == 7
