"""Recipes: strict, complete, and the same after a round trip."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest
from conftest import HERE, Cli

from mnistcli import recipe
from mnistcli.errors import UsageError
from mnistcli.files import packaged
from mnistcli.models.identity import identity
from mnistcli.models.registry import MODELS, build, resolve
from mnistcli.recipe.schema import SECTIONS, Notes, Recipe
from mnistcli.results.gather import published
from mnistcli.study.arms import resolve_arms
from mnistcli.study.schema import read_study


@pytest.mark.slow
def test_every_packaged_recipe_loads_and_round_trips(tmp_path: Path) -> None:
    names = recipe.names()
    assert {"v1", "v2", "v3", "baseline/v1", "baseline/v2", "baseline/v3"} <= set(names)
    for name in names:
        loaded = recipe.load(name)
        copy = tmp_path / "copy.yaml"
        for commented in (False, True):
            copy.write_text(loaded.to_yaml(commented=commented))
            assert recipe.load(str(copy)) == loaded
        assert loaded.model in name


def test_every_value_has_its_words_and_a_long_text_keeps_clear_of_them(tmp_path: Path) -> None:
    kinds = [Recipe, *(kind for kinds in SECTIONS.values() for kind in kinds if kind is not Notes)]
    silent = {
        name for kind in kinds for name, field in kind.model_fields.items() if not field.description
    }
    assert silent == {"name", "optim", "schedule"}
    long = f"{'a folder of networks/' * 9}net.py:tiny # or another"
    loaded = recipe.load("v3", settings=["schedule={name: step, milestones: [5, 9]}"])
    loaded = loaded.model_copy(update={"model": long})
    (tmp_path / "r.yaml").write_text(loaded.to_yaml(commented=True))
    assert recipe.load(str(tmp_path / "r.yaml")) == loaded


def test_an_option_says_what_its_value_says(cli: Cli) -> None:
    text = " ".join(cli("train", "--help").stdout.replace("│", " ").split())
    values = "epochs", "batch_size", "seed", "validation", "patience_epochs"
    for said in [Recipe.model_fields[name].description for name in values]:
        assert said is not None
        assert said in text


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("optim.lrr=1", "optim.lrr: unknown key, did you mean 'lr'?"),
        ("epoch=3", "epoch: unknown key, did you mean 'epochs'?"),
        ("schedule.warmup=1", "did you mean 'warmup_fraction'?"),
        ("epochs=-2", "epochs: should be greater than or equal to 1 (got -2)"),
        ("epochs=true", "epochs: should be a valid integer (got true)"),
        ("optim.lr=.nan", "optim.lr:"),
        ("optim.lr=fast", "optim.lr:"),
        ("optim.name=lion", "optim.name: unknown name 'lion'"),
        ("epochs.x=3", "'epochs' has no keys below it"),
        ("patience_epochs=3", "--val"),
        ("lr=0.1", "did you mean 'optim.lr'?"),
        ("momentum=0.5", "did you mean 'optim.momentum'?"),
        ("teacher=v4", "did you mean 'distillation.teacher'?"),
        ("weightdecay=0", "did you mean 'optim.weight_decay'?"),
        ("OPTIM.lr=1", "did you mean 'optim'?"),
        ("name=sgd", "did you mean 'optim.name' or 'schedule.name'?"),
        ("optim.name=null", "unknown name null"),
        ("schedule={name: step, milestones: 8}", "did you mean [8]?"),
        ("zzz=0", "valid: augment, batch_size, distillation and 11 more"),
        ("optim.muon_lr=0.1", "it belongs to muon, not to sgd"),
        ("augment.fade_epochs=10001", "less than or equal to 10000"),
        ("patience_epochs=10001", "less than or equal to 10000"),
        ("optim.weight_decay=11", "less than or equal to 10"),
        ("optim.lr=5e-324", "greater than or equal to"),
        ("seed=2147483648", "less than 2147483648"),
        (f"model_args.dropout={2**63}", "dropout has more than 64 bits"),
        ("model_args.dropout=null", "should be a number, true, false or a text"),
        ("schedule={name: step, milestones: [2], every_epochs: 2}", "either milestones or"),
        ("schedule={name: step, milestones: [5, 2]}", "do not rise"),
        ("optim.momentum=0", "nesterov"),
        ("epochs=2024-13-45", "should be a valid integer (got '2024-13-45')"),
        ("epochs=[", "--set"),
    ],
)
def test_a_wrong_value_is_named_with_its_path(setting: str, expected: str) -> None:
    with pytest.raises(UsageError) as caught:
        recipe.load("plain/v3", settings=[setting])
    assert expected in caught.value.what


def test_all_problems_come_at_once() -> None:
    with pytest.raises(UsageError) as caught:
        recipe.load("v3", settings=["epochs=0", "batch_size=-1", "optim.lrr=2"])
    assert all(key in caught.value.what for key in ("epochs", "batch_size", "optim.lrr"))


def test_a_value_given_twice_is_refused() -> None:
    with pytest.raises(UsageError, match="epochs is given"):
        recipe.load("v3", settings=["epochs=5"], options={"epochs": 3})


def test_exponents_without_a_dot_are_numbers() -> None:
    loaded = recipe.load("v3", settings=["optim.lr=1e-3", "ema_decay=null"])
    assert (loaded.optim.lr, loaded.ema_decay) == (0.001, None)


def test_the_digest_ignores_the_seed_and_nothing_else() -> None:
    base = recipe.load("v3")
    assert recipe.load("v3", settings=["seed=5"]).digest() == base.digest()
    assert recipe.load("v3", settings=["epochs=5"]).digest() != base.digest()


def test_differences_name_the_changed_leaves() -> None:
    changed = recipe.load("v3", settings=["optim.lr=0.05", "epochs=3"])
    assert recipe.differences(recipe.load("v3"), changed) == ("epochs=3", "optim.lr=0.05")


def test_plateau_on_test_and_validation_exclude_each_other() -> None:
    with pytest.raises(UsageError, match=r"schedule\.split"):
        recipe.load("baseline/v3", options={"validation": True})
    recipe.load("baseline/v3", options={"validation": True, "schedule.split": "validation"})


@pytest.mark.parametrize("name", recipe.names())
@pytest.mark.slow
def test_published_records_are_of_the_recipe_as_it_is(name: str) -> None:
    found = [r["recipe_digest"] for r in published() if (r["recipe"], r["changes"]) == (name, [])]
    assert found
    assert set(found) == {recipe.load(name).digest()}


def test_a_record_is_known_by_its_recipes_values_whatever_digest_its_run_wrote() -> None:
    path = packaged("checkpoints", "records", "v4.jsonl")
    written = [json.loads(line) for line in path.read_text().splitlines()]
    assert {r["recipe_digest"] for r in written} == {  # the first: one digest, two networks
        "08251725ccc6", recipe.load("v4").digest(),
    }  # fmt: skip
    known = {r["recipe_digest"]: r["recipe"] for r in published() if r["seed"] == 0}
    file = packaged("configs", "study", "v4.yaml")
    e15 = resolve_arms(read_study(file), file).named("e15").recipe  # as the first v4 was tested
    earlier = e15.model_copy(update={"validation": False})
    digests = {recipe.load("v4").digest(), earlier.digest()}
    assert {known[digest] for digest in digests} == {"v4", "earlier/v4"}


@pytest.mark.slow
def test_a_record_names_the_network_that_its_recipe_builds() -> None:
    known = {(r["model"], json.dumps(r["recipe_values"]["model_args"])): r for r in published()}
    assert len(known) > 15
    for (model, arguments), record in known.items():
        entry = MODELS.get(model) or resolve(str(HERE.parent / model))  # a file of ours
        network = build(entry, json.loads(arguments))
        assert record["network"] == identity(network)
        assert record["parameters"] == sum(p.numel() for p in network.parameters())


def test_another_network_brings_the_arguments_of_its_own_recipe() -> None:
    assert recipe.load("v3", model="v6").model_args == recipe.load("v6").model_args
    assert recipe.load("v3", model="net.py:tiny").model_args == {}


def test_a_fade_is_another_recipe() -> None:
    faded = recipe.load("v3", settings=["augment.fade_epochs=2"])
    assert faded.digest() != recipe.load("v3").digest()


@pytest.mark.parametrize(
    ("setting", "meant"),
    [
        ("epochs=010", "10"),
        ("epochs=1_000", "1000"),
        ("epochs=0x1F", "31"),
        ("epochs=1e3", "1000"),
        ("epochs=60,000", "60000"),
        ("optim.lr=.5e", "0.5"),
        ("optim.lr=0,1", "0.1"),
        ("augment.scale_fraction=5%", "0.05"),
        ("augment.shear_degrees=off", "0"),
        ("ema_decay=None", "null"),
        ("ema_decay=nil", "null"),
        ("ema_decay=no", "null"),
        ("distillation=off", "null"),
        ("augment=none", "null"),
        ("validation=on", "true"),
        ("optim.nesterov=no", "false"),
    ],
)
@pytest.mark.parametrize("in_a_file", [False, True])
def test_what_yaml_readers_disagree_about_is_refused_with_what_was_meant(
    setting: str, meant: str, *, in_a_file: bool, tmp_path: Path
) -> None:
    source, settings, (key, _, value) = "plain/v3", [setting], setting.partition("=")
    if in_a_file:
        text, last = recipe.load(source).to_yaml(), key.rpartition(".")[2]
        source, settings = str(tmp_path / "r.yaml"), []
        pattern = rf"(?m)^( *){last}:.*(\n  +.*)*" if "." not in key else rf"(?m)^( +){last}:.*"
        Path(source).write_text(re.sub(pattern, rf"\1{last}: {value}", text))
    with pytest.raises(UsageError, match=rf"{key}: .*did you mean {re.escape(meant)}\?"):
        recipe.load(source, settings=settings)


@pytest.mark.parametrize("setting", ["epochs=1:30", "epochs=2024-01-02", "seed=yes"])
def test_what_could_mean_anything_is_refused_alone(setting: str) -> None:
    with pytest.raises(UsageError) as caught:
        recipe.load("v3", settings=[setting])
    assert re.fullmatch(r"recipe: \w+: should be a valid integer \(got '\S+'\)", caught.value.what)


@pytest.mark.parametrize("text", ["1e3", "010", "off", "null", "1.5e3", "~", "2024-01-02", "0x1F"])
def test_a_text_that_looks_like_a_value_stays_a_text(text: str, tmp_path: Path) -> None:
    loaded = recipe.load("v3", settings=[f"model_args.width='{text}'"])
    assert loaded.model_args["width"] == text
    (tmp_path / "r.yaml").write_text(loaded.to_yaml())
    assert recipe.load(str(tmp_path / "r.yaml")) == loaded


def test_a_file_gets_no_figure_from_code(tmp_path: Path) -> None:
    text = recipe.load("v3").to_yaml().replace("name: muon", "name: sgd")
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(UsageError, match=r"optim\.nesterov: missing"):
        recipe.load(str(tmp_path / "r.yaml"))


@pytest.mark.slow
@pytest.mark.parametrize("text", ["a: " + "1" * 60_000 + "x", "k{}: 1\n", "- [1, 2]\n"])
def test_a_large_recipe_is_refused_at_once(text: str, tmp_path: Path) -> None:
    lines = "".join(text.format(i) for i in range(60_000 // len(text) or 1))
    (tmp_path / "r.yaml").write_text(lines)
    started = time.process_time()
    with pytest.raises(UsageError) as caught:
        recipe.load(str(tmp_path / "r.yaml"))
    assert time.process_time() - started < 5  # 64 s where each digit was tried as the last
    assert len(str(caught.value)) < 4_000
