"""Kill a run again and again, resume it to its end, and hold it against one that nothing stopped.

    python tests/soak.py random SEED KILLS    SIGKILL or SIGTERM at random times
    python tests/soak.py steps 1              SIGKILL at every step of every write, one by one

prints one line of JSON.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

from conftest import spawn, write_idx
from forkserver import Server
from interrupted import weights_of

from mnistcli.data import mnist
from mnistcli.engine import checkpoint


def words(folder: Path, epochs: int) -> list[str]:
    """Write tiny data; return the words of a run on it, without --out."""
    dataset = mnist.load()
    for prefix, part, count in (("train", dataset.train, 96), ("t10k", dataset.test, 40)):
        write_idx(folder / "idx", prefix, mnist.Labelled(part.images[:count], part.labels[:count]))
    fixed = ["--batch-size", "32", "--threads", "1", "--data-dir", str(folder / "idx")]
    return ["train", "--model", "v3", "--epochs", str(epochs), *fixed, "--resume", "auto"]


def epochs_saved(run: Path) -> int:
    """Return how many epochs a folder holds; its last.pt is whole whenever it is there."""
    last = run / "last.pt"
    return len(checkpoint.read(last)["history"]) if last.exists() else 0


def finish(server: Server, line: list[str], run: Path, whole: str) -> None:
    """Resume a run to its end; nothing may tell it from one that was never stopped."""
    done = server.start(*line, "--out", run)
    assert done.wait(timeout=600) == 0, done.err  # perhaps beside other work
    assert weights_of(run) == whole
    assert not list(run.rglob(".*.mnistcli-tmp"))


def random_kills(seed: int, kills: int, epochs: int = 24) -> dict[str, Any]:
    """Start the run over and over, each start stopped at a random time, until enough were hit."""
    random, hit, finished = Random(seed), Counter[str](), 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        server, line = Server(folder), words(folder, epochs)
        assert server.run(*line, "--out", folder / "whole").code == 0
        whole = weights_of(folder / "whole")
        while hit.total() < kills:
            run, done = folder / f"run-{finished}", False
            while not done and hit.total() < kills:
                done = stop_once(server, [*line, "--out", str(run)], run, random, hit)
            finish(server, line, run, whole)
            finished += 1
        server.close()
    return {"soak": "random", "seed": seed, "epochs": epochs, **hit, "finished_equal": finished}


def stop_once(
    server: Server, line: list[str], run: Path, random: Random, hit: Counter[str]
) -> bool:
    """Start, wait, stop; nothing that was saved is lost. Return whether it had finished.

    A third of the starts are fresh processes, stopped in their first two seconds, imports
    included; the others are stopped within a second after the run began.
    """
    before = epochs_saved(run)
    number = random.choice((signal.SIGKILL, signal.SIGTERM))
    if random.randrange(3):
        code, errors = stop_running(server, line, number, random.uniform(0, 1))
    else:
        code, errors = stop_starting(line, number, random.uniform(0, 2))
    if code == 0:
        return True
    assert code in (-number, 128 + number), errors
    assert code < 0 or "--resume" in errors, errors
    assert epochs_saved(run) >= before
    hit[number.name] += 1
    return False


def stop_running(server: Server, line: list[str], number: int, delay: float) -> tuple[int, str]:
    child = server.start(*line)
    child.until("start ")
    time.sleep(delay)
    child.signal(number)
    return child.wait(), child.err


def stop_starting(line: list[str], number: int, delay: float) -> tuple[int, str]:
    child = spawn(*line)
    try:
        child.wait(delay)
    except subprocess.TimeoutExpired:
        child.send_signal(number)
    _, errors = child.communicate(timeout=60)
    return child.returncode, errors


def every_step(_seed: int) -> dict[str, Any]:
    """Kill a run of two epochs at the first, second, … step of its writes, until there is none."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        server, line = Server(folder), words(folder, 2)
        assert server.run(*line, "--out", folder / "whole").code == 0
        step, whole = 1, weights_of(folder / "whole")
        while True:
            run = folder / f"run-{step}"
            killed = server.run(*line, "--out", run, sabotage=("kill_at", "*", "*", step))
            if killed.code == 0:
                break
            assert killed.code == -signal.SIGKILL, killed.err
            finish(server, line, run, whole)
            step += 1
        server.close()
    return {"soak": "steps", "epochs": 2, "SIGKILL": step - 1, "finished_equal": step - 1}


if __name__ == "__main__":
    started = time.monotonic()
    soak = {"random": random_kills, "steps": every_step}[sys.argv[1]]
    record = soak(*map(int, sys.argv[2:]))  # type: ignore[operator]
    seconds = round(time.monotonic() - started)
    sys.stdout.write(json.dumps(record | {"lost": 0, "seconds": seconds}) + "\n")
