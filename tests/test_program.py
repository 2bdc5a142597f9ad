"""What the kernels' reader of networks takes, what it refuses by name, and traps in between."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from twins import assert_alike, needs_compiler, pictures

from mnistcli.engine import program
from mnistcli.engine.stages import Unknown


class Base(nn.Module):
    """What the forwards below are made of."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.norm, self.relu = nn.BatchNorm2d(4), nn.ReLU(inplace=True)
        self.register_buffer("fixed", torch.randn(4, 4, 3, 3) * 0.2)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("heat", torch.zeros(()))
        self.plain = torch.randn(4, 4, 3, 3) * 0.2
        self.scale = nn.Parameter(torch.ones(1))
        self.square = nn.Parameter(torch.eye(4))
        self.halved = nn.Parameter(torch.randn(4, 2, 3, 3))
        self.deep, self.broad = (nn.Parameter(torch.randn(n, 1, 3, 3)) for n in (4, 8))
        self.wide = nn.ParameterDict({n: nn.Parameter(torch.ones(3136)) for n in ("w", "b")})
        self.register_buffer("m", torch.zeros(3136))
        self.register_buffer("v", torch.ones(3136))


Forward = Callable[[Any, Tensor], Any]


def net_of(forward: Forward) -> nn.Module:
    """Return a network whose forward ends in a linear layer."""
    whole = lambda self, x: self.head(forward(self, x).flatten(1))  # noqa: E731
    net = type("Net", (Base,), {"forward": whole})()
    features = forward(copy.deepcopy(net), torch.zeros(2, 1, 28, 28)).flatten(1)
    net.head = nn.Linear(features.shape[1], 10)
    return net


class LeNet(nn.Module):
    """As in many a course."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 6, 5, padding=2), nn.Conv2d(6, 16, 5)
        self.fc1, self.fc2, self.fc3 = nn.Linear(400, 120), nn.Linear(120, 84), nn.Linear(84, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), (2, 2))
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = x.view(-1, 400)
        x = F.relu(self.fc1(x))
        return self.fc3(F.relu(self.fc2(x)))


class Block(nn.Module):
    """A residual block with a count of its own calls."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        count = self.steps
        count += 1
        return x + self.relu(self.norm(self.conv(x)))


def residual() -> nn.Module:
    blocks = [Block(6) for _ in range(3)]
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, 2), *blocks, nn.Dropout(0.0), nn.AvgPool2d(13), nn.Flatten(),
        nn.Linear(6, 10),
    )  # fmt: skip


