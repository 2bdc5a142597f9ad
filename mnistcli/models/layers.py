"""What several networks are made of."""

from __future__ import annotations

from torch import nn

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "hardswish": nn.Hardswish}


def unit(inputs: int, outputs: int, stride: int = 1, activation: str = "relu") -> list[nn.Module]:
    """Return convolution 3×3 without bias, batch normalisation, activation, in this order."""
    convolution = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
    return [convolution, *normalised(outputs, activation)]


def normalised(channels: int, activation: str) -> list[nn.Module]:
    """Return batch normalisation and activation.

    Raises:
        ValueError: no such activation.
    """
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation={activation!r}: {' or '.join(ACTIVATIONS)}")
    return [nn.BatchNorm2d(channels), ACTIVATIONS[activation]()]
