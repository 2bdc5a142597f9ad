"""The engine: resume equality, determinism, divergence, the events, and silence."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from conftest import network
from engine_run import HASHES, go, weights_hash

from mnistcli.data import mnist
from mnistcli.engine import checkpoint, runtime, state
from mnistcli.engine.run import Run
from mnistcli.engine.runtime import Request, Runtime
from mnistcli.engine.train import train
from mnistcli.errors import DivergedError, Interrupted
from mnistcli.events import BatchFinished, EpochFinished, RunFinished
from mnistcli.models.registry import MODELS
from mnistcli.recipe import Recipe, load
from mnistcli.results.goal import Limits
from mnistcli.runs import plan as plans
from mnistcli.runs.plan import Plan


@pytest.fixture
def part(dataset: mnist.Dataset) -> mnist.Labelled:
    return mnist.Labelled(dataset.train.images[:200], dataset.train.labels[:200])


@pytest.fixture
def recipe() -> Recipe:
    return load("v3", settings=["epochs=3", "batch_size=64"])


VARIANTS = {
    "onecycle, ema": [],
    "no ema": ["ema_decay=null"],
    "dropout": ["model_args.dropout=0.2"],
    "adam, plateau": ["schedule={name: plateau, split: test, factor: 0.1, patience_epochs: 0, "
                      "min_lr: 0.0}", "optim={name: adam, lr: 0.02, weight_decay: 0.0001, "
                      "decay_norm_and_bias: true}"],
    "muon, fading": ["augment.fade_epochs=2", "optim={name: muon, lr: 0.2, muon_lr: 0.05, "
                     "momentum: 0.9, weight_decay: 0.0002, decay_norm_and_bias: false}"],
    "cosine, no augmentation": ["schedule={name: cosine}", "augment.rotation_degrees=0",
                                "augment.shift_fraction=0", "augment.scale_fraction=0",
                                "augment.shear_degrees=0", "augment.elastic_alpha=0"],
}  # fmt: skip


# What is restored does not depend on the precision: bf16 once with dropout, once with Muon.
IN_BF16 = [("dropout", "bf16"), ("muon, fading", "bf16")]


@pytest.mark.slow
@pytest.mark.parametrize(("variant", "precision"), [*((v, "fp32") for v in VARIANTS), *IN_BF16])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(
    variant: str, precision: str, part: mnist.Labelled, tmp_path: Path
) -> None:
    """Row 19 of the fault matrix: weights, optimizer and history, at tolerance 0."""
    if precision == "bf16" and runtime.decide(Request(device="cpu")).precision != "bf16":
        pytest.skip("this processor has no bf16")
    recipe = load("v3", settings=["epochs=3", "batch_size=64", *VARIANTS[variant]])
    chosen = runtime.decide(Request(device="cpu", precision=precision, threads=1))
    whole, _ = go(tmp_path / "whole", part, recipe, chosen=chosen)
    for epochs in (1, 2):
        folder = tmp_path / f"stopped-{epochs}"
        with pytest.raises(Interrupted):
            go(folder, part, recipe, chosen=chosen, stop_after=epochs)
        resumed, _ = go(folder, part, recipe, chosen=chosen, resume=True)
        assert weights_hash(resumed) == weights_hash(whole)
        assert same_state(resumed.optimizer.state_dict(), whole.optimizer.state_dict())
        assert [without_time(m) for m in resumed.history] == [
            without_time(m) for m in whole.history
        ]


def same_state(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same_state(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same_state, a, b))
    return bool(a == b)


def without_time(metrics: Any) -> dict[str, Any]:
    timed = {"images_per_second", "train_seconds", "eval_seconds", "rss_mib"}
    return {key: value for key, value in vars(metrics).items() if key not in timed}


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "auto"])
def test_a_compiled_run_resumes_bit_for_bit(
    precision: str, part: mnist.Labelled, tmp_path: Path
) -> None:
    """Row 19 of the fault matrix; the kernels multiply in bf16 where they can."""
    recipe = load("v1", settings=["epochs=2", "batch_size=64"])
    chosen = compiled(precision)
    whole, _ = go(tmp_path / "whole", part, recipe, chosen=chosen)
    with pytest.raises(Interrupted):
        go(tmp_path / "part", part, recipe, chosen=chosen, stop_after=1)
    resumed, _ = go(tmp_path / "part", part, recipe, chosen=chosen, resume=True)
    assert weights_hash(resumed) == weights_hash(whole)
    with_two, _ = go(tmp_path / "two", part, recipe, chosen=replace(chosen, threads=2))
    assert weights_hash(with_two) == weights_hash(whole)


def compiled(precision: str = "auto") -> Runtime:
    """Return the CPU with kernels, or skip the test where they can't be had."""
    request = Request(device="cpu", precision=precision, compile="on", threads=1)
    if (fault := runtime.compile_fault()) is not None:
        pytest.skip(fault)
    here = runtime.decide(request)
    return runtime.choose_compile(here, request, network("v1"), images_to_train=0)


@pytest.mark.slow
def test_the_same_seed_repeats_and_another_differs(
    part: mnist.Labelled, recipe: Recipe, tmp_path: Path
) -> None:
    """Row 20 of the fault matrix."""
    hashes = [
        weights_hash(go(tmp_path / name, part, recipe.model_copy(update={"seed": seed}))[0])
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    ]
    assert hashes[0] == hashes[1] != hashes[2]


