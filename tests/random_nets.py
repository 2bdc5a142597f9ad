"""Networks of every layer that C and integers know, their shapes and weights drawn from a seed."""

from __future__ import annotations

import random

import torch
from torch import Tensor, nn

ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.Hardswish, nn.Identity)


class Sum(nn.Module):
    """A map and what a branch makes of it, at every second pixel where the branch halves it."""

    def __init__(self, branch: nn.Module, step: int) -> None:
        super().__init__()
        self.branch, self.step = branch, step

    def forward(self, values: Tensor) -> Tensor:
        made: Tensor = self.branch(values) + values[:, :, :: self.step, :: self.step]
        return made


def random_net(seed: int) -> nn.Sequential:
    """Return a network in eval mode, its batch norms with statistics of their own."""
    draw = random.Random(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers, channels, side = _stem(draw)
        while side > 7 or draw.random() < 0.5:
            more, channels, side = _stage(draw, channels, side)
            layers += more
        net = nn.Sequential(*layers, *_head(draw, channels, side))
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.normal_(0, 0.3)
                module.running_var.uniform_(0.2, 2)
                nn.init.normal_(module.weight, 1, 0.3)
                nn.init.normal_(module.bias, 0, 0.3)
    return net.eval()


def _conv(draw: random.Random, channels: int, made: int, **words: int) -> list[nn.Module]:
    layers: list[nn.Module] = [nn.Conv2d(channels, made, bias=draw.random() < 0.5, **words)]  # type: ignore[arg-type]
    layers += [nn.BatchNorm2d(made)] if draw.random() < 0.7 else []
    return [*layers, draw.choice(ACTIVATIONS)()]


def _stem(draw: random.Random) -> tuple[list[nn.Module], int, int]:
    made, kernel = draw.randint(2, 6), draw.choice((1, 3, 5))
    words = {
        "kernel_size": kernel,
        "stride": draw.choice((1, 2)),
        "padding": draw.randint(0, kernel // 2),
    }
    side = (28 + 2 * words["padding"] - kernel) // words["stride"] + 1
    first = [nn.BatchNorm2d(1)] if draw.random() < 0.2 else []
    return [*first, *_conv(draw, 1, made, **words)], made, side


def _stage(draw: random.Random, channels: int, side: int) -> tuple[list[nn.Module], int, int]:
    kind = draw.choice(("pool", "strided", "sum", "depthwise", "plain"))
    if kind == "pool" and side >= 4:
        pool = draw.choice(
            (nn.MaxPool2d(2), nn.AvgPool2d(2), nn.MaxPool2d(3, 2), nn.MaxPool2d(2, 3))
        )
        side = (side - pool.kernel_size) // pool.stride + 1  # type: ignore[operator]
        return [pool, *([nn.ReLU()] if draw.random() < 0.3 else [])], channels, side
    if kind == "strided" and side >= 4:
        made = draw.randint(2, 6)
        layers = _conv(draw, channels, made, kernel_size=3, stride=2, padding=1)
        return layers, made, (side - 1) // 2 + 1
    if kind == "sum" and side >= 2:
        step = draw.choice((1, 2))
        branch = _conv(draw, channels, channels, kernel_size=3, stride=step, padding=1)
        made = [
            Sum(nn.Sequential(*branch), step),
            *([nn.Hardswish()] if draw.random() < 0.5 else []),
        ]
        return made, channels, (side - 1) // step + 1
    if kind == "depthwise":
        times = draw.choice((1, 2))
        layers = _conv(draw, channels, channels * times, kernel_size=3, padding=1, groups=channels)
        return layers, channels * times, side
    made = draw.randint(2, 6)
    return _conv(draw, channels, made, kernel_size=1), made, side


def _head(draw: random.Random, channels: int, side: int) -> list[nn.Module]:
    kind = draw.choice(("linear", "mean", "pooled", "conv"))
    if kind == "linear":
        return [nn.Flatten(), nn.Linear(channels * side * side, 6), nn.ReLU(), nn.Linear(6, 10)]
    if kind == "mean":
        return [nn.Conv2d(channels, 10, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    if kind == "pooled":
        return [nn.Conv2d(channels, channels, side, groups=channels), nn.BatchNorm2d(channels),
                nn.Flatten(), nn.Dropout(0.5), nn.Linear(channels, 10)]  # fmt: skip
    return [nn.Conv2d(channels, 10, side), nn.AdaptiveMaxPool2d(1), nn.Flatten()]
