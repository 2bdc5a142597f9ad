"""Several seeds in one process: a set like that of many ranks, whose faults end what they must."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist
from conftest import Cli, document, plant_sentinels
from forkserver import Server

from mnistcli.engine import meeting
from mnistcli.events import Event, RowAdded
from mnistcli.results import runlog, setlog
from mnistcli.results.goal import Limits
from mnistcli.runs import ledger
from mnistcli.runs.plan import Plan

# Of seeds 2 to 4 the middle one diverges; two networks end the process, heard by Python or not.
NETS = """
import os, sys
import torch

class Net(torch.nn.Module):
    def __init__(self, ill):
        super().__init__()
        self.layer = torch.nn.Linear(784, 10)
        self.ill, self.steps = ill, 0

    def forward(self, x):
        logits = self.layer(x.flatten(1))
        self.steps += self.training
        return self.ill(logits) if self.training and self.ill and self.steps > 2 else logits

def half():
    return Net((lambda y: y * float("nan")) if torch.initial_seed() % 5 == 1 else None)

def leaves():
    return Net(lambda y: sys.exit(0))

def vanishes():
    return Net(lambda y: os._exit(0))
"""


@pytest.fixture
def set_line(tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A line that trains one short epoch of a network of our own, beside files of bad names."""
    (tmp_path / "net.py").write_text(NETS)
    plant_sentinels(tmp_path)
    monkeypatch.chdir(tmp_path)
    line = ["train", "--recipe", "plain/v3", "--epochs", "1", "--batch-size", "32", "--no-plots"]
    return [*line, "--data-dir", str(tiny_data), "--threads", "1", "--set", "ema_decay=null"]


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """Return a set's rows without what depends on the process and its speed."""
    text = (folder / "set.json").read_text().replace(str(folder), "SET")
    varying = ("rank", "seconds_per_epoch")
    rows = document(text)["rows"]
    return [{key: row[key] for key in row if key not in varying} for row in rows]


def test_a_run_that_diverges_ends_no_set(
    set_line: list[str], cli: Cli, forked: Server, tmp_path: Path
) -> None:
    set_line += ["--model", "net.py:half", "--seeds", "2-4", "--target", "0", "--json"]
    done = cli(*set_line, "--out", str(tmp_path / "set"))
    report = document(done.stdout)
    assert (done.returncode, report["error"]["exit_code"]) == (6, 6)
    assert [run["seed"] for run in report["runs"]] == [2, 4]
    assert [row["exit_code"] for row in report["set"]["rows"]] == [0, 6, 0]
    summary = report["summary"]
    assert (summary["n"], summary["failed"], summary["above"]) == (2, 1, 2 / 3)
    set_line[set_line.index("net.py:half")] = "net:half"
    jobs = forked.run(*set_line, "--out", tmp_path / "jobs", "--jobs", "2", cwd=tmp_path)
    assert (jobs.code, document(jobs.out)["summary"]) == (6, summary), jobs.err
    assert rows_of(tmp_path / "jobs") == rows_of(tmp_path / "set")
    assert not (tmp_path / "executed").exists()


@pytest.mark.slow
def test_a_seed_without_a_result_has_its_row_and_its_result_line(
    set_line: list[str], cli: Cli
) -> None:
    done = cli(*set_line, "--model", "net.py:half", "--seeds", "2-4")
    lines = done.stdout.splitlines()
    seeds = [line for line in lines if line.startswith("seed ")]
    assert ["exit_code=6" in line for line in seeds] == [False, True, False]
    results = [line for line in lines if line.startswith("result ")]
    assert ["exit_code=6 error=" in line for line in results] == [False, True, False]
    assert "notice: seed 3 has no result (exit code 6): training diverged" in done.stderr
    (folder,) = Path("checkpoints", "net-half").iterdir()
    assert folder.name.endswith("-s2-4")


def test_a_stopped_set_says_which_runs_are_over_and_resume_auto_finds_it(
    set_line: list[str], forked: Server, tmp_path: Path
) -> None:
    set_line += ["--model", "v1", "--seeds", "0-2"]
    sabotage = ("wait_in", "mnistcli.engine.step:train_step", tmp_path / "here", 5)
    child = forked.start(*set_line, sabotage=sabotage, cwd=tmp_path)  # the second run's batch
    child.until((tmp_path / "here").exists)
    child.signal(signal.SIGINT)
    assert child.wait() == 130, child.err
    assert "0 epochs saved; runs ended: 1 of 3" in child.err
    (folder,) = Path("checkpoints", "v1").iterdir()
    assert child.err.splitlines()[-1].endswith(f"--out {folder.absolute()} --resume auto")
    assert [row["seed"] for row in setlog.read(folder)["rows"]] == [0]
    assert forked.run(*set_line, "--resume", "auto", cwd=tmp_path).code == 0
    assert [*Path("checkpoints", "v1").iterdir()] == [folder]
    states = [row["status"] for row in setlog.read(folder)["rows"]]
    assert states == ["kept", "finished", "finished"]


