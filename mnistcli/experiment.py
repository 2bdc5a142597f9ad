"""One run or several seeds from start to result: joins recipe, data, engine and results."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mnistcli.audit import audit
from mnistcli.data import mnist
from mnistcli.engine import checkpoint, runtime, state
from mnistcli.engine.evaluate import Evaluation, evaluate
from mnistcli.engine.runtime import Request, Runtime
from mnistcli.engine.train import Run, train
from mnistcli.errors import EnvironmentFault
from mnistcli.events import Emit, Notice, RunStarted
from mnistcli.models.registry import ModelEntry
from mnistcli.recipe import Recipe
from mnistcli.results import goal, result, runlog
from mnistcli.results.goal import Limits
from mnistcli.results.resume import Resume, Saved, locate


@dataclass(frozen=True)
class Plan:
    """What the user asked for, resolved. `out` is the run's folder, or with several seeds the
    parent of theirs; `resume` is False, "auto" or the folder to continue."""

    entry: ModelEntry
    recipe: Recipe
    recipe_name: str
    changes: tuple[str, ...]
    seeds: tuple[int, ...]
    data_dir: Path | None
    out: Path | None
    resume: Resume
    limits: Limits
    request: Request


@dataclass(frozen=True)
class Outside:
    """What connects a run to the process around it."""

    emit: Emit
    should_stop: Callable[[], int | None]


def run_seeds(plan: Plan, outside: Outside) -> list[dict[str, Any]]:
    """Train every seed in turn, the compiled network reused; return their results in order."""
    chosen = runtime.decide(plan.request)
    dataset = mnist.load(plan.data_dir)
    images = len(dataset.train.labels) * plan.recipe.epochs * len(plan.seeds)
    chosen = runtime.choose_compile(chosen, plan.request.compile, images_to_train=images)
    if chosen.device_reason is not None:
        outside.emit(Notice(f"the NVIDIA device is not used: {chosen.device_reason}"))
    if chosen.compile_reason is not None:
        outside.emit(Notice(f"not compiled: {chosen.compile_reason}"))
    done: list[dict[str, Any]] = []
    compiled: dict[Runtime, nn.Module] = {}
    for seed in plan.seeds:
        one = replace(plan, recipe=plan.recipe.model_copy(update={"seed": seed}))
        out = plan.out / f"s{seed}" if plan.out is not None and len(plan.seeds) > 1 else plan.out
        folder, saved = locate(one.recipe, out, plan.resume, dataset.hashes, outside.emit)
        with runlog.lock(folder):
            finished = saved is not None and saved["training"] is None
            record = runlog.read_json(folder / "result.json") if finished else None
            if record is None:
                record = _run_one(one, dataset, chosen, (folder, saved), compiled, outside)
            else:
                outside.emit(Notice(f"already finished: {folder}"))
        done.append(record | {"run": str(folder)})
    return done


def _run_one(
    plan: Plan,
    dataset: mnist.Dataset,
    chosen: Runtime,
    place: tuple[Path, Saved],
    compiled: dict[Runtime, nn.Module],
    outside: Outside,
) -> dict[str, Any]:
    """Train one seed in its folder, from scratch or from its checkpoint, and write its result."""
    folder, saved = place
    if saved is not None:
        chosen, unlike = runtime.restore(saved["runtime"], plan.request)
        if unlike:
            outside.emit(Notice(f"not bit-identical to an uninterrupted run: {', '.join(unlike)}"))
    parts = (
        mnist.validation_parts(dataset) if plan.recipe.validation else (dataset.train, dataset.test)
    )
    training, evaluation = (part.to(chosen.torch_device) for part in parts)
    if saved is None:
        runlog.write_recipe(folder, plan.recipe)
        environment = result.environment() | {"runtime": chosen.to_dict(), **state.versions()}
        runlog.write_json(folder / "env.json", environment)
    try:
        current = state.create(plan.entry, plan.recipe, chosen, compiled.get(chosen))
        compiled[chosen] = current.model
        if saved is not None:
            state.restore(current, saved, where=str(folder))
        run = Run(
            plan.recipe, chosen, training, evaluation, dataset.hashes, folder,
            outside.emit, outside.should_stop,
        )  # fmt: skip
        outside.emit(_started(plan, run, current))
        last = train(run, current)
        if last is None:  # trained before, killed before its result was written
            assert saved is not None
            checkpoint.load_weights(current.evaluated, saved["weights"], where=str(folder))
            last = evaluate(current.evaluated, evaluation)
    except torch.OutOfMemoryError as error:
        raise EnvironmentFault(
            f"out of memory on {chosen.device}: {str(error).splitlines()[0]}",
            hint=f"--batch-size {max(1, plan.recipe.batch_size // 2)}",
        ) from error
    return _write_result(plan, run, current, last, dataset)


def _started(plan: Plan, run: Run, current: state.TrainState) -> RunStarted:
    return RunStarted(
        model=plan.entry.name,
        parameters=sum(p.numel() for p in current.model.parameters()),
        recipe=plan.recipe_name,
        changes=plan.changes,
        seed=plan.recipe.seed,
        epochs=plan.recipe.epochs,
        split=run.split,
        train_images=len(run.training.images),
        runtime=run.runtime.to_dict(),
        run_dir=str(run.folder),
        history=tuple(current.history),
    )


def _write_result(
    plan: Plan, run: Run, current: state.TrainState, last: Evaluation, dataset: mnist.Dataset
) -> dict[str, Any]:
    """Write predictions.pt and result.json; return the result."""
    checkpoint.write(
        run.folder / "predictions.pt",
        {
            "split": run.split,
            "data": dataset.hashes,
            "predictions": last.predictions,
            "correct": last.predictions == run.evaluation.labels.cpu(),
        },
    )
    history = current.history
    audited = audit(plan.entry, plan.recipe.model_args)
    counts = [(metrics.eval_correct, metrics.eval_total) for metrics in history]
    checks = goal.judge(audited.parameters, len(history), counts, plan.limits)
    record = result.build(plan.recipe, plan.recipe_name, plan.changes, history) | {
        "parameters": audited.parameters,
        "mult_adds": audited.mult_adds,
        "receptive_field": audited.receptive_field,
        "goal": result.goal(checks),
        "weights_sha256": checkpoint.weights_hash(current.evaluated.state_dict()),
        "data": dataset.digest,
        "runtime": run.runtime.to_dict(),
        "versions": state.versions(),
        "environment": result.environment(),
    }
    runlog.write_json(run.folder / "result.json", record)
    return record
