"""Rows 13, 15, 17 and 21 of the fault matrix, and exit code 1; 19 and 20 stand in test_train.py."""

from __future__ import annotations

import csv
import json
import math
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Cli
from interrupted import Runs, weights_of

from mnistcli.data import mnist
from mnistcli.engine import checkpoint, contents

# Networks whose loss, gradient or weights stop being finite in the fifth step.
SICK = """
import torch

class Sick(torch.nn.Module):
    def __init__(self, ill):
        super().__init__()
        self.layer = torch.nn.Linear(784, 10)
        self.ill, self.steps = ill, 0

    def forward(self, x):
        logits = self.layer(x.flatten(1))
        if self.training:
            self.steps += 1
            if self.steps == 5 and self.ill == "loss":
                return logits * float("nan")
            if self.steps == 5 and self.ill == "gradient":
                logits.register_hook(lambda gradient: gradient * float("nan"))
        return logits

def net(ill: str = "loss"):
    return Sick(ill)
"""


def assert_all_finite(folder: Path) -> None:
    """Open every file that a run wrote and look for what is no number."""
    for path in folder.glob("*.pt*"):
        assert contents.non_finite(checkpoint.read_values(path)) is None, path
    for path in folder.glob("*.json*"):
        json.loads(path.read_text().splitlines()[0], parse_constant=pytest.fail)
    for path in folder.glob("*.csv"):
        for row in csv.DictReader(path.open()):
            numbers = [float(value) for key, value in row.items() if value and key != "split"]
            assert all(map(math.isfinite, numbers)), path


@pytest.mark.parametrize("ill", ["loss", "gradient"])
def test_row_13_a_bad_step_ends_the_run_as_the_last_epoch_left_it(
    ill: str, cli: Cli, tiny_data: Path, tmp_path: Path
) -> None:
    (tmp_path / "net.py").write_text(SICK)
    words = ["--model", f"{tmp_path / 'net.py'}:net", "--set", f"model_args.ill={ill}"]
    words += ["--batch-size", "32", "--data-dir", str(tiny_data), "--set", "ema_decay=null"]
    words += ["--no-plots"]
    run, one = tmp_path / "run", tmp_path / "one"
    done = cli("train", *words, "--epochs", "3", "--out", str(run))
    assert done.returncode == 6
    assert re.search(r"step 4 \(epoch 2, lr [0-9.e-]+\)", done.stderr), done.stderr
    assert [m["epoch"] for m in checkpoint.read(run / "last.pt")["history"]] == [1]
    assert_all_finite(run)
    again = cli("train", *words, "--epochs", "3", "--out", str(one))
    assert (again.returncode, weights_of(one)) == (6, weights_of(run))


@pytest.mark.parametrize("model", ["v1", "v3"])
@pytest.mark.parametrize("lr", ["1e20", "3e38"])
@pytest.mark.parametrize("size", ["32", "96"])
def test_row_13_no_value_that_is_not_finite_reaches_the_disk(
    model: str, lr: str, size: str, cli: Cli, tiny_data: Path, tmp_path: Path
) -> None:
    """With one step an epoch, loss and gradient are finite, and the weights after it are not."""
    words = ["--model", model, "--epochs", "3", "--batch-size", size, "--data-dir", str(tiny_data)]
    flat = ["--lr", lr, "--set", "schedule={name: constant}", "--out", str(tmp_path / "run")]
    flat += ["--no-plots"]
    done = cli("train", *words, *flat)
    assert done.returncode in (0, 6), done.stderr  # batch norm divides a large weight away
    assert (done.returncode == 6) == bool(re.search(r"at step \d+ \(epoch \d, lr", done.stderr))
    assert_all_finite(tmp_path / "run")


