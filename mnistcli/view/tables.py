"""A table is columns and rows; a terminal gets it drawn, a pipe gets key=value lines."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mnistcli.view.output import Output
from mnistcli.view.text import escaped, markdown_cell

if TYPE_CHECKING:
    from rich.table import Table

Row = dict[str, Any]

_GAP = 2  # between columns: one of padding, one of rich's divider


def _text(value: Any) -> str:
    return "–" if value is None else str(value)


@dataclass(frozen=True)
class Column:
    """One column: `show` for people, `plain` for pipes; the highest `rank` is dropped first."""

    key: str
    title: str
    show: Callable[[Any], str] = _text
    plain: Callable[[Any], str] = str
    rank: int = 0
    left: bool = False


def integer(value: int | None) -> str:
    """Return 7,820 for 7820, and a dash for None."""
    return "–" if value is None else f"{value:,}"


def percent(share: float | None) -> str:
    """Return 99.45 % for 0.9945, and a dash for None."""
    return "–" if share is None else f"{100 * share:.2f} %"


def interval(bounds: Sequence[float] | None) -> str:
    """Return 99.29–99.58 for shares, and a dash for None."""
    return "–" if bounds is None else f"{100 * bounds[0]:.2f}–{100 * bounds[1]:.2f}"


def thousandths(share: float | None) -> str:
    """Return 99.433 % for 0.99433, and a dash for None."""
    return "–" if share is None else f"{100 * share:.3f} %"


def whole_percent(share: float) -> str:
    """Return 56 % for 5 of 9: a share of a few runs."""
    return f"{100 * share:.0f} %"


def whole_interval(bounds: Sequence[float]) -> str:
    """Return 27–81 for such a share's interval."""
    return f"{100 * bounds[0]:.0f}–{100 * bounds[1]:.0f}"


def plain_interval(bounds: Sequence[float], digits: int = 2) -> str:
    """Return 99.29..99.58 for shares, as pipes get it."""
    return f"{100 * bounds[0]:.{digits}f}..{100 * bounds[1]:.{digits}f}"


def fill(parts: Sequence[str], width: int, *, separator: str) -> list[str]:
    """Return the parts joined to as few lines as fit the width; a part is never broken."""
    lines = [parts[0]]
    for part in parts[1:]:
        longer = lines[-1] + separator + part
        if len(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(part)
    return lines


def print_table(
    output: Output, columns: Sequence[Column], rows: Sequence[Row], *, title: str, kind: str
) -> None:
    """Print rows: a drawn table on a terminal, else a line `kind key=value …` for each."""
    if output.quiet or output.json:
        return
    if not output.live:
        for row in rows:
            output.product(plain_line(kind, columns, row))
        return
    console = output.console()
    known = [column for column in columns if any(row.get(column.key) is not None for row in rows)]
    console.print()
    console.print(fitted(known, rows, title, console.width))


def plain_line(kind: str, columns: Iterable[Column], row: Row) -> str:
    """Return one ASCII line; values with spaces are JSON strings, empty ones are left out."""
    pairs = [(column.key, column.plain(row[column.key])) for column in columns
             if row.get(column.key) not in (None, "")]  # fmt: skip
    return " ".join([kind, *(f"{key}={_quoted(value)}" for key, value in pairs)]).strip()


def markdown(columns: Sequence[Column], rows: Sequence[Row]) -> str:
    """Return a Markdown table."""
    lines = [[column.title for column in columns]]
    lines.append(["---" if column.left else "---:" for column in columns])
    lines += [[markdown_cell(c.show(row.get(c.key))) for c in columns] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _quoted(value: str) -> str:
    simple = value.isascii() and value.isprintable() and value and not set(' "') & set(value)
    return value if simple else json.dumps(value)


def fitted(columns: Sequence[Column], rows: Sequence[Row], title: str, width: int) -> Table:
    """Return a drawn table, without the least important columns until it fits the terminal."""
    kept = list(columns)
    widths = {c.key: max(len(t) for t in (c.title, *(escaped(c.show(r.get(c.key))) for r in rows)))
              for c in columns}  # fmt: skip
    while sum(widths[c.key] + _GAP for c in kept) - _GAP > width and any(c.rank for c in kept):
        kept.remove(max(reversed(kept), key=lambda column: column.rank))
    return _draw(kept, rows, title)


def _draw(columns: Sequence[Column], rows: Sequence[Row], title: str) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=title or None, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD,
        padding=(0, _GAP - 1, 0, 0), pad_edge=False, show_edge=False,
    )  # fmt: skip
    for column in columns:
        justify = "left" if column.left else "right"
        table.add_column(column.title, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    for row in rows:
        cells = [escaped(column.show(row.get(column.key))) for column in columns]
        table.add_row(*(Text(cell, style=_style(cell)) for cell in cells))
    return table


def _style(cell: str) -> str:
    """Return the style of a verdict: both colours set, readable on dark and on light."""
    return {"PASS": "black on green", "FAIL": "bold white on red"}.get(cell, "")
