"""Receptive fields against gradients, for drawn networks and for each kind of function."""

from __future__ import annotations

import random

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mnistcli import recipe
from mnistcli.audit import audit
from mnistcli.audit.follow import receptive_fields
from mnistcli.models.registry import MODELS, build


def support(model: nn.Module, layers: int) -> int:
    """Return the side of the square of the input that the middle output depends on."""
    pictures = torch.rand(1, 1, 28, 28, requires_grad=True)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(0.1)
    assert isinstance(model, nn.Sequential)
    output = model[:layers](pictures)
    middle = output.shape[-1] // 2
    output[0, :, middle, middle].sum().backward()
    assert pictures.grad is not None
    rows = pictures.grad[0, 0].abs().sum(dim=1).nonzero()
    return int(rows.max() - rows.min()) + 1


def test_receptive_fields_agree_with_the_gradients_support() -> None:
    """Max-pooling passes gradient to one pixel only, so averages stand in for it."""
    counted = audit(MODELS["v1"], recipe.load("v1").model_args)
    model = build(MODELS["v1"], recipe.load("v1").model_args)
    assert isinstance(model, nn.Sequential)
    averaged = nn.Sequential(
        *(nn.AvgPool2d(2) if isinstance(m, nn.MaxPool2d) else m for m in model)
    )
    for index, layer in enumerate(counted.layers[:9], start=1):
        assert support(averaged, index) == layer.receptive_field, layer.name


STEPS = ["convolve", "convolve", "pool", "cut", "pad", "join", "cat", "turn", "act"]


