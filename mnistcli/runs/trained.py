"""Open a trained network from a file, a run folder or a registered name, and a recipe's teacher."""

from __future__ import annotations

import os
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from mnistcli.data import mnist
from mnistcli.engine import checkpoint, runtime
from mnistcli.engine.evaluate import read
from mnistcli.engine.runtime import Runtime
from mnistcli.errors import ArtifactError, UsageError, not_readable
from mnistcli.files import packaged
from mnistcli.models import own
from mnistcli.models.registry import MODELS, ModelEntry, build, resolve
from mnistcli.recipe import Recipe, validate
from mnistcli.recipe import model_args as model_args_of
from mnistcli.results.figures import follows_test
from mnistcli.results.runlog import run_folders


@dataclass(frozen=True)
class Trained:
    """A network with trained weights, in eval mode, and where they come from.

    `history` holds its epochs, `data` the hashes of the files it was trained on; `picked_on` is
    what its epoch was picked on, None for a run's last one.
    """

    model: nn.Module
    entry: ModelEntry
    recipe: Recipe
    history: list[dict[str, Any]]
    data: dict[str, str]
    picked_on: str | None
    path: Path

    @property
    def weights_sha256(self) -> str:
        """The hash of the weights, as a run records it."""
        return checkpoint.weights_hash(self.model.state_dict())

    @property
    def mult_adds(self) -> int:
        """The multiply-adds for one picture."""
        from mnistcli.audit import audit  # evaluation needs no torchinfo

        return audit(self.entry, self.recipe.model_args).mult_adds

    @property
    def parameters(self) -> int:
        """The number of parameters."""
        return sum(parameter.numel() for parameter in self.model.parameters())


def logits_of(trained: Trained, images: Tensor) -> Tensor:
    """Return what a network makes of pictures, uint8 [N, 28, 28]: logits, float32 [N, 10].

    Raises:
        ArtifactError: for a picture they are no numbers that probabilities can be made of.
        UsageError: an own network's code raises, or exits; with its line.
    """
    entry = trained.entry
    with own.faults(entry, "fails on these pictures") if entry.own else nullcontext():
        logits = read(trained.model, images)
    bad = int((~logits.softmax(dim=1).isfinite().all(dim=1)).sum())
    if bad:
        what = f"its weights give NaN for {bad:,} of {len(images):,} pictures"
        raise ArtifactError(what, where=str(trained.path))
    return logits


def find(target: str) -> Path:
    """Return the checkpoint file that a file, run folder or registered name means.

    A run folder of a registered name comes before the packaged weights.

    Raises:
        ArtifactError: there is none.
        NotReadable: this user may not look.
        UsageError: a registered name is a folder of several runs here.
    """
    folder = os.path.isdir(target)
    path = Path(target, "last.pt") if folder else Path(target)
    if os.path.isfile(path) and (folder or target not in MODELS):
        return path
    if target not in MODELS:
        try:
            os.stat(path)
        except PermissionError as error:
            raise not_readable(error, path) from error
        except (OSError, ValueError):  # ValueError: a NUL in the name
            pass
        hint = f"a checkpoint file, a run folder, or one of {', '.join(MODELS)}"
        raise ArtifactError(f"no checkpoint for {target!r}", where=str(path), hint=hint)
    if folder and (runs := run_folders(Path(target))):
        what = f"{target!r} is a packaged network, and a folder of runs here"
        raise UsageError(what, hint=f"name one run: {runs[0]}; or use another folder")
    return reference(target)


def reference(name: str) -> Path:
    """Return the file of a registered network's packaged weights.

    Raises:
        ArtifactError: it has none.
    """
    path = packaged("checkpoints", "reference", f"{name}.pt")
    if not path.is_file():
        hint = f"mnistcli train --model {name}"
        raise ArtifactError(f"no checkpoint for {name!r}", where=str(path), hint=hint)
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
    named = None if model is None else resolve(model)
    bound = checkpoint.most_bytes(own=named is not None and named.own)
    saved = checkpoint.read(path, most_bytes=bound)
    stored = saved["model"]
    if named is None and stored not in MODELS:
        raise UsageError(
            f"{path} holds the own network {stored!r}",
            hint="name its code: --model PATH.py:FACTORY",
        )
    entry = named or resolve(stored)
    recipe = validate(saved["recipe"], where=str(path))
    network = _build_for(entry, saved, path)
    checkpoint.load_weights(network, saved["weights"], where=str(path))
    data = {name: found for name, found in saved["data"].items() if name in mnist.FILES}
    origin = saved["history"], data, saved.get("picked_on")
    placed = runtime.place(network, chosen).eval().requires_grad_(False)
    return Trained(placed, entry, recipe, *origin, path)


def _build_for(entry: ModelEntry, saved: dict[str, Any], path: Path) -> nn.Module:
    """Build the network that a checkpoint's weights are for; a registered one by its own name."""
    model_args = saved["recipe"]["model_args"]
    if entry.name not in MODELS:
        return build(entry, model_args)
    if entry.name != saved["model"]:
        network = build(entry, model_args_of(entry.name))
        problem = checkpoint.mismatch(network, saved["weights"])
        what = f"checkpoint is for {saved['model']}, not for {entry.name}"
        raise ArtifactError(f"{what}: it {problem}" if problem else what, where=str(path))
    try:
        return build(entry, model_args)
    except UsageError as error:  # the file's words, not the user's
        raise ArtifactError(f"checkpoint's recipe: {error}", where=str(path)) from error


def open_teacher(recipe: Recipe, data: dict[str, str], chosen: Runtime) -> Trained | None:
    """Return the network that a recipe distils from, or None.

    A registered name means its reference weights, and for a run that is judged on the validation
    split NAME-val, the weights of a teacher that has not seen it either.

    Raises:
        ArtifactError: missing, damaged, for another network, or trained on other data.
        UsageError: no registered network, or one that knows the pictures that the run is judged on.
    """
    if recipe.distillation is None:
        return None
    target = recipe.distillation.teacher
    if target in MODELS:  # whatever lies in the current folder: a recipe means one teacher
        target = str(_held_out(target) if recipe.validation else reference(target))
    if (stored := checkpoint.read(find(target))["model"]) not in MODELS:
        what = f"{target} holds the own network {stored!r}; a teacher must be a registered network"
        raise UsageError(what, hint=", ".join(MODELS))
    teacher = open_trained(target, None, chosen)
    where = str(teacher.path)
    if recipe.validation and not teacher.recipe.validation:
        what = "the teacher was trained on the validation pictures"
        raise UsageError(what, where=where, hint="train it with --val and name its run folder")
    if teacher.picked_on == "test" or follows_test(teacher.recipe):
        what = "the teacher was chosen by its figures on the test set"
        raise UsageError(
            what, where=where, hint="a run's last.pt, whose recipe follows no test figure"
        )
    if teacher.data != data:
        hint = "--set distillation=null, or a teacher trained with this --data-dir"
        raise ArtifactError("the teacher was trained on other data", where=where, hint=hint)
    return teacher


def _held_out(name: str) -> Path:
    """Return the reference weights of a network that was trained without the validation split."""
    path = packaged("checkpoints", "reference", f"{name}-val.pt")
    if not path.is_file():
        raise ArtifactError(
            f"no reference weights of {name} trained without the validation pictures",
            hint=f"mnistcli train --model {name} --val, and name its run folder as teacher",
        )
    return path
