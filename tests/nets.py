"""Own networks that went wrong, or that must keep working; test_cases.py says what must happen."""

import random

import torch
import torch.nn.functional as F
from torch import nn


def plain(width: int = 8) -> nn.Sequential:
    """A good one, from which others here are made."""
    return nn.Sequential(
        nn.Conv2d(1, width, 5, stride=2),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, 10, 5, stride=2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )


class WrongAux(nn.Module):
    """A branch that training alone takes, its batch norm for 8 channels where 16 come."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 16, 3, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.aux = nn.Sequential(nn.BatchNorm2d(8), nn.ReLU())
        self.head = nn.Linear(16, 10)

    def forward(self, x):
        x = self.stem(x)
        return self.head((self.aux(x) if self.training else x).mean((2, 3)))


def hooked():
    """A ReLU with a forward hook that clamps: training and evaluation must both call it."""
    net = plain()
    net[2].register_forward_hook(lambda module, inputs, output: output.clamp(max=0.5))
    return net


def pruned():
    """torch.nn.utils.prune on a batch norm: `1.weight_orig` must train."""
    from torch.nn.utils import prune

    net = plain()
    prune.random_unstructured(net[1], "weight", amount=2)
    return net


def frozen_norms():
    """All batch norms frozen, no other vector: one parameter group has no gradient."""
    net = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 10, bias=False),
    )
    for module in net:
        if isinstance(module, nn.BatchNorm2d):
            module.requires_grad_(False)
    return net


def frozen_backbone():
    """Only the last layer trains: the hidden convolutions have no gradient."""
    net = frozen_norms()
    for module in net[:-1]:
        module.requires_grad_(False)
    return net


class Unused(nn.Module):
    """A hidden convolution that no forward uses."""

    def __init__(self):
        super().__init__()
        self.stem, self.extra, self.head = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3), nn.Linear(4, 10)

    def forward(self, x):
        return self.head(self.stem(x).mean((2, 3)))


class Sometimes(nn.Module):
    """Stochastic depth by Python's `random`: a layer without a gradient in half of the steps."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, 10)

    def forward(self, x):
        x = F.relu(self.first(x))
        if not self.training or random.random() < 0.5:
            x = x + F.relu(self.second(x))
        return self.head(x.mean((2, 3)))


def wide(hidden: int = 6000):
    """4.8 million parameters: refused or saved, but known before the first epoch."""
    return nn.Sequential(nn.Flatten(), nn.Linear(784, hidden), nn.ReLU(), nn.Linear(hidden, 10))


class Squeezes(nn.Module):
    """`.squeeze()` drops the batch axis of a single picture."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.head = (
            nn.Conv2d(1, 8, 5, stride=2),
            nn.BatchNorm2d(8),
            nn.Conv2d(8, 10, 12),
        )

    def forward(self, x):
        return self.head(F.relu(self.norm(self.conv(x)))).squeeze()


class Tuple(nn.Module):
    """Returns (logits, auxiliary logits) in training, logits in evaluation."""

    def __init__(self):
        super().__init__()
        self.net, self.aux = plain(), nn.Linear(784, 10)

    def forward(self, x):
        logits = self.net(x)
        return (logits, self.aux(x.flatten(1))) if self.training else logits


class Prints(nn.Module):
    """Prints in forward: stdout belongs to the product."""

    def __init__(self):
        super().__init__()
        self.net = plain()

    def forward(self, x):
        print("shape", tuple(x.shape))  # noqa: T201
        return self.net(x)


class Half(nn.Module):
    """Diverges for about half of the seeds: NaN logits in training."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 10, 28)
        self.bad = bool(self.conv.weight.detach()[0, 0, 0, 0] > 0)

    def forward(self, x):
        logits = self.conv(x).flatten(1)
        return logits * float("nan") if self.training and self.bad else logits


class Functional(nn.Module):
    """Convolutions through F.conv2d on bare parameters: 463,392 mult-adds, not 0."""

    def __init__(self):
        super().__init__()
        self.first = nn.Parameter(torch.randn(8, 1, 3, 3) * 0.3)
        self.second = nn.Parameter(torch.randn(10, 8, 3, 3) * 0.1)

    def forward(self, x):
        return F.conv2d(F.relu(F.conv2d(x, self.first)), self.second).mean((2, 3))


class AddsInPlace(nn.Module):
    """Two branches joined by `a += b`: the receptive field is 15 (or unknown), not 3."""

    def __init__(self):
        super().__init__()
        self.small, self.big = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(1, 8, 15, padding=7)
        self.head = nn.Conv2d(8, 10, 1)

    def forward(self, x):
        total = self.small(x)
        total += self.big(x)
        return self.head(total).mean((2, 3))


class Tokens(nn.Module):
    """A small vision transformer, 17 tokens: a Linear's mult-adds count each token."""

    def __init__(self, width: int = 16):
        super().__init__()
        self.patches = nn.Conv2d(1, width, 7, stride=7)
        self.first, self.place = (
            nn.Parameter(torch.zeros(1, 1, width)),
            nn.Parameter(torch.randn(1, 17, width) * 0.02),
        )
        layer = nn.TransformerEncoderLayer(width, 2, 32, batch_first=True, dropout=0.0)
        self.encoder, self.head = nn.TransformerEncoder(layer, 2), nn.Linear(width, 10)

    def forward(self, x):
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.first.expand(len(tokens), -1, -1), tokens], 1) + self.place
        return self.head(self.encoder(tokens)[:, 0])


class Rows(nn.Module):
    """An LSTM over the picture's rows: must keep working."""

    def __init__(self):
        super().__init__()
        self.rows, self.head = nn.LSTM(28, 24, batch_first=True), nn.Linear(24, 10)

    def forward(self, x):
        return self.head(self.rows(x.squeeze(1))[0][:, -1])
