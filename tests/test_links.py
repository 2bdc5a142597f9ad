"""Row 23 of the fault matrix: a stranger prepared the folder, with links and pipes of our names."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from conftest import Cli
from interrupted import Runs, weights_of

from mnistcli.engine import checkpoint
from mnistcli.errors import EnvironmentFault, UsageError
from mnistcli.files import write_atomically, write_where_named
from mnistcli.results import runlog, setlog, writeup
from mnistcli.results.lock import is_held, lock

OURS = (
    "last.pt", "best.pt", "last.pt.previous", "predictions.pt", "metrics.csv", "metrics.jsonl",
    "env.json", "result.json", "curves.png", "confusion.png", "misclassified.png",
)  # fmt: skip
ODD = ("link", "dangling", "link to folder", "fifo")


def plant(path: Path, kind: str) -> Path:
    """Put something else where a file of ours goes; return what must stay as it is."""
    victim = path.parent.parent / f"victim-of-{path.name}"
    match kind:
        case "link":
            victim.write_text("precious")
            path.symlink_to(victim)
        case "dangling":
            path.symlink_to(victim)
        case "link to folder":
            victim.mkdir()
            path.symlink_to(victim)
        case "fifo":
            os.mkfifo(path)
    return victim


def test_row_23_a_resumed_run_writes_through_no_link_of_its_folder(
    runs: Runs, tmp_path: Path
) -> None:
    """The stranger's folder holds a run of one epoch; every later file is a link to a victim."""
    run = tmp_path / "run"
    runs.killed(run)
    (run / ".lock").unlink()
    for name in OURS[1:]:
        (run / name).unlink(missing_ok=True)
    victims = [plant(run / name, "link") for name in OURS[1:]]
    done = runs.run(run, "--plots", "--resume", "auto")
    assert done.code == 0, done.err
    assert {victim.read_text() for victim in victims} == {"precious"}
    links = {path.name for path in run.iterdir() if path.is_symlink()}
    assert links <= {"best.pt"}  # no later epoch need be better
    assert weights_of(run) == runs.whole


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("keep_previous", [False, True])
def test_what_is_no_file_of_ours_is_replaced(
    kind: str, keep_previous: bool, tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    path = tmp_path / "run" / "last.pt"
    victim = plant(path, kind)
    before = victim.read_text() if victim.is_file() else victim.exists()
    write_atomically(path, b"new", keep_previous=keep_previous)
    assert (path.is_symlink(), path.read_bytes()) == (False, b"new")
    assert (victim.read_text() if victim.is_file() else victim.exists()) == before
    assert [one.name for one in (tmp_path / "run").iterdir()] == ["last.pt"]


def test_a_folder_in_place_of_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "last.pt").mkdir()
    with pytest.raises(EnvironmentFault, match="Is a directory"):
        write_atomically(tmp_path / "last.pt", b"new", keep_previous=True)
    assert [one.name for one in tmp_path.iterdir()] == ["last.pt"]


def test_a_named_file_is_followed_and_keeps_its_mode(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "real").chmod(0o640)
    (tmp_path / "named").symlink_to(tmp_path / "real")
    write_where_named(tmp_path / "named", b"new")
    assert ((tmp_path / "real").read_bytes(), (tmp_path / "named").is_symlink()) == (b"new", True)
    assert (tmp_path / "real").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("kind", [*ODD, "folder", "hard link", "text"])
def test_a_lock_of_a_stranger_is_refused_and_stays(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "run" / ".lock"
    path.parent.mkdir()
    victim = plant(path, kind)
    if kind == "folder":
        path.mkdir()
    elif kind in ("hard link", "text"):
        victim.write_text("precious" if kind == "text" else "12")
        path.hardlink_to(victim)
        if kind == "text":
            victim.unlink()
    assert not is_held(path.parent)
    with pytest.raises((EnvironmentFault, UsageError), match="lock"), lock(path.parent):
        pass
    left = path if kind == "text" else victim
    assert not left.is_file() or left.read_text() in ("precious", "12")
    assert os.path.lexists(path)


def test_a_lock_is_there_only_while_held_and_is_taken_from_the_dead(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text("999999999")
    with lock(tmp_path):
        assert (tmp_path / ".lock").read_text() == str(os.getpid())
        assert is_held(tmp_path)
    assert (list(tmp_path.iterdir()), is_held(tmp_path)) == ([], False)


def test_a_lock_that_was_replaced_meanwhile_is_not_removed(tmp_path: Path) -> None:
    with lock(tmp_path):
        (tmp_path / ".lock").unlink()
        (tmp_path / ".lock").write_text("1")
    assert (tmp_path / ".lock").read_text() == "1"


@pytest.mark.parametrize("name", [".lock", "set.json", ".a.0.mnistcli-tmp"])
@pytest.mark.parametrize("kind", ODD)
def test_a_folder_with_a_link_of_our_name_is_not_empty(
    name: str, kind: str, tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    plant(tmp_path / "run" / name, kind)
    with pytest.raises(UsageError, match="not empty"):
        runlog.refuse_occupied(tmp_path / "run")


@pytest.mark.parametrize(("name", "text"), [(".lock", "poetry.lock"), ("set.json", '{"a": 1}')])
def test_a_folder_with_anothers_file_is_not_empty(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UsageError, match="not empty"):
        runlog.refuse_occupied(tmp_path)
    (tmp_path / name).write_text("12" if name == ".lock" else json.dumps({"rows": []}))
    runlog.refuse_occupied(tmp_path)


def test_a_set_begins_in_no_folder_of_a_stranger(tmp_path: Path) -> None:
    head = {"launch": "", "recipe_digest": "", "data": "", "seeds": [0]}
    (tmp_path / "real").mkdir()
    (tmp_path / "s0").symlink_to(tmp_path / "real")
    with pytest.raises(UsageError, match="symbolic link"):
        setlog.begin(tmp_path, head, {0: tmp_path / "s0"}, resume=True)
    (tmp_path / "set.json").write_text('{"a": 1}')
    with pytest.raises(UsageError, match="not the record"):
        setlog.begin(tmp_path, head, {}, resume=True)
    assert (tmp_path / "set.json").read_text() == '{"a": 1}'


def test_a_refused_run_leaves_nothing_in_the_folder(train_small: Cli, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes").write_text("mine")
    assert train_small().returncode == 2
    assert [one.name for one in (tmp_path / "run").iterdir()] == ["notes"]


def test_a_named_folder_that_is_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "named").symlink_to(tmp_path / "real")
    runlog.create(tmp_path / "named")
    with lock(tmp_path / "named"):
        checkpoint.write(tmp_path / "named" / "last.pt", {"a": 1})
    assert [one.name for one in (tmp_path / "real").iterdir()] == ["last.pt"]


def test_a_finished_run_gets_the_pictures_that_it_lacks(runs: Runs, tmp_path: Path) -> None:
    run = tmp_path / "run"
    runs.run(run, "--plots", sabotage=("kill_at", "confusion.png", "before replace", 1))
    assert (run / "curves.png").exists()
    assert not (run / "confusion.png").exists()
    again = runs.run(run, "--plots", "--resume", "auto")
    assert (again.code, "already finished" in again.err + again.out) == (0, True)
    assert {*writeup.PICTURES} <= {path.name for path in run.iterdir()}
