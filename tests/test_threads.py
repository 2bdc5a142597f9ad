"""How many threads a run takes where nobody says it: one for each core that is free."""

from __future__ import annotations

import multiprocessing
import os
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_live import metrics

from mnistcli.cli.sink import sink
from mnistcli.engine import threads
from mnistcli.events import EpochFinished, Notice, RunStarted

CPU = torch.device("cpu")


def control_groups(root: Path, lines: str, files: dict[str, str]) -> Path:
    """Write what the kernel shows of a process's control groups below another root."""
    for name, text in {"proc/self/cgroup": lines, **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")
    return root


@pytest.mark.parametrize(
    ("lines", "files", "cores"),
    [
        ("0::/", {"sys/fs/cgroup/cpu.max": "150000 100000"}, 1.5),
        ("0::/", {"sys/fs/cgroup/cpu.max": "max 100000"}, None),
        ("0::/a/b", {"sys/fs/cgroup/a/cpu.max": "200000 100000"}, 2),
        ("3:cpu,cpuacct:/job", {
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "50000",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000"}, 0.5),
        ("1:cpu:/", {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
                     "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"}, None),
    ],
)  # fmt: skip
def test_a_quota_is_found_in_either_version_and_above(
    lines: str, files: dict[str, str], cores: float | None, tmp_path: Path
) -> None:
    assert threads.quota_cores(control_groups(tmp_path, lines, files)) == cores


def test_a_look_sees_what_others_do_to_our_cores(tmp_path: Path) -> None:
    stat, mine = tmp_path / "stat", sorted(os.sched_getaffinity(0))
    row = "cpu{} {} 0 0 {} 0 0 0 0 0 0\n"
    stat.write_text("".join(row.format(core, 100, 100) for core in mine) + row.format(9999, 1, 1))
    later = "".join(row.format(core, 115, 105) for core in mine) + row.format(9999, 900, 1)
    timer = threading.Timer(0.1, stat.write_text, [later])
    timer.start()
    assert threads.busy_cores(0.3, stat) == pytest.approx(0.75 * len(mine), abs=0.2)
    timer.join()


def test_no_proc_means_no_load(tmp_path: Path) -> None:
    assert threads.busy_cores(0.01, tmp_path / "stat") == 0
    assert threads.quota_cores(tmp_path) is None


def burn(begun: Any) -> None:
    begun.release()
    while True:
        pass


def test_beside_a_process_for_each_core_a_run_takes_one_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cores = len(os.sched_getaffinity(0))
    monkeypatch.setattr(threads, "_OF_TORCH", cores)
    begun = multiprocessing.Semaphore(0)
    burners = [
        multiprocessing.Process(target=burn, args=(begun,), daemon=True) for _ in range(cores)
    ]
    for one in burners:
        one.start()
    assert all(begun.acquire(timeout=60) for _ in burners)
    count, reason = threads.choose(None, CPU)
    for one in burners:
        one.kill()
        one.join()
    assert (count, threads.choose(cores, CPU)) == (1, (cores, None))
    assert cores == 1 or reason is not None


def told(runtime: dict[str, object], speeds: list[float]) -> list[str]:
    """Return the notices of a run whose epochs have these speeds."""
    notices: list[str] = []
    emit = sink(lambda e: notices.append(e.text) if isinstance(e, Notice) else None, plots=False)
    one = metrics(1, cuda=False)
    emit(RunStarted("v3", 1, "v3", (), "muon", None, 0, 9, "test", 9, runtime, "/none"))
    for speed in speeds:
        emit(EpochFinished(replace(one, images_per_second=speed), 9, "/none", (one,)))
    return notices


def test_an_epoch_of_less_than_half_the_speed_names_the_remedy_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mnistcli.cli.sink.record", lambda event: None)  # there is no folder
    two = {"device": "cpu", "threads": 2}
    (notice,) = told(two, [1000, 600, 200, 50])
    assert "33% of the speed" in notice
    assert "--threads 1" in notice
    assert told(two, [1000, 501]) == told(two | {"threads": 1}, [1000, 1]) == []
