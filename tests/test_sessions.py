"""The history of a run's machines in env.json: one session a start, and how each ended."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from conftest import Cli
from interrupted import Runs

from mnistcli.results import runlog, sessions

FLAT = {
    "platform": "Linux x86_64", "cpus": 2, "commit": None, "started": "2026-11-01T00:00:00Z",
    "runtime": {"device": "cpu", "threads": 1}, "mnistcli": "0.1.0", "torch": "2.12.0",
    "python": "3.11.7",
}  # fmt: skip


def outcomes(folder: Path) -> list[tuple[int, str | None]]:
    """Return where each session began and how it ended."""
    return [(one.from_epoch, one.outcome) for one in sessions.read(folder) or []]


def test_each_start_of_a_run_is_a_session(runs: Runs, tmp_path: Path) -> None:
    run, marker = tmp_path / "run", tmp_path / "here"
    for number, signum in ((5, signal.SIGKILL), (2, signal.SIGTERM)):
        sabotage = ("wait_in", "mnistcli.engine.step:train_step", marker, number)
        child = runs.start(run, "--resume", "auto", sabotage=sabotage)
        child.until(marker.exists)
        child.signal(signum)
        child.wait()
        marker.unlink()
    runs.finish(run)
    assert outcomes(run) == [(0, None), (1, "stopped by SIGTERM"), (1, "finished")]
    result = runlog.read_json(run / "result.json")
    assert result is not None
    assert [one["outcome"] for one in result["sessions"]] == [o for _, o in outcomes(run)]


def test_a_diverged_run_says_so_in_its_session(train_small: Cli, tmp_path: Path) -> None:
    assert train_small("--model", "v1", "--lr", "1e20").returncode == 6
    ((epoch, outcome),) = outcomes(tmp_path / "run")
    assert epoch == 0
    assert str(outcome).startswith("diverged: loss or gradient is not finite at step")


def test_an_env_json_of_before_becomes_the_first_session(tmp_path: Path) -> None:
    runlog.write_json(sessions.env_file(tmp_path), FLAT)
    (first,) = sessions.read(tmp_path) or []
    assert (first.started, first.outcome, first.versions["torch"]) == (
        FLAT["started"],
        None,
        "2.12.0",
    )
    assert first.environment == {"platform": "Linux x86_64", "cpus": 2, "commit": None}
    opened = sessions.Session(started="now", runtime={}, versions={}, environment={})
    with sessions.logged(tmp_path, {"network": None}, opened) as log:
        assert [one["started"] for one in log.close("finished")] == [FLAT["started"], "now"]


def damaged(**changes: Any) -> bytes:
    return json.dumps(FLAT | changes).encode()


@pytest.mark.parametrize(
    "content",
    [
        b"", b"[]", b"\xff\xfe", b"[" * 100_000, b'{"sessions": 1}', b'{"sessions": [{}]}',
        damaged(started=1), damaged(runtime={"device": {}}), damaged(torch="\ud800"),
        damaged(cpus=10**4000),
    ],
)  # fmt: skip
def test_a_strangers_env_json_is_no_history(content: bytes, tmp_path: Path) -> None:
    sessions.env_file(tmp_path).write_bytes(content)
    opened = sessions.Session(started="now", runtime={}, versions={}, environment={})
    with sessions.logged(tmp_path, {}, opened) as log:
        assert log.close("finished")[-1]["started"] == "now"


@pytest.mark.slow
def test_a_damaged_history_is_left_behind_with_a_notice(train_small: Cli, tmp_path: Path) -> None:
    assert train_small("--model", "v1", "--lr", "1e20").returncode == 6
    sessions.env_file(tmp_path / "run").write_text("{}")
    done = train_small("--model", "v1", "--lr", "1e20", "--resume", "auto")
    assert "earlier sessions are lost" in done.stderr
    assert len(outcomes(tmp_path / "run")) == 1
