"""A network's identity: moved by each change of what it computes, and by nothing else."""

from __future__ import annotations

import copy
import random
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import prune

from mnistcli import recipe
from mnistcli.models.identity import describe, identity
from mnistcli.models.registry import MODELS, build


class Net(nn.Module):
    """Two convolutions, a skip and dropout; each argument is one way to be another network."""

    def __init__(
        self,
        *,
        activation: Callable[[Tensor], Tensor] = F.relu,
        skip: str = "stem",
        eps: float = 1e-5,
        dropout: float = 0.1,
        auxiliary: bool = False,
        steps: int = 1,
    ) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4, eps=eps)
        self.body = nn.Conv2d(4, 4, 3, padding=1)
        self.drop, self.head = nn.Dropout(dropout), nn.Linear(4, 10)
        self.activation, self.skip = activation, skip
        self.auxiliary, self.steps = auxiliary, steps

    def forward(self, images: Tensor) -> Tensor:
        stem = self.stem(images)
        norm = self.norm(stem)
        features = self.activation(norm)
        for _ in range(self.steps):
            features = self.drop(self.body(features))
        features += {"stem": stem, "norm": norm}[self.skip]
        if self.training and self.auxiliary:
            features = features * 2
        logits: Tensor = self.head(features.mean((2, 3)))
        return logits


BASE = identity(Net())


@pytest.mark.parametrize(
    "change",
    [
        {"activation": F.gelu},
        {"activation": lambda x: F.gelu(x, approximate="tanh")},
        {"activation": lambda x: F.leaky_relu(x, 0.1)},
        {"activation": lambda x: F.leaky_relu(x, 0.2)},
        {"skip": "norm"},
        {"eps": 1e-3},
        {"dropout": 0.2},
        {"auxiliary": True},  # seen in training alone
        {"steps": 2},  # the same layers, run more often
    ],
    ids=lambda change: "-".join(change),
)
def test_another_computation_is_another_network(change: dict[str, object]) -> None:
    assert identity(Net(**change)) != BASE  # type: ignore[arg-type]


def test_two_values_of_a_functions_argument_are_two_networks() -> None:
    slopes = [lambda x: F.leaky_relu(x, 0.1), lambda x: F.leaky_relu(x, 0.2)]
    assert identity(Net(activation=slopes[0])) != identity(Net(activation=slopes[1]))


def chain(*layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(*layers, nn.Flatten(), nn.LazyLinear(10))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        # The same parameters.
        (chain(nn.ReLU(), nn.Conv2d(1, 1, 3)), chain(nn.Sigmoid(), nn.Conv2d(1, 1, 3))),
        (chain(nn.MaxPool2d(2), nn.ReLU()), chain(nn.ReLU(), nn.MaxPool2d(2))),
        # The same number of parameters: 7 + 42 + 6 = 6 + 42 + 7.
        (
            chain(nn.Conv2d(1, 7, 1, bias=False), nn.Conv2d(7, 6, 1, bias=False)),
            chain(nn.Conv2d(1, 6, 1, bias=False), nn.Conv2d(6, 7, 1, bias=False)),
        ),
        # A setting that the layer's own text does not show.
        (chain(nn.AvgPool2d(2, padding=1)), chain(nn.AvgPool2d(2, None, 1, False, False))),
        (chain(nn.MultiheadAttention(28, 2)), chain(nn.MultiheadAttention(28, 4))),
    ],
)
def test_layers_are_told_apart_by_order_width_and_settings(
    one: nn.Sequential, other: nn.Sequential
) -> None:
    assert run_identity(one) != run_identity(other)


def run_identity(net: nn.Sequential) -> str:
    """Return the identity with attention called on a picture's rows, and lazy layers made."""
    if isinstance(net[0], nn.MultiheadAttention):
        net = nn.Sequential(Attends(net[0]), *net[1:])
    with torch.no_grad():
        net(torch.zeros(1, 1, 28, 28))
    return identity(net)


