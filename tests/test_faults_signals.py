"""Rows 3 to 6 of the fault matrix: signals in every phase, a terminal that goes, a full pipe."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
from conftest import document, spawn
from forkserver import Child
from interrupted import Runs

from mnistcli.engine import checkpoint

# Where the child waits for the signal, and how many epochs are saved by then (and after it).
PHASES = {
    "data load": ("wait_in", "mnistcli.data.mnist:load"),
    "write of the recipe": ("wait_in_write", "recipe.yaml", "half written"),
    "first batch": ("wait_in", "mnistcli.engine.step:train_step"),
    "batch of the second epoch": ("wait_in", "mnistcli.engine.step:train_step"),
    "evaluation": ("wait_in", "mnistcli.engine.state:evaluate"),
    "write of a checkpoint": ("wait_in_write", "last.pt", "before replace"),
    "last evaluation": ("wait_in", "mnistcli.engine.state:evaluate"),
    "write of the result": ("wait_in_write", "result.json", "half written"),
}
TIMES = {"batch of the second epoch": 5, "last evaluation": 3}
SAVED = {
    "batch of the second epoch": 1, "evaluation": 1, "write of a checkpoint": 1,
    "last evaluation": 3, "write of the result": 3,
}  # fmt: skip


def resume(child: Child, runs: Runs, out: Path) -> None:
    """Run the command that a stopped run printed, and hold its end against the whole run."""
    command = re.search(r"hint: mnistcli (.*)", child.err)
    assert command is not None, child.err
    resumed = runs.server.run(*shlex.split(command[1]))
    assert resumed.code == 0, resumed.err
    runs.check(out)


@pytest.mark.parametrize("phase", PHASES)
def test_row_3_sigterm_stops_every_phase_and_the_printed_command_resumes(
    phase: str, runs: Runs, tmp_path: Path
) -> None:
    run, marker = tmp_path / "run", tmp_path / "here"
    times = [TIMES[phase]] if phase in TIMES else []
    child = runs.start(run, sabotage=(*PHASES[phase], marker, *times))
    child.until(marker.exists)
    child.signal(signal.SIGTERM)
    assert child.wait() == 143, child.err
    assert "Traceback" not in child.err
    last = run / "last.pt"
    saved = len(checkpoint.read(last)["history"]) if last.exists() else 0
    assert saved == SAVED.get(phase, 0)
    resume(child, runs, run)


def test_row_3_sigterm_stops_the_evaluate_command(runs: Runs, tmp_path: Path) -> None:
    marker = tmp_path / "here"
    sabotage = ("wait_in", "mnistcli.assessment:logits_of", marker)
    child = runs.server.start("evaluate", "v3", "--json", sabotage=sabotage)
    child.until(marker.exists)
    child.signal(signal.SIGTERM)
    assert child.wait() == 143
    assert document(child.out)["error"]["exit_code"] == 143


def runs_on(pid: int) -> bool:
    """Return whether a process is there and has not ended."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def test_row_3_sigterm_ends_a_compilation_and_the_compilers(runs: Runs, tmp_path: Path) -> None:
    compiler, marker = tmp_path / "cxx", tmp_path / "pid"
    compiler.write_text(f"#!/bin/bash\nsleep 99 & echo $! > {marker}; wait\n")
    compiler.chmod(0o755)
    sabotage = ("with_variable", "CXX", shlex.quote(str(compiler)))
    child = runs.start(tmp_path / "run", "--compile", "on", sabotage=sabotage)
    child.until(lambda: marker.exists() and marker.read_text().endswith("\n"))
    child.signal(signal.SIGTERM)
    assert child.wait() == 143, child.err
    assert "--resume" in child.err
    for _ in range(200):  # it was killed; the system may need a moment
        if not runs_on(int(marker.read_text())):
            return
        time.sleep(0.05)
    pytest.fail("what the compiler started runs on")


@pytest.mark.processes
@pytest.mark.parametrize("delay", [0.1, 0.2, 0.3, 0.4])
def test_row_3_a_signal_while_the_tool_itself_is_imported_is_answered(
    delay: float, tmp_path: Path
) -> None:
    process = spawn("train", "--model", "v3", "--out", str(tmp_path / "run"))
    time.sleep(delay)
    process.terminate()
    _, errors = process.communicate(timeout=60)
    # Before Python reaches our first line the signal kills as it kills any process.
    assert (process.returncode, errors) == (-15, "") or (
        process.returncode == 143 and "--resume auto" in errors
    )


