"""Where every word goes: the product to stdout, talk to stderr, one document with --json."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import sys
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

from mnistcli import __version__
from mnistcli.errors import EnvironmentFault
from mnistcli.results.runlog import to_json
from mnistcli.view.text import escaped, escaped_json, new_console

if TYPE_CHECKING:
    from rich.console import Console

    from mnistcli.errors import Interrupted, MnistcliError

SCHEMA = 1
_PRODUCT: ContextVar[TextIO | None] = ContextVar("product")  # stdout while a command runs


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

    def console(self) -> Console:
        """Return a rich console on stdout; rich reads NO_COLOR, TERM and COLUMNS."""
        stream = stdout()
        if isinstance(stream, io.TextIOWrapper):  # `--progress live` on any encoding
            stream.reconfigure(errors="replace")
        return new_console(file=stream, force_terminal=self.live or None)

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
            write(sys.stderr, escaped(line))

    def document(self, payload: dict[str, Any], *, ok: bool = True) -> None:
        """Write the one JSON document, where it was asked for."""
        if self.json:
            head = {"schema": SCHEMA, "command": self.command, "ok": ok, "version": __version__}
            if not write(stdout(), escaped_json(to_json(head | payload))):
                raise EnvironmentFault("can't write the JSON document to stdout")

    def failure(self, error: MnistcliError | Interrupted) -> None:
        """Write an error as two lines on stderr, and as the document with --json."""
        write(sys.stderr, escaped(f"error: {error}"))
        if error.hint:
            write(sys.stderr, escaped(f"hint: {error.hint}"))
        if self.json:
            fault = {
                "what": error.what,
                "where": error.where,
                "hint": error.hint,
                "exit_code": error.exit_code,
            }
            with contextlib.suppress(EnvironmentFault):  # the exit code has to say it
                self.document({"error": fault} | (getattr(error, "report", None) or {}), ok=False)


def stdout() -> TextIO | None:
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


def is_terminal(stream: TextIO | None) -> bool:
    """Return whether a stream is a terminal that takes control codes and block characters."""
    return why_plain(stream) is None


def why_plain(stream: TextIO | None) -> str | None:
    """Return why a stream is not drawn on, or None where it is; None is a closed stream.

    A block character that can't be encoded would end a run.
    """
    if stream is None or not stream.isatty():
        return "stdout is not a terminal"
    if "utf" not in (stream.encoding or "").lower():
        return f"its encoding is {stream.encoding}"
    term = os.environ.get("TERM", "")
    return f"TERM is {term}" if term in ("dumb", "unknown") else None


def write(stream: TextIO | None, line: str) -> bool:
    """Write one line and flush; return False where it is lost for another reason than a reader's
    leaving. A full disk below a log ends no run."""
    if stream is None:
        return True
    try:
        encoding = stream.encoding or "utf-8"
        stream.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")
        stream.flush()
    except BrokenPipeError:
        silence(stream)
    except OSError:
        silence(stream)
        return False
    return True


def silence(stream: TextIO) -> None:
    """Point a broken stream at /dev/null, so that the interpreter's exit does not complain."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


def show_cursor() -> None:
    """Give a terminal its cursor back, whatever was drawing; for a process that ends at once."""
    stream = stdout()
    if stream is not None and is_terminal(stream):
        with contextlib.suppress(OSError):
            os.write(stream.fileno(), b"\x1b[?25h")


def tame_typer() -> None:
    """Keep Typer's help free of escape codes off a terminal; call before importing typer.

    It forces them where GITHUB_ACTIONS or FORCE_COLOR is set.
    """
    if not is_terminal(stdout()):
        os.environ.setdefault("_TYPER_FORCE_DISABLE_TERMINAL", "1")
