"""Time training and evaluation on this machine, and a rival beside them in turn."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median, quantiles
from typing import Any, NamedTuple

import torch
from torch import nn

from mnistcli.audit import audit
from mnistcli.bench import roofline
from mnistcli.data import mnist
from mnistcli.data.batches import steps_per_epoch, training_batches
from mnistcli.engine import machine, state, threads
from mnistcli.engine.run import Run
from mnistcli.engine.runtime import Runtime, wait_for_device
from mnistcli.engine.scratch import temporary_folder
from mnistcli.engine.step import Step
from mnistcli.engine.train import train
from mnistcli.models.registry import ModelEntry
from mnistcli.recipe import Recipe

ROUNDS = 3
_LATENCY_CALLS = 200


class Bench:
    """A network ready to be timed: built, compiled where decided, warmed up.

    `taught` is what the recipe distils from: a network, and its mult-adds for one picture. Each
    timing sets the runtime's threads, so that two of these can be timed in turn.
    """

    def __init__(
        self,
        entry: ModelEntry,
        recipe: Recipe,
        chosen: Runtime,
        dataset: mnist.Dataset,
        taught: tuple[nn.Module, int] | None = None,
    ) -> None:
        self.entry, self.recipe, self.runtime = entry, recipe, chosen
        self.training = dataset.train.to(chosen.torch_device)
        self.test = dataset.test.to(chosen.torch_device)
        self.state = state.create(entry, recipe, chosen)
        self._dataset, self._taught = dataset, taught
        self._teacher = None if taught is None else state.teaching(taught[0], chosen)
        self.teacher_mult_adds = 0 if taught is None else taught[1]
        self._step = Step(self._run(Path()), self.state)
        self.warmup_seconds = self._time(lambda: self.steps(8))

    def with_threads(self, count: int) -> Bench:
        """Return a new one of the same, for this many CPU threads."""
        fewer = replace(self.runtime, threads=count)
        return Bench(self.entry, self.recipe, fewer, self._dataset, self._taught)

    @property
    def epoch_steps(self) -> int:
        """The number of batches in an epoch."""
        return steps_per_epoch(len(self.training.images), self.recipe.batch_size)

    @property
    def epoch_images(self) -> int:
        """The number of pictures in an epoch's batches."""
        return self.epoch_steps * self.recipe.batch_size

    def steps(self, count: int, training: mnist.Labelled | None = None) -> dict[str, float]:
        """Train `count` batches; return the seconds of drawing an epoch, of input and of steps."""
        threads.share(self.runtime)
        batches = training_batches(training or self.training, self.recipe, 1)
        spent = {"draw": 0.0, "input": 0.0, "step": 0.0}
        for step in range(count):
            started = self._now()
            batch = next(batches)  # the first one draws the whole epoch
            ready = self._now()
            self._step(batch, step, self.recipe.optim.lr)
            spent["input" if step else "draw"] += ready - started
            spent["step"] += self._now() - ready
        return spent

    def epoch_parts(self, count: int) -> dict[str, float]:
        """Train `count` batches and return what an epoch would take: seconds of input and steps."""
        spent = self.steps(count)
        later = (self.epoch_steps - 1) / max(1, count - 1)
        return {
            "input": spent["draw"] + spent["input"] * later,
            "step": spent["step"] * self.epoch_steps / count,
        }

    def evaluation_seconds(self) -> float:
        """Return the seconds of one pass over the test set."""
        threads.share(self.runtime)
        return self._time(lambda: self.state.evaluate(self.test, self.runtime))

    def bookkeeping_seconds(self) -> float:
        """Return what an epoch takes besides training and evaluation: average, checkpoints, events.

        Two real epochs of one batch each; the first one saves all, the last one is a finished run.
        """
        size = self.recipe.batch_size
        batch = mnist.Labelled(self.training.images[:size], self.training.labels[:size])
        recipe = self.recipe.model_copy(update={"epochs": 2})
        self.state.history = []
        with temporary_folder() as folder:
            run = replace(self._run(folder), recipe=recipe, training=batch)
            seconds = self._time(lambda: train(run, self.state))
        timed = sum(m.train_seconds + m.eval_seconds for m in self.state.history)
        return (seconds - timed) / 2

    def latency_milliseconds(self) -> dict[str, float]:
        """Return median and 95th percentile of one picture's way through the eager fp32 network."""
        image = torch.zeros(1, 1, 28, 28, device=self.runtime.torch_device)
        with torch.inference_mode():
            calls = [
                self._time(lambda: self.state.evaluated(image)) * 1e3
                for _ in range(_LATENCY_CALLS + 10)
            ][10:]
        return {"median": median(calls), "p95": quantiles(calls, n=20)[-1]}

    def _run(self, folder: Path) -> Run:
        return Run(
            self.recipe, self.runtime, self.training, self.test, self._dataset.hashes, folder,
            lambda _: None, lambda: None, teacher=self._teacher,
        )  # fmt: skip

    def _time(self, work: Callable[[], object]) -> float:
        started = self._now()
        work()
        return self._now() - started

    def _now(self) -> float:
        wait_for_device(self.runtime.torch_device)
        return time.monotonic()


