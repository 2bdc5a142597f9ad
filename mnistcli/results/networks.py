"""One row per network: what it reaches from the labels alone, and with a teacher."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mnistcli import recipe as recipes
from mnistcli.models.registry import MODELS

Row = dict[str, Any]


def by_network(rows: Iterable[Row]) -> list[Row]:
    """Return a row for each network, size and kind of pictures, its parts under "alone" and
    "taught": rows of `comparison.rows`, or None.

    Packaged recipes other than `NAME`, `plain/NAME` and `plain/NAME-muon` are history and are left
    out. Of several rows for one place the one with most runs is taken.
    """
    table: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        model, name = row["model"], row["recipe"].split()[0]
        if name in recipes.names() and name.removesuffix("-muon") not in (model, f"plain/{model}"):
            continue
        key = (model, row["parameters"], row["split"], row["data"])
        one = table.setdefault(key, _empty(row))
        place = "taught" if row["distilled"] else "alone"
        if one[place] is None or row["n"] > one[place]["n"]:
            one[place] = row
    return list(table.values())


def _empty(row: Row) -> Row:
    entry = MODELS.get(row["model"])
    named = {key: row[key] for key in ("model", "parameters", "split")}
    return named | {"design": entry.design if entry else "", "alone": None, "taught": None}
