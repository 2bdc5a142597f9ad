"""The one exception family for people: what, where, what to do next, and the exit code.

Exception
└── MnistcliError             1  unexpected
    ├── UsageError            2  a wrong option, recipe or model
    ├── GateError             3  a `--require` gate failed
    ├── SetError              -  runs of a set have no result: the code of the first of them
    ├── ArtifactError         4  data or a checkpoint is missing, damaged or refused
    │   └── NotReadable       5  a file that this account may not read
    ├── EnvironmentFault      5  device, disk, permission, memory or compiler
    ├── DivergedError         6  training reached a loss or gradient that is not finite
    └── BusyError             7  another process holds the run's folder
BaseException                    not Exception: no library takes them for faults
├── Interrupted     128 + signal  129 SIGHUP, 130 Ctrl-C, 143 SIGTERM
└── SetEnded                  -  this rank's own run stops too; never seen outside
"""

from __future__ import annotations

import copyreg
import errno
import shlex
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

_MOST_NAMES = 3


_OF_THE_MACHINE = ("OutOfMemoryError", "DistBackendError", "DistNetworkError", "DistStoreError")


class MnistcliError(Exception):
    """Something that a person can repair. `where` and `hint` may be empty.

    `report` is what was found all the same; it goes into the JSON document.
    """

    exit_code = 1
    report: dict[str, Any] | None = None

    def __init__(self, what: str, *, where: str = "", hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.what}, {self.where}" if self.where else self.what

    def __reduce__(self) -> tuple[Any, ...]:
        """Let another rank have it as it is, whatever a subclass's `__init__` asks for."""
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined]


class UsageError(MnistcliError):
    """A wrong option, recipe or model reference."""

    exit_code = 2


class GateError(MnistcliError):
    """The command ran, but a `--require` gate failed; `report` is what it found."""

    exit_code = 3

    def __init__(self, what: str, report: dict[str, Any]) -> None:
        super().__init__(what)
        self.report = report


class SetError(MnistcliError):
    """Runs of a set have no result; the exit code is the first one's, `report` what there is."""

    def __init__(self, what: str, report: dict[str, Any], *, exit_code: int, hint: str) -> None:
        super().__init__(what, hint=hint)
        self.report = report
        self.exit_code = exit_code


class ArtifactError(MnistcliError):
    """Data or a checkpoint is missing, corrupt, refused or for another model."""

    exit_code = 4


class NotReadable(ArtifactError):
    """A file that may be whole, but that this account may not read: nothing takes its place."""

    exit_code = 5


class EnvironmentFault(MnistcliError):
    """The machine lacks something: device, disk space, permission, memory, compiler."""

    exit_code = 5


class DivergedError(MnistcliError):
    """Training reached a non-finite loss or gradient."""

    exit_code = 6


class BusyError(MnistcliError):
    """Another process holds the run folder."""

    exit_code = 7


class Interrupted(BaseException):
    """A signal asked the process to stop; not an Exception, so that no library swallows it."""

    def __init__(self, signum: int, *, what: str = "stopped", hint: str = "") -> None:
        super().__init__(what)
        self.signum = signum
        self.what = what
        self.where = ""
        self.hint = hint

    @property
    def exit_code(self) -> int:
        """128 + the signal's number, as a shell reports it."""
        return 128 + self.signum


class SetEnded(BaseException):
    """A run met a fault that every run would meet: this rank's own run stops too.

    Not an Exception, so that it is not taken for a fault of the network's code.
    """


def not_readable(error: OSError, path: object) -> ArtifactError:
    """Return what to raise where a file can't be read: the right to is missing, or the file is."""
    what = f"not readable: {error.strerror or error}"
    if error.errno in (errno.EACCES, errno.EPERM):
        return NotReadable(
            what, where=str(path), hint=f"see who may: ls -ld {shlex.quote(str(path))}"
        )
    return ArtifactError(what, where=str(path))


def is_of_the_machine(error: BaseException) -> bool:
    """Return whether memory ran out or another rank is gone, as torch says it.

    On CUDA and in nccl a class of its own tells; on the CPU and in gloo the text alone.
    """
    if isinstance(error, MemoryError) or type(error).__name__ in _OF_THE_MACHINE:
        return True
    said = str(error) if isinstance(error, RuntimeError) else ""
    return "can't allocate memory" in said or "gloo" in said


def nearest(wrong: str, valid: Iterable[str], *, rest: str = "") -> str:
    """Return "did you mean …?" for the nearest valid name; where none is near, three of them.

    `rest` says where to see the others.
    """
    names = sorted(valid)
    if matches := get_close_matches(wrong, names, n=1, cutoff=0.5):
        return f"did you mean {matches[0]!r}?"
    shown, more = names[:_MOST_NAMES], len(names) - _MOST_NAMES
    others = f" and {more} more{f' in {rest}' if rest else ''}" if more > 0 else ""
    return f"valid: {', '.join(shown)}{others}"
