"""This process's rank and their number, from torch's launcher; imports no torch."""

from __future__ import annotations

import os
from dataclasses import dataclass

from mnistcli.errors import UsageError

_LAUNCH = "TORCHELASTIC_RUN_ID"


@dataclass(frozen=True)
class Ranks:
    """This process among those that one launch started: in all, and on this machine.

    `launch` is the launcher's own name of the job, the same after a restart.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    launch: str = ""

    @property
    def leads(self) -> bool:
        """Whether this is the one that shows and gathers."""
        return self.rank == 0

    @property
    def cores(self) -> int:
        """This rank's share of the cores that the process may use."""
        usable = (
            len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        )
        return max(1, (usable or 1) // self.local_size)


def launched() -> bool:
    """Return whether torch's elastic launcher (torchrun, `--jobs`) started this process."""
    return _LAUNCH in os.environ


def here() -> Ranks:
    """Return this process's place; alone, where no launcher started it.

    Raises:
        UsageError: a variable that the launcher sets is missing, or can't be what it set.
    """
    if not launched():
        return Ranks()
    place = Ranks(
        rank=_number("RANK"),
        size=_number("WORLD_SIZE"),
        local_rank=_number("LOCAL_RANK"),
        local_size=_number("LOCAL_WORLD_SIZE"),
        launch=os.environ[_LAUNCH],
    )
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        if not os.environ.get(name):
            raise _stray(name, "is empty")
    if place.rank >= place.size:
        raise _stray("RANK", f"is not below WORLD_SIZE={place.size}")
    if place.local_rank >= place.local_size:
        raise _stray("LOCAL_RANK", f"is not below LOCAL_WORLD_SIZE={place.local_size}")
    return place


def stray() -> list[str]:
    """Return the variables that place a rank, where torch's elastic launcher started none.

    Other launchers (MPI, SLURM scripts, Kubernetes) set them for every process.
    """
    if launched() or os.environ.get("WORLD_SIZE") == "1":
        return []
    return [name for name in ("RANK", "WORLD_SIZE") if name in os.environ]


def _number(name: str) -> int:
    text = os.environ.get(name, "")
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise _stray(name, "is not a whole number from 0 up")
    return int(text)


def _stray(name: str, problem: str) -> UsageError:
    said = f"{name}={os.environ[name]!r} {problem}" if name in os.environ else f"{name} is missing"
    return UsageError(
        f"{_LAUNCH} is set, as if torchrun had started this process, but {said}",
        hint=f"unset {_LAUNCH} {name}" if name in os.environ else f"unset {_LAUNCH}",
    )
