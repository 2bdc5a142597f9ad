"""Open the network that a recipe distils from, if it may teach."""

from __future__ import annotations

from pathlib import Path

from mnistcli.engine import checkpoint
from mnistcli.engine.runtime import Runtime
from mnistcli.errors import ArtifactError, UsageError
from mnistcli.files import packaged
from mnistcli.models.registry import MODELS
from mnistcli.recipe import Recipe
from mnistcli.results.result import follows_test
from mnistcli.trained import Trained, find, open_trained, reference


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
        what = f"{target} holds the own network {stored!r}; a teacher is a registered one"
        raise UsageError(what, hint=", ".join(MODELS))
    teacher = open_trained(target, None, chosen)
    where = str(teacher.path)
    if recipe.validation and not teacher.recipe.validation:
        what = "the teacher was trained on the validation pictures"
        raise UsageError(what, where=where, hint="train it with --val and name its run folder")
    if teacher.picked_on == "test" or follows_test(teacher.recipe):
        what = "the teacher was chosen by its figures on the test set"
        raise UsageError(
            what, where=where, hint="a run's last.pt, its recipe blind to the test set"
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
