"""What networks there are: frozen records that are read without importing torch."""

from __future__ import annotations

import contextlib
import inspect
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnistcli.errors import UsageError, nearest
from mnistcli.models import own

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from torch import nn

ENTRY_POINT_GROUP = "mnistcli.models"


@dataclass(frozen=True)
class ModelEntry:
    """A network: how to build it, what it declares (held by a test), what the user reported.

    `reported_accuracy` is the user's best epoch, picked on the test set, in percent. What
    `teaches` is there for others to learn from: no list shows it unasked.
    """

    name: str
    factory: str
    parameters: int | None = None
    mult_adds: int | None = None
    reported_accuracy: float | None = None
    teaches: bool = False

    @property
    def own(self) -> bool:
        """Whether it is the user's, and not registered here."""
        return self.name not in MODELS


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
        ModelEntry(
            "v4", "mnistcli.models.learned_pool:build", parameters=7_554, mult_adds=2_110_638
        ),
        ModelEntry(
            "v5", "mnistcli.models.learned_pool:build", parameters=4_898, mult_adds=1_307_864
        ),
        ModelEntry(
            "v6", "mnistcli.models.learned_pool:build", parameters=1_955, mult_adds=395_696
        ),
        ModelEntry(
            "teacher", "mnistcli.models.teacher:build",
            parameters=119_866, mult_adds=9_149_098, teaches=True,
        ),
    )
}  # fmt: skip
COMPARED = [name for name, entry in MODELS.items() if not entry.teaches]


def known_names() -> list[str]:
    """Return the registered names and the installed entry points'."""
    return sorted({*MODELS, *(point.name for point in _entry_points())})


def _entry_points() -> Iterable[EntryPoint]:
    from importlib.metadata import entry_points  # a sixth of the time that --help takes

    return entry_points(group=ENTRY_POINT_GROUP)


def resolve(reference: str) -> ModelEntry:
    """Return the entry of a registered name, `path/net.py:factory`, `package.module:factory`
    or an entry point of group `mnistcli.models`.

    Code is found from the user's own words only; call it with nothing read from a checkpoint.
    """
    if reference in MODELS:
        return MODELS[reference]
    if ":" in reference:
        return ModelEntry(reference, reference)
    for point in _entry_points():
        if point.name == reference:
            return ModelEntry(reference, point.value)
    if reference.endswith(".py"):
        raise UsageError(f"{reference!r} names no function", hint=f"{reference}:FACTORY")
    raise UsageError(
        f"unknown model {reference!r}",
        hint=f"{nearest(reference, known_names())} (an own network: path/to/net.py:factory)",
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

    factory = own.load(entry.factory)
    accepted = inspect.signature(factory).parameters
    takes_any = any(p.kind is p.VAR_KEYWORD for p in accepted.values())
    for name in model_args:
        if name not in accepted and not takes_any:
            raise UsageError(
                f"model {entry.name} takes no argument {name!r}",
                where=f"model_args.{name}",
                hint=nearest(name, accepted) if accepted else "it takes none",
            )
    needed = [p.name for p in accepted.values() if p.default is p.empty
              and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]  # fmt: skip
    if missing := [name for name in needed if name not in model_args]:
        raise UsageError(
            f"{entry.name} needs {', '.join(missing)}",
            where=entry.factory,
            hint=f"give it a default value, or --set model_args.{missing[0]}=VALUE",
        )
    try:
        model = factory(**model_args)
    except (Exception, SystemExit) as error:
        what = f"{entry.name} can't be built: {own.words(error)}"
        raise UsageError(what, where=own.spot(error, entry.factory)) from error
    if not isinstance(model, nn.Module):
        raise UsageError(
            f"{entry.name} returned {type(model).__name__}, expected torch.nn.Module",
            where=entry.factory,
        )
    _check_contract(model, entry)
    return model


def _check_contract(model: nn.Module, entry: ModelEntry) -> None:
    """Raise UsageError unless two pictures give finite floating-point logits [2, 10]."""
    import torch

    pictures = torch.linspace(-1, 1, 2 * 28 * 28).reshape(2, 1, 28, 28)
    training = model.training
    try:
        with torch.no_grad():
            logits = model.eval()(pictures)
    except Exception as error:
        what = f"{entry.name} fails on a batch [2, 1, 28, 28]: {own.words(error)}"
        raise UsageError(what, where=own.spot(error, entry.factory)) from error
    finally:
        model.train(training)
    problem = None
    if not isinstance(logits, torch.Tensor):
        problem = f"returns {type(logits).__name__}, expected a tensor [2, 10]"
    elif logits.shape != (2, 10):
        problem = f"maps [2, 1, 28, 28] to {list(logits.shape)}, expected [2, 10]"
    elif not logits.is_floating_point():
        problem = f"returns {logits.dtype}, expected floating-point logits"
    elif not logits.isfinite().all():
        problem = "returns NaN or infinity for plain pictures"
    elif not any(parameter.requires_grad for parameter in model.parameters()):
        problem = "has no parameter to train"
    else:
        problem = _unsaveable(model)
    if problem is not None:
        raise UsageError(f"{entry.name} {problem}", where=entry.factory)


def _unsaveable(model: nn.Module) -> str | None:
    """Return which value no checkpoint would take, or None: they hold finite real numbers only."""
    for name, value in model.state_dict().items():
        if value.is_complex() or (value.is_floating_point() and not value.isfinite().all()):
            kind = "complex" if value.is_complex() else "not finite"
            return f"keeps {name!r}, which is {kind}: register_buffer(…, persistent=False)"
    return None
