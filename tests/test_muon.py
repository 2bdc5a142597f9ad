"""Muon: updates with equal singular values, the right weights, and a masked step."""

from __future__ import annotations

import pytest
import torch
from conftest import network
from torch import nn

from mnistcli.engine import muon
from mnistcli.engine.optim import build_optimizer, set_lr
from mnistcli.recipe import load

MUON = (
    "optim={name: muon, lr: 0.2, muon_lr: 0.05, momentum: 0.9, weight_decay: 0.01, "
    "decay_norm_and_bias: false}"
)


def test_orthogonalised_updates_are_near_the_polar_factor() -> None:
    generator = torch.Generator().manual_seed(0)
    updates = [torch.randn(shape, generator=generator) for shape in ((10, 8, 3, 3), (8, 16, 1, 1))]
    for update, evened in zip(updates, muon.orthogonalise(updates), strict=True):
        left, _, right = torch.linalg.svd(update.flatten(1), full_matrices=False)
        values = torch.linalg.svdvals(evened.flatten(1))
        assert evened.shape == update.shape
        assert 0.6 < values.min() < values.max() < 1.3  # what five iterations leave
        assert torch.cosine_similarity((left @ right).flatten(), evened.flatten(), dim=0) > 0.97


def test_first_and_classifying_layers_are_not_hidden() -> None:
    model = network("v3")
    hidden = muon.hidden_convolutions(model)
    left = [name for name, p in model.named_parameters() if p.ndim == 4 and p not in hidden]
    assert left == ["block1.0.weight", "head.0.weight"]


def test_a_tall_matrix_moves_by_the_root_of_its_shape_as_in_the_source() -> None:
    tall = torch.randn(32, 8, 1, 1, generator=torch.Generator().manual_seed(0))
    wide = tall.transpose(0, 1)
    for update, scale in ((tall, 2.0), (wide, 1.0)):
        evened = muon.orthogonalise([update, torch.eye(40)])[0]
        assert torch.linalg.svdvals(evened.flatten(1)).mean() == pytest.approx(scale, rel=0.2)


def test_convolutions_of_any_dimension_are_hidden_but_not_transposed_or_frozen_ones() -> None:
    model = nn.ModuleList(
        [
            nn.Conv2d(1, 4, 3), nn.Conv1d(4, 4, 3), nn.Conv2d(4, 4, 3), nn.Conv3d(4, 4, 3),
            nn.ConvTranspose2d(4, 4, 3), nn.Conv2d(4, 4, 3, groups=4), nn.Linear(4, 4),
            nn.Conv2d(4, 4, 3), nn.Linear(4, 10),
        ]
    )  # fmt: skip
    model[7].requires_grad_(False)
    hidden = muon.hidden_convolutions(model)
    assert [i for i, layer in enumerate(model) if layer.weight in hidden] == [1, 2, 3]


def test_a_layer_that_also_classifies_is_not_hidden() -> None:
    first, twice, hidden = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
    model = nn.Sequential(first, twice, hidden, nn.AdaptiveAvgPool2d(1), twice, nn.Flatten())
    assert muon.hidden_convolutions(model) == {hidden.weight}


def test_rates_keep_their_proportion() -> None:
    optimizer = build_optimizer(network("v3"), load("v3", settings=[MUON]).optim)
    set_lr(optimizer, 0.1)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.1, 0.1, 0.025])


def test_a_bad_step_leaves_weights_alone() -> None:
    model = network("v3")
    optimizer = build_optimizer(model, load("v3", settings=[MUON]).optim)
    before = [p.detach().clone() for p in model.parameters()]
    for found, gradient in ((1.0, float("nan")), (0.0, 1.0)):
        for parameter in model.parameters():
            parameter.grad = torch.full_like(parameter, gradient)
        optimizer.found_inf = torch.tensor(found)  # type: ignore[attr-defined]
        optimizer.step()
        same = [torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True)]
        assert all(same) if found else not any(same)
        assert all(p.isfinite().all() for p in model.parameters())
