"""Files and folders that this user may not read: said so, with exit 5, and nothing takes their
place."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from forkserver import Child
from interrupted import Runs

UNREADABLE = ("without_override",)


@contextmanager
def closed(path: Path) -> Iterator[None]:
    """Take away everybody's right to a file or folder."""
    mode = path.stat().st_mode
    path.chmod(0)
    try:
        yield
    finally:
        path.chmod(mode)


@pytest.fixture(scope="module")
def parent(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two finished runs, `a` and `b`."""
    folder = tmp_path_factory.mktemp("runs")
    for name, seed in (("a", "0"), ("b", "1")):
        assert runs.run(folder / name, "--seed", seed).code == 0
    return folder


def ask(runs: Runs, *words: object) -> Child:
    return runs.server.run(*words, sabotage=UNREADABLE)


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("a/result.json", "compare a"),
        ("a/result.json", "report a"),
        ("a/result.json", "train"),
        ("a/last.pt", "train"),
        ("a/last.pt", "evaluate a"),
        ("a/recipe.yaml", "train --resume a"),
        ("a/metrics.jsonl", "report a --svg a.svg"),
        ("a", "compare a"),
        ("a", "evaluate a"),
        ("a", "predict a one.png"),
        ("a", "train --resume a"),
        ("a/recipe.yaml", "train --recipe a/recipe.yaml"),
        ("a/recipe.yaml", "report --update a/recipe.yaml"),
    ],
)
def test_what_may_not_be_read_is_not_readable_and_stays(
    file: str, line: str, runs: Runs, parent: Path
) -> None:
    words = [str(parent / word) if word[0] == "a" else word for word in line.split()]
    if line == "train":
        words = [*runs.words, "--out", str(parent / "a"), "--resume", "auto"]
    before = {path: path.stat().st_mtime_ns for path in (parent / "a").iterdir()}
    with closed(parent / file):
        done = ask(runs, *words)
    assert (done.code, "Permission denied" in done.err) == (5, True), done.err
    assert f"ls -ld {parent / file}" in done.err
    assert "damaged" not in done.err
    assert {path: path.stat().st_mtime_ns for path in (parent / "a").iterdir()} == before


@pytest.mark.parametrize("file", ["a/result.json", "a"])
@pytest.mark.parametrize("reference", ["{}/*", "{}"])
def test_one_run_that_may_not_be_read_is_one_note(
    file: str, reference: str, runs: Runs, parent: Path
) -> None:
    with closed(parent / file):
        done = ask(runs, "compare", reference.format(parent), "--format", "csv")
    assert done.code == 0, done.err
    assert "notice: skipped: not readable" in done.err
    assert str(parent / file) in done.err
    assert len(done.out.splitlines()) == 2


def test_a_checkpoint_alone_among_runs_is_one_note(runs: Runs, parent: Path) -> None:
    shutil.copy(parent / "a" / "best.pt", parent / "alone.pt")
    done = runs.server.run("compare", f"{parent}/*", "--format", "csv")
    (parent / "alone.pt").unlink()
    assert done.code == 0, done.err
    assert "notice: skipped: a row needs a finished run" in done.err


def test_sessions_that_may_not_be_read_are_not_lost(runs: Runs, tmp_path: Path) -> None:
    run = tmp_path / "run"
    runs.killed(run)
    before = (run / "env.json").read_bytes()
    with closed(run / "env.json"):
        assert runs.run(run, "--resume", "auto", sabotage=UNREADABLE).code == 5
    assert (run / "env.json").read_bytes() == before
    runs.finish(run)


def test_pictures_that_may_not_be_read_are_not_readable(
    runs: Runs, tiny_data: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_data, tmp_path / "idx")
    for place in ("train-images-idx3-ubyte", ""):
        with closed(tmp_path / "idx" / place):
            line = ("evaluate", "v3", "--data-dir", tmp_path / "idx")
            done = ask(runs, *line)
        assert (done.code, "not readable: Permission denied" in done.err) == (5, True), done.err
