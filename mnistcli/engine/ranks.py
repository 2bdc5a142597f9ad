"""Which of how many processes this is, as torch's launcher tells it; imports no torch."""

from __future__ import annotations

import os
from dataclasses import dataclass


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
    return "TORCHELASTIC_RUN_ID" in os.environ


def here() -> Ranks:
    """Return this process's place; alone, where no launcher started it."""
    if not launched():
        return Ranks()
    return Ranks(
        rank=int(os.environ["RANK"]),
        size=int(os.environ["WORLD_SIZE"]),
        local_rank=int(os.environ["LOCAL_RANK"]),
        local_size=int(os.environ["LOCAL_WORLD_SIZE"]),
        launch=os.environ["TORCHELASTIC_RUN_ID"],
    )
