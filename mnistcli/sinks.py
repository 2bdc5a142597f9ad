"""Where a run's events go beside its own files: TensorBoard, or what a package registers."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from mnistcli.errors import MnistcliError, UsageError, nearest
from mnistcli.events import Emit, Event, Notice

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "mnistcli.sinks"
_OWN = {"tensorboard": "mnistcli.tensorboard:sink"}


def names() -> list[str]:
    """Return the names that --log takes."""
    return sorted({*_OWN, *_registered()})


def check(wanted: Sequence[str]) -> None:
    """Raise UsageError where there is no log of a name."""
    for name in wanted:
        if name not in names():
            raise UsageError(f"unknown log {name!r}", where="--log", hint=nearest(name, names()))


def open_sinks(wanted: Sequence[str]) -> list[tuple[str, Emit]]:
    """Return the sinks of these names: what each one's function returns, called without arguments.

    Raises:
        UsageError: there is none of a name, or its code can't be imported.
        EnvironmentFault: what it needs is not installed.
    """
    return [(name, _factory(name)()) for name in dict.fromkeys(wanted)]


def guarded(sinks: Sequence[tuple[str, Emit]], say: Emit) -> Emit:
    """Return one sink for all; one that raises is left out from then on, and `say` is told."""
    working = list(sinks)

    def emit(event: Event) -> None:
        for one in list(working):
            try:
                one[1](event)
            except Exception as error:  # the run is worth more than its log
                working.remove(one)
                say(Notice(f"--log {one[0]} is left out: {type(error).__name__}: {error}"))

    return emit


def _factory(name: str) -> Callable[[], Emit]:
    check([name])
    if (point := _registered().get(name)) is not None:
        return _loaded(name, point.load)
    module, _, function = _OWN[name].partition(":")
    return _loaded(name, lambda: getattr(importlib.import_module(module), function))


def _registered() -> dict[str, EntryPoint]:
    from importlib.metadata import entry_points  # 10 ms that --help does not need

    return {point.name: point for point in entry_points(group=GROUP)}


def _loaded(name: str, load: Callable[[], Callable[[], Emit]]) -> Callable[[], Emit]:
    try:
        return load()
    except MnistcliError:
        raise
    except Exception as error:  # a stranger's module
        what = f"can't import the log {name!r}: {type(error).__name__}: {error}"
        raise UsageError(what, where="--log") from error
