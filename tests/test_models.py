"""The networks as the user had them, and the registry that declares them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from conftest import network

from mnistcli import recipe
from mnistcli.cli.arguments import resolve_recipe
from mnistcli.errors import UsageError
from mnistcli.models.registry import MODELS, ModelEntry, build, file_name, resolve
from mnistcli.models.v3 import SkipAdd

# In order of execution; a batch normalisation's scale and shift are one number.
PARAMETERS = {
    "v1": [72, 720, 1440, 128, 576, 720, 1440, 128, 1152, 160],
    "v2": [72, 16, 720, 20, 1440, 32, 128, 16, 576, 16, 720, 20, 1440, 32, 128, 16, 1152, 160],
    "v3": [72, 16, 720, 20, 1440, 32, 128, 720, 20, 900, 20, 1080, 24, 96, 576, 16, 720, 20, 1080,
           120],
}  # fmt: skip


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_by_layer_are_the_users(name: str) -> None:
    model = network(name)
    leaves = [module for module in model.modules() if not any(module.children())]
    counts = [sum(p.numel() for p in leaf.parameters()) for leaf in leaves]
    assert [count for count in counts if count] == PARAMETERS[name]
    assert sum(PARAMETERS[name]) == MODELS[name].parameters


def test_the_skip_is_nearest_resampling() -> None:
    late, early = torch.randn(2, 8, 7, 7), torch.randn(2, 8, 14, 14)
    nearest = torch.nn.functional.interpolate(early, size=(7, 7), mode="nearest")
    assert torch.equal(SkipAdd()(late, early), late + nearest)


def test_dropout_acts_in_training_only() -> None:
    model = network("v3", dropout=0.5)
    images = torch.rand(4, 1, 28, 28)
    assert torch.equal(model.eval()(images), model(images))
    assert not torch.equal(model.train()(images), model(images))


def test_the_learned_pooling_weighs_each_place_of_each_channel() -> None:
    model = network("v5").eval()
    pool = next(m for m in model.modules() if isinstance(m, torch.nn.Conv2d) and m.groups > 1)
    assert pool.weight.shape == (10, 1, 7, 7)
    assert not [m for m in model.modules() if "AvgPool" in type(m).__name__]
    seen = []
    pool.register_forward_hook(lambda _, inputs, output: seen.extend([inputs[0], output]))
    model(torch.rand(2, 1, 28, 28))
    assert [tuple(value.shape) for value in seen] == [(2, 10, 7, 7), (2, 10, 1, 1)]


@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("v4", 8_000), ("v5", 5_000), ("v6", 2_000), ("v7", 2_000), ("v8", 8_000), ("v9", 1_000),
        ("v10", 4_898),
    ],
)  # fmt: skip
def test_the_new_networks_stay_below_their_budgets(name: str, most: int) -> None:
    entry, v3 = MODELS[name], MODELS["v3"]
    assert entry.parameters is not None
    assert entry.parameters < most
    assert entry.mult_adds is not None
    assert v3.mult_adds is not None
    assert entry.mult_adds <= v3.mult_adds


def test_stages_are_channels_by_convolution() -> None:
    model = network("v4", stages="4-6 8")
    convolutions = [m.out_channels for m in model.modules() if isinstance(m, torch.nn.Conv2d)]
    assert convolutions == [4, 6, 8, 8]
    with pytest.raises(UsageError, match="two or three"):
        network("v4", stages="4-6")
    with pytest.raises(UsageError, match="can't be built"):
        network("v4", stages="4,6 8")


def test_separable_convolutions_see_space_and_channels_apart() -> None:
    model = network("v7")
    first, *others = [m for m in model.modules() if isinstance(m, torch.nn.Conv2d)]
    assert (first.in_channels, first.kernel_size) == (1, (3, 3))
    mixing, spatial = others[1:-2:2], others[:-2:2]
    assert {m.kernel_size for m in mixing} == {(1, 1)}
    assert all(m.groups == m.in_channels == m.out_channels for m in (*spatial, *others[-2:]))
    assert [m.out_channels for m in mixing] == [10, 12, 12, 14, 14]
    for stages in ("4-6 8-8", "4-6 8 8 8"):
        with pytest.raises(UsageError, match="three, such as"):
            network("v7", stages=stages)


def test_shared_convolutions_are_counted_once_and_stand_in_several_places() -> None:
    model = network("v9", stages="5-8 12-12 12-12", shared=True)
    convolutions = [m for m in model if isinstance(m, torch.nn.Conv2d)]
    assert (len(convolutions), len({*convolutions})) == (14, 9)
    assert sum(p.numel() for p in model.parameters()) == 982
    norms = [m for m in model if isinstance(m, torch.nn.BatchNorm2d)]
    assert len({*norms}) == len(norms) == 7


def test_the_activation_is_an_argument() -> None:
    for name, expected in (("hardswish", torch.nn.Hardswish), ("relu", torch.nn.ReLU)):
        for design in ("v6", "v7"):
            model = network(design, activation=name)
            found = {type(m) for m in model.modules()} & {torch.nn.Hardswish, torch.nn.ReLU}
            assert found == {expected}
            with pytest.raises(UsageError, match="relu or hardswish"):
                network(design, activation="tanh")


@pytest.mark.parametrize(("name", "needed"), [("v4", "stages, activation"), ("v3", "dropout")])
def test_no_default_in_code_decides_a_packaged_network(name: str, needed: str) -> None:
    with pytest.raises(UsageError, match=f"{name} needs {needed}"):
        build(MODELS[name], dict[str, str]())


def test_a_network_without_a_recipe_of_its_own_learns_by_plain_v3(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(MODELS, "new", ModelEntry("new", "mnistcli.models.v1:build"))
    found, plain = resolve_recipe("new"), recipe.packaged("plain/v3")
    assert found == plain.model_copy(update={"model": "new", "model_args": {}, "notes": None})


OWN = """
import torch
def good(width: int = 4):
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, width),
                               torch.nn.ReLU(), torch.nn.Linear(width, 10))
def wrong_shape(): return torch.nn.Flatten()
def no_module(): return 3
"""


def test_an_own_network_is_built_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "net.py"
    path.write_text(OWN)
    model = build(resolve(f"{path}:good"), {"width": 2})
    assert sum(p.numel() for p in model.parameters()) == 784 * 2 + 2 + 2 * 10 + 10
    assert file_name(f"{path}:good") == "net-good"


@pytest.mark.parametrize(
    ("factory", "expected"),
    [("wrong_shape", "expected [2, 10]"), ("no_module", "torch.nn.Module"), ("god", "no function")],
)
def test_a_broken_network_is_explained(factory: str, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "net.py"
    path.write_text(OWN)
    with pytest.raises(UsageError) as caught:
        build(resolve(f"{path}:{factory}"), {})
    assert expected in caught.value.what


def test_an_unknown_argument_names_the_nearest() -> None:
    with pytest.raises(UsageError) as caught:
        network("v3", dropuot=0.1)
    assert "'dropout'" in caught.value.hint
