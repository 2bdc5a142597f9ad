"""A training by the engine alone: no command line, no folder of results."""

from __future__ import annotations

from pathlib import Path

from mnistcli.data import mnist
from mnistcli.engine import checkpoint, runtime, state
from mnistcli.engine.run import Run
from mnistcli.engine.runtime import Request, Runtime
from mnistcli.engine.train import train
from mnistcli.events import BatchFinished, Event
from mnistcli.models.registry import MODELS
from mnistcli.recipe import Recipe

HASHES = dict.fromkeys(mnist.FILES, "0" * 64)


class Stopper:
    """Ask to stop in the middle of the epoch after so many."""

    def __init__(self, epochs: int | None) -> None:
        self.epochs = epochs
        self.signum: int | None = None

    def see(self, event: Event) -> None:
        if isinstance(event, BatchFinished) and event.epoch - 1 == self.epochs:
            self.signum = 15

    def __call__(self) -> int | None:
        return self.signum


def go(
    folder: Path,
    part: mnist.Labelled,
    recipe: Recipe,
    *,
    chosen: Runtime | None = None,
    stop_after: int | None = None,
    resume: bool = False,
) -> tuple[state.TrainState, list[Event]]:
    """Train in `folder`, optionally stopping after some epochs or resuming."""
    folder.mkdir(exist_ok=True)
    chosen = chosen or runtime.decide(Request(device="cpu", threads=1))
    current = state.create(MODELS[recipe.model], recipe, chosen)
    if resume:
        state.restore(current, checkpoint.read(folder / "last.pt"), where="last.pt")
    stopper, events = Stopper(stop_after), list[Event]()

    def emit(event: Event) -> None:
        events.append(event)
        stopper.see(event)

    train(Run(recipe, chosen, part, part, HASHES, folder, emit, stopper), current)
    return current, events


def weights_hash(current: state.TrainState) -> str:
    return checkpoint.weights_hash(current.evaluated.state_dict())
