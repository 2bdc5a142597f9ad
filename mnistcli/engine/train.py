"""The training loop, and nothing else."""

from __future__ import annotations

import time
from collections.abc import Sequence

from mnistcli.data.batches import steps_per_epoch, training_batches
from mnistcli.engine import machine, runtime
from mnistcli.engine.evaluate import Evaluation
from mnistcli.engine.keep import is_over, keep_epoch
from mnistcli.engine.optim import lr_at
from mnistcli.engine.run import Run, diverged
from mnistcli.engine.state import TrainState
from mnistcli.engine.step import Step, Sums
from mnistcli.errors import Interrupted
from mnistcli.events import BatchFinished, EpochMetrics, RunFinished

_READS_PER_EPOCH = 20  # the only waits for the device inside an epoch


def train(run: Run, state: TrainState) -> Evaluation | None:
    """Train to the recipe's last epoch, saving each; return the last epoch's evaluation.

    Returns None where there was nothing left to train.

    Raises:
        DivergedError: a loss, gradient or weight was not finite; the last checkpoint stays.
        EnvironmentFault: an epoch can't be written; the last checkpoint stays.
        Interrupted: `should_stop` said so; the last checkpoint stays. An epoch that is being
            evaluated or written is kept first.
    """
    result, step = None, Step(run, state)
    while not is_over(run.recipe, state):
        epoch = state.epochs_done + 1
        machine.reset_peak_memory(run.runtime.torch_device)
        runtime.seed_everything(run.recipe.seed, run.group.stream("dropout"), epoch)
        started = time.monotonic()
        lr = _train_epoch(run, state, epoch, step)
        trained = time.monotonic()
        result = run.group.first(lambda: state.evaluate(run.evaluation, run.runtime))
        seconds = (trained - started, time.monotonic() - trained)
        state.history.append(_metrics(run, state, step.sums, result, lr, seconds))
        keep_epoch(run, state)
        if (signum := run.should_stop()) is not None:
            raise Interrupted(signum, what=f"stopped after epoch {epoch}, {_saved(epoch)}")
    run.emit(RunFinished(tuple(state.history), state.epochs_done < run.recipe.epochs))
    return result


def _train_epoch(run: Run, state: TrainState, epoch: int, step: Step) -> float:
    """Return the last learning rate; the sums are the step's."""
    images, size = len(run.training.images), run.recipe.batch_size
    batches = steps_per_epoch(images, size)
    accuracies = [metrics.accuracy for metrics in state.history]
    sums = step.sums
    sums.reset()
    started, lr = time.monotonic(), 0.0
    pictures = training_batches(run.training, run.recipe, epoch, run.group.share)
    for index, batch in enumerate(pictures, start=1):
        number = (epoch - 1) * batches + index - 1
        lr = lr_at(run.recipe, number, batches, accuracies)
        step(batch, number, lr)
        if index % max(1, batches // _READS_PER_EPOCH) == 0 or index == batches:
            _check_finite(run, sums, batches, accuracies)
            run.emit(_progress(epoch, index, batches, size, sums, time.monotonic() - started))
        if (signum := run.should_stop()) is not None:
            raise Interrupted(signum, what=f"stopped in epoch {epoch}, {_saved(epoch - 1)}")
    return lr


def _saved(epochs: int) -> str:
    return f"{epochs} epoch{'s' * (epochs != 1)} saved"


def _check_finite(run: Run, sums: Sums, batches: int, accuracies: Sequence[float]) -> None:
    step = int(sums.first_bad_step)
    if step >= 0:
        lr = lr_at(run.recipe, step, batches, accuracies)
        raise diverged(run, "loss or gradient", step, step // batches + 1, lr)


def _progress(
    epoch: int, index: int, batches: int, size: int, sums: Sums, seconds: float
) -> BatchFinished:
    loss, correct = sums.loss.item() / index, int(sums.correct) / (index * size)
    return BatchFinished(epoch, index, batches, loss, correct, index * size / max(seconds, 1e-9))


def _metrics(
    run: Run,
    state: TrainState,
    sums: Sums,
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
        train_loss=sums.loss.item() / batches,
        train_correct=int(sums.correct),
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
