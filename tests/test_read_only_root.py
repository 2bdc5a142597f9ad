"""Row 34 of the fault matrix, containers: the root is read-only, one folder can be written."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

# Bound to itself, the folder stays a mount of its own when all others become read-only.
_SCRIPT = r"""
set -e
mount --bind "$1" "$1"
mount -o remount,ro,bind /
awk '$4 ~ /^rw/ {print $2}' /proc/self/mounts | while read -r place; do
  case "$place" in
    "$1"|/proc*|/sys*|/dev|/dev/pts|/) ;;
    *) mount -o remount,ro,bind "$place" || true ;;
  esac
done
! touch /probe 2> /dev/null
! touch /tmp/probe 2> /dev/null
set +e
cd "$2"; shift 2
"$@"
"""
_UNSHARE = (
    ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--mount", "--map-root-user"]
)


def alone(
    volume: Path, folder: Path, *words: str, **names: str
) -> subprocess.CompletedProcess[str]:
    """Run a command where only `volume` can be written; skip where that can't be made."""
    kept = os.environ.keys() - {"TMPDIR", "TESTS_COMPILED"}
    environment = {key: os.environ[key] for key in kept}
    probe = subprocess.run([*_UNSHARE, "mount", "--bind", "/", "/"], capture_output=True)
    if probe.returncode:
        pytest.skip(f"no mounts of one's own here: {probe.stderr.decode()}")
    program = [*_UNSHARE, "bash", "-c", _SCRIPT, "bash", str(volume), str(folder), *words]
    return subprocess.run(
        program, capture_output=True, text=True, env=environment | {"HOME": "/root"} | names
    )


def mnistcli(*words: str) -> list[str]:
    return [sys.executable, "-B", "-m", "mnistcli", *words]


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    (tmp_path / "volume").mkdir()
    return tmp_path / "volume"


def training(tiny_data: Path, volume: Path, compile: str) -> list[str]:
    line = f"train --recipe plain/v3 --epochs 1 --batch-size 32 --threads 1 --compile {compile}"
    return mnistcli(*line.split(), "--data-dir", str(tiny_data), "--out", str(volume / "run"))


@pytest.mark.processes
def test_row_34_a_read_only_root_names_tmpdir_and_trains_without_a_compiler(
    tiny_data: Path, volume: Path
) -> None:
    forced = alone(volume, Path("/"), *training(tiny_data, volume, "on"))
    assert (forced.returncode, "TMPDIR" in forced.stderr) == (5, True), forced.stderr
    assert not (volume / "run").exists()
    done = alone(volume, Path("/"), *training(tiny_data, volume, "off"))
    assert done.returncode == 0, done.stderr
    assert "pictures not drawn" in done.stderr
    assert "MPLCONFIGDIR" in done.stderr
    assert "result.json" in {path.name for path in (volume / "run").iterdir()}


@pytest.mark.processes
def test_row_34_with_tmpdir_in_the_volume_all_works_and_nothing_is_left(
    tiny_data: Path, volume: Path
) -> None:
    (volume / "tmp").mkdir()
    named = {"TMPDIR": str(volume / "tmp")}
    done = alone(volume, Path("/"), *training(tiny_data, volume, "on"), **named)
    assert done.returncode == 0, done.stderr
    assert (volume / "run" / "curves.png").is_file()
    assert list((volume / "tmp").iterdir()) == []
    assert [path.name for path in volume.iterdir()] in (["tmp", "run"], ["run", "tmp"])


@pytest.mark.processes
def test_row_34_doctor_and_pictures_say_which_folder_is_missing(volume: Path) -> None:
    doctor = alone(volume, Path("/"), *mnistcli("doctor"))
    assert "name=compiler status=FAULT" in doctor.stdout
    assert "name=disk status=FAULT" in doctor.stdout
    assert "TMPDIR" in doctor.stdout
    drawn = alone(volume, Path("/"), *mnistcli("compare", "--plot", str(volume / "a.png"), "-q"))
    assert (drawn.returncode, "hint: let TMPDIR" in drawn.stderr) == (5, True), drawn.stderr


@pytest.mark.processes
def test_row_34_a_finished_run_on_a_read_only_system_resumes_with_0(
    tiny_data: Path, volume: Path
) -> None:
    line = training(tiny_data, volume, "off")
    assert subprocess.run([*line, "--no-plots"], capture_output=True).returncode == 0
    other = volume.parent / "other"
    other.mkdir()
    done = alone(other, other, *line, "--resume", "auto", "--no-plots")
    assert done.returncode == 0, done.stderr
    assert shlex.quote(str(volume / "run")) in done.stdout
