"""The bench measures real steps, and the user's pipeline is the user's."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from conftest import Cli, document

from mnistcli.bench import competent, cores, rivals
from mnistcli.bench import measure as measure_module
from mnistcli.bench.growth import growth, repeated
from mnistcli.bench.measure import Bench, measure
from mnistcli.data import mnist
from mnistcli.engine import runtime
from mnistcli.errors import EnvironmentFault
from mnistcli.models.registry import MODELS, build
from mnistcli.recipe import load


def first(dataset: mnist.Dataset, count: int) -> mnist.Dataset:
    """Return the first pictures of each part."""
    train, test = (
        mnist.Labelled(part.images[:count], part.labels[:count])
        for part in (dataset.train, dataset.test)
    )
    return mnist.Dataset(train, test, dataset.hashes)


@pytest.fixture
def small(dataset: mnist.Dataset) -> Bench:
    """v1 with few pictures, eager."""
    chosen = runtime.decide(runtime.Request(device="cpu"))
    recipe = load("plain/v1").model_copy(update={"batch_size": 32})
    return Bench(MODELS["v1"], recipe, chosen, first(dataset, 640))


@pytest.fixture
def _quick(dataset: mnist.Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the command have ten batches of 128, and time the evaluation once."""
    monkeypatch.setattr(mnist, "load", lambda: first(dataset, 1280))
    monkeypatch.setattr(measure_module, "ROUNDS", 1)


@pytest.mark.slow
@pytest.mark.usefixtures("_quick")
def test_shares_add_up_and_the_floor_is_the_arithmetic_at_the_machines_peak(cli: Cli) -> None:
    line = ["bench", "--recipe", "plain/v1", "--steps", "2", "--compile", "off", "--json"]
    done = cli(*line, "--precision", "fp32", "--device", "cpu")
    report = document(done.stdout)
    assert sum(report["shares"].values()) == pytest.approx(1.0)
    assert set(report["shares"]) == {"input", "step", "evaluation", "bookkeeping"}
    assert min(report["epoch_seconds"].values()) > 0
    step = (report["epoch_seconds"]["input"] + report["epoch_seconds"]["step"]) / 10
    assert report["images_per_second"] == pytest.approx(128 / step, rel=0.5)
    assert 0 < report["latency_ms"]["median"] <= report["latency_ms"]["p95"]
    assert "ratio" not in report
    assert report["code_path"] == "eager"
    assert {"commit", "platform", "cpus", "machine"} <= {*report}
    assert report["cores"] == len(os.sched_getaffinity(0))
    limit = report["limit"]
    assert limit["mult_adds"] == MODELS["v1"].mult_adds
    assert limit["teacher_mult_adds"] == 0
    operations = 6 * limit["mult_adds"] * 10 * 128  # forward and two gradients
    assert limit["floor_seconds"] == pytest.approx(operations / limit["matmul_gflops"] / 1e9)
    assert limit["share"] == pytest.approx(limit["floor_seconds"] / report["epoch_seconds"]["step"])
    assert 0 < limit["share"] < 1


@pytest.mark.slow
@pytest.mark.usefixtures("_quick")
def test_a_teachers_reading_counts(cli: Cli) -> None:
    line = ["bench", "v1", "--steps", "2", "--compile", "off", "--json", "--recipe", "v3"]
    report = document(cli(*line).stdout)
    limit = report["limit"]
    assert report["recipe"] == "v3"
    assert limit["teacher_mult_adds"] == MODELS["teacher"].mult_adds
    operations = 2 * (3 * limit["mult_adds"] + limit["teacher_mult_adds"]) * 10 * 128
    assert limit["floor_seconds"] == pytest.approx(operations / limit["matmul_gflops"] / 1e9)


@pytest.mark.slow
def test_growth_trains_as_many_pictures_as_it_says(dataset: mnist.Dataset) -> None:
    chosen = runtime.decide(runtime.Request(device="cpu"))
    few, more = growth(Bench(MODELS["v1"], load("v1"), chosen, dataset), (256, 1024))
    assert (few["images"], more["images"]) == (256, 1024)
    assert 1024 / more["images_per_second"] == pytest.approx(more["seconds"])
    twice = repeated(dataset.test, 20_001)
    assert torch.equal(twice.images[10_000:20_000], dataset.test.images)
    assert torch.equal(twice.labels[20_000:], dataset.test.labels[:1])


