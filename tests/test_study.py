"""A study file: what it may say, the arms that it makes, and its plan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import Cli, document

from mnistcli import recipe as recipes
from mnistcli.errors import UsageError
from mnistcli.study.arms import Arms, resolve_arms
from mnistcli.study.design import open_plan
from mnistcli.study.schema import read_study

EXAMPLE = """
question: Does v3 gain from a softer teacher or another optimizer?
base: v3
common: {epochs: 6}
arms:
  base: {}
  softer: {distillation.temperature: 4}
  adamw: {optim: {name: adamw, lr: 0.01}}
grid: {optim.muon_lr: [0.02, 0.03, 0.05], batch_size: [64, 128]}
stages: [{seeds: 0-4, keep: 3}, {epochs: 15, seeds: 5-20}]
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "study.yaml"
    path.write_text(text)
    return path


def arms_of(folder: Path, text: str) -> Arms:
    path = write(folder, text)
    return resolve_arms(read_study(path), path)


def test_arms_are_whole_recipes_and_the_grid_s_own_point_of_the_base_is_the_base(
    tmp_path: Path,
) -> None:
    arms = arms_of(tmp_path, EXAMPLE)
    assert arms.base.name == "base"
    assert [arm.name for arm in arms.challengers] == [
        "softer", "adamw", "muon_lr=0.02,batch_size=64", "muon_lr=0.02,batch_size=128",
        "muon_lr=0.03,batch_size=64", "muon_lr=0.05,batch_size=64", "muon_lr=0.05,batch_size=128",
    ]  # fmt: skip
    assert all(arm.recipe.validation and arm.recipe.epochs == 6 for arm in arms.all)
    adamw = arms.named("adamw").recipe
    assert (adamw.optim.name, adamw.optim.lr) == ("adamw", 0.01)
    assert arms.named("muon_lr=0.05,batch_size=64").recipe.batch_size == 64


def test_an_arm_may_be_another_network_and_the_base_plain_values(tmp_path: Path) -> None:
    values = recipes.packaged("plain/v3").model_copy(update={"epochs": 3}).to_yaml()
    inside = "\n".join(f"  {line}" for line in values.splitlines())
    text = f"question: Which?\nbase:\n{inside}\narms:\n  small: {{model: v6}}\nseeds: 0-2\n"
    arms = arms_of(tmp_path, text)
    small = arms.named("small").recipe
    assert (small.model, small.model_args) == ("v6", recipes.model_args("v6"))
    assert (small.epochs, small.distillation) == (3, None)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("arms: {a: {optim.lr: 0.1}, b: {optim: {lr: 0.1}}}", "'a' and 'b' are the same recipe"),
        ("arms: {a: {optim.lrr: 0.1}}", "arm 'a': optim.lrr: unknown key"),
        ("arms: {../a: {optim.lr: 0.1}}", "an arm is named by letters"),
        ("arms: {}", "a study needs an arm beside the base"),
        ("arm: {a: {}}", "arm: unknown key, did you mean 'arms'?"),
        ("arms: {base: {optim.lr: 0.1}}", "'base' changes something"),
        ("grid: {optim.lr: []}", "no value is given"),
        ("arms: {a: {optim.lr: 0.1}}\nseeds: 4-1", "bad range of seeds"),
        ("arms: {a: {optim.lr: 0.1}}\nseeds: 0-2\ndetect: -1", "detect"),
        ("arms: {a: {optim.lr: 0.1}}\nstages: [{seeds: 0-2}, {seeds: 3-4}]", "how many arms"),
        ("arms: {a: {optim.lr: 0.1}}\nstages: [{seeds: 0-2, keep: 1}, {seeds: 2-4}]",
         "seed 2 is used in two stages"),
        ("arms: {a: {optim.lr: 0.1}}\nstages: [{seed: 0-2}]", "did you mean 'seeds'?"),
        ("search: {ranges: {optim.lr: {low: 0.1}}, arms: many}", "search.arms"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_exit_code_2(
    change: str, said: str, tmp_path: Path, cli: Cli
) -> None:
    done = cli("study", str(write(tmp_path, f"question: Which?\nbase: v3\n{change}\n")), "--plan")
    assert done.returncode == 2
    assert said in done.stderr
    assert not list(tmp_path.glob("checkpoints"))


def test_the_leader_of_several_is_confirmed_and_a_single_arm_decides_at_once(
    tmp_path: Path,
) -> None:
    several = "question: Which?\nbase: v3\narms: {a: {optim.lr: 0.1}, b: {optim.lr: 0.3}}\n"
    steps = open_plan(write(tmp_path, several + "seeds: 0-3")).steps
    assert [(step.name, step.seeds, step.keep) for step in steps] == [
        ("stage 1", (0, 1, 2, 3), 1), ("confirm", (4, 5, 6, 7), None),
    ]  # fmt: skip
    assert [step.decides for step in steps] == [False, True]
    one = several.replace(", b: {optim.lr: 0.3}", "")
    (step,) = open_plan(write(tmp_path, one + "seeds: 0-3")).steps
    assert step.decides
    (step,) = open_plan(write(tmp_path, several + "seeds: 0-3\nconfirm: false")).steps
    assert not step.decides


def test_the_plan_names_the_runs_that_it_rests_on_and_trains_nothing(
    tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = cli("study", str(write(tmp_path, EXAMPLE)), "--plan", "--json", "--jobs", "2")
    plan = document(done.stdout)["plan"]
    assert [stage["runs"] for stage in plan["stages"]] == [40, 64, 32]
    assert [stage["drops"] for stage in plan["stages"]] == [4, 2, 0]
    assert plan["runs"] == 136
    assert "study/v3" in plan["sd_source"]
    assert 0.0003 < plan["sd"] < 0.0009
    assert plan["seconds"] > 3600
    assert 0.0004 < plan["detectable"] < 0.0008
    assert [path.name for path in tmp_path.iterdir()] == ["study.yaml"]


def test_detect_decides_the_seeds(tmp_path: Path) -> None:
    text = "question: Which?\nbase: v3\narms: {a: {optim.lr: 0.1}}\nsd: 0.043\n"
    seeds = {
        points: len(open_plan(write(tmp_path, f"{text}detect: {points}\n")).steps[0].seeds)
        for points in (0.03, 0.05, 0.1)
    }
    assert seeds == {0.03: 35, 0.05: 14, 0.1: 6}


def test_an_own_network_is_named_by_the_user_and_needs_an_sd(tmp_path: Path, cli: Cli) -> None:
    text = "question: Which?\nbase: plain/v3\narms: {mine: {model: 'net.py:net'}}\nseeds: 0-2\n"
    done = cli("study", str(write(tmp_path, text)), "--plan")
    assert done.returncode == 2
    assert "--model net.py:net" in done.stderr
    done = cli("study", str(write(tmp_path, text)), "--plan", "--model", "net.py:net")
    assert done.returncode == 0
    assert "no record tells how long net.py:net takes" in done.stderr


def test_a_file_that_is_missing_or_no_study_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no study file"):
        read_study(tmp_path / "none.yaml")
    bad: Any = write(tmp_path, "- 1\n- 2\n")
    with pytest.raises(UsageError, match="study is not a mapping"):
        read_study(bad)
