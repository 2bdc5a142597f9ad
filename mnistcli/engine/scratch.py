"""Folders that are removed when this process ends; what a killed one left, the next one removes."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mnistcli.errors import EnvironmentFault

_PREFIX = "mnistcli-"


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Make a folder in TMPDIR, locked while it is in use, and remove it.

    Raises:
        EnvironmentFault: no folder for temporary files can be written.
    """
    try:
        _remove_stale(Path(tempfile.gettempdir()))
        folder, descriptor = _make()
    except OSError as error:
        raise EnvironmentFault(
            f"no folder for temporary files can be written: {error.strerror}",
            hint="let TMPDIR name one that can",
        ) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def _make() -> tuple[Path, int]:
    """Return a new folder and its lock; one that another start took for stale is not it."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        with contextlib.suppress(FileNotFoundError):
            descriptor = os.open(folder, os.O_RDONLY)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if folder.exists():
                return folder, descriptor
            os.close(descriptor)


def _remove_stale(parent: Path) -> None:
    """Remove this user's folders that no process holds."""
    for folder in parent.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # somebody else's, a link, in use, or gone by now
            descriptor = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY)
            try:
                if os.fstat(descriptor).st_uid == os.geteuid():
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(folder)
            finally:
                os.close(descriptor)
