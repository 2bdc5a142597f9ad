"""Distillation: the loss against its formula, and a teacher that may teach."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from conftest import Cli, weights_of

from mnistcli.engine.loss import loss
from mnistcli.recipe import Recipe, load

LINE = ["train", "--model", "v3", "--epochs", "2", "--batch-size", "32", "--threads", "1"]


def distilling(teacher: Path | str, weight: float = 0.5) -> str:
    return f"distillation={{teacher: {teacher}, weight: {weight}, temperature: 2.0}}"


def recipe(weight: float, temperature: float) -> Recipe:
    settings = [f"distillation={{teacher: v3, weight: {weight}, temperature: {temperature}}}"]
    return load("v3", settings=settings)


def softmax(values: list[float], temperature: float) -> list[float]:
    powers = [math.exp(value / temperature) for value in values]
    return [power / sum(powers) for power in powers]


def test_the_loss_is_the_papers_formula() -> None:
    logits, taught, label = [0.3, -1.0, 2.0], [1.0, 0.5, 3.0], 1
    weight, temperature = 0.7, 3.0
    student, teacher = softmax(logits, temperature), softmax(taught, temperature)
    divergence = sum(t * math.log(t / s) for t, s in zip(teacher, student, strict=True))
    hard = -math.log(softmax(logits, 1.0)[label])
    expected = (1 - weight) * hard + weight * temperature**2 * divergence
    found = loss(
        recipe(weight, temperature), torch.tensor([logits]), torch.tensor([label]),
        torch.tensor([taught]),
    )  # fmt: skip
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_a_student_that_says_the_same_has_no_soft_loss() -> None:
    logits = torch.randn(8, 10, generator=torch.Generator().manual_seed(0))
    found = loss(recipe(1.0, 4.0), logits, torch.zeros(8, dtype=torch.int64), logits)
    assert found.item() == pytest.approx(0.0, abs=1e-5)


def test_without_a_recipe_for_it_the_digest_is_the_old_one() -> None:
    assert load("v3", settings=["distillation=null"]).digest() == load("v3").digest()
    assert recipe(0.5, 2.0).digest() != load("v3").digest()


@pytest.fixture
def teacher(cli: Cli, small_data: Path, tmp_path: Path) -> Path:
    """A run of v1 that has seen the training pictures of small_data, validation or not."""
    done = cli(
        "train", "--model", "v1", "--epochs", "1", "--data-dir", small_data, "--out",
        tmp_path / "teacher", "--no-plots",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return tmp_path / "teacher"


def test_a_distilled_run_differs_records_its_teacher_and_repeats_bit_for_bit(
    cli: Cli, small_data: Path, teacher: Path, tmp_path: Path
) -> None:
    line = [*LINE, "--data-dir", small_data, "--no-plots"]
    hashes = {}
    for name, weight in (("strong", 1.0), ("weak", 0.1)):
        done = cli(*line, "--out", tmp_path / name, "--set", distilling(teacher, weight))
        assert done.returncode == 0, done.stderr
        hashes[name] = weights_of(tmp_path / name)
    assert len(set(hashes.values())) == 2
    result = json.loads((tmp_path / "strong" / "result.json").read_text())
    assert result["teacher_sha256"] == weights_hash_of_evaluated(teacher)
    again = cli(*line, "--out", tmp_path / "again", "--set", distilling(teacher, 1.0))
    assert again.returncode == 0
    assert weights_of(tmp_path / "again") == hashes["strong"]


def weights_hash_of_evaluated(folder: Path) -> str:
    return str(json.loads((folder / "result.json").read_text())["weights_sha256"])


def test_a_teacher_that_knows_the_validation_pictures_is_refused(
    cli: Cli, small_data: Path, teacher: Path, tmp_path: Path
) -> None:
    done = cli(*LINE, "--val", "--data-dir", small_data, "--out", tmp_path / "x", "--set",
               distilling(teacher))  # fmt: skip
    assert done.returncode == 2
    assert "trained on the validation pictures" in done.stderr
    assert not (tmp_path / "x").exists()


def test_a_teacher_of_other_pictures_is_refused(
    cli: Cli, tiny_data: Path, teacher: Path, tmp_path: Path
) -> None:
    done = cli(*LINE, "--data-dir", tiny_data, "--out", tmp_path / "x", "--set",
               distilling(teacher), "--dry-run")  # fmt: skip
    assert done.returncode == 2
    assert "other pictures" in done.stderr


def test_a_missing_teacher_is_an_artifact_error(cli: Cli, small_data: Path, tmp_path: Path) -> None:
    done = cli(*LINE, "--data-dir", small_data, "--out", tmp_path / "x", "--set",
               distilling(tmp_path / "nowhere.pt"))  # fmt: skip
    assert done.returncode == 4, done.stderr
    assert "no checkpoint" in done.stderr


def test_a_registered_teacher_stays_out_of_other_pictures(
    cli: Cli, small_data: Path, teacher: Path
) -> None:
    for name, kept in (("teacher", False), (str(teacher), True)):
        words = [*LINE, "--set", distilling(name), "--print-recipe"]
        plain = "distillation: null"
        assert plain not in cli(*words).stdout
        assert (plain not in cli(*words, "--data-dir", small_data).stdout) is kept
