"""The bench measures real steps, and the user's pipeline is the user's."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from conftest import Cli, document

from mnistcli.bench import competent, pil, rivals
from mnistcli.bench.growth import growth, repeated
from mnistcli.bench.measure import Bench, measure
from mnistcli.data import mnist
from mnistcli.engine import runtime
from mnistcli.models.registry import MODELS
from mnistcli.recipe import load


@pytest.fixture
def small(dataset: mnist.Dataset) -> Bench:
    """v1 with few pictures, eager."""
    train, test = (
        mnist.Labelled(part.images[:640], part.labels[:640])
        for part in (dataset.train, dataset.test)
    )
    chosen = runtime.decide(runtime.Request(device="cpu"))
    recipe = load("plain/v1").model_copy(update={"batch_size": 32})
    return Bench(MODELS["v1"], recipe, chosen, mnist.Dataset(train, test, dataset.hashes))


def test_bench_shares_add_up(cli: Cli) -> None:
    done = cli("bench", "v1", "--steps", "2", "--compile", "off", "--device", "cpu", "--json")
    report = document(done.stdout)
    assert sum(report["shares"].values()) == pytest.approx(1.0)
    assert set(report["shares"]) == {"input", "step", "evaluation", "bookkeeping"}
    assert min(report["epoch_seconds"].values()) > 0
    step = (report["epoch_seconds"]["input"] + report["epoch_seconds"]["step"]) / 469
    assert report["images_per_second"] == pytest.approx(128 / step, rel=0.5)
    assert 0 < report["latency_ms"]["median"] <= report["latency_ms"]["p95"]
    assert "ratio" not in report


def test_the_floor_is_the_arithmetic_at_the_machines_peak(cli: Cli) -> None:
    line = ["bench", "--recipe", "plain/v1", "--steps", "2", "--compile", "off", "--json"]
    done = cli(*line, "--precision", "fp32")
    report = document(done.stdout)
    limit = report["limit"]
    assert limit["mult_adds"] == MODELS["v1"].mult_adds
    assert limit["teacher_mult_adds"] == 0
    operations = 6 * limit["mult_adds"] * 469 * 128  # forward and two gradients
    assert limit["floor_seconds"] == pytest.approx(operations / limit["matmul_gflops"] / 1e9)
    assert limit["share"] == pytest.approx(limit["floor_seconds"] / report["epoch_seconds"]["step"])
    assert 0 < limit["share"] < 1


def test_a_teachers_reading_counts(cli: Cli) -> None:
    line = ["bench", "v1", "--steps", "2", "--compile", "off", "--json", "--recipe", "v3"]
    report = document(cli(*line).stdout)
    limit = report["limit"]
    assert report["recipe"] == "v3"
    assert limit["teacher_mult_adds"] == MODELS["teacher"].mult_adds
    operations = 2 * (3 * limit["mult_adds"] + limit["teacher_mult_adds"]) * 469 * 128
    assert limit["floor_seconds"] == pytest.approx(operations / limit["matmul_gflops"] / 1e9)


def test_growth_trains_as_many_pictures_as_it_says(dataset: mnist.Dataset) -> None:
    chosen = runtime.decide(runtime.Request(device="cpu"))
    few, more = growth(Bench(MODELS["v1"], load("v1"), chosen, dataset), (256, 1024))
    assert (few["images"], more["images"]) == (256, 1024)
    assert 1024 / more["images_per_second"] == pytest.approx(more["seconds"])
    twice = repeated(dataset.test, 20_001)
    assert torch.equal(twice.images[10_000:20_000], dataset.test.images)
    assert torch.equal(twice.labels[20_000:], dataset.test.labels[:1])


def test_the_users_pipeline_yields_its_batches_and_trains(dataset: mnist.Dataset) -> None:
    part = mnist.Labelled(dataset.train.images[:640], dataset.train.labels[:640])
    images, labels = next(pil.batches(part, 32, workers=0))
    assert (images.shape, images.dtype, labels.shape) == ((32, 1, 28, 28), torch.float32, (32,))
    again, _ = next(pil.batches(part, 32, workers=0))
    assert not torch.equal(images, again)
    chosen = runtime.decide(runtime.Request(device="cpu"))
    assert pil.images_per_second(MODELS["v1"], part, chosen, steps=1, workers=0) > 0


def test_the_competent_loop_learns(dataset: mnist.Dataset) -> None:
    part = mnist.Labelled(dataset.train.images[:200], dataset.train.labels[:200])
    chosen = runtime.decide(runtime.Request(device="cpu", precision="fp32"))
    recipe = load("plain/v3").model_copy(update={"batch_size": 32, "epochs": 8})
    loop = competent.Loop(MODELS["v3"], recipe, part, chosen, mode="eager")
    losses = []
    for _ in range(8):
        before = float(loop.loss)
        loop(6)  # an epoch of whole batches
        losses.append((float(loop.loss) - before) / 6)
    assert losses[-1] < losses[0] - 0.5
    assert 0 < float(loop.correct) <= 8 * 6 * 32


def test_the_competent_loop_warps_as_its_ranges_say(monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.rand(16, 1, 28, 28)
    warped = competent.warp(images)
    assert warped.shape == images.shape
    assert (warped - images).abs().max() > 0.1
    for name in ("_DEGREES", "_SHIFT", "_SCALE", "_SHEAR", "_ELASTIC_PIXELS"):
        monkeypatch.setattr(competent, name, 0.0)
    torch.testing.assert_close(competent.warp(images), images, atol=1e-4, rtol=0)


def test_the_competent_loops_rate_is_one_cycle() -> None:
    rates = [competent.one_cycle(0.2, step / 100) for step in range(101)]
    assert max(rates) == rates[20] == 0.2
    assert rates[0] == 0
    assert rates[100] == pytest.approx(0)
    assert rates[60] == pytest.approx(0.1)


@pytest.mark.parametrize("name", ["baseline", "torch"])
def test_a_rival_is_timed_in_turn(name: rivals.Versus, small: Bench) -> None:
    beside = partial(rivals.prepare, name=name, compile=False)
    report = measure(small, steps=1, prepare=beside)
    assert report["versus"] == name
    assert report["ratio"] == sorted(report["ratios"])[1]
    assert report[f"{name}_images_per_second"] > 0
    assert report.get("torch_mode") == ("eager" if name == "torch" else None)
