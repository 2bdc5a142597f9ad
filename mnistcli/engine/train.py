"""The training loop, and nothing else."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mnistcli.data.batches import steps_per_epoch, training_batches
from mnistcli.engine import machine, runtime
from mnistcli.engine.evaluate import Evaluation, evaluate
from mnistcli.engine.keep import is_over, keep_epoch
from mnistcli.engine.loss import loss as loss_of
from mnistcli.engine.optim import lr_at, set_lr
from mnistcli.engine.parallel import Group
from mnistcli.engine.run import Run, diverged
from mnistcli.engine.state import TrainState
from mnistcli.errors import Interrupted
from mnistcli.events import BatchFinished, EpochMetrics, RunFinished

_READS_PER_EPOCH = 20  # the only waits for the device inside an epoch
_LEAST_SCALE = 2.0**-10  # of fp16 gradients: from 2^16, 26 steps in a row were not finite


class Totals(NamedTuple):
    """Sums of an epoch, kept on the device; `first_bad_step` is -1 while all is finite."""

    loss: Tensor
    correct: Tensor
    first_bad_step: Tensor


def train(run: Run, state: TrainState) -> Evaluation | None:
    """Train to the recipe's last epoch, saving each; return the last epoch's evaluation.

    Returns None where there was nothing left to train.

    Raises:
        DivergedError: a loss, gradient or weight was not finite; the last checkpoint stays.
        EnvironmentFault: an epoch can't be written; the last checkpoint stays.
        Interrupted: `should_stop` said so; the last checkpoint stays. An epoch that is being
            evaluated or written is kept first.
    """
    result = None
    while not is_over(run.recipe, state):
        epoch = state.epochs_done + 1
        machine.reset_peak_memory(run.runtime.torch_device)
        runtime.seed_everything(run.recipe.seed, run.group.stream("dropout"), epoch)
        started = time.monotonic()
        totals, lr = _train_epoch(run, state, epoch)
        trained = time.monotonic()
        state.refresh_evaluated()
        result = run.group.first(lambda: evaluate(state.evaluated, run.evaluation))
        seconds = (trained - started, time.monotonic() - trained)
        state.history.append(_metrics(run, state, totals, result, lr, seconds))
        keep_epoch(run, state)
        if (signum := run.should_stop()) is not None:
            raise Interrupted(signum, what=f"stopped after epoch {epoch}, {epoch} epochs saved")
    run.emit(RunFinished(tuple(state.history), state.epochs_done < run.recipe.epochs))
    return result


def train_step(
    run: Run, state: TrainState, batch: tuple[Tensor, Tensor], step: int, totals: Totals
) -> Totals:
    """Do one update and return the new sums; nothing here waits for the device.

    A step whose loss or gradient is not finite changes neither weights nor average.
    """
    images, labels = batch
    kind, dtype = run.runtime.torch_device.type, run.runtime.dtype
    with torch.autocast(kind, dtype, enabled=dtype != torch.float32):
        logits = state.forward(images)
        taught = None if run.teacher is None else run.teacher(images)
    loss = loss_of(run.recipe, logits, labels, taught)
    state.optimizer.zero_grad(set_to_none=True)
    loss, bad = _backward_and_update(run.group, state, loss)
    if state.average is not None:
        state.average.update(step, bad)
    first = totals.first_bad_step
    return Totals(
        totals.loss + loss,
        totals.correct + run.group.sum((logits.argmax(dim=1) == labels).sum()),
        torch.where((first < 0) & bad, torch.full_like(first, step), first),
    )


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


def _train_epoch(run: Run, state: TrainState, epoch: int) -> tuple[Totals, float]:
    """Return the epoch's sums and its last learning rate."""
    images, size = len(run.training.images), run.recipe.batch_size
    batches = steps_per_epoch(images, size)
    accuracies = [metrics.accuracy for metrics in state.history]
    device = run.runtime.torch_device
    zero = torch.zeros((), dtype=torch.int64, device=device)
    totals = Totals(torch.zeros((), dtype=torch.float64, device=device), zero, zero - 1)
    started, lr = time.monotonic(), 0.0
    pictures = training_batches(run.training, run.recipe, epoch, run.group.share)
    for index, batch in enumerate(pictures, start=1):
        step = (epoch - 1) * batches + index - 1
        lr = lr_at(run.recipe, step, batches, accuracies)
        set_lr(state.optimizer, lr)
        totals = train_step(run, state, batch, step, totals)
        if index % max(1, batches // _READS_PER_EPOCH) == 0 or index == batches:
            _check_finite(run, totals, batches, accuracies)
            run.emit(_progress(epoch, index, batches, size, totals, time.monotonic() - started))
        if (signum := run.should_stop()) is not None:
            raise Interrupted(signum, what=f"stopped in epoch {epoch}, {epoch - 1} epochs saved")
    return totals, lr


def _check_finite(run: Run, totals: Totals, batches: int, accuracies: Sequence[float]) -> None:
    step = int(totals.first_bad_step)
    if step >= 0:
        lr = lr_at(run.recipe, step, batches, accuracies)
        raise diverged(run, "loss or gradient", step, step // batches + 1, lr)


def _progress(
    epoch: int, index: int, batches: int, size: int, totals: Totals, seconds: float
) -> BatchFinished:
    loss, correct = totals.loss.item() / index, int(totals.correct) / (index * size)
    return BatchFinished(epoch, index, batches, loss, correct, index * size / max(seconds, 1e-9))


def _metrics(
    run: Run,
    state: TrainState,
    totals: Totals,
    result: Evaluation,
    lr: float,
    seconds: tuple[float, float],
) -> EpochMetrics:
    size = run.recipe.batch_size
    batches = steps_per_epoch(len(run.training.images), size)
    earlier = [metrics.eval_correct for metrics in state.history]
    best = max([*earlier, result.correct])
    return EpochMetrics(
        epoch=len(earlier) + 1,
        train_loss=totals.loss.item() / batches,
        train_correct=int(totals.correct),
        train_total=batches * size,
        split=run.split,
        eval_loss=result.loss,
        eval_correct=result.correct,
        eval_total=result.total,
        best_correct=best,
        epochs_since_best=len(earlier) - [*earlier, result.correct].index(best),
        lr=lr,
        **machine.peak_memory_mib(run.runtime.torch_device),
        images_per_second=batches * size / max(seconds[0], 1e-9),
        train_seconds=seconds[0],
        eval_seconds=seconds[1],
    )
