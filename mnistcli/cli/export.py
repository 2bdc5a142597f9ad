"""`mnistcli export`: a trained network for other programs, from the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mnistcli.cli import options
from mnistcli.errors import ArtifactError, EnvironmentFault, GateError, UsageError
from mnistcli.export.formats import FORMATS, Name
from mnistcli.models.registry import file_name
from mnistcli.view.output import Output

_EXAMPLES = """
**Examples**

    mnistcli export v3 --to onnx

    mnistcli export checkpoints/v4/20261124-101500-s0 --to c-int8

    mnistcli export v6 --to c --require same --json > v6.json || echo "changed"
"""


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("export", epilog=_EXAMPLES)(export)


def export(
    checkpoint: options.Checkpoint,
    to: Annotated[
        Name,
        typer.Option(help=f"{'; '.join(f'{name}: {one.words}' for name, one in FORMATS.items())}."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The file to write.",
            show_default=f"MODEL{', '.join(one.suffix for one in FORMATS.values())}, here",
            callback=options.at_home,
            readable=False,
        ),
    ] = None,
    model: options.OwnCode = None,
    raw_input: Annotated[
        bool,
        typer.Option(
            "--raw-input",
            help="ONNX, pt2: take grey levels, uint8 28×28, and give the digit too, as C does.",
        ),
    ] = False,
    data_dir: options.DataDir = None,
    require: Annotated[
        list[str],
        typer.Option(
            "--require",
            metavar="same",
            help="Exit with 3 if an answer changes.",
            show_default="none",
            rich_help_panel="Gates",
        ),
    ] = [],  # noqa: B006
    max_changed: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Exit with 3 if more answers than this change.",
            show_default="any number may",
            rich_help_panel="Gates",
        ),
    ] = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    progress: options.ProgressMode = "auto",
    traceback: options.Traceback = False,
) -> None:
    """Write a trained network as ONNX, pt2 or C, and check it on every picture of the test set."""
    from mnistcli.files import write_where_named
    from mnistcli.view.export import show_export

    options.check_gates(require, known=("same",))
    if raw_input and not FORMATS[to].takes_raw:
        taking = " and ".join(name for name, one in FORMATS.items() if one.takes_raw)
        raise UsageError(f"--raw-input is for {taking}: {to} takes grey levels always")
    output = Output("export", json, quiet, progress)
    output.leave_stdout_to("--out", out)
    from mnistcli.data import mnist
    from mnistcli.engine import runtime
    from mnistcli.export import exported
    from mnistcli.runs.trained import open_trained

    trained = open_trained(checkpoint, model, runtime.decide(runtime.Request("cpu", "fp32", "off")))
    dataset = mnist.load(data_dir)
    made = exported.export(trained, dataset, to, raw_input=raw_input)
    file = out or Path(file_name(trained.entry.name) + FORMATS[to].suffix)
    write_where_named(file, made.data)
    allowed = 0 if require else max_changed
    report, unchecked = exported.report(trained, dataset, to, made, must_check=allowed is not None)
    report |= {"file": str(file), "max_changed": allowed}
    options.say_which(output, checkpoint, trained.path)
    show_export(output, report, unchecked)
    if unchecked is None:
        _keep(output, trained.path.parent, report)
    _conclude(output, report, allowed)


def _keep(output: Output, folder: Path, report: dict[str, Any]) -> None:
    """Note a checked export in its run's folder, where `report` finds it."""
    from mnistcli.results import exports

    if not (folder / "result.json").is_file():
        return
    try:
        exports.keep(folder, report)
    except (ArtifactError, EnvironmentFault) as fault:
        output.talk(f"notice: the export is not noted in its run's folder: {fault}")


def _conclude(output: Output, report: dict[str, Any], allowed: int | None) -> None:
    """Write the JSON document; raise GateError with it where too many answers changed."""
    if allowed is not None and report["changed"] > allowed:
        what = f"{report['changed']:,} of {report['total']:,} answers changed, {allowed:,} may"
        raise GateError(what, report)
    output.document(report)
