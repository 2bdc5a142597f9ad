"""The audit against declared figures, torch's own counter, and gradients."""

from __future__ import annotations

import pytest
import torch
from conftest import network
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mnistcli.audit import audit
from mnistcli.models.registry import MODELS, ModelEntry
from mnistcli.recipe import model_args


@pytest.mark.parametrize("name", MODELS)
def test_totals_are_the_declared_ones(name: str) -> None:
    counted, entry = audit(MODELS[name], model_args(name)), MODELS[name]
    assert (counted.parameters, counted.mult_adds) == (entry.parameters, entry.mult_adds)
    assert sum(layer.parameters for layer in counted.layers) == entry.parameters
    assert sum(layer.mult_adds for layer in counted.layers) == entry.mult_adds


@pytest.mark.parametrize("name", MODELS)
def test_mult_adds_agree_with_torchs_flop_counter(name: str) -> None:
    model = network(name).eval()
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 1, 28, 28))
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    linear = [m for m in model.modules() if isinstance(m, nn.Linear)]
    added = sum(p.numel() for m in norms for p in m.parameters())
    added += sum(m.out_features for m in linear)  # the biases
    assert counter.get_total_flops() / 2 + added == audit(MODELS[name], model_args(name)).mult_adds


def test_the_skip_and_dropout_of_v3_are_shown() -> None:
    types = [layer.type for layer in audit(MODELS["v3"], model_args("v3")).layers]
    assert (types.count("SkipAdd"), types.count("Dropout")) == (1, 2)


def support(model: nn.Sequential, layers: int) -> int:
    """Return the side of the square of the input that the middle output depends on."""
    pictures = torch.rand(1, 1, 28, 28, requires_grad=True)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(0.1)
    output = model[:layers](pictures)
    middle = output.shape[-1] // 2
    output[0, :, middle, middle].sum().backward()
    assert pictures.grad is not None
    rows = pictures.grad[0, 0].abs().sum(dim=1).nonzero()
    return int(rows.max() - rows.min()) + 1


def test_receptive_fields_agree_with_the_gradients_support() -> None:
    """Max-pooling passes gradient to one pixel only, so averages stand in for it."""
    counted = audit(MODELS["v1"], model_args("v1"))
    model = network("v1")
    assert isinstance(model, nn.Sequential)
    averaged = nn.Sequential(
        *(nn.AvgPool2d(2) if isinstance(m, nn.MaxPool2d) else m for m in model)
    )
    for index, layer in enumerate(counted.layers[:9], start=1):
        assert support(averaged, index) == layer.receptive_field, layer.name


class Unchained(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(1, 10, 3)
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.pool(torch.relu(self.convolution(images))).flatten(1)


def test_a_field_behind_a_function_is_unknown() -> None:
    entry = ModelEntry("unchained", "test_audit:Unchained")
    assert [layer.receptive_field for layer in audit(entry, {}).layers] == [3, None]


def test_an_audit_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(3)
    audit(MODELS["v3"], model_args("v3"))
    drawn = torch.rand(1)
    torch.manual_seed(3)
    assert torch.equal(drawn, torch.rand(1))
