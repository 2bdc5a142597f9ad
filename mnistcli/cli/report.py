"""`mnistcli report`: the write-up of networks and runs in Markdown."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from mnistcli import recipe as recipes
from mnistcli.cli import options
from mnistcli.errors import ArtifactError, NotReadable, UsageError
from mnistcli.results.goal import Limits
from mnistcli.view.output import Output

_EXAMPLES = """
**Examples**

    mnistcli report v3 > v3.md

    mnistcli report 'checkpoints/v3/*' --out report.md

    mnistcli report --update README.md && git diff --exit-code README.md
"""


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("report", epilog=_EXAMPLES)(report)


def report(
    references: options.References = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.md",
            help="Write the report to this file; its links to pictures are relative.",
            show_default="stdout",
            callback=options.at_home,
            readable=False,
        ),
    ] = None,
    readme: Annotated[
        Path | None,
        typer.Option(
            "--update",
            metavar="FILE.md",
            help="Replace the results between the two markers in this file. The marker"
            " `<!-- results by network -->` asks for one row per network, as in README.md.",
            show_default="none",
            callback=options.at_home,
            readable=False,
        ),
    ] = None,
    svg: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.svg",
            help="Draw the training of one run as a terminal shows it, from the run's folder.",
            show_default="not drawn",
            callback=options.at_home,
            readable=False,
        ),
    ] = None,
    page: Annotated[
        Path | None,
        typer.Option(
            "--html",
            metavar="FILE.html",
            help="Write the report as one HTML page too, its pictures inside.",
            show_default="not written",
            callback=options.at_home,
            readable=False,
        ),
    ] = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    progress: options.ProgressMode = "auto",
    traceback: options.Traceback = False,
) -> None:
    """Write up target, result and analysis of each model in Markdown, from its records or runs."""
    from mnistcli.files import write_where_named
    from mnistcli.view.page import to_page

    if out is not None and readme is not None:
        raise UsageError("--out and --update exclude each other")
    output = Output("report", json, quiet, progress)
    for option, path in (
        ("--out", out), ("--update", readme), ("--svg", svg), ("--html", page),
    ):  # fmt: skip
        output.leave_stdout_to(option, path)
    text, count = _written(references or [], out, readme, svg, output)
    if page is not None:
        inside, _ = _written(references or [], page, None, None, output)
        write_where_named(page, to_page(inside, page.absolute().parent).encode())
        output.talk(f"notice: written {page}")
    place = out or readme
    if place is None and page is None:
        output.product(text)
    elif place is None:
        place = page
    else:
        whole = text if readme is not None else text.rstrip("\n") + "\n"
        write_where_named(place, whole.encode())
        output.talk(f"notice: written {place}")
    if place is not None or quiet:
        output.result(f"result report={place or '-'} rows={count}")
    output.document({"markdown": text, "out": None if place is None else str(place)})


def _written(
    references: list[str], out: Path | None, readme: Path | None, svg: Path | None, output: Output
) -> tuple[str, int]:
    """Return the report in Markdown and how many rows it has, of a study or of networks and runs;
    its links are relative to where it is written."""
    from mnistcli.files import write_where_named
    from mnistcli.results.comparison import rows
    from mnistcli.results.gather import gather
    from mnistcli.results.networks import by_network
    from mnistcli.study.record import is_study, read_record  # pydantic: help does without
    from mnistcli.view.comparison import to_markdown
    from mnistcli.view.networks import network_markdown
    from mnistcli.view.report import short_form, to_report, update
    from mnistcli.view.studyreport import study_markdown

    links = (out or Path("-")).absolute().parent
    if len(references) == 1 and is_study(Path(references[0])):
        record = read_record(Path(references[0]).absolute())
        if readme is not None or svg is not None:
            raise UsageError(
                "--update and --svg are for networks and runs, not for a study",
                hint="--out, --html",
            )
        if record["exit_code"] != 0:
            hint = "start its line again"
            raise UsageError("the study has no answer yet", where=references[0], hint=hint)
        return study_markdown(record, links), len(record["answer"]["arms"])
    found = gather(references)
    table = rows(found.results, unfinished=found.unfinished)
    for notice in found.notices:
        output.talk(f"notice: {notice}")
    if svg is not None:
        write_where_named(svg, _terminal(found.results).encode())
        output.talk(f"notice: written {svg}")
    if readme is None:
        return to_report(table, found.unfinished, links), len(table)
    text = _read(readme)
    if short_form(text):
        shown = network_markdown(by_network(table))
    else:
        shown = to_markdown(table, found.unfinished, difference=False)
    return update(text, shown, where=str(readme)), len(table)


def _terminal(results: list[dict[str, Any]]) -> str:
    """Return the terminal of the one run that is meant, with its own folder's figures."""
    from mnistcli.results.runlog import read_metrics

    if len(results) != 1 or "run" not in results[0]:
        raise UsageError("--svg draws one run", hint="name its folder: mnistcli report RUN --svg F")
    from mnistcli.view.replay import terminal_svg

    result, folder = results[0], Path(results[0]["run"])
    words = ["mnistcli", "train", "--model", result["model"], "--epochs", str(result["epochs"])]
    if result["recipe"] not in (result["model"], "v3"):
        words += ["--recipe", result["recipe"]]
    if result["seed"] != recipes.packaged(result["recipe"]).seed:
        words += ["--seed", str(result["seed"])]
    for change in result["changes"]:
        words += [] if change.startswith("epochs=") else ["--set", change]
    shown = str(Path(*folder.parts[-3:]))
    command, history = shlex.join(words), read_metrics(folder)
    return terminal_svg(result, history, Limits(), command=command, folder=shown)


def _read(path: Path) -> str:
    from mnistcli.results import stored

    try:
        return stored.read_bytes(path).decode()  # line endings stay
    except NotReadable:
        raise
    except (ArtifactError, UnicodeDecodeError) as error:
        what = error.what if isinstance(error, ArtifactError) else f"not a text in UTF-8: {error}"
        hint = "--out FILE.md makes a new one"
        raise UsageError(what, where=str(path), hint=hint) from error
