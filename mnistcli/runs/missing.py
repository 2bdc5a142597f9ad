"""Train the seeds that a comparison lacks, and no others."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from mnistcli.engine.ranks import Ranks
from mnistcli.errors import BusyError, DivergedError, SetError
from mnistcli.events import Emit, Notice, ShouldStop
from mnistcli.models.registry import file_name
from mnistcli.results import setlog
from mnistcli.results.comparison import MNIST_DIGEST, device_kind
from mnistcli.results.gather import published
from mnistcli.runs.plan import Plan
from mnistcli.runs.sets import run_set
from mnistcli.runs.single import run_one


def complete(plan: Plan, emit: Emit, should_stop: ShouldStop) -> list[dict[str, Any]]:
    """Return one result for each seed of the plan: published, on disk below ./checkpoints, or
    trained now.

    A published run counts where recipe and data are the plan's, on the kind of device that has
    most of them; an unfinished one on disk is continued. A seed that diverges is named in a
    notice, and left out.

    Raises:
        MnistcliError: no seed has a result, or none would have one.
    """
    wanted = (plan.recipe.model, plan.recipe.digest(), MNIST_DIGEST)
    known = _of_one_kind(
        result
        for result in (published() if plan.data_dir is None else ())
        if (result["model"], result["recipe_digest"], result["data"]) == wanted
    )
    missing = tuple(seed for seed in plan.seeds if seed not in known)
    found = [known[seed] for seed in plan.seeds if seed in known]
    if missing:
        plan = replace(plan, seeds=missing, out=None, resume="auto")
        trained = _train(plan, emit, should_stop, needed=not found)
        below = str(Path("checkpoints", file_name(plan.recipe.model)).resolve())
        found += [one | {"origin": below} for one in trained]  # in whatever folder below it
    return found


def _train(
    plan: Plan, emit: Emit, should_stop: ShouldStop, *, needed: bool
) -> list[dict[str, Any]]:
    """Train the plan's seeds; a fault is raised where it ended all, or a result is `needed`."""
    if len(plan.seeds) > 1:
        return _train_set(plan, emit, should_stop, needed=needed)
    try:
        return [run_one(plan, emit, should_stop)]
    except (DivergedError, BusyError) as fault:
        if needed:
            raise
        what = f"seed {plan.seeds[0]} has no result (exit code {fault.exit_code}): {fault}"
        emit(Notice(what))
        return []


def _train_set(
    plan: Plan, emit: Emit, should_stop: ShouldStop, *, needed: bool
) -> list[dict[str, Any]]:
    plan = run_set(plan, Ranks(), emit, should_stop)
    rows = setlog.read(plan.folder)["rows"]
    results, fault = setlog.results(rows, plan.limits), setlog.first_fault(rows)
    if fault is not None and (setlog.ends_set(fault) or (needed and not results)):
        what = f"seed {fault['seed']}: {fault['error']}"
        raise SetError(what, {}, exit_code=fault["exit_code"], hint=fault["hint"])
    return results


def _of_one_kind(results: Iterable[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """Return the runs by seed of the kind of device that has most of them."""
    kinds: dict[str, dict[int, dict[str, Any]]] = {}
    for result in results:
        kinds.setdefault(device_kind(result), {})[result["seed"]] = result
    return max(kinds.values(), key=len, default={})
