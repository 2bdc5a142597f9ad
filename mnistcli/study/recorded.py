"""A study answered from recorded runs: what published records and run folders say of its arms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mnistcli.results.comparison import machine
from mnistcli.results.gather import Result
from mnistcli.study import answer
from mnistcli.study.design import StudyPlan
from mnistcli.study.stages import Step


def recorded(plan: StudyPlan, results: Sequence[Result]) -> list[dict[str, Any]]:
    """Return a table for each kind of machine that has runs of the study's arms.

    An arm's runs are found by its recipe's digest; a second run of a seed is left out. Arms of
    which a kind has no run are no rows; without runs of the base nothing is compared.
    """
    digests = {arm.recipe.digest(): arm.name for arm in plan.arms.all}
    kinds: dict[tuple[Any, ...], dict[str, dict[int, Result]]] = {}
    for one in results:
        if (name := digests.get(one["recipe_digest"])) is not None:
            arms = kinds.setdefault(answer.kind_of(one), {})
            arms.setdefault(name, {}).setdefault(one["seed"], one)
    return [_of_kind(plan, arms) for arms in kinds.values()]


def _of_kind(plan: StudyPlan, arms: dict[str, dict[int, Result]]) -> dict[str, Any]:
    base = plan.arms.base.name
    names = [base, *(a.name for a in plan.arms.challengers if a.name in arms)]
    entries = [answer.entry(name, list(arms.get(name, {}).values()), 0) for name in names]
    most = max(len(one.results) for one in entries)
    step = Step("recorded", tuple(range(most)), max(1, len(names) - 1), keep=1)
    rows = answer.table(step, entries, plan.margin)
    for row in rows:
        row["seeds"], row["changes"] = row["n"], list(plan.arms.named(row["arm"]).typed)
    machines = sorted({machine(one) for entry in entries for one in entry.results})
    return {"machines": machines, "table": [row for row in rows if row["n"]]}
