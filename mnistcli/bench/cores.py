"""What the cores bring: to one run's threads, alone and beside busy processes, and to many runs."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from statistics import median
from typing import Any

from mnistcli.bench.measure import ROUNDS, Bench
from mnistcli.engine.runtime import Runtime
from mnistcli.engine.scratch import temporary_folder
from mnistcli.errors import EnvironmentFault, UsageError

# Ends with its parent, however that ends.
_BURN = """
import os, sys
parent = os.getppid()
sys.stdout.write("burning\\n"); sys.stdout.flush()
while os.getppid() == parent:
    for _ in range(10**6): pass
"""
_WORDS = ("--no-plots", "--quiet", "--progress", "none")


def check(chosen: Runtime, neighbours: int | None) -> None:
    """Refuse neighbours where there is no second thread to lose.

    Raises:
        UsageError: there is one thread, or a GPU.
    """
    if neighbours is not None and not _has_threads(chosen):
        what = f"{chosen.threads} thread{'s' * (chosen.threads > 1)} on {chosen.device}"
        hint = "--device cpu --threads 2"
        raise UsageError(f"{what}: nothing to compare", where="--neighbours", hint=hint)


def measure(bench: Bench, *, steps: int, neighbours: int | None) -> dict[str, Any]:
    """Return what the CPU's threads gain over one, and what beside so many busy processes."""
    if not _has_threads(bench.runtime):
        return {}
    one = bench.with_threads(1)
    found = {"threads": threads_gain(one, bench, steps)}
    if neighbours is not None:
        with burning(neighbours):
            beside = threads_gain(one, bench, steps)
        found["neighbours"] = {"processes": neighbours, **beside}
    return found


def _has_threads(chosen: Runtime) -> bool:
    return chosen.device == "cpu" and chosen.threads > 1


def threads_gain(one: Bench, many: Bench, steps: int) -> dict[str, Any]:
    """Time many threads and one in turn; return both speeds and, round by round, their ratio."""
    steps = min(steps, one.epoch_steps)
    rates: dict[Bench, list[float]] = {many: [], one: []}
    for _ in range(ROUNDS):
        for bench, found in rates.items():
            found.append(bench.epoch_images / sum(bench.epoch_parts(steps).values()))
    ratios = [a / b for a, b in zip(rates[many], rates[one], strict=True)]
    return {
        "count": many.runtime.threads,
        "images_per_second": median(rates[many]),
        "one_thread_images_per_second": median(rates[one]),
        "ratio": median(ratios),
        "worst_ratio": min(ratios),
        "ratios": ratios,
    }


@contextmanager
def burning(count: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Keep this many cores busy with processes that end with this one."""
    command = [sys.executable, "-S", "-c", _BURN]
    pipe = subprocess.PIPE
    burners = [
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=pipe) for _ in range(count)
    ]
    try:
        for burner in burners:
            assert burner.stdout is not None
            burner.stdout.readline()
        yield burners
    finally:
        for burner in burners:
            with burner:
                burner.kill()


def runs_per_hour(words: Sequence[str], jobs: int, *, epochs: int) -> dict[str, Any]:
    """Train one run on one thread and, in turn, `jobs` runs in as many processes.

    Whole commands of a few epochs, their start included; `words` are options of `train`. `share`
    is the gain over `jobs`: 1 would be as many times the runs per hour.

    Raises:
        EnvironmentFault: a training fails.
    """
    words = ["train", *words, "--epochs", str(epochs), *_WORDS]
    alone: list[float] = []
    together: list[float] = []
    for _ in range(ROUNDS):
        alone.append(_command_seconds([*words, "--seed", "0", "--threads", "1"]))
        together.append(_command_seconds([*words, "--seeds", f"0-{jobs - 1}", "--jobs", str(jobs)]))
    ratios = [jobs * a / b for a, b in zip(alone, together, strict=True)]
    return {
        "jobs": jobs,
        "epochs": epochs,
        "runs_per_hour": jobs * 3600 / median(together),
        "one_job_runs_per_hour": 3600 / median(alone),
        "ratio": median(ratios),
        "ratios": ratios,
        "share": median(ratios) / jobs,
    }


def _command_seconds(words: Sequence[str]) -> float:
    with temporary_folder() as folder:
        command = [sys.executable, "-P", "-m", "mnistcli", *words, "--out", str(folder / "runs")]
        started = time.monotonic()
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace"
        )
        spent = time.monotonic() - started
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        what = f"a training to be timed ended with {done.returncode}: {lines[0]}"
        raise EnvironmentFault(what, hint=" ".join(["mnistcli", *words]))
    return spent
