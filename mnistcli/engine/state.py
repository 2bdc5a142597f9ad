"""Everything that training changes: made from a recipe or a checkpoint, turned back into one."""

from __future__ import annotations

import copy
import platform
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mnistcli import __version__
from mnistcli.data.mnist import Labelled
from mnistcli.engine import checkpoint, lanes, runtime, threads
from mnistcli.engine.evaluate import Evaluation, Reader, evaluate
from mnistcli.engine.optim import WeightAverage, build_optimizer, load_optimizer_state
from mnistcli.engine.run import Run
from mnistcli.engine.runtime import Runtime
from mnistcli.errors import ArtifactError
from mnistcli.events import EpochMetrics
from mnistcli.models.registry import ModelEntry, build
from mnistcli.recipe import Recipe


@dataclass
class TrainState:
    """A run between two epochs.

    `model` is trained, on the CPU through kernels of our own where the runtime says so; `forward`
    is what a step calls, itself or what ranks wrap around it; `evaluated` is its eager twin that
    holds what evaluation and the user get: the weight average, or a copy; `quick` is its way
    through the kernels.
    """

    model: nn.Module
    forward: nn.Module
    evaluated: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    average: WeightAverage | None
    history: list[EpochMetrics]
    quick: Reader | None

    @property
    def epochs_done(self) -> int:
        """The number of finished epochs."""
        return len(self.history)

    def evaluate(self, data: Labelled, chosen: Runtime) -> Evaluation:
        """Bring the evaluated twin up to date, and evaluate it."""
        with torch.no_grad():
            self.evaluated.load_state_dict(self.model.state_dict())
            if self.average is not None:
                self.average.copy_to(self.evaluated)
        # Beside the kernels torch's threads would spin; what it reads itself takes one.
        with nullcontext() if self.quick else threads.all_of(chosen):
            return evaluate(self.evaluated, data, self.quick)


def create(entry: ModelEntry, recipe: Recipe, chosen: Runtime) -> TrainState:
    """Return a fresh state with weights initialised from the recipe's seed."""
    runtime.seed_everything(recipe.seed, "weights")
    model = runtime.place(build(entry, recipe.model_args), chosen)
    twin = copy.deepcopy(model).eval().requires_grad_(False)
    quick = None
    if chosen.compiled and chosen.device == "cpu":  # on CUDA the step is recorded instead
        lanes.specialise(model.train(), chosen.dtype, chosen.threads)
        if lanes.why_not(twin, training=False) is None:
            quick = lanes.through(twin, torch.float32, chosen.threads)
    return TrainState(
        model=model.train(),
        forward=model,
        evaluated=twin,
        optimizer=build_optimizer(model, recipe.optim),
        scaler=torch.amp.GradScaler(chosen.torch_device.type, enabled=chosen.precision == "fp16"),
        average=None if recipe.ema_decay is None else WeightAverage(model, recipe.ema_decay),
        history=[],
        quick=quick,
    )


def teaching(teacher: nn.Module, chosen: Runtime) -> nn.Module:
    """Return a teacher on the device, through the kernels where they compute in its precision."""
    teacher = runtime.place(copy.deepcopy(teacher), chosen).eval()
    same = chosen.teacher_precision in (None, chosen.precision)
    fits = chosen.compiled and chosen.device == "cpu" and same
    if fits and lanes.why_not(teacher, training=False) is None:
        lanes.specialise(teacher, chosen.dtype, chosen.threads)
    return teacher


def restore(state: TrainState, saved: dict[str, Any], *, where: str) -> None:
    """Continue from a checkpoint; a finished run's brings its history only.

    Raises:
        ArtifactError: it does not fit the network, its optimizer or its weight average.
    """
    state.history = [EpochMetrics(**metrics) for metrics in saved["history"]]
    training = saved["training"]
    if training is None:
        return
    checkpoint.load_weights(state.model, training["model"], where=where)
    average = training["average"]
    shapes = [None if v is None else v.shape for v in (average, _vector(state))]
    if shapes[0] != shapes[1]:
        raise ArtifactError("checkpoint's weight average does not fit", where=where)
    if state.average is not None:
        state.average.vector = average.to(state.average.vector)
    try:
        load_optimizer_state(state.optimizer, training["optimizer"])
        if training["scaler"]:  # empty where the run had no fp16: then the scaler starts afresh
            state.scaler.load_state_dict(training["scaler"])
    except Exception as error:  # whatever torch raises on what is no state of this optimizer
        raise ArtifactError(
            f"checkpoint's optimizer state does not fit: {error}", where=where
        ) from error


def _vector(state: TrainState) -> Tensor | None:
    return None if state.average is None else state.average.vector


def to_checkpoint(state: TrainState, run: Run, *, finished: bool) -> dict[str, Any]:
    """Return the plain values of a checkpoint; a finished run needs no optimizer state."""
    training = {
        "model": state.model.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "scaler": state.scaler.state_dict(),
        "average": _vector(state),
    }
    payload: dict[str, Any] = checkpoint.to_cpu(
        {
            "format": checkpoint.FORMAT,
            "model": run.recipe.model,
            "network": list(run.network),
            "recipe": run.recipe.model_dump(),
            "runtime": run.runtime.to_dict(),
            "versions": versions(),
            "data": run.data_hashes,
            "history": [asdict(metrics) for metrics in state.history],
            "weights": state.evaluated.state_dict(),
            "training": None if finished else training,
        }
    )
    return payload


def versions() -> dict[str, str]:
    """Return the versions that a figure depends on."""
    return {
        "mnistcli": __version__,
        "torch": str(torch.__version__),  # a str subclass that weights_only refuses
        "python": platform.python_version(),
    }
