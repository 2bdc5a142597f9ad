"""`mnistcli bench`: how fast this machine trains and evaluates."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from mnistcli import recipe as recipes
from mnistcli.cli import options
from mnistcli.models.registry import MODELS, ModelEntry, resolve
from mnistcli.view.output import Output

if TYPE_CHECKING:
    from mnistcli.bench.measure import Bench
    from mnistcli.engine.runtime import Request, Runtime
    from mnistcli.recipe import Recipe

_EPOCHS = 3  # of a training that --jobs counts: 40 s on one core, five minutes in all

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
    neighbours: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=1024,
            metavar="N",
            help="Also time all threads against one, in turn, beside N processes that each keep a "
            "core busy.",
            show_default="the machine as it is",
        ),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            min=2,
            max=1024,
            metavar="N",
            help="Also count the runs per hour of N processes and of one: whole trainings of "
            f"{_EPOCHS} epochs.",
            show_default="no such training",
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
    from mnistcli.view.bench import show_bench

    name = recipe or (model if model in MODELS else "v3")
    asked = recipes.load(name, model=model)
    entry = resolve(asked.model)
    from mnistcli.bench import cores, rivals
    from mnistcli.bench import growth as pictures
    from mnistcli.bench.measure import measure
    from mnistcli.engine import runtime

    request = runtime.Request(device, precision, compile, threads)
    cores.check(runtime.decide(request), neighbours)
    timed = _open(entry, asked, request)
    chosen = timed.runtime
    beside = None
    if versus is not None:
        beside = partial(rivals.prepare, name=versus, compile=compile != "off")
    report = measure(timed, steps=steps, prepare=beside)
    report |= cores.measure(timed, steps=steps, neighbours=neighbours)
    if jobs is not None:
        words = ["--recipe", name, "--precision", precision, "--compile", compile]
        words += [] if model is None else ["--model", model]
        report["jobs"] = cores.runs_per_hour(words, jobs, epochs=_EPOCHS)
    if growth:
        report["growth"] = pictures.growth(timed)
    output = Output("bench", json, quiet, progress)
    if chosen.threads_reason is not None:
        output.talk(f"notice: {chosen.threads_reason}")
    show_bench(output, report | _origin(name, timed.runtime))


def _open(entry: ModelEntry, recipe: Recipe, request: Request) -> Bench:
    """Return the network to be timed, compiled where a whole run would be."""
    from mnistcli.bench.measure import Bench
    from mnistcli.data import mnist
    from mnistcli.engine import runtime
    from mnistcli.models.registry import build
    from mnistcli.runs.trained import open_teacher

    dataset = mnist.load()
    images = recipe.epochs * len(dataset.train.labels)
    chosen = runtime.choose_compile(
        runtime.decide(request), request, build(entry, recipe.model_args), images_to_train=images,
        own=entry.own,
    )  # fmt: skip
    teacher = open_teacher(recipe, dataset.hashes, chosen)
    taught = None if teacher is None else (teacher.model, teacher.mult_adds)
    return Bench(entry, recipe, chosen, dataset, taught)


def _origin(recipe: str, chosen: Runtime) -> dict[str, Any]:
    """Return what was timed, and where: commit, code path and machine."""
    from mnistcli.engine import ranks, state
    from mnistcli.results.comparison import machine
    from mnistcli.results.figures import code_path, environment

    where: dict[str, Any] = {
        "recipe": recipe,
        "runtime": chosen.to_dict(),
        "versions": state.versions(),
    }
    return where | {
        **environment(),
        "cores": ranks.here().cores,
        "code_path": code_path(where["runtime"]),
        "machine": machine(where),
    }