@pytest.mark.slow
def test_the_events_of_a_two_epoch_run(
    part: mnist.Labelled, recipe: Recipe, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    _, events = go(tmp_path / "run", part, recipe.model_copy(update={"epochs": 2}))
    epoch = [BatchFinished] * 4 + [EpochFinished]  # 200 pictures in batches of 64
    assert [type(event) for event in events] == [*epoch, *epoch, RunFinished]
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_metrics_count_what_they_say(part: mnist.Labelled, recipe: Recipe, tmp_path: Path) -> None:
    current, _ = go(tmp_path / "run", part, recipe)
    last = current.history[-1]
    assert (last.epoch, last.train_total, last.eval_total) == (3, 256, 200)
    assert 0 < last.train_correct <= 256
    counts = [metrics.eval_correct for metrics in current.history]
    assert last.best_correct == max(counts)
    assert last.epochs_since_best == 2 - counts.index(max(counts))
    assert last.rss_mib is not None
    assert last.rss_mib > 50


@pytest.mark.slow
def test_patience_ends_a_run_early(part: mnist.Labelled, tmp_path: Path) -> None:
    settings = [
        "epochs=9",
        "batch_size=64",
        "validation=true",
        "patience_epochs=1",
        "optim.lr=1e-9",
    ]
    current, events = go(tmp_path / "run", part, load("plain/v3", settings=settings))
    assert current.epochs_done < 9
    assert isinstance(events[-1], RunFinished)
    assert events[-1].stopped_early
    assert checkpoint.read(tmp_path / "run" / "last.pt")["training"] is None


def test_divergence_names_the_step_and_saves_nothing_after_it(
    part: mnist.Labelled, tmp_path: Path
) -> None:
    wild = load("v1", settings=["epochs=3", "batch_size=64", "optim.lr=1e20"])
    with pytest.raises(DivergedError, match=r"step \d+ .*lr "):
        go(tmp_path / "run", part, wild)
    assert list((tmp_path / "run").iterdir()) == []


def bad_gradient(model: torch.nn.Module) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda gradient: gradient * float("nan")


def test_a_step_with_a_bad_gradient_changes_nothing(
    part: mnist.Labelled, recipe: Recipe, tmp_path: Path
) -> None:
    chosen = runtime.decide(Request(device="cpu", threads=1))
    current = state.create(MODELS["v3"], recipe, chosen)
    weight = next(current.model.parameters())
    weight.register_hook(bad_gradient(current.model))
    before = [parameter.clone() for parameter in current.model.parameters()]
    assert current.average is not None
    average = current.average.vector.clone()
    run = Run(recipe, chosen, part, part, HASHES, tmp_path, lambda _: None, lambda: None)
    with pytest.raises(DivergedError, match="step 0 "):
        train(run, current)
    assert all(map(torch.equal, before, current.model.parameters()))
    assert torch.equal(average, current.average.vector)


@pytest.mark.slow
def test_fp16_gradients_that_stay_bad_end_the_run(part: mnist.Labelled, tmp_path: Path) -> None:
    """Row 13 of the fault matrix: the scaler alone would leave out every step, silently."""
    recipe = load("v3", settings=["epochs=30", "batch_size=64"])
    chosen = runtime.decide(Request(device="cpu", precision="fp32", threads=1))
    current = state.create(MODELS["v3"], recipe, chosen)
    current.scaler = torch.amp.GradScaler("cpu", init_scale=1.0)
    next(current.model.parameters()).register_hook(bad_gradient(current.model))
    before = [parameter.clone() for parameter in current.model.parameters()]
    run = Run(recipe, chosen, part, part, HASHES, tmp_path, lambda _: None, lambda: None)
    with pytest.raises(DivergedError, match="step 10 "):
        train(run, current)
    assert all(map(torch.equal, before, current.model.parameters()))


@pytest.mark.slow
def test_a_run_in_bf16_goes_on_in_fp16(
    part: mnist.Labelled, recipe: Recipe, tmp_path: Path
) -> None:
    """On a GPU without bf16; the scaler of a bf16 run saves nothing, and a fresh one takes over."""
    with pytest.raises(Interrupted):
        go(tmp_path / "run", part, recipe, stop_after=1)
    current = state.create(MODELS["v3"], recipe, runtime.decide(Request(device="cpu", threads=1)))
    current.scaler = torch.amp.GradScaler("cpu", init_scale=1.0)
    state.restore(current, checkpoint.read(tmp_path / "run" / "last.pt"), where="last.pt")
    assert current.scaler.get_scale() == 1.0
    assert current.epochs_done == 1


def test_what_changed_since_a_run_was_saved_is_named(recipe: Recipe, tmp_path: Path) -> None:
    chosen = runtime.decide(Request(device="cpu", threads=1))
    versions = state.versions() | {"torch": "2.10.0"}
    saved = {"runtime": chosen.to_dict(), "versions": versions}
    plan = Plan(MODELS["v3"], recipe, "v3", (), (0,), None, tmp_path, "auto", Limits(), Request())
    notices = list[Any]()
    plans.restored_runtime(plan, saved, notices.append)
    (notice,) = notices
    assert notice.text.endswith(f"uninterrupted run: torch 2.10.0 → {torch.__version__}")


def test_another_compiler_is_named_and_an_unknown_one_is_not() -> None:
    saved, net = compiled().to_dict(), network("v1")
    assert saved["compiler"]
    assert runtime.restore(saved, Request(), net)[1] == ()
    changed = runtime.restore(saved | {"compiler": "g++ 1.0"}, Request(), net)[1]
    assert changed == (f"compiler g++ 1.0 → {saved.pop('compiler')}",)
    assert runtime.restore(saved, Request(), net)[1] == ()


def test_python_and_numpy_draw_the_same_for_the_same_seed() -> None:
    draws = []
    for epoch in (1, 1, 2):
        runtime.seed_everything(0, "dropout", epoch)
        draws.append((random.random(), numpy.random.random(), torch.rand(1).item()))
    assert draws[0] == draws[1]
    assert all(a != b for a, b in zip(draws[1], draws[2], strict=True))
