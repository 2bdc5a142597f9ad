"""Show an export: sizes, and what it answers beside the network itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mnistcli.view.output import Output
from mnistcli.view.tables import Column, integer, markdown, percent, plain_line, print_table


def _plain_percent(share: float) -> str:
    return f"{100 * share:.2f}"


_COLUMNS = [
    Column("model", "model", left=True),
    Column("format", "format", left=True),
    Column("bytes", "file bytes", integer),
    Column("weights_bytes", "weights", integer),
    Column("constants_bytes", "constants", integer, rank=5),
    Column("memory_bytes", "RAM", integer),
    Column("changed", "changed", integer),
    Column("total", "of", integer),
    Column("largest_difference", "largest logit difference", "{:.2g}".format, "{:.2g}".format),
    Column("accuracy_before", "before", percent, _plain_percent, rank=2),
    Column("accuracy", "accuracy", percent, _plain_percent),
    Column("microseconds", "µs a picture", "{:,.0f}".format, "{:.0f}".format, rank=3),
    Column("flash", "Cortex-M4 flash", integer, rank=4),
    Column("checked_by", "checked by", left=True, rank=6),
]

RECORDED = [
    Column("format", "format", left=True),
    Column("bytes", "file", integer),
    Column("weights_bytes", "weights", integer),
    Column("memory_bytes", "RAM", integer),
    Column("flash", "flash, Cortex-M4", integer),
    Column("changed", "answers changed", integer),
    Column("largest_difference", "logit difference", "{:.1g}".format),
    Column("right", "right"),
    Column("microseconds", "µs a picture", "{:,.0f}".format),
]


def recorded(exports: Sequence[dict[str, Any]], columns: Sequence[Column] = RECORDED) -> str:
    """Return records of exports as a Markdown table; sizes are in bytes."""
    rows = [row(one) | {"right": f"{one['after']['correct']:,} of {one['total']:,}"}
            for one in exports]  # fmt: skip
    return markdown(columns, rows)


def row(report: dict[str, Any]) -> dict[str, Any]:
    """Return an export's report as a row: accuracies and sizes in columns of their own."""
    return report | {
        "accuracy_before": (report.get("before") or {}).get("accuracy"),
        "accuracy": (report.get("after") or {}).get("accuracy"),
        "flash": (report.get("arm") or {}).get("flash"),
    }


def show_export(output: Output, report: dict[str, Any], unchecked: str | None) -> None:
    """Show an export's row, what changed in a sentence, and the result line."""
    print_table(output, _COLUMNS, [row(report)], title="", kind="export")
    if unchecked is None and output.live:
        output.product(
            f"\nanswers changed: {report['changed']:,} of {report['total']:,}; largest logit "
            f"difference {report['largest_difference']:.2g}\nwritten: {report['file']}"
        )
    if unchecked is not None:
        output.talk(f"notice: {unchecked}")
    keys = ("model", "format", "bytes", "changed", "total", "file")
    output.result(plain_line("result", [Column(key, key) for key in keys], report))
