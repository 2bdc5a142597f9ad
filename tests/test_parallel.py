"""One run over many ranks, and how ranks find one another."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from conftest import Cli, document, spawn, torchrun
from forkserver import Server
from torch import Tensor, nn

from mnistcli import errors
from mnistcli.data import mnist
from mnistcli.data.batches import training_batches
from mnistcli.engine import checkpoint, meeting
from mnistcli.engine.ranks import Ranks
from mnistcli.recipe import load


def test_a_restart_finds_nothing_of_the_start_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = dist.HashStore()  # torchrun keeps its store when it restarts the ranks
    monkeypatch.setattr(meeting, "rendezvous", lambda *_, **__: iter([(kept, 0, 2)]))
    for _ in range(2):
        with ThreadPoolExecutor(2) as pool:
            places = [Ranks(rank, 2, rank, 2, "launch") for rank in (1, 0)]
            first, second = pool.map(meeting.join, places)
        assert next(meeting.claims(first, 3)) == 0
        assert list(meeting.claims(second, 3)) == [1, 2]
        meeting.post(first, "a")
        assert meeting.posted(second, 0) == ["a"]


LAUNCHED = {
    "TORCHELASTIC_RUN_ID": "x", "RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0",
    "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "29400",
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RANK", None), ("RANK", ""), ("RANK", "²"), ("RANK", "-1"), ("RANK", "2"),
        ("RANK", "9" * 5000), ("WORLD_SIZE", "0"), ("WORLD_SIZE", "two"), ("LOCAL_RANK", "2"),
        ("LOCAL_WORLD_SIZE", None), ("MASTER_PORT", None),
    ],
)  # fmt: skip
def test_a_launchers_variable_that_cannot_be_its_own_is_named(
    name: str, value: str | None, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, known in LAUNCHED.items():
        monkeypatch.setenv(key, known)
    if value is None:
        monkeypatch.delenv(name)
    else:
        monkeypatch.setenv(name, value)
    done = cli("train", "--model", "v3", "--out", "x", "--json")
    error = document(done.stdout)["error"]
    assert (done.returncode, name in error["what"], error["hint"][:6]) == (2, True, "unset ")


def test_another_launchers_variables_are_said_to_share_nothing(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    line = ("train", "--model", "v3", "--print-recipe")
    assert "RANK and WORLD_SIZE are set" in cli(*line).stderr
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert cli(*line).stderr == ""


def test_the_slices_of_all_ranks_are_the_batch_of_one_process(dataset: mnist.Dataset) -> None:
    part = mnist.Labelled(dataset.train.images[:100], dataset.train.labels[:100])
    recipe = load("v3", settings=["batch_size=32"])
    slices = [list(training_batches(part, recipe, 1, (rank, 4))) for rank in range(4)]
    for number, (images, labels) in enumerate(training_batches(part, recipe, 1)):
        parts = [one[number] for one in slices]
        assert torch.equal(torch.cat([part[1] for part in parts]), labels)
        assert torch.allclose(torch.cat([part[0] for part in parts]), images, atol=1e-5)


def chunked(self: nn.BatchNorm2d, images: Tensor) -> Tensor:
    """Normalise each half of a batch by itself, as two ranks do; the first half's mean is kept."""
    if not self.training:
        return whole(self, images)
    first, second = images.chunk(2)
    other = F.batch_norm(second, None, None, self.weight, self.bias, training=True, eps=self.eps)
    return torch.cat([whole(self, first), other])


whole = nn.BatchNorm2d.forward

# Small steps: at larger ones a rounding that flips one ReLU or one maximum grows past 1e-5 within
# the 50 (and Adam turns the rounding of gradients near 0 into whole steps).
SGD = "{name: sgd, lr: 0.0001, momentum: 0.9, nesterov: true, weight_decay: 0.0001, "
SGD += "decay_norm_and_bias: false}"


