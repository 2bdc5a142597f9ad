"""The plan of a study: what it runs, what it can show, and what it costs, before it starts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnistcli.errors import UsageError
from mnistcli.recipe.seeds import show_seeds
from mnistcli.study import chances, precedent
from mnistcli.study.arms import Arms, resolve_arms
from mnistcli.study.precedent import Precedents, Spread
from mnistcli.study.schema import Study, read_study
from mnistcli.study.stages import RULE, Step, chance, schedule, seeds_for

_OVERHEAD = 4.0  # seconds per run beside its epochs: network, pictures, checkpoint


@dataclass(frozen=True)
class StudyPlan:
    """A study with its arms and stages resolved; shares, not points."""

    study: Study
    path: Path
    arms: Arms
    steps: tuple[Step, ...]
    spread: Spread

    @property
    def margin(self) -> float:
        """The difference worth knowing about, a share."""
        return self.study.detect / 100

    @property
    def pairs(self) -> bool:
        """Whether all arms train the base's network, so that equal seeds make pairs."""
        base = self.arms.base.recipe
        return all(
            (arm.recipe.model, arm.recipe.model_args) == (base.model, base.model_args)
            for arm in self.arms.challengers
        )

    @property
    def runs(self) -> int:
        """How many runs all stages take."""
        return sum(step.runs for step in self.steps)


def open_plan(path: Path, *, taught: bool = True) -> StudyPlan:
    """Return the plan of a study file; nothing is trained or written.

    Raises:
        UsageError: the file is wrong, or no record tells how far its seeds spread.
    """
    study = read_study(path)
    arms = resolve_arms(study, path, taught=taught)
    spread = _spread(study, arms, path)
    plan = StudyPlan(study, path, arms, (), spread)
    count = len(arms.challengers)
    needed = 0
    if study.seeds is None and study.stages is None:
        needed = seeds_for(study, count, spread.sd, pairs=plan.pairs)
    return StudyPlan(study, path, arms, schedule(study, count, needed), spread)


def _spread(study: Study, arms: Arms, path: Path) -> Spread:
    if study.sd is not None:
        return Spread(study.sd / 100, "the study file")
    models = dict.fromkeys(arm.recipe.model for arm in arms.all)
    found = Precedents(models).spread(arms.base.recipe)
    if found is None:
        what = f"no record tells how far seeds of {arms.base.recipe.model!r} spread"
        raise UsageError(what, where=str(path), hint="sd: 0.06, in points, or a few runs of it")
    return found


def describe_plan(plan: StudyPlan, here: str) -> dict[str, Any]:
    """Return the plan as plain values; `here` is this machine's processor."""
    precedents = Precedents(dict.fromkeys(arm.recipe.model for arm in plan.arms.all))
    arms = [_arm(plan, arm.name, precedents, here) for arm in plan.arms.all]
    stages = [_stage(plan, step, arms) for step in plan.steps]
    seconds = precedent.total([stage["seconds"] for stage in stages])
    return {
        "question": plan.study.question,
        "file": str(plan.path),
        "base": plan.arms.base.name,
        "arms": arms,
        "stages": stages,
        "runs": plan.runs,
        "detect": plan.margin,
        "sd": plan.spread.sd,
        "sd_source": plan.spread.source,
        "power": chance(plan.steps, plan.margin, plan.spread.sd, pairs=plan.pairs),
        "detectable": chances.effect_found(
            lambda effect: chance(plan.steps, effect, plan.spread.sd, pairs=plan.pairs)
        ),
        "paired": plan.pairs,
        "seconds": seconds,
        "rule": RULE,
    }


def _arm(plan: StudyPlan, name: str, precedents: Precedents, here: str) -> dict[str, Any]:
    arm = plan.arms.named(name)
    pace = precedents.pace(arm.recipe, here)
    return {
        "arm": name,
        "model": arm.recipe.model,
        "changes": list(arm.typed),
        "recipe_digest": arm.recipe.digest(),
        "epochs": arm.recipe.epochs,
        "searched": arm.searched,
        "seconds_per_epoch": None if pace is None else pace.seconds,
        "pace_source": None if pace is None else pace.source,
    }


def _stage(plan: StudyPlan, step: Step, arms: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what a stage costs and can do; which challengers enter a later one is not known, so
    it costs as much as the average arm."""
    n, sd = len(step.seeds), plan.spread.sd
    costs = [
        None if arm["seconds_per_epoch"] is None
        else _OVERHEAD + arm["seconds_per_epoch"] * (step.epochs or arm["epochs"])
        for arm in arms
    ]  # fmt: skip
    whole = precedent.total(costs)
    keep = {"challengers": step.entering, "keep": step.keep or step.entering}
    return {
        "stage": step.name,
        "seeds": show_seeds(step.seeds),
        "arms": step.entering + 1,
        "runs": step.runs,
        "epochs": step.epochs,
        "keep": step.keep,
        "drops": 0 if step.keep is None else step.entering - step.keep,
        "keeps_best": chances.keeps(plan.margin, sd, n, **keep),
        "flattery": chances.flattery(sd, n, step.entering),
        "decides": step.decides,
        "seconds": None if whole is None else whole / len(costs) * step.runs,
    }
