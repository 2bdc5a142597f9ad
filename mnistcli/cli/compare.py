"""`mnistcli compare`: networks, recipes and runs side by side."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from mnistcli.cli import options
from mnistcli.results.comparison import gather, rows
from mnistcli.view.comparison import show_comparison
from mnistcli.view.output import Output

_EXAMPLES = """
**Examples**

    mnistcli compare

    mnistcli compare 'checkpoints/v3/*' --baseline baseline/v3

    mnistcli compare --format csv > results.csv
"""


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("compare", epilog=_EXAMPLES)(compare)


def compare(
    references: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MODEL|RECIPE|RUN|GLOB",
            help="A model or recipe with published records, or run folders.",
            autocompletion=options.complete_models,
            show_default="all registered models from their records",
        ),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(help="Take differences against this recipe or run.", show_default="none"),
    ] = None,
    style: Annotated[
        Literal["table", "md", "csv"], typer.Option("--format", help="Drawn, Markdown or CSV.")
    ] = "table",
    json: options.Json = False,
    quiet: options.Quiet = False,
    progress: options.ProgressMode = "auto",
    traceback: options.Traceback = False,
) -> None:
    """Compare networks and runs: mean of last epochs, intervals, and what can't be told apart."""
    results = gather(references or [])
    against = gather([baseline]) if baseline is not None else []
    exact = [result for result in against if result["recipe"] == baseline] or against
    results += [result for result in exact if result not in results]
    table = rows(results, exact[0] if exact else None)
    output = Output("compare", json, quiet, progress)
    show_comparison(output, table, style, difference=bool(exact))
