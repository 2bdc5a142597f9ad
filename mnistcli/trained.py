"""Open a trained network from a file, a run folder or a registered name, and assess it."""

from __future__ import annotations

import os.path
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mnistcli.data import mnist
from mnistcli.engine import checkpoint, runtime
from mnistcli.engine.evaluate import Evaluation, evaluate, mistakes, read
from mnistcli.engine.runtime import Runtime
from mnistcli.errors import ArtifactError, UsageError
from mnistcli.events import Mistake, Prediction
from mnistcli.files import packaged
from mnistcli.models.registry import MODELS, ModelEntry, build, resolve
from mnistcli.recipe import Recipe, validate
from mnistcli.results.confusion import confusion, per_class, worst_pairs
from mnistcli.results.goal import Check, Limits, judge
from mnistcli.results.result import accuracy_dict, follows_test, goal


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
        path = path / "last.pt" if os.path.isdir(path) else path
        hint = f"a checkpoint file, a run folder, or one of {', '.join(MODELS)}"
    if not os.path.isfile(path):
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
        problem = checkpoint.mismatch(build(entry, {}), saved["weights"])
        what = f"checkpoint is for {saved['model']}, not for {entry.name}"
        raise ArtifactError(f"{what}: it {problem}" if problem else what, where=str(path))
    try:
        return build(entry, model_args)
    except UsageError as error:  # the file's words, not the user's
        raise ArtifactError(f"checkpoint's recipe: {error}", where=str(path)) from error


@dataclass(frozen=True)
class Assessment:
    """What an evaluation found: plain values for people and scripts, and the raw predictions.

    `mistakes` are the misread pictures, the surest first.
    """

    report: dict[str, Any]
    checks: list[Check]
    labels: list[int]
    evaluation: Evaluation
    mistakes: tuple[Mistake, ...]


def assess(
    trained: Trained, dataset: mnist.Dataset, chosen: Runtime, limits: Limits, *, val: bool
) -> Assessment:
    """Evaluate on the test set, or with `val` on the validation split, and judge the goal.

    Raises:
        UsageError: `val`, and the network was trained on those very pictures.
    """
    same_data = trained.data == dataset.hashes
    if val and not (trained.recipe.validation and same_data):
        raise UsageError(
            "not held out: this network was trained on the validation pictures",
            where=str(trained.path),
            hint="evaluate without --val, or train with --val",
        )
    pictures = mnist.validation_parts(dataset)[1] if val else dataset.test
    found = evaluate(trained.model, pictures.to(chosen.torch_device))
    split = "validation" if val else "test"
    checks = _judge(trained, found, limits, same_pictures=same_data, split=split)
    labels: list[int] = pictures.labels.tolist()
    wrong = mistakes(pictures, found)
    report = _report(trained, found, labels, split, same_data) | {
        "misclassified": [
            {
                "index": one.index,
                "true": one.label,
                "predicted": one.prediction,
                "confidence": one.confidence,
            }
            for one in wrong
        ],
        "goal": goal(checks),
    }
    return Assessment(report, checks, labels, found, wrong)


def _judge(
    trained: Trained, found: Evaluation, limits: Limits, *, same_pictures: bool, split: str
) -> list[Check]:
    """Judge the goal; a picked epoch leaves open what the last ones reached.

    The epochs before the last count only where they were evaluated on the same pictures.
    """
    history = trained.history
    same_pictures &= bool(history) and history[-1]["split"] == split
    earlier = [(m["eval_correct"], m["eval_total"]) for m in history[:-1]] if same_pictures else []
    counts = [*earlier, (found.correct, found.total)]
    if trained.picked_on is None:
        return judge(trained.parameters, len(history) or None, counts, limits)
    checks = judge(trained.parameters, trained.recipe.epochs, counts, limits)
    mark = f" (epoch picked on {trained.picked_on})"
    return [
        replace(check, got=check.got + mark, passed=None)
        if check.gate in ("accuracy", "last3")
        else check
        for check in checks
    ]


def _report(
    trained: Trained, found: Evaluation, labels: list[int], split: str, same_data: bool
) -> dict[str, Any]:
    matrix = confusion(labels, found.predictions.tolist())
    return {
        "model": trained.entry.name,
        "path": str(trained.path),
        "parameters": trained.parameters,
        "epoch": len(trained.history),
        "picked_on": trained.picked_on,
        "seed": trained.recipe.seed,
        "follows_test": follows_test(trained.recipe),
        "distilled": trained.recipe.distillation is not None,
        "trained_on_this_data": same_data,
        "split": split,
        **accuracy_dict(found.correct, found.total),
        "loss": found.loss,
        "classes": per_class(matrix),
        "confusion": matrix,
        "worst_pairs": worst_pairs(matrix),
    }


def predict_files(
    trained: Trained, paths: Sequence[Path], chosen: Runtime
) -> tuple[list[Prediction], list[ArtifactError]]:
    """Return what the network reads in each picture file, and why others can't be read."""
    from mnistcli.data.picture import read_picture

    pictures, faults = [], []
    for path in paths:
        try:
            pictures.append((path, read_picture(path)))
        except ArtifactError as fault:
            faults.append(fault)
    if not pictures:
        return [], faults
    pixels = torch.stack([one.pixels for _, one in pictures])
    shares = read(trained.model, pixels.to(chosen.torch_device)).softmax(dim=1).cpu()
    best = shares.topk(3, dim=1)
    found = [
        Prediction(str(path), one.width, one.height, one.polarity,
                   tuple(zip(digits.tolist(), values.tolist(), strict=True)),
                   one.pixels.numpy().tobytes())
        for (path, one), values, digits in zip(pictures, *best, strict=True)
    ]  # fmt: skip
    return found, faults
