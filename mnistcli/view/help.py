"""The pages of --help as plain text: sentences, boxes of two columns, examples.

Drawn here: rich, with all that Typer draws help with, takes longer to import than all else.
"""

from __future__ import annotations

import os
import re
import shutil
import textwrap
from collections.abc import Iterable
from itertools import zip_longest
from typing import NamedTuple

from mnistcli.view import output

_NARROWEST_TEXT, _WIDEST = 36, 120  # columns of a cell of sentences, and of a page


class Panel(NamedTuple):
    """A box: its title, and of each row the names and the sentences."""

    title: str
    rows: list[tuple[str, str]]


class Style(NamedTuple):
    """What the terminal takes: its columns, box characters, bold type."""

    columns: int
    boxes: bool
    bold: bool


def style() -> Style:
    """Return what stdout takes."""
    stream = output.stdout()
    boxes = "utf" in (stream.encoding or "").lower()
    bold = output.is_terminal(stream) and not os.environ.get("NO_COLOR")
    return Style(shutil.get_terminal_size().columns, boxes, bold)


def page(usage: str, sentences: str, panels: Iterable[Panel], epilog: str, look: Style) -> str:
    """Return a page; sentences and epilog know **bold**, and indented lines, which stay whole."""
    look = look._replace(columns=min(look.columns, _WIDEST))
    parts = [f" Usage: {usage}", _paragraphs(sentences, look)]
    parts += [_box(panel, look) for panel in panels if panel.rows]
    parts.append(_paragraphs(epilog, look))
    return "\n" + "\n\n".join(part for part in parts if part)


def _paragraphs(text: str, look: Style) -> str:
    done = []
    for paragraph in textwrap.dedent(text).strip("\n").split("\n\n"):
        if paragraph.startswith("    "):  # an example is not wrapped
            done.append(paragraph)
            continue
        lines = textwrap.wrap(_unstarred(paragraph), look.columns - 2, break_on_hyphens=False)
        done.append(_starred(paragraph, "\n".join(f" {line}" for line in lines), look))
    return "\n\n".join(done)


def _unstarred(text: str) -> str:
    return re.sub(r"\*\*(.+?)\*\*", r"\1", text)


def _starred(text: str, wrapped: str, look: Style) -> str:
    """Set in bold type the words between stars, which begin a paragraph or are it."""
    for words in re.findall(r"\*\*(.+?)\*\*", text):
        wrapped = wrapped.replace(words, _bold(words, look), 1)
    return wrapped


def _bold(text: str, look: Style) -> str:
    return f"\x1b[1m{text}\x1b[0m" if look.bold else text


def _box(panel: Panel, look: Style) -> str:
    top, side, bottom, line = ("╭╮", "│", "╰╯", "─") if look.boxes else ("++", "|", "++", "-")
    inner = look.columns - 4
    names = max(len(name) for name, _ in panel.rows)
    names = min(names, max(inner - 2 - _NARROWEST_TEXT, 8))
    rows = [line for row in panel.rows for line in _row(*row, names, inner - 2 - names)]
    drawn = [f"{top[0]}{line} {panel.title} ".ljust(look.columns - 1, line) + top[1]]
    for name, text in rows:
        drawn.append(
            f"{side} {_bold(name.ljust(names), look)}  {text.ljust(inner - 2 - names)} {side}"
        )
    return "\n".join([*drawn, bottom[0] + line * (look.columns - 2) + bottom[1]])


def _row(name: str, text: str, names: int, width: int) -> list[tuple[str, str]]:
    left = textwrap.wrap(name, names, break_on_hyphens=False)
    text, _, facts = text.partition("  [")  # default, range and variable, on lines of their own
    right = textwrap.wrap(text, width, break_on_hyphens=False)
    right += textwrap.wrap(f"[{facts}", width, break_on_hyphens=False) if facts else []
    return [*zip_longest(left, right, fillvalue="")]
