"""Show a comparison: a table on a terminal, lines in a pipe, Markdown or CSV where asked for."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mnistcli.view.output import Output
from mnistcli.view.tables import (
    Column,
    Row,
    integer,
    interval,
    markdown,
    percent,
    plain_line,
    print_table,
    thousandths,
    whole_percent,
)
from mnistcli.view.text import csv_cell, escaped

HIDDEN = ("key", "by_seed", "results")
_WIDTH = {"model": 15, "recipe": 20}  # of names on a terminal


def _plain_percent(share: float) -> str:
    return f"{100 * share:.3f}"


def _points(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:+.3f}"


def _spread(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.3f}"


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def _rounded(value: float | None) -> str:
    return integer(None if value is None else round(value))


def _missing(runs: Sequence[Row]) -> str:
    """Return the seeds without a result; the notes say why."""
    return f"seed {', '.join(str(one['seed']) for one in runs)}" if runs else "–"


def _reported(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f} %"


def columns(rows: Sequence[Row], *, difference: bool) -> list[Column]:
    """Return the table's columns, with `difference` those against the baseline.

    What tells rows apart and which runs have no result stand in columns where there is any.
    """
    which = (
        [Column("which", "", lambda v: v or "", left=True)]
        if any(row["which"] for row in rows)
        else []
    )
    missing = [Column("unfinished", "no result", _missing, _missing)]
    against = [
        Column("difference", "Δ baseline", _points, _points),
        Column(
            "difference_p", "p", lambda v: "–" if v is None else f"{v:.3f}", "{:.4f}".format, rank=4
        ),
    ]
    return [
        Column("model", "model", left=True),
        Column("recipe", "recipe", left=True),
        *which,
        Column("parameters", "params", integer, rank=1),
        Column("mult_adds", "mult-adds", integer, rank=7),
        Column("receptive_field", "field", rank=8),
        Column("epochs", "epochs", rank=5),
        Column("split", "split", left=True, rank=10),
        Column("n", "n"),
        *(missing if any(row["unfinished"] for row in rows) else []),
        Column("mean", "last epoch", thousandths, _plain_percent),
        Column(
            "interval",
            "95 % interval",
            interval,
            lambda v: f"{100 * v[0]:.3f}..{100 * v[1]:.3f}",
            rank=1,
        ),
        Column("sd", "sd", _spread, _plain_percent, rank=3),
        Column("min", "min", percent, _plain_percent, rank=5),
        Column("best", "best (picked)", percent, _plain_percent, rank=6),
        Column("above", "> 99.4 %", whole_percent, lambda v: f"{100 * v:.1f}", rank=2),
        Column("last3", "last 3", rank=7),
        Column("passes", "passes", rank=3),
        Column("seconds_per_epoch", "s/epoch", _seconds, _seconds, rank=6),
        Column("images_per_second", "img/s", _rounded, _rounded, rank=9),
        Column("reported", "reference", _reported, "{:.2f}".format, rank=2),
        *(against if difference else []),
        Column("standing", "", left=True),
    ]


def show_comparison(
    output: Output,
    rows: Sequence[Row],
    unfinished: Sequence[Row],
    style: str,
    *,
    difference: bool,
) -> None:
    """Print the rows as a table, Markdown or CSV, and what the marks mean.

    `unfinished` are all runs that have no result, those of the rows among them.
    """
    said = [*notes(rows), *missing(unfinished)]
    if style == "md":
        output.product(to_markdown(rows, unfinished, difference=difference))
    elif style == "csv":
        output.product(to_csv(rows).rstrip())
    else:
        shown = columns(rows, difference=difference)
        drawn = [_narrow(column) for column in shown] if output.live else shown
        print_table(output, drawn, rows, title="", kind="row")
        for note in said:
            output.talk(f"note: {note}")
        if output.live and any(
            len(row[key]) > most for row in rows for key, most in _WIDTH.items()
        ):
            output.talk("note: long names are cut (…); in a pipe, as md or csv they are whole")
    leader = max(rows, key=lambda row: (row["standing"] == "leader", row["mean"]))
    if output.quiet:
        head: Row = {"leader": leader["model"], "mean": _plain_percent(leader["mean"])}
        head["n"] = leader["n"]
        output.result(plain_line("result", [Column(key, key) for key in head], head))
    document = {"rows": [_public(row) for row in rows], "notes": said}
    output.document(document | {"unfinished": list(unfinished)})


def _narrow(column: Column) -> Column:
    """Cut long names, of a network its beginning, of a recipe its end, so that figures fit."""
    most = _WIDTH.get(column.key, 0)
    if column.key == "model":
        return replace(column, show=lambda name: name if len(name) <= most else "…" + name[-most:])
    if column.key == "recipe":
        return replace(column, show=lambda name: _cut(name, most))
    return column


def _cut(name: str, most: int) -> str:
    """Return a recipe's name with its end cut, but for the kind of device."""
    place = " on cuda" if name.endswith(" on cuda") else ""
    name = name.removesuffix(place)
    return (name if len(name) <= most else name[:most] + "…") + place


