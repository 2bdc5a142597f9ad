"""Our max-pooling is torch's, forward and backward, ties included."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mnistcli.engine.pooling import max_pool_2x2, specialise


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(8, 10, 28, 28), (3, 16, 14, 14), (2, 5, 7, 7)])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_values_and_gradients_are_torchs_bit_for_bit(
    dtype: torch.dtype, shape: tuple[int, ...], layout: torch.memory_format
) -> None:
    torch.manual_seed(0)
    features = (torch.randn(shape) * 3).round().to(dtype)  # rounded: most windows have ties
    features = features.to(memory_format=layout).requires_grad_()
    ours, theirs = max_pool_2x2(features), F.max_pool2d(features, 2)
    gradient = torch.randn_like(theirs)
    assert torch.equal(ours, theirs)
    pair = [torch.autograd.grad(pooled, features, gradient)[0] for pooled in (ours, theirs)]
    assert torch.equal(*pair)


def test_only_plain_pools_are_replaced() -> None:
    model = nn.Sequential(nn.MaxPool2d(2), nn.MaxPool2d(3), nn.MaxPool2d(2, stride=1))
    features = torch.randn(1, 2, 12, 12)
    before = [module(features) for module in model]
    specialise(model)
    assert [("forward" in vars(module)) for module in model] == [True, False, False]
    assert all(map(torch.equal, before, [module(features) for module in model]))