@pytest.mark.processes
def test_row_3_a_signal_while_torch_is_imported_still_gives_one_document(tmp_path: Path) -> None:
    process = spawn("train", "--model", "v3", "--json", "--out", str(tmp_path / "run"))
    while "libtorch" not in Path(f"/proc/{process.pid}/maps").read_text():
        assert process.poll() is None
    process.terminate()
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 143, errors
    assert document(out)["error"]["exit_code"] == 143
    assert "--resume auto" in errors
    assert not (tmp_path / "run").exists()


def test_row_4_ctrl_c_saves_and_is_resumed(runs: Runs, tmp_path: Path) -> None:
    run, marker = tmp_path / "run", tmp_path / "here"
    child = runs.start(run, sabotage=("wait_in", "mnistcli.engine.step:train_step", marker, 5))
    child.until(marker.exists)
    child.signal(signal.SIGINT)
    assert child.wait() == 130, child.err
    first = next(line for line in child.err.splitlines() if "signal" in line)
    assert first.startswith("notice: finishing the batch; ")
    assert first.endswith("a second signal ends at once")
    resume(child, runs, run)


def test_a_quiet_run_answers_a_signal_by_its_error_alone(runs: Runs, tmp_path: Path) -> None:
    marker = tmp_path / "here"
    place = ("wait_in", "mnistcli.engine.step:train_step", marker, 5)
    child = runs.start(tmp_path / "run", "--quiet", sabotage=place)
    child.until(marker.exists)
    child.signal(signal.SIGINT)
    assert child.wait() == 130, child.err
    assert [line.partition(":")[0] for line in child.err.splitlines()] == ["error", "hint"]


@pytest.mark.parametrize(
    "sabotage",
    [
        ("hang_in", "mnistcli.engine.step:train_step", 5),
        ("hang_in", "mnistcli.engine.checkpoint:write_atomically", 4),
    ],
)
def test_row_4_a_second_ctrl_c_ends_at_once_and_files_stay_valid(
    sabotage: tuple[str, str, int], runs: Runs, tmp_path: Path
) -> None:
    run, marker = tmp_path / "run", tmp_path / "here"
    name, place, times = sabotage
    child = runs.start(run, sabotage=(name, place, marker, times))
    child.until(marker.exists)
    child.signal(signal.SIGINT)
    time.sleep(0.2)
    assert not child.ended()
    child.signal(signal.SIGINT)
    assert child.wait(timeout=20) == 130  # the batch alone would take 30
    runs.finish(run)


def on_a_terminal(words: list[str]) -> tuple[subprocess.Popen[str], int]:
    """Start a session of its own on a new terminal, as ssh does; return it and our end."""
    ours, theirs = pty.openpty()
    process = spawn(
        *words, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )  # fmt: skip
    os.close(theirs)
    return process, ours


def test_row_5_a_dropped_connection_saves_and_exits_129(runs: Runs, tmp_path: Path) -> None:
    run, long = tmp_path / "run", ["--epochs", "3000", "--compile", "off"]
    process, terminal = on_a_terminal([*runs.words, *long, "--out", str(run)])
    while not (run / "last.pt").exists():
        os.read(terminal, 4096)
    os.close(terminal)
    assert process.wait(timeout=30) == 129
    assert checkpoint.read(run / "last.pt")["history"]
    assert not list(run.rglob(".*.mnistcli-tmp"))


def test_row_5_nohup_outlives_the_terminal(runs: Runs, tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = ["nohup", sys.executable, "-m", "mnistcli", *runs.words, "--out", str(run)]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        while not run.exists():
            assert process.poll() is None
        process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=60) == 0, (tmp_path / "log").read_text()
    runs.check(run)


def test_row_6_a_reader_that_leaves_does_not_stop_the_run(runs: Runs, tmp_path: Path) -> None:
    run = tmp_path / "run"
    line = [*runs.words, "--compile", "off", "--out", str(run)]
    words = shlex.join([sys.executable, "-m", "mnistcli", *line])
    script = f"{words} | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 1)
    assert "Broken pipe" not in done.stderr
    assert done.stderr.count("\n") == 1  # that MNIST's teacher stays out
    assert (run / "result.json").exists()
    runs.check(run)
