"""v4, v5 and v6: one design in three sizes, with a learned pooling in front of the classifier."""

from __future__ import annotations

from torch import nn

from mnistcli.models.layers import unit


def build(stages: str, activation: str) -> nn.Module:
    """Return [N, 1, 28, 28] → logits [N, 10], from each convolution's output channels.

    `stages` are parted by spaces and work at 28×28, 14×14 and 7×7, with max-pooling between them;
    their convolutions are parted by hyphens: "8-10-10 12-12-12 12". A depthwise 7×7 convolution
    then weighs each of the 49 places of each channel, where average pooling would weigh all alike:
    it keeps where a stroke lies, for 49 parameters a channel. `activation` is relu or hardswish.

    Raises:
        ValueError: `stages` is not of that form, or `activation` is another.
    """
    layers: list[nn.Module] = []
    channels, parts = 1, stages.split(" ")
    if not 2 <= len(parts) <= 3:
        raise ValueError(f"stages={stages!r}: two or three, such as '8-8 12-12 10'")
    for index, part in enumerate(parts):
        if index:
            layers.append(nn.MaxPool2d(2))
        for outputs in map(int, part.split("-")):
            layers += unit(channels, outputs, activation=activation)
            channels = outputs
    if len(parts) == 2:  # none at 7×7
        layers.append(nn.MaxPool2d(2))
    pool = nn.Conv2d(channels, channels, 7, groups=channels, bias=False)
    norm = nn.BatchNorm2d(channels)
    return nn.Sequential(*layers, pool, norm, nn.Flatten(), nn.Linear(channels, 10))
