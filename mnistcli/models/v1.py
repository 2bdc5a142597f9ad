"""v1, the skeleton: convolutions and max-pooling only, 6,536 parameters."""

from __future__ import annotations

from torch import nn


def conv3(inputs: int, outputs: int) -> nn.Conv2d:
    """Return a 3×3 convolution that keeps the size, without bias."""
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)


def build() -> nn.Module:
    """Return v1: [N, 1, 28, 28] → logits [N, 10]. Max-pooling is its only non-linearity."""
    return nn.Sequential(
        conv3(1, 8), conv3(8, 10), conv3(10, 16),  # block 1, 28×28
        nn.Conv2d(16, 8, 1, bias=False), nn.MaxPool2d(2),  # transition 1
        conv3(8, 8), conv3(8, 10), conv3(10, 16),  # block 2, 14×14
        nn.Conv2d(16, 8, 1, bias=False), nn.MaxPool2d(2),  # transition 2
        conv3(8, 16),  # block 3, 7×7
        nn.AdaptiveAvgPool2d(1),
        nn.Conv2d(16, 10, 1, bias=False),
        nn.Flatten(),
    )  # fmt: skip
