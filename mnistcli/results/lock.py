"""A folder's lock: the file `.lock`, there only while a process holds it or where one was killed.

The folder may be a stranger's, so what is called `.lock` is opened without following a link, and
nothing but a number of ours is ever written over.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mnistcli.errors import BusyError, EnvironmentFault, UsageError

NAME = ".lock"
_FLAGS = os.O_NOFOLLOW | os.O_NONBLOCK  # a pipe in its place would hang
_UNWRITABLE = (errno.EROFS, errno.EACCES)


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Hold the folder against other processes; the kernel frees it when its holder dies.

    A folder in which this process may write nothing needs no lock.

    Raises:
        BusyError: another process holds it.
        UsageError: its `.lock` is somebody else's file.
        EnvironmentFault: its `.lock` is a link, a folder or a pipe, or can't be made.
    """
    descriptor = _take(folder)
    try:
        yield
    finally:
        if descriptor is not None:
            if _is_at(descriptor, folder / NAME):
                os.unlink(folder / NAME)  # while held, so that only a holder ever removes it
            os.close(descriptor)


def is_held(folder: Path) -> bool:
    """Return whether a process holds a folder's lock, on any machine that shares the folder."""
    try:
        descriptor = os.open(folder / NAME, os.O_RDONLY | _FLAGS)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def is_ours(content: bytes) -> bool:
    """Return whether a lock file holds what `lock` writes: the number of a process, or nothing."""
    return not content or (len(content) < 20 and content.isdigit())


def _take(folder: Path) -> int | None:
    """Return the descriptor of the lock, now held; None where no file can be written."""
    path = folder / NAME
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | _FLAGS, 0o644)
        except OSError as error:
            if error.errno in _UNWRITABLE and not os.access(folder, os.W_OK):
                return None
            linked = error.errno == errno.ELOOP
            why = f"{path} is a symbolic link" if linked else error.strerror
            raise EnvironmentFault(f"can't lock {folder}: {why}") from error
        try:
            _hold(descriptor, folder)
        except BaseException:
            os.close(descriptor)
            raise
        if _is_at(descriptor, path):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
            return descriptor
        os.close(descriptor)  # its holder removed it a moment ago


def _hold(descriptor: int, folder: Path) -> None:
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        raise EnvironmentFault(f"can't lock {folder}: {folder / NAME} is no file of its own")
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise BusyError(
            f"run folder is in use by process {_holder(descriptor)}: {folder}",
            hint="name another --out",
        ) from error
    except OSError as error:
        raise EnvironmentFault(f"can't lock {folder}: {error.strerror}") from error
    if not is_ours(os.pread(descriptor, 32, 0)):
        raise UsageError(f"not a lock of mnistcli: {folder / NAME}", hint="name another --out")


def _is_at(descriptor: int, path: Path) -> bool:
    """Return whether the file that is open is still the one of this name."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except OSError:
        return False


def _holder(descriptor: int) -> str:
    """Return the number that the holder wrote; it may be a moment behind its lock."""
    for _ in range(20):
        if number := os.pread(descriptor, 32, 0).decode(errors="replace"):
            return number
        time.sleep(0.05)
    return "unknown"
