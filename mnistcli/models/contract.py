"""What a network must fulfil: pictures in, logits out, gradients back, in the way a run uses it.

Each fault is a sentence about the network with its file and line, said before anything is made.
"""

from __future__ import annotations

import copy
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mnistcli.errors import UsageError
from mnistcli.models import own

if TYPE_CHECKING:
    from mnistcli.models.registry import ModelEntry

# Evaluation's last batch, or `predict`, may hold any number; 2 first, for the usual fault.
_EVALUATED = (2, 1, 3)
_MAX_TRAINED = 1024  # pictures; a network that counts them meets the run's own number up to here


def _leave_default_device(_: object) -> None:
    torch.set_default_device(None)  # "cpu" by name would cost each call of torch a detour


_GLOBALS: dict[str, tuple[Callable[[], Any], Callable[[Any], object]]] = {
    "torch.set_default_dtype": (torch.get_default_dtype, torch.set_default_dtype),
    "torch.set_default_device": (torch.get_default_device, _leave_default_device),
    "torch.set_grad_enabled": (torch.is_grad_enabled, torch.set_grad_enabled),
}


@contextmanager
def global_state_kept(entry: ModelEntry) -> Iterator[None]:
    """Put back what the network's code changes for all of torch, and refuse it.

    Raises:
        UsageError: something was changed.
    """
    before = {name: get() for name, (get, _) in _GLOBALS.items()}
    changed: list[str] = []
    try:
        yield
    finally:
        for name, (get, put) in _GLOBALS.items():
            if get() != before[name]:
                changed.append(name)
                put(before[name])
    if changed:
        what = f"{entry.name} calls {changed[0]}, which changes more than this network"
        raise UsageError(what, where=entry.factory, hint="leave that call out")


def check_built(model: nn.Module, entry: ModelEntry) -> None:
    """Raise UsageError unless pictures [N, 1, 28, 28] give finite logits [N, 10] in evaluation.

    Parameters that wait for their first input, as those of `LazyConv2d`, have their shape then.
    """
    _refuse(_unplaceable(model), entry)
    for count in _EVALUATED:
        logits = _evaluate(model, entry, _pictures(count))
        _refuse(_not_logits(logits, count), entry)
        if not logits.isfinite().all():
            _refuse("returns NaN or infinity for plain pictures", entry)
    _refuse(_untrainable(model) or _unsaveable(model), entry)


def check_training(
    model: nn.Module, entry: ModelEntry, *, pictures: int, dtype: torch.dtype
) -> None:
    """Raise UsageError unless a copy can be trained on a batch, in `dtype`, on its own device.

    torch's own layers do it, which check their inputs. The network and all random generators stay
    as they are. What a registered network meets in training is known, but for a batch of one.
    """
    if not entry.own and pictures > 1:
        return
    with own.faults(entry, "can't be copied"):
        twin = copy.deepcopy(model).train()
    tensors, parameters = _shapes(twin), dict(twin.named_parameters())
    doing, hint = "fails in training", ""
    if pictures == 1:
        doing, hint = "can't train on batches of one picture", "a larger --batch-size"
    with _generators_kept(), own.faults(entry, doing, hint=hint):
        _refuse(_pass_back(twin, min(pictures, _MAX_TRAINED), dtype), entry)
    _refuse(_changed(tensors, _shapes(twin)), entry)
    for name, parameter in twin.named_parameters():
        if parameter is not parameters[name]:
            _refuse(f"replaces its parameter {name!r} in training", entry)
        _refuse(_strange_gradient(name, parameter), entry)


def check_fresh(model: nn.Module, other: nn.Module, entry: ModelEntry) -> None:
    """Raise UsageError where two calls of the factory returned the same parameters.

    A second seed would go on from the first one's weights.
    """
    known = {id(parameter) for parameter in model.parameters()}
    if any(id(parameter) in known for parameter in other.parameters()):
        _refuse("returns the same network each time: build a new one in each call", entry)


def _refuse(problem: str | None, entry: ModelEntry) -> None:
    if problem is not None:
        raise UsageError(f"{entry.name} {problem}", where=entry.factory)


def _pictures(count: int) -> Tensor:
    return torch.linspace(-1, 1, count * 28 * 28).reshape(count, 1, 28, 28)


