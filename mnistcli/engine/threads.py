"""How many CPU threads a run takes: what it is granted, less what other processes use."""

from __future__ import annotations

import os
import time
from pathlib import Path

import torch

from mnistcli.engine import ranks

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
    """Return how many of the cores this process may use are others' now, by a look so long.

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
