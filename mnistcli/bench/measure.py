"""Time training and evaluation on this machine, and the user's pipeline beside them in turn."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch

from mnistcli.bench import pil
from mnistcli.data import mnist
from mnistcli.data.batches import steps_per_epoch, training_batches
from mnistcli.engine import machine, state
from mnistcli.engine.evaluate import evaluate
from mnistcli.engine.runtime import Runtime
from mnistcli.engine.train import Run, Totals, train_step
from mnistcli.models.registry import ModelEntry
from mnistcli.recipe import Recipe

_WORKERS = (0, os.cpu_count() or 1)
_ROUNDS = 3


class Bench:
    """A network ready to be timed: built, compiled where decided, warmed up."""

    def __init__(
        self, entry: ModelEntry, recipe: Recipe, chosen: Runtime, dataset: mnist.Dataset
    ) -> None:
        self.entry, self.recipe, self.runtime = entry, recipe, chosen
        self.training = dataset.train.to(chosen.torch_device)
        self.test = dataset.test.to(chosen.torch_device)
        self.state = state.create(entry, recipe, chosen)
        self._run = Run(
            recipe, chosen, self.training, self.test, dataset.hashes, Path(),
            lambda _: None, lambda: None,
        )  # fmt: skip
        self.warmup_seconds = self._time(lambda: self.steps(8))

    def steps(self, count: int) -> dict[str, float]:
        """Train `count` batches and return seconds spent on input and on the step itself."""
        batches = training_batches(self.training, self.recipe, 1)
        zero = torch.zeros((), dtype=torch.int64, device=self.runtime.torch_device)
        totals, spent = Totals(zero.double(), zero, zero - 1), {"input": 0.0, "step": 0.0}
        for step in range(count):
            started = self._now()
            batch = next(batches)
            ready = self._now()
            totals = train_step(self._run, self.state, batch, step, totals)
            spent["input"] += ready - started
            spent["step"] += self._now() - ready
        return spent

    def evaluation_seconds(self) -> float:
        """Return the seconds of one pass over the test set."""
        self.state.refresh_evaluated()
        return self._time(lambda: evaluate(self.state.evaluated, self.test))

    def _time(self, work: Callable[[], object]) -> float:
        started = self._now()
        work()
        return self._now() - started

    def _now(self) -> float:
        """Return the time once the device has nothing left to do."""
        if self.runtime.torch_device.type == "cuda":
            torch.cuda.synchronize()
        return time.monotonic()


def measure(bench: Bench, *, steps: int, versus: bool) -> dict[str, Any]:
    """Return images/s, the shares of an epoch, and with `versus` the ratio to the user's pipeline.

    The two are timed in turn, three rounds; figures are medians, ratios are taken round by round.
    """
    steps = min(steps, steps_per_epoch(len(bench.training.images), bench.recipe.batch_size))
    workers = best_workers(bench) if versus else None
    ours: list[dict[str, float]] = []
    theirs: list[float] = []
    for _ in range(_ROUNDS):
        ours.append(bench.steps(steps))
        if workers is not None:
            theirs.append(_their_speed(bench, steps, workers))
    evaluation = median(bench.evaluation_seconds() for _ in range(_ROUNDS))
    images = steps * bench.recipe.batch_size
    speeds = [images / sum(spent.values()) for spent in ours]
    epoch_steps = steps_per_epoch(len(bench.training.images), bench.recipe.batch_size)
    seconds = {
        part: median(spent[part] for spent in ours) * epoch_steps / steps
        for part in ("input", "step")
    } | {"evaluation": evaluation}
    report = {
        "model": bench.entry.name,
        "batch_size": bench.recipe.batch_size,
        "steps": steps,
        "images_per_second": median(speeds),
        "evaluation_images_per_second": len(bench.test.images) / evaluation,
        "warmup_seconds": bench.warmup_seconds,
        "epoch_seconds": seconds,
        "shares": {part: value / sum(seconds.values()) for part, value in seconds.items()},
        **machine.peak_memory_mib(bench.runtime.torch_device),
    }
    if workers is None:
        return report
    ratios = [a / b for a, b in zip(speeds, theirs, strict=True)]
    return report | {
        "baseline_images_per_second": median(theirs),
        "baseline_workers": workers,
        "ratio": median(ratios),
        "ratios": ratios,
    }


def best_workers(bench: Bench) -> int:
    """Return the DataLoader worker count that serves the user's pipeline best here."""
    trials = {workers: _their_speed(bench, 15, workers) for workers in _WORKERS}
    return max(trials, key=lambda workers: trials[workers])


def _their_speed(bench: Bench, steps: int, workers: int) -> float:
    return pil.images_per_second(
        bench.entry, bench.training, bench.runtime, steps=steps, workers=workers
    )
