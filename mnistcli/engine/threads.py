"""How many CPU threads a run takes: what it is granted, less what other processes use.

Owns torch's thread count.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from mnistcli.engine import ranks

if TYPE_CHECKING:
    from mnistcli.engine.runtime import Runtime

_OF_TORCH = torch.get_num_threads()  # its own choice: OMP_NUM_THREADS, or the cores
_LOOK_SECONDS = 0.2  # at what other processes do: 20 ticks of /proc/stat


def choose(asked: int | None, device: torch.device) -> tuple[int, str | None]:
    """Return the threads asked for, else one for each free core, and why these are not all.

    The threads wait for one another after each operation: one that has to share its core delays
    all. Ranks of a launch share the cores, whatever else runs: a look would see their own start.
    """
    place, cores = ranks.here(), ranks.here().cores
    if asked is not None:
        return asked, None
    threads = min(cores, _OF_TORCH) if place.local_size == 1 else cores
    quota, reason = quota_cores(), None
    if quota is not None and quota < threads * place.local_size:
        threads = max(1, int(quota / place.local_size))
        reason = f"{threads} of {cores} threads: this process may use {quota:g} cores' time"
    if threads > 1 and place.local_size == 1 and device.type == "cpu":
        busy = busy_cores(_LOOK_SECONDS)
        if (free := max(1, round(cores - busy))) < threads:
            reason = f"{free} of {cores} threads: other processes keep {busy:.1f} cores busy"
            threads = free
    return threads, reason


def quota_cores(root: Path = Path("/")) -> float | None:
    """Return how many cores' time the control groups grant this process; None: no limit.

    Each group and those above it: `cpu.max` of version 2, `cpu.cfs_quota_us` of version 1.
    """
    found: list[float] = []
    for line in _lines(root / "proc/self/cgroup"):
        controllers, _, path = line.partition(":")[2].partition(":")
        if not controllers or "cpu" in controllers.split(","):
            group = Path("sys/fs/cgroup", controllers, path.strip("/"))
            found += [limit for one in (group, *group.parents) for limit in _quota(root / one)]
    return min(found, default=None)


def _quota(group: Path) -> list[float]:
    """Return a control group's own limit in cores, or nothing where it sets none."""
    said = " ".join(_lines(group / "cpu.max")).split() or [
        line for name in ("quota", "period") for line in _lines(group / f"cpu.cfs_{name}_us")
    ]
    quota, period = said if len(said) == 2 else ("max", "")
    return [int(quota) / int(period)] if quota.isdecimal() and period.isdecimal() else []


def busy_cores(seconds: float, stat: Path = Path("/proc/stat")) -> float:
    """Return how many of this process's cores others use now, measured over so many seconds.

    The load average tells of the last minute: after a run of our own it would count that run.
    """
    before, ours = _ticks(stat), time.process_time()
    time.sleep(seconds)
    after, ours = _ticks(stat), time.process_time() - ours
    busy = 0.0
    for core, (free, total) in after.items():
        had_free, had_total = before.get(core, (free, total))
        busy += 1 - (free - had_free) / max(1, total - had_total) if total > had_total else 0
    return max(0.0, busy - ours / seconds)


def _ticks(stat: Path) -> dict[str, tuple[int, int]]:
    """Return for each core that this process may use its idle and all its clock ticks."""
    usable = {f"cpu{core}" for core in os.sched_getaffinity(0)} if stat.exists() else set()
    rows = (line.split() for line in _lines(stat) if line.partition(" ")[0] in usable)
    return {
        name: (int(ticks[3]) + int(ticks[4]), sum(map(int, ticks[:8]))) for name, *ticks in rows
    }


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def use(count: int) -> None:
    """Set the number of CPU threads of torch."""
    torch.set_num_threads(count)


def share(runtime: Runtime) -> None:
    """Set the number of CPU threads of torch: one beside kernels that have threads of their own.

    torch's spin for milliseconds after each operation, on the cores that the kernels need: with
    both a step of v3 takes 38 ms, with one 25 (two cores).
    """
    own = runtime.compiled and runtime.device == "cpu"
    torch.set_num_threads(1 if own else runtime.threads)


@contextmanager
def all_of(runtime: Runtime) -> Iterator[None]:
    """Let torch have all of a run's CPU threads, for evaluation."""
    with kept():
        torch.set_num_threads(runtime.threads)
        yield


@contextmanager
def kept() -> Iterator[None]:
    """Put torch's number of CPU threads back."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)
