"""What the kernels leave to torch: whatever they would do otherwise, found out at each call."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune
from twins import needs_compiler, pictures, specialised, step

from mnistcli.engine import lanes, machine

pytestmark = needs_compiler
Disturb = Callable[[Any], Any]


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
    kernel = lanes._Bound.call

    def noted(bound: Any, name: str, *rest: Any) -> None:
        names.append(name)
        kernel(bound, name, *rest)

    monkeypatch.setattr(lanes._Bound, "call", noted)
    return names


def small() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AvgPool2d(26), nn.Flatten(),
        nn.Linear(4, 10),
    )  # fmt: skip


def pair() -> tuple[nn.Module, nn.Module]:
    """Return a network that goes through the kernels, and its plain twin."""
    net = small()
    return specialised(net), net


def twice(*values: Any) -> Any:
    """Stand for any hook: double what it may change."""
    changed = values[-1]
    return tuple(v * 2 for v in changed) if isinstance(changed, tuple) else changed * 2


def with_weight(norm: nn.Module, weight: Tensor) -> None:
    norm.weight = nn.Parameter(weight)


LATER: dict[str, Disturb] = {
    "forward hook": lambda net: net[2].register_forward_hook(twice),
    "forward pre-hook": lambda net: net[1].register_forward_pre_hook(twice),
    "hook on the whole": lambda net: net.register_forward_hook(twice),
    "pre-hook on the whole": lambda net: net.register_forward_pre_hook(twice),
    "backward hook": lambda net: net[1].register_full_backward_hook(twice),
    "backward pre-hook": lambda net: net[2].register_full_backward_pre_hook(twice),
    "forward of its own": lambda net: setattr(net[2], "forward", torch.tanh),
    "pruned": lambda net: prune.l1_unstructured(net[1], "weight", amount=2),
    "parametrised": lambda net: parametrize.register_parametrization(net[0], "weight", Halved()),
    "double precision": lambda net: net[1].double(),
    "a stride in its weight": lambda net: with_weight(net[1], torch.rand(8)[::2]),
    "a subclass as weight": lambda net: with_weight(net[1], torch.rand(4).as_subclass(Tagged)),
    "other memory": lambda net: setattr(net[1].weight, "data", torch.rand(4)),
    "a shorter weight": lambda net: setattr(net[0].bias, "data", net[0].bias.data[:3]),
    "a longer running mean": lambda net: setattr(net[1], "running_mean", torch.zeros(5)),
    "a running mean with gradient": lambda net: net[1].running_mean.requires_grad_(),
    "a frozen layer": lambda net: net[0].requires_grad_(False),
    "a layer in evaluation": lambda net: net[1].eval(),
    "evaluation": lambda net: net.eval(),
    "another width": lambda net: net.__setitem__(1, nn.BatchNorm2d(5)),
    "another activation": lambda net: net.__setitem__(2, nn.Sigmoid()),
    "another activation of that name": lambda net: net.__setitem__(2, nn.Hardswish()),
    "one layer more": lambda net: net.append(nn.Tanh()),
    "one layer less": lambda net: net.__delitem__(2),
    "no bias": lambda net: setattr(net[0], "bias", None),
}


def result(net: nn.Module) -> list[Any]:
    """Return logits and gradients, or the error's words."""
    try:
        return [*step(net, pictures(4)).everything().values()]
    except Exception as error:
        return [f"{type(error)} {error}"]


@pytest.mark.parametrize("kind", LATER)
def test_a_network_that_is_changed_after_all_goes_torchs_own_way(
    kind: str, calls: list[str]
) -> None:
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
        lambda x: x[:0],
        lambda x: x.double(),
        lambda x: x.as_subclass(Tagged),
        lambda x: x[..., :27],
        lambda x: x.repeat(1, 2, 1, 1),
        lambda x: torch._neg_view(x),
        lambda x: x.requires_grad_(),
        lambda x: x.to("meta"),
    ],
)
def test_pictures_of_another_kind_go_torchs_own_way(
    change: Callable[[Tensor], Tensor], calls: list[str]
) -> None:
    found = []
    for net in pair():
        try:
            found.append(net(change(pictures(4))))
        except Exception as error:
            found.append(f"{type(error)} {error}")
    assert calls == []
    assert type(found[0]) is type(found[1])
    if isinstance(found[0], Tensor) and found[0].device.type == "cpu":
        assert torch.equal(found[0], found[1])


def test_pictures_that_lie_otherwise_are_read_as_they_are(calls: list[str]) -> None:
    wide = torch.randn(4, 1, 28, 56)[..., ::2]
    assert torch.equal(pair()[0](wide), pair()[0](wide.contiguous()))
    assert calls == ["lanes_forward"] * 2


