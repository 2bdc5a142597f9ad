"""Train what a comparison lacks, and only that."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from mnistcli.experiment import run_seeds
from mnistcli.results.comparison import MNIST_DIGEST, device_kind
from mnistcli.results.gather import published
from mnistcli.setting import Outside, Plan


def complete(plan: Plan, outside: Outside) -> list[dict[str, Any]]:
    """Return one result for each seed of the plan: published, on disk below ./checkpoints, or
    trained now.

    A published run counts where recipe and data are the plan's, on the kind of device that has
    most of them; an unfinished one on disk is continued.
    """
    wanted = (plan.recipe.model, plan.recipe.digest(), MNIST_DIGEST)
    known = _of_one_kind(
        result
        for result in (published() if plan.data_dir is None else ())
        if (result["model"], result["recipe_digest"], result["data"]) == wanted
    )
    missing = tuple(seed for seed in plan.seeds if seed not in known)
    found = [known[seed] for seed in plan.seeds if seed in known]
    if not missing:
        return found
    return found + run_seeds(replace(plan, seeds=missing, out=None, resume="auto"), outside)


def _of_one_kind(results: Iterable[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """Return the runs by seed of the kind of device that has most of them."""
    kinds: dict[str, dict[int, dict[str, Any]]] = {}
    for result in results:
        kinds.setdefault(device_kind(result), {})[result["seed"]] = result
    return max(kinds.values(), key=len, default={})
