"""Row 22 of the fault matrix: a board without a battery thinks it is 1970, or 2108."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mnistcli.results import setlog

# Below libc, for Python, torch and zip alike; the shift may change while the process runs.
SHIM = """
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = syscall(SYS_clock_gettime, clock, now);
    const char *shift = getenv("CLOCK_SHIFT");
    if (clock == CLOCK_REALTIME && shift) now->tv_sec += atoll(shift);
    return failed;
}
int gettimeofday(struct timeval *now, void *zone) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec; now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}
time_t time(time_t *to) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (to) *to = exact.tv_sec;
    return exact.tv_sec;
}
"""

# Trains from 2108 on; at the end of the first epoch the clock goes back to 1970.
PROGRAM = """
import os, sys
from pathlib import Path
from mnistcli.cli.app import run
from mnistcli.engine import train

line, run_dir = sys.argv[1:-1], Path(sys.argv[-1])
keep = train.keep_epoch
def kept(*args):
    keep(*args)
    os.environ["CLOCK_SHIFT"] = os.environ["TO_1970"]
train.keep_epoch = kept

assert run([*line, "--out", str(run_dir)]) == 0
for name in ("result.json", "last.pt", "curves.png"):
    (run_dir / name).unlink()
(run_dir / "last.pt.previous").rename(run_dir / "last.pt")
os.environ["CLOCK_SHIFT"] = os.environ["TO_2108"]
assert run([*line, "--out", str(run_dir), "--resume", "auto"]) == 0
data = line[line.index("--data-dir"):][:2]
for words in (["evaluate", str(run_dir), *data], ["report", str(run_dir)], ["summary", "v3"]):
    assert run(words) == 0
"""


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shim")
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("no C compiler for the shim")
    (folder / "clock.c").write_text(SHIM)
    library = folder / "clock.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, folder / "clock.c"], check=True)
    return library


@pytest.mark.processes
def test_row_22_a_run_between_1970_and_2108_loses_nothing(
    shim: Path, tiny_data: Path, tmp_path: Path
) -> None:
    to_1970 = 86_400 - int(time.time())
    to_2108 = 4_354_819_200 - int(time.time())
    shifts = {"TO_1970": str(to_1970), "TO_2108": str(to_2108), "CLOCK_SHIFT": str(to_2108)}
    line = ["train", "--model", "v3", "--epochs", "2", "--batch-size", "32", "--threads", "1"]
    line += ["--data-dir", str(tiny_data), str(tmp_path / "run")]
    environment = {**os.environ, **shifts, "LD_PRELOAD": str(shim)}
    command = [sys.executable, "-c", PROGRAM, *line]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "pictures not drawn" not in done.stderr
    first, second = json.loads((tmp_path / "run" / "env.json").read_text())["sessions"]
    assert (first["started"][:4], first["ended"][:4]) == ("2108", "1970")
    assert (second["from_epoch"], second["outcome"]) == (1, "finished")
    assert all(epoch["train_seconds"] >= 0 for epoch in epochs(tmp_path / "run"))


def epochs(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_the_set_to_continue_is_the_one_with_most_runs_whatever_its_date(tmp_path: Path) -> None:
    head = {"recipe_digest": "a", "data": "b", "seeds": [0, 1]}
    rows = [{"seed": 0, "run": "r", "exit_code": 0}]
    for name, runs in (("19700101-000000-s0-1", rows), ("21080101-000000-s0-1", [])):
        (tmp_path / name).mkdir()
        document = head | {"launch": name, "rows": runs, "exit_code": None}
        setlog.set_file(tmp_path / name).write_text(json.dumps(document))
    found = setlog.find(tmp_path, head)
    assert found is not None
    assert found.name.startswith("1970")
