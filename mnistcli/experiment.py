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
from mnistcli.engine.evaluate import Evaluation, evaluate, mistakes
from mnistcli.engine.runtime import Request, Runtime
from mnistcli.engine.train import Run, train
from mnistcli.events import Emit, Notice, RunRecorded, RunStarted
from mnistcli.models.registry import ModelEntry, build
from mnistcli.recipe import Recipe
from mnistcli.results import goal, result, runlog
from mnistcli.results.confusion import confusion
from mnistcli.results.goal import Limits
from mnistcli.results.resume import Resume, Saved, locate, open_run


@dataclass(frozen=True)
class Plan:
    """What the user asked for, resolved.

    `out` is the run's folder, or with several seeds the parent of theirs; `resume` is False,
    "auto" or the folder to continue; `limits` are for the verdict.
    """

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

    def out_of(self, seed: int) -> Path | None:
        """Return the folder that was named for a seed's run."""
        return self.out / f"s{seed}" if self.out is not None and len(self.seeds) > 1 else self.out


@dataclass(frozen=True)
class Outside:
    """What connects a run to the process around it."""

    emit: Emit
    should_stop: Callable[[], int | None]


@dataclass(frozen=True)
class Setting:
    """What all runs of a process share; `compiled` holds the network of each runtime for reuse."""

    dataset: mnist.Dataset
    runtime: Runtime
    outside: Outside
    compiled: dict[Runtime, nn.Module]


def run_seeds(plan: Plan, outside: Outside) -> list[dict[str, Any]]:
    """Train every seed in turn, the compiled network reused; return their results in order."""
    dataset, chosen = prepare(plan, outside.emit)
    setting = Setting(dataset, chosen, outside, {})
    return [_run_seed(plan, seed, setting) for seed in plan.seeds]


def prepare(plan: Plan, emit: Emit) -> tuple[mnist.Dataset, Runtime]:
    """Check the network, decide the runtime, read the data; nothing is made yet."""
    build(plan.entry, plan.recipe.model_args)  # a broken network is found before anything is made
    chosen = runtime.decide(plan.request)
    dataset = mnist.load(plan.data_dir)
    images = len(dataset.train.labels) * plan.recipe.epochs * len(plan.seeds)
    chosen = runtime.choose_compile(chosen, plan.request.compile, images_to_train=images)
    if chosen.device_reason is not None:
        emit(Notice(f"the NVIDIA device is not used: {chosen.device_reason}"))
    if chosen.compile_reason is not None:
        emit(Notice(f"not compiled: {chosen.compile_reason}"))
    return dataset, chosen


def parts(dataset: mnist.Dataset, recipe: Recipe) -> tuple[mnist.Labelled, mnist.Labelled]:
    """Return the pictures to train on and to evaluate on."""
    return mnist.validation_parts(dataset) if recipe.validation else (dataset.train, dataset.test)


def announce(unlike: tuple[str, ...], emit: Emit) -> None:
    """Say what keeps a resumed run from being bit-identical."""
    if unlike:
        emit(Notice(f"not bit-identical to an uninterrupted run: {', '.join(unlike)}"))


def _run_seed(plan: Plan, seed: int, setting: Setting) -> dict[str, Any]:
    """Train one seed in its own folder, or return the result that is there already."""
    plan = replace(plan, recipe=plan.recipe.model_copy(update={"seed": seed}))
    hashes, emit = setting.dataset.hashes, setting.outside.emit
    folder = locate(plan.recipe, plan.out_of(seed), plan.resume, hashes)
    with runlog.lock(folder):
        saved = open_run(folder, plan.recipe, plan.resume, hashes, emit)
        finished = saved is not None and saved["training"] is None
        record = runlog.read_json(folder / "result.json") if finished else None
        if record is None:
            record = _run_one(plan, folder, saved, setting)
        else:
            emit(Notice(f"already finished: {folder}"))
    checks = goal.judge_result(record, plan.limits)
    return record | {"run": str(folder), "goal": result.goal(checks)}


def _run_one(plan: Plan, folder: Path, saved: Saved, setting: Setting) -> dict[str, Any]:
    """Train from scratch or from a checkpoint, and write the result."""
    dataset, chosen, outside = setting.dataset, setting.runtime, setting.outside
    if saved is None:
        runlog.write_recipe(folder, plan.recipe)
    else:
        chosen, unlike = runtime.restore(saved["runtime"], plan.request)
        announce(unlike, outside.emit)
    runtime.use_threads(chosen.threads)
    environment = {"started": result.now(), "runtime": chosen.to_dict(), **state.versions()}
    runlog.write_json(folder / "env.json", result.environment() | environment)
    placed = (part.to(chosen.torch_device) for part in parts(dataset, plan.recipe))
    training, evaluation = placed
    current = state.create(plan.entry, plan.recipe, chosen, setting.compiled.get(chosen))
    setting.compiled[chosen] = current.model
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
    record = _write_result(plan, run, current, last, dataset)
    outside.emit(_recorded(plan, run, current, last))
    return record


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
            "labels": run.evaluation.labels.cpu().to(torch.uint8),
            "predictions": last.predictions,
            "confidences": last.confidences,
            "correct": last.predictions == run.evaluation.labels.cpu(),
        },
    )
    history = current.history
    audited = audit(plan.entry, plan.recipe.model_args)
    record = result.build(plan.recipe, plan.recipe_name, plan.changes, history) | {
        "parameters": audited.parameters,
        "mult_adds": audited.mult_adds,
        "receptive_field": audited.receptive_field,
        "weights_sha256": checkpoint.weights_hash(current.evaluated.state_dict()),
        "data": dataset.digest,
        "runtime": run.runtime.to_dict(),
        "versions": state.versions(),
        "environment": result.environment() | {"finished": result.now()},
    }
    runlog.write_json(run.folder / "result.json", record)
    return record


def _recorded(plan: Plan, run: Run, current: state.TrainState, last: Evaluation) -> RunRecorded:
    return RunRecorded(
        run_dir=str(run.folder),
        model=plan.entry.name,
        seed=plan.recipe.seed,
        history=tuple(current.history),
        confusion=confusion(run.evaluation.labels.tolist(), last.predictions.tolist()),
        mistakes=mistakes(run.evaluation, last),
        target=plan.limits.target,
    )