class Attends(nn.Module):
    def __init__(self, attention: nn.MultiheadAttention) -> None:
        super().__init__()
        self.attention = attention

    def forward(self, images: Tensor) -> Tensor:
        rows = images[:, 0]
        attended: Tensor = self.attention(rows, rows, rows)[0]
        return attended


def test_freezing_pruning_and_a_hook_make_other_networks() -> None:
    frozen, pruned, hooked = Net(), Net(), Net()
    frozen.stem.requires_grad_(False)
    prune.random_unstructured(pruned.norm, "weight", amount=2)
    hooked.norm.register_forward_hook(lambda module, inputs, output: output.clamp(max=0.5))
    found = [identity(net) for net in (frozen, pruned, hooked)]
    assert len({BASE, *found}) == 4
    assert identity(pruned) == found[1]


def test_weights_a_copy_training_and_threads_make_no_other() -> None:
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(2):
        net(torch.rand(4, 1, 28, 28)).square().sum().backward()
        optimizer.step()
    torch.set_num_threads(1)
    assert {identity(net), identity(copy.deepcopy(net)), identity(net.eval())} == {BASE}


@pytest.mark.processes
def test_another_process_finds_the_same_from_other_words_in_another_file() -> None:
    """Neither code nor paths nor addresses nor the hashing of strings get into it."""
    program = (
        "import torch, torch.nn as n, torch.nn.functional as f\n"
        "from mnistcli.models.identity import identity\n"
        "class Other(n.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.head = n.Linear(4, 10); self.quiet = n.Dropout(0.1)\n"
        "        self.body, self.norm = n.Conv2d(4, 4, 3, padding=1), n.BatchNorm2d(4)\n"
        "        self.stem = n.Conv2d(1, 4, 3, padding=1, bias=False)\n"
        "    def forward(self, x):\n"
        "        a = self.stem(x); y = self.quiet(self.body(f.relu(self.norm(a)))); y += a\n"
        "        return self.head(y.mean((2, 3)))\n"
        "print(identity(Other()))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.split() == [BASE], done.stderr


def test_a_description_holds_no_address_and_no_path() -> None:
    text = "\n".join(describe(Net(activation=nn.functional.silu)))
    assert "0x" not in text
    assert "/" not in text
    assert "norm.running_mean" in text


class Sometimes(nn.Module):
    """Draws from three generators which layers a training pass runs."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Conv2d(1, 1, 3, padding=1), nn.Linear(784, 10)

    def forward(self, images: Tensor) -> Tensor:
        for draw in (random.random(), np.random.rand(), float(torch.rand(()))):
            if not self.training or draw < 0.5:
                images = self.layer(images)
        logits: Tensor = self.head(images.flatten(1))
        return logits


def test_random_depth_has_one_identity() -> None:
    assert len({identity(Sometimes()) for _ in range(8)}) == 1


def test_the_callers_network_and_generators_stay_as_they_are() -> None:
    net = Net()
    net.body.eval()
    net(torch.rand(2, 1, 28, 28)).sum().backward()
    held = copy.deepcopy(net.state_dict())
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    drawn = random.random(), np.random.rand(), float(torch.rand(()))
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    identity(net)
    assert (random.random(), np.random.rand(), float(torch.rand(()))) == drawn
    assert all(torch.equal(value, held[name]) for name, value in net.state_dict().items())
    assert (net.training, net.body.training) == (True, False)
    assert all(p.grad is not None for p in net.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


class Breaks(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        if self.training:
            raise ArithmeticError("of its own")
        return images.flatten(1)[:, :10]


def test_a_pass_that_fails_in_training_is_named_and_leaves_no_trace() -> None:
    net = Breaks()
    fused, state = torch.backends.mha.get_fastpath_enabled(), random.getstate()
    assert "not seen: ArithmeticError" in describe(net)
    assert (torch.backends.mha.get_fastpath_enabled(), random.getstate()) == (fused, state)


def test_the_packaged_networks_are_pairwise_different() -> None:
    built = [build(entry, recipe.model_args(name)) for name, entry in MODELS.items()]
    found = {identity(model) for model in built}
    assert len(found) == len(built) == len(MODELS)
    assert all(len(one) == 16 for one in found)
