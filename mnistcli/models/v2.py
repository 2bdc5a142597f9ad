"""v2: v1 with batch normalisation, ReLU and dropout after each convolution, 6,704 parameters."""

from __future__ import annotations

from torch import nn

from mnistcli.models.layers import unit


def dropped(inputs: int, outputs: int, dropout: float) -> list[nn.Module]:
    """Return convolution 3×3, batch normalisation, ReLU, dropout, in this order."""
    return [*unit(inputs, outputs), nn.Dropout(dropout)]


def transition() -> list[nn.Module]:
    """Return max-pooling and a 1×1 convolution to 8 channels; the pooling comes first."""
    return [nn.MaxPool2d(2), nn.Conv2d(16, 8, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU()]


def build(dropout: float) -> nn.Module:
    """Return v2: [N, 1, 28, 28] → logits [N, 10]."""
    return nn.Sequential(
        *dropped(1, 8, dropout), *dropped(8, 10, dropout), *dropped(10, 16, dropout),  # 28×28
        *transition(),
        *dropped(8, 8, dropout), *dropped(8, 10, dropout), *dropped(10, 16, dropout),  # 14×14
        *transition(),
        nn.Conv2d(8, 16, 3, padding=1, bias=False),  # 7×7
        nn.AdaptiveAvgPool2d(1),
        nn.Conv2d(16, 10, 1, bias=False),
        nn.Flatten(),
    )  # fmt: skip
