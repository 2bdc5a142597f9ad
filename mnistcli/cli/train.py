"""`mnistcli train`: from options to a plan, and from its events to the screen."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mnistcli import recipe as recipes
from mnistcli.cli import options, processes, signals
from mnistcli.cli import recipe_options as given
from mnistcli.cli.arguments import (
    count_visits,
    name_network,
    names_seed,
    parse_resume,
    parse_seeds,
    resolve_recipe,
    resume_command,
)
from mnistcli.engine import ranks
from mnistcli.errors import Interrupted, UsageError
from mnistcli.models.registry import resolve
from mnistcli.recipe import words
from mnistcli.results.goal import judge_result
from mnistcli.view.output import Output

if TYPE_CHECKING:
    from mnistcli.events import Event
    from mnistcli.runs.plan import Plan

_RUN = "Run folder"
_EXAMPLES = """
**Under torchrun** (`torchrun --nproc-per-node 8 -m mnistcli train --seeds 0-29 --out DIR …`) the
processes divide the runs among themselves and continue them after a restart. torchrun itself
returns 0 when all runs have ended and 1 when a process failed: the set's own exit code is in
DIR/set.json.

**Examples**

    mnistcli train --model v3 --epochs 15

    mnistcli train v3 --val --set optim.name=adamw --seeds 0-4

    mnistcli train --model v3 --out ~/v3 --resume auto --require goal > v3.log
