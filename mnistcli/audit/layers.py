"""A network's audit: a row for each layer, and totals that are the sums of the rows."""

from __future__ import annotations

import contextlib
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torchinfo
from torch import Tensor, nn

from mnistcli.audit.count import MultAdds
from mnistcli.audit.follow import Reach, receptive_fields
from mnistcli.errors import UsageError
from mnistcli.models import own
from mnistcli.models.identity import identity
from mnistcli.models.registry import ModelEntry, build
from mnistcli.models.trace import as_written

_MIB = 2**20
_Size = int | tuple[int, ...]


@dataclass(frozen=True)
class Layer:
    """One layer, in the order of execution; a layer that runs twice has two.

    `output_shape` is for one picture. `kernel` and `stride` are pairs where they are uneven.
    `receptive_field` is the side in pixels of the square of the input that one output sees,
    unclipped; None where that can't be said. What belongs to no layer is in a last one, "other".
    """

    name: str
    type: str
    output_shape: tuple[int, ...]
    kernel: _Size | None
    stride: _Size | None
    parameters: int
    mult_adds: int
    receptive_field: int | None


@dataclass(frozen=True)
class Audit:
    """A network's totals; sizes in MiB, forward and backward for one picture in fp32.

    `network` is its identity. `receptive_field` is that of the logits; where it is None,
    `receptive_field_reason` says why.
    """

    model: str
    network: str
    layers: tuple[Layer, ...]
    parameters: int
    trainable: int
    mult_adds: int
    receptive_field: int | None
    receptive_field_reason: str | None
    forward_backward_mib: float
    parameters_mib: float
    int8_mib: float


def audit(entry: ModelEntry, model_args: dict[str, Any]) -> Audit:
    """Build a throw-away copy of the network and count it for one picture [1, 1, 28, 28].

    Parameters are counted once however often they are used. Mult-adds are those of convolutions,
    matrix products and attention, plus one for each addition of a bias and for each parameter of
    a normalisation.

    Raises:
        UsageError: the network can't be built, or fails on one picture.
    """
    # Weight initialisation draws from the global generator; an audit must not move it.
    with torch.random.fork_rng(devices=[]), contextlib.redirect_stdout(sys.stderr):
        model = build(entry, model_args).cpu().eval()
        picture = torch.zeros(1, 1, 28, 28)
        with _named(entry, "one picture [1, 1, 28, 28]"):
            reaches, reach = receptive_fields(model, picture)
            network = identity(model)
        info, calls, mult_adds = _count(model, picture)
    rows = [row for row in info.summary_list if _is_layer(row)]
    layers = _layers(model, rows, calls, reaches)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    rest = parameters - sum(layer.parameters for layer in layers)
    rest_adds = mult_adds - sum(layer.mult_adds for layer in layers)
    if rest or rest_adds:
        layers.append(Layer("other", "", (), None, None, rest, rest_adds, None))
    return Audit(
        model=entry.name,
        network=network,
        layers=tuple(layers),
        parameters=parameters,
        trainable=sum(p.numel() for p in model.parameters() if p.requires_grad),
        mult_adds=mult_adds,
        receptive_field=reach.side,
        receptive_field_reason=reach.reason,
        forward_backward_mib=sum(2 * r.output_bytes for r in rows if r.num_params) / _MIB,
        parameters_mib=parameters * 4 / _MIB,
        int8_mib=parameters / _MIB,
    )


@contextlib.contextmanager
def _named(entry: ModelEntry, pictures: str) -> Iterator[None]:
    """Say in a user's terms what their network raises."""
    try:
        yield
    except Exception as error:
        what = f"{entry.name} fails on {pictures}: {own.words(error)}"
        raise UsageError(what, where=own.spot(error, entry.factory)) from error


def _count(model: nn.Module, picture: Tensor) -> tuple[Any, dict[int, list[int]], int]:
    """Return torchinfo's summary, the mult-adds of each module's calls by its id, and of all."""
    counter = MultAdds(model)
    starts: list[int] = []
    calls: dict[int, list[int]] = defaultdict(list)

    def enter(module: nn.Module, inputs: Any) -> None:
        starts.append(counter.total)

    def leave(module: nn.Module, inputs: Any, output: Any) -> None:
        calls[id(module)].append(counter.total - starts.pop())

    modules = [m for m in model.modules() if not isinstance(m, torch.jit.ScriptModule)]
    hooks: list[Any] = [module.register_forward_pre_hook(enter) for module in modules]
    hooks += [module.register_forward_hook(leave) for module in modules]
    try:
        with as_written(), counter:
            info = torchinfo.summary(
                model, input_data=picture, mode="eval", verbose=0, depth=20, device="cpu"
            )
    finally:
        for hook in hooks:
            hook.remove()
    return info, calls, counter.total


def _is_layer(row: Any) -> bool:
    """Return whether what torchinfo saw run is shown: a module whose parts run within it alone."""
    above = row.parent_info
    while above is not None:
        if _is_whole(above.module):
            return False
        above = above.parent_info
    return bool(row.executed) and _is_whole(row.module)


def _is_whole(module: nn.Module) -> bool:
    """Return whether a module's parts, if any, are no layers.

    Attention reads its projection's weights, and the parts of a parametrised layer make its own.
    """
    parts = {name for name, _ in module.named_children()}
    return isinstance(module, nn.MultiheadAttention) or parts <= {"parametrizations"}


def _layers(
    model: nn.Module, rows: list[Any], calls: dict[int, list[int]], reaches: dict[int, list[Reach]]
) -> list[Layer]:
    """Return a layer for each row; the calls of a module have come in the order of its rows."""
    names = {id(module): name for name, module in model.named_modules()}
    made = {key: iter(counts) for key, counts in calls.items()}
    seen = {key: iter(reached) for key, reached in reaches.items()}
    counted: set[int] = set()
    layers = []
    for row in rows:
        key, sizes = id(row.module), {id(p): p.numel() for p in row.module.parameters()}
        layer = Layer(
            name=names[key] or row.class_name,
            type=row.class_name,
            output_shape=tuple(row.output_size[1:]),
            kernel=_size(getattr(row.module, "kernel_size", None)),
            stride=_size(getattr(row.module, "stride", None)),
            parameters=sum(size for one, size in sizes.items() if one not in counted),
            mult_adds=next(made[key]),
            receptive_field=next(seen[key]).side,
        )
        counted |= sizes.keys()
        layers.append(layer)
    return layers


def _size(value: Any) -> _Size | None:
    """Return a side in pixels, or the sides where they differ."""
    if isinstance(value, tuple | list):
        return value[0] if len(set(value)) == 1 else tuple(value)
    return value if isinstance(value, int) else None
