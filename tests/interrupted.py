"""A short run that a fault stops; resumed, it ends with the weights of an uninterrupted run."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from forkserver import Child, Server

from mnistcli.engine import checkpoint


def weights_of(folder: Path) -> str:
    """Return the hash of a run's last weights."""
    return checkpoint.weights_hash(checkpoint.read(folder / "last.pt")["weights"])


class Runs:
    """One run of three short epochs, started in any folder and with any fault."""

    def __init__(self, server: Server, data: Path, folder: Path) -> None:
        self.server, self.folder = server, folder
        fixed = ["--batch-size", "32", "--threads", "1", "--data-dir", str(data), "--no-plots"]
        self.words = ["train", "--model", "v3", "--epochs", "3", *fixed]
        done = self.run(folder / "whole")
        assert done.code == 0, done.err
        self.whole = weights_of(folder / "whole")

    def start(self, out: Path, *words: str, sabotage: Sequence[Any] = ()) -> Child:
        """Start the run in a folder."""
        return self.server.start(*self.words, "--out", out, *words, sabotage=sabotage)

    def run(self, out: Path, *words: str, sabotage: Sequence[Any] = ()) -> Child:
        """Start it and wait for its end."""
        child = self.start(out, *words, sabotage=sabotage)
        child.wait()
        return child

    def killed(self, out: Path, epochs: int = 1) -> None:
        """Put into a folder a run that was killed once so many epochs were saved."""
        kept = self.folder / f"killed-{epochs}"
        if not kept.exists():
            killed = self.run(kept, sabotage=("kill_at", "last.pt", "folder synced", epochs))
            assert killed.code == -signal.SIGKILL, killed.err
        shutil.copytree(kept, out)

    def finish(self, out: Path) -> None:
        """Resume until the end: the weights are those of the run that nothing stopped."""
        resumed = self.run(out, "--resume", "auto")
        assert resumed.code == 0, resumed.err
        self.check(out)

    def check(self, out: Path) -> None:
        """Hold a finished run against the one that nothing stopped."""
        assert weights_of(out) == self.whole
        assert [path.name for path in out.rglob(".*.mnistcli-tmp")] == []