"""


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("train", epilog=_EXAMPLES)(train)


def _complete_logs(incomplete: str) -> list[str]:
    from mnistcli import sinks

    return options.completion(sinks.names())(incomplete)


def train(
    network: given.Network = None,
    model: given.Model = None,
    epochs: given.Epochs = None,
    batch_size: given.BatchSize = None,
    lr: given.Lr = None,
    recipe: given.RecipeFile = None,
    settings: given.Settings = [],  # noqa: B006
    val: given.Val = False,
    teacher: given.Teacher = None,
    no_teacher: given.NoTeacher = False,
    patience: given.Patience = None,
    print_recipe: given.PrintRecipe = False,
    seed: Annotated[
        int | None,
        typer.Option(help=words.SEED, show_default="the recipe's", rich_help_panel=_RUN),
    ] = None,
    seeds: Annotated[
        str | None,
        typer.Option(
            help="Train several seeds: 0-4 or 0,3,7. If one diverges, the others go on.",
            show_default="one run",
            rich_help_panel=_RUN,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="The run's folder; with --seeds, the folder that holds the runs.",
            show_default="checkpoints/MODEL/TIME-sSEED",
            callback=options.at_home,
            readable=False,
            rich_help_panel=_RUN,
        ),
    ] = None,
    resume: Annotated[
        str | None,
        typer.Option(
            metavar="auto|PATH",
            help="Continue the run that matches this line (auto), or the run in this folder.",
            autocompletion=options.complete_resume,
            show_default="off",
            callback=options.at_home,
            rich_help_panel=_RUN,
        ),
    ] = None,
    final: Annotated[
        bool,
        typer.Option(
            "--final",
            help="Test a recipe that was chosen on the validation split: count how often its "
            "network was tested before, store that in the results, and warn if recipes were "
            "chosen after a test.",
            rich_help_panel=_RUN,
        ),
    ] = False,
    plots: options.Plots = True,
    log: Annotated[
        list[str],
        typer.Option(
            "--log",
            metavar="NAME",
            help="Write to this log as well: tensorboard, or an entry point of mnistcli.sinks. "
            "Repeatable.",
            autocompletion=_complete_logs,
            show_default="none",
            rich_help_panel=_RUN,
        ),
    ] = [],  # noqa: B006
    dry_run: options.DryRun = False,
    jobs: processes.Jobs = None,
    max_restarts: processes.MaxRestarts = None,
    parallel: processes.Parallel = "runs",
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    compile: options.Compile = "auto",
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
    """Train a network and judge it against the goal."""
    from mnistcli import sinks

    options.check_gates(require)
    sinks.check(log)
    limits = options.limits(max_params, max_epochs, target)
    direct = {
        "epochs": epochs, "batch_size": batch_size, "optim.lr": lr, "seed": seed,
        "patience_epochs": patience, "validation": val or None, "distillation.teacher": teacher,
    }  # fmt: skip
    changes: dict[str, Any] = {key: value for key, value in direct.items() if value is not None}
    if no_teacher and teacher is not None:
        raise UsageError("--teacher and --no-teacher exclude each other")
    if no_teacher:
        changes["distillation"] = None
    named, resumed = name_network(network, model), parse_resume(resume)
    processes.check(jobs, max_restarts, parallel, resumed)
    output = Output("train", json, quiet, progress)
    if recipe is None and isinstance(resumed, Path):
        recipe = str(resumed / "recipe.yaml")
    resolved = resolve_recipe(
        named, recipe, settings, changes, own_data=data_dir is not None, say=output.talk
    )
    numbers = parse_seeds(seeds, resolved, alone=not names_seed(settings, changes))
    processes.check_set(resolved, numbers, jobs, parallel, out)
    processes.say_if_alone(output.talk)
    if print_recipe:
        output.product(resolved.to_yaml(commented=True).rstrip())
        output.document({"recipe": resolved.model_dump()})
        return
    from mnistcli.engine.runtime import Request
    from mnistcli.runs.plan import Plan

    if isinstance(resumed, Path) and (out is not None or len(numbers) > 1):
        raise UsageError("--resume PATH continues one run in its own folder", hint="--resume auto")
    visit = count_visits(resolved, numbers, out, output.talk) if final else None
    name, differing = recipes.describe(resolved)
    plan = Plan(
        entry=resolve(resolved.model), recipe=resolved, recipe_name=name, changes=differing,
        seeds=numbers, data_dir=data_dir, out=out and out.absolute(), resume=resumed,
        limits=limits, request=Request(device, precision, compile, threads),
        require=tuple(require), parallel=parallel, jobs=jobs or 1, visit=visit, plots=plots,
    )  # fmt: skip
    if dry_run and (jobs is not None or ranks.launched()):
        raise UsageError("--dry-run looks at one process", hint="leave out --jobs and torchrun")
    if dry_run:
        from mnistcli.cli.dry_run import rehearse

        rehearse(plan, output)
    elif ranks.launched():
        from mnistcli.cli import launch

        launch.run_rank(plan, output, logs=log)
    elif jobs is not None:
        from mnistcli.cli import launch

        launch.launch(plan, output, jobs, max_restarts)
    elif len(numbers) > 1:
        from mnistcli.cli import launch

        launch.run_in_turn(plan, output, logs=log)
    else:
        _run(plan, output, logs=log)


def _run(plan: Plan, output: Output, *, logs: list[str]) -> None:
    """Train, show events as they come, then the verdict; attach the resume command to a stop."""
    from mnistcli.cli.sink import sink
    from mnistcli.events import RunStarted
    from mnistcli.runs.single import run_one
    from mnistcli.view.progress import live_or_plain
    from mnistcli.view.verdict import show_result

    folders: list[str] = []
    view = live_or_plain(output)

    keep = sink(view, plots=plan.plots, quiet=output.quiet, logs=logs)

    def emit(event: Event) -> None:
        if isinstance(event, RunStarted):
            folders.append(event.run_dir)
        keep(event)

    try:
        with view:
            result = run_one(plan, emit, signals.flag)
        signals.flag.deferred = False
        if (signum := signals.flag()) is not None:
            raise Interrupted(signum, what="stopped, all epochs saved")
    except Interrupted as stop:
        stop.hint = resume_command(sys.argv[1:], folders[0] if folders else None)
        raise
    checks = judge_result(result, plan.limits)
    show_result(output, result, checks)
    options.conclude(output, result, list(plan.require), [checks])
