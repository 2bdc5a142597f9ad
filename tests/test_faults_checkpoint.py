"""Rows 9 and 12 of the fault matrix: checkpoints that are damaged or somebody else's."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Cli, document
from interrupted import Runs
from sealed import saved, seal

from mnistcli.engine import checkpoint
from mnistcli.files import packaged, previous_of

GOOD = packaged("checkpoints", "reference", "v3.pt")
FORMAT_1 = Path(__file__).parent / "data" / "format-1"


def flipped(data: bytes) -> bytes:
    return data[:999] + bytes([data[999] ^ 1]) + data[1000:]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    **{f"{share} %": lambda data, share=share: data[: len(data) * share // 100]  # type: ignore[misc]
       for share in (0, 1, 10, 50, 99)},
    "a flipped bit": flipped,
    "text": lambda _: b"weights, honestly",
    "without its trailer": lambda data: data[:-40],
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_row_9_a_damaged_file_is_refused_by_name(damage: str, cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    path.write_bytes(DAMAGES[damage](GOOD.read_bytes()))
    done = cli("evaluate", str(path), "--json")
    assert done.returncode == 4
    assert str(path) in done.stderr
    assert "refused" in document(done.stdout)["error"]["what"]


@pytest.mark.parametrize("kind", ["missing", "folder", "pipe"])
def test_row_9_what_is_no_file_is_refused_by_name(kind: str, cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    {"missing": lambda _: None, "folder": os.mkdir, "pipe": os.mkfifo}[kind](path)  # type: ignore[operator]
    done = cli("evaluate", str(path))
    assert (done.returncode, str(path) in done.stderr) == (4, True)


@pytest.mark.parametrize("damage", [*DAMAGES, "missing"])
def test_row_9_resume_goes_back_to_the_previous_one_with_a_notice(
    damage: str, runs: Runs, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    runs.killed(run, epochs=2)
    last = run / "last.pt"
    assert previous_of(last).exists()
    if damage == "missing":
        last.unlink()
    else:
        last.write_bytes(DAMAGES[damage](last.read_bytes()))
    resumed = runs.run(run, "--resume", "auto")
    assert (resumed.code, "going back" in resumed.err) == (0, True), resumed.err
    runs.check(run)


@pytest.mark.parametrize("other", ["v2", "v3"])
def test_row_12_another_model_is_named_with_the_first_bad_key(other: str, cli: Cli) -> None:
    path = packaged("checkpoints", "reference", "v1.pt")
    done = cli("evaluate", str(path), "--model", other)
    assert done.returncode == 4
    assert f"checkpoint is for v1, not for {other}: it " in done.stderr
    assert ".weight'" in done.stderr


HISTORY, RECIPE = checkpoint.read(GOOD)["history"], checkpoint.read(GOOD)["recipe"]
ODD: dict[str, dict[str, Any]] = {
    "newer than": {"format": checkpoint.FORMAT + 1},
    "not a checkpoint of mnistcli": {"format": True},
    "recipe: Input": {"recipe": []},
    "recipe.epochs": {"recipe": RECIPE | {"epochs": "15"}},
    "history.0: Input": {"history": [3]},
    "epoch 1: eval_loss: Input": {"history": [HISTORY[0] | {"eval_loss": "low"}]},
    "epoch 1: its number is 2": {"history": HISTORY[1:]},
    "more epochs than": {"recipe": RECIPE | {"epochs": 14}},
    "other pictures than the recipe's": {"recipe": RECIPE | {"validation": True}},
    "epoch 1: eval_correct is not within": {"history": [HISTORY[0] | {"eval_correct": 10_001}]},
    "epoch 1: train_correct is not within": {"history": [HISTORY[0] | {"train_correct": -1}]},
    "epoch 1: eval_seconds is negative": {"history": [HISTORY[0] | {"eval_seconds": -1.0}]},
    "epoch 1: best_correct or": {"history": [HISTORY[0] | {"best_correct": 9999}]},
    "epoch 2: other pictures": {"history": [HISTORY[0], HISTORY[1] | {"eval_total": 20_000}]},
    "a negative variance": {"weights": {k: -v if k.endswith("running_var") else v
                                        for k, v in checkpoint.read(GOOD)["weights"].items()}},
    "history.0.eval_loss: not finite": {"history": [HISTORY[0] | {"eval_loss": float("nan")}]},
    "weights.w: Input": {"weights": {"w": 3.0}},
    "weights.w: not finite": {"weights": {"w": torch.tensor([1.0, float("inf")])}},
    "lacks": {"weights": {}},
    "in torch.float64": {"weights": {k: v.double() if v.is_floating_point() else v
                                     for k, v in checkpoint.read(GOOD)["weights"].items()}},
    "thread count": {"runtime": checkpoint.read(GOOD)["runtime"] | {"threads": 10**6}},
    "runtime.device": {"runtime": {}},
    "training: Input": {"training": 3},
    "data: Input": {"data": None},
}  # fmt: skip


@pytest.mark.parametrize("expected", ODD)
def test_row_12_values_of_another_kind_are_named(expected: str, cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    path.write_bytes(seal(saved(checkpoint.read(GOOD) | ODD[expected])))
    done = cli("evaluate", str(path))
    assert (done.returncode, expected in done.stderr) == (4, True), done.stderr
    assert str(path) in done.stderr


def swap_momentum(training: dict[str, Any]) -> None:
    training["optimizer"]["state"][0]["momentum_buffer"] = torch.zeros(3)


MISFITS: dict[str, Callable[[dict[str, Any]], None]] = {
    "momentum": swap_momentum,
    "unknown parameter": lambda t: t["optimizer"]["state"].update({99: {"step": torch.ones(())}}),
    "state of another kind": lambda t: t["optimizer"].update(state=[1]),
    "average": lambda t: t.update(average=None),
    "average of another size": lambda t: t.update(average=torch.zeros(3)),
    "weights": lambda t: t["model"].popitem(),
    "optimizer": lambda t: t.update(optimizer={}),
}


@pytest.mark.parametrize("misfit", MISFITS)
def test_row_12_a_training_state_that_does_not_fit_is_refused_on_resume(
    misfit: str, runs: Runs, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    runs.killed(run)
    payload = checkpoint.read(run / "last.pt")
    MISFITS[misfit](payload["training"])
    (run / "last.pt").write_bytes(seal(saved(payload)))
    refused = runs.run(run, "--resume", "auto")
    assert refused.code == 4, refused.err
    assert str(run) in refused.err


def test_row_12_the_first_format_loads_for_ever(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stored file of an unfinished run, as the first version wrote it."""
    for path in FORMAT_1.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    monkeypatch.chdir(tmp_path)
    payload = checkpoint.read(Path("last.pt"))
    assert (payload["format"], len(payload["history"])) == (1, 1)
    assert checkpoint.weights_hash(payload["weights"]).startswith("ccb3abe8e4f1ed9f")
    words = ["--model", "net.py:tiny", "--data-dir", ".", "--json"]
    assert document(cli("evaluate", "last.pt", *words).stdout)["correct"] == 2
    resumed = cli("train", "--resume", ".", "--no-plots", *words)
    assert resumed.returncode == 0, resumed.stderr
    assert document(resumed.stdout)["epochs_done"] == 2
