"""`mnistcli summary`: the parameter audit."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mnistcli.cli import options
from mnistcli.cli.plan import resolve_arguments
from mnistcli.cli.recipe_options import Arguments
from mnistcli.models.registry import COMPARED, resolve
from mnistcli.results.goal import Check, judge_parameters
from mnistcli.view.audit import show_audits
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
    options.check_gates(require, known=("params",))
    entries = [resolve(name) for name in models or COMPARED]
    arguments = [resolve_arguments(entry.name, settings) for entry in entries]
    from mnistcli.audit import audit

    audits = [audit(*one) for one in zip(entries, arguments, strict=True)]
    limits = options.limits(max_params)
    checks = [judge_parameters(one.parameters, limits) for one in audits]
    output = Output("summary", json, quiet, progress)
    show_audits(output, audits, checks, layers=bool(models))
    report = {"models": [to_dict(one, check) for one, check in zip(audits, checks, strict=True)]}
    options.conclude(output, report, require, [[check] for check in checks])


def to_dict(audited: Audit, budget: Check) -> dict[str, Any]:
    """Return an audit with its verdict as plain values."""
    return asdict(audited) | {"budget": vars(budget)}
