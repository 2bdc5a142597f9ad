"""Every network of nets.py: it trains, by torch's own layers and by our kernels, or is refused."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from conftest import Cli, document
from forkserver import Server

from mnistcli.engine import checkpoint

NETS = Path(__file__).with_name("nets.py")
SGD = "optim={name: sgd, lr: 0.02, momentum: 0.9, nesterov: true, weight_decay: 0.0001, "
SGD += "decay_norm_and_bias: false}"

TRAINED = [
    "plain", "hooked", "pruned", "frozen_norms", "frozen_backbone", "Unused", "Sometimes", "wide",
    "Prints", "Half", "Functional", "AddsInPlace", "Tokens", "Rows",
]  # fmt: skip


@pytest.fixture
def line(tiny_data: Path, tmp_path: Path) -> list[str]:
    """A run of one epoch of three steps in full precision, to which a network is added."""
    words = ["train", "--epochs", "1", "--batch-size", "32", "--threads", "1", "--no-plots"]
    words += ["--precision", "fp32", "--data-dir", str(tiny_data), "--json"]
    return [*words, "--model"]


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINED)
def test_a_network_trains_the_same_with_and_without_kernels(
    name: str, line: list[str], cli: Cli, tmp_path: Path
) -> None:
    trained = []
    for compiled in ("on", "off"):
        random.seed(1)  # `Sometimes` draws from it
        run = tmp_path / compiled
        words = [f"{NETS}:{name}", "--set", SGD, "--compile", compiled, "--out", str(run)]
        done = cli(*line, *words)
        if compiled == "on" and "error: can't compile: " in done.stderr:  # left to torch, and said
            assert done.returncode == 2
            assert not run.exists()
            continue
        assert done.returncode == 0, done.stderr
        bound = checkpoint.most_bytes(own=True)
        trained.append(checkpoint.read(run / "last.pt", most_bytes=bound)["weights"])
    for key, weights in trained[0].items():
        assert torch.allclose(weights, trained[-1][key], atol=1e-5), key
    assert len(trained) == 2 or name not in ("plain", "frozen_norms", "wide")


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINED)
def test_a_network_trains_by_the_default_recipe(
    name: str, line: list[str], cli: Cli, tmp_path: Path
) -> None:
    done = cli(*line, f"{NETS}:{name}", "--out", str(tmp_path / "run"))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("compiled", ["on", "off"])
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("WrongAux", "fails in training: RuntimeError: running_mean should contain 16 elements"),
        ("Squeezes", "maps [1, 1, 28, 28] to [10], expected [1, 10]"),
        ("Tuple", "returns tuple, expected a tensor [32, 10], in training"),
    ],
)
def test_a_network_that_cannot_train_is_refused_before_a_folder_is_made(
    name: str, expected: str, compiled: str, line: list[str], cli: Cli, tmp_path: Path
) -> None:
    words = [*line, f"{NETS}:{name}", "--compile", compiled, "--out", str(tmp_path / "run")]
    for done in (cli(*words), cli(*words, "--dry-run")):
        fault = document(done.stdout)["error"]
        assert (done.returncode, fault["where"].startswith(str(NETS))) == (2, True)
        assert expected in fault["what"]
    assert not (tmp_path / "run").exists()


def test_a_network_that_diverges_for_a_seed_ends_that_run_alone(
    line: list[str], cli: Cli, tmp_path: Path
) -> None:
    for seed, code in (("0", 0), ("5", 6)):
        words = [f"{NETS}:Half", "--seed", seed, "--out", str(tmp_path / seed)]
        assert cli(*line, *words).returncode == code


def test_what_a_network_prints_never_stands_on_stdout(
    line: list[str], cli: Cli, tiny_data: Path, tmp_path: Path
) -> None:
    prints, run = f"{NETS}:Prints", str(tmp_path / "run")
    data = ["--data-dir", str(tiny_data), "--json"]
    for words in (
        ["summary", prints, "--json"],
        [*line, prints, "--out", run],
        ["evaluate", run, "--model", prints, *data],
    ):
        done = cli(*words)
        assert document(done.stdout)["ok"], done.stderr
        assert "shape (2, 1, 28, 28)" in done.stderr


@pytest.mark.parametrize("name", ["Unused", "Sometimes", "frozen_norms", "wide"])
def test_two_ranks_train_a_network_whatever_layers_a_step_leaves_out(
    name: str, line: list[str], forked: Server, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    words = [f"{NETS}:{name}", "--set", SGD, "--parallel", "data", "--out", run]
    ranks = forked.start_ranks(*line, *words)
    assert [rank.wait() for rank in ranks] == [0, 0], [rank.err for rank in ranks]
    assert "unused" not in "".join(rank.err for rank in ranks)
    assert len(document((run / "set.json").read_text())["rows"]) == 1
