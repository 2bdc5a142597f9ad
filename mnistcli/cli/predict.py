"""`mnistcli predict`: a trained network on a person's own pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mnistcli.cli import options
from mnistcli.errors import ArtifactError
from mnistcli.view.output import Output

_EXAMPLES = """
**Examples**

    mnistcli predict v3 seven.jpg

    mnistcli predict checkpoints/v3/20261124-101500-s0 scans/*.png

    mnistcli predict v3 --json digit.png | jq '.pictures[0].digit'
"""


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("predict", epilog=_EXAMPLES)(predict)


def predict(
    checkpoint: options.Checkpoint,
    images: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGE",
            help="Pictures of one digit each: PNG, JPEG, GIF, BMP, TIFF, WebP or PPM, of any size.",
            callback=options.at_home,
            readable=False,
        ),
    ],
    model: options.OwnCode = None,
    device: options.Device = "auto",
    threads: options.Threads = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    progress: options.ProgressMode = "auto",
    traceback: options.Traceback = False,
) -> None:
    """Read your own pictures of digits: each as the network sees it, and its three best guesses."""
    from mnistcli.assessment import predict_files
    from mnistcli.engine import runtime
    from mnistcli.runs.trained import open_trained
    from mnistcli.view.prediction import show_predictions

    chosen = runtime.decide(runtime.Request(device, "fp32", "off", threads))
    trained = open_trained(checkpoint, model, chosen)
    found, faults = predict_files(trained, images, chosen)
    report: dict[str, Any] = {
        "model": trained.entry.name,
        "path": str(trained.path),
        "pictures": [one.to_dict() for one in found],
        "unread": [{"file": fault.where, "what": fault.what} for fault in faults],
    }
    output = Output("predict", json, quiet, progress)
    options.say_which(output, checkpoint, trained.path)
    show_predictions(output, found)
    if faults:
        raise _joined(faults, len(images), report)
    output.document(report)


def _joined(faults: list[ArtifactError], asked: int, report: dict[str, Any]) -> ArtifactError:
    """Return one error that names every unread file; its report has what the others showed."""
    from mnistcli.view.prediction import printable

    first = faults[0]
    named = [(printable(fault.where), printable(fault.what)) for fault in faults]
    if len(faults) > 1:
        files = "; ".join(f"{where}: {what}" for where, what in named)
        error = ArtifactError(f"{len(faults)} of {asked} pictures not read", where=files)
    else:
        error = ArtifactError(named[0][1], where=named[0][0], hint=first.hint)
    error.report = report
    return error
