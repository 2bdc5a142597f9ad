"""The page that shows the whole training gives the command's weights, bit for bit."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from conftest import Cli
from interrupted import weights_of
from training_loop import trained

from mnistcli.data import mnist
from mnistcli.engine.checkpoint import weights_hash
from mnistcli.engine.runtime import Request
from mnistcli.recipe import load

needs_compiler = pytest.mark.skipif(
    not (shutil.which("g++") or shutil.which("clang++")), reason="no C++ compiler here"
)


@pytest.mark.parametrize("compiled", ["off", pytest.param("on", marks=needs_compiler)])
@pytest.mark.slow
def test_the_loop_on_one_page_ends_with_the_commands_weights(
    compiled: str, cli: Cli, tiny_data: Path, tmp_path: Path
) -> None:
    line = ["train", "--data-dir", str(tiny_data), "--threads", "1", "--batch-size", "32"]
    line += ["--device", "cpu", "--no-plots"]
    teacher = tmp_path / "teacher"
    assert cli(*line, "teacher", "--epochs", "1", "--out", str(teacher)).returncode == 0
    words = ["v3", "--epochs", "2", "--teacher", str(teacher), "--compile", compiled]
    done = cli(*line, *words, "--out", str(tmp_path / "run"))
    assert done.returncode == 0, done.stderr
    settings = ["epochs=2", "batch_size=32", f"distillation.teacher={teacher}"]
    request = Request("cpu", compile=compiled, threads=1)
    network = trained(load("v3", settings=settings), mnist.load(tiny_data), request)
    assert weights_hash(network.state_dict()) == weights_of(tmp_path / "run")
    assert weights_hash(network.state_dict()) != weights_of(teacher)
