"""What the kernels leave to torch: whatever they would do otherwise, found out at each call."""

from __future__ import annotations

import copy
import ctypes
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune

from mnistcli.engine import fused

pytestmark = pytest.mark.skipif(
    not isinstance(fused.compile_kernels(), ctypes.CDLL), reason="no C++ compiler works here"
)
Disturb = Callable[[nn.Sequential], Any]


class Halved(nn.Module):
    """A parametrisation."""

    def forward(self, weight: Tensor) -> Tensor:
        return weight / 2


class Tagged(Tensor):
    """A subclass that torch's operations keep."""


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the kernels that were called."""
    names: list[str] = []
    kernel = fused._call

    def noted(name: str, *rest: Any) -> None:
        names.append(name)
        kernel(name, *rest)

    monkeypatch.setattr(fused, "_call", noted)
    return names


def pair() -> tuple[nn.Sequential, nn.Sequential]:
    """Return a network of one normalisation with ReLU, specialised, and its plain twin."""
    net = nn.Sequential(nn.BatchNorm2d(6), nn.ReLU())
    special = copy.deepcopy(net)
    fused.specialise(special)
    return special, net


def features() -> Tensor:
    torch.manual_seed(0)
    return torch.randn(4, 6, 8, 8).to(memory_format=torch.channels_last).requires_grad_()


def twice(*values: Any) -> Any:
    """Stand for any hook: double what it may change."""
    changed = values[-1]
    return tuple(v * 2 for v in changed) if isinstance(changed, tuple) else changed * 2


def with_weight(norm: nn.Module, weight: Tensor) -> None:
    norm.weight = nn.Parameter(weight)


LATER: dict[str, Disturb] = {
    "forward hook on the activation": lambda net: net[1].register_forward_hook(twice),
    "forward hook on the norm": lambda net: net[0].register_forward_hook(twice),
    "forward pre-hook": lambda net: net[1].register_forward_pre_hook(twice),
    "backward hook": lambda net: net[0].register_full_backward_hook(twice),
    "backward pre-hook": lambda net: net[1].register_full_backward_pre_hook(twice),
    "forward of its own": lambda net: setattr(net[1], "forward", torch.tanh),
    "pruned": lambda net: prune.l1_unstructured(net[0], "weight", amount=2),
    "parametrised": lambda net: parametrize.register_parametrization(net[0], "weight", Halved()),
    "double precision": lambda net: net[0].double(),
    "a stride in its weight": lambda net: with_weight(net[0], torch.rand(12)[::2]),
    "a subclass as weight": lambda net: setattr(
        net[0], "weight", nn.Parameter(torch.rand(6).as_subclass(Tagged))
    ),
    "cumulative average": lambda net: setattr(net[0], "momentum", None),
    "no running statistics": lambda net: setattr(net[0], "track_running_stats", False),
    "a longer running mean": lambda net: setattr(net[0], "running_mean", torch.zeros(7)),
    "a shorter running variance": lambda net: setattr(net[0], "running_var", torch.ones(5)),
    "a running mean with gradient": lambda net: net[0].running_mean.requires_grad_(),
    "no eps": lambda net: setattr(net[0], "eps", 0.0),
    "evaluation": lambda net: net[0].eval(),
    "another width": lambda net: net.__setitem__(0, nn.BatchNorm2d(5)),
    "another activation": lambda net: net.__setitem__(1, nn.Sigmoid()),
}


def result(net: nn.Module) -> Any:
    """Return output and gradient, or the error's words."""
    torch.manual_seed(0)
    inputs = features()
    try:
        output = net(inputs)
        return [output, *torch.autograd.grad(output.square().sum(), inputs)]
    except Exception as error:
        return [f"{type(error)} {error}"]


@pytest.mark.parametrize("kind", LATER)
def test_a_layer_that_is_changed_after_all_goes_torchs_own_way(kind: str, calls: list[str]) -> None:
    results = []
    for net in pair():
        torch.manual_seed(1)
        LATER[kind](net)
        results.append(result(net))
    assert calls == []
    for ours, theirs in zip(*results, strict=True):
        assert torch.equal(ours, theirs) if isinstance(ours, Tensor) else ours == theirs


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x.contiguous(),
        lambda x: x[:, :, :, ::2],
        lambda x: x[:0],
        lambda x: x.double(),
        lambda x: x.as_subclass(Tagged),
        lambda x: x[..., :1, :1],
        lambda x: torch._neg_view(x),
    ],
)
def test_features_that_lie_otherwise_go_torchs_own_way(
    change: Callable[[Tensor], Tensor], calls: list[str]
) -> None:
    inputs = change(features().detach())
    ours, theirs = (net.to(inputs.dtype)(inputs) for net in pair())
    assert calls == []
    assert (ours.stride(), type(ours)) == (theirs.stride(), type(theirs))
    assert torch.equal(ours, theirs)


