"""Muon for the hidden convolutions, SGD with Nesterov momentum for everything else.

Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/) replaces a matrix's momentum
by its nearest semi-orthogonal matrix, so that every direction learns at the same pace.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

# Quintic Newton-Schulz coefficients and step count of the source above.
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """Groups with `orthogonalise` set hold convolution weights [out, in, …], the rest none.

    Like torch's fused optimizers it reads two scalars, where set: at 1 of `found_inf` the step
    leaves weights and momenta alone; the gradients are too large by `grad_scale`.
    """

    found_inf: Tensor | None = None
    _step_supports_amp_scaling = True  # so that torch's scaler sets both and waits for nothing

    def __init__(self, groups: Sequence[dict[str, Any]], *, lr: float, momentum: float) -> None:
        super().__init__(groups, {"lr": lr, "momentum": momentum, "orthogonalise": False})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update all weights; decay is decoupled in both kinds of group."""
        assert closure is None
        for group in self.param_groups:
            weights = [p for p in group["params"] if p.grad is not None]
            if not weights:  # layers that this step did without
                continue
            bad = torch.zeros_like(weights[0].sum()) if self.found_inf is None else self.found_inf
            gradients = _zero_where(bad > 0, [p.grad for p in weights])
            if (scale := getattr(self, "grad_scale", None)) is not None:
                torch._foreach_div_(gradients, scale)
            momenta = [self._momentum(p) for p in weights]
            torch._foreach_mul_(momenta, torch.where(bad > 0, 1.0, group["momentum"]))
            torch._foreach_add_(momenta, gradients)
            updates = list(torch._foreach_add(gradients, momenta, alpha=group["momentum"]))
            if group["orthogonalise"]:
                updates = orthogonalise(updates)
            torch._foreach_add_(updates, weights, alpha=group["weight_decay"])
            torch._foreach_mul_(updates, (1 - bad) * -group["lr"])
            torch._foreach_add_(weights, updates)

    def _momentum(self, parameter: nn.Parameter) -> Tensor:
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        momentum: Tensor = state["momentum_buffer"]
        return momentum


def _zero_where(bad: Tensor, tensors: list[Tensor]) -> list[Tensor]:
    """Return copies, or zeros where the bool scalar says so; as one vector, in memory order."""
    vector = torch.cat([t.as_strided((t.numel(),), (1,)) for t in tensors]).masked_fill(bad, 0.0)
    parts = vector.split([t.numel() for t in tensors])
    return [part.as_strided(t.shape, t.stride()) for part, t in zip(parts, tensors, strict=True)]


def hidden_convolutions(model: nn.Module) -> set[Tensor]:
    """Return the trained weights of dense convolutions but the first and a last that classifies.

    The order is that of registration; a layer of several names is left out if one of them is the
    first or the last. Left out too are transposed convolutions, whose weights are [in, out, …], and
    weights that are computed from others (parametrised, pruned): none is a matrix [out, rest] that
    is trained.
    """
    every = (module for _, module in model.named_modules(remove_duplicate=False))
    layers = [m for m in every if isinstance(m, nn.modules.conv._ConvNd | nn.Linear)]
    ends = {m.weight for m in (*layers[:1], *layers[-1:])}
    return {
        m.weight
        for m in layers
        if isinstance(m, nn.Conv1d | nn.Conv2d | nn.Conv3d) and m.groups == 1
        if isinstance(m.weight, nn.Parameter) and m.weight.requires_grad
        if m.weight not in ends
    }


def orthogonalise(updates: Sequence[Tensor]) -> list[Tensor]:
    """Return each [out, …] tensor, as a matrix [out, rest], with all singular values near 1.

    Those of a tall matrix are near √(out / rest), as in the source. All go through Newton-Schulz
    as one batch, filled up with zeros, which stay zeros.
    """
    rows = max(u.shape[0] for u in updates)
    columns = max(u[0].numel() for u in updates)
    batch = updates[0].new_zeros(len(updates), rows, columns)
    for index, update in enumerate(updates):
        batch[index, : update.shape[0], : update[0].numel()] = update.flatten(1)
    batch /= batch.flatten(1).norm(dim=1).add(1e-7)[:, None, None]
    a, b, c = _COEFFICIENTS
    for _ in range(_ITERATIONS):
        gram = batch @ batch.mT
        batch = torch.baddbmm(
            batch, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), batch, beta=a
        )
    evened = [
        batch[index, : u.shape[0], : u[0].numel()].reshape(u.shape)
        for index, u in enumerate(updates)
    ]
    torch._foreach_mul_(evened, [max(1.0, len(u) / u[0].numel()) ** 0.5 for u in updates])
    return evened