def notes(rows: Sequence[Row]) -> list[str]:
    """Return the sentences without which the table would mislead."""
    said = [
        "last epoch: mean over n seeds; the interval is Student's over seeds from n = 3 on, and "
        "Wilson's over pictures for n = 1; best: the best epoch, picked on the same pictures",
        *(text for word, text in _standings(rows) if any(r["standing"] == word for r in rows)),
    ]
    for row in rows:
        if seeds := row.get("difference_seeds"):
            common = f"only over the common seeds {', '.join(map(str, seeds))}"
            said.append(f"Δ of {row['recipe']} is {common}; its mean is over all of its seeds")
    if any(row.get("difference_p") is not None for row in rows):
        said.append("p: of the difference, corrected for the rows tested (Holm)")
    if len({(row["split"], row["data"]) for row in rows}) > 1:
        said.append("the rows were evaluated on different pictures: each kind has its own leader")
    biased = sorted({row["recipe"] for row in rows if row["follows_test"]})
    if biased:
        said.append(
            f"learning rate follows test accuracy, figures biased upwards: {', '.join(biased)}"
        )
    if taught := _named(rows, [row for row in rows if row["distilled"]]):
        said.append(f"distilled, with a teacher beside the labels: {taught}")
    machines = sorted({machine for row in rows for machine in row["machines"]})
    return [*said, *(f"measured on: {machine}" for machine in machines)]


def missing(unfinished: Sequence[Row]) -> list[str]:
    """Return a sentence for each run without a result, with the command that goes on."""
    return [
        f"no result: {one['recipe'] or 'a set'}, seed {one['seed']} ({one['run']}): "
        f"{one['why']}; {one['resume']}"
        for one in unfinished
    ]


def _standings(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """Return what each mark means."""
    tested, margin = max(row["rows_tested"] for row in rows), 100 * rows[0]["margin"]
    corrected = f"; marks are corrected for {tested} rows tested" if tested > 1 else ""
    return [
        (
            "leader",
            "leader: the highest mean of three or more runs, picked on these same figures"
            + corrected,
        ),
        ("below", "below: significantly below the leader (5 % level)"),
        ("tied", f"tied: the difference from the leader is inside ±{margin:g} points (95 %)"),
        ("not separated", "not separated: the runs show neither a difference nor a tie"),
        ("few runs", "few runs: fewer than three, so no interval over seeds and no test"),
    ]


def _named(rows: Sequence[Row], those: Sequence[Row]) -> str:
    """Return the recipes of some rows, or what all are but for where that is much shorter."""
    names = [*dict.fromkeys(row["recipe"] for row in those)]
    others = [*dict.fromkeys(row["recipe"] for row in rows if row["recipe"] not in names)]
    if len(names) > 10 and len(others) < len(names) / 2:
        return f"all but {', '.join(others)}" if others else "all"
    return ", ".join(names)


def to_markdown(rows: Sequence[Row], unfinished: Sequence[Row] = (), *, difference: bool) -> str:
    """Return the table without its least important columns, and its notes, as Markdown."""
    shown = [column for column in columns(rows, difference=difference) if column.rank < 8]
    said = [*notes(rows), *missing(unfinished)]
    return "\n\n".join([markdown(shown, rows), "\n".join(f"- {escaped(note)}" for note in said)])


def to_csv(rows: Sequence[Row]) -> str:
    """Return all public values, unrounded, one plain value a cell."""
    text = io.StringIO()
    flat = [_flat(row) for row in rows]
    writer = csv.DictWriter(text, fieldnames=list(flat[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return text.getvalue()


def _flat(row: Row) -> dict[str, Any]:
    """Return a row without lists: an interval is two columns, seeds are separated by spaces."""
    flat: dict[str, Any] = {}
    for key, value in _public(row).items():
        if key.endswith("interval"):
            low, high = value or (None, None)
            flat |= {f"{key}_low": low, f"{key}_high": high}
        elif key == "unfinished":
            flat[key] = " ".join(str(one["seed"]) for one in value)
        elif isinstance(value, dict):
            flat |= {f"{key}_{name}": one for name, one in value.items()}
        elif isinstance(value, list | tuple):
            flat[key] = ("; " if key == "machines" else " ").join(map(str, value))
        else:
            flat[key] = value
    return {csv_cell(key): csv_cell(value) for key, value in flat.items()}


def _public(row: Row) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in HIDDEN}
