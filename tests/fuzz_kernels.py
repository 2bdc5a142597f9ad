"""Random networks, through the kernels and torch's own way: the same numbers, or the same error.

    python tests/fuzz_kernels.py SEED COUNT [overrun]

prints one line of JSON. `overrun` then hands a kernel fewer pictures than it is told: built with
AddressSanitizer (`CXX="g++ -fsanitize=address"`) it ends the process with a report.
"""

from __future__ import annotations

import ctypes
import itertools
import json
import sys
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from mnistcli.engine import lanes, machine

HALVES = [torch.float32] * 2 + [torch.bfloat16] * machine.cpu_has_tiles()
BATCHES = [3, 5, 7, 15, 16, 17, 33, 40]  # of 1 or 2 a norm may leave nothing but rounding


class OwnReLU(nn.ReLU):
    """An activation that only looks like one that the kernels know."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) - 0.25


class Sum(nn.Module):
    """A map and what a branch makes of it, at every second pixel where the branch halves it."""

    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, values: Tensor) -> Tensor:
        return self.branch(values) + values


class HalvedSum(Sum):
    def forward(self, values: Tensor) -> Tensor:
        return self.branch(values) + values[:, :, ::2, ::2]


def norm_of(random: Random, channels: int) -> nn.Module:
    """Return a layer with weights of its own: mostly plain, seldom for another width."""
    wrong = channels + random.choice([-1, 1, 8]) if random.random() < 0.01 else channels
    options: dict[str, Any] = random.choice(
        [{}] * 40 + [{"momentum": None}, {"momentum": 1}, {"affine": False}, {"eps": 1e-2}]
        + [{"track_running_stats": False}]
    )  # fmt: skip
    norm = nn.BatchNorm2d(max(1, wrong), **options)
    for parameter in norm.parameters():
        nn.init.uniform_(parameter, 0.3, 1.5)
    if norm.running_mean is not None and random.random() < 0.1:
        norm.running_mean.fill_(random.choice([1e3, -1e4]))
    return norm


def activation_of(random: Random) -> list[nn.Module]:
    """Return what follows a convolution: mostly a normalisation and an activation."""
    kinds: list[Callable[[], nn.Module]] = [nn.ReLU, nn.Hardswish, nn.Identity] * 6
    kinds += [nn.Tanh, OwnReLU, lambda: nn.ReLU(inplace=True), lambda: nn.Dropout(0.0)]
    return [random.choice(kinds)()]


def unit_of(random: Random, channels: int, side: int) -> tuple[list[nn.Module], int, int]:
    """Return a few layers, how many channels they give and the side of their maps."""
    kind = random.random()
    if kind < 0.15 and side % 2 == 0:
        return [random.choice([nn.MaxPool2d, nn.AvgPool2d])(2)], channels, side // 2
    if kind < 0.3:
        halves = random.random() < 0.5
        branch = nn.Conv2d(channels, channels, 3, 1 + halves, 1, bias=random.random() < 0.5)
        sum_of = HalvedSum if halves else Sum
        return [sum_of(branch)], channels, (side + 1) // 2 if halves else side
    kernel = random.choice([size for size in (1, 2, 3, 3, 5) if size <= side])
    stride, border = random.choice([1, 1, 2]), random.randint(0, kernel // 2)
    outputs = random.choice([random.randint(1, 20), 8, 16])
    bias, groups = random.random() < 0.5, 1
    if random.random() < 0.25:
        outputs, groups = random.choice([(channels, channels), (2 * channels, channels)])
    conv = nn.Conv2d(channels, outputs, kernel, stride, border, groups=groups, bias=bias)
    norm = [norm_of(random, outputs)] if random.random() < 0.6 else []
    layers = [conv, *norm, *activation_of(random)]
    return layers, outputs, (side + 2 * border - kernel) // stride + 1


def network(random: Random) -> nn.Sequential:
    """Return one to four units and a head."""
    layers, channels, side = unit_of(random, 1, 28)
    for _ in range(random.randint(0, 3)):
        more, channels, side = unit_of(random, channels, side)
        layers += more
    if random.random() < 0.3:
        layers += [nn.Conv2d(channels, channels, side, groups=channels, bias=False)]
        layers += [norm_of(random, channels)] if random.random() < 0.5 else []
        side = 1
    if random.random() < 0.5:
        return nn.Sequential(*layers, nn.Conv2d(channels, 10, 1), nn.AvgPool2d(side), nn.Flatten())
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * side * side, 10))


def disturb(random: Random, net: nn.Sequential) -> None:
    """Do to one layer what people do to layers."""
    layer = random.choice([module for module in net.modules() if module is not net])
    double: Callable[..., Any] = lambda *values: values[-1] * 2  # noqa: E731
    match random.randrange(10):
        case 0:
            layer.register_forward_hook(double)
        case 1:
            layer.register_forward_pre_hook(lambda module, inputs: (inputs[0] * 2,))
        case 2:
            layer.register_full_backward_hook(lambda module, into, out: (into[0] * 2,))
        case 3 if layer._parameters.get("weight") is not None:
            prune.custom_from_mask(layer, "weight", layer.weight > 0)
        case 4:
            layer.eval()
        case 5:
            layer.requires_grad_(False)
        case 6:
            layer.double()
        case 7 if layer._parameters.get("bias") is not None:
            layer.bias = nn.Parameter(torch.ones(2 * len(layer.bias))[::2])
        case 8:
            net[random.randrange(len(net))] = random.choice([nn.ReLU(), nn.Identity()])
        case 9:
            net.register_forward_hook(double)


class Case:
    """One network and what is done with it, always the same for a name; `special` by kernels."""

    def __init__(self, name: str, *, special: bool = False, exact: bool = False) -> None:
        random = Random(name)
        torch.manual_seed(random.randrange(2**32))
        self.dtype, self.exact = random.choice(HALVES), exact
        self.net = network(random).to(memory_format=torch.channels_last)
        self.net.train(random.random() < 0.85)
        changes = random.choice([0, 0, 0, 1])
        threads = random.randint(1, 4)
        if special and lanes.why_not(self.net, training=self.net.training) is None:
            lanes.specialise(self.net, self.dtype, threads)
        for _ in range(changes):
            disturb(random, self.net)
        self.images = torch.randn(random.choice(BATCHES), 1, 28, 28)
        if exact:
            self.net, self.images = self.net.double(), self.images.double()

    def outcome(self) -> Iterator[Any]:
        """Yield what two steps give, in order: tensors, or at last an error."""
        try:
            for _ in range(2):
                yield from self._step()
        except Exception as error:
            yield type(error)

    def _step(self) -> Iterator[Tensor]:
        halves = self.dtype == torch.bfloat16 and not self.exact
        grad = torch.set_grad_enabled(self.net.training)
        with grad, torch.autocast("cpu", torch.bfloat16, enabled=halves):
            output = self.net(self.images)
        yield output.detach().clone()
        yield from (buffer.clone() for buffer in self.net.buffers())
        trained = [p for p in self.net.parameters() if p.requires_grad]
        if self.net.training and trained:
            weights = torch.linspace(0, 9, output.numel(), dtype=torch.float64).sin()
            loss = (output.double() * weights.view(output.shape)).sum()
            found = torch.autograd.grad(loss, trained, allow_unused=True)
            yield from (g for g in found if g is not None)


def differs(ours: Any, theirs: Any, exact: Any, *, halves: bool) -> bool:
    """Return whether results are unlike, or ours further from fp64 than torch's rounding is."""
    if not all(isinstance(one, Tensor) for one in (ours, theirs, exact)):
        return ours is not theirs
    if ours.shape != theirs.shape:
        return True
    wrong = [(one.double() - exact.double()).norm().item() for one in (ours, theirs)]
    largest = exact.double().norm().item()
    return not wrong[0] <= (0.15 if halves else 2e-5) * (1 + largest) + 4 * wrong[1]