@pytest.mark.parametrize("model", ["v1", "v3"])  # without normalisation, and with
def test_two_ranks_on_one_run_equal_one_process_after_50_steps(
    model: str,
    rank_line: list[str],
    cli: Cli,
    forked: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rank_line += ["--model", model, "--epochs", "10", "--precision", "fp32", "--compile", "off"]
    rank_line += ["--set", "ema_decay=null", "--set", f"optim={SGD}"]
    ranks = forked.start_ranks(*rank_line, "--out", tmp_path / "ranks", "--parallel", "data")
    assert [rank.wait() for rank in ranks] == [0, 0], [rank.err for rank in ranks]
    monkeypatch.setattr(nn.BatchNorm2d, "forward", chunked)
    assert cli(*rank_line, "--out", str(tmp_path / "alone")).returncode == 0
    first, second = (checkpoint.read(tmp_path / n / "last.pt") for n in ("ranks", "alone"))
    for key, weights in first["weights"].items():
        near = 5e-4 if "running" in key else 1e-5  # unshared chunks are 3e-3 away
        assert torch.allclose(weights, second["weights"][key], rtol=0, atol=near), key
    for ours, theirs in zip(first["history"], second["history"], strict=True):
        assert ours["train_loss"] == pytest.approx(theirs["train_loss"], abs=1e-5)
        assert abs(ours["train_correct"] - theirs["train_correct"]) <= 1
    assert [rank.out.count("epoch=") for rank in ranks] == [10, 0]  # only the first shows


FAILING = """
import os
from torch import nn

class Net(nn.Module):
    def __init__(self, where):
        super().__init__()
        self.layer, self.where, self.calls = nn.Linear(784, 10), where, 0

    def forward(self, images):
        self.calls += self.training == (self.where != "evaluation")
        here = self.where in ("evaluation", "training", f"rank {os.environ['RANK']}")
        if here and self.calls == 4 + (self.where == "evaluation"):
            raise KeyError(self.where)
        return self.layer(images.flatten(1))
"""


@pytest.mark.parametrize("where", ["training", "rank 1", "evaluation"])
def test_a_fault_of_an_own_network_is_told_once_and_holds_no_rank(
    where: str, rank_line: list[str], forked: Server, tmp_path: Path
) -> None:
    (tmp_path / "net.py").write_text(FAILING)
    words = [*rank_line, "--model", f"{tmp_path / 'net.py'}:Net", "--parallel", "data"]
    words += ["--set", f"model_args.where={where}", "--out", str(tmp_path / "run")]
    ranks = forked.start_ranks(*words, "--set", "ema_decay=null", "--set", f"optim={SGD}")
    assert [rank.wait() for rank in ranks] == [0, 0], [rank.err for rank in ranks]
    (row,) = document((tmp_path / "run" / "set.json").read_text())["rows"]
    assert (row["exit_code"], f"fails in training: KeyError: '{where}'" in row["error"]) == (
        2,
        True,
    )
    assert f"{tmp_path / 'net.py'}:14" in row["error"]


def test_every_error_of_ours_reaches_another_rank_as_it_is() -> None:
    made = [errors.GateError("a", {"b": 1}), errors.SetError("a", {}, exit_code=4, hint="c")]
    made += [errors.DivergedError("a", where="b", hint="c"), errors.ArtifactError("a", where="b")]
    for error in made:
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), vars(again), str(again)) == (type(error), vars(error), str(error))


@pytest.mark.cuda
def test_ranks_on_gpus_normalise_the_whole_batch(rank_line: list[str], tmp_path: Path) -> None:
    """SyncBatchNorm over nccl: two ranks equal one process without chunks; needs two GPUs."""
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two CUDA devices")
    rank_line += [
        "--model",
        "v3",
        "--epochs",
        "10",
        "--precision",
        "fp32",
        "--compile",
        "off",
        "--device",
        "cuda",
    ]
    rank_line += ["--set", "ema_decay=null", "--set", f"optim={SGD}"]
    processes = [
        torchrun(*rank_line, "--parallel", "data", "--out", str(tmp_path / "ranks")),
        spawn(*rank_line, "--out", str(tmp_path / "alone")),
    ]
    assert [(p.communicate(), p.returncode)[1] for p in processes] == [0, 0]
    first, second = (checkpoint.read(tmp_path / n / "last.pt") for n in ("ranks", "alone"))
    for key, weights in first["weights"].items():
        assert torch.allclose(weights, second["weights"][key], rtol=0, atol=1e-3), key
