"""v1 with what it lacks, one part at a time: for the question what limits it."""

from __future__ import annotations

from torch import nn


def build(norm: bool = False, relu: bool = False, times: int = 1) -> nn.Module:
    """Return [N, 1, 28, 28] → logits [N, 10]: v1, with `times` as many channels.

    `norm` puts batch normalisation after each convolution but the last, `relu` a ReLU.
    """

    def unit(inputs: int, outputs: int, kernel: int = 3) -> list[nn.Module]:
        bare = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
        return [bare, *[nn.BatchNorm2d(outputs)] * norm, *[nn.ReLU()] * relu]

    a, b, c = 8 * times, 10 * times, 16 * times
    return nn.Sequential(
        *unit(1, a), *unit(a, b), *unit(b, c), *unit(c, a, 1), nn.MaxPool2d(2),  # 28×28
        *unit(a, a), *unit(a, b), *unit(b, c), *unit(c, a, 1), nn.MaxPool2d(2),  # 14×14
        *unit(a, c),  # 7×7
        nn.AdaptiveAvgPool2d(1), nn.Conv2d(c, 10, 1, bias=False), nn.Flatten(),
    )  # fmt: skip
