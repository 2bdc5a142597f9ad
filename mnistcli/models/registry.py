"""What networks there are: frozen records that are read without importing torch."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnistcli.errors import UsageError, nearest

if TYPE_CHECKING:
    from torch import nn

ENTRY_POINT_GROUP = "mnistcli.models"


@dataclass(frozen=True)
class ModelEntry:
    """A network: how to build it, what it declares (held by a test), what the user reported.

    `reported_accuracy` is the user's best epoch, picked on the test set, in percent.
    """

    name: str
    factory: str
    parameters: int | None = None
    mult_adds: int | None = None
    reported_accuracy: float | None = None


MODELS = {
    entry.name: entry
    for entry in (
        ModelEntry(
            "v1", "mnistcli.models.v1:build",
            parameters=6_536, mult_adds=2_468_192, reported_accuracy=95.68,
        ),
        ModelEntry(
            "v2", "mnistcli.models.v2:build",
            parameters=6_704, mult_adds=2_374_280, reported_accuracy=98.88,
        ),
        ModelEntry(
            "v3", "mnistcli.models.v3:build",
            parameters=7_820, mult_adds=2_431_352, reported_accuracy=99.37,
        ),
    )
}  # fmt: skip


def resolve(reference: str) -> ModelEntry:
    """Return the entry of a registered name, `path/net.py:factory`, `package.module:factory`
    or an entry point of group `mnistcli.models`.

    Code is found from the user's own words only; call it with nothing read from a checkpoint.
    """
    if reference in MODELS:
        return MODELS[reference]
    if ":" in reference:
        return ModelEntry(reference, reference)
    for point in entry_points(group=ENTRY_POINT_GROUP, name=reference):
        return ModelEntry(reference, point.value)
    raise UsageError(
        f"unknown model {reference!r}",
        hint=f"{nearest(reference, MODELS)} An own network is path/to/net.py:factory",
    )


def file_name(reference: str) -> str:
    """Return a model reference as a folder's name: `nets/tiny.py:net` becomes `tiny-net`."""
    return "-".join(part.removesuffix(".py") for part in Path(reference).name.split(":"))


def build(entry: ModelEntry, model_args: dict[str, Any]) -> nn.Module:
    """Build the network and check that it maps [N, 1, 28, 28] to [N, 10].

    Raises:
        UsageError: the code can't be found or run, rejects `model_args`, or returns other shapes.
    """
    # stdout belongs to the product: what an own network prints is talk.
    with contextlib.redirect_stdout(sys.stderr):
        return _build(entry, model_args)


def _build(entry: ModelEntry, model_args: dict[str, Any]) -> nn.Module:
    from torch import nn

    factory = _load_factory(entry)
    accepted = inspect.signature(factory).parameters
    takes_any = any(p.kind is p.VAR_KEYWORD for p in accepted.values())
    for name in model_args:
        if name not in accepted and not takes_any:
            raise UsageError(
                f"model {entry.name} takes no argument {name!r}",
                where=f"model_args.{name}",
                hint=nearest(name, accepted) if accepted else "it takes none",
            )
    try:
        model = factory(**model_args)
    except (Exception, SystemExit) as error:
        raise UsageError(f"{entry.name} can't be built: {error}", where=entry.factory) from error
    if not isinstance(model, nn.Module):
        raise UsageError(
            f"{entry.name} returned {type(model).__name__}, expected torch.nn.Module",
            where=entry.factory,
        )
    _check_contract(model, entry)
    return model


def _check_contract(model: nn.Module, entry: ModelEntry) -> None:
    import torch

    training = model.training
    try:
        with torch.no_grad():
            shape = tuple(model.eval()(torch.zeros(2, 1, 28, 28)).shape)
    except Exception as error:
        raise UsageError(
            f"{entry.name} fails on a batch [2, 1, 28, 28]: {error}", where=entry.factory
        ) from error
    finally:
        model.train(training)
    if shape != (2, 10):
        raise UsageError(
            f"{entry.name} maps [2, 1, 28, 28] to {list(shape)}, expected [2, 10]",
            where=entry.factory,
        )


def _load_factory(entry: ModelEntry) -> Callable[..., Any]:
    module_name, _, attribute = entry.factory.rpartition(":")
    try:
        module = _import(module_name)
    except (Exception, SystemExit) as error:  # a script's own main() may exit
        raise UsageError(
            f"can't import {module_name!r}: {error}",
            hint="path/to/net.py:factory or package.module:factory",
        ) from error
    factory = getattr(module, attribute, None)
    if not callable(factory):
        public = [name for name in vars(module) if not name.startswith("_")]
        raise UsageError(
            f"{module_name} has no function {attribute!r}", hint=nearest(attribute, public)
        )
    return factory  # type: ignore[no-any-return]


def _import(name: str) -> Any:
    path = Path(name)
    if path.suffix != ".py":
        sys.path.insert(0, "")  # package.module of the current folder, as `python -m` finds it
        try:
            return importlib.import_module(name)
        finally:
            sys.path.remove("")
    spec = importlib.util.spec_from_file_location(f"mnistcli_own_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module
