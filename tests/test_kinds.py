"""Changes typed on a command line: another kind brings its defaults, and what is given wins."""

from __future__ import annotations

import pytest
import torch

from mnistcli import recipe
from mnistcli.data.augment import draw
from mnistcli.errors import UsageError
from mnistcli.recipe import kinds

VAL = {"validation": True}


@pytest.mark.parametrize(
    ("section", "kind", "source"),
    [
        ("optim", "sgd", "plain/v3"),
        ("optim", "adamw", "plain/v1"),
        ("optim", "muon", "v3"),
        ("schedule", "onecycle", "v3"),
    ],
)
def test_a_kinds_defaults_are_those_of_the_recipe_they_come_from(
    section: str, kind: str, source: str
) -> None:
    values = recipe.packaged(source).model_dump()[section]
    assert values == {"name": kind} | kinds.DEFAULTS[section][kind]
    assert recipe.packaged("v3").model_dump()["distillation"] == kinds.TAUGHT


@pytest.mark.parametrize("source", ["v3", "plain/v1", "plain/v3"])
@pytest.mark.slow
def test_every_kind_can_be_chosen_by_its_name(source: str) -> None:
    for section, known in kinds.DEFAULTS.items():
        for name in known:
            settings = [f"{section}.name={name}"], [f"{section}={name}"]
            first, second = (recipe.load(source, settings=s, options=VAL) for s in settings)
            assert first == second
            assert getattr(first, section).name == name


def test_another_kind_keeps_what_both_have_but_rate_and_decay() -> None:
    values = recipe.load("v3", settings=["optim.momentum=0.8", "optim.lr=3.0"]).model_dump()
    kinds.apply(values, [("optim.name", "sgd")])
    sgd = recipe.packaged("plain/v3").optim
    assert values["optim"] == sgd.model_dump() | {"momentum": 0.8}


def test_what_is_given_beside_another_kind_wins_in_any_order() -> None:
    expected = recipe.load("v3", settings=["optim={name: sgd, lr: 0.1, momentum: 0.5}"])
    settings = ["optim.momentum=0.5", "optim={lr: 0.1}", "optim.name=sgd"]
    assert recipe.load("v3", settings=settings) == expected
    assert recipe.load("v3", settings=settings[::2], options={"optim.lr": 0.1}) == expected
    assert (expected.optim.name, expected.optim.lr) == ("sgd", 0.1)


def test_augment_null_switches_all_ranges_off_but_those_that_are_given() -> None:
    still = recipe.load("v3", settings=["augment=null"]).augment
    assert draw(still, 3, torch.Generator()) is None
    turned = recipe.load("v3", settings=["augment.rotation_degrees=5", "augment=null"]).augment
    assert turned == still.model_copy(update={"rotation_degrees": 5.0})


def test_a_step_recipe_takes_the_other_way_of_saying_when() -> None:
    step = ["schedule=step", "schedule.factor=0.5"]
    by_count = recipe.load("v3", settings=step).schedule.model_dump()
    assert by_count == {"name": "step", "milestones": None, "every_epochs": 5, "factor": 0.5}
    by_list = recipe.load("v3", settings=[*step, "schedule.milestones=[8, 12]"]).schedule
    assert by_list.model_dump() == by_count | {"milestones": [8, 12], "every_epochs": None}


def test_a_teacher_brings_weight_and_temperature() -> None:
    taught = recipe.load("plain/v3", settings=["distillation.teacher=v4"]).distillation
    assert taught is not None
    assert taught.model_dump() == kinds.TAUGHT | {"teacher": "v4"}


@pytest.mark.parametrize(
    ("setting", "option"),
    [
        ("optim={lr: 0.1}", "optim.lr"),
        ("distillation.weight=1", "distillation"),
        ("epochs=3", "epochs"),
    ],
)
def test_a_value_given_by_its_option_too_is_refused(setting: str, option: str) -> None:
    with pytest.raises(UsageError, match="by --set and by its own option"):
        recipe.load("v3", settings=[setting], options={option: None})


@pytest.mark.parametrize(
    "settings",
    [
        ["optim.name=adamw", "optim.lr=0.2", "optim.weight_decay=1e-4"],
        ["schedule={name: step, milestones: [8, 12]}"],
        ["schedule=step", "distillation=null", "augment=null"],
    ],
)
def test_the_differences_given_as_settings_make_the_same_recipe(settings: list[str]) -> None:
    changed = recipe.load("v3", settings=settings)
    said = recipe.differences(recipe.load("v3"), changed)
    assert recipe.load("v3", settings=said) == changed