def _evaluate(model: nn.Module, entry: ModelEntry, pictures: Tensor) -> Tensor:
    training = model.training
    doing = f"fails on a batch {list(pictures.shape)}"
    try:
        with torch.no_grad(), own.faults(entry, doing):
            logits: Tensor = model.eval()(pictures)
    finally:
        model.train(training)
    return logits


def _pass_back(model: nn.Module, count: int, dtype: torch.dtype) -> str | None:
    """Do a forward and a backward pass as a step does; return what is wrong with the logits."""
    device = next(model.parameters()).device
    images = _pictures(count).to(device, memory_format=torch.channels_last)
    with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
        logits = model(images)
    if (problem := _not_logits(logits, count)) is not None:
        return f"{problem}, in training"
    loss = F.cross_entropy(logits.float(), torch.arange(count, device=device) % 10)
    if not loss.requires_grad:
        return "returns logits without a gradient in training"
    loss.backward()
    return None


def _not_logits(logits: object, count: int) -> str | None:
    if not isinstance(logits, Tensor):
        return f"returns {type(logits).__name__}, expected a tensor [{count}, 10]"
    if logits.shape != (count, 10):
        return f"maps [{count}, 1, 28, 28] to {list(logits.shape)}, expected [{count}, 10]"
    if not logits.is_floating_point():
        return f"returns {logits.dtype}, expected floating-point logits"
    return None


def _unplaceable(model: nn.Module) -> str | None:
    """Return why torch can't train or copy this kind of network, or None."""
    if isinstance(model, torch.jit.ScriptModule):
        return "is a TorchScript module: return the nn.Module that it was made from"
    for name, value in (*model.named_parameters(), *model.named_buffers()):
        if value.device.type != "cpu":
            return f"builds {name!r} on {value.device}: build on the CPU, --device moves it"
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and parameter.dtype != torch.float32:
            return (
                f"keeps its parameter {name!r} in {parameter.dtype}: trained are float32 "
                "parameters, --precision chooses what they are computed in"
            )
    return None


def _untrainable(model: nn.Module) -> str | None:
    for name, parameter in model.named_parameters():
        if torch.nn.parameter.is_lazy(parameter):
            return f"leaves its parameter {name!r} without a shape: no forward pass reaches it"
    if not any(parameter.requires_grad for parameter in model.parameters()):
        return "has no parameter to train"
    return None


def _unsaveable(model: nn.Module) -> str | None:
    """Return which value no checkpoint would take, or None: they hold finite real numbers only."""
    for name, value in model.state_dict().items():
        if not isinstance(value, Tensor):
            return f"keeps {name!r} as {type(value).__name__}: a checkpoint holds tensors"
        if value.is_complex() or (value.is_floating_point() and not value.isfinite().all()):
            kind = "complex" if value.is_complex() else "not finite"
            return f"keeps {name!r}, which is {kind}: register_buffer(…, persistent=False)"
    return None


def _strange_gradient(name: str, parameter: nn.Parameter) -> str | None:
    gradient = parameter.grad
    if gradient is not None and gradient.layout != torch.strided:
        return f"has a sparse gradient for {name!r}: the optimizers take dense ones (sparse=False)"
    return None


def _shapes(model: nn.Module) -> dict[str, list[int]]:
    """Return the shapes of all that is trained or saved."""
    tensors = {**dict(model.named_parameters()), **model.state_dict()}
    return {name: list(value.shape) for name, value in tensors.items()}


def _changed(before: dict[str, list[int]], after: dict[str, list[int]]) -> str | None:
    for name in [*before, *after]:
        if before.get(name) != after.get(name):
            shapes = (str(one.get(name, "nothing")) for one in (before, after))
            return f"changes {name!r} in training, from {' to '.join(shapes)}: build it as it stays"
    return None


@contextmanager
def _generators_kept() -> Iterator[None]:
    """Put the generators of torch, Python and numpy back as they were."""
    numpy: Any = sys.modules.get("numpy")
    states = random.getstate(), None if numpy is None else numpy.random.get_state()
    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            random.setstate(states[0])
            if numpy is not None:
                numpy.random.set_state(states[1])