def fuzz(seed: int, count: int) -> dict[str, Any]:
    """Return what became of `count` cases; case i has the seed "SEED/i"."""
    failures: list[str] = []
    calls, raised, through_kernels = 0, 0, 0
    kernel = lanes._Bound.call

    def counted(*arguments: Any) -> None:
        nonlocal calls
        calls += 1
        kernel(*arguments)

    lanes._Bound.call = counted  # type: ignore[method-assign]
    for case in range(count):
        before, name = calls, f"{seed}/{case}"
        made = [Case(name, special=True), Case(name), Case(name, exact=True)]
        found = list(itertools.zip_longest(*(one.outcome() for one in made)))
        halves = made[0].dtype == torch.bfloat16
        bad = [place for place, three in enumerate(found) if differs(*three, halves=halves)]
        failures += [f"{name}: {bad} of {len(found)}"] * bool(bad)
        raised += isinstance(found[-1][0], type)
        through_kernels += calls > before
    lanes._Bound.call = kernel  # type: ignore[method-assign]
    return {
        "seed": seed, "count": count, "through_kernels": through_kernels, "raised": raised,
        "failures": failures,
    }  # fmt: skip


def overrun() -> None:
    """Read behind the end of a batch."""
    net = nn.Sequential(nn.Conv2d(1, 10, 28), nn.Flatten())
    lanes.specialise(net, torch.float32, 1)
    bound = net.forward._bound  # type: ignore[union-attr]
    bound.call("lanes_forward", bound._data, torch.zeros(1, 1, 28, 28), ctypes.c_int64(16),
               ctypes.c_bool(True), ctypes.c_int(1), torch.zeros(16, 10))  # fmt: skip


if __name__ == "__main__":
    machine._COMPILE_SECONDS = 900  # sanitizers take their time
    sys.stdout.write(json.dumps(fuzz(int(sys.argv[1]), int(sys.argv[2]))) + "\n")
    sys.stdout.flush()
    if "overrun" in sys.argv:
        overrun()
