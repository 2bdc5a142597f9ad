"""Faults that a forked `mnistcli` meets: the tests' side, so that the package needs no hook."""

from __future__ import annotations

import ctypes
import io
import os
import resource
import signal
import stat
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Observer = Callable[[str, str], None]

# The steps of one `write_atomically`, as `watch_writes` names them.
STEPS = (
    "temp opened", "half written", "before fsync", "before link", "after link",
    "after previous", "before replace", "after replace", "folder synced",
)  # fmt: skip


class HalfWritten:
    """A binary file that stops to be looked at in the middle of each write."""

    def __init__(self, file: Any, seen: Callable[[], None]) -> None:
        self._file, self._seen = file, seen

    def write(self, data: bytes) -> None:
        self._file.write(data[: len(data) // 2])
        self._file.flush()
        self._seen()
        self._file.write(data[len(data) // 2 :])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> HalfWritten:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()


def watch_writes(seen: Observer, patch: Callable[[Any, str, Any], None] = setattr) -> None:
    """Call `seen(file name, step)` at every step of every atomic write of this process."""
    real_open, fsync, link, replace = io.open, os.fsync, os.link, os.replace
    name = [""]

    def opened(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        handle = real_open(file, mode, *args, **kwargs)
        if mode != "xb" or not str(file).endswith(".mnistcli-tmp"):
            return handle
        name[0] = Path(file).name[1:].rsplit(".", 2)[0]
        seen(name[0], "temp opened")
        return HalfWritten(handle, lambda: seen(name[0], "half written"))

    def synced(descriptor: int) -> None:
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        if not is_folder:
            seen(name[0], "before fsync")
        fsync(descriptor)
        if is_folder:
            seen(name[0], "folder synced")

    def linked(old: Any, new: Any) -> None:
        seen(name[0], "before link")
        link(old, new)
        seen(name[0], "after link")

    def replaced(old: Any, new: Any) -> None:
        keeps = str(new).endswith(".previous")
        if not keeps:
            seen(name[0], "before replace")
        replace(old, new)
        seen(name[0], "after previous" if keeps else "after replace")

    patch(io, "open", opened)
    for name_in_os, function in (("fsync", synced), ("link", linked), ("replace", replaced)):
        patch(os, name_in_os, function)


def kill_at(name: str, step: str, times: int = 1) -> None:
    """Die at the n-th time that a file's write reaches a step; `*` is any file or step."""
    left = [times]

    def seen(file: str, now: str) -> None:
        if name in (file, "*") and step in (now, "*"):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    watch_writes(seen)


def count_steps(report: str) -> None:
    """Append a character to a file at every step of every write."""
    watch_writes(lambda file, step: os.write(descriptor, b"."))  # type: ignore[arg-type,return-value]
    descriptor = os.open(report, os.O_WRONLY | os.O_CREAT | os.O_APPEND)


def wait_in(place: str, marker: str, times: int = 1) -> None:
    """Touch a marker where `module:function` is called the n-th time, then wait for a signal."""
    from importlib import import_module

    module_name, _, function = place.partition(":")
    module = import_module(module_name)
    real, left = getattr(module, function), [times]

    def waiting(*args: Any, **kwargs: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            wait_for_signal(marker)
        return real(*args, **kwargs)

    setattr(module, function, waiting)


def wait_in_write(file: str, step: str, marker: str) -> None:
    """Touch a marker at a step of a file's write, then wait for a signal."""
    watch_writes(lambda name, now: (name, now) == (file, step) and wait_for_signal(marker))  # type: ignore[func-returns-value,arg-type,return-value]


def wait_for_signal(marker: str) -> None:
    from mnistcli.cli.signals import flag

    Path(marker).touch()
    deadline = time.monotonic() + 30
    while flag() is None and time.monotonic() < deadline:
        time.sleep(0.005)


def hang_in(place: str, marker: str, times: int = 1) -> None:
    """As `wait_in`, but go on waiting after a signal: the batch that takes too long."""
    wait_in(place, marker, times)
    from mnistcli.cli.signals import flag

    flag.__class__.__call__ = lambda self: None  # type: ignore[method-assign,assignment]


def with_variable(name: str, value: str) -> None:
    """Set a variable of the environment."""
    os.environ[name] = value


def without_override() -> None:
    """Let the modes of files bind root too, as they bind everybody else."""
    libc = ctypes.CDLL(None, use_errno=True)
    head = ctypes.create_string_buffer(struct.pack("=Ii", 0x20080522, 0))
    body = ctypes.create_string_buffer(24)
    assert libc.capget(head, body) == 0
    sets = [word & ~0b110 for word in struct.unpack("6I", body.raw)]  # DAC_OVERRIDE, READ_SEARCH
    assert libc.capset(head, ctypes.create_string_buffer(struct.pack("6I", *sets), 24)) == 0


def write_to(path: str) -> None:
    """Let stdout and stderr be this file."""
    descriptor = os.open(path, os.O_WRONLY)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)


def full_disk_after(epochs: int, most_bytes: int) -> None:
    """Let no file grow beyond a size once so many epochs are saved."""
    from mnistcli.engine import train

    real, left = train.keep_epoch, [epochs]

    def kept(*args: Any) -> None:
        if left[0] == 0:
            resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
        left[0] -= 1
        real(*args)

    train.keep_epoch = kept


def jumping_clock() -> None:
    """Let the wall clock run backwards, an hour at each look."""
    now = [time.time()]

    def jumped() -> float:
        now[0] -= 3600
        return now[0]

    time.time = jumped  # type: ignore[assignment]


def as_rank(rank: int, size: int, port: int) -> None:
    """Make the process one of several that torch's launcher started on this machine."""
    place = {"RANK": rank, "WORLD_SIZE": size, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": size}
    address = {"MASTER_ADDR": "localhost", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "test"}
    address["TORCHELASTIC_USE_AGENT_STORE"] = True  # the store is the launcher's
    os.environ |= {key: str(value) for key, value in (place | address).items()}
