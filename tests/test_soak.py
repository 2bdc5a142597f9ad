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


def script(*words: object, timeout: float) -> dict[str, Any]:
    command = [sys.executable, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.processes
@pytest.mark.parametrize("kind", ["checkpoints", "idx", "recipes"])
@pytest.mark.parametrize(
    ("seed", "count"), [(1, 300), pytest.param(2, 10_000, marks=pytest.mark.soak)]
)
def test_a_mutated_file_is_valid_or_refused(kind: str, seed: int, count: int) -> None:
    report = script(HERE / "fuzzing.py", kind, seed, count, timeout=count)
    assert report["failures"] == []
    assert report["refused"] > count / 3
    assert report["changed and valid"] > 0
    assert report["peak_mib"] < 1024


@pytest.mark.processes
@pytest.mark.parametrize("kind", ["results", "sets", "metrics", "records", "env", "predictions"])
@pytest.mark.parametrize(
    ("seed", "count"), [(1, 50), pytest.param(2, 10_000, marks=pytest.mark.soak)]
)
def test_a_mutated_file_of_a_run_is_believed_or_refused(kind: str, seed: int, count: int) -> None:
    report = script(HERE / "fuzzing.py", kind, seed, count, timeout=count + 60)
    assert report["failures"] == []
    assert report["refused"] > count / 3
    assert report["peak_mib"] < 1024


@pytest.mark.soak
def test_a_hundred_kills_at_random_times_lose_nothing() -> None:
    report = script(HERE / "soak.py", "random", 1, 100, timeout=7200)
    assert min(report["SIGKILL"], report["SIGTERM"]) > 20
    assert report["SIGKILL"] + report["SIGTERM"] >= 100


@pytest.mark.soak
def test_a_kill_at_every_step_of_every_write_loses_nothing() -> None:
    assert script(HERE / "soak.py", "steps", 1, timeout=7200)["SIGKILL"] > 60
