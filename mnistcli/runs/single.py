"""One run from start to result: joins recipe, data, engine and results."""

from __future__ import annotations

import contextlib
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from mnistcli.engine import checkpoint, runtime, state, threads
from mnistcli.engine.evaluate import Evaluation, evaluate
from mnistcli.engine.parallel import ToldByFirst
from mnistcli.engine.run import Run
from mnistcli.engine.runtime import Runtime
from mnistcli.engine.train import train
from mnistcli.errors import ArtifactError, DivergedError, UsageError
from mnistcli.events import Emit, EpochMetrics, Notice, RunKept, RunStarted, ShouldStop
from mnistcli.models import identity, own
from mnistcli.models.registry import build
from mnistcli.results import figures, goal, runlog, sessions
from mnistcli.results.lock import lock
from mnistcli.results.sessions import Session
from mnistcli.results.writeup import PICTURES
from mnistcli.runs.outcome import believed, recorded, write_result
from mnistcli.runs.plan import Plan, Shared, prepare, restored_runtime
from mnistcli.runs.resume import TEACHER, Saved, locate, open_run


def run_one(plan: Plan, emit: Emit, should_stop: ShouldStop) -> dict[str, Any]:
    """Train the plan's only seed; return its result."""
    (seed,) = plan.seeds
    return run_seed(plan, seed, prepare(plan, emit, should_stop))


def run_seed(plan: Plan, seed: int, shared: Shared) -> dict[str, Any]:
    """Train one seed in its own folder, or return the result that is there already."""
    plan = replace(plan, recipe=plan.recipe.model_copy(update={"seed": seed}))
    basis, emit = shared.basis, shared.emit
    named = plan.out_of(seed)
    existed = named is not None and named.exists()
    folder = locate(plan.recipe, named, plan.resume, basis)
    with lock(folder), runlog.without_trace(folder, existed=existed):
        saved = open_run(folder, plan.recipe, plan.resume, basis, emit)
        if saved is not None:  # an own network keeps the name by which its run was begun
            renamed = plan.recipe.model_copy(update={"model": saved["model"]})
            plan = replace(plan, recipe=renamed)
        finished = saved is not None and saved["training"] is None
        record = believed(plan, folder, saved) if saved is not None and finished else None
        if finished and record is None:
            emit(
                Notice(
                    f"result.json is missing or does not belong to last.pt: written again: {folder}"
                )
            )
        if record is None:
            shared.group.first(lambda: (seed, saved))
            record = _train_and_record(plan, folder, saved, shared)
        else:
            emit(RunKept(f"already finished: {folder}"))
            drawn = all((folder / name).exists() for name in PICTURES)
            if plan.plots and not drawn:
                assert saved is not None
                _record_again(plan, folder, saved, shared)
    checks = goal.judge_result(record, plan.limits)
    return record | {"run": str(folder), "goal": figures.goal(checks)}


def follow(plan: Plan, shared: Shared) -> None:
    """Train along with the first rank, which opens the runs and says when there are no more.

    Nothing is written here; what is wrong with a run is so on all ranks, and the first records it.
    """
    task: tuple[int, Saved] | None
    while (task := shared.group.first()) is not None:
        seed, saved = task
        plan = replace(plan, recipe=plan.recipe.model_copy(update={"seed": seed}))
        with contextlib.suppress(ArtifactError, DivergedError, UsageError, ToldByFirst):
            chosen = _runtime(plan, saved, shared)
            run, current = _set_up(plan, Path(), saved, replace(shared, runtime=chosen))
            _train(plan, run, current)


def _train_and_record(plan: Plan, folder: Path, saved: Saved, shared: Shared) -> dict[str, Any]:
    """Train from scratch or from a checkpoint, and write the result."""
    chosen = _runtime(plan, saved, shared)
    if saved is None:
        runlog.write_recipe(folder, plan.recipe)
    shared = replace(shared, runtime=chosen)
    if sessions.env_file(folder).exists() and sessions.read(folder) is None:
        shared.emit(Notice(f"env.json can't be read: earlier sessions are lost: {folder}"))
    with sessions.logged(folder, _of_run(shared), _session(saved, chosen)) as log:
        run, current = _set_up(plan, folder, saved, shared)
        shared.emit(_started(plan, run, current))
        last = _train(plan, run, current)
        trained: dict[str, Any] = {"runtime": chosen.to_dict(), "versions": state.versions()}
        if last is None:
            assert saved is not None
            last = _evaluate_again(plan, run, current, saved)
            trained = {key: saved[key] for key in ("runtime", "versions")}
        past = {"sessions": log.close("finished")} | trained
        past |= {} if plan.visit is None else {"visit": dict(plan.visit)}
        record = write_result(plan, run, current, last, _of_run(shared) | past)
    history = tuple(current.history)
    shared.emit(recorded(plan, folder, history, run.evaluation, last))
    return record


