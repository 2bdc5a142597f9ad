"""What `train` would do: everything is resolved and checked, nothing is made or written."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from mnistcli.audit import audit
from mnistcli.data.batches import steps_per_epoch
from mnistcli.errors import EnvironmentFault
from mnistcli.events import Emit
from mnistcli.results.goal import Check, judge_epochs, judge_parameters
from mnistcli.runs.plan import Plan, Shared, prepare, restored_runtime
from mnistcli.runs.resume import foresee, new_folder, peek
from mnistcli.runs.set_folder import foreseen, label


def rehearse(plan: Plan, emit: Emit) -> tuple[dict[str, Any], list[Check]]:
    """Return what the plan's runs would be, and the gates that are decided before they start.

    Raises:
        MnistcliError: whatever would stop the first run before its first step.
    """
    shared = prepare(plan, emit, lambda: None)
    if len(plan.seeds) > 1:
        plan = foreseen(plan, shared)
        plan = replace(plan, out=plan.out or new_folder(plan.recipe, label(plan)))
    recipe, counted = plan.recipe, audit(plan.entry, plan.recipe.model_args)
    training, evaluation = (len(part.labels) for part in shared.parts(recipe))
    steps = steps_per_epoch(training, recipe.batch_size)
    report = {
        "dry_run": True,
        "model": plan.entry.name,
        "parameters": counted.parameters,
        "mult_adds": counted.mult_adds,
        "recipe": plan.recipe_name,
        "changes": list(plan.changes),
        "optimizer": recipe.optim.name,
        "teacher": recipe.teacher,
        "epochs": recipe.epochs,
        "batch_size": recipe.batch_size,
        "steps_per_epoch": steps,
        "steps": steps * recipe.epochs,
        "train_images": training,
        "split": "validation" if recipe.validation else "test",
        "evaluation_images": evaluation,
        "data": shared.dataset.digest,
        "runs": [_run(plan, seed, shared, emit) for seed in plan.seeds],
    }
    epochs = judge_epochs(recipe.epochs, plan.limits)
    return report, [judge_parameters(counted.parameters, plan.limits), epochs]


def _run(plan: Plan, seed: int, shared: Shared, emit: Emit) -> dict[str, Any]:
    """Return a seed's folder, what is in it already, and the runtime it would get."""
    recipe = plan.recipe.model_copy(update={"seed": seed})
    folder = foresee(recipe, plan.out_of(seed), plan.resume, shared.basis)
    place = folder or new_folder(recipe, f"s{seed}")
    _check_writable(place)
    saved, chosen = None, shared.runtime
    if place.exists():
        saved = peek(place, recipe, plan.resume, shared.basis, emit)
    if saved is not None and saved["training"] is not None:
        chosen = restored_runtime(plan, saved, emit)
    started = "finished" if saved is not None and saved["training"] is None else "continued"
    return {
        "seed": seed,
        "state": "new" if saved is None else started,
        "epochs_done": 0 if saved is None else len(saved["history"]),
        "run": str(place),
        "runtime": chosen.to_dict(),
    }


def _check_writable(folder: Path) -> None:
    """Raise EnvironmentFault where the folder, or the nearest one above it, can't be written."""
    above = next(path for path in (folder, *folder.parents) if path.exists())
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        reason = "not writable" if above.is_dir() else "not a folder"
        raise EnvironmentFault(
            f"can't make run folder {folder}: {above} is {reason}", hint="name another --out"
        )
