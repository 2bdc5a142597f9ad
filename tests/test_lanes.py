"""The kernels' numbers are float64's to fp32's rounding: every stage, any batch, any threads."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from conftest import network
from torch import Tensor, nn
from twins import (
    assert_alike,
    needs_compiler,
    pictures,
    settled,
    specialised,
    step,
    through_kernels,
)  # fmt: skip

from mnistcli.engine import machine
from mnistcli.models.registry import COMPARED

pytestmark = needs_compiler


def norm_relu(channels: int) -> list[nn.Module]:
    return [nn.BatchNorm2d(channels), nn.ReLU()]


STAGES: dict[str, list[nn.Module]] = {
    "3x3": [nn.Conv2d(1, 5, 3, padding=1), nn.Conv2d(5, 4, 3, padding=1, bias=False)],
    "1x1": [nn.Conv2d(1, 7, 1), nn.ReLU(), nn.Conv2d(7, 3, 1, bias=False)],
    "5x5, same": [nn.Conv2d(1, 6, 5, padding="same"), nn.ReLU(), nn.Conv2d(6, 2, 5, padding=2)],
    "5x5, valid": [nn.Conv2d(1, 6, 5), nn.ReLU(), nn.Conv2d(6, 3, 5, padding="valid")],
    "2x2, a border of one": [nn.Conv2d(1, 6, 2, padding=1), nn.ReLU(), nn.Conv2d(6, 3, 2)],
    "stride 2": [nn.Conv2d(1, 6, 3, 2, 1), nn.ReLU(), nn.Conv2d(6, 4, 3, 2, 1)],
    "stride 2, valid": [nn.Conv2d(1, 6, 5, 2), nn.Hardswish(), nn.Conv2d(6, 4, 4, 2)],
    "stride 2, 1x1": [nn.Conv2d(1, 6, 1, 2), nn.ReLU(), nn.Conv2d(6, 4, 1, 2)],
    "depthwise": [nn.Conv2d(1, 6, 2, 2), *norm_relu(6), nn.Conv2d(6, 6, 14, groups=6, bias=False)],
    "depthwise 3x3": [
        nn.Conv2d(1, 5, 3, 2), *norm_relu(5), nn.Conv2d(5, 5, 3, padding=1, groups=5, bias=False),
        nn.Conv2d(5, 4, 1), *norm_relu(4), nn.Conv2d(4, 4, 13, groups=4),
    ],
    "depthwise, stride 2": [
        nn.Conv2d(1, 17, 3), *norm_relu(17), nn.Conv2d(17, 17, 5, 2, 1, groups=17),
        *norm_relu(17), nn.Conv2d(17, 17, 3, 2, 1, groups=17, bias=False),
    ],
    "max-pool": [nn.Conv2d(1, 6, 3), *norm_relu(6), nn.MaxPool2d(2), nn.Conv2d(6, 4, 4)],
    "pool of the pictures": [nn.MaxPool2d(2), nn.Conv2d(1, 4, 3), nn.AvgPool2d(2)],
    "average": [nn.Conv2d(1, 6, 3, 2), nn.Hardswish(), nn.AdaptiveAvgPool2d(1)],
    "average of windows": [nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.AvgPool2d(4)],
    "linear": [nn.Flatten(), nn.Linear(784, 12), nn.ReLU(), nn.Linear(12, 11), nn.Hardswish()],
    "hardswish": [nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.Hardswish(), nn.Conv2d(6, 2, 3)],
    "norm alone": [nn.Conv2d(1, 6, 7, 2), nn.BatchNorm2d(6)],
    "norm before a pool": [nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.MaxPool2d(2)],
    "norm of a pool": [nn.Conv2d(1, 6, 3), nn.MaxPool2d(2), *norm_relu(6)],
    "norm of the average": [nn.Conv2d(1, 6, 5), nn.AvgPool2d(24), *norm_relu(6)],
    "14 channels from 13, after a pool": [
        nn.Conv2d(1, 13, 3, padding=1), *norm_relu(13), nn.MaxPool2d(2),
        nn.Conv2d(13, 14, 3, padding=1, bias=False), *norm_relu(14), nn.AvgPool2d(2),
    ],
    "33 channels": [nn.Conv2d(1, 33, 3, 2), *norm_relu(33), nn.Conv2d(33, 17, 3, 2)],
}  # fmt: skip


@pytest.mark.parametrize("kind", STAGES)
@pytest.mark.slow
def test_a_stage_gives_float64s_numbers_and_gradients(kind: str) -> None:
    assert_alike(settled(*STAGES[kind]), pictures(21))


@pytest.mark.slow
@pytest.mark.skipif(not machine.cpu_has_tiles(), reason="no matrix tiles here")
@pytest.mark.parametrize("kind", STAGES)
def test_a_stage_by_matrix_tiles_is_as_near_as_torch_in_bf16(kind: str) -> None:
    assert_alike(settled(*STAGES[kind]), pictures(21), torch.bfloat16)


@pytest.mark.parametrize("name", COMPARED)
@pytest.mark.slow
def test_a_registered_network_gives_float64s_numbers_and_gradients(name: str) -> None:
    torch.manual_seed(0)
    net = network(name, **({"dropout": 0.0} if name in ("v2", "v3") else {}))
    assert_alike(net, pictures(19))


@pytest.mark.parametrize("count", [1, 2, 15, 16, 17, 37, 128])
def test_a_batch_may_have_any_number_of_pictures(count: int) -> None:
    net = settled(nn.Conv2d(1, 6, 3, 2), *norm_relu(6), nn.MaxPool2d(13), nn.Conv2d(6, 3, 1))
    net[3] = nn.AvgPool2d(13)
    assert_alike(net, pictures(count))


class Joined(nn.Module):
    """Adds two maps in one of the ways there are; the second may be twice as large."""

    def __init__(self, stride: int, side: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 4, 3, stride, 1)
        self.norm, self.head = nn.BatchNorm2d(4), nn.Linear(4 * side * side, 10)


class Skip(Joined):
    def forward(self, images: Tensor) -> Tensor:
        early = torch.relu(self.first(images))
        return self.head(torch.relu(self.norm(self.second(early) + early)).flatten(1))


class SkipSecond(Joined):
    def forward(self, images: Tensor) -> Tensor:
        early = torch.relu(self.first(images))
        late = self.norm(self.second(early))
        late += early[:, :, ::2, ::2]
        return self.head(late.flatten(1))


class SkipPictures(Joined):
    def forward(self, images: Tensor) -> Tensor:
        wide = self.first(images)
        total = torch.add(self.norm(self.second(wide)), wide)
        return self.head(total.view(images.size(0), -1))


@pytest.mark.parametrize(
    "net", [Skip(1, 28), SkipSecond(2, 14), SkipPictures(1, 28)], ids=lambda net: type(net).__name__
)
def test_additions_share_their_gradient(net: nn.Module) -> None:
    assert_alike(net, pictures(18))


def test_a_layer_in_two_places_gets_the_sum_of_its_gradients() -> None:
    deep, mix = nn.Conv2d(6, 6, 3, padding=1, groups=6, bias=False), nn.Conv2d(6, 6, 1)
    net = settled(
        nn.Conv2d(1, 6, 3, 2, 1), *norm_relu(6), deep, mix, *norm_relu(6), nn.MaxPool2d(2),
        deep, mix, nn.BatchNorm2d(6), nn.Hardswish(), deep, mix,
    )  # fmt: skip
    assert_alike(net, pictures(19))


def test_a_weight_changed_before_the_backward_pass_is_an_error_as_in_torch() -> None:
    net = specialised(settled(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3)))
    loss = net(pictures(3)).sum()
    with torch.no_grad():
        net[2].weight.mul_(2)
    with pytest.raises(RuntimeError, match="changed between forward and backward"):
        loss.backward()


def test_an_odd_map_is_added_at_its_even_rows() -> None:
    net = SkipSecond(2, 13)
    net.first = nn.Conv2d(1, 4, 4)
    assert_alike(net, pictures(5))


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_the_layout_of_the_weights_changes_no_bit(layout: torch.memory_format) -> None:
    net = settled(nn.Conv2d(1, 6, 3), *norm_relu(6), nn.Conv2d(6, 5, 3, 2), nn.AvgPool2d(4))
    plain = step(specialised(net), pictures(20)).everything()
    special = specialised(net.to(memory_format=layout))
    for name, value in step(special, pictures(20)).everything().items():
        assert torch.equal(value, plain[name]), name
    weight = special[3].weight
    assert weight.grad is not None
    assert weight.grad.stride() == weight.stride()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["v3", "v6", "v8"])
def test_bits_do_not_depend_on_the_number_of_threads(name: str) -> None:
    torch.manual_seed(0)
    net = network(name, **({"dropout": 0.0} if name == "v3" else {}))
    first = step(specialised(net), pictures(100)).everything()
    for threads in (2, 3, 5, 5):
        again = step(specialised(net, threads), pictures(100)).everything()
        assert all(torch.equal(again[key], value) for key, value in first.items()), threads


def test_statistics_and_counters_go_on_from_step_to_step() -> None:
    net = settled(nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6, eps=1e-2, momentum=0.37), nn.AvgPool2d(26))
    special, exact = specialised(net), copy.deepcopy(net).double()
    for seed in range(3):
        ours, theirs = step(special, pictures(9, seed)), step(exact, pictures(9, seed).double())
    for name, wanted in theirs.buffers.items():
        torch.testing.assert_close(ours.buffers[name].double(), wanted.double(), msg=name)
    assert special[1].num_batches_tracked == 3


def windows(kinds: list[float]) -> Tensor:
    """Return a picture, twice, with all windows of four such pixels, as many as there is room."""
    found = torch.tensor(list(itertools.product(kinds, repeat=4)))[:196]
    found = torch.cat([found, torch.zeros(196 - len(found), 4)])
    return found.view(14, 14, 2, 2).transpose(1, 2).reshape(1, 1, 28, 28).repeat(2, 1, 1, 1)


def pool_of_ones() -> nn.Sequential:
    net = settled(nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1), nn.MaxPool2d(2))
    for layer in net[:2]:
        nn.init.ones_(layer.weight)
        nn.init.zeros_(layer.bias)
    return net


def test_a_pools_gradient_goes_to_the_first_maximum() -> None:
    images = windows([0.0, -0.0, 1.0, -1.0])
    assert_alike(pool_of_ones(), images)  # elsewhere a tie's gradient would miss the first weight


@pytest.mark.parametrize("kind", [float("nan"), float("inf"), float("-inf")])
def test_what_is_not_finite_reaches_the_logits_as_in_torch(kind: float) -> None:
    for net in (pool_of_ones(), settled(nn.Conv2d(1, 6, 3), *norm_relu(6), nn.AvgPool2d(26))):
        images = pictures(5)
        images[2, 0, 4, 4] = kind
        ours, theirs = specialised(net)(images), net(images)
        torch.testing.assert_close(ours, theirs, equal_nan=True)


def test_pictures_beyond_the_batch_leave_no_trace() -> None:
    net = settled(nn.Conv2d(1, 6, 3), *norm_relu(6), nn.AvgPool2d(26))
    special, fresh = specialised(net), specialised(net)
    before = copy.deepcopy(net.state_dict())
    step(special, pictures(40, 1) * 1e30)
    special.load_state_dict(before)
    ours, theirs = step(special, pictures(3)).everything(), step(fresh, pictures(3)).everything()
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())


def test_frozen_parts_get_no_gradient_and_the_others_theirs() -> None:
    net = settled(nn.Conv2d(1, 6, 3), *norm_relu(6), nn.Conv2d(6, 4, 3), nn.AvgPool2d(24))
    net[0].requires_grad_(False)
    net[1].requires_grad_(False)
    assert_alike(net, pictures(8))
    assert step(specialised(net), pictures(8)).gradients.keys() == {
        "3.weight", "3.bias", "6.weight", "6.bias"
    }  # fmt: skip


def test_evaluation_is_torchs_own() -> None:
    net = settled(nn.Conv2d(1, 6, 3), *norm_relu(6), nn.AvgPool2d(26))
    special = specialised(net)
    assert through_kernels(special, pictures(4))
    assert torch.equal(special.eval()(pictures(4)), net.eval()(pictures(4)))
