"""A step on CUDA: recorded as a graph it does what it does eagerly, and waits for nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import network

from mnistcli.data import mnist
from mnistcli.data.batches import training_batches
from mnistcli.engine import checkpoint, runtime, state, step
from mnistcli.engine.run import Run
from mnistcli.engine.runtime import Request, Runtime
from mnistcli.engine.step import Step
from mnistcli.engine.train import train
from mnistcli.errors import Interrupted, UsageError
from mnistcli.models.registry import MODELS
from mnistcli.recipe import load

HASHES = dict.fromkeys(mnist.FILES, "0" * 64)
OPTIMIZERS = {
    "sgd": "{name: sgd, lr: 0.1, momentum: 0.9, nesterov: true, weight_decay: 0.0001, "
           "decay_norm_and_bias: false}",
    "adam": "{name: adam, lr: 0.01, weight_decay: 0.0, decay_norm_and_bias: true}",
    "muon": "{name: muon, lr: 0.2, muon_lr: 0.03, momentum: 0.9, weight_decay: 0.0001, "
            "decay_norm_and_bias: false}",
}  # fmt: skip
ON_CUDA = Runtime("cuda:0", "a GPU", "bf16", compiled=False, threads=1)
on_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


class OnTheSpot:
    """Stands in for a graph on the CPU: does the work at each replay, and notes where it reads."""

    def __init__(self, owner: Step, batch: step.Batch, places: list[list[int]]) -> None:
        self.owner, self.places = owner, places
        self.batch = (torch.empty_like(batch[0]), torch.empty_like(batch[1]))

    def replay(self, batch: step.Batch) -> None:
        for held, given in zip(self.batch, batch, strict=True):
            held.copy_(given)
        current = self.owner._state
        assert current.average is not None
        read = [group["lr"] for group in current.optimizer.param_groups]
        read += [current.average.vector, current.average._way, self.owner._number, *self.owner.sums]
        self.places.append([tensor.data_ptr() for tensor in read])
        self.owner._train(self.batch)


make_step = Step.__init__


def recording_on_the_cpu(self: Step, run: Run, current: state.TrainState) -> None:
    make_step(self, run, current)
    self._records = True
    step.read_lr_from_device(current.optimizer, torch.device("cpu"))


def trained(
    part: mnist.Labelled,
    chosen: Runtime,
    folder: Path,
    *settings: str,
    stop: bool = False,
    saved: dict[str, Any] | None = None,
) -> tuple[str, list[Any]]:
    """Train three epochs, or to the end of the first; return the weights' hash and the figures."""
    recipe = load("plain/v3", settings=["epochs=3", "batch_size=32", *settings])
    current = state.create(MODELS["v3"], recipe, chosen)
    if saved is not None:
        state.restore(current, saved, where="saved")
    on_device = part.to(chosen.torch_device)
    folder.mkdir()

    def should_stop() -> int | None:
        return 15 if stop and current.history else None

    train(Run(recipe, chosen, on_device, on_device, HASHES, folder, lambda _: None, should_stop),
          current)  # fmt: skip
    figures = [(m.train_loss, m.train_correct, m.eval_loss, m.lr) for m in current.history]
    return checkpoint.weights_hash(current.evaluated.state_dict()), figures


def ready(
    part: mnist.Labelled, chosen: Runtime, folder: Path, *settings: str
) -> tuple[Step, state.TrainState, list[step.Batch]]:
    """Return a step that has done nothing yet, what it trains, and the first epoch's batches."""
    recipe = load("plain/v3", settings=["batch_size=32", *settings])
    current = state.create(MODELS["v3"], recipe, chosen)
    on_device = part.to(chosen.torch_device)
    run = Run(recipe, chosen, on_device, on_device, HASHES, folder, lambda _: None, lambda: None)
    return Step(run, current), current, list(training_batches(on_device, recipe, 1))


@pytest.fixture
def part(dataset: mnist.Dataset) -> mnist.Labelled:
    return mnist.Labelled(dataset.train.images[:256], dataset.train.labels[:256])


