"""Learning rates against torch's schedulers, decay groups, and the weight average."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from conftest import network
from torch import Tensor, nn
from torch.optim import lr_scheduler

from mnistcli.engine.optim import (
    WeightAverage,
    build_optimizer,
    load_optimizer_state,
    lr_at,
    plateau_lr,
)
from mnistcli.recipe import load
from mnistcli.recipe.schedules import Plateau


def test_onecycle_rises_to_the_peak_and_falls_to_nothing() -> None:
    recipe = load("v3", settings=["epochs=10"])
    rates = [lr_at(recipe, step, 100, []) for step in range(1000)]
    peak = recipe.optim.lr
    assert max(rates) == pytest.approx(peak, rel=0.01)
    assert rates.index(max(rates)) in (199, 200)
    assert rates[0] == pytest.approx(peak * 0.5 / 200)
    assert 0 < rates[-1] < 1e-6 * peak


def test_cosine_is_torchs() -> None:
    recipe = load("v3", settings=["epochs=4", "schedule={name: cosine}", "optim.lr=1.0"])
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=40)
    for step in range(39):
        between = [
            theirs.get_last_lr()[0],
            (optimizer.step(), theirs.step(), theirs.get_last_lr())[2][0],
        ]
        assert min(between) < lr_at(recipe, step, 10, []) < max(between)


def test_plateau_is_torchs() -> None:
    torch.manual_seed(1)
    accuracies = (0.97 + 0.02 * torch.rand(60)).tolist() + [0.99] * 20
    schedule = Plateau(name="plateau", split="test", factor=0.1, patience_epochs=1, min_lr=1e-8)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.02)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, mode="max", factor=0.1, patience=1, min_lr=1e-8
    )
    for done in range(len(accuracies) + 1):
        assert plateau_lr(schedule, 0.02, accuracies[:done]) == optimizer.param_groups[0]["lr"]
        if done < len(accuracies):
            theirs.step(accuracies[done])


@pytest.mark.parametrize(
    ("when", "theirs"),
    [
        ("milestones: [2, 5]", lambda sgd: lr_scheduler.MultiStepLR(sgd, [2, 5], gamma=0.3)),
        ("every_epochs: 3", lambda sgd: lr_scheduler.StepLR(sgd, 3, gamma=0.3)),
    ],
)
def test_step_is_torchs(when: str, theirs: Callable[..., lr_scheduler.LRScheduler]) -> None:
    recipe = load("v3", settings=[f"schedule={{name: step, {when}, factor: 0.3}}", "optim.lr=0.5"])
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.5)
    scheduler = theirs(optimizer)
    for epoch in range(9):
        expected = pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)
        assert lr_at(recipe, 10 * epoch, 10, []) == lr_at(recipe, 10 * epoch + 9, 10, [])
        assert lr_at(recipe, 10 * epoch, 10, []) == expected
        optimizer.step()
        scheduler.step()


@pytest.mark.parametrize(("name", "decayed"), [("v3", 0.0), ("baseline/v3", 1e-4)])
def test_weight_decay_spares_vectors_unless_asked(name: str, decayed: float) -> None:
    recipe = load(name)
    optimizer = build_optimizer(network("v3"), recipe.optim)
    decays = {
        parameter.ndim: group["weight_decay"]
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    assert decays == {4: recipe.optim.weight_decay, 1: decayed}


class Partly(nn.Module):
    """Five layers, of which one is frozen, one unused and one used in every second step."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4).requires_grad_(False))
        self.hidden, self.unused = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3)
        self.head, self.steps = nn.Linear(4, 10, bias=False), 0

    def forward(self, images: Tensor) -> Tensor:
        features = self.stem(images)
        self.steps += 1
        features = features if self.steps % 2 else features + self.hidden(features)
        logits: Tensor = self.head(features.mean((2, 3)))
        return logits


def backbone_frozen() -> nn.Module:
    model = Partly()
    for layer in (model.stem, model.hidden, model.unused):
        layer.requires_grad_(False)
    return model


