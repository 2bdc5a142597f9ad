"""Where packaged files lie, and how a file is written: whole or not at all, through no link of a
stranger's."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from mnistcli.errors import EnvironmentFault
from mnistcli.streams import Patient

_PACKAGE = Path(__file__).parent
_STANDARD = {"/dev/stdout": 1, "/dev/stderr": 2}
_TEMPORARY = ".mnistcli-tmp"
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


def packaged(*parts: str) -> Path:
    """Return the path of `configs/…` or `checkpoints/…`: inside a wheel, else in the checkout."""
    inside = _PACKAGE.joinpath(*parts)
    return inside if _PACKAGE.joinpath(parts[0]).exists() else _PACKAGE.parent.joinpath(*parts)


def write_atomically(path: Path, data: bytes, *, keep_previous: bool = False) -> None:
    """Replace `path` by `data` so that a reader or a crash sees the old file or the new one.

    The bytes go to a temporary file in the same folder, are flushed to the disk, and take the
    name by one rename; `keep_previous` leaves the old file beside it as `<name>.previous`. For our
    own files in a folder that may be a stranger's: a link or pipe of that name is replaced, and
    its target stays as it is.

    Raises:
        EnvironmentFault: the disk is full, or the folder can't be written.
    """
    with _explained(path):
        if keep_previous and _is_plain(path):
            _replace(path, data, previous=previous_of(path))
        else:
            _replace(path, data)


def write_where_named(path: Path, data: bytes) -> None:
    """Write a file that the user named, whole or not at all, with the mode that it had.

    A symbolic link is followed; a device, a pipe or an open file (/dev/stdout) is written to as it
    is.

    Raises:
        EnvironmentFault: as `write_atomically` does.
    """
    with _explained(path):
        if (opened := _open_file(path)) is not None:
            _write_through(opened, data)
            return
        path = Path(os.path.realpath(path))
        if path.exists() and not path.is_file():
            path.write_bytes(data)
        else:
            _replace(path, data, mode=stat.S_IMODE(path.stat().st_mode) if path.exists() else None)


def is_stdout(path: Path) -> bool:
    """Return whether a path names this process's stdout."""
    return _open_file(path) == _STANDARD["/dev/stdout"]


def is_unfinished(path: Path) -> bool:
    """Return whether a file is what a killed writer left, by its name."""
    return path.name.endswith(_TEMPORARY)


def _open_file(path: Path) -> int | None:
    """Return the number of the open file that /dev/stdout, /dev/fd/N or >(…) names, or None.

    A file behind it is open already: one that took its name would miss what is written after it.
    """
    name = os.path.join(os.path.realpath(path.parent), path.name)
    if name in _STANDARD:
        return _STANDARD[name]
    number = re.fullmatch(rf"/proc/(self|{os.getpid()})/fd/(\d+)", name)
    return int(number[2]) if number is not None else None


def _write_through(number: int, data: bytes) -> None:
    """Write all to an open file, whether or not it may block; a reader may leave."""
    stream = Patient(number, "w", closefd=False)
    left = memoryview(data)
    while left:
        left = left[stream.write(left) :]
    if stream.fault is not None:
        raise stream.fault


def remove_stale(folder: Path) -> None:
    """Remove what a killed writer left; the caller holds the folder's lock."""
    for path in filter(_is_plain, folder.glob(f".*{_TEMPORARY}")):
        with contextlib.suppress(OSError):  # the next write says what is wrong with the disk
            path.unlink()


def previous_of(path: Path) -> Path:
    """Return where `write_atomically` keeps the file before this one."""
    return path.with_name(f"{path.name}.previous")


def bring_back_previous(path: Path) -> None:
    """Put the file before a damaged one in its place; else the next write would keep the
    damaged one as the previous."""
    with contextlib.suppress(OSError):  # the next write says what is wrong with the disk
        _link(previous_of(path), path)


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if not path.parent.exists():
            what = f"can't write {path}: there is no folder {path.parent}"
            raise EnvironmentFault(what, hint=f"mkdir -p {path.parent}") from error
        raise EnvironmentFault(
            f"can't write {path}: {error.strerror}", hint="free disk space, or choose another place"
        ) from error


def _is_plain(path: Path) -> bool:
    """Return whether a file of this name is there, and no link, folder, pipe or device."""
    return path.is_file() and not path.is_symlink()


def _replace(
    path: Path, data: bytes, *, previous: Path | None = None, mode: int | None = None
) -> None:
    temporary = _temporary(path)
    try:
        with temporary.open("xb") as file:
            if mode is not None:
                os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if previous is not None:
            _link(path, previous)
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    _sync_folder(path.parent)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.urandom(4).hex()}{_TEMPORARY}")


def _link(existing: Path, name: Path) -> None:
    """Give a file a second name in one step, so that a file of that name exists at all times."""
    link = _temporary(name)
    try:
        try:
            os.link(existing, link)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            shutil.copyfile(
                existing, link, follow_symlinks=False
            )  # a file system without hard links
            with link.open("rb+") as copy:
                os.fsync(copy.fileno())
        os.replace(link, name)
    finally:  # a rename between two names of one file does nothing, and leaves both
        link.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
