"""What networks there are: frozen records that are read without importing torch."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
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
    """A network: how to build it, what it declares (a test checks it), what was reported.

    `reported_accuracy` is the reference project's best epoch, picked on the test set, in percent.
    A network that `teaches` is there for others to learn from, and in no list. `design` is one
    line for readers.
    """

    name: str
    factory: str
    parameters: int | None = None
    mult_adds: int | None = None
    reported_accuracy: float | None = None
    teaches: bool = False
    design: str = ""

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
            design="convolutions and max-pooling alone",
        ),
        ModelEntry(
            "v2", "mnistcli.models.v2:build",
            parameters=6_704, mult_adds=2_374_280, reported_accuracy=98.88,
            design="v1 with batch normalisation and ReLU",
        ),
        ModelEntry(
            "v3", "mnistcli.models.v3:build",
            parameters=7_820, mult_adds=2_431_352, reported_accuracy=99.37,
            design="v2 with a skip connection",
        ),
        ModelEntry(
            "v4", "mnistcli.models.learned_pool:build", parameters=7_554, mult_adds=2_110_638,
            design="learned 7×7 pooling, Hardswish",
        ),
        ModelEntry(
            "v5", "mnistcli.models.learned_pool:build", parameters=4_898, mult_adds=1_307_864,
            design="v4, narrower",
        ),
        ModelEntry(
            "v6", "mnistcli.models.learned_pool:build", parameters=1_955, mult_adds=395_696,
            design="v4, narrower and shallower",
        ),
        ModelEntry(
            "v7", "mnistcli.models.separable:build", parameters=1_892, mult_adds=254_120,
            design="separable convolutions",
        ),
        ModelEntry(
            "v8", "mnistcli.models.separable:build", parameters=7_590, mult_adds=932_706,
            design="v7, wider and deeper",
        ),
        ModelEntry(
            "v9", "mnistcli.models.separable:build", parameters=996, mult_adds=136_710,
            design="v7, narrower",
        ),
        ModelEntry(
            "v10", "mnistcli.models.separable:build", parameters=4_724, mult_adds=577_394,
            design="v8, narrower",
        ),
        ModelEntry(
            "teacher", "mnistcli.models.teacher:build",
            parameters=119_866, mult_adds=9_149_098, teaches=True,
            design="a wider network for the others to learn from",
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
    from torch import nn

    from mnistcli.models import contract

    with contract.global_state_kept(entry):
        factory = own.load(entry.factory)
        if isinstance(factory, nn.Module):
            raise UsageError(
                f"{entry.factory} is a network: name a function or class that builds a new one",
                hint="each seed starts from weights of its own",
            )
        _check_arguments(factory, entry, model_args)
        with own.faults(entry, "can't be built"):
            model = factory(**model_args)
    if not isinstance(model, nn.Module):
        raise UsageError(
            f"{entry.name} returned {type(model).__name__}, expected torch.nn.Module",
            where=entry.factory,
        )
    contract.check_built(model, entry)
    return model


def _check_arguments(
    factory: Callable[..., Any], entry: ModelEntry, model_args: dict[str, Any]
) -> None:
    """Raise UsageError unless a factory takes these arguments and needs no others."""
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
