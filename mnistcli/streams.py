"""The process's own streams: each waits for a slow reader and outlives one that leaves."""

from __future__ import annotations

import codecs
import errno
import io
import os
import select
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_NEAREST = "mnistcli.nearest"  # our way with signs that a stream's encoding lacks
_OF_ASCII = str.maketrans("–—−·•→Δ×…━╸╺", "---.*>Dx.---")  # one for one: tables stay aligned


class Patient(io.FileIO):
    """A stream's file. `fault` is why something was lost; a reader that left has lost nothing.

    A full pipe that may not block (its other user, node or ssh, may have set it so) is waited
    for. After a fault all that follows is dropped: neither a log's disk nor a reader ends a run.
    """

    fault: OSError | None = None
    _over = False

    def write(self, data: ReadableBuffer) -> int:
        """Write as much as is taken; return how many bytes need no other try."""
        try:
            while not self._over:
                if (written := super().write(data)) is not None:
                    return written
                select.select([], [self], [])
        except BrokenPipeError:
            self._over = True
        except OSError as error:
            self._over, self.fault = True, error
        return memoryview(data).nbytes


def open_standard() -> None:
    """Make stdout and stderr wait for slow readers, and replace what their encoding lacks."""
    codecs.register_error(_NEAREST, _encodable)
    closed = [number for number in (1, 2) if not _is_open(number)]
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)  # or the next file opened were taken for the stream
    os.close(number)
    sys.stdout, sys.stderr = _patient(1, sys.stdout), _patient(2, sys.stderr)
    for stream, number in ((sys.stdout, 1), (sys.stderr, 2)):
        if number in closed:
            stream.buffer.raw.fault = OSError(errno.EBADF, "it is closed")  # type: ignore[attr-defined]


def fault_of(stream: TextIO) -> OSError | None:
    """Return why something that was written to a stream is lost, or None."""
    raw = getattr(getattr(stream, "buffer", None), "raw", None)
    return raw.fault if isinstance(raw, Patient) else None


def _patient(number: int, old: TextIO | None) -> TextIO:
    file = io.BufferedWriter(Patient(number, "w", closefd=False))
    encoding = "utf-8" if old is None else old.encoding
    return io.TextIOWrapper(file, encoding, _NEAREST, line_buffering=True)


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _encodable(error: UnicodeError) -> tuple[str | bytes, int]:
    """Replace signs by the nearest of ASCII, and others by their numbers, so that none is lost."""
    assert isinstance(error, UnicodeEncodeError)
    signs = error.object[error.start : error.end].translate(_OF_ASCII)
    return signs.encode("ascii", "backslashreplace").decode(), error.end
