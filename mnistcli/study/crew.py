"""What one rank of a study needs: where and how it runs, and what each arm's runs share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from mnistcli import recipe as recipes
from mnistcli.engine.runtime import Request
from mnistcli.events import Emit, Event, Notice, ShouldStop
from mnistcli.models.registry import resolve
from mnistcli.results.goal import Limits
from mnistcli.runs.plan import Plan, Shared, prepare
from mnistcli.runs.sets import attempt
from mnistcli.study.book import Row, Task, folder_of, recipe_of
from mnistcli.study.design import StudyPlan


@dataclass(frozen=True)
class Terms:
    """Where and how a study runs."""

    out: Path
    request: Request
    data_dir: Path | None = None
    jobs: int = 1


@dataclass
class Crew:
    """What one rank needs for its runs; what they share is made once for each arm of a stage."""

    plan: StudyPlan
    terms: Terms
    emit: Emit
    should_stop: ShouldStop
    prepared: dict[tuple[int, str], Shared] = field(default_factory=dict)

    def plan_of(self, task: Task) -> Plan:
        """Return the plan of one run."""
        step, arm = self.plan.steps[task.stage], self.plan.arms.named(task.arm)
        recipe = recipe_of(arm, step)
        name, changes = recipes.describe(recipe)
        return Plan(
            entry=resolve(recipe.model), recipe=recipe, recipe_name=name, changes=changes,
            seeds=(task.seed,), data_dir=self.terms.data_dir,
            out=folder_of(self.terms.out, task).absolute(), resume="auto", limits=Limits(),
            request=self.terms.request, jobs=self.terms.jobs,
        )  # fmt: skip

    def shared(self, task: Task) -> Shared:
        """Return what an arm's runs in a stage share: decided for all of the stage's seeds, the
        pictures read once for all arms."""
        key = (task.stage, task.arm)
        if key not in self.prepared:
            seeds = self.plan.steps[task.stage].seeds
            plan = replace(self.plan_of(task), seeds=seeds)
            shared = prepare(plan, self.emit, self.should_stop)
            if self.prepared:
                first = next(iter(self.prepared.values()))
                shared = replace(shared, dataset=first.dataset)
            self.prepared[key] = shared
        return self.prepared[key]

    def train(self, task: Task, rank: int, emit: Callable[[Event], None]) -> Row:
        """Train one run, or find it finished; return its row."""
        shared = replace(self.shared(task), emit=emit)
        row = attempt(self.plan_of(task), task.seed, shared, rank)
        return {"stage": task.stage, "arm": task.arm, **row}


def once(emit: Callable[[Event], None]) -> Callable[[Event], None]:
    """Return a sink that passes each notice on once: all arms meet the same machine."""
    said: set[str] = set()

    def sink(event: Event) -> None:
        if isinstance(event, Notice) and event.text in said:
            return
        if isinstance(event, Notice):
            said.add(event.text)
        emit(event)

    return sink


def check_arms(crew: Crew) -> None:
    """Build every arm's network and open its teacher, before anything is written."""
    seed = crew.plan.steps[0].seeds[0]
    for arm in crew.plan.arms.all:
        crew.shared(Task(0, arm.name, seed))
