"""`mnistcli summary`: the parameter audit."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mnistcli import recipe as recipes
from mnistcli.cli import options
from mnistcli.cli.arguments import resolve_arguments, resolve_recipe
from mnistcli.cli.recipe_options import Arguments
from mnistcli.errors import UsageError
from mnistcli.files import write_where_named
from mnistcli.models.registry import COMPARED, resolve
from mnistcli.results.goal import Check, judge_parameters
from mnistcli.view.output import Output

if TYPE_CHECKING:
    from mnistcli.audit import Audit

_EXAMPLES = """
**Examples**

    mnistcli summary v2

    mnistcli summary net.py:tiny --set model_args.width=12

    mnistcli summary --json v1 v2 v3 | jq '.models[].parameters'
"""


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("summary", epilog=_EXAMPLES)(summary)


def summary(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MODEL",
            help="Registered names, path/net.py:factory or package.module:factory.",
            autocompletion=options.complete_models,
            show_default="all registered models, one row each",
            callback=options.at_home,
        ),
    ] = None,
    settings: Arguments = [],  # noqa: B006
    augmented: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.png",
            help="Draw training pictures as the network's recipe distorts them; one MODEL only.",
            show_default="not drawn",
            callback=options.at_home,
            readable=False,
        ),
    ] = None,
    data_dir: options.DataDir = None,
    require: Annotated[
        list[str],
        typer.Option(
            "--require",
            metavar="params",
            help="Exit with 3 unless every network is inside the budget; other gates need a run.",
            show_default="none",
            rich_help_panel="Gates",
        ),
    ] = [],  # noqa: B006
    max_params: options.MaxParams = 8000,
    json: options.Json = False,
    quiet: options.Quiet = False,
    progress: options.ProgressMode = "auto",
    traceback: options.Traceback = False,
) -> None:
    """Count a network's parameters and mult-adds layer by layer, and judge its budget."""
    from mnistcli.view.audit import show_audits

    options.check_gates(require, known=("params",))
    if augmented is not None and len(models or []) != 1:
        raise UsageError("--augmented draws one network's recipe", hint="name one MODEL")
    output = Output("summary", json, quiet, progress)
    output.leave_stdout_to("--augmented", augmented)
    entries = [resolve(name) for name in models or COMPARED]
    arguments = [resolve_arguments(entry.name, settings) for entry in entries]
    from mnistcli.audit import audit

    audits = [audit(*one) for one in zip(entries, arguments, strict=True)]
    limits = options.limits(max_params)
    checks = [judge_parameters(one.parameters, limits) for one in audits]
    show_audits(output, audits, checks, layers=bool(models))
    report = {"models": [to_dict(one, check) for one, check in zip(audits, checks, strict=True)]}
    if augmented is not None:
        write_where_named(augmented, _drawn(entries[0].name, data_dir))
    options.conclude(output, report, require, [[check] for check in checks])


def _drawn(model: str, data_dir: Path | None) -> bytes:
    """Return a sheet of what training by the network's own recipe sees."""
    from mnistcli.data import mnist
    from mnistcli.data.warped import warped
    from mnistcli.view import plots

    recipe = resolve_recipe(model)
    name, _ = recipes.describe(recipe)
    return plots.warped(warped(mnist.load(data_dir).train, recipe), f"recipe {name}")


def to_dict(audited: Audit, budget: Check) -> dict[str, Any]:
    """Return an audit with its verdict as plain values."""
    return asdict(audited) | {"budget": vars(budget)}