def test_row_13_weights_that_overflow_are_not_written(
    cli: Cli, tiny_data: Path, tmp_path: Path
) -> None:
    words = ["--model", "v1", "--epochs", "1", "--batch-size", "96", "--data-dir", str(tiny_data)]
    flat = ["--lr", "3e38", "--set", "schedule={name: constant}", "--set", "ema_decay=null"]
    done = cli("train", *words, *flat, "--out", str(tmp_path / "run"))
    assert (done.returncode, "at step 0 (epoch 1" in done.stderr) == (6, True), done.stderr
    assert not list((tmp_path / "run").glob("*.pt"))


def test_row_15_a_second_process_is_told_who_holds_the_folder(runs: Runs, tmp_path: Path) -> None:
    run, marker = tmp_path / "run", tmp_path / "here"
    first = runs.start(run, sabotage=("wait_in", "mnistcli.engine.step:train_step", marker, 5))
    first.until(marker.exists)
    second = runs.run(run, "--resume", "auto")
    assert second.code == 7
    assert f"process {first.pid}:" in second.err
    first.signal(signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL
    runs.finish(run)


def test_row_15_of_two_started_together_one_is_refused(runs: Runs, tmp_path: Path) -> None:
    both = [runs.start(tmp_path / "run", "--resume", "auto") for _ in range(2)]
    codes = sorted(child.wait() for child in both)
    assert codes in ([0, 7], [0, 0]), [child.err for child in both]  # 0, 0: one after the other
    runs.check(tmp_path / "run")


def test_row_15_eight_runs_of_one_second_have_eight_folders(runs: Runs, tmp_path: Path) -> None:
    words = [*runs.words, "--epochs", "1"]
    eight = [runs.server.start(*words, cwd=tmp_path) for _ in range(8)]
    assert [child.wait() for child in eight] == [0] * 8
    folders = {path.parent for path in tmp_path.glob("checkpoints/v3/*/result.json")}
    assert len(folders) == 8


def test_row_21_a_wall_clock_that_jumps_back_costs_nothing(runs: Runs, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert runs.run(run, sabotage=("jumping_clock",)).code == 0
    runs.check(run)
    for row in csv.DictReader((run / "metrics.csv").open()):
        assert float(row["train_seconds"]) >= 0
        assert float(row["eval_seconds"]) >= 0
        assert float(row["images_per_second"]) > 0


def test_row_21_odd_paths_work_and_the_printed_command_can_be_pasted(
    runs: Runs, tiny_data: Path, tmp_path: Path
) -> None:
    real = tmp_path / "große Läufe 数"
    real.mkdir()
    (tmp_path / "a link").symlink_to(real)
    (tmp_path / "data 数").symlink_to(tiny_data)
    (tmp_path / "mnistcli").write_text(f'#!/bin/sh\nexec {sys.executable} -m mnistcli "$@"\n')
    (tmp_path / "mnistcli").chmod(0o755)
    run, marker = tmp_path / "a link" / 'it\'s a $RUN; "1"', tmp_path / "here"
    sabotage = ("wait_in", "mnistcli.engine.step:train_step", marker, 5)
    child = runs.start(run, "--data-dir", str(tmp_path / "data 数"), sabotage=sabotage)
    child.until(marker.exists)
    child.signal(signal.SIGTERM)
    assert child.wait() == 143
    command = child.err.splitlines()[-1].removeprefix("hint: ")
    pasted = f"PATH={shlex.quote(str(tmp_path))}:$PATH\n{command}\n"
    done = subprocess.run(["bash", "-c", pasted], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    runs.check(real / run.name)


def test_an_unexpected_error_exits_1_in_two_lines(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_path: object = None) -> mnist.Dataset:
        raise ZeroDivisionError("a defect of ours")

    monkeypatch.setattr(mnist, "load", broken)
    done = cli("train", "--model", "v3", "--out", str(tmp_path / "run"))
    assert done.returncode == 1
    assert done.stderr.splitlines()[0] == "error: ZeroDivisionError: a defect of ours"
    assert "--traceback" in done.stderr.splitlines()[1]
