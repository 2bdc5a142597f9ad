"""What a trained network makes of pictures: the test set's, or a person's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from mnistcli.data import mnist
from mnistcli.engine.evaluate import Evaluation, mistakes, score
from mnistcli.engine.runtime import Runtime
from mnistcli.errors import ArtifactError, UsageError
from mnistcli.events import Mistake, Prediction
from mnistcli.export.int8 import integer_logits
from mnistcli.results.confusion import confusion, per_class, worst_pairs
from mnistcli.results.figures import accuracy_dict, follows_test, goal
from mnistcli.results.goal import Check, Limits, judge
from mnistcli.runs.trained import Trained, logits_of


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
    trained: Trained, dataset: mnist.Dataset, chosen: Runtime, limits: Limits, *, val: bool,
    precision: str = "fp32",
) -> Assessment:  # fmt: skip
    """Evaluate on the test set, or with `val` on the validation split, and judge the goal.

    `precision` "int8" computes as `export --to c-int8` does, on the CPU.

    Raises:
        UsageError: `val`, and the network was trained on those very pictures; or int8 does not
            know a layer.
    """
    same_data = trained.data == dataset.hashes
    if val and not (trained.recipe.validation and same_data):
        raise UsageError(
            "not held out: this network was trained on the validation pictures",
            where=str(trained.path),
            hint="evaluate without --val, or train with --val",
        )
    pictures = mnist.validation_parts(dataset)[1] if val else dataset.test
    if precision == "int8":
        found = score(integer_logits(trained, dataset, pictures.images), pictures.labels)
    else:
        pictures = pictures.to(chosen.torch_device)
        found = score(logits_of(trained, pictures.images), pictures.labels)
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
        "precision": precision,
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
    from mnistcli.data.doubt import doubt
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
    shares = logits_of(trained, pixels.to(chosen.torch_device)).softmax(dim=1).cpu()
    best = shares.topk(3, dim=1)
    found = [
        Prediction(str(path), one.width, one.height, one.polarity,
                   tuple(zip(digits.tolist(), values.tolist(), strict=True)),
                   doubt(one, float(values[0])), one.pixels.numpy().tobytes())
        for (path, one), values, digits in zip(pictures, *best, strict=True)
    ]  # fmt: skip
    return found, faults
