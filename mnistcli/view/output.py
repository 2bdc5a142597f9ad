"""Where every word goes: the product to stdout, talk to stderr, one document with --json."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import sys
import textwrap
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

from mnistcli import __version__, files, streams
from mnistcli.errors import EnvironmentFault, UsageError
from mnistcli.view.text import escaped, escaped_json, new_console

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from mnistcli.errors import Interrupted, MnistcliError

SCHEMA = 1
_LEAST = 20  # columns; in fewer, nothing can be read
_PRODUCT: ContextVar[TextIO] = ContextVar("product")  # stdout while a command runs


@dataclass(frozen=True)
class Output:
    """How a command speaks. `progress` is auto, live, plain or none."""

    command: str
    json: bool = False
    quiet: bool = False
    progress: str = "auto"

    @property
    def live(self) -> bool:
        """Whether stdout is a terminal that can be drawn on."""
        if self.json or self.progress in ("plain", "none"):
            return False
        return self.progress == "live" or is_terminal(stdout())

    def leave_stdout_to(self, option: str, path: Path | None) -> None:
        """Let a file that an option names as /dev/stdout be all that goes there: the rest is talk.

        Raises:
            UsageError: the one document of --json goes there too.
        """
        if path is None or not files.is_stdout(path):
            return
        if self.json:
            what = f"--json and {option} {path} both write to stdout"
            raise UsageError(what, hint=f"{option} with the name of a file")
        _PRODUCT.set(sys.stderr)

    def console(self) -> Console:
        """Return a rich console on stdout; rich reads NO_COLOR, TERM and COLUMNS."""
        return new_console(file=stdout(), force_terminal=self.live or None)

    def product(self, line: str) -> None:
        """Write a line to stdout, or with --json to stderr."""
        if not self.quiet:
            write(sys.stderr if self.json else stdout(), escaped(line, keep="\n"))

    def result(self, line: str) -> None:
        """Write the result line: the last one in a pipe, and the only one with --quiet."""
        if not self.json and (self.quiet or not self.live):
            write(stdout(), escaped(line))

    def talk(self, line: str) -> None:
        """Write a notice to stderr."""
        if not self.quiet:
            _say(line)

    def document(self, payload: dict[str, Any], *, ok: bool = True) -> None:
        """Write the one JSON document, where it was asked for."""
        from mnistcli.results.runlog import to_json

        if self.json:
            head = {"schema": SCHEMA, "command": self.command, "ok": ok, "version": __version__}
            write(stdout(), escaped_json(to_json(head | payload)))

    def failure(self, error: MnistcliError | Interrupted) -> None:
        """Write an error as two lines on stderr, and as the document with --json."""
        _say(f"error: {error}")
        if error.hint:
            write(sys.stderr, escaped(f"hint: {error.hint}"))
        if self.json:
            fault = {
                "what": error.what,
                "where": error.where,
                "hint": error.hint,
                "exit_code": error.exit_code,
            }
            self.document({"error": fault} | (getattr(error, "report", None) or {}), ok=False)


def stdout() -> TextIO:
    """Return the stream of the product, which a command has for itself."""
    return _PRODUCT.get(sys.stdout)


def alone_on_stdout(command: Callable[..., Any]) -> Callable[..., Any]:
    """Return a command during which stdout is ours: what a network's own code prints is talk."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        token = _PRODUCT.set(sys.stdout)
        try:
            with contextlib.redirect_stdout(sys.stderr):
                return command(*args, **kwargs)
        finally:
            _PRODUCT.reset(token)

    return run


def is_terminal(stream: TextIO) -> bool:
    """Return whether a stream is a terminal that takes control codes and block characters."""
    return why_plain(stream) is None


def why_plain(stream: TextIO) -> str | None:
    """Return why a stream is not drawn on, or None where it is."""
    if not stream.isatty():
        return "stdout is not a terminal"
    if "utf" not in (stream.encoding or "").lower():
        return f"its encoding is {stream.encoding}"
    term = os.environ.get("TERM", "")
    return f"TERM is {term}" if term in ("dumb", "unknown") else None


def write(stream: TextIO, line: str) -> None:
    """Write one line and flush; what can't be written is for `check_product` to find."""
    stream.write(line + "\n")
    stream.flush()


def _say(line: str) -> None:
    """Write a line to stderr; on a terminal it is broken at spaces."""
    line = escaped(line)
    if sys.stderr.isatty():
        line = wrapped(line, shutil.get_terminal_size().columns)
    write(sys.stderr, line)


def wrapped(line: str, width: int) -> str:
    """Return a sentence broken at spaces alone; one with a command stays whole, to be copied."""
    if "mnistcli " in line:
        return line
    return textwrap.fill(line, width, break_long_words=False, break_on_hyphens=False)


def check_product() -> None:
    """Raise EnvironmentFault where a line of the product is lost; a reader may leave."""
    if (fault := streams.fault_of(sys.stdout)) is not None:
        raise EnvironmentFault(f"can't write to stdout: {fault.strerror}")


def show_cursor() -> None:
    """Give a terminal its cursor back, whatever was drawing; for a process that ends at once."""
    stream = stdout()
    if is_terminal(stream):
        with contextlib.suppress(OSError):
            os.write(stream.fileno(), b"\x1b[?25h")


def tame_terminal() -> None:
    """Keep what the environment says about the terminal to what can be drawn on.

    Call before importing typer: its help takes escape codes where GITHUB_ACTIONS or FORCE_COLOR
    is set, and any number of columns.
    """
    if not is_terminal(stdout()):
        os.environ.setdefault("_TYPER_FORCE_DISABLE_TERMINAL", "1")
    for name in ("COLUMNS", "LINES", "TERMINAL_WIDTH"):
        value = os.environ.get(name, "")
        if not (value.isascii() and value.isdecimal() and len(value) < 4 and int(value) >= _LEAST):
            os.environ.pop(name, None)
    if shutil.get_terminal_size().columns < _LEAST:
        os.environ["COLUMNS"] = str(_LEAST)
