"""`mnistcli compare`: networks, recipes and runs side by side."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from mnistcli import recipe as recipes
from mnistcli.cli import options, signals
from mnistcli.cli.arguments import parse_seeds, resolve_recipe
from mnistcli.errors import Interrupted, UsageError
from mnistcli.models.registry import COMPARED, known_names, resolve
from mnistcli.results.goal import Limits
from mnistcli.view.output import Output

if TYPE_CHECKING:
    from mnistcli.results.gather import Found
    from mnistcli.results.unfinished import Unfinished
    from mnistcli.runs.plan import Plan

_TRAINING = "Training"
_EXAMPLES = """
**Examples**

    mnistcli compare

    mnistcli compare 'checkpoints/v3/*' --baseline baseline/v3 --plot v3.png

    mnistcli compare v1 v3 --train --seeds 0-2 --epochs 1 --format csv > a.csv
"""


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("compare", epilog=_EXAMPLES)(compare)


def compare(
    references: options.References = None,
    baseline: Annotated[
        str | None,
        typer.Option(
            help="Show differences from this recipe or run.",
            autocompletion=options.complete_references,
            show_default="none",
            callback=options.at_home,
        ),
    ] = None,
    style: Annotated[
        Literal["table", "md", "csv"], typer.Option("--format", help="A table, Markdown or CSV.")
    ] = "table",
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.png",
            help="Draw accuracy against parameters, beside published networks, and by epoch.",
            show_default="not drawn",
            callback=options.at_home,
            readable=False,
        ),
    ] = None,
    margin: Annotated[
        float,
        typer.Option(
            min=0,
            max=100,
            help="Call a row tied if it lies within this many percentage points of the leader.",
        ),
    ] = 0.05,
    train: Annotated[
        bool,
        typer.Option(
            "--train",
            help="Train the seeds for which there is no record and no run yet.",
            rich_help_panel=_TRAINING,
        ),
    ] = False,
    seeds: Annotated[
        str | None,
        typer.Option(
            help="The seeds that each network should have: 0-4 or 0,3,7.",
            show_default="the recipe's",
            rich_help_panel=_TRAINING,
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            help="Epochs per run.", show_default="the recipe's", rich_help_panel=_TRAINING
        ),
    ] = None,
    device: options.Device = "auto",
    data_dir: options.DataDir = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    progress: options.ProgressMode = "auto",
    traceback: options.Traceback = False,
) -> None:
    """Compare networks and runs: mean of last epochs, intervals, and what can't be told apart."""
    from mnistcli.files import write_where_named
    from mnistcli.results.comparison import rows
    from mnistcli.results.gather import Found
    from mnistcli.view.comparison import show_comparison

    if not train and (seeds is not None or epochs is not None):
        raise UsageError("--seeds and --epochs say what to train", hint="add --train")
    output = Output("compare", json, quiet, progress)
    output.leave_stdout_to("--plot", plot)
    wanted = Wanted(seeds, epochs, device, data_dir, output) if train else None
    found = collect(references or [], wanted)
    against = collect([baseline], wanted) if baseline is not None else Found([], [], [])
    exact = [one for one in against.results if one["recipe"] == baseline] or against.results
    results = [*found.results, *(one for one in exact if one not in found.results)]
    unfinished = [*found.unfinished, *against.unfinished]
    for notice in [*found.notices, *against.notices]:
        output.talk(f"notice: {notice}")
    table = rows(results, exact[0] if exact else None, unfinished=unfinished, margin=margin / 100)
    show_comparison(output, table, unfinished, style, difference=bool(exact))
    if plot is not None:
        from mnistcli.view.scatter import scatter_png

        write_where_named(plot, scatter_png(table))
        output.talk(f"notice: written {plot}")


@dataclass(frozen=True)
class Wanted:
    """What --train asks for; the recipe's own seed and epochs where None."""

    seeds: str | None
    epochs: int | None
    device: str
    data_dir: Path | None
    output: Output


def collect(references: Sequence[str], wanted: Wanted | None) -> Found:
    """Return the results that the references mean; where wanted, networks are trained first."""
    from mnistcli.results.gather import Found, gather

    if wanted is None:
        return gather(references)
    results: list[dict[str, Any]] = []
    unfinished: list[Unfinished] = []
    notices: list[str] = []
    for reference in references or COMPARED:
        if _is_trainable(reference):
            found = Found(_trained(reference, wanted), [], [])
        else:
            found = gather([reference])
        results += [one for one in found.results if one not in results]
        unfinished += found.unfinished
        notices += found.notices
    return Found(results, unfinished, notices)


def _is_trainable(reference: str) -> bool:
    """Return whether a reference names a network or a recipe, and no run."""
    named = reference in known_names() or reference in recipes.names()
    return named or ":" in reference or Path(reference).suffix in (".yaml", ".yml")


def _trained(reference: str, wanted: Wanted) -> list[dict[str, Any]]:
    """Complete one network's seeds; a stop names the line that goes on, which is the same."""
    from mnistcli.cli.sink import sink
    from mnistcli.view.progress import live_or_plain

    plan = _plan(reference, wanted)
    from mnistcli.runs.missing import complete

    output = wanted.output  # in a pipe the table alone is the product, and epochs are talk
    view = live_or_plain(output if output.live else replace(output, json=True))

    try:
        with view:
            emit = sink(view, plots=True, quiet=output.quiet)
            found = complete(plan, emit, signals.flag)
        signals.flag.deferred = False
        if (signum := signals.flag()) is not None:
            raise Interrupted(signum, what="stopped, all epochs saved")
    except Interrupted as stop:
        stop.hint = shlex.join(["mnistcli", *sys.argv[1:]])
        raise
    finally:
        signals.flag.deferred = False
    return found


def _plan(reference: str, wanted: Wanted) -> Plan:
    is_recipe = reference in recipes.names() or Path(reference).suffix in (".yaml", ".yml")
    model, source = (None, reference) if is_recipe else (reference, None)
    changes = {} if wanted.epochs is None else {"epochs": wanted.epochs}
    recipe = resolve_recipe(
        model, source, options=changes, own_data=wanted.data_dir is not None,
        say=wanted.output.talk,
    )  # fmt: skip
    numbers = parse_seeds(wanted.seeds, recipe, alone=True)
    name, differing = recipes.describe(recipe)
    from mnistcli.engine.runtime import Request
    from mnistcli.runs.plan import Plan

    return Plan(
        entry=resolve(recipe.model), recipe=recipe, recipe_name=name, changes=differing,
        seeds=numbers, data_dir=wanted.data_dir, out=None, resume="auto", limits=Limits(),
        request=Request(device=wanted.device),
    )  # fmt: skip