@pytest.mark.slow
@pytest.mark.parametrize("optim", OPTIMIZERS)
def test_what_a_graph_reads_stays_where_it_is_and_is_what_an_eager_step_is_told(
    optim: str, part: mnist.Labelled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Learning rate, decay of the average, step number and sums, through buffers of the CPU."""
    chosen = runtime.decide(Request(device="cpu", precision="fp32", threads=1))
    eager = trained(part, chosen, tmp_path / "eager", f"optim={OPTIMIZERS[optim]}")
    places: list[list[int]] = []
    monkeypatch.setattr(Step, "__init__", recording_on_the_cpu)
    monkeypatch.setattr(Step, "_train_aside", Step._train)
    monkeypatch.setattr(Step, "_record", lambda self, batch: OnTheSpot(self, batch, places))
    recorded = trained(part, chosen, tmp_path / "recorded", f"optim={OPTIMIZERS[optim]}")
    assert len(places) == 21  # 3 epochs of 8 steps, but for the first 3
    assert all(place == places[0] for place in places)
    for told, read in zip(eager[1], recorded[1], strict=True):
        assert read == pytest.approx(told, rel=1e-4)


@pytest.mark.parametrize(
    ("asked", "kind", "compiled", "reason"),
    [
        ("auto", {}, True, None),
        ("auto", {"own": True}, False, "own network"),
        ("on", {"own": True}, True, None),
        ("auto", {"shared": True}, False, "share the run"),
        ("off", {}, False, None),
    ],
)
def test_on_cuda_a_step_is_recorded_where_every_step_does_the_same(
    asked: str, kind: dict[str, bool], compiled: bool, reason: str | None
) -> None:
    request, net = Request(compile=asked), network("v3")
    chosen = runtime.choose_compile(ON_CUDA, request, net, images_to_train=100, **kind)
    assert chosen.compiled == compiled
    assert (reason or "") in (chosen.compile_reason or "")
    assert (chosen.compile_reason is None) == (reason is None)


def test_ranks_that_share_a_run_are_not_told_to_record() -> None:
    with pytest.raises(UsageError, match="share a run"):
        runtime.choose_compile(
            ON_CUDA, Request(compile="on"), network("v3"), images_to_train=100, shared=True
        )


@pytest.mark.parametrize(
    ("kind", "compiled"), [({}, True), ({"own": True}, False), ({"shared": True}, False)]
)
def test_a_run_that_moves_from_cpu_to_cuda_is_judged_anew(
    kind: dict[str, bool], compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "decide", lambda request: ON_CUDA)
    saved = replace(ON_CUDA, device="cpu", device_name="a CPU", compiled=True).to_dict()
    chosen, unlike = runtime.restore(saved, Request(), network("v3"), **kind)
    assert chosen.compiled == compiled
    assert unlike[:2] == ("device cpu → cuda", "device_name a CPU → a GPU")


@pytest.mark.cuda
@on_cuda
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("optim", OPTIMIZERS)
def test_a_recorded_run_equals_an_eager_one_bit_for_bit(
    optim: str, precision: str, part: mnist.Labelled, tmp_path: Path
) -> None:
    settings = [f"optim={OPTIMIZERS[optim]}", "model_args.dropout=0.1"]
    chosen = runtime.decide(Request(device="cuda", precision=precision))
    eager = trained(part, chosen, tmp_path / "eager", *settings)
    graph = replace(chosen, compiled=True)
    assert trained(part, graph, tmp_path / "graph", *settings) == eager
    assert trained(part, graph, tmp_path / "again", *settings) == eager


@pytest.mark.slow
@pytest.mark.parametrize(
    ("device", "precision"),
    [
        ("cpu", "fp32"),
        pytest.param("cuda", "bf16", marks=[pytest.mark.cuda, on_cuda]),
        pytest.param("cuda", "fp16", marks=[pytest.mark.cuda, on_cuda]),
    ],
)
def test_a_stopped_run_ends_with_the_bits_of_a_whole_one(
    device: str, precision: str, part: mnist.Labelled, tmp_path: Path
) -> None:
    settings = [f"optim={OPTIMIZERS['muon']}", "model_args.dropout=0.1"]
    chosen = runtime.decide(Request(device=device, precision=precision, threads=1))
    chosen = replace(chosen, compiled=device == "cuda")
    whole = trained(part, chosen, tmp_path / "whole", *settings)
    with pytest.raises(Interrupted):
        trained(part, chosen, tmp_path / "part", *settings, stop=True)
    saved = checkpoint.read(tmp_path / "part" / "last.pt")
    assert len(saved["history"]) == 1
    assert trained(part, chosen, tmp_path / "rest", *settings, saved=saved) == whole


@pytest.mark.cuda
@on_cuda
@pytest.mark.parametrize("compiled", [False, True])
def test_a_cuda_epoch_waits_for_nothing(
    compiled: bool, part: mnist.Labelled, tmp_path: Path
) -> None:
    """Reads happen with the bar only; in between, a synchronising call is an error."""
    chosen = replace(runtime.decide(Request(device="cuda")), compiled=compiled)
    train_step, _, batches = ready(part, chosen, tmp_path, f"optim={OPTIMIZERS['muon']}")
    for number, batch in enumerate(batches[:4]):  # recording itself waits, once
        train_step(batch, number, 0.1)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for number, batch in enumerate(batches[4:], start=4):
            train_step(batch, number, 0.1)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert int(train_step.sums.first_bad_step) == -1


@pytest.mark.cuda
@on_cuda
def test_a_replayed_step_with_a_bad_gradient_changes_nothing(
    part: mnist.Labelled, tmp_path: Path
) -> None:
    chosen = replace(runtime.decide(Request(device="cuda")), compiled=True)
    train_step, current, batches = ready(part, chosen, tmp_path)
    for number, batch in enumerate(batches[:5]):
        train_step(batch, number, 0.1)
    assert current.average is not None
    before = [*(p.clone() for p in current.model.parameters()), current.average.vector.clone()]
    train_step((batches[5][0] * float("nan"), batches[5][1]), 5, 0.1)
    assert int(train_step.sums.first_bad_step) == 5
    after = [*current.model.parameters(), current.average.vector]
    assert all(map(torch.equal, before, after))
