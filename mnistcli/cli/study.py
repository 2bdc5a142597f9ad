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

`detect`, in points, decides the seeds; `seeds: 0-15` or `stages: [{seeds: 0-4, keep: 3}, {epochs:
15, seeds: 5-20}]` name them. What leads after several were compared is measured once more on
fresh seeds (`confirm:`) before it is called better.

**Examples**

    mnistcli study softer.yaml --plan

    mnistcli study softer.yaml --jobs 2

    mnistcli study softer.yaml --freeze v3-soft && mnistcli train --recipe v3-soft.yaml --final
"""


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("study", epilog=_EXAMPLES)(study)


def study(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="The study: a YAML file.", callback=options.at_home),
    ],
    plan: Annotated[
        bool,
        typer.Option(
            "--plan",
            help="Say what would be run, what it can show and what it costs; do none of it.",
            rich_help_panel=_STUDY,
        ),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            help="The study's folder; what is there is gone on with.",
            show_default="checkpoints/studies/FILE",
            callback=options.at_home,
            rich_help_panel=_STUDY,
        ),
    ] = None,
    models: Annotated[
        list[str],
        typer.Option(
            "--model",
            metavar="PATH.py:FACTORY",
            help="Let the file name this own network; repeatable.",
            show_default="registered networks",
            rich_help_panel=_STUDY,
        ),
    ] = [],  # noqa: B006
    jobs: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=1024,
            help="Share out the runs among so many processes of this machine, and its cores.",
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
    """Ask a question about recipes: plan its runs, train them on the validation split, decide."""
    output = Output("study", json, quiet, progress)
    processes.check(jobs, max_restarts, "runs", False)
    from mnistcli.study.arms import own_networks
    from mnistcli.study.plan import open_plan

    opened = open_plan(file, taught=data_dir is None)
    for name in own_networks(opened.arms):
        if name not in models:
            what = f"the study names the own network {name!r}"
            raise UsageError(what, where=str(file), hint=f"say so yourself: --model {name}")
    if data_dir is not None:
        output.talk("notice: no packaged teacher, which knows MNIST alone: --data-dir is given")
    if plan:
        from mnistcli.study.plan import describe_plan
        from mnistcli.view.studyplan import show_plan

        described = describe_plan(opened, options.processor())
        show_plan(output, described, jobs or 1)
        output.document({"plan": described, "jobs": jobs or 1})
        return
    from mnistcli.cli import experiment
    from mnistcli.engine.runtime import Request
    from mnistcli.study.crew import Terms

    folder = (out or Path("checkpoints", "studies", file.stem)).absolute()
    request = Request(device, precision, compile, threads)
    terms = Terms(folder, request, data_dir, jobs or 1)
    experiment.run(opened, terms, output, max_restarts, alone=jobs is None)
