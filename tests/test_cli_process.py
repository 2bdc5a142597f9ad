"""`mnistcli train` as a process: signals, a reader that leaves, a terminal."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import document, spawn

from mnistcli.engine import checkpoint


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_stops_and_the_printed_command_resumes_bit_for_bit(
    number: int, code: int, small_data: Path, tmp_path: Path
) -> None:
    line = [
        "train",
        "--model",
        "v3",
        "--epochs",
        "12",
        "--data-dir",
        str(small_data),
        "--threads",
        "1",
    ]
    folder = tmp_path / "a run"
    process = spawn(*line, "--out", str(folder))
    assert process.stdout is not None
    while "epoch=2/" not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    command = re.search(r"hint: mnistcli (.*)", errors)
    assert command is not None
    resumed = subprocess.run(
        f"{sys.executable} -m mnistcli {command[1]}", shell=True, capture_output=True, text=True
    )
    assert resumed.returncode == 0, resumed.stderr
    whole = spawn(*line, "--out", str(tmp_path / "whole"))
    whole.communicate()
    hashes = [
        checkpoint.weights_hash(checkpoint.read(path / "last.pt")["weights"])
        for path in (folder, tmp_path / "whole")
    ]
    assert hashes[0] == hashes[1]


def test_a_signal_before_training_still_gives_one_document(tmp_path: Path) -> None:
    process = spawn("train", "--model", "v3", "--json", "--out", str(tmp_path / "run"))
    assert process.stderr is not None
    while not (tmp_path / "run").exists():
        assert process.poll() is None
    process.terminate()
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 143, errors
    assert document(out)["error"]["exit_code"] == 143


def test_a_reader_that_leaves_does_not_stop_the_run(small_data: Path, tmp_path: Path) -> None:
    line = ["train", "--model", "v3", "--epochs", "2", "--data-dir", str(small_data)]
    process = spawn(*line, "--out", str(tmp_path / "run"))
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr is not None
    errors = process.stderr.read()
    assert (process.wait(), (tmp_path / "run" / "result.json").exists()) == (0, True)
    assert "Broken" not in errors


def test_a_terminal_gets_a_table_and_a_bar(small_data: Path, tmp_path: Path) -> None:
    main, worker = pty.openpty()
    line = ["train", "--model", "v3", "--epochs", "2", "--data-dir", str(small_data)]
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "80"}
    options = {"stdout": worker, "stderr": worker, "env": environment}
    process = spawn(*line, "--out", str(tmp_path / "run"), **options)
    os.close(worker)
    screen = b""
    while True:
        try:
            chunk = os.read(main, 4096)
        except OSError:  # the terminal's other end is closed
            break
        screen += chunk
        if not chunk:
            break
    assert process.wait() == 0
    text = screen.decode()
    assert "\x1b[" in text
    assert "━" in text
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)
    assert re.search(r"[\r\n] +2/2 .*%", plain)
    assert "epoch=" not in plain