class Rival(NamedTuple):
    """Trains so many batches and returns pictures per second; `facts` says how it was set up."""

    name: str
    images_per_second: Callable[[int], float]
    facts: dict[str, Any]


def measure(
    bench: Bench, *, steps: int, prepare: Callable[[Bench], Rival] | None = None
) -> dict[str, Any]:
    """Return speeds, an epoch's parts, the machine's floor and, beside a rival, the ratio.

    Ours and the rival are timed in turn, three rounds; figures are medians, ratios are taken round
    by round. Memory is read before the rival takes its own.
    """
    steps = min(steps, bench.epoch_steps)
    evaluation = median(bench.evaluation_seconds() for _ in range(ROUNDS))
    bookkeeping, latency = bench.bookkeeping_seconds(), bench.latency_milliseconds()
    memory = machine.peak_memory_mib(bench.runtime.torch_device)
    rival = None if prepare is None else prepare(bench)
    ours: list[dict[str, float]] = []
    theirs: list[float] = []
    for _ in range(ROUNDS):
        ours.append(bench.epoch_parts(steps))
        if rival is not None:
            theirs.append(rival.images_per_second(steps))
    speeds = [bench.epoch_images / sum(parts.values()) for parts in ours]
    seconds = {part: median(parts[part] for parts in ours) for part in ("input", "step")}
    seconds |= {"evaluation": evaluation, "bookkeeping": bookkeeping}
    return {
        "model": bench.entry.name,
        "batch_size": bench.recipe.batch_size,
        "steps": steps,
        "images_per_second": median(speeds),
        "evaluation_images_per_second": len(bench.test.images) / evaluation,
        "latency_ms": latency,
        "warmup_seconds": bench.warmup_seconds,
        "epoch_seconds": seconds,
        "shares": {part: value / sum(seconds.values()) for part, value in seconds.items()},
        "limit": machine_limit(bench, seconds["step"]),
        **memory,
        **({} if rival is None else _beside(rival, speeds, theirs)),
    }


def _beside(rival: Rival, ours: list[float], theirs: list[float]) -> dict[str, Any]:
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    return {
        "versus": rival.name,
        f"{rival.name}_images_per_second": median(theirs),
        **rival.facts,
        "ratio": median(ratios),
        "ratios": ratios,
    }


def machine_limit(bench: Bench, step_seconds: float) -> dict[str, Any]:
    """Return the matrix-product peak in the precision used, an epoch's floor, and our share.

    The share is floor / time of the steps: 1 would be every cycle a multiply-add.
    """
    with threads.all_of(bench.runtime):
        gflops = roofline.matmul_gflops(bench.runtime, bench.runtime.dtype)
    mult_adds = audit(bench.entry, bench.recipe.model_args).mult_adds
    taught = bench.teacher_mult_adds
    floor = roofline.floor_seconds(mult_adds, taught, bench.epoch_images, gflops)
    return {
        "precision": bench.runtime.precision,
        "matmul_gflops": gflops,
        "fp32_matmul_gflops": roofline.matmul_gflops(bench.runtime, torch.float32),
        "mult_adds": mult_adds,
        "teacher_mult_adds": taught,
        "floor_seconds": floor,
        "share": floor / step_seconds,
    }
