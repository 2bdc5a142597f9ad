"""Distillation: the loss against its formula, and a teacher that may teach."""

from __future__ import annotations

import json
import math
import shutil
import signal
from pathlib import Path

import pytest
import torch
from conftest import Cli, document
from forkserver import Server
from interrupted import weights_of

from mnistcli.data.mnist import FILES
from mnistcli.engine import checkpoint
from mnistcli.engine.loss import loss
from mnistcli.engine.runtime import Request, decide
from mnistcli.errors import ArtifactError
from mnistcli.files import packaged
from mnistcli.recipe import Recipe, load
from mnistcli.results.gather import published
from mnistcli.runs.trained import open_teacher

LINE = ["train", "--model", "v3", "--epochs", "2", "--batch-size", "32", "--threads", "1"]
LINE += ["--no-plots"]


def distilling(teacher: Path | str, weight: float = 0.5) -> str:
    return f"distillation={{teacher: {teacher}, weight: {weight}, temperature: 2.0}}"


def recipe(
    weight: float, temperature: float, teacher: str = "teacher", *, validation: bool = False
) -> Recipe:
    taught = f"distillation={{teacher: {teacher}, weight: {weight}, temperature: {temperature}}}"
    return load("v3", settings=[taught], options={"validation": validation})


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


def test_another_weight_of_the_teacher_is_another_recipe() -> None:
    assert recipe(0.5, 2.0).digest() != recipe(0.6, 2.0).digest()


@pytest.fixture(scope="session")
def trained_teacher(
    forked: Server, small_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A run of v1 that has seen the training pictures of small_data, validation or not."""
    folder = tmp_path_factory.mktemp("teachers") / "teacher"
    line = ["train", "--model", "v1", "--epochs", "1", "--data-dir", small_data, "--no-plots"]
    done = forked.run(*line, "--threads", "1", "--out", folder)
    assert done.code == 0, done.err
    return folder


@pytest.fixture
def teacher(trained_teacher: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(trained_teacher, tmp_path / "teacher"))


def test_a_distilled_run_differs_records_its_teacher_and_repeats_bit_for_bit(
    cli: Cli, small_data: Path, teacher: Path, tmp_path: Path
) -> None:
    line = [*LINE, "--data-dir", small_data]
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


def test_a_distilled_run_that_was_stopped_ends_with_the_same_bits(
    forked: Server, small_data: Path, teacher: Path, tmp_path: Path
) -> None:
    line = [*LINE, "--data-dir", small_data, "--set", distilling(teacher)]
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    done = forked.run(*line, "--out", whole)
    assert done.code == 0, done.err
    wait = ("wait_in", "mnistcli.engine.step:train_step", tmp_path / "here", 14)  # of 12 an epoch
    child = forked.start(*line, "--out", stopped, sabotage=wait)
    child.until((tmp_path / "here").exists)
    child.signal(signal.SIGTERM)
    assert child.wait() == 143, child.err
    assert len(checkpoint.read(stopped / "last.pt")["history"]) == 1
    resumed = forked.run(*line, "--out", stopped, "--resume", "auto")
    assert resumed.code == 0, resumed.err
    assert weights_of(stopped) == weights_of(whole)


def test_a_distilled_set_in_two_processes_is_that_of_one(
    cli: Cli, forked: Server, small_data: Path, teacher: Path, tmp_path: Path
) -> None:
    line = [*LINE, "--data-dir", str(small_data), "--seeds", "0-1"]
    line += ["--set", distilling(teacher)]
    ranks = forked.start_ranks(*line, "--out", tmp_path / "two")
    assert [rank.wait() for rank in ranks] == [0, 0], [rank.err for rank in ranks]
    assert cli(*line, "--out", tmp_path / "one").returncode == 0
    two, one = ([weights_of(tmp_path / way / f"s{n}") for n in (0, 1)] for way in ("two", "one"))
    assert two == one
    assert len(set(one)) == 2


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
    assert done.returncode == 4
    assert "trained on other data" in done.stderr


def test_a_missing_teacher_is_an_artifact_error(cli: Cli, small_data: Path, tmp_path: Path) -> None:
    done = cli(*LINE, "--data-dir", small_data, "--out", tmp_path / "x", "--set",
               distilling(tmp_path / "nowhere.pt"))  # fmt: skip
    assert done.returncode == 4, done.stderr
    assert "no checkpoint" in done.stderr


def test_a_registered_teacher_stays_out_of_other_pictures(
    cli: Cli, small_data: Path, teacher: Path
) -> None:
    plain, line = "distillation: null", [*LINE, "--print-recipe"]
    assert plain not in cli(*line).stdout
    left_out = cli(*line, "--data-dir", small_data)
    assert plain in left_out.stdout
    assert "not distilled" in left_out.stderr
    own = [*line, "--data-dir", small_data, "--set", distilling(teacher)]
    assert plain not in cli(*own).stdout
    asked = cli(*line, "--data-dir", small_data, "--set", distilling("teacher"))
    assert asked.returncode == 2
    assert "was trained on MNIST" in asked.stderr
    changes = document(cli(*LINE, "--data-dir", small_data, "--dry-run", "--json").stdout)[
        "changes"
    ]
    assert "distillation=null" in changes


def test_a_teacher_whose_weights_have_changed_ends_no_run_of_another(
    cli: Cli, small_data: Path, teacher: Path, tmp_path: Path
) -> None:
    line = [*LINE, "--data-dir", small_data, "--out", tmp_path / "x", "--resume",
            "auto", "--set", distilling(teacher)]  # fmt: skip
    assert cli(*line).returncode == 0
    assert "already finished" in cli(*line).stderr
    retrain = ["train", "--model", "v1", "--epochs", "1", "--seed", "1", "--data-dir", small_data]
    assert cli(*retrain, "--out", tmp_path / "other", "--no-plots").returncode == 0
    (tmp_path / "other" / "last.pt").replace(teacher / "last.pt")
    refused = cli(*line)
    assert refused.returncode == 4
    assert "weights have changed" in refused.stderr


def test_a_teacher_picked_on_the_test_set_is_refused(
    cli: Cli, small_data: Path, teacher: Path, tmp_path: Path
) -> None:
    line = [*LINE, "--data-dir", small_data, "--out", tmp_path / "x"]
    done = cli(*line, "--set", distilling(teacher / "best.pt"))
    assert done.returncode == 2
    assert "chosen by its figures on the test set" in done.stderr


def test_with_val_a_registered_teacher_is_the_one_that_has_not_seen_the_split() -> None:
    chosen = decide(Request(device="cpu", threads=1))
    whole, held_out = (
        open_teacher(recipe(0.5, 2.0, "teacher", validation=validation), FILES, chosen)
        for validation in (False, True)
    )
    assert whole is not None
    assert held_out is not None
    assert (whole.path.stem, held_out.path.stem) == ("teacher", "teacher-val")
    with pytest.raises(ArtifactError, match="without the validation pictures"):
        open_teacher(recipe(0.5, 2.0, "v3", validation=True), FILES, chosen)


def test_records_name_the_teachers_that_are_packaged() -> None:
    hashes = {name: weights_of_file(f"{name}.pt") for name in ("teacher", "teacher-val")}
    taught = [record for record in published() if record.get("teacher_sha256") is not None]
    assert {record["split"] for record in taught} == {"test", "validation"}
    for record in taught:
        name = "teacher" if record["split"] == "test" else "teacher-val"
        assert record["teacher_sha256"] == hashes[name]


def weights_of_file(name: str) -> str:
    path = packaged("checkpoints", "reference", name)
    return checkpoint.weights_hash(checkpoint.read(path)["weights"])
