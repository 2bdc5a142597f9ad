"""What a finished run leaves: predictions, result.json, and what its pictures are drawn from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mnistcli.audit import audit
from mnistcli.data.mnist import Labelled
from mnistcli.engine import checkpoint, state
from mnistcli.engine.evaluate import Evaluation, mistakes
from mnistcli.engine.run import Run
from mnistcli.errors import ArtifactError, NotReadable
from mnistcli.events import EpochMetrics, RunRecorded
from mnistcli.results import figures, runlog, stored
from mnistcli.results.confusion import confusion
from mnistcli.runs.plan import Plan


def believed(plan: Plan, folder: Path, saved: dict[str, Any]) -> dict[str, Any] | None:
    """Return a finished run's result where its checkpoint, the truth, gives the same; else None.

    Names are not compared: a later version may call the same recipe otherwise.
    """
    try:
        record = stored.of_folder(folder)
    except NotReadable:
        raise
    except ArtifactError:
        return None
    history = [EpochMetrics(**metrics) for metrics in saved["history"]]
    derived = _derived(plan, history, saved["weights"])
    names = {"schema", "recipe", "changes", "recipe_values"}
    same = all(record.get(key) == derived[key] for key in derived.keys() - names)
    return record if same else None


def _derived(
    plan: Plan, history: Sequence[EpochMetrics], weights: dict[str, Tensor]
) -> dict[str, Any]:
    """Return the part of a result that a checkpoint decides."""
    audited = audit(plan.entry, plan.recipe.model_args)
    return figures.build(plan.recipe, plan.recipe_name, plan.changes, history) | {
        "parameters": audited.parameters,
        "mult_adds": audited.mult_adds,
        "receptive_field": audited.receptive_field,
        "weights_sha256": checkpoint.weights_hash(weights),
    }


def write_result(
    plan: Plan, run: Run, current: state.TrainState, last: Evaluation, facts: dict[str, Any]
) -> dict[str, Any]:
    """Write predictions.pt and result.json, with what the run was made of; return the result."""
    checkpoint.write(
        run.folder / "predictions.pt",
        {
            "split": run.split,
            "data": run.data_hashes,
            "labels": run.evaluation.labels.cpu().to(torch.uint8),
            "predictions": last.predictions,
            "confidences": last.confidences,
            "correct": last.predictions == run.evaluation.labels.cpu(),
        },
    )
    record = _derived(plan, current.history, current.evaluated.state_dict()) | {
        **facts,
        "environment": figures.environment() | {"finished": figures.now()},
    }
    runlog.write_json(run.folder / "result.json", record)
    return record


def recorded(
    plan: Plan,
    folder: Path,
    history: tuple[EpochMetrics, ...],
    evaluation: Labelled,
    last: Evaluation,
) -> RunRecorded:
    return RunRecorded(
        run_dir=str(folder),
        model=plan.entry.name,
        seed=plan.recipe.seed,
        history=history,
        confusion=confusion(evaluation.labels.tolist(), last.predictions.tolist()),
        mistakes=mistakes(evaluation, last),
        target=plan.limits.target,
    )