@pytest.mark.slow
def test_resume_auto_takes_in_runs_that_lie_elsewhere(set_line: list[str], cli: Cli) -> None:
    set_line += ["--model", "v1", "--resume", "auto"]
    assert cli(*set_line, "--seed", "1").returncode == 0
    (alone,) = Path("checkpoints", "v1").iterdir()
    for _ in range(2):
        assert cli(*set_line, "--seeds", "0-1").returncode == 0
    (folder,) = {*Path("checkpoints", "v1").iterdir()} - {alone}
    first, second = setlog.read(folder)["rows"]
    assert first["run"] == str(folder.absolute() / "s0")
    assert (second["status"], second["run"]) == ("kept", str(alone.absolute()))


@pytest.mark.parametrize("jobs", [[], ["--jobs", "2"]])
def test_a_fault_that_every_run_would_meet_ends_the_set(
    jobs: list[str], set_line: list[str], forked: Server, tmp_path: Path
) -> None:
    set_line += ["--model", "net.py:leaves", "--seeds", "0-5", "--json"]
    done = forked.run(*set_line, "--out", tmp_path / "set", *jobs, cwd=tmp_path)
    error = document(done.out)["error"]
    assert (done.code, error["exit_code"]) == (2, 2)
    assert "the set ended at seed" in error["what"]
    assert "net.py:leaves fails in training: SystemExit: 0, net.py:" in error["what"]
    record = setlog.read(tmp_path / "set")
    assert 1 <= len(record["rows"]) <= 2
    assert (record["exit_code"], record["restarts"]) == (2, 0)


def test_ranks_that_vanish_are_an_error(
    set_line: list[str], forked: Server, tmp_path: Path
) -> None:
    set_line += ["--model", "net.py:vanishes", "--seeds", "0-1", "--jobs", "2", "--json"]
    done = forked.run(*set_line, "--out", tmp_path / "set", cwd=tmp_path)
    error = document(done.out)["error"]
    assert (done.code, "runs ended: 0 of 2" in error["what"]) == (1, True)


@pytest.mark.slow
def test_a_rank_that_ends_without_a_row_ends_the_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row 32 of the fault matrix; nobody holds the run, and no row comes."""
    monkeypatch.setattr(ledger, "_LOST_SECONDS", 0.3)
    plan = Plan(*[None] * 4, (0, 1), None, tmp_path, False, Limits(), None)  # type: ignore[arg-type]
    record = {"seeds": [0, 1], "rows": []}
    events = list[Event]()
    store = dist.HashStore()
    ledger.Ledger(plan, record, store, events.append).complete(lambda: None)
    assert meeting.ended(store)
    assert record["exit_code"] == 1
    assert all(isinstance(e, RowAdded) and "left no result" in e.row["error"] for e in events)


@pytest.mark.slow
@pytest.mark.usefixtures("set_line")
def test_compare_names_a_seed_that_diverges_and_goes_on(small_data: Path, cli: Cli) -> None:
    line = ["compare", "net.py:half", "--train", "--epochs", "1", "--seeds", "2-4", "--json"]
    done = cli(*line, "--data-dir", str(small_data))
    assert done.returncode == 0, done.stderr
    assert document(done.stdout)["rows"][0]["n"] == 2
    assert "seed 3 has no result (exit code 6)" in done.stderr


@pytest.mark.slow
def test_a_set_of_another_recipe_is_refused_and_left_as_it_is(
    set_line: list[str], cli: Cli, tmp_path: Path
) -> None:
    set_line += ["--model", "v1", "--seeds", "0-1", "--out", str(tmp_path / "set")]
    assert cli(*set_line).returncode == 0
    before = (tmp_path / "set" / "set.json").read_bytes()
    done = cli(*set_line, "--resume", "auto", "--lr", "0.125")
    assert (done.returncode, "now optim.lr=0.125" in done.stderr) == (2, True)
    assert (cli(*set_line).returncode, (tmp_path / "set" / "set.json").read_bytes()) == (2, before)


@pytest.mark.parametrize(
    "changes", [{"rows": 1}, {"rows": [{}]}, {"seeds": ["0"]}, {"elsewhere": [{"seed": 0}]}]
)
def test_a_strangers_set_json_is_no_record(changes: dict[str, Any], tmp_path: Path) -> None:
    head = {"launch": "x", "recipe_digest": "y", "data": "z", "seeds": [0], "exit_code": None}
    runlog.write_json(setlog.set_file(tmp_path), head | {"rows": []})
    assert setlog.known(tmp_path) is not None
    runlog.write_json(setlog.set_file(tmp_path), head | {"rows": []} | changes)
    assert setlog.known(tmp_path) is None
