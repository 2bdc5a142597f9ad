"""Show a parameter audit: a row a layer, the totals, the budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from mnistcli.results.goal import Check
from mnistcli.view.output import Output
from mnistcli.view.tables import Column, Row, integer, percent, plain_line, print_table

if TYPE_CHECKING:
    from mnistcli.audit import Audit


def _shape(value: Sequence[int]) -> str:
    return "×".join(str(size) for size in value)


def _plain_shape(value: Sequence[int]) -> str:
    return "x".join(str(size) for size in value)


_LAYERS = [
    Column("name", "layer", left=True),
    Column("type", "type", left=True),
    Column("output_shape", "output", _shape, _plain_shape),
    Column("kernel", "kernel", rank=3),
    Column("stride", "stride", rank=4),
    Column("parameters", "params", integer),
    Column("share", "% params", percent, lambda v: f"{100 * v:.2f}", rank=2),
    Column("mult_adds", "mult-adds", integer),
    Column("receptive_field", "field", rank=1),
]
_mib = "{:.3f}".format
_TOTALS = [
    Column("model", "model", left=True),
    Column("parameters", "params", integer),
    Column("trainable", "trainable", integer, rank=6),
    Column("mult_adds", "mult-adds", integer),
    Column("receptive_field", "field", rank=1),
    Column("forward_backward_mib", "act MiB", _mib, _mib, rank=3),
    Column("parameters_mib", "fp32 MiB", _mib, _mib, rank=4),
    Column("int8_mib", "int8 MiB", _mib, _mib, rank=5),
    Column("need", "budget"),
    Column("verdict", "", left=True),
]


def show_audits(
    output: Output, audits: Sequence[Audit], checks: Sequence[Check], *, layers: bool
) -> None:
    """Show the layers of each network where asked for, then a row of totals each."""
    totals = [_totals(audit, check) for audit, check in zip(audits, checks, strict=True)]
    for audit in audits if layers else ():
        print_table(
            output,
            _LAYERS,
            _layer_rows(audit),
            title=audit.model,
            kind=f"layer model={audit.model}",
        )
    print_table(output, _TOTALS, totals, title="", kind="total")
    if output.quiet:
        for total in totals:
            output.result(plain_line("result", _TOTALS, total))


def _layer_rows(audit: Audit) -> list[Row]:
    return [
        asdict(layer) | {"share": layer.parameters / max(audit.parameters, 1)}
        for layer in audit.layers
    ]


def _totals(audit: Audit, check: Check) -> dict[str, Any]:
    verdict = "PASS" if check.passed else "FAIL"
    return vars(audit) | {
        "receptive_field": audit.receptive_field,
        "need": check.need,
        "verdict": verdict,
    }
