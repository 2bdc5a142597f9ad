"""From a study's answer to a frozen recipe, and from there to the test set, its visits counted."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Cli, document

from mnistcli import recipe as recipes
from mnistcli.study.visits import count, visits

STUDY = """
question: Which rate?
base: plain/v3
common: {epochs: 1, batch_size: 32, ema_decay: null, augment: null}
arms: {slow: {optim.lr: 0.02}, slower: {optim.lr: 0.01}}
seeds: 0-2
sd: 1
confirm: false
"""
NET = """
import torch

def net():
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10))
"""


@pytest.fixture
def study(tiny_data: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The line of a study that has been run."""
    monkeypatch.chdir(tmp_path)
    Path("rate.yaml").write_text(STUDY)
    words = ["study", "rate.yaml", "--data-dir", str(tiny_data), "--threads", "1"]
    assert cli(*words).returncode == 0
    return words


@pytest.mark.slow
def test_the_winner_is_written_with_its_evidence_and_trains(
    study: list[str], cli: Cli, tiny_data: Path
) -> None:
    done = cli(*study, "--freeze", "mine", "--json")
    assert document(done.stdout)["recipe"] == "mine.yaml"
    recipe = recipes.load("mine.yaml")
    assert (
        recipe.digest()
        == recipes.load(
            "plain/v3",
            options={"epochs": 1, "batch_size": 32, "ema_decay": None, "augment": None},
        ).digest()
    )  # no arm was better: the base stays, for all pictures
    assert recipe.notes is not None
    assert recipe.notes.target == "Which rate?"
    for word in ("Chosen on the validation split", "registration", "slow (", "slower ("):
        assert word in recipe.notes.analysis
    assert "v3 was tested before with" in done.stderr  # v3 has, by its published records
    Path("mine.yaml").write_text("model: v3\n")
    assert cli(*study, "--freeze", "mine").returncode == 2
    assert cli(*study, "--freeze", "v3").returncode == 2


@pytest.mark.slow
def test_a_decision_by_hand_needs_its_reason_and_is_recorded_with_it(
    study: list[str], cli: Cli
) -> None:
    assert cli(*study, "--decide", "slow").returncode == 2
    assert cli(*study, "--decide", "fast", "--reason", "why not").returncode == 2
    done = cli(*study, "--decide", "slow", "--reason", "a tenth faster", "--freeze", "slow")
    assert done.returncode == 0, done.stderr
    recipe = recipes.load("slow.yaml")
    assert recipe.optim.lr == 0.02
    assert recipe.notes is not None
    assert "Decided by hand: a tenth faster" in recipe.notes.analysis
    again = document(cli(*study, "--json").stdout)["study"]
    assert [(one["arm"], one["runs"]) for one in again["decisions"]] == [("slow", 9)]


def test_a_study_without_an_answer_freezes_nothing(tmp_path: Path, cli: Cli) -> None:
    file = tmp_path / "rate.yaml"
    file.write_text(STUDY)
    done = cli("study", str(file), "--out", str(tmp_path / "none"), "--freeze", "x")
    assert done.returncode == 4
    assert not (tmp_path / "x.yaml").exists()


@pytest.mark.slow
def test_visits_to_the_test_set_are_counted_and_a_second_choice_is_warned_of(
    tiny_data: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(NET)
    line = ["train", "--model", "net.py:net", "--epochs", "1", "--batch-size", "32", "--threads",
            "1", "--no-plots", "--data-dir", str(tiny_data), "--final", "--json"]  # fmt: skip
    first = cli(*line, "--seeds", "0-2")
    assert "no other recipe of net.py:net" in first.stderr
    assert {run["visit"]["choice"] for run in document(first.stdout)["runs"]} == {1}
    same = cli(*line, "--seeds", "2-3")
    assert "on 1 of these seeds before" in same.stderr
    other = cli(*line, "--lr", "0.05")
    assert "net.py:net was tested before with 1 other recipe" in other.stderr
    assert "this is choice 2" in other.stderr
    assert document(other.stdout)["visit"]["choice"] == 2
    held_out = cli(*line, "--val")
    assert held_out.returncode == 2
    found = {(visit.runs, visit.seeds) for visit in visits("net.py:net")}
    assert found == {(5, (0, 1, 2, 3)), (1, (0,))}  # folders of one second go by their names


def test_the_published_networks_know_their_visits() -> None:
    found = {visit.recipe: visit.runs for visit in visits("v3")}
    assert found["v3"] >= 30
    assert "plain/v3" in found
    assert count(recipes.packaged("v3"))["runs_of_this_recipe"] >= 30
