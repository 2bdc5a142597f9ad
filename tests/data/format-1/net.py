"""The network of the stored checkpoint beside this file."""

from torch import nn


def tiny(width: int = 8) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, width, 5, stride=2),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, 10, 5, stride=2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
