"""`mnistcli train` on a terminal, and its exit; for signals and pipes test_faults_signals.py."""

from __future__ import annotations

import os
import pty
import re
from pathlib import Path

import pytest
from conftest import spawn


@pytest.mark.processes
def test_a_terminal_gets_a_table_and_a_bar(small_data: Path, tmp_path: Path) -> None:
    main, worker = pty.openpty()
    line = ["train", "--model", "v3", "--epochs", "2", "--data-dir", str(small_data), "--no-plots"]
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


@pytest.mark.processes
@pytest.mark.usefixtures("kernels")
def test_a_compiled_run_leaves_python_in_silence(tiny_data: Path, tmp_path: Path) -> None:
    line = ["train", "--recipe", "plain/v3", "--epochs", "1", "--batch-size", "32", "--no-plots"]
    process = spawn(
        *line, "--compile", "on", "--threads", "2", "--data-dir", str(tiny_data), "-q",
        "--out", str(tmp_path / "run"),
    )  # fmt: skip
    out, errors = process.communicate()
    assert (process.returncode, errors) == (0, ""), errors
    assert out.startswith("result ")