@pytest.mark.slow
def test_the_users_pipeline_yields_its_batches_and_trains(dataset: mnist.Dataset) -> None:
    from mnistcli.bench import pil

    part = mnist.Labelled(dataset.train.images[:640], dataset.train.labels[:640])
    images, labels = next(pil.batches(part, 32, workers=0))
    assert (images.shape, images.dtype, labels.shape) == ((32, 1, 28, 28), torch.float32, (32,))
    again, _ = next(pil.batches(part, 32, workers=0))
    assert not torch.equal(images, again)
    chosen = runtime.decide(runtime.Request(device="cpu"))
    assert pil.images_per_second(build(MODELS["v1"], {}), part, chosen, steps=1, workers=0) > 0


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.parametrize("name", ["baseline", "torch"])
def test_a_rival_is_timed_in_turn(name: rivals.Versus, small: Bench) -> None:
    beside = partial(rivals.prepare, name=name, compile=False)
    report = measure(small, steps=1, prepare=beside)
    assert report["versus"] == name
    assert report["ratio"] == sorted(report["ratios"])[1]
    assert report[f"{name}_images_per_second"] > 0
    assert report.get("torch_mode") == ("eager" if name == "torch" else None)


@pytest.mark.slow
def test_threads_are_timed_against_one_also_beside_neighbours(small: Bench) -> None:
    assert cores.measure(small.with_threads(1), steps=1, neighbours=None) == {}
    found = cores.measure(small.with_threads(2), steps=1, neighbours=1)
    for part in ("threads", "neighbours"):
        assert found[part]["count"] == 2
        assert found[part]["worst_ratio"] == min(found[part]["ratios"])
    assert (torch.get_num_threads(), found["neighbours"]["processes"]) == (1, 1)


def test_neighbours_need_a_second_thread(cli: Cli) -> None:
    done = cli("bench", "v1", "--steps", "1", "--compile", "off", "--threads", "1",
               "--device", "cpu", "--neighbours", "1")  # fmt: skip
    assert (done.returncode, "--threads 2" in done.stderr) == (2, True)


@pytest.mark.processes
def test_neighbours_burn_and_end_with_their_parent() -> None:
    program = (
        "import os, sys, time; from mnistcli.bench.cores import burning\n"
        "with burning(1) as (one,):\n"
        "    time.sleep(0.3); print(one.pid, sum(map(float, open(f'/proc/{one.pid}/stat').read()"
        ".rpartition(')')[2].split()[11:13])), flush=True)\n"
        "    os._exit(0)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    pid, ticks = done.stdout.split()
    assert float(ticks) > 0
    for _ in range(200):
        if not Path("/proc", pid).exists():
            break
        time.sleep(0.05)
    assert not Path("/proc", pid).exists()


@pytest.mark.slow
def test_runs_are_counted_in_whole_commands(
    tiny_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MNISTCLI_DATA_DIR", str(tiny_data))
    monkeypatch.setattr(cores, "ROUNDS", 1)
    words = ["--recipe", "plain/v1", "--compile", "off", "--batch-size", "32"]
    found = cores.runs_per_hour(words, 2, epochs=1)
    assert found["ratio"] == pytest.approx(found["runs_per_hour"] / found["one_job_runs_per_hour"])
    assert found["share"] == pytest.approx(found["ratio"] / 2)
    monkeypatch.setenv("MNISTCLI_DATA_DIR", str(tiny_data / "none"))
    with pytest.raises(EnvironmentFault, match="ended with 4: error: "):
        cores.runs_per_hour(words, 2, epochs=1)


@pytest.mark.slow
def test_the_pipeline_gets_no_more_workers_than_cores(
    small: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mnistcli.bench import pil

    usable = os.sched_getaffinity(0)
    os.sched_setaffinity(0, [min(usable)])
    monkeypatch.setattr(pil, "images_per_second", lambda *_, workers, **__: workers)
    try:
        rival = rivals.prepare(small, name="baseline", compile=False)
    finally:
        os.sched_setaffinity(0, usable)
    assert rival.facts["baseline_workers"] == 1  # of 0 and 1, the higher "speed"
