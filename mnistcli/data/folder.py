"""The four IDX files of a folder, under the names that people have them by, and their bytes."""

from __future__ import annotations

import gzip
import os
import re
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from math import prod
from pathlib import Path
from typing import IO

from mnistcli.errors import ArtifactError, not_readable

NAMES = tuple(
    f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")
)
MAX_ITEMS = 4_000_000
_MAX_BYTES = 16 + MAX_ITEMS * 28 * 28
_CHUNK_BYTES = 16 * 2**20
_MOST_NAMES = 5

# MNIST's own names, with a dot in place of a dash (Kaggle), EMNIST's of each set, QMNIST's.
_NAME = re.compile(
    r"(?P<family>emnist-[a-z]+-|qmnist-)?(?P<part>train|t10k|test)-"
    r"(?:(?P<images>images[-.]idx3-ubyte)|labels[-.]idx(?:1-ubyte|2-int))(?:\.gz)?"
)
# http://yann.lecun.com/exdb/mnist: two zeros, the type, the number of dimensions, the lengths.
_TYPES = {
    8: ("unsigned bytes", 1), 9: ("signed bytes", 1), 11: ("16-bit integers", 2),
    12: ("32-bit integers", 4), 13: ("32-bit floats", 4), 14: ("64-bit floats", 8),
}  # fmt: skip


def locate(folder: Path) -> dict[str, Path]:
    """Return the four files by MNIST's names: in the folder, or in torchvision's raw/ or SET/raw/.

    Raises:
        ArtifactError: a file is missing, the folder can't be read, or it holds several sets.
    """
    places = ([folder], [folder / "raw"], sorted(folder.glob("*/raw")))
    for together in places:
        sets = [found for place in together for found in _sets(place) if len(found) == len(NAMES)]
        if len(sets) > 1:
            firsts = [str(found[NAMES[0]].relative_to(folder)) for found in sets[:3]]
            what = f"{len(sets)} sets of pictures here: {', '.join(firsts)}"
            raise ArtifactError(what, where=str(folder), hint="a folder with one of them")
        if sets:
            return sets[0]
    raise _missing(folder)


def is_transposed(path: Path) -> bool:
    """Return whether a file's pictures have rows and columns swapped: EMNIST's, by its name.

    https://arxiv.org/abs/1702.05373; its authors stored them as Matlab does.
    """
    return path.name.startswith("emnist-")


def _sets(place: Path) -> list[dict[str, Path]]:
    """Return what a folder has of each set's files; a plain file comes before a packed one."""
    sets: dict[str, dict[str, Path]] = {}
    for name in sorted(_entries(place), key=lambda name: (name.endswith(".gz"), name)):
        if match := _NAME.fullmatch(name):
            part = 0 if match["part"] == "train" else 2
            known = sets.setdefault(match["family"] or "", {})
            known.setdefault(NAMES[part + (match["images"] is None)], place / name)
    return list(sets.values())


def _entries(place: Path) -> Iterator[str]:
    """Yield the names of what is no folder; of a place that is none, nothing."""
    try:
        with os.scandir(place) as entries:
            yield from (entry.name for entry in entries if not entry.is_dir())
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise not_readable(error, place) from error


def _missing(folder: Path) -> ArtifactError:
    """Return the error that says which files were looked for, and what lies there."""
    best = max(_sets(folder), key=len, default={})
    lacking = ", ".join(name for name in NAMES if name not in best)
    names = sorted(islice(_entries(folder), 1000))
    shown = ", ".join(names[:_MOST_NAMES]) + (" and more" if len(names) > _MOST_NAMES else "")
    there = f"the folder has {shown}" if names else "the folder has no file"
    what = f"{lacking} (or .gz) not found; {there if folder.is_dir() else 'no such folder'}"
    hint = "a folder with the four IDX files or torchvision's root; without --data-dir: MNIST"
    return ArtifactError(what, where=str(folder), hint=hint)


def read(path: Path) -> bytes:
    """Return the unpacked bytes of an IDX file, checking gzip's CRC where it is packed.

    No further than a byte beyond the size that its header declares: a few kilobytes of gzip can't
    fill the memory, and a file that is too long is still found.
    """
    try:
        with _opened(path) as file:
            chunks = [file.read(16)]
            left = min(_declared_bytes(chunks[0]), _MAX_BYTES) + 1 - len(chunks[0])
            while left > 0 and (chunk := file.read(min(left, _CHUNK_BYTES))):
                chunks.append(chunk)
                left -= len(chunk)
            return b"".join(chunks)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ArtifactError(f"damaged file: {error}", where=str(path)) from error
    except OSError as error:
        raise not_readable(error, path) from error


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes] | gzip.GzipFile]:
    """Open a regular file, unpacked by its content: browsers unpack, and keep the name.

    A pipe neither blocks nor is read.
    """
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ArtifactError("not readable: a pipe or device, no file", where=str(path))
        packed = file.peek(2)[:2] == b"\x1f\x8b"
        yield gzip.GzipFile(fileobj=file) if packed else file


def _declared_bytes(head: bytes) -> int:
    """Return the size of an IDX file by its first 16 bytes, 0 where they are no header."""
    if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in _TYPES or not 1 <= head[3] <= 3:
        return 0
    size = 4 * (1 + head[3])
    return size + _TYPES[head[2]][1] * prod(lengths(head, head[3]))


def lengths(data: bytes, dimensions: int) -> list[int]:
    """Return the lengths that an IDX header declares."""
    return [int.from_bytes(data[4 * i : 4 * i + 4], "big") for i in range(1, dimensions + 1)]


def kind(data: bytes) -> str:
    """Say in words what the first four bytes of a file make it."""
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in _TYPES or not data[3]:
        return "not an IDX file"
    return f"an IDX file of {_TYPES[data[2]][0]} in {data[3]} dimension{'s' * (data[3] > 1)}"
