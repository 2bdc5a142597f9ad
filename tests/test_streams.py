"""Rows 35 and 6: what is written to a stream arrives whole, or the exit code says so."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import Cli

from mnistcli.view.output import tame_terminal, wrapped

COMMAND = [sys.executable, "-m", "mnistcli"]
RECIPE = "train --model v3 --print-recipe"


def shell(line: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a line of bash in which `mnistcli` is this package; its code is the first command's."""
    program = f'mnistcli() {{ {" ".join(COMMAND)} "$@"; }}; {line}; exit ${{PIPESTATUS[0]}}'
    return subprocess.run(
        ["bash", "-c", program], capture_output=True, text=True, env=os.environ | variables
    )


def read_late(line: str) -> tuple[int, bytes]:
    """Return the exit code, and what comes through a small pipe that may not block."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    process = subprocess.Popen([*COMMAND, *line.split()], stdout=writer, stderr=subprocess.DEVNULL)
    os.close(writer)
    time.sleep(0.3)
    arrived = b""
    while chunk := os.read(reader, 1000):
        arrived += chunk
    os.close(reader)
    return process.wait(timeout=30), arrived


@pytest.mark.processes
@pytest.mark.parametrize("line", ["report", "train --help"])
def test_a_pipe_that_may_not_block_gets_all(line: str) -> None:
    whole = subprocess.run([*COMMAND, *line.split()], capture_output=True).stdout
    assert len(whole) > 8_000
    assert read_late(line) == (0, whole)


@pytest.mark.processes
@pytest.mark.parametrize(
    ("line", "stdout"),
    [
        ("compare --format csv", ">/dev/full"), (RECIPE, ">/dev/full"), (RECIPE, ">&-"),
        ("--help", ">/dev/full"), ("--help", ">&-"),
    ],
)  # fmt: skip
def test_a_lost_product_is_no_success(line: str, stdout: str) -> None:
    done = shell(f"mnistcli {line} {stdout}")
    assert done.returncode == 5
    assert "error: " in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.processes
@pytest.mark.parametrize("line", ["train --help", RECIPE])
def test_a_reader_that_leaves_has_seen_enough(line: str) -> None:
    done = shell(f"mnistcli {line} | head -1")
    assert (done.returncode, done.stdout.count("\n"), done.stderr) == (0, 1, "")


@pytest.mark.parametrize("columns", ["0", "1", "abc", "-5", "²", "9" * 9])
def test_no_number_of_columns_ends_a_command(
    columns: str, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("COLUMNS", "LINES", "TERMINAL_WIDTH"):
        monkeypatch.setenv(name, columns)
    tame_terminal()  # as at the start of every process
    done = cli("--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "compare" in done.stdout


@pytest.mark.processes
def test_a_pipe_can_be_the_file_that_an_option_names(cli: Cli) -> None:
    whole = cli("report", "v3").stdout
    for place in ("/dev/fd/1", ">(cat)"):
        done = shell(f"mnistcli report v3 --out {place} | cat")
        assert (done.returncode, "# Results" in done.stdout) == (0, True), done.stderr
        assert len(done.stdout) > 0.9 * len(whole)  # links are relative to another folder


@pytest.mark.processes
def test_a_file_behind_stderr_keeps_what_comes_after(tmp_path: Path) -> None:
    done = shell(f"mnistcli report v3 --out /dev/stderr 2> {tmp_path / 'both.md'}")
    text = (tmp_path / "both.md").read_text()
    assert (done.returncode, text.startswith("# Results")) == (0, True)
    assert text.splitlines()[-1] == "notice: written /dev/stderr"


@pytest.mark.processes
@pytest.mark.parametrize("line", ["report v3 --out", "compare v3 --plot"])
def test_a_file_named_stdout_has_it_for_itself(line: str, cli: Cli, tmp_path: Path) -> None:
    assert cli(*line.split(), str(tmp_path / "alone")).returncode == 0
    done = shell(f"mnistcli {line} /dev/stdout > {tmp_path / 'there'}")
    assert "notice: written /dev/stdout" in done.stderr
    sizes = [(tmp_path / name).stat().st_size for name in ("alone", "there")]
    assert abs(sizes[0] - sizes[1]) < 0.1 * sizes[0]  # links are relative to another folder
    both = cli(*line.split(), "/dev/stdout", "--json")
    assert (both.returncode, "both write to stdout" in both.stderr) == (2, True)


@pytest.mark.processes
def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    done = shell(f"mnistcli report v3 --out {tmp_path}/no/a.md")
    assert done.returncode == 5
    assert f"there is no folder {tmp_path}/no" in done.stderr


def test_a_note_breaks_at_spaces_and_a_command_never() -> None:
    line = "notice: a sentence with /a/path-that-is/longer/than/all and some more words"
    assert wrapped(line, 20).split() == line.split()
    assert max(map(len, wrapped(line, 20).splitlines())) == len("/a/path-that-is/longer/than/all")
    assert wrapped("no result; mnistcli train --resume a", 10).count("\n") == 0
