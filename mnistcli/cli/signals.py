"""Signals become one flag, or one exception where nothing is unsaved."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from mnistcli.errors import Interrupted

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopFlag:
    """Remembers the first signal. While `deferred` is off, it raises Interrupted at once.

    `finishing` is what a person is told then: what is still being done, and what is not lost.
    """

    def __init__(self) -> None:
        self.signum: int | None = None
        self.deferred = False
        self.finishing: str | None = None

    def __call__(self) -> int | None:
        """Return the signal that asked to stop, or None."""
        return self.signum

    def handle(self, signum: int, _frame: FrameType | None) -> None:
        """Take a signal; the second one ends the process on the spot."""
        if self.signum is not None:
            end_at_once(128 + signum)
        self.signum = signum
        if self.deferred and self.finishing is not None:
            _say(f"notice: {self.finishing}; a second signal ends at once")
        if not self.deferred:
            _kill_children()  # now: a compiler whose driver is gone first is nobody's child
            raise Interrupted(signum)


flag = StopFlag()


@contextmanager
def translated() -> Iterator[None]:
    """Handle SIGINT, SIGTERM and SIGHUP by the flag; an inherited SIG_IGN (nohup) stays."""
    previous = {}
    for name in _SIGNALS:
        if signal.getsignal(name) is not signal.SIG_IGN:
            previous[name] = signal.signal(name, flag.handle)
    try:
        yield
    finally:
        if flag.signum is None:  # else a second signal still has to end the process by its code
            for name, handler in previous.items():
                signal.signal(name, handler)


def end_at_once(code: int) -> None:
    """End this process and those below it."""
    if (view := sys.modules.get("mnistcli.view.output")) is not None:
        view.show_cursor()
    _kill_children()
    os._exit(code)


def _say(line: str) -> None:
    """Write to stderr past its buffer, which the signal may have interrupted at work."""
    view = sys.modules.get("mnistcli.view.output")
    with contextlib.suppress(OSError):
        over_the_bar = ""
        if os.isatty(2) and view is not None:
            over_the_bar = "\r\x1b[2K"
            line = view.wrapped(line, os.get_terminal_size(2).columns)
        os.write(2, f"{over_the_bar}{line}\n".encode())


def _kill_children() -> None:
    for pid in descendants(os.getpid()):
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def descendants(parent: int) -> list[int]:
    """Return the processes below one, parents first; none where there is no /proc."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            after_name = path.read_text(errors="replace").rpartition(")")[2].split()
            children.setdefault(int(after_name[1]), []).append(int(path.parent.name))
    found = [parent]
    for pid in found:
        found += children.get(pid, [])
    return found[1:]
