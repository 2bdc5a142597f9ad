"""2×2 max-pooling that compiles well on the CPU, with torch's numbers bit for bit.

The compiler's own backward scatters through indices, which takes a third of v3's compiled
backward pass outside the convolutions; comparing the four pixels of each window vectorises.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class _MaxPool2x2(torch.autograd.Function):
    """Map [N, C, 2H, 2W] to its window maxima [N, C, H, W]; the first maximum gets the gradient."""

    @staticmethod
    def forward(features: Tensor) -> Tensor:
        n, c, h, w = features.shape
        return features.view(n, c, h // 2, 2, w // 2, 2).amax((3, 5))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0], output)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        features, maxima = ctx.saved_tensors
        n, c, h, w = features.shape
        windows = features.permute(0, 2, 3, 1).reshape(n, h // 2, 2, w // 2, 2, c)
        maxima, left = maxima.permute(0, 2, 3, 1), gradient.permute(0, 2, 3, 1)
        taken = []
        for i, j in ((0, 0), (0, 1), (1, 0)):
            taken.append(torch.where(windows[:, :, i, :, j] == maxima, left, 0))
            left = left - taken[-1]  # exact: either all of it was taken, or nothing
        rows = torch.stack(taken[:2], 3), torch.stack([taken[2], left], 3)
        return torch.stack(rows, 2).reshape(n, h, w, c).permute(0, 3, 1, 2)


def max_pool_2x2(features: Tensor) -> Tensor:
    """Return the maxima of 2×2 windows; an odd side falls back to torch's pooling."""
    if features.shape[-1] % 2 or features.shape[-2] % 2:
        return F.max_pool2d(features, 2)
    pooled: Tensor = _MaxPool2x2.apply(features)
    return pooled


def specialise(model: nn.Module) -> None:
    """Let a network's plain 2×2 max-pools run through `max_pool_2x2`; names and state stay."""
    for module in model.modules():
        if type(module) is nn.MaxPool2d and _is_plain_2x2(module):
            module.forward = MethodType(lambda _self, x: max_pool_2x2(x), module)  # type: ignore[method-assign]


def _is_plain_2x2(module: nn.MaxPool2d) -> bool:
    pairs = [module.kernel_size, module.stride]
    return (
        all(pair in (2, (2, 2)) for pair in pairs)
        and module.padding in (0, (0, 0))
        and module.dilation in (1, (1, 1))
        and not module.ceil_mode
        and not module.return_indices
    )
