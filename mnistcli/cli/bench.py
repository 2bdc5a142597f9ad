"""`mnistcli bench`: how fast this machine trains and evaluates."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Literal

import typer

from mnistcli import recipe as recipes
from mnistcli.cli import options
from mnistcli.models.registry import MODELS, resolve
from mnistcli.results.comparison import machine
from mnistcli.view.bench import show_bench
from mnistcli.view.output import Output

_EXAMPLES = """
**Examples**

    mnistcli bench

    mnistcli bench --recipe plain/v3 --versus torch

    mnistcli bench v3 --versus baseline --json | jq .ratio
"""


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("bench", epilog=_EXAMPLES)(bench)


def bench(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL",
            help="The network to time.",
            autocompletion=options.complete_models,
            show_default="the recipe's, else v3",
            callback=options.at_home,
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="Packaged name (plain/v3) or YAML file.",
            autocompletion=options.complete_recipes,
            show_default="the model's own",
            callback=options.at_home,
        ),
    ] = None,
    versus: Annotated[
        Literal["baseline", "torch"] | None,
        typer.Option(
            help="Also time, in turn with ours: the original pipeline (PIL, DataLoader, Adam), or "
            "plain/v3 as a good loop in PyTorch alone, with torch.compile where that is faster.",
            show_default="ours alone",
        ),
    ] = None,
    growth: Annotated[
        bool,
        typer.Option("--growth", help="Also train an epoch of 10, 60 and 240 thousand pictures."),
    ] = False,
    steps: Annotated[
        int, typer.Option(min=1, max=100_000, help="Batches per round; there are three rounds.")
    ] = 100,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    compile: options.Compile = "auto",
    threads: options.Threads = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    progress: options.ProgressMode = "auto",
    traceback: options.Traceback = False,
) -> None:
    """Measure training and evaluation speed, and where an epoch's time goes."""
    name = recipe or (model if model in MODELS else "v3")
    asked = recipes.load(name, model=model)
    entry = resolve(asked.model)
    from mnistcli.bench import rivals
    from mnistcli.bench.growth import growth as grow
    from mnistcli.bench.measure import Bench, measure
    from mnistcli.data import mnist
    from mnistcli.engine import runtime, state
    from mnistcli.models.registry import build
    from mnistcli.teacher import open_teacher

    dataset = mnist.load()
    request = runtime.Request(device, precision, compile, threads)
    chosen = runtime.decide(request)
    images = asked.epochs * len(dataset.train.labels)  # compiled where a whole run would be
    chosen = runtime.choose_compile(
        chosen, request, build(entry, asked.model_args), images_to_train=images, own=entry.own
    )
    teacher = open_teacher(asked, dataset.hashes, chosen)
    taught = None if teacher is None else (teacher.model, teacher.mult_adds)
    timed = Bench(entry, asked, chosen, dataset, taught)
    beside = None
    if versus is not None:
        beside = partial(rivals.prepare, name=versus, compile=compile != "off")
    report = measure(timed, steps=steps, prepare=beside)
    if growth:
        report["growth"] = grow(timed)
    where = {"recipe": name, "runtime": chosen.to_dict(), "versions": state.versions()}
    output = Output("bench", json, quiet, progress)
    if chosen.threads_reason is not None:
        output.talk(f"notice: {chosen.threads_reason}")
    show_bench(output, report | where | {"machine": machine(where)})
