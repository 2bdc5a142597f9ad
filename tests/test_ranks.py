"""Many runs over ranks: torch's own launcher, real processes, on the CPU."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import Cli, Golden, document, plant_sentinels, spawn, torchrun
from forkserver import Server

from mnistcli.engine.runtime import Request
from mnistcli.events import RowAdded, SetStarted
from mnistcli.models.registry import MODELS
from mnistcli.recipe import load
from mnistcli.results import runlog
from mnistcli.results.goal import Limits
from mnistcli.results.lock import lock
from mnistcli.runs.plan import Plan, prepare
from mnistcli.runs.sets import attempt
from mnistcli.view.output import Output
from mnistcli.view.runset import SetView


def hashes(folder: Path, seeds: int) -> list[str]:
    """Return the hash of each run's weights."""
    results = [runlog.read_json(folder / f"s{seed}" / "result.json") for seed in range(seeds)]
    return [result["weights_sha256"] for result in results if result is not None]


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    """Wait until a file is there, while the process that makes it runs."""
    while not path.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


def set_rows(folder: Path) -> dict[int, dict[str, Any]]:
    """Return the rows of a set's record by seed."""
    record = document((folder / "set.json").read_text())
    return {row["seed"]: row for row in record["rows"]}


@pytest.mark.processes
def test_two_ranks_train_the_runs_of_one_process_bit_for_bit(
    rank_line: list[str], cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant_sentinels(tmp_path)
    monkeypatch.chdir(tmp_path)
    rank_line += ["--model", "v3", "--epochs", "4", "--seeds", "0-2", "--require", "accuracy"]
    out, errors = (ranked := torchrun(*rank_line, "--out", str(tmp_path / "ranks"))).communicate()
    assert ranked.returncode == 0, errors  # a missed gate is the set's own affair
    assert "required gate failed" in errors
    assert cli(*rank_line, "--out", str(tmp_path / "alone")).returncode == 3
    assert not (tmp_path / "executed").exists()
    assert hashes(tmp_path / "ranks", 3) == hashes(tmp_path / "alone", 3)
    assert len(hashes(tmp_path / "alone", 3)) == 3
    record = document((tmp_path / "ranks" / "set.json").read_text())
    assert (record["exit_code"], record["summary"]["n"], record["ranks"]) == (3, 3, 2)
    assert {row["rank"] for row in record["rows"]} == {0, 1}
    kinds = [text.split()[0] for text in out.splitlines()]
    assert kinds == ["set", "run", "run", "run", "summary", "result"]


@pytest.mark.processes
def test_a_killed_rank_is_restarted_and_nothing_is_trained_twice(
    rank_line: list[str], cli: Cli, tmp_path: Path
) -> None:
    rank_line += ["--model", "v3", "--epochs", "12", "--seeds", "0-1"]
    process = torchrun(*rank_line, "--out", str(tmp_path / "ranks"), restarts=1)
    victim = tmp_path / "ranks" / "s1"
    wait_for(victim / "last.pt.previous", process)
    before = (victim / "metrics.jsonl").read_text().splitlines()[:1]
    os.kill(int((victim / ".lock").read_text()), signal.SIGKILL)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert cli(*rank_line, "--out", str(tmp_path / "alone")).returncode == 0
    assert hashes(tmp_path / "ranks", 2) == hashes(tmp_path / "alone", 2)
    after = (victim / "metrics.jsonl").read_text().splitlines()
    assert (after[:1], len(after)) == (before, 12)  # timings too: the epoch was not repeated
    assert document((tmp_path / "ranks" / "set.json").read_text())["restarts"] == 1


def test_jobs_write_one_document_and_skip_a_run_that_is_held(
    rank_line: list[str], forked: Server, tmp_path: Path
) -> None:
    (tmp_path / "set" / "s1").mkdir(parents=True)
    rank_line += ["--model", "v3", "--epochs", "1", "--seeds", "0-2", "--json", "--plots"]
    with lock(tmp_path / "set" / "s1"):
        done = forked.run(*rank_line, "--out", tmp_path / "set", "--jobs", "2")
    assert done.code == 7, done.err
    report = document(done.out)
    assert [run["seed"] for run in report["runs"]] == [0, 2]
    assert (report["ok"], report["error"]["exit_code"], report["set"]["exit_code"]) == (False, 7, 7)
    assert set_rows(tmp_path / "set")[1]["status"] == "failed"
    assert (tmp_path / "set" / "s2" / "curves.png").is_file()
    assert len([text for text in done.err.splitlines() if text.startswith("run ")]) == 3
    again = forked.run(*rank_line, "--out", tmp_path / "set", "--resume", "auto")
    report = document(again.out)
    assert (again.code, report["ok"], report["summary"]["n"]) == (0, True, 3)
    assert [row["status"] for row in report["set"]["rows"]] == ["kept", "finished", "kept"]


@pytest.mark.processes
def test_a_signal_stops_all_jobs_and_the_printed_command_resumes(
    rank_line: list[str], tmp_path: Path
) -> None:
    rank_line += ["--model", "v3", "--epochs", "60", "--seeds", "0-1", "--jobs", "2"]
    process = spawn(*rank_line, "--out", str(tmp_path / "set"))
    for seed in (0, 1):
        wait_for(tmp_path / "set" / f"s{seed}" / "last.pt", process)
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert (errors.count("error:"), "result" in out) == (1, False)
    for seed in (0, 1):  # nobody holds the folders any more
        with lock(tmp_path / "set" / f"s{seed}"):
            pass
    command = re.search(r"hint: mnistcli (.*)", errors)
    assert command is not None
    assert command[1].endswith(f"--out {tmp_path / 'set'} --resume auto")


def test_a_run_that_diverges_gets_a_row_and_ends_no_rank(small_data: Path, tmp_path: Path) -> None:
    recipe = load("plain/v1", settings=["epochs=1", "optim.lr=1e20"])
    places = {"data_dir": small_data, "out": tmp_path, "resume": "auto", "limits": Limits()}
    plan = Plan(MODELS["v1"], recipe, "v1", (), (0, 1), request=Request(threads=1), **places)
    shared = prepare(plan, lambda event: None, lambda: None)
    row = attempt(plan, 0, shared, rank=5)
    assert (row["exit_code"], row["status"], row["rank"]) == (6, "failed", 5)
    assert "not finite at step" in row["error"]


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ("--jobs 3 --parallel data", "--batch-size 129"),
        ("--jobs 2", "--parallel data"),
        ("--jobs 2 --seeds 0-3 --dry-run", "leave out --jobs"),
        ("--parallel data", "--jobs N"),
        ("--max-restarts 1", "torchrun has its own"),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    arguments: str, hint: str, cli: Cli
) -> None:
    done = cli("train", "--model", "v3", *arguments.split())
    assert (done.returncode, done.stdout) == (2, "")
    assert hint in done.stderr


