"""Rows 1, 2, 7 and 8 of the fault matrix: a writer that dies, a disk that is full."""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest
from interrupted import Runs
from sabotage import STEPS, watch_writes

from mnistcli.engine import checkpoint
from mnistcli.files import write_atomically

# In the second epoch's last.pt; links start there. best.pt of the first stands before its last.pt.
KILLS = [("last.pt", step, 1 if "link" in step or "previous" in step else 2) for step in STEPS]
KILLS += [("best.pt", "half written", 1), ("best.pt", "folder synced", 1)]


@pytest.mark.parametrize(("file", "step", "times"), KILLS)
def test_row_1_a_kill_inside_a_write_loses_at_most_an_epoch(
    file: str, step: str, times: int, runs: Runs, tmp_path: Path
) -> None:
    killed = runs.run(tmp_path / "run", sabotage=("kill_at", file, step, times))
    assert killed.code == -signal.SIGKILL
    if file == "last.pt":
        assert checkpoint.read(tmp_path / "run" / "last.pt")["history"]
    runs.finish(tmp_path / "run")


def test_row_1_a_damaged_file_is_never_kept_as_the_previous_one(runs: Runs, tmp_path: Path) -> None:
    run = tmp_path / "run"
    runs.killed(run, epochs=2)
    (run / "last.pt").write_bytes(b"rot")
    killed = runs.run(run, "--resume", "auto", sabotage=("kill_at", "last.pt", "after previous"))
    assert killed.code == -signal.SIGKILL
    assert "going back" in killed.err
    runs.finish(run)


def test_row_2_a_run_killed_at_random_times_ends_as_if_it_were_not(
    runs: Runs, tmp_path: Path
) -> None:
    random = Random(2)
    for _ in range(6):
        child = runs.start(tmp_path / "run", "--resume", "auto")
        time.sleep(random.uniform(0.05, 0.8))
        child.signal(signal.SIGKILL)
        assert child.wait() in (0, -signal.SIGKILL), child.err
    runs.finish(tmp_path / "run")


def test_row_7_a_full_disk_names_the_last_good_epoch(runs: Runs, tmp_path: Path) -> None:
    run = tmp_path / "run"
    full = runs.run(run, sabotage=("full_disk_after", 1, 20_000))
    assert full.code == 5
    assert "epoch 1 is the last one saved" in full.err
    assert len(checkpoint.read(run / "last.pt")["history"]) == 1
    assert not list(run.rglob(".*.mnistcli-tmp"))
    runs.finish(run)


def test_row_7_a_full_disk_below_the_logs_stops_no_run(runs: Runs, tmp_path: Path) -> None:
    full = ("write_to", "/dev/full")
    assert runs.run(tmp_path / "run", sabotage=full).code == 0
    runs.check(tmp_path / "run")
    lost = runs.run(tmp_path / "run", "--resume", "auto", "--json", sabotage=full)
    assert lost.code == 5  # here stdout is the product


@pytest.mark.parametrize("out", ["file/run", "/proc/run", "/dev/full"])
def test_row_8_an_impossible_folder_is_found_before_training(
    out: str, runs: Runs, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    refused = runs.run(tmp_path / out)
    assert refused.code == 5
    assert out in refused.err
    assert "epoch=" not in refused.out


@dataclass
class Disk:
    """Names and contents after a power cut: what may be there, of what was asked for.

    `synced` are contents by file that are safe; the others may be old, empty, half or whole.
    """

    names: dict[str, str] = field(default_factory=dict)
    synced: dict[str, bytes] = field(default_factory=dict)

    def possible(self, name: str) -> set[bytes]:
        file = self.names[name]
        return {self.synced[file]} if file in self.synced else {b"", b"half"}


Operation = tuple[str, ...]


def recorded(path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Operation]:
    """Return the operations of a real write that has a file to keep, in order."""
    operations: list[Operation] = []
    meaning: dict[str, Operation] = {
        "temp opened": ("open", "temp"), "half written": ("write", "temp"),
        "before fsync": ("fsync", "temp"), "before link": ("link", "last", "link"),
        "after previous": ("replace", "link", "previous"),
        "after replace": ("replace", "temp", "last"), "folder synced": ("sync folder",),
    }  # fmt: skip
    write_atomically(path, b"old")
    watch_writes(
        lambda _, step: operations.append(meaning[step]) if step in meaning else None,
        monkeypatch.setattr,
    )
    write_atomically(path, b"new", keep_previous=True)
    return operations


def after_power_cut(operations: Sequence[Operation], kept: int) -> Disk:
    """Return what is on the disk, when of the unsynced changes of names only `kept` survive.

    Names change in order, as a journal keeps them; contents that no fsync waited for are lost.
    """
    disk = Disk({"last": "first"}, {"first": b"old"})
    renames = [
        i for i, operation in enumerate(operations) if operation[0] in ("open", "link", "replace")
    ]
    folder_synced = max((i for i, o in enumerate(operations) if o == ("sync folder",)), default=-1)
    survive = [i for i in renames if i < folder_synced]
    survive += [i for i in renames if i > folder_synced][:kept]
    for index, operation in enumerate(operations):
        match operation:
            case ("open", name) if index in survive:
                disk.names[name] = "second"
            case ("fsync", _):
                disk.synced["second"] = b"new"
            case ("link", old, new) if index in survive:
                disk.names[new] = disk.names[old]
            case ("replace", old, new) if index in survive:
                disk.names[new] = disk.names.pop(old)
    return disk


def first_loss(operations: Sequence[Operation]) -> tuple[int, int] | None:
    """Return the prefix and survivors at which `last` or `previous` is neither old nor new."""
    for stop in range(len(operations) + 1):
        for kept in range(len(operations) + 1):
            disk = after_power_cut(operations[:stop], kept)
            allowed = {b"new"} if stop == len(operations) else {b"old", b"new"}
            if "last" not in disk.names or not disk.possible("last") <= allowed:
                return stop, kept
            if "previous" in disk.names and not disk.possible("previous") <= {b"old", b"new"}:
                return stop, kept
    return None


def test_row_1_every_prefix_of_a_write_leaves_a_loadable_file_even_after_a_power_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    operations = recorded(tmp_path / "last.pt", monkeypatch)
    assert [operation[0] for operation in operations] == [
        "open", "write", "fsync", "link", "replace", "replace", "sync folder",
    ]  # fmt: skip
    assert first_loss(operations) is None


@pytest.mark.parametrize("left_out", ["fsync", "sync folder"])
def test_row_1_the_model_finds_a_writer_that_syncs_too_little(
    left_out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    operations = recorded(tmp_path / "last.pt", monkeypatch)
    assert first_loss([o for o in operations if o[0] != left_out]) is not None