class Drawn(nn.Module):
    """Functions and their windows drawn from a seed; each lets every pixel's change through."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        draw = random.Random(seed)
        self.steps = [draw.choice(STEPS) for _ in range(draw.randint(3, 6))]
        strides, paddings = [1, 1, 2], [0, 1, 2]
        self.windows = [(draw.choice([2, 3, 5]), draw.choice(strides), draw.choice(paddings),
                         draw.choice(strides)) for _ in self.steps]  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        for step, window in zip(self.steps, self.windows, strict=True):
            x = getattr(self, step)(x, *window) if x.shape[-1] > 9 else x
        return x

    def convolve(self, x: Tensor, side: int, *window: int) -> Tensor:
        stride, padding, dilation = window
        weight = x.new_full((2, x.shape[1], side, side), 0.1)
        return F.conv2d(x, weight, stride=stride, padding=padding, dilation=dilation)

    def pool(self, x: Tensor, *window: int) -> Tensor:
        return F.avg_pool2d(x, 3, stride=2, padding=1)

    def cut(self, x: Tensor, *window: int) -> Tensor:
        return x[..., 1:-2, 2:-1]

    def pad(self, x: Tensor, *window: int) -> Tensor:
        return F.pad(x, (0, 2, 2, 0))

    def join(self, x: Tensor, *window: int) -> Tensor:
        """Add two branches in place, one of them shifted."""
        total = F.avg_pool2d(x, 3, stride=1)
        total += x[:, :, :-2, :-2] * 2
        return total

    def cat(self, x: Tensor, *window: int) -> Tensor:
        return torch.cat([x[:, :, ::2, ::2], F.avg_pool2d(x, 2, ceil_mode=True)], 1)

    def turn(self, x: Tensor, *window: int) -> Tensor:
        return x.unsqueeze(1).transpose(3, 4).permute(0, 1, 2, 4, 3).squeeze(1).flatten(0, 0)

    def act(self, x: Tensor, *window: int) -> Tensor:
        return F.softplus(torch.exp(-x) + F.gelu(x + 1).sigmoid())


def extents(model: nn.Module) -> list[tuple[int, int, bool]]:
    """Return the height and width of the gradient of each output position, and if it is cut."""
    picture = torch.rand(1, 1, 28, 28, dtype=torch.double, requires_grad=True)
    found = []
    values = model(picture).sum(1).flatten()
    for value in values[:: max(1, len(values) // 64)]:
        (gradient,) = torch.autograd.grad(value, picture, retain_graph=True)
        rows, columns = (gradient[0, 0] != 0).nonzero(as_tuple=True)
        if len(rows):
            cut = min(*rows, *columns) == 0 or max(*rows, *columns) == 27
            found.append((int(rows.max() - rows.min()) + 1,
                          int(columns.max() - columns.min()) + 1, bool(cut)))  # fmt: skip
    return found


@pytest.mark.parametrize("seed", range(16))
def test_no_drawn_network_gets_a_wrong_receptive_field(seed: int) -> None:
    model = Drawn(seed)
    side = receptive_fields(model, torch.zeros(1, 1, 28, 28))[1].side
    found = extents(model)
    whole = [max(height, width) for height, width, cut in found if not cut]
    assert side is not None
    assert max(max(height, width) for height, width, _ in found) <= side
    assert not whole or max(whole) == side


class Made(nn.Module):
    """A network given as a function of the pictures and its parts."""

    def __init__(self, forward: object, *parts: nn.Module) -> None:
        super().__init__()
        self.parts, self.run = nn.ModuleList(parts), forward

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.run(images, *self.parts)  # type: ignore[operator]
        return features


def sees(forward: object, *parts: nn.Module) -> tuple[int | None, str | None]:
    """Return the side and the reason for what `forward` makes of a picture and these parts."""
    reach = receptive_fields(Made(forward, *parts), torch.zeros(1, 1, 28, 28))[1]
    return reach.side, reach.reason


CONVOLUTION = nn.Conv2d(1, 4, 5)


def in_place(x: Tensor, small: nn.Module, big: nn.Module) -> Tensor:
    total: Tensor = small(x)
    total += big(x)
    return total


def test_branches_that_are_joined_see_what_both_see() -> None:
    small, big = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(1, 8, 15, padding=7)
    assert sees(in_place, small, big) == (15, None)
    assert sees(lambda x, c: torch.cat([c(x), x[:, :, 2:-2, 2:-2]], 1), CONVOLUTION) == (5, None)
    shifted = sees(lambda x, c: c(x)[..., :-3, :-3] + c(x)[..., 3:, 3:], CONVOLUTION)
    assert shifted == (8, None)


@pytest.mark.parametrize(
    ("forward", "side"),
    [
        (lambda x, c: F.max_pool2d(c(x), 3, 2), 7),
        (lambda x, c: F.gelu(F.dropout(c(x).clamp(0, 1))) ** 2, 5),
        (lambda x, c: c(x).mean((2, 3)), 28),
        (lambda x, c: c(x).flatten(1), 5),
        (lambda x, c: F.linear(c(x).flatten(1), torch.ones(10, 2304)), 28),
        (lambda x, c: F.group_norm(c(x), 2), 28),
        (lambda x, c: F.instance_norm(c(x)), 28),
        (lambda x, c: F.layer_norm(c(x), (4, 24, 24)), 28),
        (lambda x, c: c(x) * torch.sigmoid(F.adaptive_avg_pool2d(c(x), 1)), 28),
        (lambda x, c: F.interpolate(c(x).mean((2, 3), keepdim=True), scale_factor=2), 28),
        (lambda x, c: c(x)[:, :, 3, 3], 5),
    ],
)
def test_functions_are_followed(forward: object, side: int) -> None:
    assert sees(forward, CONVOLUTION) == (side, None)


def write(x: Tensor, part: nn.Module) -> Tensor:
    """Change a map through a view of it."""
    features: Tensor = part(x)
    features[:, :, ::2].copy_(x.mean())
    return features


@pytest.mark.parametrize(
    ("forward", "reason"),
    [
        (lambda x, c: F.conv2d(c(x), torch.ones(1, 4, 3, 1)), "7 by 5 pixels"),
        (lambda x, c: F.interpolate(c(x), scale_factor=2), "interpolate"),
        (lambda x, c: F.conv_transpose2d(c(x), torch.ones(4, 1, 2, 2)), "conv_transpose2d"),
        (lambda x, c: c(x).roll(1, 3), "roll"),
        (lambda x, c: c(x).std(True), "older arguments"),
        (lambda x, c: c(x)[:, :, [1, 2]], "getitem by a list"),
        (lambda x, c: c(x)[:, :, ::2] + c(x)[:, :, :12], "different scales"),
        (lambda x, c: c(x) + c(x)[:, :, 3:4, 3:4], "from elsewhere"),
        (lambda x, c: c(x).view(1, 8, 12, 24), "view to this shape"),
        (lambda x, c: c(x) @ c(x), "matmul"),
        (write, "unseen origin"),
        (lambda x, c: c.weight.sum((1, 2, 3)), "no picture"),
    ],
)
def test_what_is_not_followed_has_no_field_but_a_reason(forward: object, reason: str) -> None:
    side, said = sees(forward, CONVOLUTION)
    assert side is None
    assert said is not None
    assert reason in said
