"""Where packaged files lie, and the one way a file is written: whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from mnistcli.errors import EnvironmentFault

_PACKAGE = Path(__file__).parent
_TEMPORARY = ".tmp"


def packaged(*parts: str) -> Path:
    """Return the path of `configs/…` or `checkpoints/…`: inside a wheel, else in the checkout."""
    inside = _PACKAGE.joinpath(*parts)
    return inside if _PACKAGE.joinpath(parts[0]).exists() else _PACKAGE.parent.joinpath(*parts)


def write_atomically(path: Path, data: bytes, *, keep_previous: bool = False) -> None:
    """Replace `path` by `data` so that a reader or a crash sees the old file or the new one.

    The bytes go to a temporary file in the same folder, are flushed to the disk, and take the
    name by one rename; `keep_previous` leaves the old file beside it as `<name>.previous`.

    Raises:
        EnvironmentFault: the disk is full, or the folder can't be written.
    """
    try:
        descriptor, temporary = tempfile.mkstemp(
            prefix=f".{path.name}.", suffix=_TEMPORARY, dir=path.parent
        )
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o644)
            if keep_previous and path.exists():
                _link_previous(path)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        _sync_folder(path.parent)
    except OSError as error:
        raise EnvironmentFault(
            f"can't write {path}: {error.strerror}", hint="free disk space, or name another --out"
        ) from error


def remove_stale(folder: Path) -> None:
    """Remove what a killed writer left; the caller holds the folder's lock."""
    for path in folder.glob(f".*{_TEMPORARY}"):
        path.unlink(missing_ok=True)


def previous_of(path: Path) -> Path:
    """Return where `write_atomically` keeps the file before this one."""
    return path.with_name(f"{path.name}.previous")


def _link_previous(path: Path) -> None:
    """Give the current file its second name without ever removing the first."""
    previous, link = previous_of(path), path.with_name(f".{path.name}.link{_TEMPORARY}")
    with contextlib.suppress(FileNotFoundError):
        link.unlink()
    os.link(path, link)
    os.replace(link, previous)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
