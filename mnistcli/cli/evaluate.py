"""`mnistcli evaluate`: a trained network on the test set, from the command line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mnistcli.cli import options
from mnistcli.files import write_atomically
from mnistcli.results.confusion import confusion, per_class, worst_pairs
from mnistcli.results.goal import Check, Limits, judge
from mnistcli.results.result import accuracy_dict, goal
from mnistcli.view.evaluation import predictions_csv, show_evaluation
from mnistcli.view.output import Output

if TYPE_CHECKING:
    from mnistcli.data.mnist import Labelled
    from mnistcli.engine.evaluate import Evaluation
    from mnistcli.trained import Trained

_EXAMPLES = """
**Examples**

    mnistcli evaluate v3

    mnistcli evaluate checkpoints/v3/20261124-101500-s0 --predictions v3.csv

    mnistcli evaluate v3 --require accuracy --json > v3.json || echo "below the target"
"""


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("evaluate", help=(evaluate.__doc__ or "") + "\n\n" + _EXAMPLES)(evaluate)


def evaluate(
    checkpoint: Annotated[
        str,
        typer.Argument(
            metavar="CHECKPOINT|MODEL",
            help="A checkpoint file, a run folder, or a model's name: its reference weights.",
            autocompletion=options.complete_models,
        ),
    ],
    model: Annotated[
        str | None,
        typer.Option(
            help="The code of an own network: path/net.py:factory.", show_default="the checkpoint's"
        ),
    ] = None,
    val: Annotated[
        bool,
        typer.Option("--val", help="Evaluate on the validation split instead of the test set."),
    ] = False,
    predictions: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.csv", help="Write one row a picture.", show_default="not written"
        ),
    ] = None,
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
    options.check_gates(require)
    from mnistcli.data import mnist
    from mnistcli.engine import evaluate as engine
    from mnistcli.engine import runtime
    from mnistcli.trained import open_trained

    chosen = runtime.decide(runtime.Request(device, "fp32", "off", threads))
    trained = open_trained(checkpoint, model, chosen)
    dataset = mnist.load(data_dir)
    pictures = mnist.validation_parts(dataset)[1] if val else dataset.test
    result = engine.evaluate(trained.model, pictures.to(chosen.torch_device))
    limits = options.limits(max_params, max_epochs, target)
    checks = _judge(
        trained, result, limits, same_pictures=trained.data == dataset.hashes and not val
    )
    if predictions is not None:
        columns = pictures.labels.tolist(), result.predictions.tolist(), result.confidences.tolist()
        write_atomically(predictions, predictions_csv(*columns).encode())
    report = _report(trained, result, pictures, "validation" if val else "test")
    show_evaluation(
        Output("evaluate", json, quiet, progress), report | {"goal": goal(checks)}, checks
    )
    options.enforce(require, [checks])


def _judge(
    trained: Trained, result: Evaluation, limits: Limits, *, same_pictures: bool
) -> list[Check]:
    """Judge the goal; the epochs before the last count only where they saw the same pictures."""
    history = trained.history
    same_pictures &= bool(history) and history[-1]["split"] == "test"
    earlier = [(m["eval_correct"], m["eval_total"]) for m in history[:-1]] if same_pictures else []
    counts = [*earlier, (result.correct, result.total)]
    return judge(trained.parameters, len(history) or None, counts, limits)


def _report(trained: Trained, result: Evaluation, pictures: Labelled, split: str) -> dict[str, Any]:
    matrix = confusion(pictures.labels.tolist(), result.predictions.tolist())
    return {
        "model": trained.entry.name,
        "path": str(trained.path),
        "parameters": trained.parameters,
        "epoch": len(trained.history),
        "seed": trained.recipe.seed,
        "split": split,
        **accuracy_dict(result.correct, result.total),
        "loss": result.loss,
        "classes": per_class(matrix),
        "confusion": matrix,
        "worst_pairs": worst_pairs(matrix),
    }
