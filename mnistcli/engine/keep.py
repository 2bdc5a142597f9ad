"""The end of an epoch: saved, then reported; an error names the last epoch that is saved."""

from __future__ import annotations

from mnistcli.data.batches import steps_per_epoch
from mnistcli.engine import checkpoint
from mnistcli.engine.run import Run, diverged
from mnistcli.engine.state import TrainState, to_checkpoint
from mnistcli.errors import DivergedError, EnvironmentFault
from mnistcli.events import EpochFinished
from mnistcli.recipe import Recipe


def keep_epoch(run: Run, state: TrainState) -> None:
    """Let the first rank save and report the epoch; an error ends the run on all ranks."""
    run.group.first(lambda: _keep(run, state))


def _keep(run: Run, state: TrainState) -> None:
    """Save the epoch, then report it; an error of the disk names the last epoch that is saved.

    A step can leave weights that are not finite although loss and gradient were. They, and what
    evaluation made of them, are found here.
    """
    done, kept = tuple(state.history), state.epochs_done - 1
    try:
        _save(run, state, finished=is_over(run.recipe, state))
        kept += 1
        run.emit(EpochFinished(done[-1], run.recipe.epochs, str(run.folder), done))
    except DivergedError as error:
        batches = steps_per_epoch(len(run.training.images), run.recipe.batch_size)
        step, what = len(done) * batches - 1, error.what.removesuffix(" is not finite")
        raise diverged(run, what, step, len(done), done[-1].lr) from error
    except EnvironmentFault as error:
        saved = f"epoch {kept} is the last one saved" if kept else "no epoch is saved"
        raise EnvironmentFault(f"{error.what}; {saved}", hint=error.hint) from error


def _save(run: Run, state: TrainState, *, finished: bool) -> None:
    """Write last.pt, and best.pt where this epoch is the first with the best accuracy."""
    payload = to_checkpoint(state, run, finished=finished)
    if state.history[-1].epochs_since_best == 0:
        picked = {"training": None, "picked_on": run.split}
        checkpoint.write(run.folder / "best.pt", payload | picked)
    checkpoint.write(run.folder / "last.pt", payload, keep_previous=True)


def is_over(recipe: Recipe, state: TrainState) -> bool:
    """Return whether all epochs are done, or patience has ended."""
    if not state.history or state.epochs_done == recipe.epochs:
        return state.epochs_done == recipe.epochs
    patience = recipe.patience_epochs
    return patience is not None and state.history[-1].epochs_since_best >= patience
