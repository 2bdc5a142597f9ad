"""One run or several seeds from start to result: joins recipe, data, engine and results."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from mnistcli.audit import audit
from mnistcli.data import mnist
from mnistcli.engine import checkpoint, runtime, state
from mnistcli.engine.evaluate import Evaluation, evaluate
from mnistcli.engine.parallel import ALONE, Group
from mnistcli.engine.runtime import Request, Runtime
from mnistcli.engine.train import Run, train
from mnistcli.errors import ArtifactError, DivergedError
from mnistcli.events import Emit, Notice, RunKept, RunStarted
from mnistcli.models.registry import ModelEntry, build
from mnistcli.recipe import Recipe
from mnistcli.results import goal, result, runlog
from mnistcli.results.goal import Limits
from mnistcli.results.resume import Resume, Saved, locate, open_run


@dataclass(frozen=True)
class Plan:
    """What the user asked for, resolved.

    `out` is the run's folder, or with several seeds the parent of theirs; `resume` is False,
    "auto" or the folder to continue; `limits` are for the verdict, `require` the gates that a set
    of runs must pass. Under torch's launcher the ranks share out whole runs, or with `parallel`
    "data" each run.
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
    require: tuple[str, ...] = ()
    parallel: str = "runs"


@dataclass(frozen=True)
class Outside:
    """What connects a run to the process around it."""

    emit: Emit
    should_stop: Callable[[], int | None]


@dataclass(frozen=True)
class Setting:
    """What all runs of a process share; `compiled` holds the network of each runtime for reuse.

    `group` are the ranks that train each run together.
    """

    dataset: mnist.Dataset
    runtime: Runtime
    outside: Outside
    compiled: dict[Runtime, nn.Module]
    group: Group = ALONE


def run_seeds(plan: Plan, outside: Outside) -> list[dict[str, Any]]:
    """Train every seed in turn, the compiled network reused; return their results in order."""
    setting = prepare(plan, outside)
    return [run_seed(plan, seed, setting) for seed in plan.seeds]


def prepare(plan: Plan, outside: Outside) -> Setting:
    """Check the network, choose device and compilation, read the data: once for all seeds.

    Compilation is chosen by the pictures of all seeds, whoever trains them: runs are the same
    from one process and from many.
    """
    build(plan.entry, plan.recipe.model_args)  # a broken network is found before anything is made
    chosen = runtime.decide(plan.request)
    dataset = mnist.load(plan.data_dir)
    images = len(dataset.train.labels) * plan.recipe.epochs * len(plan.seeds)
    asked = plan.request.compile
    if plan.parallel == "data" and asked == "auto":
        asked = "off"  # nobody has measured yet that it pays around DDP
    chosen = runtime.choose_compile(chosen, asked, images_to_train=images)
    if chosen.device_reason is not None:
        outside.emit(Notice(f"the NVIDIA device is not used: {chosen.device_reason}"))
    if chosen.compile_reason is not None:
        outside.emit(Notice(f"not compiled: {chosen.compile_reason}"))
    return Setting(dataset, chosen, outside, {})


def run_seed(plan: Plan, seed: int, setting: Setting) -> dict[str, Any]:
    """Train one seed in its own folder, or return the result that is there already."""
    plan = replace(plan, recipe=plan.recipe.model_copy(update={"seed": seed}))
    hashes, emit = setting.dataset.hashes, setting.outside.emit
    out = plan.out / f"s{seed}" if plan.out is not None and len(plan.seeds) > 1 else plan.out
    folder = locate(plan.recipe, out, plan.resume, hashes)
    with runlog.lock(folder):
        saved = open_run(folder, plan.recipe, plan.resume, hashes, emit)
        finished = saved is not None and saved["training"] is None
        record = runlog.read_json(folder / "result.json") if finished else None
        if record is None:
            setting.group.first(lambda: (seed, saved))
            record = _run_one(plan, folder, saved, setting)
        else:
            emit(RunKept(f"already finished: {folder}"))
    checks = goal.judge_result(record, plan.limits)
    return record | {"run": str(folder), "goal": result.goal(checks)}


def _run_one(plan: Plan, folder: Path, saved: Saved, setting: Setting) -> dict[str, Any]:
    """Train from scratch or from a checkpoint, and write the result."""
    chosen = _runtime(plan, saved, setting)
    if saved is None:
        runlog.write_recipe(folder, plan.recipe)
    environment = {"started": result.now(), "runtime": chosen.to_dict(), **state.versions()}
    runlog.write_json(folder / "env.json", result.environment() | environment)
    run, current = _set_up(plan, folder, saved, setting, chosen)
    setting.outside.emit(_started(plan, run, current))
    last = train(run, current)
    if last is None:  # trained before, killed before its result was written
        assert saved is not None
        checkpoint.load_weights(current.evaluated, saved["weights"], where=str(folder))
        last = evaluate(current.evaluated, run.evaluation)
    return _write_result(plan, run, current, last, setting.dataset)


def follow(plan: Plan, setting: Setting) -> None:
    """Train along with the first rank, which opens the runs and says when there are no more.

    Nothing is written here; what is wrong with a run is so on all ranks, and the first records it.
    """
    task: tuple[int, Saved] | None
    while (task := setting.group.first()) is not None:
        seed, saved = task
        plan = replace(plan, recipe=plan.recipe.model_copy(update={"seed": seed}))
        with contextlib.suppress(ArtifactError, DivergedError):
            chosen = _runtime(plan, saved, setting)
            train(*_set_up(plan, Path(), saved, setting, chosen))


def _runtime(plan: Plan, saved: Saved, setting: Setting) -> Runtime:
    """Return the runtime of a new run, or as near as it comes to that of a saved one."""
    chosen = setting.runtime
    if saved is not None:
        chosen, unlike = runtime.restore(saved["runtime"], plan.request)
        if unlike:
            text = f"not bit-identical to an uninterrupted run: {', '.join(unlike)}"
            setting.outside.emit(Notice(text))
    runtime.use_threads(chosen.threads)
    return chosen


def _set_up(
    plan: Plan, folder: Path, saved: Saved, setting: Setting, chosen: Runtime
) -> tuple[Run, state.TrainState]:
    """Return the run and its state, fresh or from its checkpoint, on the device."""
    dataset, outside, group = setting.dataset, setting.outside, setting.group
    parts = (dataset.train, dataset.test)
    if plan.recipe.validation:
        parts = mnist.validation_parts(dataset)
    training, evaluation = (part.to(chosen.torch_device) for part in parts)
    current = state.create(plan.entry, plan.recipe, chosen, setting.compiled.get(chosen))
    if group.size == 1:
        setting.compiled[chosen] = current.model
    if saved is not None:
        state.restore(current, saved, where=str(folder))
    current.forward = group.wrap(current.model, chosen.torch_device)
    run = Run(
        plan.recipe, chosen, training, evaluation, dataset.hashes, folder,
        outside.emit, group.agree(outside.should_stop), group,
    )  # fmt: skip
    return run, current


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
