"""v7 to v10: depthwise-separable convolutions, in four sizes."""

from __future__ import annotations

from torch import nn

from mnistcli.models.layers import normalised, unit


def build(stages: str, activation: str, *, shared: bool = False) -> nn.Module:
    """Return [N, 1, 28, 28] → logits [N, 10], from each convolution's output channels.

    `stages` are three, parted by spaces, and work at 28×28, 14×14 and 7×7, with max-pooling between
    them; their convolutions are parted by hyphens: "6-10 12-12 14-14". The first is a 3×3
    convolution, the others are separable (Chollet, arXiv:1610.02357): a depthwise 3×3, then a 1×1
    that mixes the channels, for 9·in + in·out parameters where a dense one has 9·in·out. The
    pooling is learned in two steps, a depthwise 3×3 of stride 2 and one over the 4×4 places left:
    25 parameters a channel, where one over all 49 has 49. `activation` is relu or hardswish.

    `shared`: all separable convolutions with the same number of input and output channels use one
    set of weights; each has its own normalisation. The pooling's first step is done twice, with the
    same weights, and leaves 2×2 places: 13 parameters a channel.

    Raises:
        ValueError: `stages` is not of that form, or `activation` is another.
    """
    parts = stages.split(" ")
    if len(parts) != 3:
        raise ValueError(f"stages={stages!r}: three, such as '6-10 12-12 14-14'")
    layers: list[nn.Module] = []
    pairs: dict[int, list[nn.Module]] = {}  # the shared one, by its number of channels
    channels = 1
    for index, part in enumerate(parts):
        if index:
            layers.append(nn.MaxPool2d(2))
        for outputs in map(int, part.split("-")):
            if channels == 1:
                layers += unit(1, outputs, activation=activation)
            else:
                pair = [_depthwise(channels), nn.Conv2d(channels, outputs, 1, bias=False)]
                if shared and outputs == channels:
                    pair = pairs.setdefault(channels, pair)
                layers += [*pair, *normalised(outputs, activation)]
            channels = outputs
    halving, side = [_depthwise(channels, stride=2)], 4
    if shared:
        halving, side = halving * 2, 2
    layers += [*halving, nn.Conv2d(channels, channels, side, groups=channels, bias=False)]
    return nn.Sequential(*layers, nn.BatchNorm2d(channels), nn.Flatten(), nn.Linear(channels, 10))


def _depthwise(channels: int, stride: int = 1) -> nn.Module:
    return nn.Conv2d(channels, channels, 3, stride, padding=1, groups=channels, bias=False)
