"""The Typer app, and the one place where an error becomes two lines and an exit code."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

from mnistcli import __version__
from mnistcli.errors import (
    EnvironmentFault,
    Interrupted,
    MnistcliError,
    UsageError,
)
from mnistcli.view import output as view

view.tame_typer()

import typer  # noqa: E402

from mnistcli.cli import bench, compare, evaluate, processes, signals, summary, train  # noqa: E402
from mnistcli.engine import ranks  # noqa: E402

_EXIT_CODES = """
**Exit codes**: 0 done · 1 unexpected error · 2 wrong option, recipe or model ·
3 a required gate failed · 4 data or checkpoint missing, corrupt or refused ·
5 environment (device, disk, permission, memory, compiler) · 6 training diverged ·
7 run folder busy · 129, 130, 143 stopped by a signal, resumable
"""

app = typer.Typer(
    name="mnistcli",
    help="Train, audit, evaluate and compare very small MNIST networks." + "\n\n" + _EXIT_CODES,
    rich_markup_mode="markdown",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for module in (train, summary, evaluate, compare, bench):
    module.register(app)


def _print_version(wanted: bool) -> None:
    if wanted:
        view.write(sys.stdout, f"mnistcli {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Hold the options of `mnistcli` itself."""


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code."""
    command = next((word for word in arguments if not word.startswith("-")), "")
    # A rank that ends may be started again: only a whole set has a document.
    output = view.Output(command, json="--json" in arguments and not ranks.launched())
    try:
        with signals.translated():
            code = app(list(arguments) or ["--help"], prog_name="mnistcli", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except (Exception, Interrupted) as error:
        if "--traceback" in arguments:
            view.write(sys.stderr, "".join(traceback.format_exception(error)).rstrip())
        fault = _explain(error, command)
        if not processes.told_elsewhere(fault):
            output.failure(fault)
        return fault.exit_code


def _explain(error: Exception | Interrupted, command: str) -> MnistcliError | Interrupted:
    """Turn any exception into one that carries what, where, a hint and an exit code."""
    match error:
        case MnistcliError() | Interrupted():
            return error
        case typer.TyperException():
            known = command in {info.name for info in app.registered_commands}
            possible = getattr(error, "possibilities", None)
            hint = (
                f"did you mean {possible[0]}?"
                if possible
                else f"mnistcli {command if known else ''} --help"
            )
            what = error.message if possible else error.format_message()
            return UsageError(what.rstrip("."), hint=" ".join(hint.split()))
        case MemoryError():
            return EnvironmentFault("out of memory", hint="lower --batch-size")
        case _ if type(error).__name__ == "OutOfMemoryError":  # torch's, named without importing it
            first = str(error).partition("\n")[0]
            return EnvironmentFault(f"out of device memory: {first}", hint="lower --batch-size")
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return MnistcliError(what, hint="run it again with --traceback")
