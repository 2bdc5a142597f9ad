"""`train --log`: TensorBoard, and sinks that other packages register."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from conftest import Cli

from mnistcli import tensorboard
from mnistcli.events import Event

PAGE = (Path(__file__).parents[1] / "configs" / "README.md").read_text()


@pytest.fixture
def line(tiny_data: Path) -> list[str]:
    fixed = ["--data-dir", str(tiny_data), "--batch-size", "32", "--threads", "1", "--no-plots"]
    return ["train", "--model", "v6", "--epochs", "2", *fixed]


@pytest.mark.slow
def test_tensorboard_gets_scalars_confusion_and_misread_digits(
    cli: Cli, line: list[str], tmp_path: Path
) -> None:
    pytest.importorskip("tensorboard", reason="the extra [tensorboard] is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    done = cli(*line, "--out", str(tmp_path / "run"), "--log", "tensorboard")
    assert done.returncode == 0, done.stderr
    found = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    assert [event.step for event in found.Scalars("accuracy/test")] == [1, 2]
    assert set(found.Tags()["images"]) == {"confusion", "misread"}
    assert set(found.Tags()["scalars"]) >= {"loss/train", "loss/test", "lr"}


def test_a_missing_package_is_named_before_training(
    cli: Cli, line: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensorboard, "find_spec", lambda name: None)
    done = cli(*line, "--out", str(tmp_path / "run"), "--log", "tensorboard")
    assert done.returncode == 5
    assert "pip install tensorboard" in done.stderr
    assert not (tmp_path / "run").exists()


def test_an_unknown_log_names_the_nearest(cli: Cli, line: list[str], tmp_path: Path) -> None:
    done = cli(*line, "--out", str(tmp_path / "run"), "--log", "tensorbord")
    assert done.returncode == 2
    assert "did you mean 'tensorboard'?" in done.stderr


def broken() -> object:
    def emit(event: Event) -> None:
        raise RuntimeError("no network")

    return emit


@pytest.mark.slow
def test_a_log_that_fails_is_left_out_and_the_run_goes_on(
    cli: Cli, line: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    point = metadata.EntryPoint("broken", f"{__name__}:broken", "mnistcli.sinks")
    monkeypatch.setattr(metadata, "entry_points", lambda **words: [point])
    done = cli(*line, "--out", str(tmp_path / "run"), "--log", "broken")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("--log broken is left out: RuntimeError: no network") == 1
    assert (tmp_path / "run" / "result.json").exists()


@pytest.mark.processes
def test_the_sink_of_the_page_works_from_a_package_of_its_own(
    line: list[str], tmp_path: Path
) -> None:
    code = re.search(r"<!-- sink -->\n```python\n(.*?)```", PAGE, re.DOTALL)
    assert code is not None
    assert len(code[1].splitlines()) <= 15
    (tmp_path / "mylog.py").write_text(code[1])
    info = tmp_path / "mylog-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mylog\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[mnistcli.sinks]\nmylog = mylog:sink\n")
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); from mnistcli.cli.app import run; "
        "sys.exit(run(sys.argv[2:]))"
    )
    words = [*line, "--out", str(tmp_path / "run"), "--log", "mylog"]
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path), *words], capture_output=True, text=True,
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "run" / "mylog.jsonl").read_text().splitlines()) == 2
