"""Open a trained network from a file, a run folder or a registered name's reference weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from mnistcli.engine import checkpoint, runtime
from mnistcli.engine.runtime import Runtime
from mnistcli.errors import ArtifactError, UsageError
from mnistcli.files import packaged
from mnistcli.models.registry import MODELS, ModelEntry, build, resolve
from mnistcli.recipe import Recipe, validate


@dataclass(frozen=True)
class Trained:
    """A network with trained weights, in eval mode, and where they come from.

    `history` holds its epochs and `data` the hashes of the files it was trained on.
    """

    model: nn.Module
    entry: ModelEntry
    recipe: Recipe
    history: list[dict[str, Any]]
    data: dict[str, str]
    path: Path

    @property
    def parameters(self) -> int:
        """The number of parameters."""
        return sum(parameter.numel() for parameter in self.model.parameters())


def find(target: str) -> Path:
    """Return the checkpoint file that a file, run folder or registered name means.

    Raises:
        ArtifactError: there is none.
    """
    if target in MODELS:
        path = packaged("checkpoints", "reference", f"{target}.pt")
        hint = f"mnistcli train --model {target}"
    else:
        path = Path(target)
        path = path / "last.pt" if path.is_dir() else path
        hint = f"a checkpoint file, a run folder, or one of {', '.join(MODELS)}"
    if not path.is_file():
        raise ArtifactError(f"no checkpoint for {target!r}", where=str(path), hint=hint)
    return path


def open_trained(target: str, model: str | None, chosen: Runtime) -> Trained:
    """Build the network and load its weights on the chosen device.

    A registered network is built by the name in the checkpoint; an own one only from `model`,
    the user's own words.

    Raises:
        ArtifactError: missing, damaged, or for another network.
        UsageError: an own network without `model`.
    """
    path = find(target)
    saved = checkpoint.read(path)
    stored = saved["model"]
    if model is None and stored not in MODELS:
        raise UsageError(
            f"{path} holds the own network {stored!r}",
            hint="name its code: --model PATH.py:FACTORY",
        )
    entry = resolve(model or stored)
    if entry.name in MODELS and entry.name != stored:
        raise ArtifactError(f"checkpoint is for {stored}, not for {entry.name}", where=str(path))
    recipe = validate(saved["recipe"], where=str(path))
    network = build(entry, recipe.model_args)
    checkpoint.load_weights(network, saved["weights"], where=str(path))
    placed = runtime.place(network, chosen).eval().requires_grad_(False)
    return Trained(placed, entry, recipe, saved["history"], saved["data"], path)
