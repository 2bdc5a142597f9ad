"""The long runs behind the README's figures, `pytest -m soak`, and a slice of them every time.

`tests/data/soak.jsonl` keeps what the last whole one found.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent


def script(*words: object, timeout: float) -> list[dict[str, Any]]:
    command = [sys.executable, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def fuzzed(kinds: list[str], seed: int, count: int) -> list[dict[str, Any]]:
    """Return a report for each kind; one that is refused too seldom tests nothing."""
    words = (HERE / "fuzzing.py", ",".join(kinds), seed, count)
    reports = script(*words, timeout=len(kinds) * (count + 60))
    assert [report["fuzz"] for report in reports] == kinds
    assert all(report["failures"] == [] for report in reports), reports
    assert all(report["refused"] > count / 3 for report in reports), reports
    assert all(report["peak_mib"] < 1024 for report in reports), reports
    return reports


@pytest.mark.processes
@pytest.mark.parametrize(
    ("seed", "count"), [(1, 100), pytest.param(2, 10_000, marks=pytest.mark.soak)]
)
def test_a_mutated_file_is_valid_or_refused(seed: int, count: int) -> None:
    reports = fuzzed(["checkpoints", "idx", "recipes"], seed, count)
    assert all(report["changed and valid"] > 0 for report in reports), reports


@pytest.mark.processes
@pytest.mark.parametrize(
    ("seed", "count"), [(1, 50), pytest.param(2, 10_000, marks=pytest.mark.soak)]
)
def test_a_mutated_file_of_a_run_is_believed_or_refused(seed: int, count: int) -> None:
    fuzzed(["results", "sets", "metrics", "records", "env", "predictions"], seed, count)


@pytest.mark.soak
def test_a_hundred_kills_at_random_times_lose_nothing() -> None:
    (report,) = script(HERE / "soak.py", "random", 1, 100, timeout=7200)
    assert min(report["SIGKILL"], report["SIGTERM"]) > 20
    assert report["SIGKILL"] + report["SIGTERM"] >= 100


@pytest.mark.soak
def test_a_kill_at_every_step_of_every_write_loses_nothing() -> None:
    (report,) = script(HERE / "soak.py", "steps", 1, timeout=7200)
    assert report["SIGKILL"] > 60
