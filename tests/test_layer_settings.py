"""A layer set to something else than the kernels do is refused, for its own reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize, prune

from mnistcli.engine import lanes


def small() -> nn.Sequential:
    """Return a network that the kernels train."""
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.0), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(676, 10),
    )  # fmt: skip


def twice(*values: Any) -> Any:
    return values[-1]


SETTINGS: dict[str, tuple[str, Callable[[nn.Sequential], object]]] = {
    "dropout": ("dropout as it", lambda net: setattr(net[3], "p", 0.1)),
    "a cumulative average": ("next call", lambda net: setattr(net[1], "momentum", None)),
    "a whole momentum": ("batch_norm as it", lambda net: setattr(net[1], "momentum", 1)),
    "no eps": ("batch_norm eps", lambda net: setattr(net[1], "eps", 0.0)),
    "no running statistics": ("batch_norm as it", lambda net: net.__setitem__(
        1, nn.BatchNorm2d(4, track_running_stats=False))),
    "no weights": ("batch_norm as it", lambda net: net.__setitem__(
        1, nn.BatchNorm2d(4, affine=False))),
    "a stride in its weight": ("1.weight as it lies", lambda net: setattr(
        net[1], "weight", nn.Parameter(torch.rand(8)[::2]))),
    "an expanded weight": ("6.weight as it lies", lambda net: setattr(
        net[6], "weight", nn.Parameter(torch.ones(1, 676).expand(10, 676)))),
    "a norm in double": ("mixed dtype", lambda net: net[1].double()),
    "a norm's memory elsewhere": ("another tensor uses", lambda net: setattr(
        net[0], "bias", nn.Parameter(net[1].running_mean))),
    "other borders": ("functional.pad", lambda net: net.__setitem__(
        0, nn.Conv2d(1, 4, 5, padding=1, padding_mode="circular"))),
    "a hook": ("2 (ReLU) has hooks", lambda net: net[2].register_forward_hook(twice)),
    "a hook on the whole": ("(Sequential) has hooks", lambda net: net.register_forward_pre_hook(
        lambda *given: None)),
    "a backward hook": ("2 (ReLU) has hooks", lambda net: net[2].register_full_backward_hook(
        lambda *given: None)),
    "a pruned layer": ("1 (BatchNorm2d) has hooks", lambda net: prune.l1_unstructured(
        net[1], "weight", amount=2)),
    "a parametrised layer": ("has code", lambda net: parametrize.register_parametrization(
        net[1], "weight", nn.Identity())),
    "another convolution": ("conv2d as it", lambda net: net.__setitem__(
        0, nn.Conv2d(1, 4, (3, 5), padding=(0, 1)))),
}  # fmt: skip


@pytest.mark.parametrize("kind", SETTINGS)
def test_a_layer_set_to_something_else_is_refused(kind: str) -> None:
    net = small()
    assert lanes.why_not(net) is None
    said, change = SETTINGS[kind]
    change(net)
    assert said in str(lanes.why_not(net))