OPTIMIZERS = {
    "sgd": "{name: sgd, lr: 0.1, momentum: 0.9, nesterov: true, weight_decay: 0.1, "
    "decay_norm_and_bias: false}",
    "adam": "{name: adam, lr: 0.1, weight_decay: 0.0, decay_norm_and_bias: true}",
    "adamw": "{name: adamw, lr: 0.1, weight_decay: 0.1, decay_norm_and_bias: false}",
    "muon": "{name: muon, lr: 0.1, muon_lr: 0.1, momentum: 0.9, weight_decay: 0.1, "
    "decay_norm_and_bias: false}",
}


def take_step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad(set_to_none=True)
    model(torch.ones(2, 1, 8, 8)).square().sum().backward()
    optimizer.found_inf = torch.zeros(())  # type: ignore[attr-defined]
    optimizer.step()


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("factory", [Partly, backbone_frozen])
def test_frozen_and_unused_layers_stay_and_a_resumed_run_goes_on_alike(
    factory: type[nn.Module], name: str
) -> None:
    recipe = load("plain/v3", settings=[f"optim={OPTIMIZERS[name]}"])
    model = factory()
    before = copy.deepcopy(model.state_dict())
    optimizer = build_optimizer(model, recipe.optim)
    take_step(model, optimizer)  # `hidden` has no momentum yet
    twin = copy.deepcopy(model)
    resumed = build_optimizer(twin, recipe.optim)
    load_optimizer_state(resumed, copy.deepcopy(optimizer.state_dict()))
    for _ in range(2):
        take_step(model, optimizer)
        take_step(twin, resumed)
    moved = {key for key, old in before.items() if not torch.equal(old, model.state_dict()[key])}
    assert {key for key in moved if "stem.1" not in key} == trained(model)
    assert all(map(torch.equal, model.state_dict().values(), twin.state_dict().values()))


def trained(model: nn.Module) -> set[str]:
    named = model.named_parameters()
    return {name for name, p in named if p.requires_grad and not name.startswith("unused")}


def test_the_average_follows_by_its_decay_and_skips_bad_steps() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    average = WeightAverage(model, 0.9)
    nn.init.ones_(model.weight)
    go, skip = torch.tensor(False), torch.tensor(True)
    average.set_step(10_000)
    average.update(skip)
    assert average.vector.item() == 0.0
    average.update(go)
    assert average.vector.item() == pytest.approx(0.1)
    average.set_step(0)  # early: decay 1 / 10
    average.update(go)
    assert average.vector.item() == pytest.approx(0.91)
    twin = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        average.copy_to(twin)
    assert twin.weight.item() == pytest.approx(0.91)


STARTS = """
import sys
from torch import nn
from mnistcli.engine.optim import build_optimizer
from mnistcli.recipe import load
for name in ("sgd", "adam", "adamw", "muon"):
    net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4), nn.Linear(4, 2))
    optimizer = build_optimizer(net, load("plain/v3", settings=[f"optim.name={name}"]).optim)
    net[2](net[1](net[0].weight.T.new_ones(1, 2) @ net[0].weight.T)).sum().backward()
    before = net[1].weight.detach().clone()
    optimizer.step()
    assert (net[1].weight != before).all(), name
    optimizer.load_state_dict(optimizer.state_dict())
    optimizer.zero_grad()
assert "torch._dynamo" not in sys.modules
"""


@pytest.mark.slow
def test_an_optimizer_trains_without_the_compiler_that_torch_imports_for_it() -> None:
    done = subprocess.run([sys.executable, "-c", STARTS], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_a_step_is_torchs(name: str) -> None:
    recipe = load("plain/v3", settings=[f"optim.name={name}"]).optim
    ours = build_optimizer(nn.Linear(3, 2), recipe)
    kind: type[torch.optim.Optimizer] = type(ours).__mro__[1]
    nets = [nn.Linear(3, 2) for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    options = {k: v for k, v in ours.defaults.items() if k not in ("decoupled_weight_decay",)}
    pair = [build_optimizer(nets[0], recipe), kind(nets[1].parameters(), **options)]
    for group in pair[0].param_groups + pair[1].param_groups:
        group["weight_decay"] = 0.01
    for _ in range(3):
        for net, optimizer in zip(nets, pair, strict=True):
            optimizer.zero_grad()
            net(torch.ones(1, 3)).square().sum().backward()
            optimizer.step()
    assert torch.equal(nets[0].weight, nets[1].weight)
    assert torch.equal(nets[0].bias, nets[1].bias)
