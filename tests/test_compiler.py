"""Row 34 of the fault matrix: a compiler that is odd or hangs, a folder that forbids execution."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from conftest import Cli

from mnistcli.engine import kernels, machine, scratch
from mnistcli.errors import EnvironmentFault


@pytest.fixture
def compile_anew(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Let this test compile by itself, in a folder of its own, which is returned."""
    monkeypatch.setattr(kernels, "_compile", kernels._compile.__wrapped__)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    return tmp_path / "temporary"


def compiler(folder: Path, *lines: str) -> str:
    """Return the command of a shell script that is called as a compiler."""
    script = folder.parent / "cxx"
    script.write_text("#!/bin/bash\n" + "\n".join(lines) + "\n")
    script.chmod(0o755)
    return shlex.quote(str(script))


ODD = {
    "not found": ["exec missing"],
    "ails: no message": ["exit 1"],
    "can't be loaded": ["exit 0"],
    "too short": ['echo text > "${@: -2:1}"'],
    "lack lanes_create": ['exec g++ -shared -o "${@: -2:1}" -x c++ /dev/null'],
    "ails: erreur \ufffdtrange": [r"printf 'erreur \xe9trange' >&2; exit 1"],
}


@pytest.mark.parametrize("said", ODD)
def test_row_34_an_odd_compiler_gives_a_reason(
    said: str, compile_anew: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", compiler(compile_anew, *ODD[said]))
    found = kernels.compiled()
    assert isinstance(found, str)
    assert said in found
    assert list(compile_anew.iterdir()) == []


def test_row_34_a_quotation_mark_that_nothing_closes_is_a_reason_under_on_auto_and_doctor(
    compile_anew: Path, monkeypatch: pytest.MonkeyPatch, train_small: Cli, cli: Cli
) -> None:
    monkeypatch.setenv("CXX", "g++ '-O2")
    on = train_small("--compile", "on", "--dry-run")
    assert (on.returncode, "CXX is no command: No closing quotation" in on.stderr) == (5, True)
    auto = cli("train", "--model", "v3", "--epochs", "1", "--dry-run")
    assert (auto.returncode, "not compiled: CXX is no command" in auto.stderr) == (0, True)
    assert "compiler" in cli("doctor").stdout.splitlines()[-1]
    assert machine.compiler_version() is None


def test_row_34_a_compiler_that_hangs_ends_with_all_that_it_started(
    compile_anew: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(machine, "_COMPILE_SECONDS", 1)
    monkeypatch.setenv("CXX", compiler(compile_anew, f"sleep 99 & echo $! > {tmp_path}/pid; wait"))
    assert "does not end in 1 seconds" in str(kernels.compiled())
    state = Path("/proc", (tmp_path / "pid").read_text().strip(), "stat")
    until = time.monotonic() + 10  # for a killed process of a busy machine
    while (alive := is_alive(state)) and time.monotonic() < until:
        time.sleep(0.01)
    assert not alive


def is_alive(state: Path) -> bool:
    """Return whether a process lives, by its file in /proc; a zombie does not."""
    try:
        return state.read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_row_34_a_compiler_that_reads_its_input_does_not_wait(
    compile_anew: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", compiler(compile_anew, "cat; exit 1"))
    assert "no message" in str(kernels.compiled())


def test_row_34_no_folder_for_temporary_files_names_tmpdir(
    compile_anew: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compile_anew.rmdir()
    assert "TMPDIR" in str(kernels.compiled())
    with pytest.raises(EnvironmentFault, match="No such file"), scratch.temporary_folder():
        pass


@pytest.mark.processes
def test_row_34_what_a_killed_process_left_goes_at_the_next_start(compile_anew: Path) -> None:
    program = (
        f"import tempfile, time; tempfile.tempdir = {str(compile_anew)!r}\n"
        "from mnistcli.engine.scratch import temporary_folder\n"
        "with temporary_folder() as folder: print(folder, flush=True); time.sleep(99)"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    left = Path(process.stdout.readline().strip())
    with scratch.temporary_folder():
        assert left.is_dir()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert left.is_dir()
    with scratch.temporary_folder() as own:
        assert [*compile_anew.iterdir()] == [own]
    assert [*compile_anew.iterdir()] == []


def test_a_folder_that_is_not_ours_stays(compile_anew: Path, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (compile_anew / "mnistcli-link").symlink_to(tmp_path / "real")
    (compile_anew / "mnistcli-file").touch()
    if os.geteuid() == 0:
        (compile_anew / "mnistcli-theirs").mkdir()
        os.chown(compile_anew / "mnistcli-theirs", 12345, 12345)
    before = {*compile_anew.iterdir()}
    with scratch.temporary_folder():
        pass
    assert ({*compile_anew.iterdir()}, (tmp_path / "real").is_dir()) == (before, True)


@pytest.mark.processes
def test_row_34_without_a_folder_for_temporary_files_an_eager_run_trains(
    tiny_data: Path, tmp_path: Path
) -> None:
    program = (
        "import errno, sys, tempfile\n"
        "def none(): raise FileNotFoundError(errno.ENOENT, 'No usable temporary directory')\n"
        "tempfile._get_default_tempdir = none\n"
        "from mnistcli.cli.app import run\n"
        "sys.exit(run(sys.argv[1:]))"
    )
    words = ["train", "--model", "v1", "--epochs", "1", "--batch-size", "32", "--threads", "1"]
    words += ["--data-dir", str(tiny_data), "--out", str(tmp_path / "run"), "--no-plots"]
    words += ["--compile", "off"]
    environment = {k: v for k, v in os.environ.items() if k != "TORCHINDUCTOR_CACHE_DIR"}
    command = [sys.executable, "-c", program, *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "result.json").is_file()
