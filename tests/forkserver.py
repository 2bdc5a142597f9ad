"""A process that has imported torch once and forks a `mnistcli` for every request: 0.1 s a start.

A request is one line of JSON; so is its answer. The forked command line is as real as a fresh one:
own signals, own exit, killed by its own number.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import typer.main


class Child:
    """A command line that runs; its output goes to two files."""

    def __init__(self, server: Server, pid: int, folder: Path) -> None:
        self._server, self.pid, self._folder = server, pid, folder
        self.code: int | None = None
        self.peak_mib = 0.0

    @property
    def out(self) -> str:
        return (self._folder / "out").read_text()

    @property
    def err(self) -> str:
        return (self._folder / "err").read_text()

    def ended(self, within: float = 0.0) -> bool:
        """Return whether it ends in so many seconds; then `code` (negative: a signal) is set."""
        if self.code is None:
            ended = self._server.ask({"wait": self.pid, "within": within})
            self.code, self.peak_mib = ended or (None, 0.0)
        return self.code is not None

    def wait(self, timeout: float = 300) -> int:
        """Return the exit code; kill it and fail after too long a time."""
        self.until(lambda: self.ended(within=0.5), timeout)
        assert self.code is not None
        return self.code

    def until(self, happened: Any, timeout: float = 300) -> None:
        """Return once a text stands in its output, or a function says so, or it has ended."""
        deadline = time.monotonic() + timeout
        test = happened if callable(happened) else lambda: happened in self.out
        while not test() and not self.ended(within=0.02):
            if time.monotonic() > deadline:
                os.kill(self.pid, 9)
                raise AssertionError(f"no end or event in {timeout} s: {self.out}{self.err}")

    def signal(self, number: int) -> None:
        """Send a signal, if it still runs."""
        if not self.ended():
            os.kill(self.pid, number)


class Server:
    """Starts the forking process, and speaks to it."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._count = folder, 0
        command = [sys.executable, str(Path(__file__))]
        environment = {key: value for key, value in os.environ.items() if key != "FORCE_COLOR"}
        pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._process = subprocess.Popen(command, env=environment, **pipes)

    def start(self, *words: object, sabotage: Sequence[Any] = (), cwd: Path | str = ".") -> Child:
        """Fork `mnistcli` with these words; `sabotage` is a function's name and its arguments."""
        folder = self._folder / str(self._count)
        folder.mkdir()
        for name in ("out", "err"):
            (folder / name).touch()
        self._count += 1
        request = {
            "words": [str(word) for word in words],
            "folder": str(folder),
            "sabotage": [str(x) if isinstance(x, Path) else x for x in sabotage],
            "cwd": str(cwd),
        }
        return Child(self, self.ask(request), folder)

    def start_ranks(self, *words: object) -> list[Child]:
        """Start two command lines as torch's launcher does: ranks 0 and 1 of one launch.

        The store in which they meet is ours, as it is the launcher's: it outlives them.
        """
        from torch.distributed import TCPStore

        self._store = TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
        port = self._store.port
        return [self.start(*words, sabotage=("as_rank", rank, 2, port)) for rank in (0, 1)]

    def run(self, *words: object, sabotage: Sequence[Any] = (), cwd: Path | str = ".") -> Child:
        """Start and wait."""
        child = self.start(*words, sabotage=sabotage, cwd=cwd)
        child.wait()
        return child

    def ask(self, request: dict[str, Any]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        self._process.communicate("", timeout=60)


def wait(child: int, seconds: float) -> tuple[int, int, Any]:
    """Wait so long for the end of a child."""
    deadline = time.monotonic() + seconds
    while not (ended := os.wait4(child, os.WNOHANG))[0] and time.monotonic() < deadline:
        time.sleep(0.002)
    return ended


def serve() -> None:
    """Answer until the input ends; a forked child returns to become a command line."""
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            pid, status, used = wait(request["wait"], request["within"])
            answer = [os.waitstatus_to_exitcode(status), used.ru_maxrss / 1024] if pid else None
        else:
            answer = os.fork()
            if answer == 0:
                become(request)
                return
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    os._exit(0)


def become(request: dict[str, Any]) -> None:
    """Turn this forked process into a command line: its files, its folder, its sabotage."""
    os.chdir(request["cwd"])
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(Path(request["folder"], name), os.O_WRONLY), number)
    sys.argv = ["mnistcli", *request["words"]]
    if request["sabotage"]:
        name, *arguments = request["sabotage"]
        getattr(import_module("sabotage"), name)(*arguments)


def leave(code: int) -> None:
    """End as Python does, but for taking its modules apart: 0.5 s, as a fork copies pages."""
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def warm_up() -> None:
    """Do once what every training would do for itself."""
    ours = ("cli.app", "cli.sink", "engine.machine", "runs.single", "runs.trained", "view.plain")
    for module in (*(f"mnistcli.{name}" for name in ours), "torchinfo"):
        import_module(module)
    import once

    from mnistcli import recipe
    from mnistcli.models.registry import MODELS
    from mnistcli.runs import outcome

    for name in recipe.names():
        recipe.packaged(name)
    once.remember()
    typer.main.get_command(import_module("mnistcli.cli.app").app)
    for name in ("v1", "v3"):  # at the first, torch lists the names of all its functions
        outcome.audit(MODELS[name], recipe.model_args(name))
    gc.freeze()  # or a child's first collection copies the pages of all that is there


if __name__ == "__main__":
    warm_up()
    serve()
    from mnistcli.__main__ import main

    try:
        main()
    except SystemExit as end:
        leave(int(str(end.code)))