class Watching(torch.overrides.TorchFunctionMode):
    """Sees each of torch's functions, and changes ReLU."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None):  # type: ignore[no-untyped-def]
        result = function(*args, **(kwargs or {}))
        return result * 2 if function is torch.nn.functional.relu else result


def test_a_mode_and_a_hook_on_all_modules_see_every_operation(calls: list[str]) -> None:
    special, plain = pair()
    with Watching():
        assert torch.equal(special(features()), plain(features()))
    handle = nn.modules.module.register_module_forward_hook(twice)
    try:
        assert torch.equal(special(features()), plain(features()))
    finally:
        handle.remove()
    assert calls == []


def energy(net: nn.Module) -> Callable[[Tensor], Tensor]:
    return lambda x: net(x).square().sum()


@pytest.mark.parametrize(
    "transform",
    [
        lambda net: torch.func.grad(energy(net))(features().detach()),
        lambda net: torch.func.vmap(net)(features().detach()[None]),
        lambda net: torch.func.jvp(net, (features().detach(),), (torch.ones(4, 6, 8, 8),))[1],
        lambda net: torch.func.hessian(energy(net))(features().detach()[:1, :2, :2, :2]),
    ],
)
def test_a_transform_sees_every_operation(
    transform: Callable[[nn.Module], Tensor], calls: list[str]
) -> None:
    net = nn.Sequential(nn.MaxPool2d(2))
    special = copy.deepcopy(net)
    fused.specialise(special)
    assert torch.equal(transform(special), transform(net))
    assert calls == []


def test_parameters_that_a_call_swaps_are_the_ones_used(calls: list[str]) -> None:
    special, plain = pair()
    state = {name: value + 1 for name, value in plain.state_dict().items()}
    wide = {name: v.double() if v.is_floating_point() else v for name, v in state.items()}
    with pytest.raises(RuntimeError, match=r"[Tt]ype"):
        torch.func.functional_call(special, wide, features())
    assert calls == []
    ours, theirs = (
        torch.func.functional_call(net, dict(state), features()) for net in (special, plain)
    )
    assert calls == ["batch_norm_relu"]
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_a_copy_trains_its_own_layers_and_new_layers_take_part(
    copied: Callable[[nn.Module], nn.Module], calls: list[str]
) -> None:
    net = nn.Sequential(nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2))
    fused.specialise(net)
    twin = copied(net)
    twin[0] = nn.BatchNorm2d(6)
    twin(features())
    assert calls == ["batch_norm_relu", "max_pool"]
    assert (net[0].num_batches_tracked, twin[0].num_batches_tracked) == (0, 1)
    twin.append(nn.Flatten()).eval()
    assert twin(features()).shape == (4, 96)
    assert len(calls) == 2


def test_hooks_of_the_sequence_and_the_pool_fire_and_the_kernels_run(calls: list[str]) -> None:
    net = nn.Sequential(nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2))
    fused.specialise(net)
    before = net(features())
    net.register_forward_hook(twice)
    net[2].register_forward_pre_hook(twice)
    torch.testing.assert_close(net(input=features()), before * 4)
    assert calls == ["batch_norm_relu", "max_pool"] * 2


def test_a_layer_used_twice_moves_its_statistics_twice(calls: list[str]) -> None:
    norm, relu = nn.BatchNorm2d(6), nn.ReLU()
    nets = [nn.Sequential(norm, relu, copy.deepcopy(norm), relu) for _ in range(2)]
    nets[0][2] = norm
    fused.specialise(nets[0])
    nets[0](features())
    assert norm.num_batches_tracked == 2
    assert calls == ["batch_norm_relu"] * 2


def test_a_change_in_place_is_refused_where_torch_refuses_it() -> None:
    for net in pair():
        output = net(features())
        output += 1
        with pytest.raises(RuntimeError, match="inplace operation"):
            output.sum().backward()


def test_another_default_dtype_changes_nothing() -> None:
    results = []
    for net in pair():
        torch.set_default_dtype(torch.float64)
        try:
            results.append(torch.autograd.grad(net(features().float()).sum(), [*net.parameters()]))
        finally:
            torch.set_default_dtype(torch.float32)
    torch.testing.assert_close(*results)
