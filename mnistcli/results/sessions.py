"""The history of a run's machines: `env.json` holds a session for each start of the run."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mnistcli.engine.history import MOST_EPOCHS
from mnistcli.errors import (
    ArtifactError,
    DivergedError,
    EnvironmentFault,
    Interrupted,
    NotReadable,
)
from mnistcli.results import figures, runlog, stored

SCHEMA = 1
_MOST_SESSIONS = 1000  # the last ones; each takes less than a kilobyte
_MOST_BYTES = 4 * 2**20
_STRICT = ConfigDict(strict=True, extra="ignore")

Plain = dict[str, str | int | float | bool | None]


class Session(BaseModel):
    """One process that trained the run; `ended` and `outcome` stay None where it was killed."""

    model_config = _STRICT

    started: str
    ended: str | None = None
    outcome: str | None = None
    from_epoch: int = Field(default=0, ge=0, le=MOST_EPOCHS)
    runtime: Plain
    versions: dict[str, str]
    environment: Plain


class _File(BaseModel):
    model_config = _STRICT

    sessions: list[Session] = Field(max_length=_MOST_SESSIONS)


class _Flat(BaseModel):
    """What env.json was before it had sessions: the last start alone."""

    model_config = _STRICT

    started: str
    runtime: Plain
    mnistcli: str
    torch: str
    python: str
    platform: str
    cpus: int | None = None
    commit: str | None = None


class Log:
    """The sessions of one run, of which the last is open; written at each change."""

    def __init__(self, folder: Path, head: dict[str, Any], opened: Session) -> None:
        self._path, self._head = env_file(folder), head
        self._sessions = [*(read(folder) or []), opened][-_MOST_SESSIONS:]
        self._write()

    def close(self, outcome: str) -> list[dict[str, Any]]:
        """Say how the open session ended; return all of them as plain values."""
        self._sessions[-1] = self._sessions[-1].model_copy(
            update={"ended": figures.now(), "outcome": outcome[:1000]}
        )
        return self._write()

    def _write(self) -> list[dict[str, Any]]:
        plain = [session.model_dump() for session in self._sessions]
        runlog.write_json(self._path, {"schema": SCHEMA, **self._head, "sessions": plain})
        return plain


def env_file(folder: Path) -> Path:
    """Return where a run keeps its sessions."""
    return folder / "env.json"


def read(folder: Path) -> list[Session] | None:
    """Return a run's sessions, the earliest first; None where there are none or no valid ones.

    Raises:
        NotReadable: this user may not read them.
    """
    try:
        document = stored.read_object(env_file(folder), most_bytes=_MOST_BYTES)
        if "sessions" in document:
            return _File.model_validate(document).sessions
        flat = _Flat.model_validate(document)
    except NotReadable:
        raise
    except (ArtifactError, ValidationError):
        return None
    keys = ("platform", "cpus", "commit")
    return [
        Session(
            started=flat.started,
            runtime=flat.runtime,
            versions={key: getattr(flat, key) for key in ("mnistcli", "torch", "python")},
            environment={key: getattr(flat, key) for key in keys},
        )
    ]


@contextmanager
def logged(folder: Path, head: dict[str, Any], opened: Session) -> Iterator[Log]:
    """Add a session to a run's history; what ends it by an error is its outcome."""
    log = Log(folder, head, opened)
    try:
        yield log
    except BaseException as error:
        with contextlib.suppress(EnvironmentFault):  # the error itself is what the disk did
            log.close(_outcome(error))
        raise


def _outcome(error: BaseException) -> str:
    """Return in words why a session ended."""
    if isinstance(error, Interrupted):
        return f"stopped by {signal.Signals(error.signum).name}"
    if isinstance(error, DivergedError):
        return f"diverged: {error.what.removeprefix('training diverged: ')}"
    return str(error).partition("\n")[0] or type(error).__name__
