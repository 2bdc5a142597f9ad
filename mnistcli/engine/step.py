"""One update from one batch; on CUDA recorded as a graph after the first few, then replayed."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from mnistcli.engine.loss import loss as loss_of
from mnistcli.engine.optim import read_lr_from_device, recordable, set_lr
from mnistcli.engine.parallel import Group
from mnistcli.engine.run import Run
from mnistcli.engine.state import TrainState
from mnistcli.errors import UsageError

Batch = tuple[Tensor, Tensor]
Work = Callable[[Batch], None]

_LEAST_SCALE = 2.0**-10  # of fp16 gradients: from 2^16, 26 steps in a row were not finite
_EAGER_STEPS = 3  # before recording: libraries choose their kernels, optimizers make their momenta


class Sums(NamedTuple):
    """An epoch's sums so far, on the device and changed in place.

    `loss` is float64, the others int64; `first_bad_step` is -1 while all is finite.
    """

    loss: Tensor
    correct: Tensor
    first_bad_step: Tensor

    @classmethod
    def zero(cls, device: torch.device) -> Sums:
        """Return the sums before an epoch's first step."""
        zero = torch.zeros((), dtype=torch.int64, device=device)
        return cls(zero.double(), zero, zero - 1)

    def reset(self) -> None:
        """Start an epoch."""
        self.loss.zero_()
        self.correct.zero_()
        self.first_bad_step.fill_(-1)


class Step:
    """Trains a state by one batch per call; only recording, once, waits for the device.

    A step's number, learning rate and average decay are written to the device before it, so that a
    recorded graph reads what this step needs.
    """

    def __init__(self, run: Run, state: TrainState) -> None:
        device = run.runtime.torch_device
        self.sums = Sums.zero(device)
        self._run, self._state = run, state
        self._number = torch.zeros((), dtype=torch.int64, device=device)
        self._graph: _Graph | None = None
        self._eager_left = _EAGER_STEPS
        self._records = device.type == "cuda" and run.runtime.compiled
        if self._records:
            assert run.group.size == 1
            self._side = torch.cuda.Stream(device)
            read_lr_from_device(state.optimizer, device)

    def __call__(self, batch: Batch, number: int, lr: float) -> None:
        """Do the update of a step, counted from 0 over the whole run."""
        set_lr(self._state.optimizer, lr)
        if self._state.average is not None:
            self._state.average.set_step(number)
        self._number.fill_(number)
        if not self._records:
            self._train(batch)
        elif self._eager_left:
            self._eager_left -= 1
            self._train_aside(batch)
        else:
            self._graph = self._graph or self._record(batch)
            self._graph.replay(batch)

    def _train(self, batch: Batch) -> None:
        train_step(self._run, self._state, batch, self._number, self.sums)

    def _train_aside(self, batch: Batch) -> None:
        """Train eagerly on a stream of its own, as torch's notes on graphs ask for beforehand."""
        here = torch.cuda.current_stream()
        self._side.wait_stream(here)
        with torch.cuda.stream(self._side):
            self._train(batch)
        here.wait_stream(self._side)

    def _record(self, batch: Batch) -> _Graph:
        with recordable(self._state.optimizer):
            try:
                return _Graph(self._train, batch)
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:  # the network waits for the device, say
                what = f"this network's step can't be recorded: {str(error).splitlines()[0]}"
                raise UsageError(what, hint="--compile off, and a new --out") from error


def train_step(run: Run, state: TrainState, batch: Batch, number: Tensor, sums: Sums) -> None:
    """Do one update and add to the sums.

    A step whose loss or gradient is not finite changes neither weights nor average.
    """
    images, labels = batch
    with run.runtime.autocast():
        logits = state.forward(images)
    with torch.no_grad(), run.runtime.autocast(teacher=True):
        taught = None if run.teacher is None else run.teacher(images)
    loss = loss_of(run.recipe, logits, labels, taught)
    state.optimizer.zero_grad(set_to_none=True)
    loss, bad = _backward_and_update(run.group, state, loss)
    if state.average is not None:
        state.average.update(bad)
    sums.loss.add_(loss)
    sums.correct.add_(run.group.sum((logits.argmax(dim=1) == labels).sum()))
    first = sums.first_bad_step
    first.copy_(torch.where((first < 0) & bad, number, first))


def _backward_and_update(group: Group, state: TrainState, loss: Tensor) -> tuple[Tensor, Tensor]:
    """Return the loss over all ranks and whether the step was left out, since not finite."""
    if state.scaler.is_enabled():  # fp16: the scaler leaves out steps whose gradient overflows
        state.scaler.scale(loss).backward()
        state.scaler.step(state.optimizer)
        state.scaler.update()
        loss = group.mean(loss.detach())
        scale = state.scaler.scale(torch.ones_like(loss))  # halved at each step left out
        return loss, ~torch.isfinite(loss) | (scale < _LEAST_SCALE)
    loss.backward()
    loss = group.mean(loss.detach())
    gradients = [p.grad for group in state.optimizer.param_groups for p in group["params"]]
    norm = torch.nn.utils.get_total_norm([g for g in gradients if g is not None])
    bad = ~torch.isfinite(norm + loss)
    # Fused optimizers read this attribute and leave weights and momenta alone where it is 1.
    state.optimizer.found_inf = bad.float()  # type: ignore[attr-defined]
    state.optimizer.step()
    return loss, bad


class _Graph:
    """A step's kernels as one launch, reading each batch from the same place."""

    def __init__(self, work: Work, batch: Batch) -> None:
        self._images, self._labels = (part.clone() for part in batch)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):  # records, runs nothing
            work((self._images, self._labels))

    def replay(self, batch: Batch) -> None:
        self._images.copy_(batch[0])
        self._labels.copy_(batch[1])
        self._graph.replay()
