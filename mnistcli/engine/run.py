"""What one run is given, and how its failure is said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from mnistcli.data.mnist import Labelled
from mnistcli.engine.parallel import ALONE, Group
from mnistcli.engine.runtime import Runtime
from mnistcli.errors import DivergedError
from mnistcli.events import Emit, Split
from mnistcli.recipe import Recipe
from mnistcli.recipe.section import SMALLEST_LR


@dataclass(frozen=True)
class Run:
    """What a run is given: recipe, runtime, data on the device, its folder, and the outside.

    `should_stop` returns the number of a signal that asked to stop, or None; `group` are the ranks
    that train this run together, of which the first alone evaluates and writes; `teacher` is in
    eval mode and takes no gradient; `network` is the description of the network as it was built.
    """

    recipe: Recipe
    runtime: Runtime
    training: Labelled
    evaluation: Labelled
    data_hashes: dict[str, str]
    folder: Path
    emit: Emit
    should_stop: Callable[[], int | None]
    group: Group = ALONE
    teacher: nn.Module | None = None
    network: tuple[str, ...] = ()

    @property
    def split(self) -> Split:
        """What the evaluation pictures are."""
        return "validation" if self.recipe.validation else "test"


def diverged(run: Run, what: str, step: int, epoch: int, lr: float) -> DivergedError:
    """Return the error of a step whose loss, gradient or weights were not finite."""
    rates = {name: value for name, value in run.recipe.optim if name.endswith("lr")}
    lower = [f"--lr {_lower(rates.pop('lr'))}"]
    lower += [f"--set optim.{name}={_lower(rate)}" for name, rate in rates.items()]
    return DivergedError(
        f"training diverged: {what} is not finite at step {step} (epoch {epoch}, lr {lr:.3g})",
        where=str(run.folder),
        hint=f"lower the learning rate: {' '.join(lower)}, and a new --out",
    )


def _lower(lr: float) -> str:
    """Return a quarter of a learning rate, or the least that a recipe may have."""
    return f"{max(lr / 4, SMALLEST_LR):.3g}"