class Watching(torch.overrides.TorchFunctionMode):
    """Sees each of torch's functions, and changes ReLU."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None):  # type: ignore[no-untyped-def]
        result = function(*args, **(kwargs or {}))
        return result * 2 if function is torch.nn.functional.relu else result


def test_a_mode_and_a_hook_on_all_modules_see_every_operation(calls: list[str]) -> None:
    special, plain = pair()
    with Watching():
        assert torch.equal(special(pictures(4)), plain(pictures(4)))
    handle = nn.modules.module.register_module_forward_hook(twice)
    try:
        assert torch.equal(special(pictures(4)), plain(pictures(4)))
    finally:
        handle.remove()
    with torch.autograd.graph.save_on_cpu():
        assert torch.equal(special(pictures(4)), plain(pictures(4)))
    assert calls == []


@torch.no_grad()
def test_a_transform_sees_every_operation(calls: list[str]) -> None:
    plain = small().eval()
    special = specialised(plain)
    assert torch.equal(*(torch.func.vmap(net)(pictures(4)[None]) for net in (special, plain)))
    assert calls == []
    torch.testing.assert_close(special(pictures(4)), plain(pictures(4)))
    assert calls == ["lanes_forward"]


def test_parameters_that_a_call_swaps_are_the_ones_used(calls: list[str]) -> None:
    special, plain = pair()
    state = {name: value + 1 for name, value in plain.state_dict().items()}
    ours, theirs = (
        torch.func.functional_call(net, dict(state), pictures(4)) for net in (special, plain)
    )
    assert calls == []
    assert torch.equal(ours, theirs)


def test_a_copy_is_torchs_own_and_the_network_stays_with_the_kernels(calls: list[str]) -> None:
    special, _ = pair()
    twin = copy.deepcopy(special)
    twin(pictures(4))
    assert calls == []
    assert (twin[1].num_batches_tracked, special[1].num_batches_tracked) == (1, 0)
    special(pictures(4))
    assert calls == ["lanes_forward"]
    assert (twin[1].num_batches_tracked, special[1].num_batches_tracked) == (1, 1)


def test_weights_that_are_loaded_or_trained_in_place_are_the_ones_used(calls: list[str]) -> None:
    special, plain = pair()
    for net in (special, plain):
        net.load_state_dict({key: value + 1 for key, value in small().state_dict().items()})
        torch.optim.SGD(net.parameters(), lr=0.1).zero_grad()
        net(pictures(4)).sum().backward()
        torch.optim.SGD(net.parameters(), lr=0.1).step()
    torch.testing.assert_close(special(pictures(4)), plain(pictures(4)))
    assert calls == ["lanes_forward", "lanes_backward", "lanes_forward"]


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_changed_unseen_between_two_evaluations_are_the_ones_used(
    dtype: torch.dtype, calls: list[str]
) -> None:
    """`data` moves no version of a tensor."""
    if dtype == torch.bfloat16 and not machine.cpu_has_tiles():
        pytest.skip("no matrix tiles here")
    plain = small().eval()
    special = specialised(plain, dtype=dtype)
    special(pictures(4))
    for net in (special, plain):
        for parameter in net.parameters():
            parameter.data.mul_(1.5)
    exact = {} if dtype == torch.float32 else {"rtol": 0.02, "atol": 0.02}
    torch.testing.assert_close(special(pictures(4)), plain(pictures(4)), **exact)
    assert calls == ["lanes_forward"] * 2


def test_a_single_value_a_channel_is_torchs_to_refuse(calls: list[str]) -> None:
    net = nn.Sequential(
        nn.Conv2d(1, 10, 28), nn.BatchNorm2d(10), nn.Conv2d(10, 10, 1), nn.Flatten()
    )
    special = specialised(net)
    with pytest.raises(ValueError, match="more than 1 value"):
        special(pictures(1))
    assert calls == []
    special(pictures(2))
    assert calls == ["lanes_forward"]


def test_without_gradients_a_step_forward_moves_the_statistics(calls: list[str]) -> None:
    special, plain = pair()
    with torch.no_grad():
        ours, theirs = special(pictures(4)), plain(pictures(4))
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(special.state_dict(), plain.state_dict())
    assert calls == ["lanes_forward"]


def test_another_default_dtype_changes_nothing() -> None:
    special, _ = pair()
    before = step(copy.deepcopy(specialised(small())), pictures(4))
    torch.set_default_dtype(torch.float64)
    try:
        logits = special(pictures(4).float())
    finally:
        torch.set_default_dtype(torch.float32)
    assert logits.dtype == before.logits.dtype == torch.float32