@needs_compiler
@pytest.mark.parametrize("make", [LeNet, residual])
def test_usual_own_networks_are_read_and_train_right(make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    assert_alike(make(), pictures(17))


READ: dict[str, Forward] = {
    "an alias": lambda net, x: [y := net.first(x), F.relu_(y), y][-1],
    "one norm, then in place": lambda net, x: net.relu(net.norm(net.first(x))),
    "no dropout": lambda net, x: F.dropout(net.first(x), 0.5, training=False),
    "a step counter": lambda net, x: [net.steps.add_(1), net.first(x)][1],
    "a skip": lambda net, x: (y := net.first(x)) + net.second(y),
    "a skip after an activation": lambda net, x: (y := net.first(x).relu()) + net.second(y),
    "a skip in place": lambda net, x: net.second(y := net.first(x)).add_(y),
    "a mean": lambda net, x: net.first(x).relu().mean((-1, 2)),
    "a mean that keeps its form": lambda net, x: torch.mean(net.first(x), [2, 3], keepdim=True),
    "a depthwise convolution": lambda net, x: F.conv2d(net.first(x), net.deep, padding=1, groups=4),
    "a layer twice": lambda net, x: net.second(net.second(net.first(x))),
    "another flatten": lambda net, x: net.first(x).reshape(x.size(0), -1).relu(),
}
REFUSED: dict[str, tuple[str, Forward]] = {
    "sigmoid": ("torch.sigmoid", lambda net, x: torch.sigmoid(net.first(x))),
    "gelu": ("torch.nn.functional.gelu", lambda net, x: F.gelu(net.first(x))),
    "a mean of rows": ("mean as it", lambda net, x: net.first(x).mean(2)),
    "a mean of channels": ("mean as it", lambda net, x: net.first(x).mean((1, 2))),
    "a mean of all": ("mean as it", lambda net, x: net.first(x).mean().expand(len(x), 1)),
    "a mean of the flattened": ("as it", lambda net, x: net.first(x).flatten(2).mean(2)),
    "a mean in double": ("mean as it", lambda net, x: net.first(x).mean(
        (2, 3), dtype=float).float()),
    "a product": ("torch.Tensor.mul", lambda net, x: net.first(x) * net.scale),
    "a concatenation": ("torch.cat", lambda net, x: torch.cat([net.first(x)] * 2)),
    "a detour": ("torch.Tensor.detach", lambda net, x: net.first(x).detach()),
    "dropout": ("dropout as it", lambda net, x: F.dropout(net.first(x), 0.1)),
    "dropout by default": ("dropout as it", lambda net, x: F.dropout(net.first(x))),
    "a norm in evaluation": ("batch_norm as it", lambda net, x: F.batch_norm(
        net.first(x), net.norm.running_mean, net.norm.running_var)),
    "a norm of the flattened": ("batch_norm as it", lambda net, x: F.batch_norm(
        net.first(x).flatten(1), net.m, net.v, net.wide["w"], net.wide["b"], True)),
    "a momentum by the batch": ("next call", lambda net, x: F.batch_norm(
        net.first(x), net.norm.running_mean, net.norm.running_var, net.norm.weight,
        net.norm.bias, True, 1 / len(x))),
    "three by three windows": ("max_pool2d as it", lambda net, x: F.max_pool2d(net.first(x), 3)),
    "overlapping windows": ("max_pool2d as it", lambda net, x: F.max_pool2d(x, 2, 1)),
    "rounded-up windows": ("max_pool2d as it", lambda net, x: F.max_pool2d(
        net.first(x), 2, ceil_mode=True)),
    "other strides": ("as it", lambda net, x: net.first(x)[:, :, ::2] + net.first(x)[:, :, ::2]),
    "odd rows": ("__getitem__ as it", lambda net, x: net.first(x)[:, :, 1::2, 1::2]),
    "every second row read": ("as it", lambda net, x: net.second(net.first(x)[:, :, ::2, ::2])),
    "groups": ("conv2d as it", lambda net, x: F.conv2d(net.first(x), net.halved, groups=2)),
    "two outputs of each": ("conv2d as it", lambda net, x: F.conv2d(
        net.first(x), net.broad, groups=4)),
    "a dilation": ("conv2d as it", lambda net, x: F.conv2d(x, net.first.weight, dilation=2)),
    "a fixed filter": ("fixed as what", lambda net, x: F.conv2d(net.first(x), net.fixed)),
    "an attribute as filter": ("plain as what", lambda net, x: F.conv2d(net.first(x), net.plain)),
    "a computed filter": ("abs", lambda net, x: F.conv2d(x, net.first.weight.abs())),
    "itself added": ("add as it", lambda net, x: (y := net.first(x)) + y),
    "a weighed sum": ("add as it", lambda net, x: torch.add(
        y := net.first(x), net.second(y), alpha=2)),
    "a broadcast sum": ("add as it", lambda net, x: net.first(x) + x),
    "a number added": ("add as it", lambda net, x: net.first(x) + 1),
    "a parameter added": ("add as it", lambda net, x: net.first(x) + net.scale),
    "a counter not in place": ("as it", lambda net, x: [net.steps + 1, net.first(x)][1]),
    "a counter by twos": ("as it", lambda net, x: [net.steps.add_(1, alpha=2), net.first(x)][1]),
    "a counter of another kind": ("as it", lambda net, x: [net.heat.add_(1), net.first(x)][1]),
    "a counter twice": ("counters", lambda net, x: [
        net.steps.add_(1), net.steps.add_(1), net.first(x)][2]),
    "before its norm": ("batch_norm as it", lambda net, x: (
        net.second(y := net.first(x)) + net.norm(y))),
    "before its activation": ("relu as it", lambda net, x: (
        net.second(y := net.first(x)) + y.relu())),
    "after its norm": ("add as it", lambda net, x: [y := net.first(x), net.norm(y) + y][1]),
    "a view of before": ("as it", lambda net, x: [
        y := net.first(x), z := y.flatten(1), F.relu_(y), net.second(y).flatten(1) + z][3]),
    "a view of before a sum": ("as it", lambda net, x: [
        y := net.first(x), z := y.flatten(1), y.add_(net.second(y)), z][3]),
    "two norms": ("batch_norm as it", lambda net, x: net.norm(net.norm(net.first(x)))),
    "a norm after its activation": ("batch_norm as it", lambda net, x: net.norm(
        F.relu(net.first(x)))),
    "two activations": ("relu as it", lambda net, x: F.hardswish(net.first(x)).relu()),
    "pictures activated": ("relu as it", lambda net, x: net.first(x.relu())),
    "a norm twice": ("used twice", lambda net, x: net.norm(net.second(net.norm(net.first(x))))),
    "a norm's mean elsewhere": ("used twice", lambda net, x: net.norm(F.conv2d(
        net.first(x), net.second.weight, net.norm.running_mean))),
    "a norm's bias elsewhere": ("used twice", lambda net, x: net.norm(F.conv2d(
        net.first(x), net.second.weight, net.norm.bias))),
    "a matrix over other maps": ("linear as it", lambda net, x: F.linear(F.linear(
        F.avg_pool2d(x, 14).flatten(1), net.square), net.square)),
    "an unused branch": ("do not depend", lambda net, x: [y := net.first(x), net.second(y), y][2]),
    "an unused norm": ("as it", lambda net, x: [y := net.first(x), net.norm(y), y][2]),
    "a hook on a value": ("what fails", lambda net, x: [
        y := net.first(x), y.register_hook(abs), y][2]),
    "two pictures apart": ("as it", lambda net, x: net.first(x)[:1]),
}  # fmt: skip


@pytest.mark.parametrize("kind", READ)
def test_usual_ways_to_write_a_forward_are_read(kind: str) -> None:
    net = net_of(READ[kind])
    before = copy.deepcopy(net.state_dict())
    state = torch.get_rng_state()
    assert program.read(net, training=True).stages
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize("kind", REFUSED)
def test_what_the_kernels_do_not_do_is_refused_by_name(kind: str) -> None:
    said, forward = REFUSED[kind]
    with pytest.raises(Unknown) as caught:
        program.read(net_of(forward), training=True)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "layers",
    [
        [nn.Linear(784, 10), nn.ReLU()],
        [nn.Linear(784, 10), nn.Unflatten(1, (10, 1, 1)), nn.BatchNorm2d(10), nn.Flatten()],
        [nn.Unflatten(1, (1, 28, 28)), nn.Conv2d(1, 10, 28)],
        [nn.Unflatten(1, (1, 28, 28)), nn.Conv2d(1, 10, 27), nn.Flatten()],
        [],
    ],
)
def test_logits_are_what_a_stage_writes(layers: list[nn.Module]) -> None:
    with pytest.raises(Unknown):
        program.read(nn.Sequential(nn.Flatten(), *layers), training=True)
