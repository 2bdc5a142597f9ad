"""Find a network's factory by its reference, and say in a user's terms what their code raised."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnistcli.errors import MnistcliError, UsageError, is_of_the_machine, nearest

if TYPE_CHECKING:
    from mnistcli.models.registry import ModelEntry

# A script's own main() may exit, and a signal is our own exception: this interrupt is the code's.
_RAISED = (Exception, SystemExit, KeyboardInterrupt, GeneratorExit)
_ENGINE = Path(__file__).parents[1] / "engine"


def load(factory: str) -> Callable[..., Any]:
    """Return what `path/net.py:factory` or `package.module:factory` names, or raise UsageError."""
    module_name, _, attribute = factory.rpartition(":")
    try:
        module = _import(module_name)
    except _RAISED as error:
        raise UsageError(
            f"can't import {module_name!r}: {words(error)}",
            where=spot(error, factory),
            hint="path/to/net.py:factory or package.module:factory",
        ) from error
    found = getattr(module, attribute, None)
    if not callable(found):
        public = [name for name in vars(module) if not name.startswith("_")]
        raise UsageError(
            f"{module_name} has no function {attribute!r}", hint=nearest(attribute, public)
        )
    return found  # type: ignore[no-any-return]


@contextmanager
def faults(entry: ModelEntry, doing: str, *, hint: str = "") -> Iterator[None]:
    """Raise what the network's code raises as a UsageError with its line.

    What the machine lacks, what is worded for the user already, and what a line of our own engine
    raises, stays as it is.
    """
    try:
        yield
    except _RAISED as error:
        frames = traceback.extract_tb(error.__traceback__)
        ours = Path(frames[-1].filename).parent == _ENGINE
        if ours or isinstance(error, MnistcliError) or is_of_the_machine(error):
            raise
        what = f"{entry.name} {doing}: {words(error)}"
        raise UsageError(what, where=spot(error, entry.factory), hint=hint) from error


def words(error: BaseException) -> str:
    """Return the first line of an error, with its type where the words alone may not tell it."""
    first = str(getattr(error, "msg", error)).strip().partition("\n")[0]
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.strerror}: {error.filename}"
    if first and isinstance(error, OSError | ImportError):
        return first
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def spot(error: BaseException, factory: str) -> str:
    """Return the line of the user's own file where an error arose, else the reference."""
    name = factory.rpartition(":")[0]
    path = Path(getattr(sys.modules.get(name), "__file__", None) or name)
    if isinstance(error, SyntaxError) and error.filename is not None:
        return f"{error.filename}:{error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    lines = [f.lineno for f in frames if Path(f.filename).resolve() == path.resolve()]
    return f"{path}:{lines[-1]}" if lines else factory


def _import(name: str) -> Any:
    """Import a file or a module; neighbours are found as `python FILE` and `python -m` do."""
    path = Path(name)
    is_file = path.suffix == ".py"
    if is_file and not path.is_file():
        raise FileNotFoundError("it is a folder" if path.is_dir() else "no such file")
    folder = str(path.resolve().parent) if is_file else ""
    sys.path.insert(0, folder)
    try:
        return _execute(path) if is_file else importlib.import_module(name)
    finally:
        sys.path.remove(folder)


def _execute(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(f"mnistcli_own_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module
