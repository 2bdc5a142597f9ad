"""`mnistcli doctor`: what this machine offers a run."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from mnistcli.cli import options
from mnistcli.errors import EnvironmentFault, UsageError, nearest
from mnistcli.view.output import Output

REQUIRABLE = ("cuda", "bf16", "fp16", "compiler", "data", "disk")
_EXAMPLES = """
**Examples**

    mnistcli doctor

    mnistcli doctor --json

    mnistcli doctor --require cuda --quiet || exit 5
"""


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("doctor", epilog=_EXAMPLES)(doctor)


def doctor(
    require: Annotated[
        list[str],
        typer.Option(
            "--require",
            metavar="CHECK",
            help=f"Exit with 5 unless this is available: {', '.join(REQUIRABLE)}. Repeatable.",
            autocompletion=options.completion(REQUIRABLE),
            show_default="none",
        ),
    ] = [],  # noqa: B006
    device: options.Device = "auto",
    data_dir: options.DataDir = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    progress: options.ProgressMode = "auto",
    traceback: options.Traceback = False,
) -> None:
    """Check devices, compiler, data, disk and terminal; for bug reports."""
    from mnistcli.view.doctor import show_findings, terminal

    for name in require:
        if name not in REQUIRABLE:
            hint = nearest(name, REQUIRABLE)
            raise UsageError(f"unknown check {name!r}", where="--require", hint=hint)
    from mnistcli.diagnosis import Finding, diagnose, versions
    from mnistcli.results.figures import environment

    output = Output("doctor", json, quiet, progress)
    findings = [*diagnose(device, data_dir), Finding("terminal", True, terminal(output))]
    installed = versions()
    show_findings(output, findings, installed)
    report = {"checks": [asdict(one) for one in findings], "versions": installed}
    report |= {"environment": environment()}
    lacking = [one for one in findings if one.name in require and not one.ok]
    if lacking:
        words = "; ".join(f"{one.name} ({one.found})" for one in lacking)
        fault = EnvironmentFault(f"required and not here: {words}")
        fault.report = report
        raise fault
    output.document(report)
