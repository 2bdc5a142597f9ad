"""`mnistcli study`: a question about recipes, planned, run, answered and frozen."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mnistcli.cli import options, processes
from mnistcli.errors import UsageError
from mnistcli.view.output import Output

_STUDY, _MANY = "Study", "Many processes"
_EXAMPLES = """
**A study file** names a question, a base and arms; an arm can change any value of a recipe.

    question: Does v3 gain from a softer teacher or another optimizer?
    base: v3
    common: {epochs: 6}
    arms:
      softer: {distillation.temperature: 4}
      adamw: {optim: {name: adamw}}
    grid: {optim.muon_lr: [0.02, 0.05]}
    detect: 0.05

`detect`, in percentage points, decides how many seeds are needed; `seeds: 0-15` or `stages:
[{seeds: 0-4, keep: 3}, {epochs: 15, seeds: 5-20}]` set them directly. The best of several arms is
measured again on fresh seeds (`confirm:`) before it is called better.

**Examples**

    mnistcli study softer.yaml --plan

    mnistcli study softer.yaml --jobs 2

    mnistcli study softer.yaml -q && mnistcli study softer.yaml --freeze v3-soft
"""


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("study", epilog=_EXAMPLES)(study)


def study(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="A YAML file, or the name of a packaged study: study/v3.",
            callback=options.at_home,
            readable=False,
        ),
    ],
    plan: Annotated[
        bool,
        typer.Option(
            "--plan",
            help="Say what would be run, what it can show and what it costs, without doing it.",
            rich_help_panel=_STUDY,
        ),
    ] = False,
    recorded: Annotated[
        bool,
        typer.Option(
            "--recorded",
            help="Answer from published records of its arms; train nothing.",
            rich_help_panel=_STUDY,
        ),
    ] = False,
    arm: Annotated[
        str | None,
        typer.Option(
            "--print-arm",
            metavar="ARM",
            help="Print this arm's whole recipe and exit.",
            show_default="none",
            rich_help_panel=_STUDY,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="The study's folder; what it holds already is continued.",
            show_default="checkpoints/studies/FILE",
            callback=options.at_home,
            readable=False,
            rich_help_panel=_STUDY,
        ),
    ] = None,
    decide: Annotated[
        str | None,
        typer.Option(
            metavar="ARM",
            help="Record that this arm is chosen by hand, and why; --freeze then writes it.",
            show_default="the study decides",
            rich_help_panel=_STUDY,
        ),
    ] = None,
    reason: Annotated[
        str | None,
        typer.Option(
            metavar="WHY",
            help="The reason for --decide.",
            show_default="none",
            rich_help_panel=_STUDY,
        ),
    ] = None,
    freeze: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Write the winner as a whole recipe, NAME.yaml, with its evidence in its notes; "
            "train --final then takes it to the test set.",
            show_default="not written",
            rich_help_panel=_STUDY,
        ),
    ] = None,
    models: Annotated[
        list[str],
        typer.Option(
            "--model",
            metavar="PATH.py:FACTORY",
            help="Allow a network of your own that the file names; repeatable.",
            show_default="registered networks",
            callback=options.at_home,
            rich_help_panel=_STUDY,
        ),
    ] = [],  # noqa: B006
    jobs: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=1024,
            help="Train the runs in this many processes, which share this machine's cores.",
            show_default="one process",
            rich_help_panel=_MANY,
        ),
    ] = None,
    max_restarts: processes.MaxRestarts = None,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    compile: options.Compile = "auto",
    threads: options.Threads = None,
    data_dir: options.DataDir = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    progress: options.ProgressMode = "auto",
    traceback: options.Traceback = False,
) -> None:
    """Answer a question about recipes: plan, register, train on the validation split, decide."""
    output = Output("study", json, quiet, progress)
    processes.check(jobs, max_restarts, "runs", False)
    if (decide is None) != (reason is None):
        raise UsageError("--decide ARM and --reason WHY go together")
    from mnistcli.cli import experiment
    from mnistcli.study.schema import find_study

    file = find_study(file)
    opened = experiment.open_for(file, data_dir, models, output)
    folder = (out or Path("checkpoints", "studies", file.stem)).absolute()
    if arm is not None:
        experiment.print_arm(opened, arm, output)
    elif recorded:
        experiment.show_recorded(opened, output)
    elif plan:
        experiment.show(opened, jobs or 1, output)
    elif decide is not None or freeze is not None:
        experiment.settle(folder, output, (decide, reason), freeze)
    else:
        from mnistcli.engine.runtime import Request
        from mnistcli.study.crew import Terms

        request = Request(device, precision, compile, threads)
        terms = Terms(folder, request, data_dir, jobs or 1)
        experiment.run(opened, terms, output, max_restarts, alone=jobs is None)