def test_a_folder_with_another_set_is_refused_before_anything_starts(
    train_small: Cli, tmp_path: Path
) -> None:
    (tmp_path / "run" / "s1").mkdir(parents=True)
    (tmp_path / "run" / "s1" / "mine.txt").write_text("")
    done = train_small("--seeds", "0-1", "--jobs", "2")
    assert (done.returncode, "not empty" in done.stderr) == (2, True)
    assert not (tmp_path / "run" / "set.json").exists()


def test_a_terminal_gets_a_row_for_each_run(
    capsys: pytest.CaptureFixture[str], golden: Golden
) -> None:
    row = {"seed": 3, "rank": 1, "exit_code": 0, "epochs": 15, "correct": 9945, "total": 10000}
    row |= {"accuracy": 0.9945, "best": 0.9946, "seconds_per_epoch": 3.21, "verdict": "PASS"}
    failed = {"seed": 4, "rank": 0, "exit_code": 6, "error": "training diverged"}
    runtime = {"device": "cpu", "device_name": "X", "threads": 1, "precision": "fp32"}
    runtime |= {"compiled": False}
    started = SetStarted(
        "v3", "v3", (), "muon", None, 2, 0, 2, 0, runtime | {"compiled": False}, "/x"
    )
    with SetView(Output("train", progress="live"), lines=True) as view:
        for event in (started, RowAdded(row, 1, 2), RowAdded(failed, 2, 2)):
            view(event)
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", capsys.readouterr().out)
    rows = [line for line in text.splitlines() if "━" not in line]  # but for the bar
    golden("set/two-rows.txt", "\n".join(rows))
