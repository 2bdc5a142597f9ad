"""A process that has imported torch once and forks a `mnistcli` for every request: 0.1 s a start.

A request is one line of JSON; so is its answer. The forked command line is as real as a fresh one:
own signals, own exit, killed by its own number.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any


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

    def ended(self) -> bool:
        """Return whether it has ended; then `code` (negative: a signal) and `peak_mib` are set."""
        if self.code is None and (ended := self._server.ask({"wait": self.pid})) is not None:
            self.code, self.peak_mib = ended
        return self.code is not None

    def wait(self, timeout: float = 60) -> int:
        """Return the exit code; kill it and fail after too long a time."""
        self.until(self.ended, timeout)
        assert self.code is not None
        return self.code

    def until(self, happened: Any, timeout: float = 60) -> None:
        """Return once a text stands in its output, or a function says so, or it has ended."""
        deadline = time.monotonic() + timeout
        test = happened if callable(happened) else lambda: happened in self.out
        while not test() and not self.ended():
            if time.monotonic() > deadline:
                os.kill(self.pid, 9)
                raise AssertionError(f"no end or event in {timeout} s: {self.out}{self.err}")
            time.sleep(0.005)

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
        """Start two command lines as torch's launcher does: ranks 0 and 1 of one launch."""
        with socket.create_server(("localhost", 0)) as free:
            port = free.getsockname()[1]
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


def serve() -> None:
    """Answer until the input ends; a forked child returns to become a command line."""
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            pid, status, used = os.wait4(request["wait"], os.WNOHANG)
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


if __name__ == "__main__":
    for module in ("cli.app", "runs.single", "runs.trained", "engine.machine"):
        import_module(f"mnistcli.{module}")
    import_module("torch._dynamo")  # torch's optimizers import it: 2 s
    import_module("torchinfo")
    serve()
    from mnistcli.__main__ import main

    main()
