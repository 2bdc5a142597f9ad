"""Folders that are removed when this process ends; what a killed one left, the next one removes."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mnistcli.errors import EnvironmentFault

_PREFIX = "mnistcli-"
_TORCH_CACHE = "TORCHINDUCTOR_CACHE_DIR"


def import_without_cache() -> None:
    """Import what torch's optimizers import at their first use, without the cache that it makes.

    Nothing of ours is compiled by torch. The cache would lie in TMPDIR, where perhaps nothing can
    be written, or a stranger's file has its name. An own network that compiles gets torch's cache.
    """
    if "torch._dynamo" in sys.modules or _TORCH_CACHE in os.environ:
        return
    os.environ[_TORCH_CACHE] = str(Path(__file__).parent)  # is there: none is made
    try:
        import torch._dynamo  # noqa: F401
    finally:
        del os.environ[_TORCH_CACHE]


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
