"""Optimizer, learning rate and weight average, each a function of the recipe and the step."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from mnistcli.engine import muon
from mnistcli.recipe import Recipe
from mnistcli.recipe.optimizers import Adam, Muon, Optimizer, Sgd
from mnistcli.recipe.schedules import Constant, Cosine, OneCycle, Plateau, StepDecay

Torchs = TypeVar("Torchs", bound=torch.optim.Optimizer)


def build_optimizer(model: nn.Module, optim: Optimizer) -> torch.optim.Optimizer:
    """Return a fused optimizer; weight decay spares vectors unless the recipe says otherwise.

    Vectors are biases and the scales and shifts of normalisation. Parameters that require no
    gradient are in no group.
    """
    _leave_out_dynamo()
    decayed: list[nn.Parameter] = []
    spared: list[nn.Parameter] = []
    for parameter in filter(lambda p: p.requires_grad, model.parameters()):
        spare = parameter.ndim < 2 and not optim.decay_norm_and_bias
        (spared if spare else decayed).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": optim.weight_decay},
        {"params": spared, "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    match optim:
        case Sgd():
            sgd = _lean(torch.optim.SGD)(
                groups, lr=optim.lr, momentum=optim.momentum, nesterov=optim.nesterov, fused=True
            )
            return _with_zero_momenta(sgd) if optim.momentum else sgd
        case Muon():
            return _muon(model, groups, optim)
        case Adam(name="adam"):
            return _lean(torch.optim.Adam)(groups, lr=optim.lr, fused=True)
        case Adam():
            return _lean(torch.optim.AdamW)(groups, lr=optim.lr, fused=True)


def _leave_out_dynamo() -> None:
    """Let torch's optimizers do without torch._dynamo, which they import at their first use.

    That takes 1.3 s, and makes a cache in TMPDIR, where perhaps nothing can be written. They ask it
    to keep out of what is compiled, and nothing here is compiled by torch.
    """
    for method in vars(torch.optim.Optimizer).values():
        inner = getattr(method, "__wrapped__", None)
        if inner is not None and not hasattr(inner, "__dynamo_disable"):
            setattr(inner, "__dynamo_disable", inner)


def _lean(kind: type[Torchs]) -> type[Torchs]:
    """Return a class of torch's whose step does what torch's does, without torch._dynamo."""
    step = torch.no_grad()(inspect.unwrap(kind.step))
    return type(kind.__name__, (kind,), {"step": step})


def _with_zero_momenta(optimizer: torch.optim.SGD) -> torch.optim.SGD:
    """Start from momenta of zero, the same bits as torch's start from the first gradient.

    Where fused SGD leaves out its first step (not finite, frequent in fp16), torch 2.14 keeps the
    momenta that it has allocated and not set: whatever lay in memory.
    """
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            zeros = torch.zeros_like(parameter, requires_grad=False)
            optimizer.state[parameter]["momentum_buffer"] = zeros
    return optimizer


def _muon(model: nn.Module, groups: list[dict[str, Any]], optim: Muon) -> torch.optim.Optimizer:
    hidden = muon.hidden_convolutions(model)
    orthogonalised = [p for p in model.parameters() if p in hidden]
    for group in groups:
        group["params"] = [p for p in group["params"] if p not in hidden]
    groups.append(
        {
            "params": orthogonalised,
            "weight_decay": optim.weight_decay,
            "orthogonalise": True,
            "lr_factor": optim.muon_lr / optim.lr,
        }
    )
    return muon.Muon([g for g in groups if g["params"]], lr=optim.lr, momentum=optim.momentum)


def lr_at(recipe: Recipe, step: int, steps_per_epoch: int, accuracies: Sequence[float]) -> float:
    """Return the learning rate of a step, counted from 0 over the whole run.

    `accuracies` are those of the finished epochs; only the plateau schedule reads them.
    """
    peak, total = recipe.optim.lr, recipe.epochs * steps_per_epoch
    match recipe.schedule:
        case Constant():
            return peak
        case Cosine():
            return _one_cycle(peak, step, total, 0.0)
        case OneCycle(warmup_fraction=share):
            return _one_cycle(peak, step, total, share * total)
        case StepDecay() as schedule:
            return peak * schedule.factor ** schedule.lowered(step // steps_per_epoch)
        case Plateau() as schedule:
            return plateau_lr(schedule, peak, accuracies)


def _one_cycle(peak: float, step: int, total: int, warmup: float) -> float:
    """Return the rate of a straight line to the peak in `warmup` steps, then a cosine to 0."""
    position = step + 0.5  # the middle of the step: the last one still learns
    if position < warmup:
        return peak * position / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (position - warmup) / (total - warmup)))


def plateau_lr(schedule: Plateau, lr: float, accuracies: Sequence[float]) -> float:
    """Replay torch's ReduceLROnPlateau (mode max, relative threshold 1e-4, eps 1e-8)."""
    best, waited = -math.inf, 0
    for accuracy in accuracies:
        if accuracy > best * (1 + 1e-4):
            best, waited = accuracy, 0
        else:
            waited += 1
        if waited > schedule.patience_epochs:
            waited = 0
            lowered = max(lr * schedule.factor, schedule.min_lr)
            lr = lowered if lr - lowered > 1e-8 else lr
    return lr


