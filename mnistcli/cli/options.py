"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from mnistcli.errors import GateError, UsageError, nearest
from mnistcli.models.registry import MODELS
from mnistcli.results.goal import GATES, Check, Limits, failures
from mnistcli.view.output import Output

Progress = Literal["auto", "live", "plain", "none"]

_OUTPUT, _GATES, _MACHINE = "Output", "Gates", "Machine and data"


def complete_models(incomplete: str) -> list[str]:
    """Return the registered names that begin like this."""
    return [name for name in MODELS if name.startswith(incomplete)]


Json = Annotated[
    bool, typer.Option("--json", help="Write one JSON document to stdout.", rich_help_panel=_OUTPUT)
]
Quiet = Annotated[
    bool,
    typer.Option(
        "-q", "--quiet", help="Write the result line and errors only.", rich_help_panel=_OUTPUT
    ),
]
ProgressMode = Annotated[
    Progress,
    typer.Option(
        "--progress",
        envvar="MNISTCLI_PROGRESS",
        help="Draw on a terminal, write plain lines, or neither.",
        rich_help_panel=_OUTPUT,
    ),
]
Traceback = Annotated[
    bool,
    typer.Option(
        "--traceback", help="Show Python's traceback of an error.", rich_help_panel=_OUTPUT
    ),
]
Require = Annotated[
    list[str],
    typer.Option(
        "--require",
        metavar="GATE",
        help=f"Exit 3 unless this gate passes: {', '.join(GATES)}. Repeatable.",
        show_default="none",
        rich_help_panel=_GATES,
    ),
]
MaxParams = Annotated[
    int, typer.Option(min=1, help="Parameters must be fewer.", rich_help_panel=_GATES)
]
MaxEpochs = Annotated[
    int, typer.Option(min=1, help="Epochs may be as many.", rich_help_panel=_GATES)
]
Target = Annotated[
    float,
    typer.Option(
        min=0, max=100, help="Accuracy must be above, in percent.", rich_help_panel=_GATES
    ),
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        envvar="MNISTCLI_DATA_DIR",
        help="Read four IDX files (plain or .gz) from this folder.",
        show_default="the packaged MNIST",
        rich_help_panel=_MACHINE,
    ),
]
Device = Annotated[
    str,
    typer.Option(
        envvar="MNISTCLI_DEVICE", help="auto, cpu, cuda or cuda:N.", rich_help_panel=_MACHINE
    ),
]
Precision = Annotated[
    Literal["auto", "fp32", "bf16", "fp16"],
    typer.Option(help="Arithmetic of the training step.", rich_help_panel=_MACHINE),
]
Compile = Annotated[
    Literal["auto", "on", "off"],
    typer.Option(help="torch.compile; auto where it pays.", rich_help_panel=_MACHINE),
]
Threads = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=1024,
        help="CPU threads, of each process.",
        show_default="torch's choice; of several processes, an equal share",
        rich_help_panel=_MACHINE,
    ),
]


def limits(max_params: int = 8000, max_epochs: int = 15, target: float = 99.4) -> Limits:
    """Return the gates' bounds, the target kept as the decimal that was typed."""
    return Limits(max_params, max_epochs, repr(target))


def check_gates(required: list[str], *, known: Sequence[str] = GATES) -> None:
    """Refuse a gate that this command can't judge."""
    for gate in required:
        if gate not in known:
            raise UsageError(f"unknown gate {gate!r}", where="--require", hint=nearest(gate, known))


def conclude(
    output: Output, report: dict[str, Any], required: list[str], runs: list[list[Check]]
) -> None:
    """Write the JSON document; raise GateError with it unless every run passes its gates."""
    failed = sorted({gate for checks in runs for gate in failures(checks, required)})
    if failed:
        raise GateError(f"required gate failed: {', '.join(failed)}", report)
    output.document(report)
