"""One step of a network through the kernels, and by torch in float64, on the same numbers."""

from __future__ import annotations

import copy
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from mnistcli.engine import lanes

needs_compiler = pytest.mark.usefixtures("kernels")


class Step(NamedTuple):
    """Logits, gradients by a parameter's name, and the buffers after the step."""

    logits: Tensor
    gradients: dict[str, Tensor]
    buffers: dict[str, Tensor]

    def everything(self) -> dict[str, Tensor]:
        """Return all of it by name."""
        buffers = {f"buffer {name}": value for name, value in self.buffers.items()}
        return {"logits": self.logits} | self.gradients | buffers


def settled(*layers: nn.Module) -> nn.Sequential:
    """Return a network [N, 1, 28, 28] → [N, 10] with weights of its own, all different."""
    torch.manual_seed(0)
    net = nn.Sequential(*layers, nn.Flatten(), nn.LazyLinear(10))
    with torch.no_grad():
        net.eval()(torch.zeros(1, 1, 28, 28))
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):  # made before the seed was set, perhaps
            module.reset_parameters()
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.3, 1.5)
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean, std=0.2)
    return net.train()


def pictures(count: int, seed: int = 0) -> Tensor:
    """Return pictures with values in all places, as augmentation and standardising leave them."""
    return torch.randn(count, 1, 28, 28, generator=torch.Generator().manual_seed(seed))


def step(net: nn.Module, images: Tensor) -> Step:
    """Return what one training step computes for a loss that weighs every logit otherwise."""
    net.zero_grad()
    logits = net(images)
    weights = torch.linspace(-1, 1, logits.numel(), dtype=torch.float64).sin().view_as(logits)
    (logits * weights.to(logits.dtype)).sum().backward()
    gradients = {n: p.grad for n, p in net.named_parameters() if p.grad is not None}
    return Step(logits.detach(), gradients, {n: b.clone() for n, b in net.named_buffers()})


def specialised(net: nn.Module, threads: int = 1, dtype: torch.dtype = torch.float32) -> nn.Module:
    """Return a copy whose present mode goes through the kernels."""
    special = copy.deepcopy(net)
    lanes.specialise(special, dtype, threads)
    return special


def through_kernels(net: nn.Module, images: Tensor) -> bool:
    """Return whether the kernels compute this, and leave the network as it was."""
    return type(copy_of_pass(net, images).grad_fn).__name__ == "_PassBackward"


def copy_of_pass(net: nn.Module, images: Tensor) -> Tensor:
    """Return the logits; the buffers are put back."""
    before = copy.deepcopy(net.state_dict())
    logits: Tensor = net(images)
    net.load_state_dict(before)
    return logits


def assert_alike(net: nn.Module, images: Tensor, dtype: torch.dtype = torch.float32) -> None:
    """Hold a step through the kernels against float64: by its rounding, or as torch's is off."""
    # In bf16 the pictures and each map are rounded: where that carries a value over the border of
    # ReLU, a sum of 4,000 gradients that nearly cancel is off by 5 %; torch's too, elsewhere.
    rounding = 4e-6 if dtype == torch.float32 else 0.05
    special, exact = specialised(net, dtype=dtype), copy.deepcopy(net).double()
    assert through_kernels(special, images)
    ours, theirs = step(special, images).everything(), step(exact, images.double()).everything()
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        torchs = step(copy.deepcopy(net), images).everything()
    assert ours.keys() == theirs.keys()
    for name, wanted in theirs.items():
        errors = [float((given[name] - wanted).abs().max()) for given in (ours, torchs)]
        largest = float(wanted.abs().max())
        assert errors[0] <= max(rounding * (0.25 + largest), 4 * errors[1]), (
            name,
            *errors,
            largest,
        )