def load_optimizer_state(optimizer: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    """Restore momenta in their parameters' memory layout; the recipe has decided all else.

    Fused kernels walk parameter and momentum side by side in memory: a momentum left in another
    layout than its channels-last weight would silently be applied to other elements.

    Raises:
        ValueError: a saved value does not belong to its parameter.
    """
    fresh = optimizer.state_dict()
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for index, values in saved["state"].items():
        for name, value in values.items():
            if value is not None and not _fits(value, parameters[index]):
                raise ValueError(f"{name} of parameter {index} does not fit")
    optimizer.load_state_dict(fresh | {"state": saved["state"]})
    for parameter, values in optimizer.state.items():
        for name, value in values.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                values[name] = torch.empty_like(parameter, requires_grad=False).copy_(value)


def _fits(value: Any, parameter: Tensor) -> bool:
    """Return whether a value can be a parameter's momentum, or its number of steps."""
    is_number = isinstance(value, Tensor) and value.dtype.is_floating_point
    return is_number and (value.shape == parameter.shape or value.dim() == 0)


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every parameter group the learning rate, times the group's own factor."""
    for group in optimizer.param_groups:
        own = lr * group.get("lr_factor", 1.0)
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(own)
        else:
            group["lr"] = own


def read_lr_from_device(optimizer: torch.optim.Optimizer, device: torch.device) -> None:
    """Let a recorded graph see each step's learning rate: from now on a scalar on the device."""
    for group in optimizer.param_groups:
        if not isinstance(group["lr"], Tensor):  # another graph may read it already
            group["lr"] = torch.zeros((), device=device)


@contextmanager
def recordable(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Tell Adam that its step is being recorded; eagerly it would warn."""
    groups = [group for group in optimizer.param_groups if "capturable" in group]
    for group in groups:
        group["capturable"] = True
    try:
        yield
    finally:
        for group in groups:
            group["capturable"] = False


class WeightAverage:
    """Exponential moving average of weights and batch-norm statistics, as one flat vector.

    The decay is min(decay, (1 + step) / (10 + step)), so that early epochs are not held back by
    the initial weights.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._decay = decay
        self._sources = _floating(model)
        self.vector = self._current()
        self._way = self.vector.new_zeros(())  # of a step towards the network's weights

    def set_step(self, step: int) -> None:
        """Choose the decay of a step, counted from 0 over the whole run."""
        self._way.fill_(1 - min(self._decay, (1 + step) / (10 + step)))

    def update(self, skip: Tensor) -> None:
        """Go one step towards the network's weights, unless the bool scalar `skip` is set."""
        moved = self.vector.lerp(self._current(), self._way)
        self.vector.copy_(torch.where(skip, self.vector, moved))

    def copy_to(self, model: nn.Module) -> None:
        """Write the average into a network of the same shape."""
        targets = _floating(model)
        parts = self.vector.split([target.numel() for target in targets])
        for target, part in zip(targets, parts, strict=True):
            target.copy_(part.view(target.shape))

    def _current(self) -> Tensor:
        return torch.cat([source.flatten() for source in self._sources])


def _floating(model: nn.Module) -> list[Tensor]:
    """Return what a checkpoint keeps of a network and can be averaged, parameters first."""
    kept, tensors = model.state_dict().keys(), [*model.named_parameters(), *model.named_buffers()]
    return [value.detach() for name, value in tensors if name in kept and value.is_floating_point()]
