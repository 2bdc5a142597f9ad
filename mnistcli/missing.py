"""Train what a comparison lacks, and only that."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mnistcli.experiment import run_seeds
from mnistcli.results.comparison import MNIST_DIGEST
from mnistcli.results.gather import published
from mnistcli.setting import Outside, Plan


def complete(plan: Plan, outside: Outside) -> list[dict[str, Any]]:
    """Return one result for each seed of the plan: published, on disk below ./checkpoints, or
    trained now.

    A published run counts where recipe and data are the plan's; an unfinished one on disk is
    continued.
    """
    wanted = (plan.recipe.model, plan.recipe.digest(), MNIST_DIGEST)
    known = {
        result["seed"]: result
        for result in (published() if plan.data_dir is None else ())
        if (result["model"], result["recipe_digest"], result["data"]) == wanted
    }
    missing = tuple(seed for seed in plan.seeds if seed not in known)
    found = [known[seed] for seed in plan.seeds if seed in known]
    if not missing:
        return found
    return found + run_seeds(replace(plan, seeds=missing, out=None, resume="auto"), outside)
