"""Show a parameter audit: one row per layer, the totals, the budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from mnistcli.results.goal import Check
from mnistcli.view.output import Output
from mnistcli.view.tables import Column, Row, integer, percent, plain_line, print_table

if TYPE_CHECKING:
    from mnistcli.audit import Audit


def _sizes(value: Sequence[int] | int | None) -> str:
    return "–" if value is None else _plain_sizes(value).replace("x", "×")


def _plain_sizes(value: Sequence[int] | int) -> str:
    return str(value) if isinstance(value, int) else "x".join(map(str, value))


_LAYERS = [
    Column("name", "layer", left=True),
    Column("type", "type", left=True),
    Column("output_shape", "output", _sizes, _plain_sizes),
    Column("kernel", "kernel", _sizes, _plain_sizes, rank=3),
    Column("stride", "stride", _sizes, _plain_sizes, rank=4),
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
# A pipe gets in each network's line what a terminal gets around the table.
_ASIDE = [Column("network", ""), Column("receptive_field_reason", "")]


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
            title=f"{audit.model} · network {audit.network}",
            kind=f"layer model={audit.model}",
        )
    columns = _TOTALS if output.live else [*_TOTALS, *_ASIDE]
    print_table(output, columns, totals, title="", kind="total")
    if output.live and not output.quiet:
        _explain(output, audits)
    if output.quiet:
        for total in totals:
            output.result(plain_line("result", _TOTALS, total))


def _explain(output: Output, audits: Sequence[Audit]) -> None:
    """Say below the table why a receptive field is missing."""
    console = output.console()
    for audit in audits:
        if audit.receptive_field_reason is not None:
            console.print(f"{audit.model} has no receptive field: {audit.receptive_field_reason}")


def _layer_rows(audit: Audit) -> list[Row]:
    return [
        asdict(layer)
        | {
            "output_shape": layer.output_shape or None,
            "share": layer.parameters / max(audit.parameters, 1),
        }
        for layer in audit.layers
    ]


def _totals(audit: Audit, check: Check) -> dict[str, Any]:
    verdict = "PASS" if check.passed else "FAIL"
    return vars(audit) | {"need": check.need, "verdict": verdict}