def _record_again(plan: Plan, folder: Path, saved: dict[str, Any], shared: Shared) -> None:
    """Report a finished run again that has no pictures, killed before they were drawn."""
    model = runtime.place(build(plan.entry, plan.recipe.model_args), shared.runtime).eval()
    checkpoint.load_weights(model, saved["weights"], where=str(folder))
    _, evaluation = shared.parts(plan.recipe)
    history = tuple(EpochMetrics(**metrics) for metrics in saved["history"])
    last = evaluate(model, evaluation)
    shared.emit(recorded(plan, folder, history, evaluation, last))


def _train(plan: Plan, run: Run, current: state.TrainState) -> Evaluation | None:
    """Train; what an own network raises meanwhile is told with its line."""
    with own.faults(plan.entry, "fails in training") if plan.entry.own else nullcontext():
        return train(run, current)


def _evaluate_again(
    plan: Plan, run: Run, current: state.TrainState, saved: dict[str, Any]
) -> Evaluation:
    """Evaluate a run that is trained, and was killed before its result was written."""
    checkpoint.load_weights(current.evaluated, saved["weights"], where=str(run.folder))
    with own.faults(plan.entry, "fails in evaluation") if plan.entry.own else nullcontext():
        return evaluate(current.evaluated, run.evaluation)


def _of_run(shared: Shared) -> dict[str, Any]:
    """Return what a run was made of, as env.json holds it."""
    return {
        "network": identity.digest(shared.network),
        "data": shared.dataset.digest,
        "teacher_sha256": shared.hashes.get(TEACHER),
    }


def _session(saved: Saved, chosen: Runtime) -> Session:
    """Return the session that begins now."""
    return Session(
        started=figures.now(),
        from_epoch=0 if saved is None else len(saved["history"]),
        runtime=chosen.to_dict(),
        versions=state.versions(),
        environment=figures.environment(),
    )


def _runtime(plan: Plan, saved: Saved, shared: Shared) -> Runtime:
    """Return the runtime of a new run or of a saved one, its thread count in force."""
    chosen = shared.runtime
    if saved is not None:
        chosen = restored_runtime(plan, saved, shared.emit)
    elif chosen.threads_reason is not None:
        shared.emit(Notice(f"{chosen.threads_reason}; --threads N takes as many"))
    threads.share(chosen)
    return chosen


def _set_up(plan: Plan, folder: Path, saved: Saved, shared: Shared) -> tuple[Run, state.TrainState]:
    """Return the run and its state, fresh or from its checkpoint, on the device."""
    chosen, group = shared.runtime, shared.group
    training, evaluation = shared.parts(plan.recipe)
    current = state.create(plan.entry, plan.recipe, chosen)
    if saved is not None:
        state.restore(current, saved, where=str(folder))
    current.forward = group.wrap(current.model, plan.entry, chosen.torch_device)
    run = Run(
        plan.recipe, chosen, training, evaluation, shared.hashes, folder,
        shared.emit, group.agree(shared.should_stop), group,
        None if shared.teacher is None else state.teaching(shared.teacher.model, chosen),
        shared.network,
    )  # fmt: skip
    return run, current


def _started(plan: Plan, run: Run, current: state.TrainState) -> RunStarted:
    return RunStarted(
        model=plan.entry.name,
        parameters=sum(p.numel() for p in current.model.parameters()),
        recipe=plan.recipe_name,
        changes=plan.changes,
        optimizer=plan.recipe.optim.name,
        teacher=plan.recipe.teacher,
        seed=plan.recipe.seed,
        epochs=plan.recipe.epochs,
        split=run.split,
        train_images=len(run.training.images),
        runtime=run.runtime.to_dict(),
        run_dir=str(run.folder),
        history=tuple(current.history),
    )
