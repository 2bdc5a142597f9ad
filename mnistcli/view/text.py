"""Words from files and networks that a stranger may have made: no control character is shown raw.

Letters of any script stay as they are; what moves a cursor, ends a line or turns it round does not.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

_FORMULA = ("=", "+", "-", "@")  # how a cell begins that a spreadsheet computes


def escaped(text: str, *, keep: str = "") -> str:
    """Return text in which whatever is not printable is written as Python does: `\\x1b`."""
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() or one in keep else one.encode("unicode_escape").decode()
        for one in text
    )


def escaped_json(document: str) -> str:
    """Return one line of JSON of the same values, what is not printable as `\\u001b`."""
    if document.isprintable():
        return document
    return "".join(one if one.isprintable() else json.dumps(one)[1:-1] for one in document)


def markdown_cell(text: str) -> str:
    """Return text that stays inside one cell of a Markdown table."""
    return escaped(text).replace("|", "\\|")


def csv_cell(value: Any) -> Any:
    """Return a value that a spreadsheet shows and does not compute."""
    if not isinstance(value, str):
        return value
    return escaped(f"'{value}" if value.startswith(_FORMULA) else value)


def label(text: str) -> str:
    """Return text for a picture by matplotlib, which takes what is between dollars for formulas."""
    return re.sub(r"\$", r"\\$", escaped(text))


def new_console(**options: Any) -> Console:
    """Return a rich console that shows strings as they are, but for control characters."""
    from rich.console import Console
    from rich.text import Text

    class Escaping(Console):
        def render_str(self, text: str, **options: Any) -> Text:
            return super().render_str(escaped(text, keep="\n"), **options)

    return Escaping(highlight=False, markup=False, emoji=False, **options)
