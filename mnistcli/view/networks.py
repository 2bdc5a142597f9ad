"""The short table of results: one row per network, as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from mnistcli.view.tables import Column, Row, integer, markdown


def _name(row: Row) -> str:
    return row["model"] if row["split"] == "test" else f"{row['model']} ({row['split']})"


def _accuracy(part: Row | None) -> str:
    """Return 99.43 % ± 0.04 (9): mean, half the interval from three runs on, number of runs."""
    if part is None:
        return "–"
    bounds = part["interval"]
    known = part["n"] > 1 and bounds is not None
    half = f" ± {50 * (bounds[1] - bounds[0]):.2f}" if known else ""
    return f"{100 * part['mean']:.2f} %{half} ({part['n']})"


def _passes(part: Row | None) -> str:
    return "–" if part is None else f"{part['passes']} of {part['n'] + part['failed']}"


COLUMNS = [
    Column("name", "network", left=True),
    Column("design", "design", left=True),
    Column("parameters", "parameters", integer),
    Column("alone", "labels alone", _accuracy),
    Column("alone", "passes", _passes),
    Column("taught", "with a teacher", _accuracy),
    Column("taught", "passes", _passes),
]


def network_markdown(rows: Sequence[Row]) -> str:
    """Return the table of `results.networks.by_network`."""
    return markdown(COLUMNS, [row | {"name": _name(row)} for row in rows])
