"""Arms sampled by Optuna, where it is installed; without it one line says so."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from conftest import Cli, document

STUDY = """
question: Which rate and batch?
base: plain/v3
search:
  ranges: {optim.lr: {low: 0.05, high: 0.5, log: true}, batch_size: [64, 128]}
  arms: 5
seeds: 0-2
"""


def test_sampled_arms_are_named_by_their_values_and_the_same_each_time(
    tmp_path: Path, cli: Cli
) -> None:
    pytest.importorskip("optuna")
    file = tmp_path / "search.yaml"
    file.write_text(STUDY)
    plans = [document(cli("study", str(file), "--plan", "--json").stdout)["plan"] for _ in "ab"]
    assert plans[0] == plans[1]
    searched = [arm for arm in plans[0]["arms"] if arm["searched"]]
    assert len(searched) == 5
    assert all(arm["arm"].startswith("lr=") for arm in searched)
    assert plans[0]["stages"][0]["flattery"] > 0  # of all that were looked at
    file.write_text(STUDY.replace("{low: 0.05", "{lo: 0.05"))
    assert cli("study", str(file), "--plan").returncode == 2


def test_without_optuna_a_search_says_what_to_install(
    tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    file = tmp_path / "search.yaml"
    file.write_text(STUDY)
    done = cli("study", str(file), "--plan")
    assert done.returncode == 5
    assert "pip install optuna" in done.stderr
