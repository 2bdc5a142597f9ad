"""`mnistcli evaluate`: a trained network on the test set, from the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from mnistcli.cli import options
from mnistcli.view.output import Output

_EXAMPLES = """
**Examples**

    mnistcli evaluate v3

    mnistcli evaluate checkpoints/v3/20261124-101500-s0 --out pictures

    mnistcli evaluate v3 --require accuracy --json > v3.json || echo "too low"
"""


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("evaluate", epilog=_EXAMPLES)(evaluate)


def evaluate(
    checkpoint: options.Checkpoint,
    model: options.OwnCode = None,
    val: Annotated[
        bool,
        typer.Option("--val", help="Evaluate on the validation split instead of the test set."),
    ] = False,
    predictions: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.csv",
            help="Write one row per picture.",
            show_default="not written",
            callback=options.at_home,
            readable=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Draw confusion.png and misclassified.png into this folder.",
            show_default="not drawn",
            callback=options.at_home,
            readable=False,
        ),
    ] = None,
    precision: Annotated[
        Literal["fp32", "int8"],
        typer.Option(help="int8: the integer arithmetic of `export --to c-int8`, on the CPU."),
    ] = "fp32",
    device: options.Device = "auto",
    threads: options.Threads = None,
    data_dir: options.DataDir = None,
    require: options.Require = [],  # noqa: B006
    max_params: options.MaxParams = 8000,
    max_epochs: options.MaxEpochs = 15,
    target: options.Target = 99.4,
    json: options.Json = False,
    quiet: options.Quiet = False,
    progress: options.ProgressMode = "auto",
    traceback: options.Traceback = False,
) -> None:
    """Evaluate trained weights: accuracy with its interval, classes, confusion, gates."""
    from mnistcli.files import write_where_named
    from mnistcli.results import runlog
    from mnistcli.view.evaluation import predictions_csv, show_evaluation

    options.check_gates(require)
    output = Output("evaluate", json, quiet, progress)
    output.leave_stdout_to("--predictions", predictions)
    from mnistcli.assessment import assess
    from mnistcli.data import mnist
    from mnistcli.engine import runtime
    from mnistcli.runs.trained import open_trained

    chosen = runtime.decide(runtime.Request(device, "fp32", "off", threads))
    trained = open_trained(checkpoint, model, chosen)
    dataset = mnist.load(data_dir)
    limits = options.limits(max_params, max_epochs, target)
    found = assess(trained, dataset, chosen, limits, val=val, precision=precision)
    if predictions is not None:
        result = found.evaluation
        columns = found.labels, result.predictions.tolist(), result.confidences.tolist()
        write_where_named(predictions, predictions_csv(*columns).encode())
    options.say_which(output, checkpoint, trained.path)
    show_evaluation(output, found.report, found.checks, found.mistakes)
    if out is not None:
        from mnistcli.view import plots

        runlog.create(out)
        title = f"{trained.entry.name} · {found.report['split']} set"
        plots.save_evaluation(out, found.report["confusion"], found.mistakes, title)
    options.conclude(output, found.report, require, [found.checks])
