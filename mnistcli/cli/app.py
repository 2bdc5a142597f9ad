"""The Typer app, and the one place where an error becomes two lines and an exit code."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
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
    nearest,
)
from mnistcli.view import output as view
from mnistcli.view.text import escaped

view.tame_terminal()

import typer  # noqa: E402

from mnistcli.cli import (  # noqa: E402
    bench,
    compare,
    doctor,
    evaluate,
    export,
    predict,
    processes,
    report,
    study,
    summary,
    train,
)
from mnistcli.cli.arguments import resume_command  # noqa: E402
from mnistcli.cli.help import Command, Group  # noqa: E402

_EXIT_CODES = """
**Exit codes**: 0 done · 1 unexpected error · 2 wrong option, recipe or model ·
3 a required gate failed · 4 data or checkpoint missing, corrupt or refused ·
5 environment (device, disk, permission, memory, compiler) · 6 training diverged ·
7 run folder busy · 129, 130, 143 stopped by a signal, resumable
"""
_COMPLETING = "_MNISTCLI_COMPLETE"  # set by the shell whose completion asks
_EXAMPLES = """
**Examples**

    mnistcli train --model v3 --epochs 15

    mnistcli summary v2

    mnistcli train --model v3 --out ~/v3 --resume auto --require goal > v3.log
"""

_HELP = ("-h", "--help")

app = typer.Typer(
    name="mnistcli",
    epilog=_EXAMPLES,
    help="Train, audit, evaluate and compare very small MNIST networks." + "\n\n" + _EXIT_CODES,
    rich_markup_mode=None,
    cls=Group,
    no_args_is_help=True,
    context_settings={"help_option_names": list(_HELP)},
)
for module in (
    train, summary, evaluate, compare, study, predict, report, export, bench, doctor,
):  # fmt: skip
    module.register(app)
for registered in app.registered_commands:
    registered.cls = Command
    if registered.callback is not None:
        registered.callback = view.alone_on_stdout(registered.callback)


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
    command, output = _speaker(arguments)
    try:
        code = _dispatch(list(arguments), command, output)
        if not _is_recorded(command, arguments):
            view.check_product()
        return code if isinstance(code, int) else 0
    except SystemExit as end:
        if _asks_help(arguments) or _COMPLETING in os.environ:  # completion is over
            return 1 if end.code else 0
        what = f"a network's code ended the process with {end.code or 0}"
        return fail(MnistcliError(what, hint="run it again with --traceback"), arguments)
    except (Exception, Interrupted) as error:
        return fail(error, arguments)


def fail(error: Exception | Interrupted, arguments: Sequence[str]) -> int:
    """Say what went wrong, in words or as the one document, and return the exit code."""
    command, output = _speaker(arguments)
    if isinstance(error, Interrupted) and command == "train" and not error.hint:
        error.hint = resume_command(arguments, None)
    if "--traceback" in arguments:
        view.write(
            sys.stderr, escaped("".join(traceback.format_exception(error)).rstrip(), keep="\n")
        )
    fault = _explain(error, command)
    if not processes.told_elsewhere(fault):
        output.failure(fault)
    return fault.exit_code


def _speaker(arguments: Sequence[str]) -> tuple[str, view.Output]:
    """Return the command that a line names, and how it speaks, before anything is parsed.

    A rank that ends may be started again: only a whole set has a document.
    """
    command = next((word for word in arguments if not word.startswith("-")), "")
    alone = processes.own_rank() is None
    return command, view.Output(command, json="--json" in arguments and alone)


def _dispatch(words: list[str], command: str, output: view.Output) -> object:
    """Call Typer; a `--json` before the command goes behind it, and help becomes a document."""
    if "--json" not in words:
        return app(words or ["--help"], prog_name="mnistcli", standalone_mode=False)
    if command:
        place = words.index(command) + 1
        words = [*(word for word in words[:place] if word != "--json"), "--json", *words[place:]]
    elif not _asks_help(words):
        raise UsageError("no command named", hint="mnistcli --help")
    else:
        words.remove("--json")
    text = io.StringIO()
    with contextlib.redirect_stdout(text) if _asks_help(words) else contextlib.nullcontext():
        code = app(words, prog_name="mnistcli", standalone_mode=False)
    if text.getvalue():
        output.document({"text": text.getvalue()})
    return code


def _is_recorded(command: str, words: Sequence[str]) -> bool:
    """Return whether what a line prints is in files as well: a training's epochs and verdict."""
    return command == "train" and not {"--json", "--print-recipe", "--dry-run", *_HELP} & {*words}


def _asks_help(words: Sequence[str]) -> bool:
    return bool({*_HELP, "--version"} & {*words})


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
            what = what.replace("Value error, ", "").rstrip(".")
            if choices := re.search(r"'([^']*)' is not one of ('.*')", what):
                hint = nearest(choices[1], re.findall(r"'([^']*)'", choices[2]))
            return UsageError(what, hint=" ".join(hint.split()))
        case MemoryError():
            return EnvironmentFault("out of memory", hint="lower --batch-size")
        case RuntimeError() if _is_out_of_memory(error):
            first = str(error).partition("\n")[0]
            return EnvironmentFault(f"out of memory: {first}", hint="lower --batch-size")
        case OSError(strerror=str(reason), filename=place):
            missing = isinstance(error, PermissionError) and place is not None
            hint = f"see who may: ls -ld {shlex.quote(str(place))}" if missing else ""
            return EnvironmentFault(reason, where=str(place or ""), hint=hint)
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return MnistcliError(what, hint="run it again with --traceback")


def _is_out_of_memory(error: RuntimeError) -> bool:
    """Return whether torch lacked memory: on CUDA by the class's name, on the CPU by the text."""
    return type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)
